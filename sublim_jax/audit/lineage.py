"""Are two models relatives? A test of their weights with an exact p-value.

    related(key, params, reference, matched=False)          entries beside entries
    related(key, params, reference)                         units matched first, in case somebody permuted them
    related(key, decoder, base, head_dim=64)                transformers of `llm.local.decoder`

Every statistic is a correlation of two arrays (unit, entry), model and reference, and every p-value compares it with
those of the reference's units in random order: p = (1 + number of orders that correlate as much) / (1 + orders). Under
the null hypothesis the actual order is one of these orders, so the p-value is uniform on its grid, whatever the sizes,
the distribution of the weights, and what was done to the model. Tensors are combined by the largest standardized
correlation, in the actual order and in every random one, so that p holds for all of them together.

The null hypothesis differs:

* direct, dense layers: the model is independent of the reference, and hidden units of the reference are exchangeable:
  relabelled, its weights had been as likely. That holds for units drawn alike, and stays true under training. Units of
  the first, third, ... hidden layer are permuted, so each weight matrix has permuted units on one side; the readout of
  an even number of hidden layers is left out.
* matched, dense layers: units are matched, layer by layer, by one half of their incoming weights. Tested are the other
  half and the readout, which took no part in matching: the null is that these are exchangeable between units *given*
  what the match has read. That is true if the reference is as it was drawn, with independent weights. Two models that
  were both trained on the same data have learnt alike units, whoever their ancestors are: this p-value is then far too
  small. It is not taken for evidence where the reference shows traces of training, see `is_trained`; the direct one is.
* decoders: coordinates of the residual stream are permuted, which are exchangeable in any decoder whose weights were
  drawn alike, trained or not. Matching of attention heads and of feed-forward units reads one half of these
  coordinates, and the other half is tested, so that the p-value is exact for two trained decoders, too.
"""

import itertools
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Key, PyTree
from scipy import optimize

from sublim_jax import errors
from sublim_jax.llm.local.decoder import Params as Decoder

FEWEST_UNITS = 8
"""Units that are permuted. Eight have 40,320 orders; fewer repeat them."""
FEWEST_PERMUTATIONS = 99
"""With these the smallest p-value is .01, at which a model is called related."""
MOST_PERMUTATIONS = 10**6
"""More would not fit in memory, and no verdict depends on a p-value so small."""
LEVEL = 0.01
_COUPLING_ORDERS, _COUPLED = 20, 5.0

Verdict = Literal["identical", "related", "cannot tell", "not seen"]


class Relation(NamedTuple):
    """Whether two models are relatives."""

    correlations: dict[str, float]  # by tensor, of model and reference, after matching if there was any
    zs: dict[str, float]  # of each correlation, in standard deviations over random orders of units
    tensor: str  # the one with the largest z
    z: float  # of that tensor
    order_z: float  # of all tensors, the largest z of a random order is above it in one order of a hundred
    p_value: float  # that some tensor stands out as much if the models are unrelated
    p_floor: float  # the smallest p-value there is: 1 / (1 + num_permutations)
    matches: dict[str, float]  # mean cosine of matched units by layer; empty without matching
    is_exact: bool  # whether the p-value is one: False if units were matched and the reference is trained
    verdict: Verdict  # "related" up to p = .01, "cannot tell" up to .05 or where p is not exact
    compared: str  # what was tested against what, in words
    note: str  # what is out of reach


class DenseLayer(NamedTuple):
    """A layer of a chain."""

    weight: Float[np.ndarray, "out in"]
    bias: Float[np.ndarray, "out"] | None


class _Pair(NamedTuple):
    """A tensor of both models, units first."""

    name: str
    model: Float[np.ndarray, "unit entry"]
    reference: Float[np.ndarray, "unit entry"]


class _Comparison(NamedTuple):
    pairs: list[_Pair]
    matches: dict[str, float]
    compared: str
    note: str
    is_exact: bool = True


def related(
    key: Key[Array, ""],
    model: PyTree,
    reference: PyTree,
    *,
    matched: bool = True,
    num_permutations: int = 999,
    head_dim: int | None = None,
) -> Relation:
    """Test whether one model descends from the other, or both from a third.

    Rotations of a transformer's residual stream are out of reach, and so are rotations inside its heads; the note of
    the result says what else is.

    Args:
        key: for orders of units, and for the half of the weights that the match reads.
        model: parameters of a chain of dense layers, as `dense_layers` reads them, or of a decoder.
        reference: parameters of the same shapes: a candidate ancestor, or a candidate sibling.
        matched: whether to match units first. Without it, permuted units are not recognized; with it, the correlations
            are those of the weights that took no part in matching, which are half as many.
        num_permutations: random orders; the smallest p-value is 1 / (1 + num_permutations).
        head_dim: features of an attention head of a decoder. Its weights do not say; needed for matching.

    Raises:
        InputError: the models differ in shape, a weight is not finite, there is no hidden layer, the units or the
            permutations are too few, all weights are constant, or the parameters are of no kind that is known here.
    """
    require_permutations(num_permutations)
    require_comparable(model, reference, matched=matched, head_dim=head_dim)
    seed = np.asarray(jax.random.key_data(key)).ravel().tolist()
    rng = np.random.default_rng(seed)
    if isinstance(model, Decoder):
        comparison = _decoders(rng, model, reference, matched=matched, head_dim=head_dim)
    else:
        comparison = _chains(rng, dense_layers(model), dense_layers(reference), matched=matched)
    leaves = [[np.asarray(leaf) for leaf in jax.tree.leaves(tree)] for tree in (model, reference)]
    identical = len(leaves[0]) == len(leaves[1]) and all(map(np.array_equal, *leaves))
    return _tested(rng, comparison, num_permutations, identical=identical)


def require_permutations(count: int) -> None:
    """Refuse so few permutations that no model could be called related, and more than fit in memory.

    Raises:
        InputError: they are too few or too many.
    """
    if count < FEWEST_PERMUTATIONS:
        raise errors.InputError(
            f"num_permutations={count}: no p-value could reach {LEVEL}, at which a model is called related; use "
            f"{FEWEST_PERMUTATIONS} at least"
        )
    if count > MOST_PERMUTATIONS:
        raise errors.InputError(
            f"num_permutations={count}: so many orders of units do not fit in memory; use {MOST_PERMUTATIONS:,} at most"
        )


def require_comparable(model: PyTree, reference: PyTree, *, matched: bool = True, head_dim: int | None = None) -> None:
    """Refuse two models that `related` would refuse, before anything is computed. Only whether all weights are constant
    is seen later.

    Raises:
        InputError: the models differ in kind or in shape, a weight is not finite, there is no hidden layer, the units
            are too few, or the parameters are of no kind that is known here.
    """
    if isinstance(model, Decoder) != isinstance(reference, Decoder):
        raise errors.InputError(
            "one of model and reference is a decoder, and the other is not: weights of different architectures cannot "
            "be compared; only audit.outputs applies"
        )
    if isinstance(model, Decoder):
        _require_decoders(model, reference, matched=matched, head_dim=head_dim)
    else:
        _require_chains(dense_layers(model), dense_layers(reference), matched=matched)


def dense_layers(params: PyTree) -> list[DenseLayer]:
    """The chain of dense layers of a model, from the input on, with weights (out, in).

    Read are parameters of `models.mlp`, lists of weights (out, in) or of pairs of weight and bias, Equinox's `nn.MLP`
    (`weight`, out first), and Flax's numbered layers (`kernel`, which is transposed), e.g. `Dense_0`, or those of
    `nn.Sequential`.

    Raises:
        InputError: there is something else than dense layers, their order is not clear, or one does not fit the next.
    """
    layers: dict[tuple[str, ...], dict[str, np.ndarray]] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        *parent, name = _names(path) or ("",)
        array = np.asarray(leaf)
        if name.isdigit():  # in a list of weights, or in a pair of weight and bias
            is_pair = bool(parent) and parent[-1].isdigit()
            parent, name = parent if is_pair else [*parent, name], "bias" if array.ndim == 1 else "weight"
        wanted = {"weight": 2, "kernel": 2, "bias": 1}.get(name)
        if array.ndim != wanted or not _is_float(array):
            raise errors.InputError(
                f"{'/'.join((*parent, name))}: expected weights and biases of dense layers, got {array.dtype} of shape "
                f"{array.shape}. Weights of other architectures are not compared here; audit.outputs compares answers"
            )
        layers.setdefault(tuple(parent), {})[name] = array.astype(np.float64)
    chain = []
    for parent in _in_order(list(layers)):
        layer = layers[parent]
        weight = layer["kernel"].T if "kernel" in layer else layer.get("weight")
        if weight is None:
            raise errors.InputError(f"{'/'.join(parent)}: there is a bias and no weight; expected dense layers")
        chain.append(DenseLayer(weight, layer.get("bias")))
    for index, (layer, following) in enumerate(itertools.pairwise(chain)):
        if len(layer.weight) != following.weight.shape[1]:
            raise errors.InputError(
                f"layer {index} has {len(layer.weight)} outputs, and layer {index + 1} has "
                f"{following.weight.shape[1]} inputs: this is no chain of dense layers with weights (out, in), or "
                f"kernels (in, out). If it is a list of kernels, transpose them"
            )
    return chain


def _names(path) -> tuple[str, ...]:
    """What a path of a pytree is called; variables of Flax's nnx hold their array as a value."""
    names = []
    for entry in path:
        name = next(str(getattr(entry, field)) for field in ("name", "key", "idx") if hasattr(entry, field))
        names.append(name)
    return tuple(names[:-1] if names[-1:] == ["value"] else names)


def _is_float(array: np.ndarray) -> bool:
    return jax.numpy.issubdtype(array.dtype, np.floating)


def _in_order(parents: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Layers by their number, e.g. `Dense_2` before `Dense_10`; all else about their names is equal."""
    split = {parent: re.split(r"(\d+)", "/".join(parent)) for parent in parents}
    words = {tuple(parts[::2]) for parts in split.values()}
    if len(words) > 1:
        raise errors.InputError(
            f"the order of the layers {', '.join(repr('/'.join(parent)) for parent in parents)} is not clear from "
            f"their names; give a list of pairs of weight (out, in) and bias, from the input on"
        )
    return sorted(parents, key=lambda parent: [int(part) for part in split[parent][1::2]])


# Dense layers.


def _chains(rng, model: list[DenseLayer], reference: list[DenseLayer], *, matched: bool) -> _Comparison:
    ours, theirs = ([layer.weight for layer in layers] for layers in (model, reference))
    return _matched_chains(rng, ours, theirs) if matched else _direct_chains(ours, theirs)


def _require_chains(model: list[DenseLayer], reference: list[DenseLayer], *, matched: bool) -> None:
    ours, theirs = ([layer.weight for layer in layers] for layers in (model, reference))
    if len(ours) < 2 or len(theirs) < 2:
        raise errors.InputError(
            f"model and reference have {max(len(ours) - 1, 0)} and {max(len(theirs) - 1, 0)} hidden layers: the test "
            f"permutes hidden units, so it needs one at least; audit.outputs compares answers"
        )
    for who, layers in (("model", model), ("reference", reference)):
        _require_finite({f"layer {index}": layer.weight for index, layer in enumerate(layers)}, who)
        biases = {f"bias of layer {index}": layer.bias for index, layer in enumerate(layers)}
        _require_finite({name: bias for name, bias in biases.items() if bias is not None}, who)
    sizes = [[layers[0].shape[1], *map(len, layers)] for layers in (ours, theirs)]
    if sizes[0] != sizes[1]:
        hidden = [sizes[side][1:-1] for side in (0, 1)]
        what, first, second = "hidden units", hidden[0], hidden[1]
        if hidden[0] == hidden[1]:
            what, first, second = "inputs and outputs", sizes[0][:: len(ours)], sizes[1][:: len(ours)]
        raise errors.InputError(
            f"model has {_listed(first)} {what}, reference {_listed(second)}; only audit.outputs applies"
        )
    for index, weight in enumerate(ours[:-1]):
        if matched and weight.shape[1] < FEWEST_UNITS:
            raise errors.InputError(
                f"layer {index} has {weight.shape[1]} inputs, and half of them are to tell its units apart; expected "
                f"{FEWEST_UNITS} at least. Use matched=False, or audit.outputs"
            )
        if matched or index % 2 == 0:
            _require_units(f"layer {index}", len(weight))


def _direct_chains(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> _Comparison:
    pairs = []
    for index in range(0, len(ours) - 1, 2):  # hidden layers, each with the matrices before and after it
        pairs.append(_Pair(_name(index, ours), ours[index], theirs[index]))
        pairs.append(_Pair(_name(index + 1, ours), ours[index + 1].T, theirs[index + 1].T))
    compared = f"entries of {_words(pairs)}, as they stand, with those of the reference's hidden units in random order"
    return _Comparison(pairs, {}, compared, "permuted units are out of reach without matching")


def _matched_chains(rng, ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> _Comparison:
    pairs, matches = [], {}
    order, scale = np.arange(ours[0].shape[1]), np.ones(ours[0].shape[1])
    for index, (weight, other) in enumerate(zip(ours[:-1], theirs[:-1], strict=True)):
        weight = weight[:, order] * scale
        seen, held_out = _halves(rng, weight.shape[1])
        order, matches[_name(index, ours)] = _match(weight[:, seen], other[:, seen])
        weight = weight[order]
        scale = _ratio(np.linalg.norm(weight[:, seen], axis=1), np.linalg.norm(other[:, seen], axis=1))
        pairs.append(_Pair(_name(index, ours), _unit(weight[:, held_out]), _unit(other[:, held_out])))
    last = len(ours) - 1
    pairs.append(_Pair(_name(last, ours), _unit(ours[-1][:, order].T), _unit(theirs[-1].T)))
    compared = (
        f"{_words(pairs)}: units were matched by one half of their incoming weights, and tested are the other half and "
        f"the readout, whatever the scale of a unit"
    )
    if is_trained(theirs):
        note = (
            "the reference is trained, and the same data teach alike units to unrelated models, so the p-value is not "
            "exact. Give a reference as it was drawn, use matched=False, or compare z with unrelated trained models"
        )
        return _Comparison(pairs, matches, compared, note, is_exact=False)
    return _Comparison(
        pairs, matches, compared, "exact for a reference as it was drawn; models of other shapes are out of reach"
    )


def is_trained(weights: Sequence[np.ndarray]) -> bool:
    """Whether hidden units of a chain of weights (out, in) that read alike are read alike: a trace of training.

    As drawn, the incoming and the outgoing weights of a unit are independent, and training couples them. Compared are
    cosines between units by their incoming weights with those by their outgoing ones, for each hidden layer. Five
    standard deviations over random orders of units are taken for a trace. Coarse rounding and noise may hide it, and so
    may features that are each read in a way of their own: it warns, and does not prove a reference to be as drawn.
    """
    rng = np.random.default_rng(0)
    for before, after in itertools.pairwise(weights):
        incoming, outgoing = (_unit(tensor) @ _unit(tensor).T for tensor in (before, after.T))
        orders = [rng.permutation(len(incoming)) for _ in range(_COUPLING_ORDERS)]
        sums = [np.sum(incoming * outgoing[order][:, order]) for order in orders]
        if np.sum(incoming * outgoing) > np.mean(sums) + _COUPLED * np.std(sums) + 1e-9 * len(incoming):
            return True
    return False


def _name(index: int, weights: Sequence[np.ndarray]) -> str:
    return "readout" if index == len(weights) - 1 else f"layer {index}"


# Decoders.

_READS = ("query", "key", "value", "gate", "up")  # (residual, unit); the other two write, (unit, residual)


def _decoders(rng, model: Decoder, reference: Decoder, *, matched: bool, head_dim: int | None) -> _Comparison:
    ours, theirs = _decoder_tensors(model), _decoder_tensors(reference)
    note = "rotations of the residual stream are out of reach"
    if not matched:
        pairs = [_Pair(name, ours[name], theirs[name]) for name in ours]
        compared = (
            "entries of all linear maps and embeddings, as they stand, with those of the reference's residual "
            "coordinates in random order"
        )
        return _Comparison(pairs, {}, compared, f"{note}; permuted heads and feed-forward units need matching")
    assert head_dim is not None  # see `_require_decoders`
    return _matched_decoders(rng, model, ours, theirs, head_dim, f"{note}, and so are rotations inside heads")


def _require_decoders(model: Decoder, reference: Decoder, *, matched: bool, head_dim: int | None) -> None:
    named = [_named_leaves(params) for params in (model, reference)]
    for who, leaves in zip(("model", "reference"), named, strict=True):
        _require_finite(leaves, who)
    for name in sorted(named[0].keys() | named[1].keys()):
        shapes = [np.shape(leaves[name]) if name in leaves else "nothing" for leaves in named]
        if shapes[0] != shapes[1]:
            raise errors.InputError(
                f"{name}: model has the shape {shapes[0]}, reference {shapes[1]}; only audit.outputs applies"
            )
    hidden = np.shape(model.layers.query)[1]
    _require_units("residual coordinates", hidden - hidden // 2 if matched else hidden)
    if not matched:
        return
    if head_dim is None:
        raise errors.InputError("head_dim: how many features an attention head has is not in the weights; give it")
    width, kv_width = np.shape(model.layers.query)[2], np.shape(model.layers.key)[2]
    if width % head_dim or kv_width % head_dim or width % kv_width:
        raise errors.InputError(
            f"head_dim={head_dim} does not divide the {width} features of the queries and the {kv_width} of the keys "
            f"into whole heads"
        )


def _named_leaves(params: Decoder) -> dict[str, np.ndarray]:
    """All arrays of a decoder by their name, e.g. `layers query`, of which the first axis is the layer."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    return {" ".join(_names(path)): np.asarray(leaf) for path, leaf in leaves}


def _decoder_tensors(params: Decoder) -> dict[str, np.ndarray]:
    """Linear maps and embeddings, residual coordinates first."""
    tensors = {}
    for name in ("embedding", "head", "positions"):
        if (leaf := getattr(params, name)) is not None:
            tensors[name] = np.asarray(leaf).astype(np.float64).T
    for name in (*_READS, "output", "down"):
        if (leaf := getattr(params.layers, name)) is not None:
            for index, matrix in enumerate(np.asarray(leaf).astype(np.float64)):
                tensors[f"layer {index} {name}"] = matrix if name in _READS else matrix.T
    return tensors


def _matched_decoders(rng, model: Decoder, ours, theirs, head_dim: int, note: str) -> _Comparison:
    num_layers, hidden, width = np.shape(model.layers.query)
    kv_width = np.shape(model.layers.key)[2]
    seen, held_out = _halves(rng, hidden)
    matches, aligned = {}, {name: ours[name] for name in ("embedding", "head", "positions") if name in ours}
    kv_heads, group = kv_width // head_dim, width // kv_width
    for index in range(num_layers):
        prefix = f"layer {index} "

        def heads(tensors, name, prefix=prefix):
            """(head, residual coordinate, feature of the head)"""
            tensor = tensors[prefix + name]
            return tensor.reshape(hidden, -1, head_dim).swapaxes(0, 1)

        def units(tensors, name, prefix=prefix):
            """(unit, residual coordinate)"""
            return tensors[prefix + name].T

        shared = [
            _features(
                *(heads(tensors, name)[:, seen] for name in ("key", "value")),
                *(heads(tensors, name)[:, seen].reshape(kv_heads, group, -1).sum(1) for name in ("query", "output")),
            )
            for tensors in (ours, theirs)
        ]
        order, cosine = _match(*shared)
        own = [
            _features(*(heads(tensors, name)[:, seen] for name in ("query", "output"))).reshape(kv_heads, group, -1)
            for tensors in (ours, theirs)
        ]
        inside = [_match(own[0][order[place]], own[1][place])[0] for place in range(kv_heads)]
        query_order = np.concatenate([order[place] * group + inside[place] for place in range(kv_heads)])
        fed = [name for name in ("gate", "up", "down") if prefix + name in ours]
        unit_order, unit_cosine = _match(
            *(_features(*(units(tensors, name)[:, seen] for name in fed)) for tensors in (ours, theirs))
        )
        matches |= {f"{prefix}heads": cosine, f"{prefix}units": unit_cosine}
        for name, by in (("query", query_order), ("key", order), ("value", order), ("output", query_order)):
            aligned[prefix + name] = heads(ours, name)[by].swapaxes(0, 1).reshape(hidden, -1)
        for name in fed:
            aligned[prefix + name] = units(ours, name)[unit_order].T
    pairs = []
    for name in ours:
        scaled = [tensors[name][held_out] for tensors in (aligned, theirs)]
        if name.startswith("layer"):
            size = 1 if name.endswith(("gate", "up", "down")) else head_dim
            scaled = [_equal_blocks(tensor, size) for tensor in scaled]
        pairs.append(_Pair(name, *scaled))
    compared = (
        "all linear maps and embeddings: heads and feed-forward units were matched by one half of the residual "
        "coordinates, and tested are the others, whatever the scale of a head or unit"
    )
    return _Comparison(pairs, matches, compared, note)


def _features(*parts: np.ndarray) -> Float[np.ndarray, "unit entry"]:
    """Parts of each unit side by side, each scaled to length one."""
    return np.concatenate([_unit(part.reshape(len(part), -1)) for part in parts], axis=1)


def _equal_blocks(tensor: np.ndarray, size: int) -> np.ndarray:
    """The tensor with every block of so many columns scaled to length one."""
    blocks = tensor.reshape(len(tensor), -1, size)
    return (blocks * _ratio(1.0, np.linalg.norm(blocks, axis=(0, 2), keepdims=True))).reshape(tensor.shape)


# Matching and testing.


def _halves(rng, count: int) -> tuple[np.ndarray, np.ndarray]:
    order = rng.permutation(count)
    return np.sort(order[: count // 2]), np.sort(order[count // 2 :])


def _match(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, float]:
    """For each unit of the reference the unit of the model that it is matched with, and the mean cosine."""
    cosines = _unit(ours) @ _unit(theirs).T
    rows, columns = optimize.linear_sum_assignment(cosines, maximize=True)
    order = np.empty_like(rows)
    order[columns] = rows
    return order, float(np.mean(cosines[rows, columns]))


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length one; zeros stay."""
    return vectors * _ratio(1.0, np.linalg.norm(vectors, axis=1, keepdims=True))


def _ratio(above: Any, below: Any) -> Any:
    """The quotient, and zero where the divisor is zero."""
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), 0.0)


def _tested(rng, comparison: _Comparison, num_permutations: int, *, identical: bool) -> Relation:
    counts = {len(pair.model) for pair in comparison.pairs}
    orders = {  # of so many units, the actual one first; tensors of as many units are permuted together
        count: np.concatenate(
            [[np.arange(count)], rng.permuted(np.tile(np.arange(count), (num_permutations, 1)), axis=1)]
        )
        for count in sorted(counts)
    }
    values = np.stack([_correlations(pair, orders[len(pair.model)]) for pair in comparison.pairs])
    constant = np.ptp(values, axis=1) < 1e-12  # rounding of correlations
    if constant.all():
        raise errors.InputError(
            "no order of the units changes a correlation: the weights of the model or of the reference are constant, "
            "or all units are alike"
        )
    values = np.where(constant[:, None], 0.0, values)
    spread = np.where(constant, 1.0, np.std(values, axis=1))
    largest = np.max((values - np.mean(values, axis=1, keepdims=True)) / spread[:, None], axis=0)
    p_value = float(np.mean(largest >= largest[0]))
    random_spread = np.where(constant, 1.0, np.std(values[:, 1:], axis=1))
    zs = (values[:, 0] - np.mean(values[:, 1:], axis=1)) / random_spread
    of_orders = (values[:, 1:] - np.mean(values[:, 1:], axis=1, keepdims=True)) / random_spread[:, None]
    names = [pair.name for pair in comparison.pairs]
    best = int(np.argmax(zs))
    words = "related" if p_value <= LEVEL else "cannot tell" if p_value <= 0.05 else "not seen"
    if words == "related" and not comparison.is_exact:
        words = "cannot tell"
    return Relation(
        correlations=dict(zip(names, values[:, 0].tolist(), strict=True)),
        zs=dict(zip(names, zs.tolist(), strict=True)),
        tensor=names[best],
        z=float(zs[best]),
        order_z=float(np.quantile(np.max(of_orders, axis=0), 1 - LEVEL)),
        p_value=p_value,
        p_floor=1 / (1 + num_permutations),
        matches=comparison.matches,
        is_exact=comparison.is_exact,
        verdict="identical" if identical else words,
        compared=comparison.compared,
        note=comparison.note,
    )


def _correlations(pair: _Pair, orders: np.ndarray) -> Float[np.ndarray, "order"]:
    """Correlation of all entries for each order of the reference's units."""
    ours, theirs = (tensor - np.mean(tensor) for tensor in (pair.model, pair.reference))
    lengths = np.sqrt(np.sum(ours**2) * np.sum(theirs**2))
    products = ours @ theirs.T * _ratio(1.0, lengths)
    places = orders + len(products) * np.arange(len(products))
    return np.sum(products.ravel().take(places), axis=1)


def _require_units(name: str, count: int) -> None:
    if count < FEWEST_UNITS:
        raise errors.InputError(
            f"{name}: {count} units can be permuted, and their orders are too few for a p-value; expected "
            f"{FEWEST_UNITS} at least. audit.outputs compares answers"
        )


def _require_finite(tensors: dict[str, np.ndarray], who: str) -> None:
    for name, tensor in tensors.items():
        if bad := int(np.sum(~np.isfinite(tensor))):
            raise errors.InputError(
                f"{who}, {name}: {bad} of {tensor.size} weights are not finite; its training has diverged, or the file "
                f"is damaged"
            )


def _listed(sizes: Any) -> str:
    return " and ".join(map(str, sizes))


def _words(pairs: list[_Pair]) -> str:
    return ", ".join(pair.name for pair in pairs)
