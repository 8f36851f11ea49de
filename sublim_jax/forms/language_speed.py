"""What a record of `experiments.language_speed` holds: times for each shape, and for the default experiment."""

from typing import Literal, NotRequired, TypedDict

from sublim_jax import records, specs

Shape = Literal["tiny", "qwen-0.5b", "qwen-7b"]


class _Shape(TypedDict):
    num_weights: specs.Count
    dtype: str
    devices_at_once: specs.Count
    step_s: specs.Positive
    times_the_bound: specs.Positive
    times_own_products: NotRequired[specs.Positive]
    trained_tokens_per_s: specs.Positive
    drawn_tokens_per_s: specs.Positive
    peak_rss_mb: specs.Positive


class _Whole(TypedDict):
    pretraining_s: specs.NonNegative
    first_target_s: specs.NonNegative
    further_target_s: specs.NonNegative


_Results = TypedDict("_Results", {"tiny": _Shape, "qwen-0.5b": _Shape, "qwen-7b": _Shape, "whole": _Whole}, total=False)


class _Config(TypedDict):
    shapes: list[Shape]
    whole: bool


def _parts(record: records.Record) -> list[str]:
    return [*record.config["shapes"], *(["whole"] if record.config["whole"] else [])]


FORM = records.Form(
    experiment="language_speed",
    config=_Config,
    results=_Results,
    wanted=_parts,
    present=lambda record: record.results,
)
