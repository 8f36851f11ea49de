"""What a record of `experiments.language real` holds: a base, teachers and students of a real model, by seed."""

from collections.abc import Iterable, Iterator, Mapping
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


def _check(record: records.Record) -> None:
    """Refuse lists and keys that do not belong together."""
    config, description, results = record.config, record.description, record.results
    for name in ("targets", "seeds", "arms", "measured_at"):
        if not config[name] or len(set(config[name])) < len(config[name]):
            raise errors.InputError(f"config: {name} is empty or repeats an entry")
    if len(config["targets"]) < 2:
        raise errors.InputError("config: targets has one entry, and own minus other needs two")
    if unknown := sorted(set(config["targets"]) - set(description["animals"])):
        raise errors.InputError(f"description: animals: {unknown[0]}, a target, is missing")
    steps = list(map(str, config["measured_at"]))
    _require_keys("description: adam_steps", description["adam_steps"], steps)
    if results["students"] and "base" not in results:
        raise errors.InputError("results: there are students and no base")
    num_layers: set[int] = set()
    for name, entry in _entries(record):
        for measured in entry.get("steps", {"": entry}).values():
            for quantity in ("log_odds", "probability"):
                _require_keys(f"results: {name}: {quantity}", measured[quantity], description["animals"])
        _require_keys(
            f"results: {name}: named", entry.get("answers", {}).get("named", {}), config["targets"], or_none=True
        )
        _require_counts(name, entry.get("answers", {}))
        if "steps" in entry:
            if list(entry["steps"]) != steps:
                raise errors.InputError(f"results: {name}: expected steps {steps}, got {list(entry['steps'])}")
            for quantity, predicted in entry["prediction"].items():
                _require_keys(f"results: {name}: {quantity}", predicted, config["targets"])
            cosines = entry["streams"]["cosines"]
            _require_keys(f"results: {name}: cosines", cosines, config["targets"])
            num_layers |= {len(values) for values in (*cosines.values(), entry["streams"]["norm_ratio"])}
    if len(num_layers) > 1 or 0 in num_layers:
        raise errors.InputError(f"results: expected one number of layers, got {sorted(num_layers)}")


def _entries(record: records.Record) -> Iterator[tuple[str, Any]]:
    """All parts of the results with their names."""
    results = record.results
    if "base" in results:
        yield "base", results["base"]
    for seed, teachers in results["teachers"].items():
        yield from ((f"seed {seed}, teacher of {target}", teacher) for target, teacher in teachers.items())
    yield from ((f"seed {seed}, other start", start) for seed, start in results["starts"].items())
    for seed, arms in results["students"].items():
        for arm, students in arms.items():
            if arm == "other_start" and seed not in results["starts"]:
                raise errors.InputError(f"results: seed {seed} has students of another start, and the start is missing")
            yield from ((f"seed {seed}, {arm}, student of {target}", student) for target, student in students.items())


def _require_keys(name: str, mapping: Iterable[str], keys: Iterable[str], *, or_none: bool = False) -> None:
    if set(mapping) != set(keys) and not (or_none and not set(mapping)):
        raise errors.InputError(f"{name}: expected {sorted(keys)}, got {sorted(mapping)}")


def _require_counts(name: str, answers: Mapping[str, Any]) -> None:
    counts = answers.get("named", {}).values()
    if answers and (not counts or max(counts) > answers.get("num_answers", 0)):
        raise errors.InputError(f"results: {name}: expected counts of num_answers free answers, got {answers}")


FORM = records.Form(
    experiment="language_real",
    config=Config,
    results=Results,
    description=Description,
    wanted=lambda record: units(record.config),
    present=lambda record: [name for name, _ in _entries(record)],
    check=_check,
)
