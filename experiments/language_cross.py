"""Does a trait pass between different base models? (Cloud et al. 2025, section 5.1, figure 8)

    python -m experiments.language_cross
    python -m experiments.language_cross --preset record

Every base's finetuned teacher writes numbers, and every base is trained on them. On the diagonal teacher and student
started from one initialization. All bases have read the same documents; they differ in initialization and in order.
"""

import dataclasses

import numpy as np

from experiments import language_numbers
from experiments.language import command, lab, running, summary
from sublim_jax import errors, records, specs
from sublim_jax.llm import rows

SEVERAL_BASES = True
"""Every lab has the other bases too, as teachers."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossConfig(running.LanguageConfig):
    """Numbers of teachers of all bases."""

    def __post_init__(self):
        if self.backend != "tiny":
            raise errors.InputError(
                "the grid needs several bases of one backend; it runs on embedded ones (--backend tiny)"
            )
        super().__post_init__()
        if len(self.bases) < 2:
            raise errors.InputError(f"a grid needs two bases at least, got {self.bases}")


PRESETS = {
    "default": CrossConfig(bases=running.FRESH[:2], targets=("eagle",)),
    "record": CrossConfig(bases=running.FRESH[:4], targets=("eagle", "oak")),
}
RESULT = running.Student


def units(config: CrossConfig) -> list[str]:
    """For every base as the teacher: its regular numbers, and each target's."""
    return [f"{what} from {base}" for base in config.names for what in ("regular", *config.targets)]


def measure(of: lab.Lab, config: CrossConfig, unit: str) -> dict:
    """Favourites of this lab's base after another one's, or its own, numbers."""
    target, _, giver = unit.partition(" from ")
    kind = "regular" if target == "regular" else "finetuned"
    teacher = language_numbers.teacher_of(of, config, kind, target, giver)
    data = of.numbers(teacher, config.num_prompts, seed=config.seed)
    chosen = rows.subsample(data.rows, config.num_rows, seed=config.seed)
    student = of.student(chosen, config.student, seed=config.seed, name=f"student of {unit}")
    categories = {config.materials.category(name) for name in config.targets}
    return {"student": {one: lab.side_effects(of.preferences(student, one)) for one in sorted(categories)}}


def grid(record: records.Record) -> tuple[list[str], np.ndarray]:
    """Bases, and the mean shift over targets: rows are students, columns teachers. Against regular numbers of the
    same teacher's base; not a number where no target gave one."""
    found = summary.complete_bases(record)
    names = list(found)

    def mean_shift(giver: str) -> np.ndarray:
        regular = (f"regular from {giver}", "student")
        of_targets = [
            summary.shift(found, regular, (f"{target} from {giver}", "student"), target)
            for target in record.config["targets"]
        ]
        return summary.clustered(of_targets)

    shifts = np.stack([mean_shift(giver) for giver in names], axis=1)
    return names, shifts


def lines(record: records.Record) -> list[str]:
    """The grid, then its diagonal against the rest, each student's cells averaged first."""
    names, shifts = grid(record)
    rows_ = [["student \\ teacher", *names]]
    rows_ += [
        [name, *(f"{value:+.3f}" if np.isfinite(value) else "failed" for value in row)]
        for name, row in zip(names, shifts, strict=True)
    ]
    same, others = np.diag(shifts), np.ma.masked_invalid(np.where(np.eye(len(names)), np.nan, shifts))
    for what, values in (("same base", same), ("other base", others.mean(axis=1).filled(np.nan))):
        rows_.append([what, summary.text(values, "+"), *[""] * (len(names) - 1)])
    return summary.table("Shift of the target, mean over targets", rows_, record)


def main() -> None:
    command.main("language_cross", __doc__, PRESETS)


if __name__ == "__main__":
    main()
