"""An audit of a data set or of weights, by one command."""
