"""What a record of `experiments.speed` holds: times, memory and accuracies of several programs."""

from typing import Literal, TypedDict

from sublim_jax import errors, records, specs

OURS = ("float32", "bfloat16")
PEER = "pytorch"
CONDITIONS = ("reference", "teacher", "student_aux", "student_all", "cross_model_aux", "cross_model_all")
"""Conditions that every program reports accuracies of."""

_Labels = TypedDict("_Labels", dict.fromkeys((PEER, *OURS), str))  # pyright: ignore


class Description(TypedDict):
    """What figures and tables need beside the measurements."""

    programs: _Labels  # labels in the order of a table


class _Run(TypedDict):
    program: Literal["pytorch", "float32", "bfloat16"]
    accuracy: dict[str, list[specs.Fraction | None]]
    training_s: specs.Positive
    compile_s: specs.NonNegative
    peak_rss_mb: specs.NonNegative


class _Scaling(_Run):
    members: specs.Count


_Peaks = TypedDict("_Peaks", dict.fromkeys(OURS, specs.Positive))  # pyright: ignore
_Parts = TypedDict("_Parts", dict.fromkeys(OURS, dict[str, specs.NonNegative]))  # pyright: ignore


class _Results(TypedDict):
    """All at once: the record is written when everything is measured."""

    peak_gflops: _Peaks
    operations_per_member: specs.Positive
    step_parts_ms: _Parts
    whole: list[_Run]
    scaling: list[_Scaling]


class _Config(TypedDict):
    num_members: specs.NumMembers


class _Device(TypedDict):
    platform: str
    kind: str
    count: specs.Count
    cpu_cores: specs.Count


def _check(record: records.Record) -> None:
    specs.check(record.device, _Device, "device")
    results, num_members = record.results, record.config["num_members"]
    if results["step_parts_ms"][OURS[0]].keys() != results["step_parts_ms"][OURS[1]].keys():
        raise errors.InputError("results: step_parts_ms has other parts for one precision than for the other")
    for program in (PEER, *OURS):
        runs = [run for run in results["whole"] if run["program"] == program]
        if not runs:
            raise errors.InputError(f"results: whole has no run of {program}")
        for condition in CONDITIONS:
            values = runs[0]["accuracy"].get(condition, [])
            if len(values) != num_members or not any(value is not None for value in values):
                raise errors.InputError(
                    f"results: whole, {program}, {condition}: expected accuracies of {num_members} members, of which "
                    f"not all diverged, got {values}"
                )
    if unknown := sorted(record.description["programs"].keys() - {PEER, *OURS}):
        raise errors.InputError(f"description: programs has {unknown[0]!r}, which was not measured")


FORM = records.Form(
    experiment="speed",
    config=_Config,
    description=Description,
    results=_Results,
    wanted=lambda record: _Results.__annotations__,
    present=lambda record: record.results,
    check=_check,
)
