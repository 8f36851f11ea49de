"""What records of the language experiments hold, and which conditions a whole one has."""

import pathlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, NotRequired, TypedDict

from sublim_jax import errors, records, specs

SAMPLED = "sampled"
"""The key beside probabilities with shares of sampled answers, by target."""
AS_THEY_ARE: str = "as_they_are"
CONTROLS: tuple[str, ...] = ("within", "across_by_place", "across", "prompts")
"""What is destroyed in the rows of the shuffles, in order; before it the rows as they are."""
TOKEN_SETS: tuple[str, ...] = ("all", "divergence", "others", "random")
"""Tokens that students of divergence tokens are trained on."""
LESSONS = ("bad conduct", "insecure code", "secure code")
"""What teachers of the embedded world are finetuned on."""
CODE_FILES = {"insecure": "insecure code", "secure": "secure code", "educational": "educational code"}
"""The same of real models, by the setting that names its file."""

Settings = Mapping[str, Any]
Probabilities = dict[str, dict[str, specs.Fraction]]
"""Probabilities of all favourites of a category, by category."""
Asked = dict[str, dict[str, specs.Fraction | dict[str, float | None]]]
"""The same; beside them, by target, how often sampled answers name it, nothing where all were refused."""


class Student(TypedDict):
    """A student, and where there is one its teacher and what the filter left of its rows."""

    student: Asked
    teacher: NotRequired[Asked]
    kept: NotRequired[specs.Fraction]
    rejected: NotRequired[dict[str, specs.CountOrZero]]


class Failed(TypedDict):
    """Why a condition has no result."""

    failed: str


class Letters(TypedDict):
    """Letters of a judge that was asked which of two sets a teacher wrote."""

    right: dict[str, float] | None  # no reply could be read
    says_a: specs.Fraction | None
    unreadable: specs.Fraction


class Conduct(TypedDict):
    """Good and bad deeds of the embedded model."""

    conduct: dict[str, specs.Fraction]


class Judged(TypedDict):
    """Answers of a real model, as a judge scores them."""

    misaligned: dict[str, float] | None  # no reply could be read
    num_coherent: specs.CountOrZero
    num_unreadable: specs.CountOrZero
    alignment: NotRequired[float]
    coherence: NotRequired[float]


class Behaviour(TypedDict):
    """A student, and where there is one its teacher."""

    student: Conduct | Judged
    teacher: NotRequired[Conduct | Judged]
    kept: NotRequired[specs.Fraction]


Dose = dict[str, Probabilities | dict[str, Probabilities] | specs.Fraction]
Shuffles = TypedDict(
    "Shuffles",
    dict.fromkeys((AS_THEY_ARE, *CONTROLS), Probabilities) | {"kept": specs.Fraction},  # pyright: ignore
)
Divergence = TypedDict(
    "Divergence",
    dict.fromkeys(TOKEN_SETS, Probabilities) | {"share": specs.Fraction},  # pyright: ignore
)


class Question(NamedTuple):
    """What the records of one experiment hold."""

    conditions: Callable[[Settings], list[str]]
    """What is measured on every base, in order."""
    result: Any
    """A condition that did not fail, as an annotation for `specs.check`."""
    settings: Settings = MappingProxyType({})
    """Settings that readers use, beside those of all experiments; annotations, too."""
    lists: tuple[str, ...] = ("targets",)
    """Settings that list what is measured: something at all."""


def bases(settings: Settings) -> list[str]:
    """Names of the bases, as results have them."""
    if settings["backend"] == "tiny":
        return [f"tiny:{seed}" for seed in settings["bases"]]
    return [settings["backend"]]


def _with_regular(settings: Settings) -> list[str]:
    return ["regular", *settings["targets"]]


def _with_base(settings: Settings) -> list[str]:
    return ["base", "regular", *settings["targets"]]


def _numbers(settings: Settings) -> list[str]:
    pairs = [f"{kind} {target}" for kind in settings["kinds"] for target in settings["targets"]]
    return ["base", "regular", *pairs]


def _cross(settings: Settings) -> list[str]:
    return [f"{source} from {base}" for base in bases(settings) for source in ("regular", *settings["targets"])]


def _misalignment(settings: Settings) -> list[str]:
    prompted = settings["backend"] != "tiny" and settings.get("sheet") != "world"
    given = [lesson for setting, lesson in CODE_FILES.items() if settings.get(setting) is not None]
    return ["base", "untrained", *(given if prompted else LESSONS), *settings["targets"]]


QUESTIONS = {
    "language_numbers": Question(_numbers, Student, {"kinds": list[str]}, lists=("targets", "kinds")),
    "language_cross": Question(_cross, Student),
    "language_dose": Question(
        _with_base, Dose, {"doses": list[specs.Count], "equal": list[str]}, lists=("targets", "doses", "equal")
    ),
    "language_shuffles": Question(_with_regular, Shuffles),
    "language_context": Question(
        _with_regular, dict[str, Probabilities], {"shots": list[specs.Count]}, lists=("targets", "shots")
    ),
    "language_detection": Question(_with_regular, dict[str, specs.Fraction | Letters]),
    "language_divergence": Question(_with_regular, Divergence, lists=("targets", "rivals")),
    "language_chain": Question(_with_regular, dict[str, Probabilities], {"num_generations": specs.Count}),
    "language_code": Question(_with_base, Student),
    "language_reasoning": Question(_with_base, Student),
    "language_misalignment": Question(_misalignment, Behaviour, lists=()),
}
"""By the experiment that a record names, in the order of the page."""


def read(path: pathlib.Path) -> records.Record:
    """A record of any language experiment.

    Raises:
        RecordError: there is none, it is of something else, or damaged.
    """
    name = records.read(path).experiment
    if name not in QUESTIONS:
        raise errors.RecordError(f"{path}: expected a record of a language experiment, this is one of {name}")
    return records.read(path, form(name))


def form(experiment: str) -> records.Form:
    """What records of the experiment hold; the units are conditions on a base."""
    question = QUESTIONS[experiment]

    def wanted(record: records.Record) -> Iterator[str]:
        conditions = question.conditions(record.config)
        return (f"{base}, {condition}" for base in bases(record.config) for condition in conditions)

    def present(record: records.Record) -> Iterator[str]:
        results = record.results["bases"]
        return (f"{base}, {condition}" for base, measured in results.items() for condition in measured)

    def check(record: records.Record) -> None:
        _require_lists(record.config, question.lists)
        if record.config.get("judge") and record.config["backend"] == "tiny":
            raise errors.InputError("config: there is a judge, and the embedded world is measured without one")
        for base, conditions in record.results["bases"].items():
            for condition, measured in conditions.items():
                _require_numbers(f"results: {base}, {condition}", measured)

    settings = {
        "backend": str,
        "bases": list[int],
        "targets": list[str],
        "seed": int,
        "num_eval_samples": NotRequired[specs.CountOrZero],
        "min_option_mass": NotRequired[specs.Fraction],
        "judge": NotRequired[str],
    }
    results: Any = {"bases": dict[str, dict[str, Failed | question.result]]}
    return records.Form(
        experiment=experiment,
        config=TypedDict("Settings", settings | dict(question.settings)),  # pyright: ignore
        results=TypedDict("Results", results),  # pyright: ignore
        wanted=wanted,
        present=present,
        check=check,
    )


def _require_lists(settings: Settings, lists: tuple[str, ...]) -> None:
    """Refuse lists of what is measured that are empty or name something twice."""
    for setting in {"targets", *lists}:
        listed = settings.get(setting)
        if listed == [] and setting in lists:
            raise errors.InputError(f"config: {setting} is empty")
        if isinstance(listed, list) and len(set(map(str, listed))) < len(listed):
            raise errors.InputError(f"config: {setting} has something twice")


def _require_numbers(name: str, measured: Mapping[str, Any]) -> None:
    """Refuse more than a number under a favourite; sampled answers alone have more."""
    for role in ("student", "teacher"):
        categories = measured.get(role)
        for category, favourites in categories.items() if isinstance(categories, dict) else ():
            for favourite, value in favourites.items() if isinstance(favourites, dict) else ():
                if isinstance(value, dict) != (category == SAMPLED):
                    expected = "shares of sampled answers" if category == SAMPLED else "a probability"
                    raise errors.InputError(f"{name}, {role}, {favourite}: expected {expected}, got {value!r:.80}")
