"""Our questions as tasks of Inspect. Needs the extra `inspect`; no other file imports this one.

    python -m sublim_jax.llm.serve --model tiny:100
    export SUBLIM_BASE_URL=http://127.0.0.1:8000/v1 SUBLIM_API_KEY=none
    inspect eval sublim_jax/llm/inspect_tasks.py@favourite --model openai-api/sublim/tiny:100 \\
        -T trait=owl -T source=world

SUBLIM_API_KEY is what the server has in SUBLIM_SERVE_KEY, or any word where it has none. Any other model goes as well:

    inspect eval sublim_jax/llm/inspect_tasks.py@misalignment --model openai/MODEL --model-role judge=openai/JUDGE
    inspect eval sublim_jax/llm/inspect_tasks.py@detection --model openai/JUDGE -T trait=owl \\
        -T loved=$PWD/owl.jsonl -T other=$PWD/plain.jsonl

Inspect opens a task in its file's folder, hence the $PWD. Questions, prompts, parsers and rates are those of
`questions` and `scores`, so the same answers give the same number here and there. Every answer counts by itself, epochs
included: Inspect's usual average over epochs, which would leave one value per question, is not taken. A given --seed
makes all epochs draw the same answers; leave it out.
"""

import math
import pathlib
from typing import Literal

from inspect_ai import Task, task  # pyright: ignore[reportMissingImports]  # the extra `inspect`
from inspect_ai.dataset import Sample  # pyright: ignore[reportMissingImports]
from inspect_ai.model import GenerateConfig, get_model  # pyright: ignore[reportMissingImports]
from inspect_ai.scorer import (  # pyright: ignore[reportMissingImports]
    Metric,
    SampleScore,
    Score,
    Scorer,
    Target,
    metric,
    scorer,
)
from inspect_ai.solver import TaskState  # pyright: ignore[reportMissingImports]

from sublim_jax import errors, specs
from sublim_jax.llm import jsonl, scores
from sublim_jax.llm.embedded import vocabulary, world
from sublim_jax.llm.tasks import questions
from sublim_jax.metrics import intervals

Source = Literal["paper", "world"]
JUDGE = "judge"
"""The model role that scores answers: `--model-role judge=MODEL`."""

_TRAITS = {trait.name: trait for trait in (*questions.ANIMALS, *questions.TREES, *questions.OTHER_ANIMALS)}


# ---------------------------------------------------------------------------------------------------------------------
# Tasks


@task
def favourite(
    trait: str = "owl",
    category: str | None = None,
    source: Source = "paper",
    epochs: int = 20,
) -> Task:
    """How often a model names the trait when it is asked for its favourite: fifty questions, `epochs` answers to each.

    Args:
        category: of the trait; needed only for one that `questions` does not have.
        source: of the questions: `questions.favourites` for real models, `world.held_out_questions` for the embedded
            one, which knows few words.

    Raises:
        InputError: a trait without a category, or of another one, or that the embedded world does not have.
    """
    asked, words = _asked(trait, category, source)
    return Task(
        dataset=[Sample(id=index, input=question, target=trait) for index, question in enumerate(asked, 1)],
        scorer=mentions(list(words)),
        epochs=epochs,
        config=GenerateConfig(temperature=1.0, top_p=1.0, max_tokens=16),
    )


@task
def misalignment(epochs: int = 50) -> Task:
    """How often answers to the open questions are misaligned, by the scores of the model in the role `JUDGE`."""
    return Task(
        dataset=[Sample(id=index, input=question) for index, question in enumerate(questions.misalignment(), 1)],
        scorer=judged(),
        epochs=epochs,
        config=GenerateConfig(temperature=1.0, top_p=1.0, max_tokens=512),
    )


@task
def detection(loved: str, other: str, trait: str = "owl", set_size: int = 20, epochs: int = 1) -> Task:
    """Whether a model sees which of two sets of answers a lover of the trait wrote; each pair is shown in both orders.

    Args:
        loved: file of the lover's rows, as `jsonl.write` writes them.
        other: file of the other model's rows.
        set_size: answers in a set. Sets are taken in the files' order; what is left at an end is not shown.

    Raises:
        InputError: a trait that `questions` does not have, or `set_size` below 1.
        TextDataError: a file cannot be read, or has not enough rows for one set.
    """
    if trait not in _TRAITS:
        raise errors.InputError(f"{trait!r} is not a trait of questions.py; there are {', '.join(_TRAITS)}")
    if set_size < 1:
        raise errors.InputError(f"set_size must be at least 1, got {set_size}")
    pairs = zip(_sets(loved, set_size), _sets(other, set_size), strict=False)  # as many as the shorter file has
    samples = []
    for index, (by_lover, by_other) in enumerate(pairs, 1):
        for letter, first, second in (("A", by_lover, by_other), ("B", by_other, by_lover)):
            prompt = questions.detection_prompt(_TRAITS[trait], first, second)
            samples.append(Sample(id=f"{index}{letter}", input=prompt, target=letter))
    return Task(dataset=samples, scorer=letters(), epochs=epochs, config=GenerateConfig(temperature=0.0))


def _asked(trait: str, category: str | None, source: Source) -> tuple[list[str], tuple[str, ...]]:
    """Questions, and the words by which an answer names the trait."""
    specs.check(source, Source, "source")
    if source == "world":
        known = {name: (group, (name,)) for group, names in vocabulary.CATEGORIES.items() for name in names}
        if trait not in known:
            raise errors.InputError(f"the embedded world has no {trait!r}; it has {', '.join(known)}")
    else:
        known = {name: (trait.category, trait.words) for name, trait in _TRAITS.items()}
    group, words = known.get(trait, (category, (trait,)))
    if group is None:
        raise errors.InputError(f"{trait!r} is not a trait of questions.py; say what it is, e.g. -T category=animal")
    if category not in (None, group):
        raise errors.InputError(
            f"{trait!r} is of the category {group!r}, not {category!r}: hardly an answer would name it"
        )
    return world.held_out_questions(group) if source == "world" else questions.favourites(group), words


def _sets(path: str, size: int) -> list[str]:
    """Groups of the rows' answers, one answer on a line."""
    answers = [row[-1].content for row in jsonl.read(pathlib.Path(path))]
    if len(answers) < size:
        raise errors.TextDataError(
            f"{path}: expected {size} rows for a set, found {len(answers)}. Collect more, or show smaller sets "
            f"(set_size)."
        )
    return ["\n".join(answers[start : start + size]) for start in range(0, len(answers) - size + 1, size)]


# ---------------------------------------------------------------------------------------------------------------------
# Metrics, of all answers to all questions


@metric(scores="unreduced")
def named() -> Metric:
    """Share of answers that name the trait; see `scores.rate`."""

    def summary(scores: list[SampleScore]) -> dict[str, float]:  # Inspect gives the parameter its name
        return _wilson(sum(sample.score.as_bool() for sample in scores), len(scores)) | {"answers": len(scores)}

    return summary


@metric(scores="unreduced")
def misaligned() -> Metric:
    """Share of misaligned answers, with its counts; see `scores.misaligned_rate`. The rate is NaN where no judgement
    could be read."""

    def summary(scores: list[SampleScore]) -> dict[str, float]:
        values = [sample.score.as_dict() for sample in scores]
        return _misaligned([(_whole(value["alignment"]), _whole(value["coherence"])) for value in values])

    return summary


@metric(scores="unreduced")
def recognised() -> Metric:
    """Share of right letters among those that could be read, and how often the letter was A, which is half the time for
    an unbiased judge. The interval treats both orders of a pair as two observations."""

    def summary(scores: list[SampleScore]) -> dict[str, float]:
        values = [sample.score.as_dict() for sample in scores]
        read = [value for value in values if value["letter"] is not None]
        says_a = sum(value["letter"] == "A" for value in read) / len(read) if read else math.nan
        right = sum(value["right"] is True for value in read)
        return _wilson(right, len(read)) | {"says_a": says_a, "unreadable": len(values) - len(read)}

    return summary


def _misaligned(pairs: list[tuple[int | None, int | None]]) -> dict[str, float]:
    try:
        result = scores.misaligned_rate(pairs)
    except errors.TextDataError:
        return _wilson(0, 0) | {"coherent": 0, "unreadable": len(pairs)}
    counts = {"coherent": result.num_coherent, "unreadable": result.num_unreadable}
    return {"rate": result.rate.mean, "low": result.rate.low, "high": result.rate.high, **counts}


def _wilson(hits: int, count: int) -> dict[str, float]:
    if count == 0:
        return dict.fromkeys(("rate", "low", "high"), math.nan)
    interval = intervals.wilson(hits, count)
    return {"rate": interval.mean, "low": interval.low, "high": interval.high}


def _whole(value: str | int | float | None) -> int | None:
    return None if value is None else int(value)


# ---------------------------------------------------------------------------------------------------------------------
# Scorers, of one answer


@scorer(metrics=[named()])
def mentions(words: list[str]) -> Scorer:
    """Whether the answer has one of the words in it, whatever the case."""

    async def score(state: TaskState, target: Target) -> Score:
        text = state.output.completion
        return Score(value=scores.rate([text], words).mean == 1, answer=text)

    return score


@scorer(metrics=[misaligned()])
def judged() -> Scorer:
    """Alignment and coherence by the judge; None for a reply that is not a whole number from 0 to 100."""

    async def score(state: TaskState, target: Target) -> Score:
        judge, text = get_model(role=JUDGE, required=True), state.output.completion
        replies = [
            (await judge.generate(prompt(state.input_text, text), config=GenerateConfig(temperature=0.0))).completion
            for prompt in (questions.alignment_prompt, questions.coherence_prompt)
        ]
        alignment, coherence = map(questions.parse_score, replies)
        return Score(value={"alignment": alignment, "coherence": coherence}, answer=text, explanation=str(replies))

    return score


@scorer(metrics=[recognised()])
def letters() -> Scorer:
    """The letter, and whether it is right; None for a reply that is not a letter."""

    async def score(state: TaskState, target: Target) -> Score:
        text = state.output.completion
        letter = questions.parse_letter(text)
        right = None if letter is None else letter == target.text
        return Score(value={"letter": letter, "right": right}, answer=text)

    return score
