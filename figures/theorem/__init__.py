"""The figures of the theorem: one file per figure, each drawn from committed records."""
