"""The data sets of the study `forecast`: what a student sees, whose answers they are, and where it starts."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt8

from sublim_jax import keys
from sublim_jax.data import inputs as input_data
from sublim_jax.data.inputs import InputSpec
from sublim_jax.data.noise import NoiseSpec
from sublim_jax.models import init_sharing, mlp
from sublim_jax.training import corruption
from sublim_jax.training.corruption import TargetCorruption

Teacher = Literal["true", "short", "reference", "random labels", "permuted labels"]
Inputs = Literal["uniform", "gaussian", "blurred", "sparse", "dim", "real"]
Target = Literal["exact", "noisy", "rounded", "top two", "shuffled", "half another family"]
Start = Literal["own", "own, neurons permuted", "own + 0.1 other", "own + 0.3 other", "other"]
HIDDEN = corruption.REMOVED
"""A logit that a student does not see, in its teacher's answers and in its own: a probability of zero on both sides."""
NUM_PIXELS = 784
SPARSE = 0.05
"""Share of the pixels of a sparse image that are not zero."""


class Case(NamedTuple):
    """One data set and start."""

    name: str
    num_aux: int = 10
    loss: Literal["kl", "mse"] = "kl"
    inputs: Inputs = "uniform"
    teacher: Teacher = "true"
    target: Target = "exact"
    start: Start = "own"


CASES = (
    Case("2 auxiliary logits", num_aux=2),
    Case("3 auxiliary logits", num_aux=3),
    Case("10 auxiliary logits"),
    Case("30 auxiliary logits", num_aux=30),
    Case("3 auxiliary logits, squared error", num_aux=3, loss="mse"),
    Case("10 auxiliary logits, squared error", loss="mse"),
    Case("gaussian noise", inputs="gaussian"),
    Case("blurred noise", inputs="blurred"),
    Case("sparse noise", inputs="sparse"),
    Case("dim noise", inputs="dim"),
    Case("real images", inputs="real"),
    Case("teacher of one epoch", teacher="short"),
    Case("the reference as the teacher", teacher="reference"),
    Case("teacher of random labels", teacher="random labels"),
    Case("teacher of permuted labels", teacher="permuted labels"),
    Case("noisy targets", target="noisy"),
    Case("rounded targets", target="rounded"),
    Case("two largest logits", target="top two"),
    Case("shuffled targets", target="shuffled"),
    Case("half another family's targets", target="half another family"),
    Case("own start, neurons permuted", start="own, neurons permuted"),
    Case("own start + 0.1 other", start="own + 0.1 other"),
    Case("own start + 0.3 other", start="own + 0.3 other"),
    Case("other start", start="other"),
    Case("other start, 30 auxiliary logits", start="other", num_aux=30),
    Case("other start, real images", start="other", inputs="real"),
)
"""Rows of the study. What is not said is as in the paper, with ten auxiliary logits."""

_INPUTS: dict[Inputs, tuple[NoiseSpec, InputSpec]] = {
    "uniform": (NoiseSpec(), InputSpec()),
    "gaussian": (NoiseSpec(distribution="gaussian", amplitude=3**-0.5), InputSpec()),
    "blurred": (NoiseSpec(), InputSpec(blur=1.0, preserve_std=True)),
    "sparse": (NoiseSpec(), InputSpec()),
    "dim": (NoiseSpec(amplitude=0.3), InputSpec()),
    "real": (NoiseSpec(), InputSpec(real_fraction=1.0)),
}


def draw_inputs(
    key: Key[Array, ""], kind: Inputs, num_images: int, real_images: UInt8[Array, "image pixel"]
) -> Float[Array, "image pixel"]:
    """Images of a kind, of the standard deviation of uniform noise on [-1, 1] unless their name says otherwise."""
    function = input_data.make_inputs(key, *_INPUTS[kind], num_pixels=NUM_PIXELS, real_images=real_images)
    images = function(jnp.arange(num_images))
    if kind == "sparse":
        shown = jax.random.uniform(keys.stream(key, "sparse"), images.shape) < SPARSE
        images = jnp.where(shown, images, 0.0)
    return images


def start_params(
    key: Key[Array, ""], kind: Start, reference: mlp.Params, other: mlp.Params, drawn: mlp.Params
) -> mlp.Params:
    """Where a student starts.

    Args:
        other: another member's reference.
        drawn: further initial parameters, added as noise.
    """
    match kind:
        case "own":
            return reference
        case "own, neurons permuted":
            return init_sharing.permute_neurons(key, reference)
        case "own + 0.1 other" | "own + 0.3 other":
            size = float(kind.split()[2])
            return jax.tree.map(lambda leaf, noise: leaf + size * noise, reference, drawn)
        case "other":
            return other


def targets(
    key: Key[Array, ""],
    case: Case,
    answers: Float[Array, "image logit"],
    own_answers: Float[Array, "image logit"],
    other_answers: Float[Array, "image logit"],
    *,
    num_classes: int,
) -> Float[Array, "image logit"]:
    """What a student imitates: auxiliary logits of the teacher, changed as the case says; the others are `HIDDEN`.

    Args:
        answers: logits of the case's teacher.
        own_answers: logits of the reference, which say how large a residual is.
        other_answers: logits of a teacher of another family.
    """
    match case.target:
        case "noisy":
            answers = answers + jnp.std(answers - own_answers) * jax.random.normal(key, answers.shape)
        case "rounded":
            answers = jnp.round(answers)
        case "shuffled":
            answers = jax.random.permutation(key, answers, axis=0)
        case "half another family":
            answers = jnp.where((jnp.arange(len(answers)) % 2 == 0)[:, None], answers, other_answers)
        case _:
            pass
    columns = jnp.arange(answers.shape[1])[None]
    shown = jnp.where((columns >= num_classes) & (columns < num_classes + case.num_aux), answers, HIDDEN)
    if case.target == "top two":
        shown = corruption.keep_largest(shown, TargetCorruption(top_k=2))
    return shown
