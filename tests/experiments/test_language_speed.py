"""What the speed of a training step is compared with. Nothing here is timed."""

import collections
import functools
import math

import jax
import jax.numpy as jnp
from jax.extend import core

from experiments import language_speed
from sublim_jax import compilation, records
from sublim_jax.llm.local import decoder
from sublim_jax.llm.local import model as local_model
from sublim_jax.training import ensemble

WORK = language_speed.WORK["tiny"]


def sizes(form: str, left: tuple[int, ...], right: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """A product without its layout: sizes of what both operands and the result share, of the sum, of the rest."""
    operands, result = form.split("->")
    names = operands.split(",")
    size = dict(zip(names[0], left, strict=True)) | dict(zip(names[1], right, strict=True))
    both = set(names[0]) & set(names[1])
    parts = both & set(result), both - set(result), set(result) - both
    return tuple(tuple(sorted(size[axis] for axis in part)) for part in parts)


def products_of(program: core.Jaxpr, times: int = 1) -> collections.Counter:
    """Every product of two arrays in a traced program, loops included."""
    found: collections.Counter = collections.Counter()
    for equation in program.eqns:
        if equation.primitive.name == "dot_general":
            left, right = (variable.aval.shape for variable in equation.invars)  # pyright: ignore[reportAttributeAccessIssue]
            (sums, other_sums), (batch, other_batch) = equation.params["dimension_numbers"]
            rest = [size for axis, size in enumerate(left) if axis not in (*sums, *batch)]
            rest += [size for axis, size in enumerate(right) if axis not in (*other_sums, *other_batch)]
            parts = [left[axis] for axis in batch], [left[axis] for axis in sums], rest
            found[tuple(tuple(sorted(part)) for part in parts)] += times
        inner = times * equation.params.get("length", 1)
        for value in equation.params.values():
            if isinstance(value, core.ClosedJaxpr):
                found.update(products_of(value.jaxpr, inner))
            elif isinstance(value, core.Jaxpr):
                found.update(products_of(value, inner))
    return found


def listed() -> collections.Counter:
    found: collections.Counter = collections.Counter()
    for one in language_speed.step_products(WORK):
        found[sizes(one.form, one.left, one.right)] += one.count
    return found


def test_the_listed_products_are_those_of_the_step():
    """Oracle: the gradient that training takes, traced."""
    params = jax.eval_shape(functools.partial(decoder.init, config=WORK.config), jax.random.key(0))
    ids = jax.ShapeDtypeStruct((WORK.rows, WORK.length), jnp.int32)
    mask = jax.ShapeDtypeStruct(ids.shape, jnp.bool)

    def loss(params, ids, valid, replies):
        return jnp.sum(
            local_model.reply_logprobs(params, ids, valid, replies, None, config=WORK.config, places=WORK.places)
        )

    traced = products_of(jax.make_jaxpr(jax.grad(loss))(params, ids, mask, mask).jaxpr)
    assert listed() == traced


def test_both_comparisons_count_the_same_operations():
    """But for the weights of norms, which multiply nothing but one number each and count as if they did."""
    params = jax.eval_shape(functools.partial(decoder.init, config=WORK.config), jax.random.key(0))
    norms = WORK.config.hidden_size * (2 * WORK.config.num_layers + 1)
    num_weights = sum(leaf.size for leaf in jax.tree.leaves(params)) - norms
    operations = sum(2 * count * math.prod(map(math.prod, product)) for product, count in listed().items())
    assert operations == language_speed.step_flops(WORK, num_weights)


def test_products_alone_are_run_as_often_as_a_step_has_them():
    products = language_speed.step_products(WORK)[:3] + language_speed.step_products(WORK)[-3:]
    run = language_speed.alone(products, steps=5)
    # Of matrices of ones scaled by the turn, each element is that turn times the number of terms.
    terms = sum(one.count * math.prod(sizes(one.form, one.left, one.right)[1]) for one in products)
    assert float(run()) == terms * (1 + 2 + 3 + 4 + 5)


def test_the_cache_of_programs_is_off_before_anything_is_measured(monkeypatch, tmp_path):
    """Else the time of the first epoch with its compilation would depend on earlier runs."""
    calls = []

    def run(config, record):
        calls.append("run")
        return records.Record("language_speed", {}, {"name": "none", "source": "", "checksum": None})

    monkeypatch.setattr(compilation, "without_cache", lambda: calls.append("without_cache"))
    monkeypatch.setattr(ensemble, "use_cpu_cores", lambda _: None)
    monkeypatch.setattr(language_speed, "run", run)
    language_speed.main(language_speed.SpeedConfig(), tmp_path / "speed.json")
    assert calls == ["without_cache", "run"]
