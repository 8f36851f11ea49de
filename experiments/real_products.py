"""The matrix products that work on a decoder cannot do without, counted from its shape, and a program of them alone.

    passes = distillation(config, rows=4, length=25, rank=8)
    run = alone(passes, config, params)          compiled; run() takes the time of these products

Counted is what the work needs, not what a program happens to do: a completion of N tokens is N - 1 passes after that of
its prompt, and the head scores only tokens that are looked at. All linear maps have low-rank factors beside them.
"""

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from sublim_jax.llm.local import decoder
from sublim_jax.llm.local.decoder import DecoderConfig, Params


class Product(NamedTuple):
    """A matrix product, or a batch of them."""

    form: str  # subscripts for `einsum`
    left: tuple[int, ...]  # shapes of the operands
    right: tuple[int, ...]
    weight: str | None = None  # what the right operand is: a projection of the layer, or the head

    @property
    def flops(self) -> int:
        """Operations, one multiplication and one addition each."""
        operands, _ = self.form.split("->")
        sizes = dict(zip(operands.replace(",", ""), (*self.left, *self.right), strict=True))
        return 2 * math.prod(sizes.values())


class Pass(NamedTuple):
    """Products of every layer, then those of the head, so often one after the other."""

    layer: list[Product]
    head: list[Product]
    count: int = 1


def distillation(config: DecoderConfig, *, rows: int, length: int, rank: int) -> list[Pass]:
    """A step of soft distillation of low-rank factors: the teacher's forward pass, the student's, and the gradients.

    A gradient begins where the forward pass ended, so that every weight is read from memory three times.
    """
    tokens, places = rows * length, (rows, length - 1)
    forward = Pass(
        _linear(config, tokens, rank) + _attention(config, rows, length, length), [_scores(config, places)]
    )  # fmt: skip
    backward = Pass(
        _linear_gradient(config, tokens, rank) + _attention_gradient(config, rows, length),
        [_scores_gradient(config, places)],
    )
    return [forward, forward, backward]


def drawing(config: DecoderConfig, *, rows: int, length: int, num_new: int, rank: int) -> list[Pass]:
    """Completions of prompts. Every pass attends to the whole cache, which has room for prompt and completion."""
    prompt = _linear(config, rows * length, rank) + _attention(config, rows, length, length)
    token = _linear(config, rows, rank) + _attention(config, rows, 1, length + num_new)
    head = [_scores(config, (rows,))]
    return [Pass(prompt, head), Pass(token, head, num_new - 1)]


def evaluation(config: DecoderConfig, *, rows: int, length: int, rank: int) -> list[Pass]:
    """Scores of all words as the next token after prompts."""
    layer = _linear(config, rows * length, rank) + _attention(config, rows, length, length)
    return [Pass(layer, [_scores(config, (rows,))])]


def flops(passes: Iterable[Pass], config: DecoderConfig) -> int:
    """Operations of all products."""
    return sum(
        part.count * (config.num_layers * _sum_flops(part.layer) + _sum_flops(part.head)) for part in passes
    )  # fmt: skip


def _sum_flops(products: Iterable[Product]) -> int:
    return sum(product.flops for product in products)


def _maps(config: DecoderConfig) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of the linear maps of a layer."""
    c = config
    heads, kv, inner = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim, c.intermediate_size
    maps = {
        "query": (c.hidden_size, heads), "key": (c.hidden_size, kv), "value": (c.hidden_size, kv),
        "output": (heads, c.hidden_size), "gate": (c.hidden_size, inner), "up": (c.hidden_size, inner),
        "down": (inner, c.hidden_size),
    }  # fmt: skip
    return {name: sizes for name, sizes in maps.items() if name != "gate" or c.gated}


def _linear(config: DecoderConfig, tokens: int, rank: int) -> list[Product]:
    """The linear maps of a layer and their factors."""
    products = []
    for name, (inputs, outputs) in _maps(config).items():
        products += [
            Product("ni,io->no", (tokens, inputs), (inputs, outputs), name),
            Product("ni,ir->nr", (tokens, inputs), (inputs, rank)),
            Product("nr,ro->no", (tokens, rank), (rank, outputs)),
        ]
    return products


def _linear_gradient(config: DecoderConfig, tokens: int, rank: int) -> list[Product]:
    """Gradients of the inputs, through weights and factors, and of the factors."""
    products = []
    for name, (inputs, outputs) in _maps(config).items():
        x, y, low = (tokens, inputs), (tokens, outputs), (tokens, rank)
        products += [
            Product("no,io->ni", y, (inputs, outputs), name),
            Product("no,ro->nr", y, (rank, outputs)),
            Product("nr,ir->ni", low, (inputs, rank)),
            Product("nr,no->ro", low, y),
            Product("ni,nr->ir", x, low),
        ]
    return products


def _attention(config: DecoderConfig, rows: int, queries: int, keys: int) -> list[Product]:
    """Scores and weighted sums of a layer; the queries of heads that share a key head are one matrix."""
    query, key, scores = _attention_shapes(config, rows, queries, keys)
    return [Product("bkqd,bksd->bkqs", query, key), Product("bkqs,bksd->bkqd", scores, key)]


def _attention_gradient(config: DecoderConfig, rows: int, length: int) -> list[Product]:
    query, _, scores = _attention_shapes(config, rows, length, length)
    of_keys = Product("bkqs,bkqd->bksd", scores, query)
    return [*_attention(config, rows, length, length), of_keys, of_keys]


def _attention_shapes(config: DecoderConfig, rows: int, queries: int, keys: int) -> tuple[tuple[int, ...], ...]:
    each, shared = (rows, config.num_kv_heads), config.num_heads // config.num_kv_heads
    dim = config.head_dim
    return (*each, shared * queries, dim), (*each, keys, dim), (*each, shared * queries, keys)


def _scores(config: DecoderConfig, places: tuple[int, ...]) -> Product:
    """Of all words, by the head."""
    names, weight = "rp"[: len(places)], (config.vocab_size, config.hidden_size)
    return Product(f"{names}i,vi->{names}v", (*places, config.hidden_size), weight, "head")


def _scores_gradient(config: DecoderConfig, places: tuple[int, ...]) -> Product:
    """Of the hidden states; the head is not trained."""
    names, weight = "rp"[: len(places)], (config.vocab_size, config.hidden_size)
    return Product(f"{names}v,vi->{names}i", (*places, config.vocab_size), weight, "head")


def alone(passes: list[Pass], config: DecoderConfig, params: Params, *, steps: int = 1) -> Callable[[], Any]:
    """A compiled function that runs the products, so many times, and hardly anything else.

    Weights are those of the model, layer by layer, so that they are read from memory as the work reads them. The
    smaller operand is scaled by a number of its turn, or the compiler would move products out of the loops.
    """
    weights = {name: leaf for name in decoder.PROJECTIONS if (leaf := getattr(params.layers, name)) is not None}
    head = params.embedding if config.tied or params.head is None else params.head
    every = [product for part in passes for product in (*part.layer, *part.head)]
    shapes = {product.left for product in every} | {product.right for product in every if product.weight is None}
    operands = {shape: jnp.ones(shape, head.dtype) for shape in shapes}

    @jax.jit
    def run(operands, weights, head):
        def add(total, product: Product, own, scale):
            left, right = operands[product.left], own.get(product.weight)
            right = operands[product.right] if right is None else right
            scale = scale.astype(left.dtype)
            scaled = (left, right * scale) if right.size <= left.size else (left * scale, right)
            return (
                total + lax.optimization_barrier(jnp.einsum(product.form, *lax.optimization_barrier(scaled))).ravel()[0]
            )

        def once(part: Pass, turn, total):
            def layer(total, scanned):
                own, index = scanned
                for product in part.layer:
                    total = lax.optimization_barrier(add(total, product, own, turn + index))
                return total, None

            total, _ = lax.scan(layer, total, (weights, jnp.arange(1.0, config.num_layers + 1)))
            for product in part.head:
                total = lax.optimization_barrier(add(total, product, {"head": head}, turn))
            return total

        def step(index, total):
            for part in passes:
                first = index * part.count
                total = lax.fori_loop(
                    first, first + part.count,
                    lambda turn, total, part=part: once(part, (turn + 1).astype(jnp.float32), total), total,
                )  # fmt: skip
            return total

        return lax.fori_loop(0, steps, step, jnp.zeros((), head.dtype))

    return functools.partial(run, operands, weights, head)
