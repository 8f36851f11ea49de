"""What must hold of every problem, each property as one number: its error over its tolerance. Above 1 it is violated.

One function and not an `assert`, so that the same property serves twice: hypothesis looks for a problem that violates
it, and the mutation suite measures how often a planted fault does. They call `sublim_jax.theory` and never copy it.

The sign is the theorem and the weakest of these tests: any subset of logits or inputs, any loss of the contract and any
positive factor leave it alone. The slope, the control, the two code paths and the untouched rows carry the power.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.theorem import problems
from sublim_jax import losses
from sublim_jax.metrics import alignment as products
from sublim_jax.models import mlp
from sublim_jax.theory import (
    conditions,
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

EPS = float(np.finfo(np.float64).eps)
TINY = 1e-30

Property = Callable[[universal.Problem], jax.Array]


def _parts(p: universal.Problem):
    return universal.distilled(p.architecture, p.choice), universal.loss(p.choice), p.reference, p.update, p.inputs


def _scale(p: universal.Problem):
    """(largest that A could be for these tangents, rounding error of an alignment).

    M is at most 2 for squared errors and 1/2 for softmax losses. A pull is a difference of numbers of order |z| or of
    probabilities times the temperature, known to EPS; the inner product multiplies it by the tangents.
    """
    f, _, reference, update, inputs = _parts(p)
    logits, tangents = one_step.logit_tangent(f, reference, update, inputs)
    largest_metric = jnp.where((p.choice.kind == 0) | (p.choice.kind == 4), 2.0, 0.5)
    largest = largest_metric * losses.weighted_mean(jnp.sum(tangents**2, axis=-1), p.weights)
    seen = jnp.where(p.choice.distilled[None], logits, 0.0)
    size = 1 + p.choice.temperature + jnp.max(jnp.abs(seen))
    return largest, 30 * EPS * size * jnp.sqrt(losses.weighted_mean(jnp.sum(tangents**2, axis=-1), p.weights))


def sign(p):
    """P1, Lemma 1: the alignment of a small update is not negative. Truncation: what is O(ε²) where A vanishes."""
    f, loss, reference, update, inputs = _parts(p)
    largest, rounding = _scale(p)
    value = one_step.alignment_reverse(f, loss, reference, update, 1e-6, inputs, p.weights)
    return -value / (1e-6 * 1e-7 * largest + rounding + TINY)


def slope(p):
    """P2: the derivative of the alignment at ε = 0 is the coefficient A. Differentiated, so only rounding is left."""
    f, loss, reference, update, inputs = _parts(p)
    largest, rounding = _scale(p)

    def value(epsilon):
        return one_step.alignment_reverse(f, loss, reference, update, epsilon, inputs, p.weights)

    found = jax.jvp(value, (0.0,), (1.0,))[1]
    coefficient = one_step.alignment_coefficient(f, loss, reference, update, inputs, p.weights)
    return jnp.abs(found - coefficient) / (1e-12 * largest + rounding + TINY)


def control(p):
    """P3: a student of a teacher that did not move does not move, up to the rounding of a softmax."""
    f, loss, reference, _, inputs = _parts(p)
    return products.norm(one_step.student_update(f, loss, reference, reference, inputs, p.weights)) / _still(p)


def _still(p):
    """Rounding error of a student's step that is zero: that of a pull, through the gradients of the logits."""
    f, _, reference, _, inputs = _parts(p)
    logits, pullback = jax.vjp(lambda params: f(params, inputs), reference)
    gradients = products.norm(pullback(jnp.ones((universal.NUM_INPUTS, universal.NUM_LOGITS)))[0])
    size = 1 + p.choice.temperature + jnp.max(jnp.abs(jnp.where(p.choice.distilled[None], logits, 0.0)))
    return 100 * EPS * size * (1 + gradients)


def two_paths(p):
    """P4: reverse mode in parameter space equals forward mode in logit space, along any direction and at any ε."""
    f, loss, reference, update, inputs = _parts(p)
    epsilon = jnp.minimum(p.epsilon, 1.0)
    reverse = one_step.alignment_reverse(f, loss, reference, update, epsilon, inputs, p.weights, along=p.probe)
    forward = one_step.alignment_forward(f, loss, reference, update, epsilon, inputs, p.weights, along=p.probe)
    teacher = optax.tree.add_scale(reference, epsilon, update)
    step = one_step.student_update(f, loss, reference, teacher, inputs, p.weights)
    size = products.norm(step) * products.norm(p.probe)
    _, rounding = _scale(p)
    return jnp.abs(reverse - forward) / (1e-11 * size + 100 * rounding + TINY)


def unused_rows(p):
    """P5: readout rows of undistilled logits get a gradient of exactly zero. Exact: nothing reaches them at all."""
    f, loss, reference, update, inputs = _parts(p)
    step = one_step.student_update(f, loss, reference, optax.tree.add(reference, update), inputs, p.weights)
    rows = jnp.where(p.choice.distilled[:, None], 0.0, step["readout"])
    biases = jnp.where(p.choice.distilled, 0.0, step["readout_bias"])
    return jnp.where(jnp.any(rows != 0) | jnp.any(biases != 0), jnp.inf, 0.0)


def affine(p):
    """P6: with logits affine in the parameters the alignment is non-negative at every ε, and ε A for three losses."""
    f, loss, reference, update, inputs = _parts(p)
    tangent_model = linear.linearised(f, reference)
    value = one_step.alignment_reverse(tangent_model, loss, reference, update, p.epsilon, inputs, p.weights)
    coefficient = one_step.alignment_coefficient(f, loss, reference, update, inputs, p.weights)
    largest, rounding = _scale(p)
    tolerance = 1e-11 * p.epsilon * largest + rounding * (1 + p.epsilon) + TINY
    quadratic = (p.choice.kind == 0) | (p.choice.kind == 2) | (p.choice.kind == 4)  # mse, reverse_kl, centred_mse
    exact = jnp.where(quadratic, jnp.abs(value - p.epsilon * coefficient), 0.0)
    return jnp.maximum(-value, exact) / tolerance


def invisible(p):
    """P7: a teacher that moved undistilled readout rows only is not seen, whatever the size of its step."""
    f, loss, reference, update, inputs = _parts(p)
    hidden = jax.tree.map(jnp.zeros_like, update)
    hidden["readout"] = jnp.where(p.choice.distilled[:, None], 0.0, update["readout"])
    hidden["readout_bias"] = jnp.where(p.choice.distilled, 0.0, update["readout_bias"])
    step = one_step.student_update(
        f, loss, reference, optax.tree.add_scale(reference, p.epsilon, hidden), inputs, p.weights
    )
    return products.norm(step) / _still(p)


def constant(p):
    """P8: the same number added to all distilled logits is invisible to softmax losses, and 2 ε num_logits to mse."""
    f, loss, reference, _, inputs = _parts(p)
    shift = jax.tree.map(jnp.zeros_like, reference)
    shift["readout_bias"] = jnp.ones_like(shift["readout_bias"])
    epsilon = jnp.minimum(p.epsilon, 100.0)
    value = one_step.alignment_reverse(f, loss, reference, shift, epsilon, inputs, p.weights)
    seen = jnp.sum(p.choice.distilled)
    # The centred error subtracts the mean over all logits, the hidden ones included, so it sees part of the shift.
    expected = jnp.where(p.choice.kind == 0, 2.0 * seen, 2.0 * seen * (1 - seen / universal.NUM_LOGITS))
    expected = jnp.where((p.choice.kind == 0) | (p.choice.kind == 4), epsilon * expected, 0.0)
    logits = jnp.where(p.choice.distilled[None], f(reference, inputs), 0.0)
    size = (1 + p.choice.temperature) * (1 + epsilon + jnp.max(jnp.abs(logits)))
    return jnp.abs(value - expected) / (100 * EPS * size)


def filtered(p):
    """P9: relative to its control, a student of filtered samples does not turn against the teacher.

    The slope at 0 is the variance that is kept. Where each prompt is resampled and logits are affine in ε, as here, the
    alignment never falls at all; where rejected samples are lost, the mix of prompts drifts with ε and it may.
    """
    logits, tangents = one_step.logit_tangent(universal.network(p.architecture), p.reference, p.update, p.inputs)
    accept = jax.nn.sigmoid(4 * p.inputs @ p.probe["hidden"][0, : universal.NUM_PIXELS, : universal.NUM_LOGITS])
    accept = jnp.where(p.choice.distilled[None], accept, 0.0)
    size = jnp.max(jnp.abs(tangents)) + TINY
    reference_log_probs, scores = filters.completion_scores(
        lambda t: jax.nn.log_softmax(logits + t * tangents), jnp.zeros(()), jnp.ones(())
    )
    errors = []
    for resample in (False, True):

        def value(epsilon, resample=resample):
            log_probs = jax.nn.log_softmax(logits + epsilon * tangents)
            return filters.mean_score(scores, log_probs, accept, resample=resample)

        parts = filters.filtered_alignment(scores, reference_log_probs, accept, resample=resample)
        values = jax.vmap(value)(jnp.stack([jnp.zeros(()), 1e-3 * p.epsilon, p.epsilon]))
        errors += [
            -jnp.min(jnp.diff(values)) / (1e-12 * size) if resample else 0.0,
            jnp.abs(values[0] - parts.control) / (1e-12 * size),
            jnp.abs(jax.jvp(value, (0.0,), (1.0,))[1] - parts.differential) / (1e-12 * size**2),
            -parts.differential / TINY,
        ]
    return jnp.max(jnp.stack(errors))


def teacher_loss(p):
    """P10, Theorem 1: if the teacher took a gradient step on L_T, the student's step lowers L_T, at the rate −α A."""
    f, loss, reference, _, inputs = _parts(p)
    g = universal.network(p.architecture)

    def on_labels(params):
        return losses.cross_entropy(g(params, 2.0 * inputs[::-1]), p.labels)

    update = one_step.teacher_update(on_labels, reference)
    coefficient = one_step.alignment_coefficient(f, loss, reference, update, inputs, p.weights)

    def after(epsilon):
        teacher = optax.tree.add_scale(reference, epsilon, update)
        step = one_step.student_update(f, loss, reference, teacher, inputs, p.weights)
        return on_labels(optax.tree.add_scale(reference, 0.3, step))

    found = jax.jvp(after, (0.0,), (1.0,))[1]
    _, tangents = one_step.logit_tangent(f, reference, update, inputs)
    _, unit_rounding = _scale(p)
    size = losses.weighted_mean(jnp.sum(tangents**2, axis=-1), p.weights)
    length = products.norm(update)
    tolerance = 1e-12 * size + unit_rounding * length + TINY
    lowered = jnp.where(coefficient > tolerance, found, 0.0)
    return jnp.maximum(jnp.abs(found + 0.3 * coefficient) / tolerance, jnp.where(lowered > 0, jnp.inf, 0.0))


def metric(p):
    """P11: the metric in closed form is ∂y of the pull, the Hessian ∂²z at y = z, symmetric and semidefinite."""
    loss = universal.loss(p.choice)
    logits = 3 * p.inputs @ p.probe["hidden"][0, : universal.NUM_PIXELS, : universal.NUM_LOGITS - 1]
    logits = jnp.clip(logits, -20.0, 20.0)
    closed = conditions.metric_matrices(loss, logits)
    mixed = conditions.metric_matrices(loss_geometry.from_function(loss.function), logits)
    hessian = jax.vmap(jax.hessian(lambda z, y: loss.function(z[None], y[None])))(logits, logits)
    tangents = jnp.sin(jnp.arange(logits.size, dtype=logits.dtype)).reshape(logits.shape)
    form = jnp.einsum("bi,bij,bj->b", tangents, closed, tangents)
    errors = (
        jnp.max(jnp.abs(closed - mixed)),
        jnp.max(jnp.abs(closed - hessian)),
        jnp.max(jnp.abs(closed - jnp.swapaxes(closed, -1, -2))),
        jnp.max(jnp.abs(form - loss.metric_form(logits, tangents))),
        -jnp.min(jnp.linalg.eigvalsh(closed)),
    )
    return jnp.max(jnp.stack(errors)) / (1e3 * EPS * (1 + p.choice.temperature))


def many_steps(p):
    """P12: over any order of batches with α = 1.9 / λ_max the cumulative displacement is aligned and the distance
    falls.

    The law itself, not a training run: products with G_b. `test_multi_step` holds it against training.
    """
    f, loss, reference, update, inputs = _parts(p)
    batches = jnp.stack([inputs[:2], inputs[2:], inputs[:2], inputs[1:3]])
    largest = jnp.max(
        jax.vmap(lambda batch: jnp.sum(spectrum.kernel_rows(f, loss, reference, batch) ** 2))(batches)
    )  # the trace, at least the largest eigenvalue
    found = multi_step.predicted(f, loss, reference, update, batches, 1.9 / (largest + TINY))
    distances = jnp.concatenate([jnp.ones(1), found.distance])
    bound = multi_step.recovered_bound(found.distance, update)
    errors = (
        -jnp.min(found.cumulative),
        jnp.max(jnp.diff(distances)),
        jnp.max(bound - found.cumulative),
        jnp.abs(found.cumulative[-1] - jnp.sum(found.step)),
    )
    return jnp.max(jnp.stack(errors)) / 1e-12


def exact_counterexamples(p):
    """P13: the counterexamples stay what they are: negative, and equal to their closed forms."""
    examples = (
        counterexamples.relu_kink(),
        counterexamples.sign_step(),
        counterexamples.null_space(),
        counterexamples.frozen_part(),
        counterexamples.filter_flip(),
    )
    errors = []
    for example in examples:
        for epsilon in (example.epsilon, 0.5):
            found, exact = example.alignment(epsilon), example.exact(epsilon)
            errors += [jnp.abs(found - exact) / (1e-12 * abs(exact)), jnp.where(found < 0, 0.0, jnp.inf)]
    return jnp.max(jnp.stack(errors)) + 0.0 * p.epsilon


ANTITHETIC_SPEC = mlp.MLPSpec(in_size=4, hidden_sizes=(5, 6), num_classes=3, num_aux=2, activation="tanh")


def antithetic(p):
    """P14: over four sign flips of a tanh student of another start the alignment averages to zero. All are one net."""
    spec = ANTITHETIC_SPEC
    f, whole = loss_geometry.distilled(spec, "aux"), loss_geometry.distilled(spec, "all")

    def network(leaf, shift):
        flat = jnp.tile(jnp.concatenate([leaf["hidden"].reshape(-1), leaf["readout"].reshape(-1)]), 2)[shift:]
        layers, start = [], 0
        for fan_in, fan_out in zip(spec.layer_sizes, spec.layer_sizes[1:], strict=False):
            weight = flat[start : start + fan_in * fan_out].reshape(fan_out, fan_in)
            start += fan_in * fan_out
            layers.append(mlp.Dense(weight, 0.3 * flat[start : start + fan_out]))
            start += fan_out
        return tuple(layers)

    reference, start, inputs = network(p.reference, 0), network(p.probe, 7), p.inputs

    def on_labels(params):
        logits = mlp.apply(params, inputs[::-1], spec)[:, : spec.num_classes]
        return losses.cross_entropy(logits, p.labels % spec.num_classes)

    update = one_step.teacher_update(on_labels, reference)
    teacher = optax.tree.add(reference, update)
    students = symmetry.antithetic_students(start, activation="tanh")
    steps = [one_step.student_update(f, losses.squared_error, s, teacher, inputs, p.weights) for s in students]
    alignments = jnp.stack([products.inner_product(step, update) for step in steps])
    size = products.norm(steps[0]) * products.norm(update)
    logits = jnp.stack([whole(student, inputs) for student in students])
    same = jnp.max(jnp.abs(logits - logits[:1])) / (1e3 * EPS * (1 + jnp.max(jnp.abs(logits))))
    return jnp.maximum(jnp.abs(jnp.mean(alignments)) / (1e2 * EPS * size + TINY), same)


def parts(p):
    """P15: no input speaks against the teacher, inputs average to A, and layers add up to it."""
    f, loss, reference, update, inputs = _parts(p)
    coefficient = one_step.alignment_coefficient(f, loss, reference, update, inputs, p.weights)
    inputs_parts = one_step.per_example_alignment(f, loss, reference, update, inputs)
    layers = spectrum.alignment_by_layer(f, loss, reference, update, inputs, p.weights)
    image = spectrum.gauss_newton_product(f, loss, reference, update, inputs, p.weights)
    largest, _ = _scale(p)
    mean = jnp.sum(p.weights * inputs_parts) / jnp.sum(p.weights)
    size = products.norm(image) + largest
    errors = (
        -jnp.min(inputs_parts) / (jnp.max(inputs_parts) + TINY) / EPS,
        jnp.abs(mean - coefficient) / (1e-12 * largest + TINY),
        jnp.abs(sum(layers.values()) - coefficient) / (1e-12 * size + TINY),
        jnp.abs(products.inner_product(image, update) - coefficient) / (1e-12 * size + TINY),
    )
    return jnp.max(jnp.stack(errors))


def same_preconditioner(p):
    """P16: with one positive diagonal preconditioner on both sides the slope is A of the real displacement, ≥ 0."""
    f, loss, reference, update, inputs = _parts(p)
    rates = preconditioned.diagonal(jax.tree.map(lambda leaf: jnp.exp(jnp.sin(5 * leaf)), p.probe))

    def value(epsilon):
        return preconditioned.alignment(f, loss, reference, update, rates, epsilon, inputs, p.weights)

    found = jax.jvp(value, (0.0,), (1.0,))[1]
    coefficient = preconditioned.alignment_coefficient(f, loss, reference, update, rates, inputs, p.weights)
    largest, rounding = _scale(p._replace(update=rates(update)))
    return jnp.maximum(jnp.abs(found - coefficient), -coefficient) / (1e-12 * largest + rounding + TINY)


def cosine(p):
    """P17: Rayleigh bound ≤ cosine ≤ sqrt(rho) ≤ 1, and no eigenvalue exceeds the largest of the kernel.

    cos² ≤ rho, because G D lies in the range of G. Power iteration reaches the eigenvalue from below, so the bound may
    come out high by the iteration's own error; 8 steps leave a few per cent.
    """
    f, loss, reference, update, inputs = _parts(p)
    found = spectrum.alignment_cosine(f, loss, reference, update, inputs, p.weights, num_iterations=8)
    rho = spectrum.range_fraction(f, loss, reference, update, inputs, p.weights)
    rows = spectrum.kernel_rows(f, loss, reference, inputs, p.weights)
    largest, rounding = _scale(p)
    errors = (
        (found.rayleigh_bound - found.cosine) / (0.1 * found.cosine + 1e-9),
        (found.cosine**2 - rho) / 1e-6,
        (rho - 1) / 1e-6,
        (found.largest_eigenvalue - jnp.linalg.norm(rows, ord=2) ** 2) / (1e-9 * jnp.sum(rows**2) + TINY),
    )
    visible = found.coefficient > 1e-6 * largest + 1e3 * rounding
    return jnp.where(visible, jnp.max(jnp.stack(errors)), 0.0)


PROPERTIES: dict[str, Property] = {
    "sign": sign,
    "slope": slope,
    "control": control,
    "two_paths": two_paths,
    "unused_rows": unused_rows,
    "affine": affine,
    "invisible": invisible,
    "constant": constant,
    "filtered": filtered,
    "teacher_loss": teacher_loss,
    "metric": metric,
    "many_steps": many_steps,
    "exact_counterexamples": exact_counterexamples,
    "antithetic": antithetic,
    "parts": parts,
    "same_preconditioner": same_preconditioner,
    "cosine": cosine,
}


def compiled(names=tuple(PROPERTIES)):
    """All properties of one problem in one compilation: name -> error over tolerance."""
    return jax.jit(
        lambda p: {name: PROPERTIES[name](p) for name in names}, compiler_options=problems.quick_compilation()
    )
