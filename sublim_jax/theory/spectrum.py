"""The Gauss-Newton matrix G = E[Jᵀ M J] and its spectrum: how much of the teacher's update reaches the student.

To first order the student's step is ε G D. Its cosine with D, the part of D that a long distillation can recover (the
range of G) and the rate of that recovery are properties of G alone. G is never formed: a product with it costs one jvp
and one vjp. Where a matrix is needed, it is the small kernel matrix K = R Rᵀ with R = M^½ J, one row per example and
logit, which has the same non-zero eigenvalues as G.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from sublim_jax import specs
from sublim_jax.metrics import alignment as products
from sublim_jax.theory import loss_geometry, one_step

Weights = Float[Array, "batch"] | None


def gauss_newton_product(
    f: loss_geometry.LogitFunction,
    loss: loss_geometry.Loss | loss_geometry.LossFunction,
    reference: PyTree,
    vector: PyTree,
    inputs: PyTree,
    weights: Weights = None,
) -> PyTree:
    """Product of G with a vector.

    For the teacher's update it is the direction of the student's first step, dΔθ_S/dε at ε = 0. At θ0, G equals the
    Hessian of the student's loss, because there the pull is zero.

    Raises:
        InputError: one logit under a softmax.

    Coq: student_velocity, student_update_derive
    """
    loss = loss_geometry.as_loss(loss)
    logits, tangents = one_step.logit_tangent(f, reference, vector, inputs)
    loss_geometry.require_informative(loss, logits.shape[-1])
    shares = _shares(weights, logits)
    _, pullback = jax.vjp(lambda params: f(params, inputs), reference)
    return pullback(shares[:, None] * loss.metric_product(logits, tangents))[0]


def _shares(weights, logits):
    if weights is None:
        return jnp.full(logits.shape[0], 1 / logits.shape[0], logits.dtype)
    return weights / jnp.sum(weights)


def alignment_by_layer(
    f: loss_geometry.LogitFunction,
    loss: loss_geometry.Loss | loss_geometry.LossFunction,
    reference: PyTree,
    update: PyTree,
    inputs: PyTree,
    weights: Weights = None,
) -> dict[str, Float[Array, ""]]:
    """Contribution ⟨(G D) of the layer, D of the layer⟩ of each layer to A. A part can be negative, A cannot."""
    product = gauss_newton_product(f, loss, reference, update, inputs, weights)
    return one_step.alignment_by_layer(product, update)


def largest_eigenvalue(
    product: Callable[[PyTree], PyTree], start: PyTree, *, num_iterations: int = 100
) -> Float[Array, ""]:
    """Largest eigenvalue whose eigenspace is not orthogonal to `start`, by power iteration and a Rayleigh quotient.

    The estimate approaches it from below. Start from a random vector for the largest of all eigenvalues. It is zero if
    the product vanishes on the start.
    """
    tiny = jnp.finfo(jnp.result_type(*jax.tree.leaves(start))).tiny

    def step(_, vector):
        image = product(vector)
        length = jnp.maximum(products.norm(image), tiny)
        return jax.tree.map(lambda leaf: leaf / length, image)

    vector = jax.lax.fori_loop(0, num_iterations, step, one_step.unit_update(start))
    squared = products.inner_product(vector, vector)
    return jnp.where(squared > 0, products.inner_product(vector, product(vector)) / jnp.maximum(squared, tiny), 0.0)


class Cosine(NamedTuple):
    """The cosine of the student's first step with the teacher's update, as ε tends to 0, and a bound below it."""

    cosine: Float[Array, ""]
    rayleigh_bound: Float[Array, ""]  # sqrt(A / (largest_eigenvalue |D|²)) <= cosine
    largest_eigenvalue: Float[Array, ""]  # of G, among eigenspaces that are not orthogonal to D
    coefficient: Float[Array, ""]  # A


def alignment_cosine(
    f: loss_geometry.LogitFunction,
    loss: loss_geometry.Loss | loss_geometry.LossFunction,
    reference: PyTree,
    update: PyTree,
    inputs: PyTree,
    weights: Weights = None,
    *,
    num_iterations: int = 100,
) -> Cosine:
    """Cosine of the student's first step with the teacher's update: cos(G D, D) = A / (|G D| |D|).

    With μ the spectral measure of D in G it is E_μ[λ] / sqrt(E_μ[λ²]). The power iteration starts from D, so the
    eigenvalue in the bound is the largest one in μ, with a relative accuracy of about 1 / num_iterations or better. A
    cosine depends on the parametrisation (width, initial scale), so compare cosines within one parametrisation.

    Coq: cosine_rayleigh_bound
    """

    def product(vector):
        return gauss_newton_product(f, loss, reference, vector, inputs, weights)

    image = product(update)
    coefficient = one_step.alignment_coefficient(f, loss, reference, update, inputs, weights)
    largest = largest_eigenvalue(product, update, num_iterations=num_iterations)
    length = products.norm(update)
    return Cosine(
        cosine=coefficient / (products.norm(image) * length),
        rayleigh_bound=jnp.sqrt(coefficient / largest) / length,
        largest_eigenvalue=largest,
        coefficient=coefficient,
    )


def kernel_rows(
    f: loss_geometry.LogitFunction,
    loss: loss_geometry.Loss | loss_geometry.LossFunction,
    reference: PyTree,
    inputs: PyTree,
    weights: Weights = None,
) -> Float[Array, "row parameter"]:
    """The matrix R with G = Rᵀ R, which has one row per example and logit. It is dense, for small problems.

    Rows are those of M^½ J, times the root of the example's weight. The parameters are in the order of
    `jax.flatten_util.ravel_pytree`.
    """
    loss = loss_geometry.as_loss(loss)
    logits, pullback = jax.vjp(lambda params: f(params, inputs), reference)
    loss_geometry.require_informative(loss, logits.shape[-1])
    roots = _metric_roots(loss, logits) * jnp.sqrt(_shares(weights, logits))[:, None, None]
    num_rows, num_logits = logits.shape
    # Row (n, k) of R pulls back a cotangent that is zero except in example n, where it is column k of the root.
    cotangents = jnp.zeros((num_rows, num_logits, num_rows, num_logits), logits.dtype)
    cotangents = cotangents.at[jnp.arange(num_rows), :, jnp.arange(num_rows), :].set(jnp.swapaxes(roots, -1, -2))
    rows = jax.vmap(lambda cotangent: _flat(pullback(cotangent)[0]))(cotangents.reshape(-1, num_rows, num_logits))
    return rows


def _flat(tree):
    return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(tree)])


def _metric_roots(loss, logits):
    """A matrix B with B Bᵀ = M for each row; negative eigenvalues from rounding become zero."""
    units = jnp.eye(logits.shape[-1], dtype=logits.dtype)
    columns = jax.vmap(lambda unit: loss.metric_product(logits, jnp.broadcast_to(unit, logits.shape)))(units)
    metric = jnp.moveaxis(columns, 0, -1)
    values, vectors = jnp.linalg.eigh((metric + jnp.swapaxes(metric, -1, -2)) / 2)
    cut = 100 * jnp.finfo(logits.dtype).eps * jnp.max(values, axis=-1, keepdims=True)
    return vectors * jnp.sqrt(jnp.where(values > cut, values, 0.0))[:, None, :]


def range_fraction(
    f: loss_geometry.LogitFunction,
    loss: loss_geometry.Loss | loss_geometry.LossFunction,
    reference: PyTree,
    update: PyTree,
    inputs: PyTree,
    weights: Weights = None,
    *,
    method: Literal["kernel", "cg"] = "kernel",
    tolerance: float | None = None,
    num_iterations: int = 200,
) -> Float[Array, ""]:
    """Fraction rho = |part of D in the range of G|² / |D|², which a converged linearised student recovers.

    The range has at most examples x logits dimensions, one fewer per example under a softmax. For a teacher that did
    not move the readout rows of the distilled logits, rho is at most the `trunk_share`.

    Args:
        method: "kernel" factorises K, a square matrix of examples x logits rows, in memory; "cg" needs products with G
            only, and approaches rho from below as `num_iterations` grows.
        tolerance: eigenvalues of K below this multiple of the largest count as zero; 1e-10 in float64, 1e-5 in float32.

    Raises:
        InputError: an unknown method.
    """
    specs.check(method, Literal["kernel", "cg"], "method")
    if tolerance is None:
        tolerance = 1e-10 if jnp.result_type(*jax.tree.leaves(reference)) == jnp.float64 else 1e-5
    if method == "kernel":
        rows = kernel_rows(f, loss, reference, inputs, weights)
        direction = _flat(update)
        values, vectors = jnp.linalg.eigh(rows @ rows.T)
        components = vectors.T @ (rows @ direction)
        nonzero = values > tolerance * values[-1]
        inside = jnp.sum(jnp.where(nonzero, components**2 / jnp.where(nonzero, values, 1.0), 0.0))
        return inside / jnp.sum(direction**2)
    return _range_fraction_by_cg(f, loss, reference, update, inputs, weights, tolerance, num_iterations)


def _range_fraction_by_cg(f, loss, reference, update, inputs, weights, tolerance, num_iterations):
    """Solve G a = G D by conjugate gradients from zero: a tends to the projection of D, and ⟨a, D⟩ = |projection|²."""

    def product(vector):
        return gauss_newton_product(f, loss, reference, vector, inputs, weights)

    solution, _ = jax.scipy.sparse.linalg.cg(product, product(update), tol=tolerance, maxiter=num_iterations)
    return products.inner_product(solution, update) / products.inner_product(update, update)


class EffectiveRank(NamedTuple):
    """The effective rank tr(G)² / tr(G²) of G, and the cosine that follows for random directions."""

    rank: Float[Array, ""]
    isotropic_cosine: Float[Array, ""]  # sqrt(rank / number of parameters): root mean square cosine of a random D


def effective_rank(
    f: loss_geometry.LogitFunction,
    loss: loss_geometry.Loss | loss_geometry.LossFunction,
    reference: PyTree,
    inputs: PyTree,
    weights: Weights = None,
    *,
    key: Key[Array, ""] | None = None,
    num_probes: int = 64,
) -> EffectiveRank:
    """Effective rank of G: exact from the kernel, or with a key Hutchinson's estimate from `num_probes` sign vectors.

    An isotropic random direction D has root mean square cosine sqrt(rank / parameters), up to a few per cent.
    """
    num_parameters = sum(leaf.size for leaf in jax.tree.leaves(reference))
    if key is None:
        rows = kernel_rows(f, loss, reference, inputs, weights)
        kernel = rows @ rows.T
        trace, squared = jnp.trace(kernel), jnp.sum(kernel**2)
    else:

        def probe(probe_key):
            signs = _random_signs(probe_key, reference)
            image = gauss_newton_product(f, loss, reference, signs, inputs, weights)
            return products.inner_product(signs, image), products.inner_product(image, image)

        traces, squares = jax.lax.map(probe, jax.random.split(key, num_probes))
        trace, squared = jnp.mean(traces), jnp.mean(squares)
    rank = trace**2 / squared
    return EffectiveRank(rank, jnp.sqrt(rank / num_parameters))


def _random_signs(key, like):
    leaves, structure = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    return structure.unflatten(
        [jax.random.rademacher(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    )


def trunk_share(update: PyTree, readout: PyTree) -> Float[Array, ""]:
    """Share of |D|² outside the readout, e.g. `trunk_share(update, update[-1])`.

    The readout rows of undistilled logits receive no gradient, and a teacher that learned only those logits did not
    move the other rows. Then transmission goes through the trunk, and this share is an upper bound of
    `range_fraction`.

    Coq: class_block_never_moves
    """
    return 1 - products.inner_product(readout, readout) / products.inner_product(update, update)
