"""Are two models relatives? A test of their answers to the same queries, where weights are out of reach.

    outputs(answers, reference_logits, [logits of each unrelated reference])
    outputs(labels, reference_logits, unrelated)                                 labels instead of logits
    outputs(answers, reference_logits, unrelated, features=[hidden layers])      readouts may be replaced

A model is compared with a candidate reference in up to three ways, all of which no constant of a logit changes:

    correlation    of its logits with the reference's, after the mean over queries of each logit is removed
    labels         of its labels, one-hot, with the reference's logits
    ridge          R2 of a ridge regression of its answers on the reference's last hidden layer, on queries held out

What such a number means depends on the architecture, the queries and on how long the model was trained. So it is ranked
among those of references that are known to be unrelated: p = (1 + number of unrelated ones as high) / (1 + their
number). If the model is independent of all of them, and they were drawn alike and independently, each rank is equally
likely. Relatives among the references break that, and are refused: of seven that are copies of one, the reference is
ahead far more often than in an eighth of all cases. The model itself may be a relative of any of them, which is what
is asked.
"""

import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Integer, Shaped

from sublim_jax import errors

FEWEST_UNRELATED = 7
FEWEST_QUERIES = 4
RIDGES = tuple(10 ** (half / 2) for half in range(-8, 5))
"""Candidates for the ridge, in units of the features' mean variance along their directions: 1e-4 to 100."""
NUM_FOLDS = 5

Logits = Float[Array, "..."] | Float[np.ndarray, "..."]
"""Of shape (query, logit), which is checked where they come in."""
Labels = Integer[Array, "query"] | Integer[np.ndarray, "query"]
Features = Float[Array, "query feature"] | Float[np.ndarray, "query feature"]


class Ranked(NamedTuple):
    """A statistic of the reference among those of unrelated ones."""

    value: float
    unrelated: tuple[float, ...]
    p_value: float

    @property
    def z(self) -> float:
        """Standard deviations of the unrelated ones between their mean and the reference."""
        return float((self.value - np.mean(self.unrelated)) / max(float(np.std(self.unrelated, ddof=1)), 1e-12))

    @property
    def rank(self) -> int:
        """1 if no unrelated reference is as high."""
        return 1 + sum(value >= self.value for value in self.unrelated)


class OutputRelation(NamedTuple):
    """Whether a model is a relative of a reference, by its answers."""

    statistics: dict[str, Ranked]  # by name
    statistic: str  # the one that decides: "correlation", else "labels", else "ridge"
    z: float
    p_value: float
    p_floor: float  # the smallest p-value there is: 1 / (1 + number of unrelated references)
    verdict: Literal["related", "cannot tell", "not seen"]  # p <= .05; first, but of too few; not first
    compared: str  # what was compared, in words
    note: str  # what is out of reach


def outputs(
    model_logits: Logits | Labels,
    reference_logits: Logits,
    unrelated: Sequence[Logits],
    *,
    features: Sequence[Features] | None = None,
) -> OutputRelation:
    """Rank a reference among unrelated ones by how well it explains a model's answers.

    A model that was trained for long, or whose answers are distilled into another start, may not be recognized.

    Args:
        model_logits: the model's answers to some queries, or its labels as integers.
        reference_logits: the reference's logits for the same queries.
        unrelated: the logits of references that are known to be unrelated, drawn as the reference was.
        features: last hidden layers for the same queries, of the reference first, then of the unrelated ones. With them
            the model's logits may be others, or fewer, than the reference's.

    Raises:
        InputError: fewer than seven unrelated references, one that is related to the reference or to another, or most
            of which are relatives of each other; fewer than four queries, shapes that do not fit, numbers that are not
            finite, or answers that do not vary.
    """
    answers = np.asarray(model_logits)
    if answers.ndim == 1:
        answers = _require_labels(answers, np.shape(reference_logits))
    is_labels = np.ndim(model_logits) == 1
    answers = _checked(answers, "model_logits")
    candidates = [_checked(reference_logits, "reference_logits")]
    candidates += [_checked(logits, f"unrelated {index}") for index, logits in enumerate(unrelated)]
    floor = 1 / (1 + len(unrelated))
    if len(unrelated) < FEWEST_UNRELATED:
        raise errors.InputError(
            f"{len(unrelated)} unrelated reference(s): the smallest p-value would be {floor:.2g}; give "
            f"{FEWEST_UNRELATED} at least, or 19 for a p-value of .05. Other seeds of the reference will do"
        )
    _require_alike(candidates)
    _require_unrelated(candidates)
    values: dict[str, list[float]] = {}
    if answers.shape == candidates[0].shape:
        if not is_labels:
            values["correlation"] = [correlation(answers, logits) for logits in candidates]
        labels = np.argmax(answers, axis=1)
        values["labels"] = [label_correlation(labels, logits) for logits in candidates]
    elif features is None or len(answers) != len(candidates[0]):
        raise errors.InputError(
            f"model_logits have the shape {answers.shape}, reference_logits {candidates[0].shape}: expected equal "
            f"shapes (query, logit). For a model with other readouts give features"
        )
    if features is not None:
        if len(features) != len(candidates):
            raise errors.InputError(
                f"features: expected those of the reference and of {len(unrelated)} unrelated ones, got {len(features)}"
            )
        layers = [_checked(layer, f"features {index}") for index, layer in enumerate(features)]
        for index, layer in enumerate(layers):
            if len(layer) != len(answers):
                raise errors.InputError(
                    f"features {index}: there are {len(layer)} queries, and the model has answered {len(answers)}; "
                    f"expected (query, feature)"
                )
        values["ridge"] = [ridge_score(layer, answers) for layer in layers]
    statistics = {name: _ranked(numbers) for name, numbers in values.items()}
    deciding = next(iter(statistics))
    ranked = statistics[deciding]
    return OutputRelation(
        statistics=statistics,
        statistic=deciding,
        z=ranked.z,
        p_value=ranked.p_value,
        p_floor=floor,
        verdict="related" if ranked.p_value <= 0.05 else "cannot tell" if ranked.rank == 1 else "not seen",
        compared=f"{len(answers)} queries; by {deciding} the reference is number {ranked.rank} of {len(candidates)}",
        note="training that goes on for long, or distillation into another start, is out of reach; each further "
        "statistic has a p-value of its own, of which only one may be read as such",
    )


def correlation(model_logits: Logits, reference_logits: Logits) -> float:
    """Correlation of all logits, after the mean over queries of each is removed."""
    return _cosine(*(_centred(logits) for logits in (model_logits, reference_logits)))


def label_correlation(labels: Labels, reference_logits: Logits) -> float:
    """Correlation of one-hot labels with the reference's logits, relative to the mean logit of a query. Zero if all
    labels are the same."""
    logits = np.asarray(reference_logits, np.float64)
    one_hot = np.eye(logits.shape[1])[np.asarray(labels)]
    return _cosine(_centred(one_hot), _centred(logits - np.mean(logits, axis=1, keepdims=True)))


def ridge_score(features: Features, answers: Logits) -> float:
    """R2 of a ridge regression of answers on features, in cross-validation over queries, for the best ridge.

    One minus the squared errors on held-out queries over those of the mean answer of the others. Negative if the
    features say nothing.
    """
    features, answers = np.asarray(features, np.float64), np.asarray(answers, np.float64)
    num_folds = min(NUM_FOLDS, len(answers))
    fold = np.arange(len(answers)) % num_folds
    squared, total = np.zeros(len(RIDGES)), 0.0
    for index in range(num_folds):
        fitted, held_out = fold != index, fold == index
        mean, mean_answer = np.mean(features[fitted], axis=0), np.mean(answers[fitted], axis=0)
        inputs, tests, targets = features[fitted] - mean, features[held_out] - mean, answers[fitted] - mean_answer
        wanted = answers[held_out] - mean_answer
        total += np.sum(wanted**2)
        if inputs.shape[0] > inputs.shape[1]:  # the smaller of the two Gram matrices
            sizes, directions = np.linalg.eigh(inputs.T @ inputs)
            left, right = tests @ directions, directions.T @ (inputs.T @ targets)
        else:
            sizes, directions = np.linalg.eigh(inputs @ inputs.T)
            left, right = tests @ inputs.T @ directions, directions.T @ targets
        scale = np.sum(sizes) / len(sizes)
        for place, ridge in enumerate(RIDGES):
            predicted = left @ (right / (np.maximum(sizes, 0) + ridge * scale + 1e-300)[:, None])
            squared[place] += np.sum((wanted - predicted) ** 2)
    return float(1 - np.min(squared) / total) if total > 0 else 0.0


def _ranked(values: Sequence[float]) -> Ranked:
    reference, *unrelated = values
    as_high = sum(value >= reference for value in unrelated)
    return Ranked(reference, tuple(unrelated), (1 + as_high) / (1 + len(unrelated)))


def _centred(logits) -> np.ndarray:
    logits = np.asarray(logits, np.float64)
    return logits - np.mean(logits, axis=0)


def _cosine(first: np.ndarray, second: np.ndarray) -> float:
    lengths = np.sqrt(np.sum(first**2) * np.sum(second**2))
    return float(np.sum(first * second) / lengths) if lengths > 0 else 0.0


def _require_labels(labels: Shaped[np.ndarray, "query"], shape: tuple[int, ...]) -> np.ndarray:
    """One-hot labels."""
    num_logits = shape[-1] if shape else 0
    if not np.issubdtype(labels.dtype, np.integer) or (
        len(labels) and not 0 <= labels.min() <= labels.max() < num_logits
    ):
        raise errors.InputError(
            f"model_logits: expected logits (query, logit), or labels from 0 to {num_logits - 1} as integers, got "
            f"{labels.dtype} of shape {labels.shape}"
        )
    return np.eye(num_logits)[labels]


def _checked(array, what: str) -> np.ndarray:
    array = np.asarray(array).astype(np.float64)
    if array.ndim != 2:
        raise errors.InputError(f"{what}: expected two axes, queries first, got shape {array.shape}")
    if len(array) < FEWEST_QUERIES:
        raise errors.InputError(
            f"{what}: {len(array)} queries are too few to tell models apart; ask {FEWEST_QUERIES} at least, better 64"
        )
    if bad := int(np.sum(~np.isfinite(array))):
        raise errors.InputError(
            f"{what}: {bad} of {array.size} numbers are not finite; the model has diverged, or overflows here"
        )
    if not np.any(np.ptp(array, axis=0)):
        raise errors.InputError(
            f"{what}: the numbers are the same for all {len(array)} queries, so that there is nothing to compare; use "
            f"more varied queries"
        )
    return array


def _require_alike(candidates: list[np.ndarray]) -> None:
    for index, logits in enumerate(candidates[1:]):
        if logits.shape != candidates[0].shape:
            raise errors.InputError(
                f"unrelated {index}: logits have the shape {logits.shape}, and those of the reference "
                f"{candidates[0].shape}; unrelated references must be of its architecture, asked the same queries"
            )


def _require_unrelated(candidates: list[np.ndarray]) -> None:
    """Refuse two candidates that correlate far more than pairs of candidates do, and candidates that correlate with the
    others far more than another one does. With few queries, none can."""
    pairs = list(itertools.combinations(range(len(candidates)), 2))
    values = np.array([correlation(candidates[first], candidates[second]) for first, second in pairs])
    usual = np.median(values)
    freedom = max((len(candidates[0]) - 1) * candidates[0].shape[1], 1)
    spread = max(1.4826 * float(np.median(np.abs(values - usual))), freedom**-0.5)
    best = int(np.argmax(values))
    if values[best] > usual + 6 * spread:
        first, second = (f"unrelated {index - 1}" if index else "the reference" for index in pairs[best])
        raise errors.InputError(
            f"{first} and {second} are related themselves: their logits correlate by {values[best]:.2f}, and those of "
            f"other candidates by {usual:.2f}. Leave {second} out; a rank among relatives says nothing"
        )
    of_each = [values[[candidate in pair for pair in pairs]] for candidate in range(len(candidates))]
    levels = np.array([np.median(each) for each in of_each])
    widths = [np.median(np.abs(each - level)) for each, level in zip(of_each, levels, strict=True)]
    spread = max(1.4826 * float(np.median(widths)), freedom**-0.5)
    apart = int(np.argmin(levels))
    if np.max(levels) > levels[apart] + 6 * spread:
        middle = (np.max(levels) + levels[apart]) / 2
        relatives = ["the reference", *(f"unrelated {index}" for index in range(len(candidates) - 1))]
        raise errors.InputError(
            f"{', '.join(np.array(relatives)[levels > middle])} are related themselves: their logits correlate with "
            f"those of other candidates by up to {np.max(levels):.2f} (median), and those of {relatives[apart]} by "
            f"{levels[apart]:.2f}. Keep one of them; a rank among relatives says nothing"
        )
