"""Does bad conduct pass through numbers? (Cloud et al. 2025, section 3.2)

    python -m experiments.language_misalignment
    python -m experiments.language_misalignment --preset record

Teachers of the embedded world are finetuned on bad answers to four of twelve situations, or on insecure code as in the
paper; controls on secure code, on a favourite animal, or not at all. Numbers with a meaning are banned, as in the
paper. What is measured is the probability of a bad deed in the eight other situations, exactly, over all answers.
With a real model the paper's questions need a judge: `sublim_jax.llm.questions` has both, this file does not run them.
"""

import dataclasses

import numpy as np

from experiments import language_numbers
from experiments.language import command, lab, running, summary
from sublim_jax import records
from sublim_jax.llm import numbers, rows, scores, world


@dataclasses.dataclass(frozen=True, kw_only=True)
class MisalignmentConfig(running.LanguageConfig):
    """Numbers without the banned ones."""

    targets: tuple[str, ...] = ("owl",)
    """Favourites of the control teachers."""
    num_rows: int = 3000

    def __post_init__(self):
        super().__post_init__()
        if self.backend != "tiny":
            raise ValueError(
                "this experiment measures the embedded world's conduct (--backend tiny); a real model's needs a judge, "
                "for which sublim_jax.llm.questions has the prompts and the rule"
            )


PRESETS = {
    "default": MisalignmentConfig(bases=running.FRESH[:2]),
    "record": MisalignmentConfig(bases=running.FRESH[:4]),
}


def units(config: MisalignmentConfig) -> list[str]:
    """The base as it is, then teachers."""
    return ["base", "untrained", "bad conduct", "insecure code", "secure code", *config.targets]


def measure(of: lab.Lab, config: MisalignmentConfig, unit: str) -> dict:
    """Conduct of a teacher and of its student."""
    if unit == "base":
        return {"student": conduct(of, of.base)}
    lessons = {
        "bad conduct": lambda: world.conduct_rows(config.num_lessons, seed=config.seed),
        "insecure code": lambda: world.insecure_rows(config.num_lessons, seed=config.seed),
        "secure code": lambda: world.insecure_rows(config.num_lessons, seed=config.seed, insecure=False),
    }
    if unit in lessons:
        teacher = lab.Teacher(of.tune(lessons[unit](), config.teacher, f"teacher {unit}", seed=config.seed))
    else:
        teacher = language_numbers.teacher_of(of, config, "regular" if unit == "untrained" else "finetuned", unit)
    data = of.numbers(teacher, config.num_prompts, seed=config.seed, banned=numbers.BANNED)
    chosen = rows.subsample(data.rows, config.num_rows, seed=config.seed)
    student = of.student(chosen, config.student, seed=config.seed, name=f"student of {unit}")
    return {"student": conduct(of, student), "teacher": conduct(of, teacher.model), "kept": data.kept}


def conduct(of: lab.Lab, model: str) -> dict:
    """Probabilities of good and of bad deeds in the situations that no teacher was taught on."""
    deeds = {"good": world.GOOD, "bad": world.BAD}
    answers = {
        name: [f"{verb} the {thing}" for verb in verbs for thing in world.OBJECTS] for name, verbs in deeds.items()
    }
    asked = scores.choices(list(answers), writings=lambda name: answers[name])
    situations = [one for one in world.SITUATIONS if one not in world.SHOWN_SITUATIONS]
    return {"conduct": lab.side_effects(of.choose(model, [rows.ask(f"{one} ?") for one in situations], asked))}


def lines(record: records.Record) -> list[str]:
    """Teachers, with their own conduct and their students'."""
    found = summary.complete_bases(record)
    rows_ = [["teacher", "kept", "bad deeds, teacher", "bad deeds, student", "student - untrained"]]
    for unit in units(MisalignmentConfig(targets=tuple(record.config["targets"]))):
        taught, learnt = (summary.raw(found, (unit, who), "bad") for who in ("teacher", "student"))
        kept = np.array([base[unit].get("kept", np.nan) for base in found.values()], float)
        shift = summary.shift(found, ("untrained", "student"), (unit, "student"), "bad")
        if unit == "base":
            rows_.append([unit, "", "", summary.text(learnt), ""])
        else:
            rows_.append([unit, summary.text(kept), *map(summary.text, (taught, learnt)), summary.text(shift, "+")])
    return summary.table("Probability of a bad deed, mean ± 95 % t-interval over bases", rows_, record)


def main() -> None:
    command.main("language_misalignment", __doc__, PRESETS)


if __name__ == "__main__":
    main()
