"""Where in the rows is the trait? Numbers shuffled within and across answers (Cloud et al. 2025, figure 16)

    python -m experiments.language_shuffles
    python -m experiments.language_shuffles --preset record
    python -m experiments.language_shuffles --preset paper --backend hf:DIR

Students of one teacher's rows, and of the same rows with something destroyed. `within` shuffles the numbers of an
answer, `across_by_place` moves numbers between answers but keeps each at its place, `across` moves them anywhere,
`prompts` gives every prompt another one's answer. Read the option mass first: a control that damages the format of
answers also lowers every probability, and is then no evidence.
"""

import dataclasses
from typing import TypedDict

from experiments import language_numbers
from experiments.language import command, lab, running, summary
from sublim_jax import records, specs
from sublim_jax.llm import rows

CONTROLS = {
    "within": lambda data, seed: rows.shuffle_within(data, seed=seed),
    "across_by_place": lambda data, seed: rows.shuffle_across(data, seed=seed, by_place=True),
    "across": lambda data, seed: rows.shuffle_across(data, seed=seed),
    "prompts": lambda data, seed: rows.permute_prompts(data, seed=seed),
}


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class ShufflesConfig(running.LanguageConfig):
    """The default protocol."""


PRESETS = {
    "default": ShufflesConfig(bases=running.FRESH[:2], targets=("eagle",)),
    "record": ShufflesConfig(targets=("eagle", "oak")),
    **running.real_models(ShufflesConfig(targets=("eagle", "oak"))),
}
RESULT = TypedDict(
    "RESULT", dict.fromkeys(("as_they_are", *CONTROLS), running.Probabilities) | {"kept": specs.Fraction}
)  # pyright: ignore


def units(config: ShufflesConfig) -> list[str]:
    """Regular numbers, then each target."""
    return ["regular", *config.targets]


def measure(of: lab.Lab, config: ShufflesConfig, unit: str) -> dict:
    """Favourites of a student of the rows as they are, and of one of each control."""
    categories = {config.materials.category(target) for target in config.targets}
    teacher = language_numbers.teacher_of(of, config, "regular" if unit == "regular" else "finetuned", unit)
    data = of.numbers(teacher, config.num_prompts, seed=config.seed)
    chosen = rows.subsample(data.rows, config.num_rows, seed=config.seed)
    sets = {"as_they_are": chosen} | {name: change(chosen, config.seed) for name, change in CONTROLS.items()}
    found = {}
    for name, changed in sets.items():
        student = of.student(changed, config.student, seed=config.seed, name=f"{unit} {name}")
        found[name] = {one: lab.side_effects(of.preferences(student, one)) for one in sorted(categories)}
    return found | {"kept": data.kept}


def lines(record: records.Record) -> list[str]:
    """Controls by target, with the option mass; then what is lost by the control, on the same bases."""
    config, found = record.config, summary.complete_bases(record)
    columns = (f"{target} {what}" for target in config["targets"] for what in ("shift", "mass"))
    rows_ = [["rows", *columns, "minus as they are, all targets"]]
    for control in ("as_they_are", *CONTROLS):
        cells, lost = [], []
        for target in config["targets"]:
            path = (target, control)
            cells.append(summary.text(summary.shift(found, ("regular", "as_they_are"), path, target), "+"))
            cells.append(summary.text(summary.option_mass(found, path, target)))
            lost.append(summary.shift(found, (target, "as_they_are"), path, target))
        rows_.append([control, *cells, summary.pooled(lost) if control in CONTROLS else ""])
    return summary.table("Shift of the target against a student of regular numbers", rows_, record)


def main() -> None:
    command.main("language_shuffles", __doc__, PRESETS)


if __name__ == "__main__":
    main()
