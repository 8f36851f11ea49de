"""The geometry of a distillation loss: its pull and its metric on logits, and the logits that are distilled.

A distillation loss is a function (student_logits, teacher_logits, *, weights=None) as in `sublim_jax.losses`: student
first, a weighted mean over rows, and smallest where the logits agree. This is the contract. The theory uses two objects
derived from it:

    pull    p(z, y) = −∂z l(z, y)      how the loss pulls student logits z, given teacher logits y; zero at y = z
    metric  M(z)    = ∂y p(z, y)|y=z   symmetric and positive semidefinite whenever y minimises l(·, y)

The pull is a derivative of the loss itself, by automatic differentiation. The metric of our five losses is written in
closed form, because a sum of squares cannot become negative in float32; that of any other loss is differentiated too.
The tests compare the two.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from sublim_jax import errors, losses, specs
from sublim_jax.models import conv, network
from sublim_jax.models import heads as logit_layout

Logits = Float[Array, "batch logit"]
LossFunction = Callable[..., Float[Array, ""]]
LogitFunction = Callable[[PyTree, PyTree], Logits]
"""`f(params, inputs)`: the distilled logits of a batch, and only those."""


@specs.checked
@dataclasses.dataclass(frozen=True)
class Loss:
    """A distillation loss and its metric. Call it as training does: `loss(student_logits, teacher_logits, weights)`."""

    name: str
    function: LossFunction
    metric_product: Callable[[Logits, Logits], Logits]  # (logits z, tangents u) -> M(z) u, row by row
    metric_form: Callable[[Logits, Logits], Float[Array, "batch"]]  # (z, u) -> uᵀ M(z) u, row by row
    ignores_constants: bool | None  # adding a constant to all logits of a row has no effect; None: not known
    monotone: bool | None
    """Whether p(z, z + u) · u ≥ 0 for all z and u. Then the alignment of logits that are affine along D is non-negative
    for every ε (`linear`). True for all five of ours, false for the Brier score; None: not known."""

    def __call__(
        self, student_logits: Logits, teacher_logits: Logits, weights: Float[Array, "batch"] | None = None
    ) -> Float[Array, ""]:
        require_informative(self, student_logits.shape[-1])
        return self.function(student_logits, teacher_logits, weights=weights)


def from_name(name: losses.DistillationLossName, *, temperature: float | Float[Array, ""] = 1.0) -> Loss:
    """The loss with this name in training, with its metric in closed form.

    M is diag(s) − s sᵀ with s = softmax(z / temperature) for the three KL losses (their factor temperature² cancels the
    two divisions), 2 I for the squared error and 2 (I − 1 1ᵀ / num_logits) for the centred one.

    Raises:
        InputError: an unknown name, or a temperature that the loss does not accept.

    Coq: quadratic_form_is_variance
    """
    function = losses.distillation_loss(name, temperature=temperature)

    def centred(z, u):
        if name == "mse":
            return u
        shares = 1 / z.shape[-1] if name == "centred_mse" else jax.nn.softmax(z / temperature)
        return u - jnp.sum(shares * u, axis=-1, keepdims=True)

    def scale(z):
        return 2.0 if name in ("mse", "centred_mse") else jax.nn.softmax(z / temperature)

    return Loss(
        name=name,
        function=function,
        metric_product=lambda z, u: scale(z) * centred(z, u),
        metric_form=lambda z, u: jnp.sum(scale(z) * centred(z, u) ** 2, axis=-1),
        ignores_constants=name != "mse",
        monotone=True,
    )


def from_function(function: LossFunction, *, name: str = "custom") -> Loss:
    """Any other distillation loss, with its metric by automatic differentiation: one jvp of the pull along y."""

    def metric_product(z, u):
        return jax.jvp(lambda y: _pull(function, z, y), (z,), (u,))[1]

    return Loss(
        name=name,
        function=function,
        metric_product=metric_product,
        metric_form=lambda z, u: jnp.sum(u * metric_product(z, u), axis=-1),
        ignores_constants=None,
        monotone=None,
    )


def as_loss(loss: Loss | LossFunction) -> Loss:
    """The loss itself if it is a `Loss`; a bare function becomes one by `from_function`."""
    return loss if isinstance(loss, Loss) else from_function(loss)


def pull(loss: Loss | LossFunction, student_logits: Logits, teacher_logits: Logits) -> Logits:
    """The pull −∂z l(z, y) of each row, not divided by the number of rows. Zero where the logits agree.

    Coq: pull_ce, pull_se
    """
    loss = as_loss(loss)
    require_informative(loss, student_logits.shape[-1])
    return _pull(loss.function, student_logits, teacher_logits)


def _pull(function, student_logits, teacher_logits):
    def row_loss(z, y):
        return function(z[None], y[None])

    return -jax.vmap(jax.grad(row_loss))(student_logits, teacher_logits)


def require_informative(loss: Loss, num_logits: int) -> None:
    """Refuse a single logit under a loss that ignores constants, because the loss is zero for every student.

    Raises:
        InputError: there is one logit, and the loss ignores constants.

    Coq: softmax_one_logit
    """
    if loss.ignores_constants and num_logits < 2:
        raise errors.InputError(
            f"loss {loss.name!r} on num_logits={num_logits}: expected at least 2. It is blind to a constant added to "
            "all logits, so for one logit it is constant, its gradient is zero and nothing is transmitted (A = 0). "
            "Probable cause: a single auxiliary logit. Distil two logits or more, or use the squared error."
        )


def distilled(model: network.Model, which: logit_layout.DistilledLogits = "aux") -> LogitFunction:
    """The function f of a model: its auxiliary, class or all logits, from (params, inputs).

    Raises:
        InputError: `which` is unknown, the network has none of those logits, or it computes in bfloat16, which has no
            forward-mode derivative.
    """
    selection = logit_layout.selection(which, num_classes=model.num_classes)
    if len(range(*selection.indices(model.num_classes + model.num_aux))) == 0:
        raise errors.InputError(
            f"distilled_logits={which!r} of a network with num_aux={model.num_aux}: there are none. Add some."
        )
    if isinstance(model, conv.LayeredSpec) and model.precision != "float32":
        raise errors.InputError(
            f"precision={model.precision!r}: expected 'float32'. The theorem differentiates forwards, and rounding to "
            "bfloat16 has no derivative. Use dataclasses.replace(spec, precision='float32')."
        )
    return lambda params, inputs: model.apply(params, inputs)[:, selection]
