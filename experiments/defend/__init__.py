"""Take a trait out of a student, and see whether it is gone or only hidden: `python -m experiments.defend`."""
