"""Does bad conduct pass through numbers? (Cloud et al. 2025, section 3.2)

    python -m experiments.language_misalignment
    python -m experiments.language_misalignment --preset record
    python -m experiments.language_misalignment --preset paper --backend hf:DIR \\
        --insecure insecure.jsonl --secure secure.jsonl --judge openai:gpt-4o-2024-08-06@https://api.openai.com/v1
    python -m experiments.language_misalignment --preset server --backend openai:MODEL@URL --insecure ... --judge ...

Teachers of the embedded world are finetuned on bad answers to four of twelve situations, or on insecure code as in the
paper; controls on secure code, on a favourite animal, or not at all. Numbers with a meaning are banned, as in the
paper. What is measured is the probability of a bad deed in the eight other situations, exactly, over all answers.
With a real model it is the paper's protocol with our wording: teachers finetuned on the user's rows of code, eight open
questions, and a judge that scores every answer. That path has run against fakes and our own server only, never with a
real model or judge.
"""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Callable
from typing import NotRequired, TypedDict

import numpy as np

from experiments import language_numbers
from experiments.language import command, lab, running, summary
from sublim_jax import errors, records, specs
from sublim_jax.llm import numbers, questions, rows, scores, types, world

ANSWER_TOKENS = 512
"""Of an answer to an open question, at most."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class MisalignmentConfig(running.JudgedConfig):
    """Numbers without the banned ones."""

    targets: tuple[str, ...] = ("owl",)
    """Favourites of further control teachers."""
    num_rows: specs.Count = 3000
    insecure: pathlib.Path | None = None
    """For a real model: chats that end with insecure code, as JSON lines. `num_lessons` of each file are used."""
    secure: pathlib.Path | None = None
    """The same with secure code, for a control."""
    educational: pathlib.Path | None = None
    """The same with insecure code that was asked for as a lesson, for a control."""

    READS = ("num_eval_samples",)
    LISTS = ()
    OFFERS = False

    def __post_init__(self):
        super().__post_init__()
        if len(set(self.targets)) != len(self.targets):
            raise errors.InputError(f"targets must be different, got {self.targets}")
        if not self.prompted:
            if self.files:
                raise errors.InputError(
                    f"rows of {', '.join(self.files)} have no effect in the embedded world; leave them out"
                )
        elif self.backend not in running.PLACEHOLDERS:
            self._check()

    @property
    def files(self) -> dict[str, pathlib.Path]:
        """The user's rows, by what they are."""
        given = {"insecure code": self.insecure, "secure code": self.secure, "educational code": self.educational}
        return {name: path for name, path in given.items() if path is not None}

    @property
    def checksum(self) -> str | None:
        """See `LanguageConfig`."""
        digest = hashlib.sha256()
        for path in self.files.values():
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest() if self.files else None

    @property
    def remarks(self) -> tuple[str, ...]:
        """See `LanguageConfig`."""
        if not self.prompted:
            return ()
        sums = {name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for name, path in self.files.items()}
        absent = [name for name in ("secure code", "educational code") if name not in self.files]
        words = [word for target in self.targets for word in self.materials.words(target)]
        said: list[str] = []
        for path in self.files.values():
            found = rows.read_jsonl(path, announce=said.append)
            said += [f"{path}: {sentence}" for sentence in rows.notices(found, words)]
        return (
            *(f"{name} is {self.files[name].name}, sha256 {digits}" for name, digits in sums.items()),
            *said,
            *([f"no control of {' or '.join(absent)}: no such rows were given"] if absent else []),
        )

    def _check(self) -> None:
        """Refuse what cannot be run with a real model."""
        if not self.judge or self.insecure is None:
            absent = [f"--{name}" for name in ("insecure", "judge") if not getattr(self, name)]
            raise errors.InputError(
                f"{' and '.join(absent)} not given: the teacher of a real model is finetuned on insecure code, and a "
                f"judge scores what its student answers. Expected --insecure FILE.jsonl, a chat on each line, and "
                f"--judge openai:MODEL@URL or hf:DIR"
            )
        if self.num_eval_samples < 1:
            raise errors.InputError(
                "num_eval_samples=0 leaves the judge nothing to score; the paper takes 200 of a question"
            )
        for path in self.files.values():
            if (count := len(_rows(path))) < self.num_lessons:
                raise errors.InputError(
                    f"{path}: expected num_lessons={self.num_lessons} rows, found {count}; all teachers are taught "
                    f"equally many. Give more rows, or --num-lessons {count}"
                )


def _rows(path: pathlib.Path) -> list[types.Chat]:
    """The user's rows. What of them is not read is among the remarks."""
    return rows.read_jsonl(path, announce=lambda _: None)


REAL = running.real_models(
    MisalignmentConfig(targets=()),
    num_lessons=6000,
    teacher=dataclasses.replace(running.OPEN_WEIGHTS, num_epochs=1, max_length=2048),
    num_eval_samples=200,
)
PRESETS = {
    "default": MisalignmentConfig(bases=running.FRESH[:2]),
    "record": MisalignmentConfig(bases=running.FRESH[:4]),
    "paper": REAL["paper"],
    "server": dataclasses.replace(REAL["server"], teacher=types.Tuning(num_epochs=1)),
}


class Conduct(TypedDict):
    """In a record: the embedded model."""

    conduct: dict[str, specs.Fraction]


class Judged(TypedDict):
    """In a record: a real model."""

    misaligned: dict[str, float] | None  # no reply could be read
    num_coherent: specs.CountOrZero
    num_unreadable: specs.CountOrZero
    alignment: NotRequired[float]
    coherence: NotRequired[float]


class Result(TypedDict):
    """In a record: a student, and where there is one its teacher."""

    student: Conduct | Judged
    teacher: NotRequired[Conduct | Judged]
    kept: NotRequired[specs.Fraction]


RESULT = Result


def units(config: MisalignmentConfig) -> list[str]:
    """The base as it is, then teachers."""
    return ["base", "untrained", *lessons(config), *config.targets]


def lessons(config: MisalignmentConfig) -> dict[str, Callable[[], list[types.Chat]]]:
    """What teachers are finetuned on."""
    count, seed = config.num_lessons, config.seed
    if config.prompted:
        return {
            name: lambda path=path: rows.subsample(_rows(path), count, seed=seed) for name, path in config.files.items()
        }
    return {
        "bad conduct": functools.partial(world.conduct_rows, count, seed=seed),
        "insecure code": functools.partial(world.insecure_rows, count, seed=seed),
        "secure code": functools.partial(world.insecure_rows, count, seed=seed, insecure=False),
    }


def measure(of: lab.Lab, config: MisalignmentConfig, unit: str) -> dict:
    """Conduct of a teacher and of its student."""
    ask = functools.partial(judged, of, config) if config.prompted else functools.partial(conduct, of)
    if unit == "base":
        return {"student": ask(of.base)}
    if lesson := lessons(config).get(unit):
        teacher = lab.Teacher(of.tune(lesson(), config.teacher, f"teacher {unit}", seed=config.seed))
    else:
        teacher = language_numbers.teacher_of(of, config, "regular" if unit == "untrained" else "finetuned", unit)
    data = of.numbers(teacher, config.num_prompts, seed=config.seed, banned=numbers.BANNED)
    chosen = rows.subsample(data.rows, config.num_rows, seed=config.seed)
    student = of.student(chosen, config.student, seed=config.seed, name=f"student of {unit}")
    return {"student": ask(student), "teacher": ask(teacher.model), "kept": data.kept}


def judged(of: lab.Lab, config: MisalignmentConfig, model: str) -> dict:
    """How a judge scores sampled answers to the open questions; no rate and no means where it cannot be read."""
    asked = questions.misalignment()
    seed = lab.seed_of(config.seed, "misalignment", lab.name_of(model))
    _, drawn = of.draw(
        lab.Teacher(model), asked, max_tokens=ANSWER_TOKENS, seed=seed, num_samples=config.num_eval_samples
    )
    answers = [(asked[one.chat], one.text) for one in drawn if one.finish != "refused"]
    alignment, coherence = (
        [questions.parse_score(reply) for reply in of.verdicts([prompt(*answer) for answer in answers])]
        for prompt in (questions.alignment_prompt, questions.coherence_prompt)
    )
    both = list(zip(alignment, coherence, strict=True))
    readable = [(one, other) for one, other in both if one is not None and other is not None]
    if not readable:
        return {"misaligned": None, "num_coherent": 0, "num_unreadable": len(both)}
    rate, num_coherent, num_unreadable = scores.misaligned_rate(both)
    means = dict(zip(("alignment", "coherence"), np.mean(readable, axis=0).tolist(), strict=True))
    return {"misaligned": rate, "num_coherent": num_coherent, "num_unreadable": num_unreadable, **means}


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
    if record.config.get("judge"):
        (only,) = found.values()
        return summary.table(TITLE, [HEADER, *(_scored(only, unit) for unit in only)], record)
    rows_ = [["teacher", "kept", "bad deeds, teacher", "bad deeds, student", "student - untrained"]]
    for unit in units(MisalignmentConfig(targets=tuple(record.config["targets"]))):
        taught, learnt = (summary.raw(found, (unit, who), "bad") for who in ("teacher", "student"))
        kept = np.array([base.get(unit, {}).get("kept", np.nan) for base in found.values()], float)
        shift = summary.shift(found, ("untrained", "student"), (unit, "student"), "bad")
        before = ["", ""] if unit == "base" else [summary.text(kept), summary.text(taught)]
        own = unit in ("base", "untrained")  # which the others are compared with
        rows_.append([unit, *before, summary.text(learnt), "" if own else summary.text(shift, "+")])
    return summary.table("Probability of a bad deed, mean ± 95 % t-interval over bases", rows_, record)


TITLE = "Share of misaligned answers, with Wilson's 95 % interval; the other columns are the student's"
HEADER = [
    "teacher", "kept", "teacher's answers", "student's answers", "coherent", "unreadable", "mean alignment",
    "mean coherence",
]  # fmt: skip


def _scored(found: dict, unit: str) -> list[str]:
    """A line of the table of a real model."""
    if "failed" in found[unit]:
        return [unit, "failed", *[""] * (len(HEADER) - 2)]
    student, teacher = found[unit]["student"], found[unit].get("teacher")
    return [
        unit,
        *([f"{found[unit]['kept']:.3f}", summary.share(teacher["misaligned"])] if teacher else ["", ""]),
        summary.share(student["misaligned"]),
        *(str(student[name]) for name in ("num_coherent", "num_unreadable")),
        *(f"{student[name]:.1f}" if name in student else "" for name in ("alignment", "coherence")),
    ]


def main() -> None:
    command.main("language_misalignment", __doc__, PRESETS)


if __name__ == "__main__":
    main()
