"""Disguises are what they say, and the study of lineage, reduced, finds relatives and leaves others alone."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.evidence import disguises, lineage
from experiments.study import Source
from sublim_jax import errors, records
from sublim_jax.forms import evidence_lineage as form
from sublim_jax.models import mlp

SPEC = mlp.MLPSpec(in_size=20, hidden_sizes=(12, 9), num_classes=4, num_aux=2)
PARAMS = SPEC.init(jax.random.key(1))
TINY = lineage.LineageConfig(
    num_models=1, hidden_sizes=(16, 16), num_steps=8, num_permutations=99, num_queries=(4, 32)
)  # fmt: skip


def test_pruning_leaves_the_largest_weights_as_they_are():
    for layer, before in zip(disguises.pruned(PARAMS, 0.75), PARAMS, strict=True):
        kept, size = np.asarray(layer.weight) != 0, np.abs(np.asarray(before.weight))
        assert np.mean(kept) == pytest.approx(0.25, abs=1 / kept.size)
        np.testing.assert_array_equal(np.asarray(layer.weight)[kept], np.asarray(before.weight)[kept])
        assert size[kept].min() >= size[~kept].max()


@pytest.mark.parametrize(("bits", "num_values"), [(1, 2), (2, 3), (4, 15)])
def test_quantized_weights_have_as_many_values_as_bits_allow(bits, num_values):
    spec = mlp.MLPSpec(hidden_sizes=(64,))
    before = spec.init(jax.random.key(2))[0]
    (layer, _) = disguises.quantized((before, before), bits)
    values, weight = np.unique(np.asarray(layer.weight)), np.asarray(before.weight)
    assert len(values) == num_values
    np.testing.assert_allclose(values, -values[::-1], atol=1e-7)  # symmetric
    if bits > 1:
        nearest = values[np.argmin(np.abs(weight[..., None] - values), axis=-1)]
        assert np.mean(np.isclose(nearest, np.asarray(layer.weight))) > 0.9999  # but for ties in rounding


@pytest.mark.slow
@pytest.mark.parametrize("disguise", [disguises.permuted, disguises.rescaled])
def test_hidden_units_may_be_permuted_and_rescaled(disguise):
    images = jax.random.normal(jax.random.key(0), (7, 20))
    changed = disguise(jax.random.key(3), PARAMS)
    assert not np.allclose(changed[0].weight, PARAMS[0].weight)
    np.testing.assert_allclose(SPEC.apply(changed, images), SPEC.apply(PARAMS, images), rtol=1e-4, atol=1e-5)  # float32


def test_models_are_mixed_and_layers_replaced():
    other = SPEC.init(jax.random.key(5))
    mixed, replaced = disguises.averaged(PARAMS, other), disguises.with_fresh_layers(PARAMS, other)
    np.testing.assert_allclose(2 * mixed[2].weight - other[2].weight, PARAMS[2].weight, atol=1e-6)
    assert replaced[0] is PARAMS[0] and replaced[1:] == other[1:]
    fresh = disguises.with_readouts(jax.random.key(0), PARAMS, 40)
    assert fresh[:2] == PARAMS[:2] and fresh[2].weight.shape == (40, 9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_models": 9}, "num_models=9 of num_references=8"),
        ({"num_models": 2, "num_references": 7}, "num_references=7: .* give 8 at least"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(errors.InputError, match=message):
        lineage.LineageConfig(**changes)


@pytest.mark.slow
def test_frozen_layers_stay_and_lengths_are_data(small_digits):
    family = lineage._Family(Source("digits", "this test", None, small_digits), TINY)
    start = family.reference(0)
    frozen = family.train(jax.random.key(0), start, 3, num_frozen=1)
    np.testing.assert_array_equal(frozen[0].weight, start[0].weight)
    assert not np.allclose(frozen[1].weight, start[1].weight)
    stopped = family.train(jax.random.key(0), start, 0)
    np.testing.assert_array_equal(stopped[2].weight, start[2].weight)
    np.testing.assert_array_equal(
        family.teacher(0, lineage.USUAL)[0].weight, family.teacher(0, lineage.USUAL)[0].weight
    )


@pytest.mark.slow
def test_the_reduced_study_recognizes_relatives(small_digits, monkeypatch):
    names = (lineage.USUAL, "permuted, rescaled", "noise of 20 sd")
    monkeypatch.setattr(lineage, "DISGUISES", {name: lineage.DISGUISES[name] for name in names})
    monkeypatch.setattr(lineage, "PAIRS", dict(list(lineage.PAIRS.items())[:1]))
    source = Source("digits", "this test", None, small_digits)
    entry = lineage.measure(source, TINY, "reference 0", lambda activity: None)
    record = records.Record(
        experiment="evidence_lineage", config=records.to_json(TINY), data=source.data,
        results={"reference 0": records.to_json(entry)},
    )  # fmt: skip
    form.FORM.require(record)
    assert form.FORM.is_complete(record)
    weights = entry["weights"]
    assert list(weights) == [*names, lineage.MIXED, lineage.FINETUNED, lineage.RETRAINED]
    for case in weights:
        method = "direct" if case == lineage.USUAL else "matched"
        z = weights[case][method]["z"]
        if case != "noise of 20 sd":
            assert z[0] > 10 > 5 > max(z[1:]), case
            assert weights[case][method]["p_value"][0] == 0.01 and all(weights[case][method]["is_exact"])
    assert max(map(abs, weights["permuted, rescaled"]["direct"]["z"])) < 5
    (pair,) = entry["pairs"].values()
    assert pair["direct"]["z"][0] > 10 > 5 > max(pair["direct"]["z"][1:])
    answers = entry["outputs"][lineage.USUAL]["32"]
    for statistic in ("correlation", "labels"):
        assert np.argmax(answers[statistic]) == 0
    assert set(entry["outputs"]["40 fresh readouts"]["32"]) == {"ridge"}
    assert np.argmax(entry["outputs"]["40 fresh readouts"]["32"]["ridge"]) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entry: entry["weights"]["a"]["direct"]["z"].pop(), "reference 1: a, direct: expected 8 references"),
        (lambda entry: entry["outputs"]["b"]["4"]["ridge"].pop(), "reference 1: outputs, b: expected 8 references"),
        (lambda entry: entry["weights"].pop("a"), "reference 1: expected the cases"),
    ],
)
def test_damaged_records_are_refused(change, message):
    tested = {"z": [0.0] * 8, "p_value": [0.5] * 8, "correlation": [0.0] * 8, "is_exact": [True] * 8}
    entries = {
        f"reference {index}": records.to_json({
            "accuracy": {}, "pairs": {}, "weights": {"a": {"direct": tested, "matched": tested}},
            "outputs": {"b": {"4": {"ridge": [0.0] * 8}}},
        })
        for index in range(2)
    }  # fmt: skip
    config = records.to_json(dataclasses.replace(TINY, num_models=2))
    data = {"name": "digits", "source": "this test", "checksum": None}
    record = records.Record(experiment="evidence_lineage", config=config, data=data, results=entries)
    form.FORM.require(record)
    change(record.results["reference 1"])
    with pytest.raises(errors.InputError, match=message):
        form.FORM.require(record)
