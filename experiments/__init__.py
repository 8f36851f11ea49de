"""One file per question. Each is a config, a `run(config) -> Record`, and a few lines that know about flags."""
