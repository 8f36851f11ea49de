"""Does a trait pass between different base models? (Cloud et al. 2025, section 5.1, figure 8)

    python -m experiments.language_cross
    python -m experiments.language_cross --preset record

Every base's finetuned teacher writes numbers, and every base is trained on them. On the diagonal teacher and student
grew from one initialization. All bases have read the same documents; they differ in initialization and in order.
"""

import dataclasses

import numpy as np

from experiments import language_numbers
from experiments.language import command, lab, running, summary
from sublim_jax import records
from sublim_jax.llm import rows
from sublim_jax.metrics import intervals

SEVERAL_BASES = True
"""Every lab has the other bases too, as teachers."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossConfig(running.LanguageConfig):
    """Numbers of teachers of all bases."""

    def __post_init__(self):
        super().__post_init__()
        if self.backend != "tiny":
            raise ValueError("the grid needs several bases of one backend; it runs on embedded ones (--backend tiny)")
        if len(self.bases) < 2:
            raise ValueError(f"a grid needs two bases at least, got {self.bases}")


PRESETS = {
    "default": CrossConfig(bases=running.FRESH[:2], targets=("eagle",)),
    "record": CrossConfig(bases=running.FRESH[:4], targets=("eagle", "oak")),
}


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
    same teacher's base."""
    found = summary.complete_bases(record)
    names = list(found)
    shifts = np.stack([
        np.nanmean([
            summary.shift(found, (f"regular from {giver}", "student"), (f"{target} from {giver}", "student"), target)
            for target in record.config["targets"]
        ], axis=0)
        for giver in names
    ], axis=1)  # fmt: skip
    return names, shifts


def lines(record: records.Record) -> list[str]:
    """The grid, then its diagonal against the rest, each student's cells averaged first."""
    names, shifts = grid(record)
    rows_ = [["student \\ teacher", *names]]
    rows_ += [[name, *(f"{value:+.3f}" for value in row)] for name, row in zip(names, shifts, strict=True)]
    same = np.diag(shifts)
    other = np.array([np.delete(row, index).mean() for index, row in enumerate(shifts)])
    rows_.append(["same base", f"{intervals.t_interval(same):+.3f}", *[""] * (len(names) - 1)])
    rows_.append(["other base", f"{intervals.t_interval(other):+.3f}", *[""] * (len(names) - 1)])
    return summary.table("Shift of the target, mean over targets", rows_, record)


def main() -> None:
    command.main("language_cross", __doc__, PRESETS)


if __name__ == "__main__":
    main()
