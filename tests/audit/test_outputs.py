"""Statistics of answers are compared with loops and normal equations, ranks of unrelated models with equal shares."""

import numpy as np
import pytest
from scipy import stats

from sublim_jax import errors
from sublim_jax.audit import outputs


def drawn(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def unrelated(count, *shape):
    return [drawn(100 + index, *shape) for index in range(count)]


def test_correlation_is_numpys_of_logits_without_their_means():
    model, reference = drawn(0, 9, 4) + np.array([5, 0, -3, 100]), drawn(1, 9, 4) + np.array([0, 50, 2, 1])
    columns = [[logits[:, index] - logits[:, index].mean() for index in range(4)] for logits in (model, reference)]
    expected = np.corrcoef(*(np.concatenate(each) for each in columns))[0, 1]
    assert outputs.correlation(model, reference) == pytest.approx(expected, rel=1e-12)
    assert outputs.correlation(3 * model + np.arange(4), model) == pytest.approx(1, rel=1e-12)


def test_labels_correlate_with_logits_relative_to_their_mean():
    labels, logits = np.array([2, 0, 2, 1, 1, 0]), drawn(2, 6, 3)
    one_hot, relative = [], []
    for index, query in enumerate(logits):
        one_hot.append([float(labels[index] == place) for place in range(3)])
        relative.append([value - sum(query) / 3 for value in query])
    expected = outputs.correlation(np.array(one_hot), np.array(relative))
    assert outputs.label_correlation(labels, logits) == pytest.approx(expected, rel=1e-12)
    assert outputs.label_correlation(labels, logits + drawn(3, 6, 1)) == pytest.approx(expected, rel=1e-12)
    assert outputs.label_correlation(np.zeros(6, int), logits) == 0


@pytest.mark.parametrize(("queries", "width"), [(23, 7), (13, 30), (4, 3)])
def test_ridge_is_that_of_the_normal_equations(queries, width):
    features = drawn(4, queries, width) + 3
    answers = features @ drawn(5, width, 2) + drawn(6, queries, 2)
    num_folds, best = min(5, queries), -np.inf
    for ridge in outputs.RIDGES:
        wrong = total = 0.0
        for held_out in range(num_folds):
            rows = [row for row in range(queries) if row % num_folds != held_out]
            mean, level = features[rows].mean(0), answers[rows].mean(0)
            inputs = features[rows] - mean
            size = min(inputs.shape)
            penalty = ridge * np.trace(inputs.T @ inputs) / size
            readout = np.linalg.solve(inputs.T @ inputs + penalty * np.eye(width), inputs.T @ (answers[rows] - level))
            for row in range(held_out, queries, num_folds):
                wrong += np.sum((answers[row] - level - (features[row] - mean) @ readout) ** 2)
                total += np.sum((answers[row] - level) ** 2)
        best = max(best, 1 - wrong / total)
    assert outputs.ridge_score(features, answers) == pytest.approx(best, rel=1e-6)  # conditioned by 1e-4 at worst


def test_a_relative_is_first_and_related_among_enough():
    reference = drawn(0, 64, 3)
    model = reference + drawn(1, 64, 3)
    relation = outputs.outputs(model, reference, unrelated(19, 64, 3))
    assert relation.statistic == "correlation" and list(relation.statistics) == ["correlation", "labels"]
    assert (relation.p_value, relation.p_floor, relation.verdict) == (0.05, 0.05, "related")
    assert relation.statistics["correlation"].value == pytest.approx(0.71, abs=0.1)  # 1 / sqrt(2), 192 numbers
    others = np.array(relation.statistics["correlation"].unrelated)
    assert relation.z == pytest.approx((relation.statistics["correlation"].value - others.mean()) / others.std(ddof=1))
    few = outputs.outputs(model, reference, unrelated(7, 64, 3))
    assert (few.p_value, few.verdict) == (1 / 8, "cannot tell")
    assert "number 1 of 8" in few.compared


def test_labels_are_those_of_the_model():
    """In brute force, for a model and its labels alone, beside references of which none answers alike."""
    model, reference, others = drawn(2, 64, 3), drawn(0, 64, 3), unrelated(7, 64, 3)
    expected = [
        np.corrcoef(one_hot.ravel(), centred.ravel())[0, 1]
        for logits in (reference, *others)
        for one_hot in [np.eye(3)[model.argmax(1)] - np.eye(3)[model.argmax(1)].mean(0)]
        for centred in [logits - logits.mean(1, keepdims=True) - (logits - logits.mean(1, keepdims=True)).mean(0)]
    ]
    for answers in (model, model.argmax(1)):
        ranked = outputs.outputs(answers, reference, others).statistics["labels"]
        np.testing.assert_allclose([ranked.value, *ranked.unrelated], expected, rtol=1e-9)


def test_the_p_value_counts_unrelated_references_that_are_as_high():
    others = unrelated(7, 64, 3)
    model = others[2] + others[5] + 0.1 * drawn(1, 64, 3)
    relation = outputs.outputs(model, drawn(0, 64, 3), others)
    own = relation.statistics["correlation"]
    assert own.rank == 1 + sum(value >= own.value for value in own.unrelated) >= 3
    assert relation.p_value == own.rank / 8 and relation.verdict == "not seen"


def test_an_equal_unrelated_reference_counts():
    """Labels that are all the same say nothing: no reference is ahead of another."""
    model = drawn(0, 64, 3) + np.array([50, 0, 0])
    relation = outputs.outputs(model, drawn(1, 64, 3), unrelated(7, 64, 3))
    assert relation.statistics["labels"].value == 0
    assert relation.statistics["labels"].p_value == 1 and relation.statistics["labels"].rank == 8


@pytest.mark.slow
def test_ranks_of_unrelated_models_are_equally_likely():
    counts = np.zeros(8)
    for seed in range(160):
        rng = np.random.default_rng(seed)
        common = rng.normal(size=(12, 3))  # what all answers share
        model, *candidates = (common + rng.normal(size=(12, 3)) for _ in range(9))
        counts[round(8 * outputs.outputs(model, candidates[0], candidates[1:]).p_value) - 1] += 1
    assert stats.chisquare(counts).pvalue > 0.01


def test_labels_alone_will_do():
    reference = drawn(0, 200, 4)
    labels = np.argmax(reference + drawn(1, 200, 4), axis=1)
    relation = outputs.outputs(labels, reference, unrelated(19, 200, 4))
    assert relation.statistic == "labels" and relation.verdict == "related"


@pytest.mark.parametrize("num_logits", [3, 5])
def test_other_readouts_are_recognized_by_the_hidden_layer(num_logits):
    layers = [np.maximum(drawn(40 + index, 90, 16), 0) for index in range(20)]
    logits = [layer @ drawn(70 + index, 16, 3) for index, layer in enumerate(layers)]
    model = layers[0] @ drawn(1, 16, num_logits)
    relation = outputs.outputs(model, logits[0], logits[1:], features=layers)
    assert relation.statistics["ridge"].value > 0.99 > max(relation.statistics["ridge"].unrelated)
    assert relation.statistics["ridge"].p_value == 0.05
    assert relation.statistic == ("correlation" if num_logits == 3 else "ridge")


@pytest.mark.parametrize("count", [7, 6])
def test_unrelated_references_that_are_relatives_of_each_other_are_refused(count):
    """Were they not, the reference would be ahead of seven copies of one in two of five cases, not in one of eight."""
    one, reference = drawn(9, 64, 3), drawn(1, 64, 3)
    copies = [one + 0.3 * drawn(200 + index, 64, 3) for index in range(count)]
    others = [reference + 0.3 * drawn(2, 64, 3)][: 7 - count]
    firsts = []
    for seed in range(60):
        values = [outputs.correlation(drawn(300 + seed, 64, 3), logits) for logits in (reference, *copies, *others)]
        firsts.append(values[0] == max(values))
    if count == 7:
        assert np.mean(firsts) > 0.125 + 0.12  # two standard errors of .41
    with pytest.raises(errors.InputError, match=r"unrelated 0, .*, unrelated 5.* are related themselves: .*Keep one"):
        outputs.outputs(drawn(3, 64, 3), reference, [*copies, *others])
    independent = [drawn(400 + index, 64, 3) for index in range(7)]
    assert outputs.outputs(independent[2] + one, reference, independent).p_value > 1 / 8  # the model may be a relative


LOGITS, OTHERS = drawn(0, 32, 3), unrelated(7, 32, 3)


@pytest.mark.parametrize(
    ("model", "reference", "others", "features", "message"),
    [
        (LOGITS, LOGITS, OTHERS[:6], None, r"6 unrelated reference\(s\): the smallest p-value would be 0.14; give 7"),
        (LOGITS[:3], LOGITS[:3], [each[:3] for each in OTHERS], None, "model_logits: 3 queries are too few"),
        (LOGITS[:, :2], LOGITS, OTHERS, None, r"model_logits have the shape \(32, 2\), reference_logits \(32, 3\)"),
        (LOGITS[:9], LOGITS, OTHERS, [LOGITS] * 8, r"model_logits have the shape \(9, 3\)"),
        (LOGITS * np.nan, LOGITS, OTHERS, None, "model_logits: 96 of 96 numbers are not finite"),
        (LOGITS, LOGITS, [*OTHERS[:6], OTHERS[6] * np.inf], None, "unrelated 6: 96 of 96 numbers are not finite"),
        (LOGITS * 0 + 2, LOGITS, OTHERS, None, "model_logits: the numbers are the same for all 32 queries"),
        (LOGITS, LOGITS * 0, OTHERS, None, "reference_logits: the numbers are the same"),
        (LOGITS, LOGITS, [*OTHERS[:6], LOGITS + 0.1 * drawn(1, 32, 3)], None, "the reference and unrelated 6 are rel"),
        (LOGITS, LOGITS, [*OTHERS[:6], OTHERS[1]], None, r"unrelated 1 and unrelated 6 are related.*by 1.00.*Leave"),
        (LOGITS, LOGITS, [*OTHERS[:6], OTHERS[6][:, :2]], None, r"unrelated 6: logits have the shape \(32, 2\)"),
        (LOGITS, LOGITS, OTHERS, [LOGITS] * 7, "those of the reference and of 7 unrelated ones, got 7"),
        (LOGITS, LOGITS, OTHERS, [LOGITS[:9]] * 8, "features 0: there are 9 queries, and the model has answered 32"),
        (LOGITS[0], LOGITS, OTHERS, None, r"expected logits \(query, logit\), or labels from 0 to 2"),
        (np.full(32, 3), LOGITS, OTHERS, None, "labels from 0 to 2 as integers"),
        (np.full(32, 1), LOGITS, OTHERS, None, "model_logits: the numbers are the same for all 32 queries"),
    ],
)  # fmt: skip
def test_what_says_nothing_is_refused(model, reference, others, features, message):
    with pytest.raises(errors.InputError, match=message):
        outputs.outputs(model, reference, others, features=features)
