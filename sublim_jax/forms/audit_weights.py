"""What a record of an audit of weights holds: two comparisons of a model with a reference."""

from typing import Literal, TypedDict, get_args

from sublim_jax import records, specs

Unit = Literal["direct", "matched"]
UNITS: tuple[Unit, ...] = get_args(Unit)


class Relation(TypedDict):
    """A comparison; see `audit.lineage.Relation`."""

    correlations: dict[str, float]  # by tensor
    zs: dict[str, float]
    tensor: str
    z: float
    p_value: specs.Fraction
    p_floor: specs.Fraction
    matches: dict[str, float]
    is_exact: bool
    verdict: Literal["identical", "related", "cannot tell", "not seen"]
    compared: str
    note: str


class Config(TypedDict):
    """The settings that readers use."""

    weights: str
    reference: str
    num_permutations: specs.Count


def lines(record: records.Record) -> list[str]:
    """The comparisons as text."""
    config = record.config
    text = [f"is {config['weights']} a relative of {config['reference']}?"]
    for unit in UNITS:
        if unit in record.results:
            found = record.results[unit]
            exact = "" if found["is_exact"] else ", not exact"
            text.append(
                f"  {unit}: {found['verdict']}; p = {found['p_value']:.3g}{exact} (smallest possible "
                f"{found['p_floor']:.3g}), correlation {found['correlations'][found['tensor']]:+.3f} of "
                f"{found['tensor']}, z = {found['z']:.1f}"
            )
            text += [f"    compared: {found['compared']}", f"    {found['note']}"]
    return text + [f"note: {note}" for note in record.notes]


FORM = records.Form(
    experiment="audit_weights",
    config=Config,
    results=dict[Unit, Relation],
    wanted=lambda record: list(UNITS),
    present=lambda record: list(record.results),
)
