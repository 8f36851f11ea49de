"""The report of an audit of weights: lines in a terminal, a picture, and a page of HTML that stands alone."""

import pathlib
import textwrap

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from figures import onepage, style
from sublim_jax import records
from sublim_jax.forms import audit_weights as form
from sublim_jax.forms.audit_weights import Relation

COLOURS = {"identical": "#c8553d", "related": "#c8553d", "cannot tell": "#8c8c8c", "not seen": "#2f6690"}
"""Colours of the verdicts, the strongest first."""
LINEAR = 5.0
"""z up to which the axis is linear; beyond it is logarithmic."""


def question(record: records.Record) -> str:
    """What is asked, in a line."""
    return f"Is {record.config['weights']} a relative of {record.config['reference']}?"


def relations(record: records.Record) -> dict[form.Unit, Relation]:
    """The comparisons that are there, in order."""
    return {unit: record.results[unit] for unit in form.UNITS if unit in record.results}


def answer(record: records.Record) -> str:
    """The stronger of both verdicts, and which comparison it is from."""
    verdicts = {unit: relation["verdict"] for unit, relation in relations(record).items()}
    strongest = next(verdict for verdict in COLOURS if verdict in verdicts.values())
    return f"{strongest} ({', '.join(unit for unit, verdict in verdicts.items() if verdict == strongest)})"


def what_would_change(unit: form.Unit, relation: Relation) -> str:
    """What would change the verdict, in words."""
    at_floor = relation["p_value"] <= relation["p_floor"] * (1 + 1e-9)
    if relation["verdict"] == "identical":
        return "nothing: every weight is equal"
    if relation["verdict"] == "related":
        if at_floor:
            return "nothing that was tried: no random order of units correlates as much (p is the smallest possible)"
        return "more --num-permutations, which measure p better, if it lies near .01"
    if not relation["is_exact"]:
        return "a reference as it was drawn, before training; or z of trained models that are known to be unrelated"
    if relation["verdict"] == "cannot tell":
        return "more --num-permutations, which measure p better; or an earlier checkpoint of either model"
    if unit == "direct":
        return (
            "nothing here, if units were permuted: that hides a relative from this comparison, and not from `matched`"
        )
    return "an earlier checkpoint of either model, if much noise or long training lies between them"


def lines(record: records.Record) -> list[str]:
    """The comparisons as text."""
    text = [question(record)]
    for unit, relation in relations(record).items():
        exact = "" if relation["is_exact"] else ", not exact"
        text += [
            f"  {unit}: {relation['verdict']}; p = {relation['p_value']:.3g}{exact} (smallest possible "
            f"{relation['p_floor']:.3g}), correlation {_correlation(relation)}, z = {_largest(relation)}",
            f"    what would change it: {what_would_change(unit, relation)}",
            f"    compared: {relation['compared']}",
            f"    {relation['note']}",
        ]
    if record.results:
        text.append(f"answer: {answer(record)}")
    text.append(f"cost: {sum(record.seconds.values()):.0f} s")
    return text + [f"note: {note}" for note in record.notes]


def _correlation(relation: Relation) -> str:
    return f"{relation['correlations'][relation['tensor']]:+.3f} of {relation['tensor']}"


def _largest(relation: Relation) -> str:
    """The largest z, and what random orders reach, which earlier records lack."""
    beside = f" (99 % of random orders have none above {relation['order_z']:.1f})" if "order_z" in relation else ""
    return f"{relation['z']:.1f}{beside}"


def save(path: pathlib.Path, stem: pathlib.Path) -> list[pathlib.Path]:
    """Draw the record to STEM.png and STEM.pdf, write STEM.html, and return their paths; nothing before a comparison.

    Raises:
        OutputError: another file than one of ours is in the way.
        RecordError: there is no record of an audit of weights, or it is damaged.
    """
    record = records.read(path, form.FORM)
    compared = relations(record)
    if not compared:
        return []
    style.use()
    figure, ax = plt.subplots(figsize=(6.4, 1.5 + 0.75 * len(compared)), layout="constrained")
    draw(ax, compared)
    ax.set_title("\n".join(textwrap.wrap(question(record), 70)), loc="left", fontsize=11)
    sentences = [
        "A dot for each tensor: its correlation with the reference's, in standard deviations over random orders of "
        f"units; grey: 99 % of these orders have no tensor beyond it. Record {path.name}.",
        *record.note_sentences,
        *(() if record.complete else ("The run is not complete.",)),
    ]
    figure.text(0.01, -0.01, "\n".join(textwrap.wrap(" ".join(sentences), 105)), va="top", fontsize=7, color="#444444")
    drawn = list(style.save(figure, stem))
    return [*drawn, _page(record, stem.with_name(f"{stem.name}.html"), drawn[0])]


def draw(ax: Axes, compared: dict[form.Unit, Relation]) -> None:
    """Every tensor's z, beside what random orders of units reach."""
    for place, relation in enumerate(compared.values()):
        colour, values = COLOURS[relation["verdict"]], np.array(list(relation["zs"].values()))
        if "order_z" in relation:
            ax.barh(place, relation["order_z"], height=0.5, color="#d9d9d9", linewidth=0, zorder=0)
        ax.scatter(values, np.full(len(values), place), s=22, color=colour, alpha=0.7, linewidth=0, zorder=3)
        ax.annotate(f"{relation['verdict']}, p = {relation['p_value']:.3g}", (relation["z"], place), (0, 9),
                    textcoords="offset points", fontsize=7, color=colour, ha="center")  # fmt: skip
    ax.axvline(0, color="#8c8c8c", linewidth=0.8, linestyle=":")
    ax.set_yticks(range(len(compared)), list(compared))
    ax.set_ylim(len(compared) - 0.4, -0.7)
    ax.set_xscale("symlog", linthresh=LINEAR)
    ax.set_xticks(ticks := [-5, -2, 0, 2, 5, 20, 100, 500], list(map(str, ticks)))
    values = [z for relation in compared.values() for z in relation["zs"].values()]
    ax.set_xlim(min(-2.5, 1.2 * min(values)), 1.6 * max(LINEAR, *values))
    ax.set_xlabel("z, standard deviations over random orders of units")


def meanings(record: records.Record) -> list[str]:
    """What was tested, what the verdicts mean, on what scale, and what the audit cannot see: paragraphs."""
    config = record.config
    compared = "; ".join(f"{unit}: {relation['compared']}" for unit, relation in relations(record).items())
    return [
        f"Answer: {answer(record)}.",
        f"Tested: whether the weights of {config['weights']} correlate with those of {config['reference']} more than "
        f"they do when units of the latter are in random order, of which {config['num_permutations']:,} were drawn. "
        f"{compared}.",
        "Scale: z counts standard deviations over random orders, so that unrelated models have a few at most; p is the "
        "share of orders in which some tensor stands out as much.",
        "identical: every weight is equal. related: p is at most .01. cannot tell: it is at most .05, or it is not "
        "exact. not seen: it is larger; a relative that is hidden from a comparison is not excluded.",
        *record.note_sentences,
    ]


def _page(record: records.Record, path: pathlib.Path, picture: pathlib.Path) -> pathlib.Path:
    """The report as one file, for a person who decides about a model."""
    compared = relations(record)
    rows = [
        (unit, relation["verdict"], f"{relation['p_value']:.3g}{'' if relation['is_exact'] else ', not exact'}",
         _correlation(relation), f"{relation['z']:.1f}", what_would_change(unit, relation))
        for unit, relation in compared.items()
    ]  # fmt: skip
    shown = "; ".join(f"{unit}, {relation['tensor']}: {_largest(relation)}" for unit, relation in compared.items())
    return onepage.write(
        path,
        kind="audit",
        title=question(record),
        header=("comparison", "verdict", "p-value", "correlation", "z", "what would change the verdict"),
        rows=rows,
        colours=[COLOURS[relation["verdict"]] for relation in compared.values()],
        picture=picture,
        caption=f"z of each tensor in standard deviations over random orders of units; the largest: {shown}",
        meanings=meanings(record),
        lines=lines(record),
    )
