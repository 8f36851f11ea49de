"""Language experiments: `python -m experiments.language` lists the questions.

A question is a file with an `EXPERIMENT` (`experiment.py`): presets, conditions, and how a condition is measured on a
`Lab` (`lab.py`), which is one base model and what the paper does with it. `protocol.py` has what most questions do,
`runner.py` runs any of them, `questions.py` lists them. What records hold, their tables and their figures are in
`figures/language/`.
"""
