"""One compiled network that is many: architecture, activations, loss, temperature and masks are data, not shapes.

A new shape costs half a second of compilation, so a thousand random shapes cost minutes; a thousand draws of this one
cost a second. Layers are switched off by `used`, units by `units`, logits by `distilled`, inputs by their weights.
Everything is drawn from an integer seed by numpy, in an order that does not depend on the switches.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from sublim_jax.theory import loss_geometry
from tests import strategies

NUM_PIXELS, WIDTH, DEPTH, NUM_LOGITS, NUM_INPUTS = 4, 6, 3, 5, 4
SMOOTH = (lambda h: h, jnp.tanh, jnp.sin, jax.nn.softplus, jax.nn.silu, jax.nn.gelu)
ACTIVATIONS = (*SMOOTH, jax.nn.relu, lambda h: jax.nn.leaky_relu(h, 0.1))
LOSSES = ("mse", "kl", "reverse_kl", "jeffreys", "centred_mse")
OUT_OF_SIGHT = -1e9  # the value of an undistilled logit: no probability, and equal on both sides


class Architecture(NamedTuple):
    """Which network it is."""

    activations: np.ndarray  # (DEPTH + 1,) positions in ACTIVATIONS
    used: np.ndarray  # (DEPTH,) hidden layers after the first that are there at all
    units: np.ndarray  # (DEPTH + 1, WIDTH) units that are there
    residual: np.ndarray  # () whether later layers add to what they were given
    layer_norm: np.ndarray  # ()


class Choice(NamedTuple):
    """Which distillation it is."""

    kind: np.ndarray  # () position in LOSSES
    temperature: np.ndarray  # () of the KL losses
    distilled: np.ndarray  # (NUM_LOGITS,) at least two logits are, and at least one is not


class Problem(NamedTuple):
    """A reference, a teacher's update of length one, inputs; `probe` is another direction, `labels` for a teacher."""

    architecture: Architecture
    choice: Choice
    reference: dict
    update: dict
    probe: dict
    inputs: np.ndarray  # (NUM_INPUTS, NUM_PIXELS)
    weights: np.ndarray  # (NUM_INPUTS,) not all zero
    labels: np.ndarray  # (NUM_INPUTS,) class of each input, for a loss of the teacher
    epsilon: np.ndarray  # () exp(-9) to exp(9), for what holds at every size


def network(architecture: Architecture) -> loss_geometry.LogitFunction:
    """All logits of a batch."""

    def activate(chosen, h):
        # Weighted with ones and zeros, not switched: branches cost the compiler more than they save the processor.
        return sum(weight * activation(h) for weight, activation in zip(chosen, ACTIVATIONS, strict=True))

    chosen = jax.nn.one_hot(architecture.activations, len(ACTIVATIONS), dtype=float)

    def layer(h, parameters):
        weight, bias, gain, activation, units, used = parameters
        u = weight @ h + bias
        centred = u - jnp.mean(u)
        normed = gain * centred * jax.lax.rsqrt(jnp.mean(centred**2) + 1e-2)
        u = jnp.where(architecture.layer_norm, normed, u)
        u = activate(activation, u) * units
        return jnp.where(used, jnp.where(architecture.residual, h + u, u), h), None

    def of_one(params, pixels):
        h = params["first"] @ pixels + params["first_bias"]
        h = activate(chosen[0], h) * architecture.units[0]
        stack = (params["hidden"], params["hidden_bias"], params["gain"])
        switches = (chosen[1:], architecture.units[1:], architecture.used)
        h, _ = jax.lax.scan(layer, h, (*stack, *switches))
        return params["readout"] @ h + params["readout_bias"]

    return jax.vmap(of_one, in_axes=(None, 0))


def distilled(architecture: Architecture, choice: Choice) -> loss_geometry.LogitFunction:
    """The distilled logits; the others are a constant, which no loss sees and no gradient passes."""
    f = network(architecture)

    def masked(params, inputs):
        logits = f(params, inputs)
        return jnp.where(jnp.broadcast_to(choice.distilled, logits.shape), logits, OUT_OF_SIGHT)

    masked.architecture, masked.choice = architecture, choice  # type: ignore[attr-defined]  # for the mutants
    return masked


def loss(choice: Choice) -> loss_geometry.Loss:
    """The losses of training, weighted with one and zeros, and their metrics in closed form likewise."""
    branches = [
        loss_geometry.from_name(name, **({} if "mse" in name else {"temperature": choice.temperature}))
        for name in LOSSES
    ]
    shares = jax.nn.one_hot(choice.kind, len(LOSSES), dtype=float)

    def mixed(functions):
        def function(*arguments, **options):
            return sum(share * f(*arguments, **options) for share, f in zip(shares, functions, strict=True))

        return function

    return loss_geometry.Loss(
        name="universal",
        function=mixed([branch.function for branch in branches]),
        metric_product=mixed([branch.metric_product for branch in branches]),
        metric_form=mixed([branch.metric_form for branch in branches]),
        ignores_constants=None,
        monotone=True,
    )


def _parameters(random: np.random.Generator, scale: float, bias: float) -> dict:
    def normal(*shape):
        return random.standard_normal(shape)

    return {
        "first": scale * normal(WIDTH, NUM_PIXELS) / 2,
        "first_bias": bias * normal(WIDTH),
        "hidden": scale * normal(DEPTH, WIDTH, WIDTH) / WIDTH**0.5,
        "hidden_bias": bias * normal(DEPTH, WIDTH),
        "gain": 1 + 0.3 * normal(DEPTH, WIDTH),
        "readout": scale * normal(NUM_LOGITS, WIDTH) / WIDTH**0.5,
        "readout_bias": bias * normal(NUM_LOGITS),
    }


class Recipe(NamedTuple):
    """What hypothesis draws: it prints, shrinks and replays. The first value of each is the simplest, a linear map."""

    seed: int
    activations: tuple[int, ...]  # positions in ACTIVATIONS, one per hidden layer
    widths: tuple[int, ...]  # units of each hidden layer
    used: tuple[bool, ...]  # hidden layers after the first
    residual: bool
    layer_norm: bool
    loss: str
    log_temperature: float
    log_epsilon: float

    def problem(self) -> Problem:
        """All numbers, from the seed. Biases of the reference are not zero, so no unit sits on a kink."""
        random = np.random.default_rng(self.seed)
        reference = _parameters(random, np.exp(random.uniform(-1, 1)), 0.3)
        update, probe = _parameters(random, 1.0, 1.0), _parameters(random, 1.0, 1.0)
        length = np.sqrt(sum(np.sum(leaf**2) for leaf in update.values()))
        weights = random.random(NUM_INPUTS) * (random.random(NUM_INPUTS) < 0.8)
        weights[random.integers(NUM_INPUTS)] += 0.5
        mask, order = random.random(NUM_LOGITS) < 0.4, random.permutation(NUM_LOGITS)
        mask[order[:2]], mask[order[2]] = True, False
        return Problem(
            architecture=Architecture(
                activations=np.array(self.activations, np.int32),
                used=np.array(self.used),
                units=np.arange(WIDTH)[None] < np.array(self.widths)[:, None],
                residual=np.array(self.residual),
                layer_norm=np.array(self.layer_norm),
            ),
            choice=Choice(np.int32(LOSSES.index(self.loss)), np.float64(np.exp(self.log_temperature)), mask),
            reference=reference,
            update={name: leaf / length for name, leaf in update.items()},
            probe=probe,
            inputs=random.choice([0.1, 1.0, 3.0]) * random.standard_normal((NUM_INPUTS, NUM_PIXELS)),
            weights=weights,
            labels=random.integers(NUM_LOGITS, size=NUM_INPUTS).astype(np.int32),
            epsilon=np.float64(np.exp(self.log_epsilon)),
        )


def recipes() -> st.SearchStrategy[Recipe]:
    """Any problem of the theorem: network, loss, temperature, logits, reference, teacher, inputs and their weights."""
    return st.builds(
        Recipe,
        seed=strategies.seeds,
        activations=st.tuples(*[st.integers(0, len(ACTIVATIONS) - 1)] * (DEPTH + 1)),
        widths=st.tuples(*[st.integers(1, WIDTH)] * (DEPTH + 1)),
        used=st.tuples(*[st.booleans()] * DEPTH),
        residual=st.booleans(),
        layer_norm=st.booleans(),
        loss=st.sampled_from(LOSSES),
        log_temperature=st.floats(-1, 1.5),
        log_epsilon=st.floats(-9, 9),
    )


def drawn(seed: int) -> Recipe:
    """One recipe without hypothesis, for measuring how often a property is violated."""
    random = np.random.default_rng([seed, 1])
    return Recipe(
        seed=seed,
        activations=tuple(random.integers(len(ACTIVATIONS), size=DEPTH + 1).tolist()),
        widths=tuple(random.integers(1, WIDTH + 1, size=DEPTH + 1).tolist()),
        used=tuple((random.random(DEPTH) < 0.7).tolist()),
        residual=bool(random.random() < 0.5),
        layer_norm=bool(random.random() < 0.3),
        loss=LOSSES[int(random.integers(len(LOSSES)))],
        log_temperature=float(random.uniform(-1, 1.5)),
        log_epsilon=float(random.uniform(-9, 9)),
    )
