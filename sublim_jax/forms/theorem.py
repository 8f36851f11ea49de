"""The form of the theorem's records, part by part, for the figures and for resuming."""

import dataclasses
from typing import Annotated, Any, Literal, NotRequired, TypedDict, get_args, get_origin, get_type_hints, is_typeddict

import numpy as np

from sublim_jax import errors, records, specs

Part = Literal[
    "curve",
    "radius",
    "kinks",
    "cosines",
    "starts",
    "labels",
    "init_noise",
    "filters",
    "optimizers",
    "many_steps",
    "mnist_cosines",
    "mnist_noise",
]
"""Groups of quantities that are measured independently."""


class Description(TypedDict):
    """One line about each part of the results."""

    parts: dict[str, str]


@specs.checked
@dataclasses.dataclass(frozen=True)
class Shape:
    """The axes of a list and of the lists in it, e.g. "network epsilon".

    An axis has the same length wherever its name occurs in an object and in the objects inside it, and is never empty.
    A number as a name is a length.
    """

    axes: str


Number = float | None  # None: not finite or undefined
Numbers = Annotated[list[Number], Shape("network")]
Known = Annotated[list[float], Shape("network")]
Grid = list[specs.Positive]
Loss = Literal["mse", "kl"]
PerEpsilon = Annotated[list[list[Number]], Shape("network epsilon")]


class _Measured(TypedDict):
    alignment: PerEpsilon
    remainder: PerEpsilon


class _Curve(TypedDict):
    activation: Literal["tanh", "relu"]
    loss: Loss
    coefficient: Numbers
    half_curvature: Numbers
    float32: _Measured
    float64: _Measured
    first_kink: NotRequired[Numbers]


class _Curves(TypedDict):
    epsilon: Annotated[Grid, Shape("epsilon")]
    curves: Annotated[list[_Curve], Shape("3")]


class _RadiusRow(TypedDict):
    network: str
    loss: Loss
    certified: Numbers
    sampled: Numbers
    sign_change: Numbers


class _Radius(TypedDict):
    grid: Annotated[Grid, Shape("3")]
    rows: Annotated[list[_RadiusRow], Shape("row")]


class _OneLayer(TypedDict):
    first_kink: Numbers
    relative_error_before: Annotated[list[list[Number]], Shape("network place")]


class _Negative(TypedDict):
    negative: specs.CountOrZero


class _Activations(TypedDict):
    relu: _Negative
    gelu: _Negative


class _ZeroBias(TypedDict):
    num_updates: specs.Count
    rows: _Activations


class _Kinks(TypedDict):
    one_hidden_layer: _OneLayer
    zero_bias_black_input: _ZeroBias


class _Cosine(TypedDict):
    cosine: Known
    isotropic_cosine: Known
    random_cosine: Known
    range_fraction: Known
    rayleigh_bound: Known
    trunk_share: Known


class _Cosines(TypedDict):
    num_aux: Annotated[list[specs.Count], Shape("aux")]
    by_aux: Annotated[list[_Cosine], Shape("aux")]
    widths: Annotated[list[specs.Count], Shape("width")]
    by_width: Annotated[list[_Cosine], Shape("width")]


class _Starting(TypedDict):
    shared: Known
    independent: Known
    differential: Known
    shared_1: Known
    shared_2: Known
    shared_3: Known
    shared_12: Known
    shared_13: Known
    shared_23: Known
    antithetic: NotRequired[Known]


class _ByActivation(TypedDict):
    tanh: _Starting
    relu: _Starting


class _Starts(TypedDict):
    cosines: _ByActivation


class _LabelRow(TypedDict):
    network: specs.CountOrZero
    num_labels: specs.Count
    positive: specs.CountOrZero
    predicted: float
    nats: specs.NonNegative


class _Labels(TypedDict):
    num_draws: specs.Count
    rows: Annotated[list[_LabelRow], Shape("row")]


PerSigma = Annotated[list[list[specs.CountOrZero]], Shape("network sigma")]


class _NoiseRow(TypedDict):
    loss: Loss
    cosine: Annotated[list[float], Shape("network")]
    positive: PerSigma
    differential_positive: PerSigma
    predicted: Annotated[list[list[Number]], Shape("network sigma")]


class _InitNoise(TypedDict):
    epsilon: specs.Positive
    sigma: Annotated[Grid, Shape("sigma")]
    num_draws: specs.Count
    rows: Annotated[list[_NoiseRow], Shape("2")]


class _RandomFilter(TypedDict):
    absolute: Known
    differential: Known
    teacher_reading_differential: Known
    unfiltered_variance: Known
    variance: Known


class _Retention(TypedDict):
    random: Annotated[list[list[Number]], Shape("network share")]
    oracle: Annotated[list[list[Number]], Shape("network share")]


class _Filters(TypedDict):
    kept_shares: Annotated[list[specs.Fraction], Shape("share")]
    random_filter: _RandomFilter
    retention: _Retention


class _Optimizer(TypedDict):
    descent_teacher: Numbers
    same_teacher: Numbers


class _RandomUpdates(TypedDict):
    metric_both: specs.CountOrZero
    metric_student: specs.CountOrZero
    sign_both: specs.CountOrZero
    sign_student: specs.CountOrZero


class _Optimizers(TypedDict):
    num_problems: specs.Count
    cosines: dict[str, _Optimizer]
    random_updates: dict[str, _RandomUpdates]


PerStep = Annotated[list[list[Number]], Shape("example step")]


class _Examples(TypedDict):
    measured_cumulative: PerStep
    predicted_cumulative: PerStep
    measured_step: PerStep


class _Run(TypedDict):
    smallest_cumulative: Known
    smallest_step: Numbers
    smallest_step_of_law: Numbers
    largest_error_of_law: Known
    examples: _Examples


class _Runs(TypedDict):
    minibatches: _Run
    full_batch: _Run
    full_batch_overshooting: _Run


class _ManySteps(TypedDict):
    num_steps: specs.Count
    epsilon: specs.Positive
    runs: _Runs


class _Step(TypedDict):
    cosine: float


class _FirstStep(_Step):
    rayleigh_bound: float


class _OfWidth(_FirstStep):
    isotropic_cosine: float


PerAux = Annotated[list[_Step | None], Shape("aux")]


class _MnistByAux(TypedDict):
    init_mse: Annotated[list[_FirstStep], Shape("aux")]
    init_kl: PerAux
    trained_mse: PerAux
    isotropic_cosine: Annotated[list[float], Shape("aux")]


class _MnistCosines(TypedDict):
    num_aux: Annotated[list[specs.Count], Shape("aux")]
    by_aux: Annotated[list[_MnistByAux], Shape("member")]
    widths: Annotated[list[specs.Count], Shape("width")]
    by_width: Annotated[list[list[_OfWidth]], Shape("member width")]


PerDraw = Annotated[list[list[Number]], Shape("sigma draw")]


class _MnistNoiseRow(TypedDict):
    member: specs.CountOrZero
    teacher: Literal["one_step", "trained"]
    norm: specs.Positive
    cosine_without_noise: float
    predicted: Annotated[list[Number], Shape("sigma")]
    cosine: PerDraw
    differential_cosine: PerDraw


class _MnistNoise(TypedDict):
    sigma: Annotated[Grid, Shape("sigma")]
    weight_sd_of_layers: Annotated[list[specs.Positive], Shape("layer")]
    rows: Annotated[list[_MnistNoiseRow], Shape("row")]


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
    parts: list[Part]


CLOSED = (_Activations, _ByActivation, _Starting, _RandomFilter, _Retention, _Runs)
"""Objects in which unknown entries are refused, because the figures iterate over all entries."""


def _check(record: records.Record) -> None:
    _require_shapes(record.results, _Results, "results", {})
    _require_counts(record.results)
    many = record.results.get("many_steps")
    if many and any(len(run["examples"]["measured_step"][0]) != many["num_steps"] for run in many["runs"].values()):
        raise errors.InputError(f"results['many_steps']: expected {many['num_steps']} steps in the examples")
    noise = record.results.get("mnist_noise")
    if noise and all(row["teacher"] != "trained" for row in noise["rows"]):
        raise errors.InputError("results['mnist_noise']: there is no trained teacher")
    if noise and len({len(cosines) for row in noise["rows"] for cosines in row["cosine"]}) > 1:
        raise errors.InputError("results['mnist_noise']['rows']: expected equal numbers of draws in all rows")


def _require_counts(results: dict[str, Any]) -> None:
    """Refuse counts that exceed the number of draws."""
    zero = results["kinks"]["zero_bias_black_input"] if "kinks" in results else {"rows": {}, "num_updates": 0}
    pairs = [("kinks", row["negative"], zero["num_updates"]) for row in zero["rows"].values()]
    for name, keys in (("labels", ("positive",)), ("init_noise", ("positive", "differential_positive"))):
        part = results.get(name, {"rows": []})
        pairs += [(name, np.max(row[key]), part["num_draws"]) for row in part["rows"] for key in keys]
    for name, count, total in pairs:
        if count > total:
            raise errors.InputError(f"results[{name!r}]: {count} of {total} draws")


def _require_shapes(value: Any, annotation: Any, where: str, lengths: dict[str, int]) -> None:
    """Refuse lists whose length differs from that of their axis. `lengths` has the known lengths; types are right."""
    origin, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if origin is Annotated:
        for shape in arguments[1:]:
            if isinstance(shape, Shape):
                _require_lengths(value, shape.axes.split(), where, lengths)
    if origin in (Annotated, NotRequired):
        _require_shapes(value, arguments[0], where, lengths)
    elif is_typeddict(origin):
        inside, hints = dict(lengths), get_type_hints(origin, include_extras=True)
        if origin in CLOSED and (unknown := sorted(value.keys() - hints.keys())):
            raise errors.InputError(f"{where}: expected {', '.join(hints)}, found also {unknown[0]!r}")
        for key, hint in hints.items():
            if key in value:
                _require_shapes(value[key], hint, f"{where}[{key!r}]", inside)
    elif origin in (list, dict) and arguments:
        for key, item in enumerate(value) if origin is list else value.items():
            _require_shapes(item, arguments[-1], f"{where}[{key!r}]", lengths)


def _require_lengths(value: list, axes: list[str], where: str, lengths: dict[str, int]) -> None:
    rows = [value]
    for axis in axes:
        expected = int(axis) if axis.isdigit() else lengths.setdefault(axis, len(rows[0]))
        if expected == 0:
            raise errors.InputError(f"{where}: there is no {axis}")
        for row in rows:
            if len(row) != expected:
                what = "items" if axis.isdigit() else f"along {axis}"
                raise errors.InputError(f"{where}: expected {expected} {what}, found {len(row)}")
        rows = [item for row in rows for item in row]


FORM = records.Form(
    experiment="theorem",
    config=_Config,
    description=Description,
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
    faults: NotRequired[list[str]]  # all faults to be planted


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
