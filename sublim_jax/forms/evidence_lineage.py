"""What a record of the study `lineage` holds: for each model of a reference, tests against all references."""

from typing import Any, Literal, TypedDict, get_args

from sublim_jax import errors, records, specs

Method = Literal["direct", "matched"]
METHODS: tuple[Method, ...] = get_args(Method)
Statistic = Literal["correlation", "labels", "ridge"]


class Tested(TypedDict):
    """One model against every reference, in their order; its own has the unit's number."""

    z: list[float]
    p_value: list[specs.Fraction]
    correlation: list[float]  # of the tensor with the largest z
    is_exact: list[bool]  # whether the p-value is one


class Unit(TypedDict):
    """The models of one reference."""

    accuracy: dict[str, specs.Fraction]  # by teacher
    weights: dict[str, dict[Method, Tested]]  # by disguise
    pairs: dict[str, dict[Method, Tested]]  # of two trained models, the second of every reference
    outputs: dict[str, dict[str, dict[Statistic, list[float]]]]  # by case and number of queries, for every reference


class Config(TypedDict):
    """The settings that readers use."""

    num_references: specs.Count
    num_models: specs.Count
    num_permutations: specs.Count
    num_queries: list[specs.Count]
    first_seed: specs.Seed


def units(config: Any) -> list[str]:
    """Names of the references whose models are tested, in order."""
    return [f"reference {index}" for index in range(config["num_models"])]


def own(unit: str) -> int:
    """Place of a unit's own reference."""
    return int(unit.rpartition(" ")[2])


def _check(record: records.Record) -> None:
    """Refuse units that were not tested against every reference, and those with other cases than the first."""
    count, names = record.config["num_references"], None
    for unit, entry in record.results.items():
        cases = {part: list(entry[part]) for part in ("weights", "pairs", "outputs")}
        names = names or cases
        if cases != names:
            raise errors.InputError(f"results: {unit}: expected the cases {names}, got {cases}")
        for part in ("weights", "pairs"):
            for case, methods in entry[part].items():
                for method, tested in methods.items():
                    if any(len(values) != count for values in tested.values()):
                        raise errors.InputError(f"results: {unit}: {case}, {method}: expected {count} references")
        for case, sizes in entry["outputs"].items():
            for statistics in sizes.values():
                if any(len(values) != count for values in statistics.values()):
                    raise errors.InputError(f"results: {unit}: outputs, {case}: expected {count} references")


FORM = records.Form(
    experiment="evidence_lineage",
    config=Config,
    results=dict[str, Unit],
    wanted=lambda record: units(record.config),
    present=lambda record: list(record.results),
    check=_check,
)
