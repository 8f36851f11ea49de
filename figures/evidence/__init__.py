"""Tables and figures of the studies of audit tools, one file per study, each drawn from its record."""
