"""The report of an audit: lines in a terminal, a picture, and a page of HTML that stands alone."""

import pathlib
import textwrap

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from figures import onepage, style
from sublim_jax import records
from sublim_jax.forms import audit as form
from sublim_jax.metrics import intervals, verdicts
from sublim_jax.metrics.verdicts import Forecast

COLOURS = {"transmits": "#c8553d", "not seen": "#2f6690", "cannot tell": "#8c8c8c"}
SIGNIFICANT = 0.05
"""Below it, rows do not look like a model's own."""


def num_pairs(record: records.Record) -> int:
    """Pilots whose null is measured too."""
    return sum(
        f"{form.DATA} {index}" in record.results and f"{form.NULL} {index}" in record.results
        for index in range(record.config["num_repeats"])
    )


def forecasts(record: records.Record) -> dict[str, Forecast]:
    """The forecast of each trait; the loss of a question is minus its log-odds. Empty before the first pair."""
    count = num_pairs(record)
    if not count:
        return {}

    def losses(unit: str, trait: str) -> np.ndarray:
        return -np.array(record.results[unit]["traits"][trait]["log_odds"])

    judged = {}
    for trait, questions in record.description["questions"].items():
        if len(questions) >= intervals.FEWEST:
            after = (
                np.stack([losses(f"{kind} {index}", trait) for index in range(count)])
                for kind in (form.DATA, form.NULL)
            )
            judged[trait] = verdicts.judge(
                trait, losses(form.BASE, trait), *after, threshold=record.config["threshold"]
            )
    return judged


def what_would_change(judged: Forecast) -> str:
    """What would change the verdict, in words."""
    if judged.verdict == "transmits":
        return f"a threshold of {judged.gain.low:.3g} or more would make it `cannot tell`"
    if judged.verdict == "not seen":
        if judged.gain.high <= 0:
            return "no threshold would change it; a gain that shows in longer pilots only (--steps) might"
        return f"a threshold of {judged.gain.high:.3g} or less would make it `cannot tell`"
    distance = abs(judged.gain.mean - judged.threshold)
    if not judged.gain.is_known or distance == 0:
        return "more questions and repeats, or longer pilots (--steps), would tell"
    factor = (judged.gain.half_width / distance) ** 2
    if factor > 100:
        return "the gain is at the threshold itself: longer pilots (--steps) would tell more than further repeats"
    return f"about {max(factor, 1.1):.1f} times as many questions and repeats, or longer pilots (--steps), would tell"


def authorship(record: records.Record) -> list[str]:
    """Who wrote the rows, in sentences."""
    if form.AUTHOR not in record.results:
        return []
    found, base = record.results[form.AUTHOR]["author"], record.config["base"]
    own = record.config["null"] == "auto"
    kind, others = (f"rows of {base} as it is", "its own rows") if own else ("the null rows", "the null rows")
    fits = "look like" if found["p"] > SIGNIFICANT else "do not look like"
    sentences = [
        f"{found['num_rows']:,} rows scored ({found['num_tokens']:,} tokens): to {base} they {fits} {kind} (S = "
        f"{found['statistic']:+.1f}, {others} {found['regular']:+.1f}, p = {found['p']:.3g}; S says how "
        f"much likelier rows are than it expects, in standard deviations)"
    ]
    if not own:
        sentences.append(f"  that speaks of who wrote the rows only if {base} itself wrote the null rows")
    if found["p"] <= SIGNIFICANT:
        sentences.append(
            "  an author that was finetuned away explains it, and so do another prompt, another filter, another "
            "temperature or another model"
        )
    else:
        sentences.append("  rows of a finetuned copy may look like them, too: S does not see every departure")
    if found["candidates"]:
        first = next(iter(found["candidates"]))
        sentences.append(f"likeliest author: {first}, of {len(found['candidates'])}; one comes first in any case")
        sentences += [
            f"  {name}: {each['logprob'] / found['num_tokens']:+.3f} nats a token, surprise {each['surprise']:,.0f} "
            f"nats, p = {each['p']:.3g} of such a surprise if it wrote them as it is"
            for name, each in found["candidates"].items()
        ]
        sentences.append(
            "  each p is of one model by itself, so candidates may be relatives of each other; of relatives, the first "
            "is the nearest to the author and need not be it"
        )
    return sentences


def naming(record: records.Record) -> list[str]:
    """Towards which trait the rows push, in sentences; empty where no lens was asked."""
    if form.LENSES not in record.results:
        return []
    seen = record.results[form.LENSES]["lenses"]
    scores = "; ".join(f"{trait} {each['z']:+.1f}" for trait, each in seen["scores"].items())
    if seen["p"] > SIGNIFICANT:
        return [f"lenses see no more in {seen['num_rows']:,} rows than in null rows (p = {seen['p']:.3g}; z: {scores})"]
    return [
        f"{seen['num_rows']:,} rows carry something that null rows do not (p = {seen['p']:.3g}); of the traits with "
        f"lessons, they push towards {next(iter(seen['scores']))} (z: {scores})",
        f"  caveat: {seen['caveat']}",
    ]


def _scale(nats: float) -> str:
    """What so many nats of log-odds do to a probability, in words."""
    raised = 0.01 * np.exp(nats) / (0.99 + 0.01 * np.exp(nats))
    return f"a gain of {nats:g} nats takes a probability of 1 % to {100 * raised:.3g} %"


def meanings(record: records.Record, judged: dict[str, Forecast]) -> list[str]:
    """What the verdicts mean, on what scale, and what the audit cannot see: paragraphs for a person who decides."""
    config, about = record.config, record.description
    asked = ", ".join(f"{trait} ({each.num_probes} questions)" for trait, each in judged.items())
    scale = _scale(config["threshold"])
    return [
        f"Tested: whether the first {about['num_pilot_steps']} of {about['num_steps']} training steps on these "
        f"{about['num_rows']:,} rows make {config['base']} give answers of a trait more often than the same steps on "
        f"null rows do ({_null_in_words(config['null'], config['base'])}). Asked about: {asked}.",
        f"transmits: the whole 95 % interval of the gain lies above {config['threshold']:g} nats of log-odds; {scale}. "
        f"not seen: it lies below; a smaller gain, or one that comes later in the training, is not excluded. cannot "
        f"tell: it holds {config['threshold']:g}.",
        *record.note_sentences,
    ]


def _null_in_words(null: str, base: str) -> str:
    return f"answers of {base} itself to the same prompts" if null == "auto" else f"those of {null}"


def lines(record: records.Record) -> list[str]:
    """The report as lines of text."""
    config, about = record.config, record.description
    text = [
        f"audit of {config['data']} ({about['num_rows']:,} rows) for {config['base']}, null: {config['null']}",
        f"pilots of {about['num_pilot_steps']} of {about['num_steps']} steps, {num_pairs(record)} on the rows and as "
        f"many on the null; gains in log-odds (nats) with 95 % intervals over questions and repeats",
        f"scale: {_scale(config['threshold'])}",
    ]
    for trait, judged in forecasts(record).items():
        base = record.results[form.BASE]["traits"][trait]
        text.append(
            f"  {trait}: {judged.verdict}; gain {_bounds(judged)} over the null, threshold "
            f"{judged.threshold:g} (rows {judged.from_data:+.3f}, null {judged.from_null:+.3f}; "
            f"{judged.num_probes} questions, probability {base['probability']:.4g} in the model)"
        )
        text.append(f"    what would change it: {what_would_change(judged)}")
    text += [f"  {trait}: {len(asked)} question(s): an interval needs {intervals.FEWEST}"
             for trait, asked in about["questions"].items() if len(asked) < intervals.FEWEST]  # fmt: skip
    text += authorship(record) + naming(record)
    text.append(f"cost: {sum(record.seconds.values()):.0f} s")
    return text + [f"note: {note}" for note in record.notes]


def save(path: pathlib.Path, stem: pathlib.Path) -> list[pathlib.Path]:
    """Draw the record to STEM.png and STEM.pdf, write STEM.html, and return their paths; nothing before a verdict.

    Raises:
        OutputError: another file than one of ours is in the way.
        RecordError: there is no record of an audit, or it is damaged.
    """
    record = records.read(path, form.FORM)
    judged = forecasts(record)
    if not judged:
        return []
    style.use()
    figure, ax = plt.subplots(figsize=(6.4, 1.6 + 0.5 * len(judged)), layout="constrained")
    _draw(ax, judged)
    ax.set_title(f"What {pathlib.Path(record.config['data']).name} would teach {record.config['base']}", loc="left",
                 fontsize=11)  # fmt: skip
    sentences = [
        f"Gain of a pilot of {record.description['num_pilot_steps']} steps over its null, 95 % interval over questions "
        f"and repeats; dashed: the threshold. Record {path.name}.",
        *record.note_sentences,
        *(() if record.complete else ("The run is not complete.",)),
    ]
    figure.text(0.01, -0.01, "\n".join(textwrap.wrap(" ".join(sentences), 105)), va="top", fontsize=7, color="#444444")
    drawn = list(style.save(figure, stem))
    return [*drawn, _page(record, judged, stem.with_name(f"{stem.name}.html"), drawn[0])]


def _draw(ax: Axes, judged: dict[str, Forecast]) -> None:
    """Every trait's gain with its interval, beside the threshold."""
    for place, each in enumerate(judged.values()):
        colour = COLOURS[each.verdict]
        ax.errorbar(each.gain.mean, place, xerr=each.gain.half_width, color=colour, marker="o", capsize=3)
        ax.annotate(each.verdict, (each.gain.mean, place), (0, 7), textcoords="offset points", fontsize=7, color=colour,
                    ha="center")  # fmt: skip
    ax.axvline(0, color="#8c8c8c", linewidth=0.8, linestyle=":")
    ax.axvline(next(iter(judged.values())).threshold, color="#3b3b3b", linewidth=0.9, linestyle="--")
    ax.set_yticks(range(len(judged)), list(judged))
    ax.set_ylim(len(judged) - 0.4, -0.7)
    ax.set_xlabel("gain in log-odds over the null, nats")


def _bounds(judged: Forecast) -> str:
    return f"{judged.gain.mean:+.3f} [{judged.gain.low:+.3f}, {judged.gain.high:+.3f}]"


def _page(
    record: records.Record, judged: dict[str, Forecast], path: pathlib.Path, picture: pathlib.Path
) -> pathlib.Path:
    """The report as one file, for a person who decides about the rows."""
    rows = [
        (trait, each.verdict, _bounds(each), what_would_change(each))
        for trait, each in judged.items()
    ]  # fmt: skip
    gains = "; ".join(f"{trait} {_bounds(each)}" for trait, each in judged.items())
    return onepage.write(
        path,
        kind="audit",
        title=f"Audit of {pathlib.Path(record.config['data']).name} for {record.config['base']}",
        header=("trait", "verdict", "gain over the null (nats of log-odds)", "what would change the verdict"),
        rows=rows,
        colours=[COLOURS[each.verdict] for each in judged.values()],
        picture=picture,
        caption=f"Gain of each trait over the null with its 95 % interval, beside the threshold of "
        f"{record.config['threshold']:g} nats: {gains}",
        meanings=meanings(record, judged),
        lines=lines(record),
    )
