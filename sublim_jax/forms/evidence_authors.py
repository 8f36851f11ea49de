"""What a record of the study `authors` holds: for every base, how often its rows were told from those of others."""

from typing import Any, Literal, NotRequired, TypedDict, get_args

from sublim_jax import errors, records, specs

REGULAR = "regular"
"""The author that is the base itself; the others are targets of its finetuned teachers."""
Statistic = Literal["likelihood with copies", "likelihood with other copies", "likelihood", "surprise", "raw surprise"]
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)
"""How a base is chosen: see `sublim_jax.audit.author`. The copies are lenses of the matched recipe, of all traits or of
those that the author was not finetuned on. A raw surprise is counted from 0."""
Recipe = Literal["matched", "a third of the rate", "few steps"]
RECIPES: tuple[Recipe, ...] = get_args(Recipe)
"""How lenses are finetuned: like the teachers with other lessons, or otherwise."""

BySize = dict[str, specs.CountOrZero]
"""Draws with the right answer, by the number of rows of a draw."""


class Verdict(TypedDict):
    """What the tools say about the first rows of an author."""

    num_rows: specs.Count
    named: str  # by likelihood with copies
    least_surprised: str
    p: dict[str, specs.Fraction]  # of each candidate base
    away: specs.Fraction  # p-value that the base as it is wrote the rows
    trait: str  # by the matched lenses
    carries: specs.Fraction  # p-value that the rows carry nothing


class Author(TypedDict):
    """One author's rows."""

    num_rows: specs.Count
    kept: specs.Fraction  # of its completions, by the filter
    probability: NotRequired[specs.Fraction]  # of a teacher's target as its favourite
    named: dict[Statistic, BySize]  # right base of the candidates
    away: NotRequired[dict[str, specs.Fraction]]  # area under the curve against regular rows, by rows of a draw
    departures: dict[str, list[specs.Fraction]]
    """P-values of disjoint groups of rows, by their size, that the base as it is wrote them."""
    verdict: Verdict


class Lenses(TypedDict):
    """Lenses of one recipe, on all rows of finetuned teachers of the base."""

    probability: dict[str, specs.Fraction]  # of each lens's target as its favourite
    named: dict[str, BySize]  # right trait, by target
    carries: dict[str, dict[str, specs.Fraction]]  # area under the curve against regular rows, by target


class Unit(TypedDict):
    """One base."""

    authors: dict[str, Author]
    lenses: dict[Recipe, Lenses]


class Config(TypedDict):
    """The settings that readers use."""

    bases: list[specs.Seed]
    targets: list[str]
    sizes: list[specs.Count]
    num_draws: specs.Count


class Description(TypedDict):
    """What figures need beside the results."""

    recipes: dict[Recipe, str]


def units(config: Any) -> list[str]:
    """Names of the bases, in the order in which they are measured."""
    return [f"tiny:{seed}" for seed in config["bases"]]


def _check(record: records.Record) -> None:
    """Refuse units without some author, lens or number of rows that the config asks for, and more right draws than
    draws."""
    config, targets = record.config, set(record.config["targets"])
    sizes = {str(size) for size in config["sizes"]}
    if not sizes or not targets or set(record.description["recipes"]) != set(RECIPES):
        raise errors.InputError(f"expected sizes, targets and a description of the recipes {list(RECIPES)}")
    for name, unit in record.results.items():
        _require_names(f"{name}: authors", unit["authors"], {REGULAR, *targets})
        _require_names(f"{name}: lenses", unit["lenses"], set(RECIPES))
        counts, areas = [], []
        tested = {size for size in sizes if size in unit["authors"][REGULAR]["departures"]}
        for author, entry in unit["authors"].items():
            _require_names(f"{name}: {author}: named", entry["named"], set(STATISTICS))
            _require_names(f"{name}: {author}: departures", entry["departures"], tested)
            _require_names(f"{name}: {author}: p", entry["verdict"]["p"], set(units(config)))
            if not all(entry["departures"].values()) or (author in targets) != ("away" in entry):
                raise errors.InputError(f"results: {name}: {author}: expected p-values, and areas of teachers alone")
            counts += entry["named"].values()
            areas += [entry["away"]] if "away" in entry else []
        for recipe, lenses in unit["lenses"].items():
            for part in (lenses["probability"], lenses["named"], lenses["carries"]):
                _require_names(f"{name}: {recipe}", part, targets)
            counts += lenses["named"].values()
            areas += lenses["carries"].values()
        for by_size in (*counts, *areas):
            _require_names(f"{name}: rows of a draw", by_size, sizes)
        if max(max(by_size.values()) for by_size in counts) > config["num_draws"]:
            raise errors.InputError(f"results: {name}: expected at most {config['num_draws']} right draws")


def _require_names(where: str, entries: Any, names: set[str]) -> None:
    if set(entries) != names:
        raise errors.InputError(f"results: {where}: expected {sorted(names)}, got {sorted(entries)}")


FORM = records.Form(
    experiment="evidence_authors",
    config=Config,
    results=dict[str, Unit],
    description=Description,
    wanted=lambda record: units(record.config),
    present=lambda record: list(record.results),
    check=_check,
)
