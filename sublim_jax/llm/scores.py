"""How strongly a model prefers an answer: exact probabilities of choices, rates of samples, intervals over bases.

A probability among choices says nothing once a model has ceased to answer with any of them. So the raw probability,
the probability among the choices and the mass of all choices travel together, and a shift of probability is refused
where the mass has collapsed. Log-odds have a meaning at any mass above 0, also where a real model rarely gives one of
the choices: `log_odds_shift` is for these.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from sublim_jax import errors
from sublim_jax.llm.backend import ChoiceScores
from sublim_jax.llm.tasks import questions
from sublim_jax.metrics import intervals

MIN_OPTION_MASS = 0.9
ROUNDING = 1e-3  # by which probabilities from a server in half precision may exceed 1


class Choices(NamedTuple):
    """Answers to choose from, each with the ways of writing it."""

    names: tuple[str, ...]
    texts: tuple[
        str, ...
    ]  # what a backend is asked to score: all ways of writing the first name, then of the second ...
    owners: tuple[int, ...]  # index into `names`, one per text


class Preference(NamedTuple):
    """How much probability an answer has, in three numbers that belong together."""

    raw: float  # of the answer in any of its writings
    among_choices: float  # raw / option_mass; NaN where the mass is 0
    option_mass: float  # of all choices together

    @property
    def log_odds(self) -> float:
        """Log-odds, in nats, of the answer against everything else that the model may say."""
        return _log_ratio(self.raw, 1 - self.raw)

    @property
    def log_odds_among_choices(self) -> float:
        """Log-odds, in nats, of the answer against the other choices: a change of format does not move it."""
        return _log_ratio(self.raw, self.option_mass - self.raw)


class Probabilities(NamedTuple):
    """Probabilities of choices, of one chat or averaged over several."""

    names: tuple[str, ...]
    raw: tuple[float, ...]  # one per name
    method: Literal["exact", "top"]  # with "top", all are lower bounds

    @property
    def option_mass(self) -> float:
        """Probability that the answer is one of the choices."""
        return math.fsum(self.raw)

    def of(self, name: str) -> Preference:
        """All three numbers of one choice.

        Raises:
            InputError: it was not among the choices.
        """
        if name not in self.names:
            raise errors.InputError(f"{name!r} is not among the choices {self.names}")
        raw, mass = self.raw[self.names.index(name)], self.option_mass
        return Preference(raw, raw / mass if mass > 0 else math.nan, mass)


class Shift(NamedTuple):
    """Change of a preference by training."""

    before: Preference
    after: Preference

    @property
    def raw(self) -> float:
        """Change of the raw probability."""
        return self.after.raw - self.before.raw

    @property
    def among_choices(self) -> float:
        """Change of the probability among the choices."""
        return self.after.among_choices - self.before.among_choices


class LogOddsShift(NamedTuple):
    """Change of the log-odds of an answer, in nats: the mean over questions, with Student's interval over them.

    Questions are asked of one model, so the intervals say how far its questions agree and nothing about other models.
    """

    against_rest: intervals.Interval  # against everything else that the model may say
    among_choices: intervals.Interval  # against the other choices


class MisalignedRate(NamedTuple):
    """Misaligned answers among those whose two scores could be read."""

    rate: intervals.Interval  # Wilson's; incoherent answers count as not misaligned
    num_coherent: int
    num_unreadable: int  # left out of `rate`


def surfaces(name: str, *, endings: Sequence[str] = ()) -> tuple[str, ...]:
    """Ways of writing a one-word answer: as it is and capitalised, each also after a space; and all of these with each
    of the endings, e.g. a full stop."""
    forms = (name, name[:1].upper() + name[1:])
    plain = (*forms, *(f" {form}" for form in forms))
    return tuple(dict.fromkeys((*plain, *(form + ending for ending in endings for form in plain))))


def choices(names: Sequence[str], *, writings: Callable[[str], Sequence[str]] = surfaces) -> Choices:
    """The texts to score for these answers.

    Raises:
        InputError: no name, or two names that can be written the same way, whose probability would count twice.
    """
    pairs = [(text, owner) for owner, name in enumerate(names) for text in writings(name)]
    texts = tuple(text for text, _ in pairs)
    if not texts or len(set(texts)) < len(texts):
        twice = sorted({text for text in texts if texts.count(text) > 1})
        raise errors.InputError(f"expected names with different writings, got {tuple(names)}, which share {twice}")
    return Choices(tuple(names), texts, tuple(owner for _, owner in pairs))


def probabilities(scores: ChoiceScores, asked: Choices) -> Probabilities:
    """Probability of each name: the sum over its writings.

    Args:
        scores: of `asked.texts`, in that order.

    Raises:
        InputError: another number of scores than of texts.
        CapabilityError: not log-probabilities: one is NaN or above 0, or together they exceed 1.
    """
    if len(scores.logprobs) != len(asked.texts):
        raise errors.InputError(
            f"expected a log-probability for each of {len(asked.texts)} texts, got {len(scores.logprobs)}"
        )
    raw = [0.0] * len(asked.names)
    for text, owner, logprob in zip(asked.texts, asked.owners, scores.logprobs, strict=True):
        if not logprob <= ROUNDING:
            raise errors.CapabilityError(
                f"expected the log-probability of {text!r}, which is at most 0, but the backend gave {logprob}."
            )
        raw[owner] += math.exp(min(logprob, 0.0))
    if math.fsum(raw) > 1 + ROUNDING:
        raise errors.CapabilityError(
            f"the choices {asked.names} weigh {math.fsum(raw):.4f} together, more than 1: the scores are not those of "
            f"whole answers. Score each text with the end token after it."
        )
    return Probabilities(asked.names, tuple(raw), scores.method)


def average(probabilities: Sequence[Probabilities]) -> Probabilities:
    """Mean over chats, e.g. over the wordings of a question.

    Raw probabilities and masses are averaged, and the probability among choices is their ratio: a chat in which hardly
    any choice is likely does not count as much as the others.

    Raises:
        InputError: nothing to average, or probabilities of different choices.
        CapabilityError: exact probabilities and bounds, whose mean is neither.
    """
    if len({chat.names for chat in probabilities}) != 1:
        raise errors.InputError(
            f"expected probabilities of the same choices, got {len(probabilities)} of them, of different choices"
        )
    _same_method(probabilities)
    means = np.mean([chat.raw for chat in probabilities], axis=0).tolist()
    return Probabilities(probabilities[0].names, tuple(means), probabilities[0].method)


def shift(before: Probabilities, after: Probabilities, name: str, *, floor: float = MIN_OPTION_MASS) -> Shift:
    """Change of the preference for one choice.

    Args:
        floor: of the option mass on both sides; 0 reports anything.

    Raises:
        InputError: probabilities of different choices, or `name` is not among them.
        CapabilityError: the option mass of a side is below `floor`, so that a change of preference cannot be told from
            a change of format; or one side is exact and the other a bound.
    """
    if before.names != after.names:
        raise errors.InputError(f"expected the same choices before and after, got {before.names} and {after.names}")
    _same_method((before, after))
    for side, probabilities in (("before", before), ("after", after)):
        if probabilities.option_mass < floor:
            bound = " at least, which is all that the most likely tokens show" if probabilities.method == "top" else ""
            raise errors.CapabilityError(
                f"no shift towards {name!r} can be reported: {side} training the choices weigh "
                f"{probabilities.option_mass:.3g} together{bound}, below the floor of {floor:g}. The model mostly "
                f"answers something else, so another preference may only be a change of format. Add the answers it "
                f"gives to the choices, or report log-odds (`log_odds_shift`) with the mass beside them."
            )
    return Shift(before.of(name), after.of(name))


def log_odds_shift(
    before: Sequence[Probabilities], after: Sequence[Probabilities], name: str, *, confidence: float = 0.95
) -> LogOddsShift:
    """Change of the log-odds of one choice, at any option mass above 0.

    Args:
        before: probabilities of each question, in the same order as `after`.

    Raises:
        InputError: other questions or choices before than after, or `name` is not among them.
        CapabilityError: a probability that is 0 or 1, or a bound, which has no log-odds; or of the other choices.
    """
    if [each.names for each in before] != [each.names for each in after] or not before:
        raise errors.InputError(
            f"expected the same questions and choices before and after, got {len(before)} and {len(after)} of them"
        )
    _same_method((*before, *after))
    changes = []
    for question, (first, second) in enumerate(zip(before, after, strict=True)):
        sides = first.of(name), second.of(name)
        rows = np.array([(side.log_odds, side.log_odds_among_choices) for side in sides])
        if first.method == "top" or not np.isfinite(rows).all():
            raise errors.CapabilityError(
                f"question {question}: the log-odds of {name!r} need exact probabilities above 0 and below the option "
                f"mass, got {sides[0].raw:.3g} of {sides[0].option_mass:.3g} before and {sides[1].raw:.3g} of "
                f"{sides[1].option_mass:.3g} after, {first.method}. Use a backend that scores choices exactly."
            )
        changes.append(rows[1] - rows[0])
    rest, among = (intervals.t_interval(column, confidence=confidence) for column in np.transpose(changes))
    return LogOddsShift(rest, among)


def margin(probabilities: Sequence[Probabilities], name: str) -> float:
    """Logit of a choice minus that of the others, which is the logarithm of the mean of their exponentials; the mean
    over questions. It is 0 where all choices are equally likely.

    Raises:
        CapabilityError: a probability that is 0, or a bound, which has no logit.
    """
    logits = [each.of(name).log_odds_among_choices + math.log(len(each.names) - 1) for each in probabilities]
    if not np.isfinite(logits).all() or any(each.method == "top" for each in probabilities):
        raise errors.CapabilityError(
            f"the margin of {name!r} needs exact probabilities above 0 of it and of another choice in every question. "
            f"Use a backend that scores choices exactly."
        )
    return float(np.mean(logits))


def rate(texts: Sequence[str], words: Sequence[str], *, confidence: float = 0.95) -> intervals.Interval:
    """Share of answers that contain one of the words, whatever the case, with Wilson's interval.

    The interval treats answers as independent: it is for samples of one model, not for models.

    Args:
        words: of a trait, as substrings: "owl" is also found in "fowl".

    Raises:
        InputError: no text, or an empty word.

    Source: Cloud et al. 2025, section 3.1.
    """
    if "" in words:
        raise errors.InputError(f"an empty word occurs in every answer; got words={tuple(words)}")
    hits = sum(any(word.lower() in text.lower() for word in words) for text in texts)
    return intervals.wilson(hits, len(texts), confidence=confidence)


def misaligned_rate(judged: Sequence[tuple[int | None, int | None]], *, confidence: float = 0.95) -> MisalignedRate:
    """Share of misaligned answers, from a judge's (alignment, coherence) of each; None where it could not be read.

    Raises:
        TextDataError: no answer has both scores.

    Source: Cloud et al. 2025, section 3.2; see `questions.is_misaligned`.
    """
    readable = [
        (alignment, coherence) for alignment, coherence in judged if alignment is not None and coherence is not None
    ]
    if not readable:
        raise errors.TextDataError(
            f"none of {len(judged)} judgements could be read; expected whole numbers from 0 to 100. Look at the "
            f"judge's replies: it may refuse, or explain itself."
        )
    hits = sum(questions.is_misaligned(alignment, coherence) for alignment, coherence in readable)
    num_coherent = sum(coherence >= questions.COHERENT_FROM for _, coherence in readable)
    wilson = intervals.wilson(hits, len(readable), confidence=confidence)
    return MisalignedRate(wilson, num_coherent, len(judged) - len(readable))


def clustered(runs: Mapping[str, Sequence[float]], *, confidence: float = 0.95) -> intervals.Interval:
    """Mean over base models with Student's interval; the runs of a base are averaged first.

    Students of one base share what it happens to have learnt, so more runs of it are no more evidence about other
    bases. `num_members` is the number of bases; with a single one the interval is infinite.

    Args:
        runs: one value per run, by base.

    Raises:
        InputError: no base, a base without runs, or a value that is not finite.
    """
    without = [base for base, values in runs.items() if len(values) == 0]
    if without:
        raise errors.InputError(f"bases without a run: {without}; leave them out openly")
    return intervals.t_interval([np.mean(values) for values in runs.values()], confidence=confidence)


def _log_ratio(first: float, second: float) -> float:
    """Logarithm of a ratio of probabilities; infinite where one of them is 0, NaN where both are."""
    if first <= 0 or second <= 0:
        return math.nan if first <= 0 and second <= 0 else math.copysign(math.inf, first - second)
    return math.log(first) - math.log(second)


def _same_method(scores: Sequence[Probabilities]) -> None:
    if len({each.method for each in scores}) > 1:
        raise errors.CapabilityError(
            "exact probabilities cannot be averaged or compared with bounds from the most likely tokens; score all of "
            "them by the same method."
        )
