"""What a record of `experiments.language real` holds: a base, teachers and students of a real model, by seed."""

from collections.abc import Iterator
from typing import Any, NotRequired, TypedDict

from sublim_jax import errors, records, specs

Numbers = dict[str, float]
"""A number for each animal, target or teacher."""


class Answers(TypedDict, total=False):
    """Free answers: how many name each target, of how many, and a few of them; empty if none were sampled."""

    named: dict[str, specs.CountOrZero]
    num_answers: specs.Count
    examples: list[str]


class Measured(TypedDict):
    """The animals as the answer's next token: means over held-out questions."""

    log_odds: Numbers
    probability: dict[str, specs.Fraction]
    mass: specs.Fraction


class Base(Measured):
    """The model that everything starts from."""

    answers: Answers


class Teacher(Measured):
    """A teacher, and its KL divergence from the base on numbers, over the whole vocabulary and over number tokens."""

    kl: Numbers
    answers: Answers


class Start(Measured):
    """Another start, and its KL divergence from the base on numbers, perturbed and healed."""

    kl: Numbers


class Step(Measured):
    """A student after some steps, and its KL divergence from the teacher on the rows of that step."""

    kl: float


class Prediction(TypedDict):
    """First-order change of each target's log-odds."""

    sgd_slope: Numbers
    cosine: Numbers
    adam_step: Numbers


class Streams(TypedDict):
    """By layer: cosines of the student's and each teacher's mean displacement, and its norm over its teacher's."""

    cosines: dict[str, list[float]]
    norm_ratio: list[float]


class Student(TypedDict):
    """A student at the measured steps."""

    steps: dict[str, Step]
    prediction: Prediction
    streams: Streams
    answers: Answers


class Results(TypedDict):
    """All parts of a record. Seeds are text, since they are keys."""

    base: NotRequired[Base]
    teachers: dict[str, dict[str, Teacher]]
    starts: dict[str, Start]
    students: dict[str, dict[str, dict[str, Student]]]


class Config(TypedDict):
    """The settings that readers use."""

    backend: str
    targets: list[str]
    seeds: list[int]
    arms: list[str]
    measured_at: list[specs.Count]
    num_rows: specs.Count
    num_tokens: specs.Count


class Description(TypedDict):
    """What figures need beside the results."""

    animals: list[str]
    prefill: str
    num_questions: specs.Count
    num_number_tokens: specs.Count
    adam_steps: dict[str, specs.NonNegative]


def units(config: Any) -> list[str]:
    """Names of the units of a complete record, in the order in which they are made."""
    names = ["base"]
    for seed in config["seeds"]:
        names += [f"seed {seed}, teacher of {target}" for target in config["targets"]]
        names += [f"seed {seed}, other start"] if "other_start" in config["arms"] else []
        names += [f"seed {seed}, {arm}, student of {target}" for arm in config["arms"] for target in config["targets"]]
    return names


def _present(record: records.Record) -> Iterator[str]:
    results = record.results
    if "base" in results:
        yield "base"
    for seed, teachers in results["teachers"].items():
        yield from (f"seed {seed}, teacher of {target}" for target in teachers)
    yield from (f"seed {seed}, other start" for seed in results["starts"])
    for seed, arms in results["students"].items():
        for arm, students in arms.items():
            yield from (f"seed {seed}, {arm}, student of {target}" for target in students)


def _check(record: records.Record) -> None:
    config, animals = record.config, set(record.description["animals"])
    for name in ("targets", "seeds", "arms", "measured_at"):
        if not config[name] or len(set(config[name])) < len(config[name]):
            raise errors.InputError(f"config: {name} is empty or repeats an entry")
    steps = list(map(str, config["measured_at"]))
    if not set(config["targets"]) <= animals or not set(steps) <= record.description["adam_steps"].keys():
        raise errors.InputError("description: an animal or a step of the config is missing")
    measured: list[tuple[str, Any]] = [("base", record.results["base"])] if "base" in record.results else []
    for seed, teachers in record.results["teachers"].items():
        measured += [(f"seed {seed}, teacher of {target}", teacher) for target, teacher in teachers.items()]
    measured += [(f"seed {seed}, other start", start) for seed, start in record.results["starts"].items()]
    for seed, arms in record.results["students"].items():
        for arm, students in arms.items():
            for target, student in students.items():
                name = f"seed {seed}, {arm}, student of {target}"
                if list(student["steps"]) != steps:
                    raise errors.InputError(f"results: {name}: expected steps {steps}, got {list(student['steps'])}")
                measured += [(name, step) for step in student["steps"].values()]
                by_target = (*student["prediction"].values(), student["streams"]["cosines"])
                if any(set(values) != set(config["targets"]) for values in by_target):
                    raise errors.InputError(f"results: {name}: a prediction or cosine of a target is missing")
    for name, entry in measured:
        if set(entry["log_odds"]) != animals or set(entry["probability"]) != animals:
            raise errors.InputError(f"results: {name}: expected the animals of the description")


FORM = records.Form(
    experiment="language_real",
    config=Config,
    results=Results,
    description=Description,
    wanted=lambda record: units(record.config),
    present=_present,
    check=_check,
)
