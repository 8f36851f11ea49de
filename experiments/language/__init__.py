"""Language experiments: `python -m experiments.language` lists the questions.

    numbers, cross, dose, ...   one file per question, each with an `EXPERIMENT` at its end
    questions.py                all of these, in order
    experiment.py               what an `EXPERIMENT` is: its name, docstring, presets, conditions and `measure`
    config.py                   settings that all questions share, with their defaults
    presets.py                  finetuning configs, and presets for the embedded model and for real models
    protocol.py                 steps that most questions take: who teaches, which rows, what the student is asked
    lab.py                      `Lab`: one base model, and how it is finetuned, sampled and scored
    prompts.py                  prompts and questions, of the embedded world and of the paper
    seeds.py                    seeds derived from names
    options.py                  flags that change no number: limits on spending, exported rows
    runner.py                   runs an experiment: bases side by side, resuming, the record
    opening.py                  opens the lab of a base, with its backend, judge and stored answers
    dry_run.py, workload.py     count what an experiment asks for, for `--plan` and for progress bars
    page.py                     writes README.md from the records

What the records hold is in `sublim_jax/forms/language.py`; their tables and figures are in `figures/language/`.
"""
