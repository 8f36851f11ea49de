"""What records of the theorem hold, part by part: what the figures read and what resuming relies on."""

from typing import Any, NotRequired, TypedDict

from experiments.theorem import config
from sublim_jax import errors, records, specs

Numbers = list[float | None]  # None: not finite, or there is none
Counts = list[specs.CountOrZero]


class _Measured(TypedDict):
    alignment: list[Numbers]
    remainder: list[Numbers]


class _Curve(TypedDict):
    activation: str
    loss: str
    coefficient: Numbers
    half_curvature: Numbers
    float32: _Measured
    float64: _Measured
    first_kink: NotRequired[Numbers]


class _Curves(TypedDict):
    epsilon: Numbers
    curves: list[_Curve]


class _RadiusRow(TypedDict):
    network: str
    loss: str
    certified: Numbers
    sampled: Numbers
    sign_change: Numbers


class _Radius(TypedDict):
    grid: Numbers
    rows: list[_RadiusRow]


class _OneLayer(TypedDict):
    first_kink: Numbers
    relative_error_before: list[Numbers]


class _Negative(TypedDict):
    negative: specs.CountOrZero


class _ZeroBias(TypedDict):
    num_updates: specs.Count
    rows: dict[str, _Negative]


class _Kinks(TypedDict):
    one_hidden_layer: _OneLayer
    zero_bias_black_input: _ZeroBias


class _Cosine(TypedDict):
    cosine: Numbers
    isotropic_cosine: Numbers
    random_cosine: Numbers
    range_fraction: Numbers
    rayleigh_bound: Numbers
    trunk_share: Numbers


class _Cosines(TypedDict):
    num_aux: list[specs.Count]
    by_aux: list[_Cosine]
    widths: list[specs.Count]
    by_width: list[_Cosine]


class _Starts(TypedDict):
    cosines: dict[str, dict[str, Numbers]]


class _LabelRow(TypedDict):
    network: int
    num_labels: specs.Count
    positive: specs.CountOrZero
    predicted: float
    nats: float


class _Labels(TypedDict):
    num_draws: specs.Count
    rows: list[_LabelRow]


class _NoiseRow(TypedDict):
    loss: str
    cosine: list[float]
    positive: list[Counts]
    differential_positive: list[Counts]
    predicted: list[Numbers]


class _InitNoise(TypedDict):
    epsilon: float
    sigma: Numbers
    num_draws: specs.Count
    rows: list[_NoiseRow]


class _Filters(TypedDict):
    kept_shares: Numbers
    random_filter: dict[str, Numbers]
    retention: dict[str, list[Numbers]]


class _Optimizer(TypedDict):
    descent_teacher: Numbers
    same_teacher: Numbers


class _Optimizers(TypedDict):
    num_problems: specs.Count
    cosines: dict[str, _Optimizer]
    random_updates: dict[str, dict[str, specs.CountOrZero]]


class _Run(TypedDict):
    smallest_cumulative: Numbers
    smallest_step: Numbers
    smallest_step_of_law: Numbers
    largest_error_of_law: Numbers
    examples: dict[str, list[Numbers]]


class _ManySteps(TypedDict):
    num_steps: specs.Count
    epsilon: float
    runs: dict[str, _Run]


_Member = dict[str, float | None]


class _MnistByAux(TypedDict):
    init_mse: list[_Member]
    init_kl: list[_Member | None]
    trained_mse: list[_Member | None]
    isotropic_cosine: Numbers


class _MnistCosines(TypedDict):
    num_aux: list[specs.Count]
    by_aux: list[_MnistByAux]
    widths: list[specs.Count]
    by_width: list[list[_Member]]


class _MnistNoiseRow(TypedDict):
    member: specs.CountOrZero
    teacher: str
    norm: float
    cosine_without_noise: float
    predicted: Numbers
    cosine: list[Numbers]
    differential_cosine: list[Numbers]


class _MnistNoise(TypedDict):
    sigma: Numbers
    weight_sd_of_layers: Numbers
    rows: list[_MnistNoiseRow]


class _Results(TypedDict, total=False):
    curve: _Curves
    radius: _Radius
    kinks: _Kinks
    cosines: _Cosines
    starts: _Starts
    labels: _Labels
    init_noise: _InitNoise
    filters: _Filters
    optimizers: _Optimizers
    many_steps: _ManySteps
    mnist_cosines: _MnistCosines
    mnist_noise: _MnistNoise


class _Config(TypedDict):
    seed: specs.Seed
    parts: list[config.Part]


def _is_even(value: Any) -> bool:
    """Whether all lists of lists of numbers inside have the lists of one length that make an array."""
    if isinstance(value, dict):
        return all(map(_is_even, value.values()))
    if not isinstance(value, list):
        return True
    lengths = {len(item) if isinstance(item, list) else -1 for item in value}
    return all(map(_is_even, value)) and len(lengths) < 2


def _check(record: records.Record) -> None:
    for part, found in record.results.items():
        if not _is_even(found):
            raise errors.InputError(f"results: {part}: a list is shorter than those beside it")
    for curve in record.results.get("curve", {}).get("curves", ()):
        measured = [values for name in ("float32", "float64") for values in curve[name].values()]
        if {len(row) for values in measured for row in values} != {len(record.results["curve"]["epsilon"])}:
            raise errors.InputError(
                f"results: curve: {curve['activation']}, {curve['loss']} has not a value for each epsilon"
            )


FORM = records.Form(
    experiment="theorem",
    config=_Config,
    results=_Results,
    check=_check,
    wanted=lambda record: record.config["parts"],
    present=lambda record: record.results,
)


class _Mutant(TypedDict):
    name: str
    what: str
    kills: dict[str, specs.Fraction]


class _Mutants(TypedDict):
    properties: list[str]
    mutants: list[_Mutant]
    missed_by_the_sign_alone: list[str]
    survivors: list[str]
    faults: NotRequired[list[str]]  # all that are to be planted


class _MutantsConfig(TypedDict):
    num_problems: specs.Count


def _names(record: records.Record) -> list[str]:
    return [row["name"] for row in record.results["mutants"]]


MUTANTS = records.Form(
    experiment="tests.theory.mutants.matrix",
    config=_MutantsConfig,
    results=_Mutants,
    wanted=lambda record: record.results.get("faults") or _names(record),
    present=_names,
)
