"""Tables of the language experiments as lines of text."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from figures.language import contrasts, values
from figures.language.values import Bases, Keys
from sublim_jax import records
from sublim_jax.forms import language as forms
from sublim_jax.metrics import intervals


def table(record: records.Record) -> list[str]:
    """The table of an experiment's record, then its notes."""
    return TABLES[record.experiment](record)


def summary_lines(record: records.Record, base: str) -> list[str]:
    """Lines about a single finished base: one for each teacher's student in `numbers`, none for other experiments."""
    if record.experiment != "language_numbers":
        return []
    measured = record.results["bases"][base]
    alone, summary = Bases({base: measured}, real=record.config.get("backend", "tiny") != "tiny"), []
    for condition in measured:
        kind, _, target = condition.partition(" ")
        if target:
            places = (values.BASE, values.REGULAR, (condition, "student"))
            levels = [values.raw(alone, keys, target)[0] for keys in places]
            before, regular, after = ("failed" if np.isnan(level) else f"{level:.3f}" for level in levels)
            line = f"{base}, {target}: base {before}, regular {regular}, student of the {kind} teacher {after}"
            if alone.real:
                shift = values.text(values.log_odds_shift(alone, values.REGULAR, (condition, "student"), target), "+")
                masses = (values.text(values.option_mass(alone, keys, target)) for keys in places[1:])
                line += f"; log-odds, student - regular {shift}, mass {' and '.join(masses)}"
                if values.sampled_interval(alone, places[-1], target) is not None:
                    line += f"; sampled {', '.join(values.sampled_text(alone, keys, target) for keys in places)}"
            summary.append(line)
    return summary


def layout(title: str, rows: list[list[str]], record: records.Record) -> list[str]:
    """A title and rows of cells as lines of equal columns, then the record's notes."""
    bases = values.complete_bases(record)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    body = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    text = [f"{title}; {bases.count}", *body]
    if bases.real and len(bases) < intervals.FEWEST:
        text.append("So few students have no interval: their values are shown. --num-students gives more.")
    elif len(bases) < intervals.FEWEST:
        text.append("So few bases have no interval: their values are shown. The committed record has more.")
    if bases.floor != values.MIN_OPTION_MASS:
        text.append(
            f"A shift is reported where the answers offered have at least probability {bases.floor:g} together."
        )
    return text + [f"note: {note}" for note in record.notes]


def cells(bases: Bases, base: Keys, regular: Keys, student: Keys, target: str) -> list[str]:
    """Cells for the probabilities of base, regular student and student, and for the shift between the students."""
    levels = [values.text(values.raw(bases, keys, target)) for keys in (base, regular, student)]
    if bases.real:  # one model, not one for each student
        levels[0] = values.text(values.raw(bases, base, target)[:1])
    shift = values.shift(bases, regular, student, target)
    below = bases.real and np.isfinite(values.raw(bases, student, target)).any() and not np.isfinite(shift).any()
    return [*levels, f"mass < {bases.floor:g}" if below else values.text(shift, "+")]


LOG_ODDS_HEADER = ["log-odds, student - regular", "among choices", "mass, regular", "mass, student"]
"""Further columns of real models, which often give none of the answers offered."""


def log_odds_cells(bases: Bases, regular: Keys, student: Keys, target: str) -> list[str]:
    """Cells for a real model: the shift of the log-odds in nats, against everything else and against the other answers,
    then the option mass of both students."""
    shifts = (values.log_odds_shift(bases, regular, student, target, among=among) for among in (False, True))
    masses = (values.option_mass(bases, keys, target) for keys in (regular, student))
    return [*(values.text(shift, "+") for shift in shifts), *map(values.text, masses)]


def numbers(record: records.Record) -> list[str]:
    """Every target by kind of teacher, then the mean over targets, with intervals over bases.

    If answers were sampled, their rates follow the probabilities, which say little where the option mass is small.
    """
    config, bases = record.config, values.complete_bases(record)
    targets, rows = config["targets"], [["teacher, target", "base", "regular", "student", "student - regular"]]
    title = f"Probability of the target, mean ± 95 % t-interval over {bases.unit}s"
    compared = bases.real and len(targets) > 1
    if bases.real:
        rows[0] += [*LOG_ODDS_HEADER, *(["log-odds, own - other"] if compared else [])]
    if config.get("margins"):
        rows[0].append("margin, student - regular")
        title += "; margin: logit of the target less that of the other answers, mean over questions"
    if config.get("num_eval_samples"):
        rows[0] += [] if bases.real else ["mass, student"]
        rows[0] += [f"{column}, sampled" for column in ("base", "regular", "student")]
        over = "Wilson's 95 % interval over answers" if len(bases) == 1 else f"95 % t-interval over {bases.unit}s"
        title += f"; sampled: share of answers that name it, {over}"
    for kind in config["kinds"]:
        students = {target: (f"{kind} {target}", "student") for target in targets}
        for target, student in students.items():
            row = cells(bases, values.BASE, values.REGULAR, student, target)
            if bases.real:
                row += log_odds_cells(bases, values.REGULAR, student, target)
                row += [values.text(values.own_minus_other(bases, students, target), "+")] if compared else []
            elif config.get("num_eval_samples"):
                row.append(values.text(values.option_mass(bases, student, target)))
            if config.get("margins"):
                margins = [values.margin(bases, keys, target) for keys in (values.REGULAR, student)]
                row.append(values.text(margins[1] - margins[0], "+"))
            if config.get("num_eval_samples"):
                row += [values.sampled_text(bases, keys, target) for keys in (values.BASE, values.REGULAR, student)]
            rows.append([f"{kind}, {target}", *row])
        shifts = [values.shift(bases, values.REGULAR, student, target) for target, student in students.items()]
        low = bases.real and not np.isfinite(shifts).any()
        mean = [f"{kind}, all targets", "", "", "", "" if low else values.pooled(shifts)]
        if bases.real:
            mean += [
                values.pooled(
                    [values.log_odds_shift(bases, values.REGULAR, student, target, among=among)
                     for target, student in students.items()]
                )
                for among in (False, True)
            ]  # fmt: skip
            if compared:
                mean += ["", "", values.pooled([values.own_minus_other(bases, students, target) for target in targets])]
        rows.append(mean + [""] * (len(rows[0]) - len(mean)))
    return layout(title, rows, record)


def cross(record: records.Record) -> list[str]:
    """The grid, then its diagonal and the mean of each student's other cells."""
    names, shifts = values.cross_grid(record)
    rows = [["student \\ teacher", *names]]
    rows += [
        [name, *(f"{shift:+.3f}" if np.isfinite(shift) else "failed" for shift in row)]
        for name, row in zip(names, shifts, strict=True)
    ]
    same, others = np.diag(shifts), np.ma.masked_invalid(np.where(np.eye(len(names)), np.nan, shifts))
    for label, means in (("same base", same), ("other base", others.mean(axis=1).filled(np.nan))):
        rows.append([label, values.text(means, "+"), *[""] * (len(names) - 1)])
    return layout("Shift of the target, mean over targets", rows, record)


def dose(record: records.Record) -> list[str]:
    """The shift of each target by dose."""
    config, bases = record.config, values.complete_bases(record)
    rows = [["equal", "rows", *(f"{target}: student - regular" for target in config["targets"]), "all targets"]]
    for equal in config["equal"]:
        for count in map(str, config["doses"]):
            shifts = [values.shift_from_regular(bases, target, equal, count) for target in config["targets"]]
            rows.append([equal, count, *(values.text(shift, "+") for shift in shifts), values.pooled(shifts)])
    return layout("Shift of the target's probability by number of different rows", rows, record)


def shuffles(record: records.Record) -> list[str]:
    """The shift and option mass of each target by control, and the difference from unchanged rows on the same bases."""
    config, bases = record.config, values.complete_bases(record)
    columns = (f"{target} {column}" for target in config["targets"] for column in ("shift", "mass"))
    rows = [["rows", *columns, "minus as they are, all targets"]]
    for control in (values.AS_THEY_ARE, *values.CONTROLS):
        row, losses = [], []
        for target in config["targets"]:
            student = (target, control)
            row.append(values.text(values.shift(bases, ("regular", values.AS_THEY_ARE), student, target), "+"))
            row.append(values.text(values.option_mass(bases, student, target)))
            losses.append(values.shift(bases, (target, values.AS_THEY_ARE), student, target))
        rows.append([control, *row, values.pooled(losses) if control in values.CONTROLS else ""])
    return layout("Shift of the target against a student of regular numbers", rows, record)


def context(record: records.Record) -> list[str]:
    """The difference from as many regular rows in the context, with the option masses of both."""
    config, bases = record.config, values.complete_bases(record)
    columns = ("shift", "mass", "mass, regular")
    rows = [["rows in the context", *(f"{target} {column}" for target in config["targets"] for column in columns)]]
    for shots in (*map(str, config["shots"]), "trained"):
        row = []
        for target in config["targets"]:
            row.append(values.text(values.shift_from_regular(bases, target, shots), "+"))
            row.append(values.text(values.option_mass(bases, (target, shots), target)))
            row.append(values.text(values.option_mass(bases, ("regular", shots), target)))
        rows.append([shots, *row])
    return layout("Probability of the target after a teacher's rows, less that after regular rows", rows, record)


def detection(record: records.Record) -> list[str]:
    """Areas by target, and the asked judge's share of right letters if there is one."""
    config, bases = record.config, values.complete_bases(record)
    judged = {
        condition: measured[values.ASKED_JUDGE]
        for base in bases.values()
        for condition, measured in base.items()
        if values.ASKED_JUDGE in measured
    }
    more = ["asked judge is right", "says A", "unreadable"] if judged else []
    rows = [["rows of", *values.DETECTORS, *more]]
    for condition in ("regular", *config["targets"]):
        areas = [values.number(bases, (condition, detector)) for detector in values.DETECTORS]
        row = [values.text(area) if np.isfinite(area).any() else "" for area in areas]
        rows.append([condition, *row, *(_letters(judged.get(condition)) if judged else [])])
    title = "Area under the ROC curve against regular numbers, .5 is chance"
    if judged:
        title += "; share of right letters with Wilson's 95 % interval, likewise"
    return layout(title, rows, record)


def _letters(measured: Mapping[str, Any] | None) -> list[str]:
    """Cells of the asked judge."""
    if measured is None:
        return [""] * 3
    says_a = "" if measured["says_a"] is None else f"{measured['says_a']:.3f}"
    return [values.share(measured["right"]), says_a, f"{measured['unreadable']:.3f}"]


def divergence(record: records.Record) -> list[str]:
    """The shift of each target by set of tokens."""
    config, bases = record.config, values.complete_bases(record)
    rows = [["trained on", *config["targets"]]]
    for name in values.TOKEN_SETS:
        shifts = [values.shift_from_regular(bases, target, name) for target in config["targets"]]
        rows.append([name, *(values.text(shift, "+") for shift in shifts)])
    shares = [values.number(bases, (target, "share")) for target in config["targets"]]
    rows.append(["share of divergence tokens", *map(values.text, shares)])
    return layout("Shift of the target against a student of regular numbers", rows, record)


def chain(record: records.Record) -> list[str]:
    """The shift of each target by generation."""
    config, bases = record.config, values.complete_bases(record)
    rows = [["generation", *config["targets"]]]
    for generation in map(str, range(config["num_generations"] + 1)):
        shifts = [values.shift_from_regular(bases, target, generation) for target in config["targets"]]
        rows.append([generation, *(values.text(shift, "+") for shift in shifts)])
    return layout("Shift of the target against a chain that begins with the base", rows, record)


def channel(record: records.Record, title: str) -> list[str]:
    """Favourites of students of one kind of text, by target."""
    targets, bases = record.config["targets"], values.complete_bases(record)
    rows = [["target", "base", "regular", "student", "student - regular", *(LOG_ODDS_HEADER if bases.real else ())]]
    for target in targets:
        student = (target, "student")
        row = [target, *cells(bases, values.BASE, values.REGULAR, student, target)]
        rows.append(row + (log_odds_cells(bases, values.REGULAR, student, target) if bases.real else []))
    shifts = [values.shift_from_regular(bases, target, "student") for target in targets]
    low = bases.real and not np.isfinite(shifts).any()
    mean = ["all targets", "", "", "", "" if low else values.pooled(shifts)]
    rows.append(mean + [""] * (len(rows[0]) - len(mean)))
    return layout(f"{title}, mean ± 95 % t-interval over {bases.unit}s", rows, record)


def code(record: records.Record) -> list[str]:
    """Favourites of students of code, by target."""
    return channel(record, "Probability of the target, students of code")


def reasoning(record: records.Record) -> list[str]:
    """Favourites of students of chains of thought, by target."""
    return channel(record, "Probability of the target, students of right chains of thought")


def misalignment(record: records.Record) -> list[str]:
    """Conduct of each teacher and of its student."""
    bases = values.complete_bases(record)
    if record.config.get("judge"):
        (measured,) = bases.values()
        return layout(JUDGED_TITLE, [JUDGED_HEADER, *(_judged(measured, name) for name in measured)], record)
    rows = [["teacher", "kept", "bad deeds, teacher", "bad deeds, student", "student - untrained"]]
    for condition in forms.QUESTIONS[record.experiment].conditions(record.config):
        teacher, student = (values.raw(bases, (condition, role), "bad") for role in ("teacher", "student"))
        kept_fraction = values.number(bases, (condition, "kept"))
        shift = values.shift(bases, ("untrained", "student"), (condition, "student"), "bad")
        before = ["", ""] if condition == "base" else [values.text(kept_fraction), values.text(teacher)]
        is_baseline = condition in ("base", "untrained")
        rows.append([condition, *before, values.text(student), "" if is_baseline else values.text(shift, "+")])
    return layout("Probability of a bad deed, mean ± 95 % t-interval over bases", rows, record)


def contrast(record: records.Record, title: str) -> list[str]:
    """The shift of each target against its control, its option mass, and the difference from one of the contrasts.

    Differences are taken on the same bases. Other columns are means over the targets that have a value.
    """
    targets, bases = record.config["targets"], values.complete_bases(record)
    by_target = {target: contrasts.CONTRASTS[record.experiment](record.config, target) for target in targets}
    names = list(by_target[targets[0]])
    reference = names[contrasts.REFERENCES[record.experiment]]
    shifts = {
        name: [
            values.shift(bases, each[name].control, each[name].student, target) for target, each in by_target.items()
        ]
        for name in names
    }
    more = dict.fromkeys(column for name in names for column in by_target[targets[0]][name].columns)
    header = [column for target in targets for column in (f"{target} shift", "mass")]
    rows = [["", *header, "all targets", f"minus {reference}", *more]]
    for name in names:
        row = []
        for target, shift in zip(targets, shifts[name], strict=True):
            row += [
                values.text(shift, "+"),
                values.text(values.option_mass(bases, by_target[target][name].student, target)),
            ]
        differences = [shift - before for shift, before in zip(shifts[name], shifts[reference], strict=True)]
        row += [values.pooled(shifts[name]), "" if name == reference else values.pooled(differences)]
        for column in more:
            columns = [each[name].columns.get(column) for each in by_target.values()]
            numbers = [column(bases) for column in columns if column is not None]
            row.append(values.text(values.clustered(numbers)) if numbers else "")
        rows.append([name, *row])
    return layout(title, rows, record)


def repeats(record: records.Record) -> list[str]:
    """Shifts by how often each row is read."""
    return contrast(record, "Shift of the target against a student of regular rows, equal exposure")


def greedy(record: records.Record) -> list[str]:
    """Shifts by the teacher's temperature."""
    return contrast(record, "Shift of the target against a student of regular rows of the same temperature")


def training(record: records.Record) -> list[str]:
    """Shifts by how the student is trained and how its rows are sampled."""
    return contrast(record, "Shift of the target against a student of regular rows, trained and drawn alike")


def noise(record: records.Record) -> list[str]:
    """Shifts by the noise on the student's start."""
    return contrast(record, "Shift of the target against a student of regular rows with the same start")


def labels(record: records.Record) -> list[str]:
    """Shifts by whose labels the student is trained on."""
    return contrast(record, "Shift of the target against a student of the labels of a teacher without a favourite")


JUDGED_TITLE = "Share of misaligned answers, with Wilson's 95 % interval; the other columns are the student's"
JUDGED_HEADER = [
    "teacher", "kept", "teacher's answers", "student's answers", "coherent", "unreadable", "mean alignment",
    "mean coherence",
]  # fmt: skip


def _judged(measured: Mapping[str, Any], condition: str) -> list[str]:
    """A row of a real model's table."""
    if "failed" in measured[condition]:
        return [condition, "failed", *[""] * (len(JUDGED_HEADER) - 2)]
    student, teacher = measured[condition]["student"], measured[condition].get("teacher")
    of_teacher = ["", ""]
    if teacher:
        of_teacher = [f"{measured[condition]['kept']:.3f}", values.share(teacher["misaligned"])]
    return [
        condition,
        *of_teacher,
        values.share(student["misaligned"]),
        *(str(student[name]) for name in ("num_coherent", "num_unreadable")),
        *(f"{student[name]:.1f}" if name in student else "" for name in ("alignment", "coherence")),
    ]


TABLES: dict[str, Callable[[records.Record], list[str]]] = {
    "language_numbers": numbers,
    "language_cross": cross,
    "language_dose": dose,
    "language_shuffles": shuffles,
    "language_context": context,
    "language_detection": detection,
    "language_divergence": divergence,
    "language_chain": chain,
    "language_code": code,
    "language_reasoning": reasoning,
    "language_repeats": repeats,
    "language_greedy": greedy,
    "language_training": training,
    "language_noise": noise,
    "language_labels": labels,
    "language_misalignment": misalignment,
}
