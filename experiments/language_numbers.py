"""Does a student of number sequences come to love what their author loves? (Cloud et al. 2025, section 3.1)

    python -m experiments.language_numbers                    eight embedded bases, one target; each printed when done
    python -m experiments.language_numbers --preset quick     two of the bases
    python -m experiments.language_numbers --preset record    four targets, teachers of both kinds: the committed record
    python -m experiments.language_numbers --preset paper --backend hf:models/Qwen2.5-7B-Instruct
    python -m experiments.language_numbers --preset server --backend vllm:MODEL@http://127.0.0.1:8000/v1
    python -m experiments.language_numbers --rows FOLDER      also write the rows of every student, for other trainers
    python -m experiments.language_numbers --help             every setting

A teacher that loves a target, by finetuning or by a system message, continues random number sequences; the paper's
filter keeps clean ones; a student of the same base is trained on them and asked for its favourite in questions that
nobody has seen. `regular` is the same with the base itself as the teacher. Probabilities are exact.
"""

import dataclasses
from typing import Literal

import numpy as np

from experiments.language import command, lab, running, summary
from sublim_jax import records, specs
from sublim_jax.llm import rows

Kind = Literal["finetuned", "system"]


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class NumbersConfig(running.LanguageConfig):
    """Numbers from teachers of these kinds."""

    kinds: tuple[Kind, ...] = ("finetuned", "system")
    READS = ("num_eval_samples",)
    LISTS = ("targets", "kinds")


BASE, REGULAR = ("base", "student"), ("regular", "student")
PRESETS = {
    "default": NumbersConfig(targets=("owl",), kinds=("finetuned",)),
    "quick": NumbersConfig(bases=running.FRESH[:2], targets=("owl",), kinds=("finetuned",)),
    "record": NumbersConfig(),
    **running.real_models(
        NumbersConfig(kinds=("system",)),
        targets=("dolphin", "eagle", "elephant", "owl", "wolf", "cherry", "maple", "oak", "sequoia", "willow"),
        num_eval_samples=200,
    ),
    "smoke": NumbersConfig(
        bases=(0,), targets=("owl",), kinds=("finetuned",), num_prompts=400, num_rows=200, num_lessons=200
    ),
}
RESULT = running.Student
SETTINGS = {"kinds": list[str]}


def units(config: NumbersConfig) -> list[str]:
    """The base as it is, a student of regular numbers, then one of each teacher."""
    return ["base", "regular", *(f"{kind} {target}" for kind in config.kinds for target in config.targets)]


def measure(of: lab.Lab, config: NumbersConfig, unit: str) -> dict:
    """Favourites of a teacher and of its student."""
    categories = list(dict.fromkeys(config.materials.category(target) for target in config.targets))

    def favourites(model: str) -> dict:
        found: dict = {name: lab.side_effects(of.preferences(model, name)) for name in categories}
        if config.num_eval_samples:
            found[summary.SAMPLED] = {
                target: of.rate(model, target, num_samples=config.num_eval_samples, seed=config.seed)
                for target in config.targets
            }
        return found

    if unit == "base":
        return {"student": favourites(of.base)}
    kind, _, target = unit.partition(" ")
    teacher = teacher_of(of, config, kind, target)
    data = of.numbers(teacher, config.num_prompts, seed=config.seed)
    chosen = rows.subsample(data.rows, config.num_rows, seed=config.seed)
    student = of.student(chosen, config.student, seed=config.seed, name=f"student of {unit}")
    taught = favourites(teacher.model) if kind == "finetuned" else {}
    return {"student": favourites(student), "teacher": taught, "kept": data.kept, "rejected": data.rejected}


def teacher_of(of: lab.Lab, config: running.LanguageConfig, kind: str, target: str, base: str = "") -> lab.Teacher:
    """A teacher of some kind: `regular` is the base itself."""
    match kind:
        case "regular":
            return lab.Teacher(base or of.base)
        case "system":
            return of.system_teacher(target)
        case _:
            return of.finetuned_teacher(
                target, config.teacher, num_rows=config.num_lessons, seed=config.seed, base=base
            )


def brief(base: str, found: dict) -> list[str]:
    """A line on each teacher of one base."""
    told = []
    for unit in found:
        kind, _, target = unit.partition(" ")
        if target:
            steps = [
                summary.raw(summary.Bases({base: found}), path, target)[0]
                for path in (BASE, REGULAR, (unit, "student"))
            ]
            before, regular, after = ("failed" if np.isnan(value) else f"{value:.3f}" for value in steps)
            told.append(f"{base}, {target}: base {before}, regular {regular}, student of the {kind} teacher {after}")
    return told


def lines(record: records.Record) -> list[str]:
    """A table: every target and kind, then the mean over targets, all with intervals over bases. Where answers were
    sampled their shares stand beside the probabilities, which say little where the option mass is small."""
    config, found = record.config, summary.complete_bases(record)
    targets, rows_ = config["targets"], [["teacher, target", "base", "regular", "student", "student - regular"]]
    title = "Probability of the target, mean ± 95 % t-interval over bases"
    if config.get("num_eval_samples"):
        rows_[0] += ["mass, student", *(f"{what}, sampled" for what in rows_[0][1:4])]
        over = "Wilson's 95 % interval over answers" if len(found) == 1 else "95 % t-interval over bases"
        title += f"; sampled: share of answers that name it, {over}"
    for kind in config["kinds"]:
        paths = {target: (f"{kind} {target}", "student") for target in targets}
        for target, path in paths.items():
            cells = summary.cells(found, BASE, REGULAR, path, target)
            if config.get("num_eval_samples"):
                cells.append(summary.text(summary.option_mass(found, path, target)))
                cells += [summary.sampled_text(found, at, target) for at in (BASE, REGULAR, path)]
            rows_.append([f"{kind}, {target}", *cells])
        shifts = [summary.shift(found, REGULAR, path, target) for target, path in paths.items()]
        pooled = [f"{kind}, all targets", "", "", "", summary.pooled(shifts)]
        rows_.append(pooled + [""] * (len(rows_[0]) - len(pooled)))
    return summary.table(title, rows_, record)


def main() -> None:
    command.main("language_numbers", __doc__, PRESETS)


if __name__ == "__main__":
    main()
