"""Flags of a language experiment; those that change no number are limits on spending and the export of rows."""

import argparse
import dataclasses
import pathlib
from collections.abc import Sequence

from experiments import cli
from experiments.language.config import PLACEHOLDERS, LanguageConfig
from experiments.language.experiment import Experiment
from sublim_jax import errors, specs
from sublim_jax.llm import budget, budgeted, jsonl
from sublim_jax.llm import open as open_llm


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What a model and its judge together may spend on servers. Nothing here changes a number."""

    plan: bool = False
    """Print what the experiment would ask for, and ask for nothing."""
    max_requests: specs.CountOrZero | None = None
    max_money: specs.NonNegative | None = None
    """In the currency of the two prices."""
    price_prompt: specs.NonNegative | None = None
    """Money per million prompt tokens; if model and judge differ, the higher price."""
    price_completion: specs.NonNegative | None = None
    max_refused: specs.Fraction = budgeted.MAX_REFUSED
    """Fraction of a model's answers that its server may refuse, e.g. by a content filter, before the run ends. Refused
    answers enter no result, and their fraction is noted."""

    def budget(self) -> budget.Budget:
        """A budget with these limits.

        Raises:
            InputError: a price is missing.
        """
        prices_given = {"--price-prompt": self.price_prompt, "--price-completion": self.price_completion}
        absent = [flag for flag, price in prices_given.items() if price is None]
        if len(absent) == 1 or (absent and self.max_money is not None):
            raise errors.InputError(
                f"{' and '.join(absent)} not given: a limit on money needs both prices, per million tokens"
            )
        prices = None
        if self.price_prompt is not None and self.price_completion is not None:
            prices = budget.Prices(prompt=self.price_prompt, completion=self.price_completion)
        return budget.Budget(requests=self.max_requests, money=self.max_money, prices=prices)


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """Files that a run writes in addition to the record. Nothing here changes a number."""

    rows: pathlib.Path | None = None
    """An empty or new folder for the rows that students are trained on, to train others on them: one file for each base
    and student, BASE/STUDENT.jsonl. A resumed run writes the rows of the students that it still trains."""
    rows_format: jsonl.Format = "messages"
    """Format of these files: OpenAI's chats, or prompts and completions as in the paper's repository and in TRL."""

    def __post_init__(self):
        if self.rows is None and self.rows_format != "messages":
            raise errors.InputError(f"rows_format={self.rows_format} has no effect without --rows FOLDER")


def parse(experiment: Experiment, flags: Sequence[str]) -> tuple[LanguageConfig, cli.RunOptions, Limits, Export]:
    """The settings that a command line selects: config, options of any run, limits and export.

    Raises:
        InputError: the settings make no sense together.
    """
    config, options, limits, export = cli.parse(
        f"language {experiment.name}",
        experiment.doc,
        experiment.presets,
        [*_implied(experiment, flags), *flags],
        more=(Limits(), Export()),
    )
    if config.backend in PLACEHOLDERS and not limits.plan:
        raise errors.InputError("give a model with --backend, e.g. hf:models/Qwen2.5-7B-Instruct or vllm:MODEL@URL")
    limits.budget()  # refuses wrong limits before anything is opened
    if config.backend == "tiny" and dataclasses.replace(limits, plan=False) != Limits():
        raise errors.InputError(
            "limits on requests, money and refusals have no effect on the embedded model; leave them out"
        )
    return config, options, limits, export


def _implied(experiment: Experiment, flags: Sequence[str]) -> list[str]:
    """The preset for open weights where none is chosen and the model is smollm2, which is no embedded one."""
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--preset", nargs="?", const="")
    chooser.add_argument("--backend", nargs="?", default="")
    chosen = chooser.parse_known_args(flags)[0]
    is_smollm2 = (chosen.backend or "").partition("+")[0] == open_llm.SMOLLM2
    is_implied = is_smollm2 and chosen.preset is None and "paper" in experiment.presets
    return ["--preset", "paper"] if is_implied else []
