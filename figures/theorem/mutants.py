"""The kill matrix: which property detects which planted fault."""

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from figures.theorem.palette import RED
from sublim_jax import records


def draw(record: records.Record) -> tuple[Figure, str]:
    """A heat map with faults as rows and properties as columns, and its caption."""
    content = record.results
    names = content["properties"]
    rows = content["mutants"]
    values = np.array([[row["kills"].get(name, 0.0) for name in names] for row in rows])
    missed = set(content["missed_by_the_sign_alone"])
    figure, ax = plt.subplots(figsize=(8.6, 0.19 * len(rows) + 1.6), layout="constrained")
    image = ax.imshow(np.where(values > 0, values, np.nan), aspect="auto", cmap="YlOrRd", vmin=0, vmax=1)
    ax.grid(False)
    ax.set_xticks(range(len(names)), [name.replace("_", " ") for name in names], rotation=60, ha="left", fontsize=7.5)
    ax.xaxis.tick_top()
    ax.set_yticks(range(len(rows)), [row["what"] for row in rows], fontsize=6.8)
    for label, row in zip(ax.get_yticklabels(), rows, strict=True):
        label.set_color(RED if row["name"] in missed else "black")
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_xticks(np.arange(-0.5, len(names)), minor=True)
    ax.set_yticks(np.arange(-0.5, len(rows)), minor=True)
    ax.grid(which="minor", color="#eeeeee", linewidth=0.6)
    ax.tick_params(which="both", length=0)
    figure.colorbar(image, ax=ax, shrink=0.5, label="share of problems on which the property is violated")
    num_problems, num_faults = record.config["num_problems"], len(rows) - 1
    text = (
        f"Each row is a fault planted into the library, each column a property; white is never violated. In red the "
        f"{len(missed)} of {num_faults} faults that the sign alone cannot see: many of them satisfy the theorem. "
        f"{len(content['survivors'])} faults survive all properties; the first row is the library as it is. "
        f"n = {num_problems} random problems for each entry."
    )
    return figure, text
