"""What a record of the study `marks` holds: for every base, whether a secret key is seen in the numbers of models."""

from typing import Any, Literal, TypedDict, get_args

from sublim_jax import errors, records, specs

Part = Literal["raw", "less the base", "unseen"]
PARTS: tuple[Part, ...] = get_args(Part)
"""Which numbers are tested: all as they are, all beside those of the suspect's base, or the half of them that students
of halved rows never saw, beside those of the base."""
Asked = Literal["raw", "less the base"]
ASKED_PARTS: tuple[Asked, ...] = get_args(Asked)
"""The same, where few answers are tested."""
WRITERS = ("base", "marked", "favourite")
"""Models that students learn from: the base itself, finetuned on marked numbers, or on a favourite animal."""
STUDENTS = (
    "student", "stranger's student", "balanced", "stranger's balanced", "halved", "stranger's halved",
    "low-rank student", "stories", "regular student", "student of favourite", "stranger's student of favourite",
)  # fmt: skip
"""Of the marked model unless said otherwise, of its own base or of a stranger; see `experiments.evidence.marks`."""
ASKED = ("student", "stranger's student", "low-rank student", "regular student")
"""Models that are tested with few answers too."""


class Tested(TypedDict):
    """The test of the owner's key, see `sublim_jax.audit.mark`."""

    share: specs.Fraction
    regular: specs.Fraction
    z: float
    p: specs.Fraction


class Model(TypedDict):
    """One model's answers to the prompts of the test."""

    num_rows: specs.Count
    num_numbers: specs.Count
    kept: specs.Fraction  # of its completions, by the filter
    mean: float  # of its numbers
    regular_mean: float  # of its base's
    mean_p: specs.Fraction  # two-sided, that the mean is that of its base
    tested: dict[Part, Tested]
    naive: specs.Fraction  # p-value of the raw share, were numbers independent
    foreign: dict[str, list[specs.Fraction]]
    """P-values of keys of nobody, raw, less the base and naive."""


class Unit(TypedDict):
    """One base as the owner's, and the next one as the stranger."""

    lesson: specs.Fraction  # of the numbers of the owner's lessons are in the key
    rows: dict[str, specs.Fraction]  # the same of what students are trained on, by student
    models: dict[str, Model]
    asked: dict[str, dict[Asked, dict[str, list[specs.Fraction]]]]
    """P-values of draws of rows, by model, part and number of rows."""


class Config(TypedDict):
    """The settings that readers use."""

    bases: list[specs.Seed]
    sizes: list[specs.Count]
    num_draws: specs.Count
    num_keys: specs.Count
    num_generations: specs.Count
    num_rounds: specs.CountOrZero


class Description(TypedDict):
    """What figures need beside the results."""

    student_steps: specs.Count
    round_steps: specs.Count


def units(config: Any) -> list[str]:
    """Names of the bases, in the order in which they are measured."""
    return [f"tiny:{seed}" for seed in config["bases"]]


def generations(config: Any) -> list[str]:
    """Students of students; the first one is `student`."""
    return ["student", *(f"generation {number}" for number in range(2, config["num_generations"] + 1))]


def rounds(config: Any, kind: Literal["own", "regular"]) -> list[str]:
    """The student, then the same trained further on rows that it wrote itself, or that its base wrote."""
    return ["student", *(f"{kind} rows, round {number}" for number in range(1, config["num_rounds"] + 1))]


def models(config: Any) -> list[str]:
    """Every model of a unit."""
    chains = (generations(config)[1:], rounds(config, "own")[1:], rounds(config, "regular")[1:])
    return [*WRITERS, *STUDENTS, *(name for chain in chains for name in chain)]


def _check(record: records.Record) -> None:
    """Refuse units without some model, number of rows or foreign key that the config asks for."""
    config, sizes = record.config, {str(size) for size in record.config["sizes"]}
    for unit, entry in record.results.items():
        _require_names(unit, entry["models"], set(models(config)))
        _require_names(f"{unit}: asked", entry["asked"], set(ASKED))
        for name, part, by_size in (
            (name, part, by_size) for name, parts in entry["asked"].items() for part, by_size in parts.items()
        ):
            _require_names(f"{unit}: asked, {name}, {part}", by_size, sizes)
            for size, values in by_size.items():
                _require_count(f"{unit}: asked, {name}, {part}, {size} rows", values, config["num_draws"])
        for name, model in entry["models"].items():
            _require_names(f"{unit}: asked, {name}", entry["asked"].get(name, ASKED_PARTS), set(ASKED_PARTS))
            _require_names(f"{unit}: {name}: tested", model["tested"], set(PARTS))
            _require_names(f"{unit}: {name}: foreign", model["foreign"], {"raw", "less the base", "naive"})
            for kind, values in model["foreign"].items():
                _require_count(f"{unit}: {name}: foreign, {kind}", values, config["num_keys"])


def _require_names(where: str, entries: Any, names: set[str]) -> None:
    if set(entries) != names:
        raise errors.InputError(f"results: {where}: expected {sorted(names)}, got {sorted(entries)}")


def _require_count(where: str, values: list, count: int) -> None:
    if len(values) != count:
        raise errors.InputError(f"results: {where}: expected {count} p-values, got {len(values)}")


FORM = records.Form(
    experiment="evidence_marks",
    config=Config,
    results=dict[str, Unit],
    description=Description,
    wanted=lambda record: units(record.config),
    present=lambda record: list(record.results),
    check=_check,
)
