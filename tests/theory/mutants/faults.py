"""What can go wrong in a distillation or in the code that measures it: one fault each, planted by replacing a function.

The first group spoils the student's step, as a bug in training would: the wrong labels, logits, weights, start or
update rule. The second spoils the theory itself. Where a fault satisfies the theorem (another subset of the logits,
half of the batch, a sum for a mean, another loss of the contract) the sign cannot see it, and only a stronger property
can.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sublim_jax import losses
from sublim_jax.metrics import alignment as products
from sublim_jax.models import mlp
from sublim_jax.theory import (
    counterexamples,
    filters,
    linear,
    loss_geometry,
    multi_step,
    one_step,
    preconditioned,
    spectrum,
    symmetry,
)
from tests.theory import universal

_original_step = one_step.student_update


@dataclasses.dataclass(frozen=True)
class Fault:
    """Replace `module.attribute` by `replacement`; `what` says it in words for the record and the figure."""

    name: str
    what: str
    module: object
    attribute: str
    replacement: Callable


def _noise(params, scale, seed=0):
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: scale * random.standard_normal(leaf.shape), params)


def _step(*, labels=None, start=None, forward=None, loss=None, weights=None, after=None, tied=False):
    """A student's step with some part of it replaced; what is not named stays as it should be.

    labels(y, z): labels from the teacher's logits y and the student's z. start(student), forward(f), loss(distance),
    weights(w, batch size), after(step, student, teacher).
    """

    def student_update(f, distance, student, teacher, inputs, w=None):
        origin = student
        f_student = forward(f) if forward else f
        student = start(student) if start else student
        criterion = loss(loss_geometry.as_loss(distance)) if loss else loss_geometry.as_loss(distance)
        w = weights(w, jax.tree.leaves(inputs)[0].shape[0]) if weights else w

        def objective(params):
            z = f_student(params, inputs)
            y = f(optax.tree.add(params, optax.tree.sub(teacher, origin)) if tied else teacher, inputs)
            return criterion(z, labels(y, jax.lax.stop_gradient(z)) if labels else y, w)

        step = jax.tree.map(jnp.negative, jax.grad(objective)(student))
        return after(step, student, teacher) if after else step

    return student_update


def _seen(y):
    """Distilled logits of the universal network; the others hold a constant far below."""
    return y > universal.OUT_OF_SIGHT / 2


def _hard(y, z):
    best = y >= jnp.max(jnp.where(_seen(y), y, -jnp.inf), axis=-1, keepdims=True)
    return jnp.where(_seen(y), jnp.where(best, 30.0, 0.0), y)


def _smooth(y, z):
    seen = _seen(y)
    mean = jnp.sum(jnp.where(seen, y, 0.0), axis=-1, keepdims=True) / jnp.sum(seen, axis=-1, keepdims=True)
    return jnp.where(seen, 0.9 * y + 0.1 * mean, y)


def _standardise(y, z):
    seen = _seen(y)
    count = jnp.sum(seen, axis=-1, keepdims=True)
    mean = jnp.sum(jnp.where(seen, y, 0.0), axis=-1, keepdims=True) / count
    spread = jnp.sqrt(jnp.sum(jnp.where(seen, (y - mean) ** 2, 0.0), axis=-1, keepdims=True) / count + 1e-6)
    return jnp.where(seen, (y - mean) / spread, y)


def _other_logits(f):
    if not hasattr(f, "choice"):
        return f
    return universal.distilled(f.architecture, f.choice._replace(distilled=jnp.roll(f.choice.distilled, 1)))


def _wrong_logits(f, distance, student, teacher, inputs, w=None):
    return _original_step(_other_logits(f), distance, student, teacher, inputs, w)


def _by_name(tree, change):
    """`change(name, leaf)` for each leaf, where a name is its place in the pytree."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: change(jax.tree_util.keystr(path), leaf), tree)


def _without_biases(step, student, teacher):
    return _by_name(step, lambda name, leaf: jnp.zeros_like(leaf) if "bias" in name else leaf)


def _without_readout(step, student, teacher):
    return _by_name(step, lambda name, leaf: jnp.zeros_like(leaf) if "readout" in name or "[2]" in name else leaf)


def _partly_loaded(f, distance, student, teacher, inputs, w=None):
    mixed = jax.tree_util.tree_map_with_path(
        lambda path, old, new: old if "readout" in str(path) or "[2]" in str(path) else new, student, teacher
    )
    return _original_step(f, distance, student, mixed, inputs, w)


def _backwards(f, distance, student, teacher, inputs, w=None):
    return _original_step(
        f, distance, student, optax.tree.add_scale(student, -1.0, optax.tree.sub(teacher, student)), inputs, w
    )


def _two_steps(f, distance, student, teacher, inputs, w=None):
    first = _original_step(f, distance, student, teacher, inputs, w)
    after = optax.tree.add_scale(student, 0.1, first)
    second = _original_step(f, distance, after, teacher, inputs, w)
    return optax.tree.add(first, second)


def _uneven_accumulation(f, distance, student, teacher, inputs, w=None):
    half = len(inputs) // 2
    w = jnp.ones(len(inputs)) if w is None else w + 1e-3
    parts = [
        _original_step(f, distance, student, teacher, inputs[s], w[s]) for s in (slice(0, half), slice(half, None))
    ]
    return jax.tree.map(lambda a, b: (a + b) / 2, *parts)


def _dropped_units(f):
    def dropped(leaf):
        keep = jnp.where(np.arange(leaf.shape[-1]) == 1, 0.5, 1.0)
        return leaf * jnp.broadcast_to(keep, leaf.shape)

    return lambda params, inputs: f(jax.tree.map(dropped, params), inputs)


def _augmented(f):
    return lambda params, inputs: f(params, inputs + 1e-3)


def _first_half(w, count):
    keep = jnp.arange(count) < count // 2
    return jnp.where(keep, 1.0 if w is None else w + 1e-3, 0.0)


def _scaled(factor):
    return lambda step, student, teacher: jax.tree.map(lambda leaf: factor * leaf, step)


STUDENT_FAULTS = (
    ("sign_flipped", "ascends the loss", _step(after=_scaled(-1.0))),
    ("tied_teacher", "gradients flow through the labels", _step(tied=True)),
    ("independent_start", "another initialisation", _step(start=lambda s: _noise(s, 0.5))),
    ("start_noise", "initialisation off by 0.001", _step(start=lambda s: optax.tree.add(s, _noise(s, 1e-3)))),
    ("wrong_logits", "distils the neighbours of the chosen logits", _wrong_logits),
    ("temperature_mismatch", "teacher's temperature is twice the student's", _step(labels=lambda y, z: 0.5 * y)),
    ("labels_rolled", "each input gets its neighbour's labels", _step(labels=lambda y, z: jnp.roll(y, 1, axis=0))),
    ("arguments_swapped", "loss(teacher, student)", _step(loss=lambda distance: lambda z, y, w: distance(y, z, w))),
    ("hard_labels", "labels are the teacher's argmax", _step(labels=_hard)),
    ("smoothed_labels", "labels pulled 10 % to their mean", _step(labels=_smooth)),
    ("standardised_labels", "labels with mean 0 and variance 1", _step(labels=_standardise)),
    ("rounded_labels", "labels rounded to bfloat16", _step(labels=lambda y, z: y.astype(jnp.bfloat16).astype(y.dtype))),
    ("stale_labels", "labels of the reference, not the teacher", _step(labels=lambda y, z: z)),
    ("sum_for_mean", "sums over the batch", _step(after=_scaled(4.0))),
    ("half_batch", "second half of the batch is lost", _step(weights=_first_half)),
    ("weights_ignored", "every input counts the same", _step(weights=lambda w, count: None)),
    ("uneven_accumulation", "averages two half-batches of unequal weight", _uneven_accumulation),
    (
        "squared_error_always",
        "another loss of the contract",
        _step(loss=lambda distance: lambda z, y, w: losses.squared_error(z, y, weights=w)),
    ),
    ("sign_descent", "steps by the sign of the gradient", _step(after=lambda s, a, b: jax.tree.map(jnp.sign, s))),
    (
        "normalised_gradient",
        "divides the gradient by its norm",
        _step(after=lambda s, a, b: one_step.unit_update(s)),
    ),
    (
        "clipped_coordinates",
        "clips each coordinate at 0.001",
        _step(after=lambda s, a, b: jax.tree.map(lambda leaf: jnp.clip(leaf, -1e-3, 1e-3), s)),
    ),
    ("weight_decay", "decays weights at 0.005", _step(after=lambda s, a, b: optax.tree.add_scale(s, -5e-3, a))),
    ("biases_frozen", "student's biases do not move", _step(after=_without_biases)),
    ("readout_frozen", "student's readout does not move", _step(after=_without_readout)),
    ("teacher_backwards", "teacher at reference - ε D", _backwards),
    ("teacher_partly_loaded", "teacher keeps the reference's readout", _partly_loaded),
    ("two_steps", "two steps counted as one", _two_steps),
    ("dropped_units", "dropout in the student only", _step(forward=_dropped_units)),
    ("augmented_inputs", "student's inputs are shifted by 0.001", _step(forward=_augmented)),
)


def _named_with(change):
    original = loss_geometry.from_name

    def named(name, **options):
        return change(original(name, **options), name, options.get("temperature", 1.0))

    return named


def _uncentred(loss, name, temperature):
    if name == "mse":
        return loss

    def scale(z):
        return 2.0 / z.shape[-1] if name == "centred_mse" else jax.nn.softmax(z / temperature)

    return dataclasses.replace(loss, metric_form=lambda z, u: jnp.sum(scale(z) * u**2, axis=-1))


def _uniform(loss, name, temperature):
    if "mse" in name:
        return loss
    flat = loss_geometry.from_name("centred_mse")
    return dataclasses.replace(
        loss, metric_form=lambda z, u: flat.metric_form(z, u) / (2 * z.shape[-1]), metric_product=flat.metric_product
    )


def _halved(loss, name, temperature):
    if "mse" not in name:
        return loss
    return dataclasses.replace(loss, metric_form=lambda z, u: loss.metric_form(z, u) / 2)


def _brier(loss, name, temperature):
    if name != "kl":
        return loss

    def function(student, teacher, weights=None):
        gap = jax.nn.softmax(student / temperature) - jax.nn.softmax(teacher / temperature)
        return temperature**2 * losses.weighted_mean(jnp.sum(gap**2, axis=-1), weights)

    return dataclasses.replace(loss, function=function)


def _no_temperature_factor(loss, name, temperature):
    if "mse" in name:
        return loss
    return dataclasses.replace(loss, function=lambda *a, **k: loss.function(*a, **k) / temperature**2)


def _difference_quotient(f, reference, update, inputs):
    logits = f(reference, inputs)
    return logits, (f(optax.tree.add_scale(reference, 1e-3, update), inputs) - logits) / 1e-3


def _tangent_at_teacher(f, reference, update, inputs):
    return jax.jvp(lambda params: f(params, inputs), (optax.tree.add_scale(reference, 1e-3, update),), (update,))


def _metric_left_out(f, loss, reference, vector, inputs, weights=None):
    return _gauss_newton_product(f, losses.squared_error, reference, vector, inputs, weights)


def _unweighted_product(f, loss, reference, vector, inputs, weights=None):
    return _gauss_newton_product(f, loss, reference, vector, inputs, None)


_gauss_newton_product = spectrum.gauss_newton_product
_kept_distribution = filters.kept_distribution
_predicted = multi_step.predicted


def _without_value(f, reference):
    def affine(params, inputs):
        return jax.jvp(lambda p: f(p, inputs), (reference,), (optax.tree.sub(params, reference),))[1]

    return affine


def _around_zero(f, reference):
    return lambda params, inputs: jax.jvp(lambda p: f(p, inputs), (reference,), (params,))[1]


def _accept_everything(log_probs, accept, *, resample=False):
    return _kept_distribution(log_probs, jnp.ones_like(accept), resample=resample)


def _filter_reads_teacher(log_probs, accept, *, resample=False):
    return _kept_distribution(-log_probs, accept, resample=resample)


def _kept_not_normalised(log_probs, accept, *, resample=False):
    return accept * jnp.exp(log_probs) / len(log_probs)


def _away_from_teacher(f, loss, reference, update, inputs, learning_rate):
    return _predicted(f, loss, reference, update, inputs, -learning_rate)


def _rate_too_large(f, loss, reference, update, inputs, learning_rate):
    return _predicted(f, loss, reference, update, inputs, 20 * learning_rate)


def _bias_not_flipped(params, signs):
    ins, outs = (1, *signs), (*signs, 1)
    return tuple(mlp.Dense(o * i * layer.weight, layer.bias) for layer, i, o in zip(params, ins, outs, strict=True))


def _two_of_four(params, *, activation):
    return tuple(symmetry.flipped(params, (a,) * (len(params) - 1)) for a in (1, -1))


def _teacher_not_preconditioned(f, loss, reference, g, preconditioner, epsilon, inputs, weights=None, **kwargs):
    teacher = optax.tree.add_scale(reference, epsilon, g)
    step = one_step.student_update(f, loss, reference, teacher, inputs, weights)
    return products.inner_product(g, preconditioner(step))


def _count_for_weights(values, weights):
    return jnp.mean(values if weights is None else values * weights)


def _kink_by_maximum():
    example = _relu_kink()

    def f(params, inputs):
        return jnp.broadcast_to(params[0] + 2 * jnp.maximum(params[1], 0.0), (inputs.shape[0], 1))

    def alignment(e):
        return one_step.alignment_reverse(
            f, losses.squared_error, jnp.zeros(2), jnp.array([-1.0, 1.0]), e, jnp.zeros((1, 1))
        )

    return example._replace(alignment=alignment)


_relu_kink = counterexamples.relu_kink

THEORY_FAULTS = (
    Fault("metric_not_centred", "second moment for variance", loss_geometry, "from_name", _named_with(_uncentred)),
    Fault("metric_uniform", "uniform probabilities in the metric", loss_geometry, "from_name", _named_with(_uniform)),
    Fault("metric_halved", "factor 2 of the squared error lost", loss_geometry, "from_name", _named_with(_halved)),
    Fault("brier_for_kl", "another loss under the name of kl", loss_geometry, "from_name", _named_with(_brier)),
    Fault(
        "temperature_factor_lost",
        "kl without temperature²",
        loss_geometry,
        "from_name",
        _named_with(_no_temperature_factor),
    ),
    Fault("mean_by_count", "weighted mean divides by the count", losses, "weighted_mean", _count_for_weights),
    Fault("difference_quotient", "tangent by a difference of 0.001", one_step, "logit_tangent", _difference_quotient),
    Fault("tangent_at_teacher", "tangent taken 0.001 away", one_step, "logit_tangent", _tangent_at_teacher),
    Fault("metric_left_out", "JᵀJ for JᵀMJ", spectrum, "gauss_newton_product", _metric_left_out),
    Fault("product_unweighted", "Gauss-Newton ignores weights", spectrum, "gauss_newton_product", _unweighted_product),
    Fault("linearised_without_value", "tangent model without f(θ0)", linear, "linearised", _without_value),
    Fault("linearised_around_zero", "J θ for f(θ0) + J (θ - θ0)", linear, "linearised", _around_zero),
    Fault("filter_ignored", "everything is kept", filters, "kept_distribution", _accept_everything),
    Fault(
        "filter_reads_teacher", "acceptance depends on the teacher", filters, "kept_distribution", _filter_reads_teacher
    ),
    Fault("kept_not_normalised", "rejected samples still count", filters, "kept_distribution", _kept_not_normalised),
    Fault("steps_away", "multi-step law with the wrong sign", multi_step, "predicted", _away_from_teacher),
    Fault("rate_too_large", "learning rate 20 times the limit", multi_step, "predicted", _rate_too_large),
    Fault("bias_not_flipped", "antithetic students keep their biases", symmetry, "flipped", _bias_not_flipped),
    Fault("two_of_four", "two antithetic students, not four", symmetry, "antithetic_students", _two_of_four),
    Fault(
        "teacher_not_preconditioned",
        "only the student is preconditioned",
        preconditioned,
        "alignment",
        _teacher_not_preconditioned,
    ),
    Fault("kink_by_maximum", "the kink's derivative is 1/2", counterexamples, "relu_kink", _kink_by_maximum),
)

FAULTS: tuple[Fault, ...] = (
    *(Fault(name, what, one_step, "student_update", replacement) for name, what, replacement in STUDENT_FAULTS),
    *THEORY_FAULTS,
)
