"""What a record of `experiments.real_speed` holds: seconds of three kinds of work on a real model, beside others."""

import statistics
from typing import Literal, NotRequired, TypedDict, get_args

from sublim_jax import errors, records, specs

Work = Literal["distillation", "drawing", "evaluation"]
WORKS: tuple[Work, ...] = get_args(Work)
Program = Literal["sublim_jax", "products", "pytorch"]
"""Our program, its own matrix products alone, and PyTorch with transformers and peft."""


Seconds = dict[Program, list[specs.Positive]]
"""Of every repetition, by program; PyTorch may be missing."""


class Compilation(TypedDict):
    """What our program's first call cost."""

    first_call_s: specs.Positive
    compile_s: specs.NonNegative  # of it: compiling, or reading compiled programs from the cache
    kept: specs.CountOrZero  # programs that were compiled, and that the next run finds in the cache
    read: specs.CountOrZero  # programs that were in the cache


class Measured(TypedDict):
    """One kind of work, in seconds of every repetition; programs took turns within a repetition."""

    sizes: dict[str, specs.Count]
    gflop: specs.Positive  # of the products
    seconds: Seconds
    cpu_seconds: Seconds  # of all threads, those that wait in a loop included
    compilation: Compilation
    largest_difference: NotRequired[specs.NonNegative]  # between PyTorch's result and ours, where both have one


class Description(TypedDict):
    """What all times have in common."""

    num_weights: specs.Count
    dtype: str
    threads: specs.Count
    pytorch: str  # versions, or why PyTorch is not timed


class _Results(TypedDict, total=False):
    distillation: Measured
    drawing: Measured
    evaluation: Measured


class _Config(TypedDict):
    repeats: specs.Count


def ratios(
    measured: Measured, program: Program, other: Program, *, kind: Literal["seconds", "cpu_seconds"] = "seconds"
) -> list[float]:
    """Time of one program in that of another, for each repetition."""
    return [mine / theirs for mine, theirs in zip(measured[kind][program], measured[kind][other], strict=True)]


def lines(record: records.Record) -> list[str]:
    """A table as text: median seconds, and median ratios with the smallest and the largest of all repetitions."""
    head = (
        "",
        "sublim_jax",
        "products alone",
        "ratio",
        "of CPU time",
        "PyTorch",
        "sublim_jax / PyTorch",
        "compiling",
    )
    rows: list[tuple[str, ...]] = [head]
    differences = []
    for work in WORKS:
        if work not in record.results:
            continue
        measured = record.results[work]
        seconds, compilation = measured["seconds"], measured["compilation"]
        others = ("not timed", "")
        if "pytorch" in seconds:
            others = (_median(seconds["pytorch"]), range_of(ratios(measured, "sublim_jax", "pytorch")))
        if "largest_difference" in measured:
            differences.append(f"{work} {measured['largest_difference']:.1e}")
        origin = f"{compilation['kept']} kept for the next run, {compilation['read']} from the cache"
        rows.append((
            work, _median(seconds["sublim_jax"]), _median(seconds["products"]),
            range_of(ratios(measured, "sublim_jax", "products")),
            range_of(ratios(measured, "sublim_jax", "products", kind="cpu_seconds")), *others,
            f"{compilation['compile_s']:.1f} s ({origin})",
        ))  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    about = record.description
    return [
        f"{about['num_weights']:,} weights ({about['dtype']}), {about['threads']} thread(s) each; PyTorch: "
        f"{about['pytorch']}; seconds of one step, of all completions, of one evaluation; medians of "
        f"{record.config['repeats']} repetition(s), with the smallest and the largest ratio",
        *("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows),
        *([f"largest difference between PyTorch's numbers and ours: {', '.join(differences)}"] if differences else []),
    ]


def _median(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.3g} s"


def range_of(values: list[float]) -> str:
    """The median of ratios, with the smallest and the largest."""
    return f"{statistics.median(values):.2f} x ({min(values):.2f} to {max(values):.2f})"


def _check(record: records.Record) -> None:
    for work, measured in record.results.items():
        for name in ("seconds", "cpu_seconds"):
            if not {"sublim_jax", "products"}.issubset(measured[name]):
                raise errors.InputError(f"results.{work}.{name}: expected sublim_jax and products")
            for program, seconds in measured[name].items():
                if len(seconds) != record.config["repeats"]:
                    raise errors.InputError(
                        f"results.{work}.{name}.{program}: expected one number for each of {record.config['repeats']} "
                        f"repetitions, got {len(seconds)}"
                    )


FORM = records.Form(
    experiment="real_speed",
    config=_Config,
    results=_Results,
    description=Description,
    wanted=lambda record: WORKS,
    present=lambda record: record.results,
    check=_check,
)
