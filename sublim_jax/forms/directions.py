"""What a record of the experiment `directions` holds: for every reference of every bed, what each edit leaves."""

from typing import Any, Literal, NotRequired, TypedDict, cast

from sublim_jax import errors, records, specs

Bed = Literal["digits", "flow", "language", "language-full"]
"""The last one is the third with students that are trained in all weights instead of low-rank factors."""
Digit = Literal["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
Kind = Literal["yardstick", "kept", "removed", "inside", "subtracted", "shifted"]
"""How a model was made: not edited; the reference plus the largest directions of a displacement; the student without
them; the reference plus the student's displacement inside other directions; the student less a dose of a displacement;
the reference, or the student, with a vector added to a layer."""


class Edit(TypedDict):
    """How one of the models that are measured was made."""

    kind: Kind
    source: str  # whose directions, displacement or vector
    amount: float  # directions for each matrix, dose of a displacement, or of a vector; 0 for yardsticks
    layer: NotRequired[specs.CountOrZero]  # to which a vector is added, the first being 0


class BedDescription(TypedDict):
    """What figures need beside the results of a bed."""

    label: str
    shares: list[str]  # measures of traits, of which edits leave a share; the first is the auditor's trait
    least: specs.Positive  # smallest change of them from the reference to the student of which shares are taken
    measures: dict[str, str]  # their labels
    ranks: list[specs.Count]  # numbers of directions
    edits: dict[str, Edit]


class Spectrum(TypedDict):
    """A displacement, matrix by matrix."""

    matrix: str
    values: list[float]  # singular values, largest first
    participation: float  # (sum of their squares)^2 / sum of their fourth powers
    energy: list[specs.Fraction]  # share of the squared length that so many directions have, by the bed's ranks


class Shift(TypedDict):
    """The mean change of a hidden layer from the reference to the student, on neutral inputs."""

    length: specs.NonNegative
    share: specs.Fraction  # of the mean squared change that it explains


class Unit(TypedDict):
    """One reference of a bed."""

    values: dict[str, dict[str, float]]  # by edit and measure
    spectra: dict[str, list[Spectrum]]  # of the student, the teacher and the auditor
    shifts: list[Shift]  # by layer
    cosines: dict[str, float]  # of the student's displacement with others
    num_rows: NotRequired[specs.Count]  # of a language model's student, if fewer passed than were asked for
    judge: NotRequired[dict[str, specs.Fraction]]  # of flow models: how often the judge is wrong, by kind of error


class Config(TypedDict):
    """The settings that readers use."""

    seed: specs.Seed
    num_references: specs.Count
    beds: list[Bed]
    ranks: list[specs.Count]
    doses: list[specs.Positive]
    bases: list[specs.Seed]


class Description(TypedDict):
    """What figures need beside the results."""

    beds: dict[Bed, BedDescription]


def units(config: Any) -> list[str]:
    """Names of the units: the first reference of every bed, then the second, and so on."""
    return [f"{bed} {index}" for index in range(config["num_references"]) for bed in config["beds"]]


def bed_of(unit: str) -> Bed:
    """The bed of a unit."""
    return cast(Bed, unit.partition(" ")[0])


def _check(record: records.Record) -> None:
    """Refuse a unit without an edit or a measure of its bed, and a displacement without singular values."""
    for unit, entry in record.results.items():
        bed = record.description["beds"][bed_of(unit)]
        if set(entry["values"]) != set(bed["edits"]):
            missing = sorted(set(bed["edits"]) ^ set(entry["values"]))
            raise errors.InputError(f"results: {unit}: expected the edits of {bed_of(unit)}; these differ: {missing}")
        for edit, values in entry["values"].items():
            if set(values) != set(bed["measures"]):
                raise errors.InputError(
                    f"results: {unit}: {edit}: expected the measures {sorted(bed['measures'])}, got {sorted(values)}"
                )
        for source, spectra in entry["spectra"].items():
            if not spectra or any(not spectrum["values"] for spectrum in spectra):
                raise errors.InputError(f"results: {unit}: {source}: a displacement without singular values")
            if any(len(spectrum["energy"]) != len(bed["ranks"]) for spectrum in spectra):
                raise errors.InputError(f"results: {unit}: {source}: expected an energy for each of {bed['ranks']}")


FORM = records.Form(
    experiment="directions",
    config=Config,
    results=dict[str, Unit],
    description=Description,
    wanted=lambda record: units(record.config),
    present=lambda record: list(record.results),
    check=_check,
)
