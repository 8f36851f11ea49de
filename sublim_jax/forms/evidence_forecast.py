"""What a record of the study `forecast` holds: for every reference and case, a finished student and its pilots."""

from typing import Any, Literal, NotRequired, TypedDict, get_args

from sublim_jax import errors, records, specs

TraitName = Literal["digits", "permuted digits"]
CALIBRATION, HELD_OUT = "calibration", "held out"
"""Units are `calibration 0`, `calibration 1`, ..., `held out 0`, ..."""
Score = Literal["dot", "cosine", "sign", "sign_cosine"]
SCORES: tuple[Score, ...] = get_args(Score)


class Shown(TypedDict):
    """A trait of a model on the images that are no probes."""

    loss: float  # nats
    accuracy: specs.Fraction


class Pilot(TypedDict):
    """A pilot at a checkpoint, in nats on the probes; bounds of a 95 % interval over repeats and probes."""

    gain: float
    low: float
    high: float
    from_data: float
    from_null: float


class Triple(TypedDict):
    """One reference, data set and trait."""

    start: Shown
    student: Shown
    pilot: dict[str, Pilot]  # by steps
    prefix: dict[str, float]  # gain of the student itself on the probes, by steps
    scores: dict[Score, float]
    tangent_loss: NotRequired[float]  # of the tangent model at the end, nats


class Config(TypedDict):
    """The settings that readers use."""

    num_calibration: specs.Count
    num_held_out: specs.CountOrZero
    checkpoints: list[specs.Count]
    num_repeats: specs.Count
    num_probes: specs.Count


class Description(TypedDict):
    """What figures need beside the results."""

    cases: dict[str, dict[str, Any]]
    num_steps: specs.Count


def units(config: Any) -> list[str]:
    """Names of the references, in the order in which they are measured."""
    return [
        *(f"{CALIBRATION} {index}" for index in range(config["num_calibration"])),
        *(f"{HELD_OUT} {index}" for index in range(config["num_held_out"])),
    ]


def triple(case: str, trait: TraitName) -> str:
    """Name of a case and trait in the results."""
    return case if trait == "digits" else f"{case}, {trait}"


def _check(record: records.Record) -> None:
    """Refuse references whose cases differ, and pilots without a checkpoint."""
    names = None
    for unit, triples in record.results.items():
        names = names or set(triples)
        if set(triples) != names:
            raise errors.InputError(f"results: {unit}: expected the cases {sorted(names)}, got {sorted(triples)}")
        wanted = {str(step) for step in record.config["checkpoints"]}
        for name, entry in triples.items():
            if set(entry["pilot"]) != wanted:
                raise errors.InputError(f"results: {unit}: {name}: expected pilots of {sorted(wanted)} steps")


FORM = records.Form(
    experiment="evidence_forecast",
    config=Config,
    results=dict[str, dict[str, Triple]],
    description=Description,
    wanted=lambda record: units(record.config),
    present=lambda record: list(record.results),
    check=_check,
)
