"""Figure of the questions of `contrasts`: shifts of students against their controls."""

from matplotlib.figure import Figure

from figures.language import contrasts, draw, values
from sublim_jax import records


def shifts(record: records.Record, figure: Figure) -> None:
    """Draw the shift of every contrast, the targets above each other."""
    bases, targets = values.complete_bases(record), record.config["targets"]
    for ax, target in zip(figure.subplots(len(targets), 1, sharex=True, squeeze=False)[:, 0], targets, strict=True):
        groups = {}
        for name, contrast in contrasts.CONTRASTS[record.experiment](record.config, target).items():
            levels = values.shift(bases, contrast.control, contrast.student, target)
            groups[name.replace(", ", "\n")] = {"student": levels}
        draw.draw_groups(ax, groups, label=f"shift of {target}")
        ax.axhline(0, color="black", linewidth=0.8)
        ax.tick_params(axis="x", labelsize=7)
