"""Tables and figures of the studies of audit tools (`experiments.evidence`)."""
