"""Your own model, rows and traits: `python -m experiments.own`."""
