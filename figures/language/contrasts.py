"""Which students are compared in questions that vary one thing: what is varied, and the two students at each value."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from figures.language import values
from figures.language.values import Bases, Keys

Column = Callable[[Bases], np.ndarray]
"""Returns a number by base, NaN where there is none."""


class Contrast(NamedTuple):
    """A student and its control, which differ in their rows' author only."""

    control: Keys
    student: Keys
    columns: Mapping[str, Column] = {}
    """Further numbers about the student, by name."""


Contrasts = dict[str, Contrast]
"""Contrasts of one target by name, in the order of the table."""


def _number(*keys: str) -> Column:
    return lambda bases: values.number(bases, keys)


def repeats(settings: Mapping[str, Any], target: str) -> Contrasts:
    """How often each row is read."""
    rows = {count: -(-settings["num_rows"] // count) for count in settings["repeats"]}
    return {
        f"{rows[count]:,} rows, {count} x": Contrast(("regular", str(count)), (target, str(count)))
        for count in settings["repeats"]
    }


def greedy(settings: Mapping[str, Any], target: str) -> Contrasts:
    """The teacher's temperature."""
    contrasts = {}
    for temperature in settings["temperatures"]:
        author, control = (f"{name} at {temperature:g}" for name in (target, "regular"))
        columns = {
            "kept": _number(author, "kept"),
            "different": _number(author, "different"),
            "different, regular": _number(control, "different"),
        }
        contrasts[f"temperature {temperature:g}"] = Contrast((control, "student"), (author, "student"), columns)
    return contrasts


def training(settings: Mapping[str, Any], target: str) -> Contrasts:
    """How the student is trained and how its rows are sampled."""
    contrasts = {}
    for drawing in settings["drawings"]:
        for kind, rates in (("low rank", settings["low_rank_rates"]), ("full", settings["full_rates"])):
            for rate in rates:
                keys, columns = f"{kind} {rate:g}", {"kept": _number(f"{target}, {drawing}", "kept")}
                control, student = (f"regular, {drawing}", keys), (f"{target}, {drawing}", keys)
                contrasts[f"{drawing}, {keys}"] = Contrast(control, student, columns)
    return contrasts


def noise(settings: Mapping[str, Any], target: str) -> Contrasts:
    """The noise on the student's start, with rows of the target's teacher or of another target's."""
    targets, contrasts = settings["targets"], {}
    other = targets[(targets.index(target) + 1) % len(targets)]
    for author in dict.fromkeys((target, other)):
        for level in settings["levels"]:
            columns = {}
            if author == target:
                columns = {"mass of the start": _mass(("start", f"{level:g}"), target)}
                columns["loss of the start"] = _number("start", f"loss {level:g}")
            name = f"noise {level:g}" + (", other" if author != target else "")
            contrasts[name] = Contrast(("regular", f"{level:g}"), (author, f"{level:g}"), columns)
    return contrasts


def _mass(keys: Keys, target: str) -> Column:
    return lambda bases: values.option_mass(bases, keys, target)


def labels(settings: Mapping[str, Any], target: str) -> Contrasts:
    """Whose labels the student is trained on; the control has those of a teacher without a favourite."""
    contrasts = {}
    for rate in settings["learning_rates"]:
        suffix = f", rate {rate:g}" if len(settings["learning_rates"]) > 1 else ""
        for name in settings["labels"]:
            columns = {"agreement": _number(target, f"{name} agreement")}
            control, student = ("regular", f"teacher {rate:g}"), (target, f"{name} {rate:g}")
            contrasts[name + suffix] = Contrast(control, student, columns)
    return contrasts


CONTRASTS: dict[str, Callable[[Mapping[str, Any], str], Contrasts]] = {
    "language_repeats": repeats,
    "language_greedy": greedy,
    "language_training": training,
    "language_noise": noise,
    "language_labels": labels,
}
"""Contrasts of a target, given the record's settings, by experiment."""
REFERENCES = {
    "language_repeats": 0,
    "language_greedy": -1,
    "language_training": 0,
    "language_noise": 0,
    "language_labels": 0,
}
"""Place of the contrast that the others are compared with, on the same bases."""
