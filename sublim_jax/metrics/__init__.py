"""Numbers about a run: accuracy, alignment, intervals."""
