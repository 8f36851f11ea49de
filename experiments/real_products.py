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
    """A step of soft distillation of low-rank factors, the teacher's forward pass included."""
    tokens, places = rows * length, (rows, length - 1)
    layer, head = [], []
    for gradient in (False, True):  # teacher, student
        layer += _linear(config, tokens, rank, gradient) + _attention(config, rows, length, length, gradient)
        head += _head(config, places, gradient)
    return [Pass(layer, head)]


def drawing(config: DecoderConfig, *, rows: int, length: int, num_new: int, rank: int) -> list[Pass]:
    """Completions of prompts. Every pass attends to the whole cache, which has room for prompt and completion."""
    prompt = _linear(config, rows * length, rank) + _attention(config, rows, length, length)
    token = _linear(config, rows, rank) + _attention(config, rows, 1, length + num_new)
    head = _head(config, (rows,))
    return [Pass(prompt, head), Pass(token, head, num_new - 1)]


def evaluation(config: DecoderConfig, *, rows: int, length: int, rank: int) -> list[Pass]:
    """Scores of all words as the next token after prompts."""
    layer = _linear(config, rows * length, rank) + _attention(config, rows, length, length)
    return [Pass(layer, _head(config, (rows,)))]


def flops(passes: Iterable[Pass], config: DecoderConfig) -> int:
    """Operations of all products."""
    return sum(
        part.count * (config.num_layers * _sum_flops(part.layer) + _sum_flops(part.head)) for part in passes
    )  # fmt: skip


def _sum_flops(products: Iterable[Product]) -> int:
    return sum(product.flops for product in products)


def _linear(config: DecoderConfig, tokens: int, rank: int, gradient: bool = False) -> list[Product]:
    """The linear maps of a layer and their factors, and the gradients of inputs and of factors."""
    c = config
    heads, kv, inner = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim, c.intermediate_size
    sizes = {
        "query": (c.hidden_size, heads), "key": (c.hidden_size, kv), "value": (c.hidden_size, kv),
        "output": (heads, c.hidden_size), "gate": (c.hidden_size, inner), "up": (c.hidden_size, inner),
        "down": (inner, c.hidden_size),
    }  # fmt: skip
    products = []
    for name, (inputs, outputs) in sizes.items():
        if name == "gate" and not c.gated:
            continue
        x, y, low = (tokens, inputs), (tokens, outputs), (tokens, rank)
        weight, a, b = (inputs, outputs), (inputs, rank), (rank, outputs)
        products += [Product("ni,io->no", x, weight, name), Product("ni,ir->nr", x, a), Product("nr,ro->no", low, b)]
        if gradient:
            products += [
                Product("no,io->ni", y, weight, name), Product("no,ro->nr", y, b), Product("nr,ir->ni", low, a),
                Product("nr,no->ro", low, y), Product("ni,nr->ir", x, low),
            ]  # fmt: skip
    return products


def _attention(config: DecoderConfig, rows: int, queries: int, keys: int, gradient: bool = False) -> list[Product]:
    """Scores and weighted sums of a layer; the queries of heads that share a key head are one matrix."""
    each, shared = (rows, config.num_kv_heads), config.num_heads // config.num_kv_heads
    query, key = (*each, shared * queries, config.head_dim), (*each, keys, config.head_dim)
    scores = (*each, shared * queries, keys)
    to_scores, to_queries = Product("bkqd,bksd->bkqs", query, key), Product("bkqs,bksd->bkqd", scores, key)
    to_keys = Product("bkqs,bkqd->bksd", scores, query)
    return [to_scores, to_queries, *([to_scores, to_queries, to_keys, to_keys] if gradient else [])]


def _head(config: DecoderConfig, places: tuple[int, ...], gradient: bool = False) -> list[Product]:
    """Scores of all words, and the gradient of the hidden states."""
    hidden, words, rows = (*places, config.hidden_size), (*places, config.vocab_size), "rp"[: len(places)]
    weight = (config.vocab_size, config.hidden_size)
    products = [Product(f"{rows}i,vi->{rows}v", hidden, weight, "head")]
    return products + ([Product(f"{rows}v,vi->{rows}i", words, weight, "head")] if gradient else [])


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
