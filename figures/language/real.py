"""Tables and figure of `real`: the matrix of animals and teachers, own minus other, dose-response, hidden states.

A matrix has a row for each teacher whose student is measured and a column for each animal. Own minus other is the
diagonal minus the mean of the rest of its column: the same animal under the other animals' teachers, of the same seed.
"""

import pathlib
import textwrap

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from figures.language.draw import COLOURS
from figures.language.values import share
from sublim_jax import errors, records
from sublim_jax.forms import language_real as form
from sublim_jax.metrics import intervals

ARMS = {
    "full": "KL over the whole vocabulary",
    "numbers": "KL over number tokens alone",
    "own_factors": "whole vocabulary, a factors of its own",
    "other_start": "whole vocabulary, another start",
}
"""Title of each arm."""
SHARED = "the animals of a seed share its number rows and factors"
OWN_SETTINGS = {"seeds", "arms", "measured_at", "num_answers", "noise", "num_heal_steps"}
"""Settings in which two records may differ whose students are compared."""


def complete_seeds(record: records.Record, arm: str) -> list[int]:
    """Seeds of which all students of an arm were measured."""
    targets, students = record.config["targets"], record.results["students"]
    return [seed for seed in record.config["seeds"] if set(students.get(str(seed), {}).get(arm, ())) == set(targets)]


def shifts(record: records.Record, arm: str, seed: int, step: int | str) -> np.ndarray:
    """Change of each target's log-odds from the start, of shape (teacher, animal)."""
    targets, results = record.config["targets"], record.results
    start = (results["starts"][str(seed)] if arm == "other_start" else results["base"])["log_odds"]
    students = results["students"][str(seed)][arm]
    return np.array(
        [
            [students[teacher]["steps"][str(step)]["log_odds"][animal] - start[animal] for animal in targets]
            for teacher in targets
        ]
    )


def predictions(record: records.Record, arm: str, seed: int, name: str) -> np.ndarray:
    """A first-order prediction, of shape (teacher, animal)."""
    targets, students = record.config["targets"], record.results["students"][str(seed)][arm]
    return np.array([[students[teacher]["prediction"][name][animal] for animal in targets] for teacher in targets])


def own_minus_other(matrix: np.ndarray) -> np.ndarray:
    """The diagonal minus the mean of the rest of its column, by animal."""
    count = len(matrix)
    own = np.diagonal(matrix)
    return own - (matrix.sum(axis=0) - own) / (count - 1)


def cells(record: records.Record, arm: str, step: int | str) -> np.ndarray:
    """Own minus other of every seed and animal, of shape (seed, animal)."""
    matrices = [shifts(record, arm, seed, step) for seed in complete_seeds(record, arm)]
    return np.stack([own_minus_other(matrix) for matrix in matrices])


def lines(record: records.Record) -> list[str]:
    """All tables of a record, then its notes."""
    config, description = record.config, record.description
    last = config["measured_at"][-1]
    question = f' after "{description["prefill"]}"' if description["prefill"] else ""
    text = [
        f"{config['backend']}: change of the log-odds of each animal as the next token{question}, from the start, "
        f"after {last} steps on {config['num_rows'] * config['num_tokens']} tokens of numbers each; mean over "
        f"{description['num_questions']} held-out questions",
    ]
    for arm in config["arms"]:
        seeds = complete_seeds(record, arm)
        text += ["", ARMS[arm] + (f" ({description['num_number_tokens']} tokens)" if arm == "numbers" else "")]
        text += _arm_lines(record, arm, seeds) if seeds else ["not complete for any seed"]
    text += ["", *_answer_lines(record)]
    text.append("the base as teacher: exactly zero, since the divergence from itself has no gradient (not run)")
    return text + [f"note: {note}" for note in record.notes]


def _arm_lines(record: records.Record, arm: str, seeds: list[int]) -> list[str]:
    targets, measured_at = record.config["targets"], record.config["measured_at"]
    last = str(measured_at[-1])
    mean = np.mean([shifts(record, arm, seed, last) for seed in seeds], axis=0)
    students = [record.results["students"][str(seed)][arm] for seed in seeds]
    rows = [["student of", *targets, "mass", "KL"]]
    for index, teacher in enumerate(targets):
        ends = [each[teacher]["steps"][last] for each in students]
        mass, kl = (np.mean([end[name] for end in ends]) for name in ("mass", "kl"))
        rows.append([teacher, *(f"{value:+.3f}" for value in mean[index]), f"{mass:.3f}", f"{kl:.4f}"])
    rows.append(["own - other", *(f"{value:+.3f}" for value in own_minus_other(mean)), "", ""])
    if len(seeds) > 1:
        for seed, values in zip(seeds, cells(record, arm, last), strict=True):
            rows.append([f"  seed {seed}", *(f"{value:+.3f}" for value in values), "", ""])
    chances = [[record.results["base"]["probability"][name] for name in targets]]
    chances += [[np.mean([each[name]["steps"][last]["probability"][name] for each in students]) for name in targets]]
    rows += [
        [label, *(f"{value:.4f}" for value in values), "", ""]
        for label, values in zip(("P in the base", "P, own student"), chances, strict=True)
    ]
    text = [f"mean over seeds {', '.join(map(str, seeds))}"] if len(seeds) > 1 else [f"seed {seeds[0]}"]
    text += _columns(rows)
    text.append("own - other over animals and seeds: " + interval_text(cells(record, arm, last)))
    text.append("by steps: " + ", ".join(
        f"{step}: {cells(record, arm, step).mean():+.3f}" for step in measured_at
    ))  # fmt: skip
    text += _prediction_lines(record, arm, seeds)
    own, other = np.mean([stream_cosines(record, arm, seed) for seed in seeds], axis=0)
    text.append(
        f"hidden states on numbers, mean cosine with the displacement of its own teacher / of the others: "
        f"{own.mean():+.2f} / {other.mean():+.2f} over all layers, {own[len(own) // 2 :].mean():+.2f} / "
        f"{other[len(own) // 2 :].mean():+.2f} over the upper half"
    )
    return text


def beside(record: records.Record, arm: str, other: records.Record, other_arm: str) -> np.ndarray:
    """Own minus other of an arm, less that of an arm of another record, of shape (seed, animal): of the seeds that both
    have complete, whose students read the same rows and have the same factors.

    Raises:
        RecordError: the records are of other models, prompts or settings than each other's, or have no common seed.
    """
    for name in ("name", "source", "checksum"):
        if record.data[name] != other.data[name]:
            raise errors.RecordError(
                f"records of `real` whose data have {name} {record.data[name]} and {other.data[name]} have no students "
                f"that can be compared; run both with the same model and prompts"
            )
    for name in sorted((record.config.keys() | other.config.keys()) - OWN_SETTINGS):
        if record.config.get(name) != other.config.get(name):
            raise errors.RecordError(
                f"records of `real` with {name}={record.config.get(name)} and {other.config.get(name)} have no "
                f"students that can be compared; run both with the same settings"
            )
    seeds, last = complete_seeds(record, arm), record.config["measured_at"][-1]
    if not (common := [seed for seed in seeds if seed in complete_seeds(other, other_arm)]):
        raise errors.RecordError("records of `real` without a common seed have no students that can be compared")
    return np.stack([
        own_minus_other(shifts(record, arm, seed, last)) - own_minus_other(shifts(other, other_arm, seed, last))
        for seed in common
    ])  # fmt: skip


def interval_text(values: np.ndarray) -> str:
    """The mean over animals and seeds with its interval, and what the interval excludes.

    Seeds of one animal are alike, so with enough animals there is an interval over these, too: it is the one that says
    something about other animals.

    Args:
        values: of shape (seed, animal).
    """
    interval = intervals.t_interval(values.ravel())
    if not interval.is_known:
        return f"{interval:+.3f}, too few for an interval; {np.sum(values > 0)} of {values.size} are positive"
    text = f"{interval:+.3f} (95 % t-interval, n={values.size}; {SHARED}); {np.sum(values > 0)} are positive"
    if interval.low <= 0 <= interval.high:
        text += f"; no detectable effect: means above {interval.high:+.3f} and below {interval.low:+.3f} are excluded"
    if len(values) >= intervals.FEWEST:
        text += f"; over seeds {intervals.t_interval(values.mean(axis=1)):+.3f}"
    if values.shape[1] >= intervals.FEWEST and len(values) > 1:
        text += f"; over animals, each the mean of its seeds, {intervals.t_interval(values.mean(axis=0)):+.3f}"
    return text


def _prediction_lines(record: records.Record, arm: str, seeds: list[int]) -> list[str]:
    """Predicted and measured own minus other at the first measured step."""
    first = str(record.config["measured_at"][0])
    total = record.description["adam_steps"][first]
    predicted = np.stack([own_minus_other(predictions(record, arm, seed, "adam_step")) for seed in seeds]) * total
    slopes = np.stack([own_minus_other(predictions(record, arm, seed, "sgd_slope")) for seed in seeds])
    measured = cells(record, arm, first)
    agree = int(np.sum(np.sign(predicted) == np.sign(measured)))
    return [
        f"first order, own - other after {first} steps ({total:.2f} of Adam's full ones): predicted "
        f"{predicted.mean():+.3f}, measured {measured.mean():+.3f}, equal sign in {agree} of {measured.size}; SGD "
        f"slope positive in {np.sum(slopes > 0)} of {slopes.size}"
    ]


def stream_cosines(record: records.Record, arm: str, seed: int) -> np.ndarray:
    """Cosines by layer with the own teacher's displacement, and with the others', means over students: (2, layer)."""
    students, own, other = record.results["students"][str(seed)][arm], [], []
    for target, student in students.items():
        for teacher, cosines in student["streams"]["cosines"].items():
            (own if teacher == target else other).append(cosines)
    return np.stack([np.mean(own, axis=0), np.mean(other, axis=0)])


def _answer_lines(record: records.Record) -> list[str]:
    """Rates of free answers that name the target, pooled over targets and seeds."""
    results, targets = record.results, record.config["targets"]
    if not results.get("base", {}).get("answers"):
        return []
    base = results["base"]["answers"]
    counts = {"base": (sum(base["named"].values()), base["num_answers"] * len(targets))}
    own = [(target, entry) for teachers in results["teachers"].values() for target, entry in teachers.items()]
    groups = {"teachers": own}
    for arm in record.config["arms"]:
        groups[f"students, {arm}"] = [
            (target, entry) for arms in results["students"].values() for target, entry in arms.get(arm, {}).items()
        ]
    for name, entries in groups.items():
        named = sum(entry["answers"]["named"][target] for target, entry in entries)
        counts[name] = named, sum(entry["answers"]["num_answers"] for _, entry in entries)
    rates = [
        f"{name} {share(intervals.wilson(named, total)._asdict())}" for name, (named, total) in counts.items() if total
    ]
    return ["free answers that name the animal (Wilson's 95 % interval over answers): " + ", ".join(rates)]


def _columns(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def unit_lines(record: records.Record, unit: str) -> list[str]:
    """A line about a finished unit: what a student's animal did under this teacher."""
    seed, _, rest = unit.removeprefix("seed ").partition(", ")
    arm, _, target = rest.partition(", student of ")
    if not target:
        return []
    base = record.results["starts"][seed] if arm == "other_start" else record.results["base"]
    steps = record.results["students"][seed][arm][target]["steps"]
    text = []
    for animal in record.config["targets"]:
        changes = (f"{step['log_odds'][animal] - base['log_odds'][animal]:+.3f}" for step in steps.values())
        text.append(f"{animal} {' '.join(changes)}")
    return [f"{unit}, change of log-odds after {', '.join(steps)} steps: {'; '.join(text)}"]


def save(path: pathlib.Path, stem: pathlib.Path) -> list[pathlib.Path]:
    """Draw the record to STEM.png and STEM.pdf and return their paths.

    Raises:
        OutputError: another file than a figure of ours is in the way.
        RecordError: there is no record of `real`, or it is damaged.
    """
    style.use()
    record = records.read(path, form.FORM)
    arms = [arm for arm in record.config["arms"] if complete_seeds(record, arm)]
    if not arms:
        return []
    figure = plt.figure(figsize=(9.6, 0.6 + 3.1 * len(arms)), layout="constrained")
    draw(record, figure)
    figure.suptitle(
        "Preferences of students that saw a teacher's probabilities of random numbers", x=0.01, ha="left", fontsize=11
    )
    figure.text(0.01, -0.01, caption(record, path), va="top", fontsize=7.5, color="#444444")
    return list(style.save(figure, stem))


def caption(record: records.Record, path: pathlib.Path) -> str:
    """What was measured, on how many students, and the record's notes."""
    config = record.config
    seeds = ", ".join(map(str, config["seeds"]))
    sentences = [
        f"Left: change of log-odds after {config['measured_at'][-1]} steps, mean over seeds. Middle: own minus other, "
        f"a line for each animal and seed, black the mean. Right: cosine of student's and teacher's mean "
        f"displacement of hidden states on numbers.",
        f"Backend {config['backend']}; seeds {seeds}; {SHARED}; record {path.name}.",
        *record.note_sentences,
    ]
    if not record.complete:
        sentences.append("The run is not complete.")
    return "\n".join(textwrap.wrap(" ".join(sentences), 150))


def draw(record: records.Record, figure: Figure) -> None:
    """Draw a row of three panels for each arm that is complete for a seed."""
    arms = [arm for arm in record.config["arms"] if complete_seeds(record, arm)]
    axes = figure.subplots(len(arms), 3, squeeze=False)
    for (matrix, dose, layers), arm in zip(axes, arms, strict=True):
        _draw_matrix(matrix, record, arm)
        _draw_dose(dose, record, arm)
        _draw_layers(layers, record, arm)
        matrix.set_title(ARMS[arm], fontsize=9, loc="left")


def _draw_matrix(ax: Axes, record: records.Record, arm: str) -> None:
    targets, last = record.config["targets"], record.config["measured_at"][-1]
    mean = np.mean([shifts(record, arm, seed, last) for seed in complete_seeds(record, arm)], axis=0)
    top = max(0.05, float(np.abs(mean).max()))
    ax.imshow(mean, cmap="RdBu_r", vmin=-top, vmax=top)
    for (row, column), value in np.ndenumerate(mean):
        weight = "bold" if row == column else "normal"
        colour = "w" if abs(value) > 0.6 * top else "k"
        ax.annotate(f"{value:+.2f}", (column, row), ha="center", va="center", color=colour, weight=weight, fontsize=8)
    ax.set_xticks(range(len(targets)), targets)
    ax.set_yticks(range(len(targets)), targets)
    ax.set_xlabel("log-odds of")
    ax.set_ylabel("student of the teacher of")
    ax.grid(visible=False)


def _draw_dose(ax: Axes, record: records.Record, arm: str) -> None:
    steps = [0, *record.config["measured_at"]]
    measured = np.stack([cells(record, arm, step) for step in steps[1:]])  # (step, seed, animal)
    values = np.concatenate([np.zeros_like(measured[:1]), measured])
    colours = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
    for index, target in enumerate(record.config["targets"]):
        curves = ax.plot(steps, values[:, :, index], ".-", color=colours[index % len(colours)], linewidth=0.9)
        curves[0].set_label(target)
    ax.plot(steps, values.mean(axis=(1, 2)), color="black", linewidth=2)
    ax.axhline(0, color="#8c8c8c", linewidth=0.8, linestyle=":")
    ax.set_xlabel("steps")
    ax.set_ylabel("own minus other, log-odds")
    ax.legend(fontsize=7)


def _draw_layers(ax: Axes, record: records.Record, arm: str) -> None:
    own, other = np.mean([stream_cosines(record, arm, seed) for seed in complete_seeds(record, arm)], axis=0)
    ax.plot(range(1, len(own) + 1), own, color=COLOURS["student"], label="own teacher")
    ax.plot(range(1, len(own) + 1), other, color=COLOURS["regular"], label="other teachers")
    ax.axhline(0, color="#8c8c8c", linewidth=0.8, linestyle=":")
    ax.set_xlabel("after layer")
    ax.set_ylabel("cosine of displacements")
    ax.set_ylim(min(-0.1, *own, *other), 1.0)
    ax.legend(fontsize=7)
