"""What records of the language experiments hold, and which conditions a complete one has."""

import pathlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, NotRequired, TypedDict

from sublim_jax import errors, records, specs

SAMPLED = "sampled"
"""Key of the rates of sampled answers, next to the categories of probabilities."""
MARGINS = "margins"
"""Key of the margins of targets, likewise."""
AS_THEY_ARE: str = "as_they_are"
CONTROLS: tuple[str, ...] = ("within", "across_by_place", "across", "prompts")
"""Variants of the rows in `shuffles`: unchanged, then each control, in order."""
TOKEN_SETS: tuple[str, ...] = ("all", "divergence", "others", "random")
"""Sets of tokens that students in `divergence` are trained on."""
LESSONS = ("bad conduct", "insecure code", "secure code")
"""Kinds of rows that teachers of the embedded world are finetuned on in `misalignment`."""
CODE_FILES = {"insecure": "insecure code", "secure": "secure code", "educational": "educational code"}
"""The same for real models, by the setting with the file."""

Settings = Mapping[str, Any]
Probabilities = dict[str, dict[str, specs.Fraction]]
"""Probability of each favourite, by category."""
Favourites = dict[str, dict[str, specs.Fraction | dict[str, float | None]]]
"""Probabilities; under `SAMPLED` the rate of sampled answers by target, None if the server refused all; and under
`MARGINS` the target's mean logit less that of the other answers."""


class Student(TypedDict):
    """Favourites of a student, and those of its teacher and the counts of the filter, if it has a teacher."""

    student: Favourites
    more_students: NotRequired[list[Favourites]]  # of other seeds, on rows of the same teacher
    teacher: NotRequired[Favourites]
    kept: NotRequired[specs.Fraction]
    rejected: NotRequired[dict[str, specs.CountOrZero]]


class Failed(TypedDict):
    """The reason why a condition has no result."""

    failed: str


class Letters(TypedDict):
    """Answers of a judge that was asked which of two sets a teacher wrote."""

    right: dict[str, float] | None  # None: no reply is readable
    says_a: specs.Fraction | None
    unreadable: specs.Fraction


class Conduct(TypedDict):
    """Probabilities of good and of bad deeds of the embedded model."""

    conduct: dict[str, specs.Fraction]


class Judged(TypedDict):
    """A judge's scores of a real model's answers."""

    misaligned: dict[str, float] | None  # None: no reply is readable
    num_coherent: specs.CountOrZero
    num_unreadable: specs.CountOrZero
    alignment: NotRequired[float]
    coherence: NotRequired[float]


class Behaviour(TypedDict):
    """Conduct of a student, and of its teacher if it has one."""

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


class Greedy(TypedDict):
    """Favourites of a student of rows that were drawn at one temperature."""

    student: Probabilities
    kept: specs.Fraction
    different: specs.Fraction


Arms = dict[str, Probabilities | specs.NonNegative]
"""Probabilities of the students of a condition by what they were trained on, and numbers about the same."""


class Question(NamedTuple):
    """What the records of one experiment hold."""

    conditions: Callable[[Settings], list[str]]
    """Returns the conditions that are measured on every base, in order."""
    result: Any
    """Type of a condition's result, for `specs.check`."""
    settings: Settings = MappingProxyType({})
    """Types of the settings that readers use, in addition to those of all experiments."""
    lists: tuple[str, ...] = ("targets",)
    """Settings that must be non-empty lists."""


def bases(settings: Settings) -> list[str]:
    """Names of the bases in the results."""
    if settings["backend"] == "tiny":
        return [f"tiny:{seed}" for seed in settings["bases"]]
    return [settings["backend"]]


def _with_regular(settings: Settings) -> list[str]:
    return ["regular", *settings["targets"]]


def _with_base(settings: Settings) -> list[str]:
    return ["base", "regular", *settings["targets"]]


def _greedy(settings: Settings) -> list[str]:
    return [f"{author} at {value:g}" for author in _with_regular(settings) for value in settings["temperatures"]]


def _training(settings: Settings) -> list[str]:
    return [f"{author}, {drawing}" for author in _with_regular(settings) for drawing in settings["drawings"]]


def _noise(settings: Settings) -> list[str]:
    return ["start", *_with_regular(settings)]


def _numbers(settings: Settings) -> list[str]:
    pairs = [f"{kind} {target}" for kind in settings["kinds"] for target in settings["targets"]]
    return ["base", "regular", *pairs]


def _cross(settings: Settings) -> list[str]:
    return [f"{source} from {base}" for base in bases(settings) for source in ("regular", *settings["targets"])]


def _misalignment(settings: Settings) -> list[str]:
    prompted = settings["backend"] != "tiny" and settings.get("sheet") != "world"
    lessons = [lesson for setting, lesson in CODE_FILES.items() if settings.get(setting) is not None]
    return ["base", "untrained", *(lessons if prompted else LESSONS), *settings["targets"]]


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
    "language_repeats": Question(
        _with_regular, Arms, {"repeats": list[specs.Count], "num_rows": specs.Count}, lists=("targets", "repeats")
    ),
    "language_greedy": Question(
        _greedy, Greedy, {"temperatures": list[specs.NonNegative]}, lists=("targets", "temperatures")
    ),
    "language_training": Question(
        _training,
        Arms,
        {"drawings": list[str], "low_rank_rates": list[specs.Positive], "full_rates": list[specs.Positive]},
        lists=("targets", "drawings", "low_rank_rates", "full_rates"),
    ),
    "language_noise": Question(_noise, Arms, {"levels": list[specs.NonNegative]}, lists=("targets", "levels")),
    "language_labels": Question(
        _with_regular,
        Arms,
        {"labels": list[str], "learning_rates": list[specs.Positive]},
        lists=("targets", "learning_rates", "labels", "rivals"),
    ),
    "language_misalignment": Question(_misalignment, Behaviour, lists=()),
}
"""What the records hold, by the name of the experiment, in the order of the page."""


def read(path: pathlib.Path) -> records.Record:
    """Read the record of any language experiment.

    Raises:
        RecordError: there is no record, it is damaged, or it belongs to another kind of experiment.
    """
    name = records.read(path).experiment
    if name not in QUESTIONS:
        raise errors.RecordError(f"{path}: expected a record of a language experiment, this is one of {name}")
    return records.read(path, form(name))


def form(experiment: str) -> records.Form:
    """The form of an experiment's records; their parts are the conditions on each base."""
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
            raise errors.InputError("config: there is a judge, but the embedded world needs none")
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
        "num_students": NotRequired[specs.Count],
        "prefill": NotRequired[str],
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
    """Refuse lists in the config that are empty or repeat an entry."""
    for setting in {"targets", *lists}:
        listed = settings.get(setting)
        if listed == [] and setting in lists:
            raise errors.InputError(f"config: {setting} is empty")
        if isinstance(listed, list) and len(set(map(str, listed))) < len(listed):
            raise errors.InputError(f"config: {setting} repeats an entry")


def _require_numbers(name: str, measured: Mapping[str, Any]) -> None:
    """Refuse favourites that are no numbers; only rates of sampled answers have more than a number."""
    roles: list[tuple[str, Any]] = [(role, measured.get(role)) for role in ("student", "teacher")]
    for role, categories in (*roles, *(("student", student) for student in measured.get("more_students", ()))):
        for category, favourites in categories.items() if isinstance(categories, dict) else ():
            for favourite, value in favourites.items() if isinstance(favourites, dict) else ():
                if isinstance(value, dict) != (category == SAMPLED):
                    expected = "rates of sampled answers" if category == SAMPLED else "a probability"
                    raise errors.InputError(f"{name}, {role}, {favourite}: expected {expected}, got {value!r:.80}")
