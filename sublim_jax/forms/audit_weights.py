"""What a record of an audit of weights holds: two comparisons of a model with a reference."""

from typing import Literal, NotRequired, TypedDict, get_args

from sublim_jax import records, specs

Unit = Literal["direct", "matched"]
UNITS: tuple[Unit, ...] = get_args(Unit)


class Relation(TypedDict):
    """A comparison; see `audit.lineage.Relation`."""

    correlations: dict[str, float]  # by tensor
    zs: dict[str, float]
    tensor: str
    z: float
    order_z: NotRequired[float]  # records of earlier versions lack it
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


FORM = records.Form(
    experiment="audit_weights",
    config=Config,
    results=dict[Unit, Relation],
    wanted=lambda record: list(UNITS),
    present=lambda record: list(record.results),
)
