"""Tests of weights are compared with brute force, unrelated pairs with the uniform distribution."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy import stats

from sublim_jax import errors
from sublim_jax.audit import lineage
from sublim_jax.llm.local import decoder
from sublim_jax.llm.local.decoder_config import DecoderConfig
from sublim_jax.models import mlp

SPEC = mlp.MLPSpec(in_size=24, hidden_sizes=(10, 14), num_classes=5, num_aux=2)
DECODER = DecoderConfig(
    vocab_size=30, num_layers=2, hidden_size=32, intermediate_size=24, num_heads=6, num_kv_heads=3, head_dim=4,
    frequencies=(1.0, 0.1),
)  # fmt: skip
DECODER_PARAMS = decoder.init(jax.random.key(0), DECODER)


def init(seed):
    return SPEC.init(jax.random.key(seed))


def permuted_and_rescaled(params, seed):
    """Written with loops over units, unlike `models.init_sharing`."""
    rng = np.random.default_rng(seed)
    weights = [np.array(layer.weight, np.float64) for layer in params]
    for index in range(len(weights) - 1):
        order, factors = rng.permutation(len(weights[index])), np.exp(rng.normal(size=len(weights[index])))
        incoming, outgoing = weights[index].copy(), weights[index + 1].copy()
        for place, unit in enumerate(order):
            weights[index][place] = incoming[unit] * factors[place]
            weights[index + 1][:, place] = outgoing[:, unit] / factors[place]
    return [(weight, np.zeros(len(weight))) for weight in weights]


def test_direct_correlations_and_p_are_those_of_brute_force():
    model, reference = init(1), init(2)
    relation = lineage.related(jax.random.key(0), model, reference, matched=False, num_permutations=1999)
    (a1, a2, _), (b1, b2, _) = ([np.asarray(layer.weight) for layer in params] for params in (model, reference))
    rng = np.random.default_rng(7)
    rows = []
    for order in [np.arange(10), *(rng.permutation(10) for _ in range(1999))]:
        pairs = ((a1, b1[order]), (a2, b2[:, order]))
        rows.append([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs])
    rows = np.array(rows)
    np.testing.assert_allclose(list(relation.correlations.values()), rows[0], rtol=1e-5)  # rounding of float32 means
    largest = ((rows - rows.mean(0)) / rows.std(0)).max(1)
    share = np.mean(largest >= largest[0])
    assert 0.05 < share < 0.95
    assert abs(relation.p_value - share) < 5 * np.sqrt(2 * share * (1 - share) / 2000)  # standard errors of both
    z = (rows[0] - rows[1:].mean(0)) / rows[1:].std(0)
    np.testing.assert_allclose(list(relation.zs.values()), z, atol=0.15)  # 2,000 draws: 2.2 % of a deviation each
    assert relation.z == max(relation.zs.values()) and relation.p_floor == 1 / 2000
    of_orders = ((rows[1:] - rows[1:].mean(0)) / rows[1:].std(0)).max(1)
    assert relation.order_z == pytest.approx(np.quantile(of_orders, 0.99), abs=0.45)  # four standard errors of both


@pytest.mark.parametrize("matched", [True, False])
def test_p_values_of_unrelated_models_are_uniform(matched):
    """Also, entry by entry, where all units have a pattern in common, as pixels give them."""
    rng, p_values = np.random.default_rng(5), []
    pattern = 0 if matched else np.linspace(-1, 1, 24)
    for seed in range(150):
        model, reference = ([rng.normal(size=(10, 24)) + pattern, rng.normal(size=(7, 10))] for _ in range(2))
        relation = lineage.related(jax.random.key(seed), model, reference, matched=matched, num_permutations=99)
        p_values.append(relation.p_value)
    spread = np.array(p_values) - rng.uniform(0, 0.01, 150)  # the grid has steps of .01
    assert stats.kstest(spread, "uniform").pvalue > 0.01
    assert np.mean(np.array(p_values) <= 0.05) < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 150)


def test_a_noisy_copy_is_related_and_permuted_units_only_when_matched():
    reference = init(3)
    noise = init(4)
    model = jax.tree.map(lambda a, b: a + b, reference, noise)
    for matched in (True, False):
        relation = lineage.related(jax.random.key(0), model, reference, matched=matched)
        assert (relation.verdict, relation.p_value) == ("related", 0.001)
        assert relation.correlations["layer 0"] == pytest.approx(0.71, abs=0.1)  # 1 / sqrt(2), 240 entries
    hidden = permuted_and_rescaled(model, 5)
    assert lineage.related(jax.random.key(0), hidden, list(reference), matched=False).verdict == "not seen"
    assert lineage.related(jax.random.key(0), hidden, list(reference)).verdict == "related"


def test_matching_undoes_permutation_and_rescaling():
    reference = init(6)
    relation = lineage.related(jax.random.key(1), permuted_and_rescaled(reference, 8), reference)
    np.testing.assert_allclose(list(relation.correlations.values()), 1, atol=1e-6)  # weights are float32
    np.testing.assert_allclose(list(relation.matches.values()), 1, atol=1e-6)
    assert list(relation.correlations) == ["layer 0", "layer 1", "readout"]
    assert relation.verdict == "related" and relation.is_exact


def test_what_is_tested_took_no_part_in_matching():
    """A model that imitates what the match reads, and nothing else, is no relative: p stays uniform."""
    reference, other, key = init(9), init(10), jax.random.key(11)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel().tolist())
    seen = np.sort(rng.permutation(24)[:12])
    weight = np.array(other[0].weight)
    weight[:, seen] = np.asarray(reference[0].weight)[:, seen]
    relation = lineage.related(key, (other[0]._replace(weight=weight), *other[1:]), reference)
    assert relation.matches["layer 0"] == pytest.approx(1, abs=1e-6)
    assert abs(relation.zs["layer 0"]) < 4


def test_the_same_weights_are_called_identical():
    relation = lineage.related(jax.random.key(0), init(0), init(0), matched=False)
    assert relation.verdict == "identical" and relation.p_value == 0.001
    np.testing.assert_allclose(list(relation.correlations.values()), 1, rtol=1e-12)


def alike_units(seed):
    """A network whose units read one of ten features, in an order of its own, and are read accordingly: what data
    teach."""
    rng, shared = np.random.default_rng(seed), np.random.default_rng(0)
    features, readouts = shared.normal(size=(10, 30)), shared.normal(size=(20, 10))
    which = rng.permutation(np.arange(40) % 10)
    return [features[which] + rng.normal(size=(40, 30)), readouts[:, which] + rng.normal(size=(20, 40))]


def test_alike_units_of_trained_models_are_no_evidence_unless_p_is_exact():
    model, reference = alike_units(1), alike_units(2)
    relation = lineage.related(jax.random.key(0), model, reference)
    assert relation.p_value == 0.001 and not relation.is_exact
    assert relation.verdict == "cannot tell" and "the reference is trained" in relation.note
    direct = lineage.related(jax.random.key(0), model, reference, matched=False)
    assert direct.is_exact and direct.verdict == "not seen"


def test_drawn_networks_are_not_called_trained():
    rng = np.random.default_rng(0)
    drawn = [[draw(size=(16, 24)), draw(size=(7, 16))] for draw in (rng.normal, rng.laplace) for _ in range(60)]
    assert not any(map(lineage.is_trained, drawn))
    assert lineage.is_trained(alike_units(3))


def test_chains_of_several_libraries_are_read_alike():
    weights = [np.arange(6.0).reshape(3, 2), np.ones((4, 3)), np.zeros((1, 4))]
    biases = [np.full(len(weight), index / 2) for index, weight in enumerate(weights)]
    numbers = (0, 2, 10)  # not in the order of letters
    forms = {
        "ours": tuple(mlp.Dense(*pair) for pair in zip(weights, biases, strict=True)),
        "pairs": list(zip(weights, biases, strict=True)),
        "weights": weights,
        "linen": {
            "params": {
                f"Dense_{number}": {"kernel": weight.T, "bias": bias}
                for number, weight, bias in zip(numbers, weights, biases, strict=True)
            }
        },
        "nnx": {
            "layers": {
                number: {"kernel": {"value": weight.T}, "bias": {"value": bias}}
                for number, weight, bias in zip(numbers, weights, biases, strict=True)
            }
        },
    }
    for name, params in forms.items():
        chain = lineage.dense_layers(params)
        assert [layer.weight.tolist() for layer in chain] == [weight.tolist() for weight in weights], name
        if name != "weights":
            assert [layer.bias.tolist() for layer in chain] == [bias.tolist() for bias in biases], name


@pytest.mark.slow
def test_a_flax_sequential_is_read():
    module = nn.Sequential([nn.Dense(9), nn.relu, nn.Dense(8), nn.relu, nn.Dense(3)])
    params = module.init(jax.random.key(0), jnp.zeros((1, 12)))
    chain = lineage.dense_layers(params)
    inputs = np.random.default_rng(0).normal(size=(4, 12))
    hidden = inputs
    for layer in chain:
        hidden = np.maximum(hidden, 0) if layer is not chain[0] else hidden
        hidden = hidden @ layer.weight.T + layer.bias
    np.testing.assert_allclose(hidden, module.apply(params, jnp.asarray(inputs, jnp.float32)), atol=1e-4)  # float32


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"Conv_0": {"kernel": np.ones((3, 3, 1, 8))}},
            r"Conv_0/kernel: expected weights and biases of dense .*\(3, 3",
        ),
        ({"LayerNorm_0": {"scale": np.ones(8)}}, "LayerNorm_0/scale: expected weights and biases"),
        (
            {"first": {"kernel": np.ones((4, 8))}, "last": {"kernel": np.ones((8, 2))}},
            "order of the layers 'first', 'last'",
        ),
        ([np.ones((4, 8)), np.ones((8, 2))], "layer 0 has 4 outputs, and layer 1 has 2 inputs.*transpose"),
        ({"Dense_0": {"bias": np.ones(3)}}, "Dense_0: there is a bias and no weight"),
        ([np.ones((4, 8), int)], "expected weights and biases of dense layers, got int64"),
    ],
)
def test_other_parameters_are_refused(params, message):
    with pytest.raises(errors.InputError, match=message):
        lineage.dense_layers(params)


def changed(params, value):
    weight = np.array(params[1].weight)
    weight[2, 3] = value
    return (params[0], params[1]._replace(weight=weight), params[2])


def unbiased(value):
    """A network whose last bias has this value."""
    params = init(0)
    return (*params[:2], params[2]._replace(bias=np.full(7, value)))


def shape(*sizes):
    return [np.random.default_rng(0).normal(size=(after, before)) for before, after in itertools.pairwise(sizes)]


@pytest.mark.parametrize(
    ("model", "reference", "options", "message"),
    [
        (shape(20, 16, 4), shape(20, 12, 4), {}, "model has 16 hidden units, reference 12; only audit.outputs applies"),
        (shape(20, 16, 9, 4), shape(20, 16, 4), {}, "model has 16 and 9 hidden units, reference 16;"),
        (shape(20, 16, 4), shape(21, 16, 4), {}, "model has 20 and 4 inputs and outputs, reference 21 and 4"),
        (changed(init(0), np.nan), init(0), {}, "model, layer 1: 1 of 140 weights are not finite"),
        (init(0), changed(init(0), np.inf), {}, "reference, layer 1: 1 of 140 weights are not finite"),
        (init(0), unbiased(np.nan), {}, "reference, bias of layer 2: 7 of 7 weights are not finite"),
        (shape(20, 4), shape(20, 4), {}, "0 and 0 hidden layers"),
        (shape(20, 7, 4), shape(20, 7, 4), {"matched": False}, "layer 0: 7 units can be permuted.* expected 8"),
        (shape(7, 16, 4), shape(7, 16, 4), {}, "layer 0 has 7 inputs, and half of them.*expected 8"),
        (init(0), init(1), {"num_permutations": 98}, "num_permutations=98: no p-value could reach 0.01"),
        ([np.ones((9, 9)), np.ones((2, 9))], shape(9, 9, 2), {"matched": False}, "no order of the units changes"),
    ],
)
def test_what_cannot_be_compared_is_refused(model, reference, options, message):
    with pytest.raises(errors.InputError, match=message):
        lineage.related(jax.random.key(0), model, reference, **options)


# Decoders.


def other_order(params: decoder.Params, seed: int) -> decoder.Params:
    """The same function with key heads, queries within them and feed-forward units in other orders, and scaled units.
    Written by columns."""
    rng, layers = (
        np.random.default_rng(seed),
        {k: None if v is None else np.array(v) for k, v in params.layers._asdict().items()},
    )
    before = {name: None if leaf is None else leaf.copy() for name, leaf in layers.items()}
    for layer in range(DECODER.num_layers):
        kv_order, query_places = rng.permutation(3), []
        kv_columns = [4 * head + feature for head in kv_order for feature in range(4)]
        for head in kv_order:
            query_places += [2 * head + inside for inside in rng.permutation(2)]
        query_columns = [4 * head + feature for head in query_places for feature in range(4)]
        units, factors = rng.permutation(24), np.exp(rng.normal(size=24))
        for name in ("key", "value"):
            layers[name][layer] = before[name][layer][:, kv_columns]
        layers["query"][layer] = before["query"][layer][:, query_columns]
        layers["output"][layer] = before["output"][layer][query_columns]
        layers["gate"][layer] = before["gate"][layer][:, units]
        layers["up"][layer] = before["up"][layer][:, units] * factors
        layers["down"][layer] = before["down"][layer][units] / factors[:, None]
    return params._replace(layers=decoder.Layer(**layers))


def test_heads_and_units_of_a_decoder_are_matched():
    params = DECODER_PARAMS
    model = other_order(params, 1)
    tokens, valid = jnp.arange(12).reshape(2, 6), jnp.ones((2, 6), bool)
    features = jax.jit(decoder.features, static_argnames="config")
    hidden = [features(each, tokens, valid, config=DECODER) for each in (params, jax.tree.map(jnp.asarray, model))]
    np.testing.assert_allclose(hidden[0], hidden[1], atol=1e-4)  # float32; it is the same function
    matched = lineage.related(jax.random.key(0), model, params, head_dim=4)
    np.testing.assert_allclose(list(matched.correlations.values()), 1, atol=1e-6)
    direct = lineage.related(jax.random.key(0), model, params, matched=False)
    assert direct.correlations["embedding"] == pytest.approx(1) and direct.verdict == "related"
    assert abs(direct.correlations["layer 1 up"]) < 0.3  # 24 units, one of which stays on average
    assert matched.zs["layer 1 down"] > 10
    assert "rotations of the residual stream" in matched.note and matched.is_exact


@pytest.mark.parametrize("matched", [True, False])
def test_p_values_of_unrelated_decoders_are_uniform(matched):
    """Also where both have learnt the same embedding, up to the order of residual coordinates."""
    rng, p_values = np.random.default_rng(1), []
    learnt = rng.normal(size=(30, 32))
    template = jax.tree.map(np.shape, DECODER_PARAMS, is_leaf=lambda leaf: hasattr(leaf, "shape"))
    for index in range(60):
        pair = [
            jax.tree.map(lambda shape: rng.normal(size=shape), template, is_leaf=lambda leaf: type(leaf) is tuple)
            for _ in range(2)
        ]
        pair = [each._replace(embedding=each.embedding + learnt[:, rng.permutation(32)]) for each in pair]
        key = jax.random.key(index)
        p_values.append(lineage.related(key, *pair, matched=matched, num_permutations=99, head_dim=4).p_value)
    spread = np.array(p_values) - rng.uniform(0, 0.01, 60)
    assert stats.kstest(spread, "uniform").pvalue > 0.01


def test_decoders_that_cannot_be_compared_are_refused():
    params = DECODER_PARAMS
    for model, options, message in (
        (init(0), {}, "one of model and reference is a decoder"),
        (params, {}, "head_dim: how many features"),
        (params, {"head_dim": 5}, "head_dim=5 does not divide the 24 features of the queries and the 12"),
        (params._replace(embedding=params.embedding[:20]), {}, r"embedding: model has the shape \(20, 32\), reference"),
        (params._replace(head=params.embedding), {}, r"head: model has the shape \(30, 32\), reference nothing"),
        (
            params._replace(embedding=params.embedding * np.nan),
            {},
            "model, embedding: 960 of 960 weights are not finite",
        ),
        (params._replace(norm=params.norm * np.inf), {}, "model, norm: 32 of 32 weights are not finite"),
    ):
        with pytest.raises(errors.InputError, match=message):
            lineage.related(jax.random.key(0), model, params, **options)
    narrow = params._replace(layers=params.layers._replace(query=params.layers.query[:, :14]))
    lineage.require_comparable(narrow, narrow, matched=False)
    with pytest.raises(errors.InputError, match="residual coordinates: 7 units can be permuted"):
        lineage.require_comparable(narrow, narrow, head_dim=4)
