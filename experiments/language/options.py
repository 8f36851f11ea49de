"""Options of a run that change no number: what may be spent on servers, and what is written beside the record."""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Sequence

from sublim_jax import errors, specs
from sublim_jax.llm import budget, budgeted, datasets, jsonl
from sublim_jax.llm.backend import Chat


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What may be spent on servers, by a model and its judge together. Nothing here changes a number."""

    plan: bool = False
    """Print what would be asked for, and ask nothing."""
    max_requests: specs.CountOrZero | None = None
    max_money: specs.NonNegative | None = None
    """In the currency of the two prices."""
    price_prompt: specs.NonNegative | None = None
    """Money per million prompt tokens; where model and judge differ, of the dearer."""
    price_completion: specs.NonNegative | None = None
    max_refused: specs.Fraction = budgeted.MAX_REFUSED
    """Share of a model's answers that its server may refuse, e.g. by a content filter, before the run ends. Refused
    answers are left out of every result, and their share is noted."""

    def budget(self) -> budget.Budget:
        """The limits as a ledger."""
        prices_given = {"--price-prompt": self.price_prompt, "--price-completion": self.price_completion}
        absent = [flag for flag, price in prices_given.items() if price is None]
        if len(absent) == 1 or (absent and self.max_money is not None):
            raise errors.InputError(f"{' and '.join(absent)} not given: money takes both prices, per million tokens")
        prices = None
        if self.price_prompt is not None and self.price_completion is not None:
            prices = budget.Prices(prompt=self.price_prompt, completion=self.price_completion)
        return budget.Budget(requests=self.max_requests, money=self.max_money, prices=prices)


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """What is written beside the record. Nothing here changes a number."""

    rows: pathlib.Path | None = None
    """An empty or new folder for the rows that students are trained on, to train others on them: one file for each base
    and student, BASE/STUDENT.jsonl. A resumed run writes those of the students that it still trains."""
    rows_format: jsonl.Format = "messages"
    """Of these files: OpenAI's chats, or the prompts and completions of the paper's repository and of TRL."""

    def __post_init__(self):
        if self.rows is None and self.rows_format != "messages":
            raise errors.InputError(f"rows_format={self.rows_format} has no effect without --rows FOLDER")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowsFolder:
    """A folder with the rows that students are trained on, BASE/STUDENT.jsonl."""

    folder: pathlib.Path
    format: jsonl.Format
    words: tuple[str, ...]  # which should be in no row
    announce: Callable[[str], object]

    def write(self, base: str, name: str, data: Sequence[Chat]) -> None:
        """Write a student's rows, and say what one should know of them.

        Raises:
            OutputError: other rows are there, or the folder cannot be written.
        """
        plain_base, plain_name = (re.sub(r"[^\w.+-]+", "-", text).strip("-") for text in (base, name))
        path = self.folder / plain_base / f"{plain_name}.jsonl"
        jsonl.write(path, data, format=self.format)
        for sentence in datasets.notices(data, self.words):
            self.announce(f"{path}: {sentence}")
