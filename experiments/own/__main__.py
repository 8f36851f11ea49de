"""Your own model, rows and traits: what does a model say, what do rows teach it, and how do you talk to the result?

    python -m experiments.own ask --model smollm2 --traits otter.toml
    python -m experiments.own rows --model smollm2 --traits otter.toml --out rows.jsonl
    python -m experiments.own finetune --model smollm2 --rows rows.jsonl --out runs/student
    python -m experiments.own transfer --model smollm2 --traits otter.toml --rows rows.jsonl
    python -m experiments.own COMMAND --help                every setting

`sublim_jax.llm.traits` says what is in a file of traits, and `sublim_jax.llm.jsonl` what is in one of rows. A model is
named as everywhere (`sublim_jax.llm.open`): smollm2, hf:DIR, hf:FILE.gguf, tiny:SEED, each with +DIR for a student.
"""

import sys
from collections.abc import Callable, Sequence

from experiments import cli
from experiments.own import asking, finetuning, teaching, transfer

COMMANDS: dict[str, tuple[str, Callable[[Sequence[str]], None]]] = {
    "ask": ("what a model answers to the questions of a file of traits", asking.main),
    "rows": ("number rows written by a teacher that has a trait", teaching.main),
    "finetune": ("a student trained on rows, kept in a folder", finetuning.main),
    "transfer": ("what students of rows learn of each trait, beside students of the base's own rows", transfer.main),
}


def main(args: Sequence[str]) -> None:
    """List the commands, or run one.

    Raises:
        InputError: the command is unknown, or its settings make no sense.
    """
    chosen = cli.choose("own", "command", {name: purpose for name, (purpose, _) in COMMANDS.items()}, args)
    if chosen is not None:
        name, flags = chosen
        COMMANDS[name][1](flags)


if __name__ == "__main__":
    cli.main(lambda: main(sys.argv[1:]))
