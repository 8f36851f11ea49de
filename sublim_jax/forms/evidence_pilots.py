"""What a record of the study `pilots` holds: for every base, data set and trait, finished students and their pilots."""

from typing import Any, Literal, TypedDict, get_args

from sublim_jax import errors, records, specs

Part = Literal["calibration", "held out"]
"""Bases on which thresholds are fitted, and bases on which they are read."""
REGULAR = "regular"
"""Rows that the base itself wrote, apart from the null rows."""
Kind = Literal["finetuned", "short", "under a system message", "half regular", "of another base", "in another order"]
"""How rows come to carry a trait, or not to: see `experiments.evidence.pilots`."""
KINDS: tuple[Kind, ...] = get_args(Kind)


class Pilot(TypedDict):
    """Pilots of a length: gain over the null in log-odds, nats, with a 95 % interval over repeats and probes."""

    gain: float
    low: float
    high: float


class Pair(TypedDict):
    """One data set and trait."""

    gains: list[float]
    """Of each finished student over the null's with the same random numbers: log-odds in nats, mean over questions that
    are no probes."""
    probability: specs.Fraction  # of the trait's answers by the students, mean
    null_probability: specs.Fraction
    pilot: dict[str, Pilot]  # by steps


class Unit(TypedDict):
    """One base."""

    probability: dict[str, specs.Fraction]  # of each trait by the base
    teachers: dict[str, specs.Fraction]  # probability of its target by each author of rows that is no base as it is
    num_rows: dict[str, specs.Count]  # of each data set
    pairs: dict[str, dict[str, Pair]]  # by data set, then trait


class Config(TypedDict):
    """The settings that readers use."""

    calibration: list[specs.Seed]
    held_out: list[specs.Seed]
    targets: list[str]
    steps: list[specs.Count]
    num_repeats: specs.Count
    num_students: specs.Count


class Description(TypedDict):
    """What figures need beside the results."""

    data_sets: list[str]
    num_steps: specs.Count  # of a finished student


def units(config: Any) -> list[str]:
    """Names of the bases, in the order in which they are measured."""
    return [f"tiny:{seed}" for seed in (*config["calibration"], *config["held_out"])]


def data_sets(targets: Any, kinds: Any) -> list[str]:
    """Names of the data sets: regular rows, a finetuned teacher's for each target, other kinds for the first."""
    others = [f"{targets[0]}, {kind}" for kind in kinds if kind != "finetuned"]
    return [REGULAR, *(f"{target}, finetuned" for target in targets if "finetuned" in kinds), *others]


def _check(record: records.Record) -> None:
    """Refuse bases whose data sets, traits, students or pilots are not those of the config."""
    config = record.config
    names, targets = set(record.description["data_sets"]), set(config["targets"])
    for unit, entry in record.results.items():
        if set(entry["pairs"]) != names:
            raise errors.InputError(
                f"results: {unit}: expected the data sets {sorted(names)}, got {sorted(entry['pairs'])}"
            )
        for name, pairs in entry["pairs"].items():
            if set(pairs) != targets:
                raise errors.InputError(f"results: {unit}: {name}: expected the traits {sorted(targets)}")
            for trait, pair in pairs.items():
                if len(pair["gains"]) != config["num_students"] or set(pair["pilot"]) != set(map(str, config["steps"])):
                    raise errors.InputError(
                        f"results: {unit}: {name}: {trait}: expected {config['num_students']} student(s) and pilots of "
                        f"{config['steps']} steps"
                    )


FORM = records.Form(
    experiment="evidence_pilots",
    config=Config,
    results=dict[str, Unit],
    description=Description,
    wanted=lambda record: units(record.config),
    present=lambda record: list(record.results),
    check=_check,
)
