"""Save the nine figures of the theorem. Each caption states the result, n, the interval and the record."""

import pathlib
import textwrap
from collections.abc import Callable

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from figures import style, values
from figures.theorem import cosines, curve, filters, laws, many_steps, mutants, optimizers, radius, starts
from sublim_jax import records
from sublim_jax.forms import theorem as form

RECORD = values.RECORDS / "theorem.json"
KILL_MATRIX = values.RECORDS / "theorem-mutants.json"

FIGURES: dict[str, tuple[tuple[str, ...], tuple[float, float], Callable[[Figure, dict], str]]] = {
    "curve": (("curve", "radius"), (8.6, 5.4), curve.draw),
    "radius": (("radius",), (8.2, 3.4), radius.draw),
    "cosines": (("cosines", "mnist_cosines"), (8.6, 5.6), cosines.draw),
    "starts": (("starts",), (8.6, 4.0), starts.draw),
    "laws": (("labels", "init_noise", "mnist_noise"), (8.8, 3.4), laws.draw),
    "filters": (("filters",), (8.2, 3.5), filters.draw),
    "optimizers": (("optimizers",), (8.6, 3.5), optimizers.draw),
    "many_steps": (("many_steps",), (8.2, 3.6), many_steps.draw),
}
"""For each figure its parts of the record, its size in inches, and a function that draws it and returns the caption."""


def save_all(record: pathlib.Path, stem: pathlib.Path) -> list[pathlib.Path]:
    """Draw every figure whose parts are in the record to STEM-name.png and .pdf, and return the paths."""
    style.use()
    result = records.read(record, form.FORM)
    paths = []
    for name, (parts, size, draw) in FIGURES.items():
        if not set(parts) <= result.results.keys():
            continue
        figure = plt.figure(figsize=size, layout="constrained")
        text = draw(figure, result.results)
        seed = f"Seed {result.config['seed']}; record {record.name}."
        notes = [note for note in result.notes if "synthetic" in note or "not the default" in note]
        paths += _finish(figure, " ".join([text, seed, *(f"{n[0].upper()}{n[1:]}." for n in notes)]), stem, name)
    return paths


def save_mutants(kill_matrix: pathlib.Path, stem: pathlib.Path) -> list[pathlib.Path]:
    """Draw the kill matrix to STEM-mutants.png and .pdf, and return the paths."""
    style.use()
    figure, text = mutants.draw(records.read(kill_matrix, form.MUTANTS))
    return _finish(figure, f"{text} Record {kill_matrix.name}.", stem, "mutants")


def _finish(figure: Figure, text: str, stem: pathlib.Path, name: str) -> list[pathlib.Path]:
    width = int(figure.get_size_inches()[0] * 18.5)
    figure.text(0.01, -0.015, "\n".join(textwrap.wrap(text, width)), va="top", fontsize=7.5, color="#444444")
    return list(style.save(figure, stem.with_name(f"{stem.name}-{name}")))
