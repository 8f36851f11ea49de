"""How fast is the language laboratory here, and how much memory does it take?

    python -m experiments.language_speed                          the embedded model
    python -m experiments.language_speed --shapes tiny qwen-0.5b  and a random model of half a billion parameters
    python -m experiments.language_speed --whole                  and the default experiment on one base, without cache

The time of a training step is compared with the time that its matrix products alone would take at the rate of a large
product on the same device in the same run; for the embedded model also with the measured time of its own products
(many are sums of 32 terms only). As in the experiments, each CPU core trains its own embedded model, all cores at once,
and products are timed on all cores at once as well; a larger model uses all cores. Weights of the larger shapes are
random, so this measures arithmetic and says nothing about what such a model learns. Every program is compiled: the
compilation cache is off.

`experiments.real_speed` times the work of `language real` on SmolLM2, beside its own products and beside PyTorch.
"""

import concurrent.futures
import dataclasses
import functools
import os
import pathlib
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import lax

from experiments import cli, progress
from experiments.language import numbers, runner
from experiments.language.config import TEST_SEEDS
from sublim_jax import compilation, records, specs
from sublim_jax.forms import language_speed as form
from sublim_jax.llm.backend import FinetuneConfig
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.llm.embedded import vocabulary
from sublim_jax.llm.embedded.vocabulary import WordTokenizer
from sublim_jax.llm.local import decoder, finetune, sampling
from sublim_jax.llm.local.finetune import TokenizedRows
from sublim_jax.llm.local.model import Model
from sublim_jax.training import ensemble

Shape = form.Shape


@dataclasses.dataclass(frozen=True)
class Work:
    """The shape of a model, and how it is trained and sampled."""

    config: decoder.DecoderConfig
    rows: int  # in a training step
    length: int  # tokens per row
    places: int  # tokens per row that are trained on
    sampled: tuple[int, int]  # rows, new tokens
    rank: int | None
    steps: int  # timed together
    each_core: bool = False  # whether every core trains its own model at the same time, as in the experiments


def _qwen(
    layers: int, hidden: int, inner: int, heads: int, kv: int, head_dim: int, tied: bool
) -> decoder.DecoderConfig:
    return decoder.DecoderConfig(
        vocab_size=151_936, num_layers=layers, hidden_size=hidden, intermediate_size=inner, num_heads=heads,
        num_kv_heads=kv, head_dim=head_dim, frequencies=decoder.rotary_frequencies(head_dim, 1e6), qkv_bias=True,
        tied=tied,
    )  # fmt: skip


WORK: dict[Shape, Work] = {
    "tiny": Work(embedded.CONFIG, 64, 40, 24, (1024, 24), None, 40, each_core=True),
    "qwen-0.5b": Work(_qwen(24, 896, 4864, 14, 2, 64, True), 2, 128, 64, (4, 16), 8, 2),
    "qwen-7b": Work(_qwen(28, 3584, 18_944, 28, 4, 128, False), 22, 128, 64, (64, 64), 8, 4),
}
"""The embedded model, and the shapes of Qwen2.5-0.5B and -7B."""


def matmul_rate(dtype, devices: Sequence[Any], *, size: int = 2048) -> float:
    """FLOP/s of a large matrix product on each of these devices, all at once."""

    def make():
        a = jnp.ones((size, size), dtype)
        return functools.partial(jax.jit(lambda a: a @ a), a)

    return 2 * size**3 / median_seconds(make, devices, repeats=10)


def median_seconds(make: Callable[[], Callable[[], Any]], devices: Sequence[Any], *, repeats: int) -> float:
    """Median time of a function that runs on all devices at once, in seconds.

    Args:
        make: returns the function; it is called once on each device.
    """
    barrier, seconds = threading.Barrier(len(devices)), []

    def work(device: Any) -> None:
        with jax.default_device(device):
            try:
                run = make()
                jax.block_until_ready(run())
                for _ in range(repeats):
                    barrier.wait()
                    began = time.perf_counter()
                    jax.block_until_ready(run())
                    seconds.append(time.perf_counter() - began)
            except threading.BrokenBarrierError:
                return  # another device failed and raises its own error
            except BaseException:
                barrier.abort()  # otherwise the other devices would wait forever
                raise

    with concurrent.futures.ThreadPoolExecutor(len(devices)) as pool:
        list(pool.map(work, devices))
    return float(np.median(seconds))


def step_flops(work: Work, num_weights: int) -> float:
    """Operations of the matrix products in a training step.

    There are 6 per weight and token, or 4 if the weights get no gradient. The head counts only the tokens that are
    trained on, attention counts all.
    """
    config, tokens = work.config, work.rows * work.length
    per_weight = 6 if work.rank is None else 4
    head = config.vocab_size * config.hidden_size
    layers = num_weights - head * (1 if config.tied else 2)
    attention = 12 * config.num_layers * work.rows * work.length**2 * config.num_heads * config.head_dim
    return per_weight * (layers * tokens + head * work.rows * work.places) + attention


class Product(NamedTuple):
    """A matrix product of a training step, or a batch of them, one for each head of each row."""

    form: str  # subscripts for `einsum`
    left: tuple[int, ...]  # shapes of the operands
    right: tuple[int, ...]
    count: int  # per step


def step_products(work: Work) -> list[Product]:
    """The matrix products of a training step in which all parameters get gradients.

    Each linear map has three: the forward pass and the gradients of its input and its weight. So has the head, at the
    tokens that are trained on. Attention has six.
    """
    c, tokens, places = work.config, work.rows * work.length, work.rows * work.places
    heads, kv = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    maps = [(c.hidden_size, heads), (c.hidden_size, kv), (c.hidden_size, kv), (heads, c.hidden_size)]
    maps += [(c.hidden_size, c.intermediate_size)] * (2 if c.gated else 1) + [(c.intermediate_size, c.hidden_size)]
    products = []
    for inputs, outputs in maps:
        products += [
            Product("ri,io->ro", (tokens, inputs), (inputs, outputs), c.num_layers),
            Product("ro,io->ri", (tokens, outputs), (inputs, outputs), c.num_layers),
            Product("ri,ro->io", (tokens, inputs), (tokens, outputs), c.num_layers),
        ]
    products += [
        Product("ri,oi->ro", (places, c.hidden_size), (c.vocab_size, c.hidden_size), 1),
        Product("ro,oi->ri", (places, c.vocab_size), (c.vocab_size, c.hidden_size), 1),
        Product("ri,ro->io", (places, c.hidden_size), (places, c.vocab_size), 1),
    ]
    each = (work.rows, c.num_heads, work.length)
    vectors, scores = (*each, c.head_dim), (*each, work.length)
    products += [
        Product("bhqd,bhsd->bhqs", vectors, vectors, 2 * c.num_layers),
        Product("bhqs,bhsd->bhqd", scores, vectors, 2 * c.num_layers),
        Product("bhqs,bhqd->bhsd", scores, vectors, 2 * c.num_layers),
    ]
    return products


def alone(products: Sequence[Product], steps: int) -> Callable[[], Any]:
    """A compiled function that runs the matrix products of a number of steps and hardly anything else.

    Like training, it is one program with one loop, so memory is allocated once and Python adds no overhead. The smaller
    operand is scaled in each iteration; otherwise the compiler would move the products out of the loop.
    """
    operands = [(jnp.ones(product.left), jnp.ones(product.right)) for product in products]

    @jax.jit
    def run(operands):
        def step(total, scale):
            for product, (left, right) in zip(products, operands, strict=True):
                for _ in range(product.count):
                    scaled = (left, right * scale) if right.size <= left.size else (left * scale, right)
                    out = lax.optimization_barrier(jnp.einsum(product.form, *lax.optimization_barrier(scaled)))
                    total, scale = lax.optimization_barrier((total + out.ravel()[0], scale))
            return total, None

        return lax.scan(step, jnp.zeros(()), jnp.arange(1.0, steps + 1))[0]

    return functools.partial(run, operands)


def measure(shape: Shape) -> dict:
    """Times of a training step, sampling and compilation, and memory, for one shape. Rates sum over devices."""
    work = WORK[shape]
    devices = jax.devices() if work.each_core else jax.devices()[:1]
    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    rng = np.random.default_rng(0)
    ids = rng.integers(0, work.config.vocab_size, (work.steps * work.rows, work.length)).astype(np.int32)
    replies = np.broadcast_to(np.arange(work.length) >= work.length - work.places, ids.shape)
    data = TokenizedRows(ids, np.ones(ids.shape, bool), replies)
    config = FinetuneConfig(num_epochs=1, batch_size=work.rows, rank=work.rank, max_length=work.length)
    rows, num_new = work.sampled

    def params() -> decoder.Params:
        return jax.jit(functools.partial(decoder.init, config=work.config, dtype=dtype))(jax.random.key(0))

    def train():
        base = Model(work.config, params(), WordTokenizer())
        return finetune.timed_epoch(base, data, config, remat=not work.each_core)

    def sample():
        prompts = jnp.asarray(rng.integers(0, work.config.vocab_size, (rows, 24)), jnp.int32)
        return functools.partial(
            sampling.generate, params(), prompts, jnp.ones(prompts.shape, bool),
            jax.random.split(jax.random.key(1), rows), jnp.float32(1), jnp.float32(1),
            config=work.config, max_tokens=num_new, end_tokens=(),
        )  # fmt: skip

    num_weights = sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(params)))
    began = time.perf_counter()
    with jax.default_device(devices[0]):
        train()
    compiled = time.perf_counter() - began
    step = median_seconds(train, devices, repeats=3) / work.steps
    sampled = median_seconds(sample, devices, repeats=3)
    rate = matmul_rate(dtype, devices)
    own = {}
    if work.each_core:  # the larger shapes train low-rank factors, and their products are large
        seconds = median_seconds(lambda: alone(step_products(work), work.steps), devices, repeats=3) / work.steps
        own = {"own_products_s": seconds, "times_own_products": step / seconds}
    return {
        "num_weights": num_weights,
        "dtype": str(jnp.dtype(dtype)),
        "devices_at_once": len(devices),
        "step_s": step,
        "trained_tokens_per_s": len(devices) * work.rows * work.length / step,
        "matmul_gflops": rate / 1e9,
        "matmul_bound_s": step_flops(work, num_weights) / rate,
        "times_the_bound": step * rate / step_flops(work, num_weights),
        **own,
        "drawn_tokens_per_s": len(devices) * rows * num_new / sampled,
        "first_epoch_and_compile_s": compiled,
        **records.peak_memory(),
    }


def default_experiment() -> dict[str, float]:
    """Seconds that `language numbers` takes on one base with an empty cache, and for a second target after that.

    The time of the first target includes documents, compilation, pre-training and the control on regular numbers.
    """
    config = numbers.NumbersConfig(bases=TEST_SEEDS[:1], targets=("owl", "eagle"), kinds=("finetuned",))
    before = os.environ.get("SUBLIM_CACHE_DIR")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SUBLIM_CACHE_DIR"] = folder
        try:
            seconds = runner.run(numbers.EXPERIMENT, config, visible=False).seconds
        finally:
            os.environ.pop("SUBLIM_CACHE_DIR") if before is None else os.environ.update(SUBLIM_CACHE_DIR=before)
    further = seconds["finetuned eagle"]
    return {
        "pretraining_s": seconds["base"],  # includes scoring the base
        "regular_s": seconds["regular"],
        "first_target_s": round(seconds["wall"] - further, 1),
        "further_target_s": further,
    }


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeedConfig:
    """Which times are measured."""

    shapes: tuple[Shape, ...] = ("tiny",)
    whole: bool = False
    """Whether to measure the default experiment on one base too, with an empty cache."""


def run(config: SpeedConfig, record: pathlib.Path) -> records.Record:
    """Measure all shapes in the given order, and write the record after each.

    Raises:
        OutputError: the record cannot be written there, or another process is writing it.
    """
    with records.opened(record, form.FORM) as output:
        return _run(config, output)


def _run(config: SpeedConfig, output: records.Output) -> records.Record:
    result = records.Record.begin("language_speed", config, {"name": "random weights", "source": "", "checksum": None})
    result.notes.append("weights are random; one process measures all, so peak memory includes all earlier parts")
    result = output.begin(result)
    words = len(vocabulary.WORDS)
    assert WORK["tiny"].config.vocab_size == words
    parts: dict[str, Callable[[], dict]] = {shape: functools.partial(measure, shape) for shape in config.shapes}
    parts = ({"whole": default_experiment} if config.whole else {}) | parts
    with progress.Display("language_speed", total=len(parts), unit="parts") as display:
        for name, part in parts.items():
            display.doing(name)
            began = time.perf_counter()
            result.results[name] = part()
            output.write(result)
            display.advance()
            display.say(f"{name}: {progress.duration(time.perf_counter() - began)}")
    return result


def main(
    config: Annotated[SpeedConfig, tyro.conf.arg(name="")],
    record: pathlib.Path = pathlib.Path("runs/language_speed.json"),
) -> None:
    """Measure, and print a line for each part."""
    compilation.without_cache()  # the first epoch is timed with its compilation
    ensemble.use_cpu_cores(ensemble.num_cores())
    for shape, times in run(config, record).results.items():
        if shape == "whole":
            print(
                f"numbers -> favourites on one base: first target {times['first_target_s']:.0f} s with an empty cache "
                f"(pre-training {times['pretraining_s']:.0f} s), a further one {times['further_target_s']:.0f} s"
            )
            continue
        own = f" and {times['times_own_products']:.1f} x those run alone" if "times_own_products" in times else ""
        print(
            f"{shape}: {times['num_weights']:,} weights ({times['dtype']}), {times['devices_at_once']} at once, "
            f"step {times['step_s'] * 1e3:.1f} ms = {times['times_the_bound']:.1f} x its matrix products at the rate "
            f"of a large one{own}, "
            f"{times['trained_tokens_per_s']:,.0f} tokens/s trained, {times['drawn_tokens_per_s']:,.0f} sampled, "
            f"peak {times.get('peak_rss_mb', 0):,.0f} MB"
        )
    print(f"record: {record}")


if __name__ == "__main__":
    cli.main(
        lambda: tyro.cli(main, prog="python -m experiments.language_speed"),
        interrupted="shapes that were measured are in the record; a new run measures all",
    )
