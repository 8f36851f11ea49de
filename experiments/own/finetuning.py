"""Train a student on rows and keep it in a folder, from which it can be asked, served and trained on.

python -m experiments.own finetune --model smollm2 --rows rows.jsonl --out runs/student
python -m experiments.own ask --model smollm2+runs/student --traits otter.toml
python -m sublim_jax serve --model smollm2+runs/student
"""

import dataclasses
import pathlib
from collections.abc import Sequence

from experiments import progress
from experiments.own import opened
from experiments.own.opened import Options
from sublim_jax import errors, specs
from sublim_jax.llm import datasets, jsonl
from sublim_jax.llm.backend import Chat, FinetuneConfig


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneOptions(Options):
    """Which model is trained on what."""

    model: str
    """smollm2, hf:DIR, hf:FILE.gguf or tiny:SEED."""
    rows: pathlib.Path
    """Rows as JSON lines: chats under messages, or prompts and completions."""
    out: pathlib.Path
    """Folder for the student. A call with the same settings resumes an earlier one that was stopped."""
    num_rows: specs.Count | None = None
    """Rows drawn from the file; by default all."""
    num_epochs: specs.Count | None = None
    batch_size: specs.Count | None = None
    learning_rate: specs.Positive | None = None
    """Of Adam. Its default and those of the two above depend on the kind of model."""
    rank: specs.Count | None = None
    """Rank of the low-rank factors; by default 8."""
    seed: specs.Seed = 0

    @property
    def student(self) -> FinetuneConfig:
        """The settings of training."""
        given = {name: getattr(self, name) for name in ("num_epochs", "batch_size", "learning_rate", "rank")}
        return dataclasses.replace(
            opened.finetuning(self.model), seed=self.seed, **{k: v for k, v in given.items() if v is not None}
        )


def read_rows(path: pathlib.Path, num_rows: int | None, *, seed: int, say=print) -> list[Chat]:
    """The rows of a file, or as many of them as asked for.

    Raises:
        TextDataError: the file is malformed, or has fewer rows.
    """
    rows = jsonl.read(path, announce=say)
    if num_rows is None:
        return rows
    if num_rows > len(rows):
        raise errors.TextDataError(
            f"{path}: expected at least {num_rows:,} rows, as --num-rows says, found {len(rows):,}"
        )
    return datasets.subsample(rows, num_rows, seed=seed)


def main(flags: Sequence[str]) -> None:
    """Train and say how to open the student.

    Raises:
        InputError: the settings make no sense.
        TextDataError: the rows are malformed or too few.
        OutputError: something else is in the folder.
        LanguageError: the model cannot be opened or trained.
    """
    options = opened.parse(FinetuneOptions, "finetune", __doc__, flags)
    opened.require_local(options.model)
    rows = read_rows(options.rows, options.num_rows, seed=options.seed)
    for sentence in datasets.notices(rows):
        print(f"{options.rows}: {sentence}")
    config = options.student
    print(f"training {options.model} on {len(rows):,} rows, {config.num_epochs} epochs, rank {config.rank}", flush=True)
    with progress.Display("finetune") as display:
        display.doing("opening the model")
        model = opened.local(options.model, announce=display.say)
        opened.show_progress(model.backend, display, "training")
        model.backend.finetune(model.name, rows, config, options.out)
    base = options.model.partition("+")[0]
    print(f"student: {options.out}; open it as {base}+{options.out}")
