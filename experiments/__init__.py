"""One file or folder per question: a config, what makes its record, and a few lines that know about flags."""
