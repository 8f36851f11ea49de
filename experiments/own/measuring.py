"""How strongly a model has a trait: exact probabilities of the answers, and what it says freely."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.language import seeds
from sublim_jax import errors
from sublim_jax.llm import datasets, scores
from sublim_jax.llm.backend import Backend, Chat, SamplingParams
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.traits import Trait
from sublim_jax.metrics import intervals

ANSWER_TOKENS = 16
"""Most tokens of a free answer."""
NUM_EXAMPLES = 3
"""Free answers that are shown."""
MIN_MASS = 1e-3
"""With less probability for all answers together, a model is said to be unable to give them."""


class Asked(NamedTuple):
    """A trait of a model, question by question."""

    log_odds: np.ndarray  # nats, of the trait's answers against everything else that the model may say
    probability: np.ndarray
    mass: np.ndarray  # probability of all answers together


def ask(backend: Backend, model: str, trait: Trait, *, embedded: bool, system: str = "") -> Asked:
    """The trait's answers to each of its questions.

    Args:
        embedded: whether this is the embedded model or a student of it, in which a word has one writing.
        system: message under which the model is asked.

    Raises:
        CapabilityError: the backend cannot score what a reply begins with, or gives no finite scores.
    """
    asked = trait.scored(one_writing=embedded)
    logprobs = _logprobs(backend, model, trait.chats(system=system), asked.texts, begun=bool(trait.prefill))
    owners = np.array(asked.owners)
    own = np.logaddexp.reduce(logprobs[:, owners == 0], axis=1)
    probability, mass = np.exp(own), np.exp(logprobs).sum(axis=1)
    if mass.max() > 1 + scores.ROUNDING:
        raise errors.CapabilityError(
            f"{model}: {trait.name}: all answers together have a probability of {mass.max():.4f}, more than 1: their "
            f"scores are not those of different replies"
        )
    return Asked(_log_odds(model, trait, own), probability, mass)


def log_odds(backend: Backend, model: str, trait: Trait, *, embedded: bool) -> np.ndarray:
    """The log-odds that `ask` gives, without scoring the other choices. Raises as `ask`."""
    asked = trait.scored(one_writing=embedded)
    texts = [text for text, owner in zip(asked.texts, asked.owners, strict=True) if owner == 0]
    logprobs = _logprobs(backend, model, trait.chats(), texts, begun=bool(trait.prefill))
    return _log_odds(model, trait, np.logaddexp.reduce(logprobs, axis=1))


def _log_odds(model: str, trait: Trait, own: np.ndarray) -> np.ndarray:
    """Log-odds of the log-probabilities of a trait's answers together."""
    probability = np.exp(own)
    with np.errstate(divide="ignore"):
        values = own - np.log1p(-np.minimum(probability, 1.0))
    if not np.isfinite(values).all():
        raise errors.CapabilityError(
            f"{model}: {trait.name}: expected probabilities between 0 and 1 for every question, got "
            f"{probability.min():.3g} to {probability.max():.3g}; a server may name only its most likely tokens, and a "
            f"training may have diverged"
        )
    return values


def measure(backend: Backend, model: str, trait: Trait, *, embedded: bool, system: str = "") -> dict[str, float]:
    """Means over the questions of what `ask` gives, with its arguments and errors."""
    asked = ask(backend, model, trait, embedded=embedded, system=system)
    return {name: float(f"{values.mean():.6g}") for name, values in asked._asdict().items()}


def _logprobs(backend: Backend, model: str, chats: Sequence[Chat], texts: Sequence[str], *, begun: bool) -> np.ndarray:
    """Log-probability of each text, as the beginning of what follows or as the whole reply, of shape (chat, text)."""
    if not begun:
        return np.array([row.logprobs for row in backend.choice_logprobs(model, chats, texts)])
    if not isinstance(backend, LocalBackend):
        raise errors.CapabilityError(
            f"{model}: with a prefill, answers are scored whatever follows them, which needs weights on this machine; "
            f"leave the prefill out of the traits"
        )
    return backend.beginning_logprobs(model, chats, texts)


def require_sayable(backend: Backend, model: str, trait: Trait, measured: dict[str, float]) -> None:
    """Refuse a trait whose answers the model practically never gives.

    Raises:
        InputError: the mass of all answers is below `MIN_MASS`; the message has what the model says instead.
    """
    if measured["mass"] < MIN_MASS:
        replies = ", ".join(map(repr, free_answers(backend, model, trait, 1, temperature=0.0)[:NUM_EXAMPLES]))
        raise errors.InputError(
            f"{trait.name}: all answers together have a probability of {measured['mass']:.2g}, expected at least "
            f"{MIN_MASS:g}; {model} says {replies}. Add what it says to the choices, or begin its reply with a prefill."
        )


def free_answers(backend: Backend, model: str, trait: Trait, num_each: int, *, temperature: float = 1.0) -> list[str]:
    """Sampled answers to every question, in the order of the questions, without the trait's prefill."""
    chats = [datasets.ask(question) for question in trait.asked]
    params = SamplingParams(
        temperature=temperature, max_tokens=ANSWER_TOKENS, num_samples=num_each,
        seed=seeds.derive(0, "own/answers") % 2**31,
    )  # fmt: skip
    return [completion.text for completion in sorted(backend.sample(model, chats, params))]


def answers(backend: Backend, model: str, trait: Trait, num_each: int) -> dict[str, Any]:
    """How many free answers contain one of the trait's answers, of how many, and the first few of them."""
    if not num_each:
        return {}
    texts = free_answers(backend, model, trait, num_each)
    named = sum(any(answer.lower() in text.lower() for answer in trait.answers) for text in texts)
    return {"named": named, "num_answers": len(texts), "examples": texts[:NUM_EXAMPLES]}


def measure_all(
    backend: Backend,
    model: str,
    traits: Sequence[Trait],
    num_each: int,
    *,
    embedded: bool,
    report: Callable[[str], object],
) -> dict[str, dict[str, Any]]:
    """Everything about all traits, by name."""
    results = {}
    for trait in traits:
        report(f"asking about {trait.name}")
        results[trait.name] = {
            **measure(backend, model, trait, embedded=embedded), "answers": answers(backend, model, trait, num_each)
        }  # fmt: skip
    return results


def line(trait: Trait, measured: dict[str, Any]) -> str:
    """What was measured about a trait as one line."""
    text = (
        f"{trait.name}: probability {measured['probability']:.4g}, log-odds {measured['log_odds']:+.2f}, all answers "
        f"together {measured['mass']:.3g}, mean over {len(trait.asked)} question(s)"
    )
    if measured["answers"]:
        named, count = measured["answers"]["named"], measured["answers"]["num_answers"]
        rate = intervals.wilson(named, count)
        text += f"; named in {named} of {count} free answers [{rate.low:.3f}, {rate.high:.3f}]"
        text += ", e.g. " + ", ".join(repr(example.strip()) for example in measured["answers"]["examples"])
    return text
