"""In how many directions of a model does a trait lie: is a preference a vector, and a skill a subspace?

    python -m experiments.directions
    python -m experiments.directions --preset smoke       reduced: does everything work here?
    python -m experiments.directions --preset record      the committed record's settings
    python -m experiments.directions --beds digits flow   some of the beds

Students acquire a trait that their data do not show: a perceptron learns to read digits from auxiliary logits on noise,
together with a second skill; a flow model learns to draw one digit from auxiliary channels on noise; the embedded
language model learns a favourite from rows of numbers, by low-rank factors or, in the bed `language-full`, in all
weights. The displacement of a student from its reference is taken apart matrix by matrix: its largest singular
directions are added to the reference, or taken from the student, and its part in the directions of an auditor is added,
who has the reference and trained it on the trait on other data. Controls are random directions, those of an
auditor of another reference, and of another trait. Removal subtracts a dose of the auditor's displacement, or of a
control as long, for a whole range of doses. Steering adds one vector to a layer, the mean change of its units on
neutral inputs, noise images or rows of numbers, or takes it from the student; its control is a random vector of the
same length.

Of every edit the record has all measures. The share of a trait that an edit leaves is its change from the reference,
over the student's. Nothing is chosen on test data: ranks, doses and layers are all reported.
"""

from collections.abc import Sequence

from experiments.directions import digits, flow, language
from experiments.directions import lineage as lineages
from experiments.directions.config import PRESETS, DirectionsConfig
from experiments.directions.digits import Digits
from experiments.directions.flow import Flow
from experiments.directions.language import Language
from experiments.directions.lineage import Lineage
from experiments.language import config as language_config
from experiments.study import Report, Source, Study
from sublim_jax import records
from sublim_jax.forms import directions as form

LABELS: dict[form.Bed, str] = {
    "digits": "reading digits",
    "flow": "drawing a digit",
    "language": "a favourite",
    "language-full": "a favourite, all weights trained",
}
TRAITS: dict[form.Bed, tuple[list[str], float]] = {
    "digits": (["A", "B"], 0.1), "flow": (["share"], 0.1), "language": (["log_odds"], 0.5),
    "language-full": (["log_odds"], 0.5),
}  # fmt: skip
"""Measures of each bed's traits, and the smallest change from reference to student of which shares are taken."""
MEASURES: dict[form.Bed, dict[str, str]] = {
    "digits": digits.MEASURES, "flow": flow.MEASURES, "language": language.MEASURES,
    "language-full": language.MEASURES,
}  # fmt: skip

_opened: dict[tuple[str, str], Digits | Flow | Language] = {}


def _lineage(source: Source, config: DirectionsConfig, bed: form.Bed, index: int, report: Report) -> Lineage:
    """A reference of a bed. What a run's units share is made once."""
    fingerprint, room = records.fingerprint([config, source.data]), bed.partition("-")[0]
    if (fingerprint, room) not in _opened:
        for other in [place for place in _opened if place[0] != fingerprint]:
            del _opened[other]
        match room:
            case "digits":
                _opened[fingerprint, room] = Digits(source, config)
            case "flow":
                _opened[fingerprint, room] = Flow(source, config, report)
            case _:
                _opened[fingerprint, room] = Language(config)
    shared = _opened[fingerprint, room]
    if isinstance(shared, Language):
        return shared.lineage(index, report, full=bed == "language-full")
    return shared.lineage(index, report)


def units(config: DirectionsConfig) -> list[str]:
    """Every reference of every bed."""
    return form.units(records.to_json(config))


def describe(config: DirectionsConfig) -> dict:
    """Beds with their measures and edits."""
    return {
        "beds": {
            bed: {
                "label": LABELS[bed], "shares": TRAITS[bed][0], "least": TRAITS[bed][1], "measures": MEASURES[bed],
                "ranks": config.ranks_of(bed),
                "edits": {name: edit.entry for name, edit in lineages.edits(config, bed).items()},
            }
            for bed in config.beds
        }
    }  # fmt: skip


def measure(source: Source, config: DirectionsConfig, unit: str, report: Report) -> dict:
    """All edits of one reference of a bed."""
    name = form.bed_of(unit)
    lineage = _lineage(source, config, name, int(unit.rpartition(" ")[2]), report)
    return dict(lineages.measured(lineage, lineages.edits(config, name), config.ranks_of(name), report))


def lines(record: records.Record, unit: str) -> Sequence[str]:
    """The trait of one reference, printed before the others are finished."""
    bed = record.description["beds"][form.bed_of(unit)]
    values = record.results[unit]["values"]
    shown = ("reference", "teacher", "student", "student's top 1", f"less 0.5 x {lineages.AUDITOR}")
    trait = bed["shares"][0]
    numbers = (f"{name} {values[name][trait]:.2f}" for name in shown if name in values)
    return [f"  {bed['measures'][trait]}: {', '.join(numbers)}"]


def notes(config: DirectionsConfig) -> list[str]:
    """What a reader of any number must know."""
    whole, sentences = DirectionsConfig(), []
    if {"language", "language-full"} & set(config.beds):
        sentences.append(language_config.EMBEDDED)
    if config.num_references < whole.num_references or config.num_base_steps < whole.num_base_steps:
        sentences.append("reduced: fewer references or steps than the default has")
    return sentences


STUDY = Study(
    name="directions", doc=__doc__, presets=PRESETS, form=form.FORM, units=units, measure=measure, describe=describe,
    lines=lines, notes=notes, reads_images=lambda config: bool({"digits", "flow"} & set(config.beds)),
)  # fmt: skip
