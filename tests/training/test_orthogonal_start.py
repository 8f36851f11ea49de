"""The gradient that noise on a student's start avoids is of the classes as the teacher names them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sublim_jax import losses
from sublim_jax.models import mlp
from sublim_jax.models.init_sharing import InitSharing
from sublim_jax.training import loop, stages
from sublim_jax.training.config import MemberConfig
from sublim_jax.training.state import Data

MODEL = mlp.MLPSpec(in_size=4, hidden_sizes=(5,), num_classes=2, num_aux=2, activation="tanh", precision="float32")
INPUTS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
LABELS = np.array([0, 0, 1, 0, 1, 0])
DATA = Data(INPUTS, LABELS, INPUTS, LABELS)
CONFIG = MemberConfig(
    model=MODEL,
    init_sharing=InitSharing(absolute_noise=0.5, orthogonal_to_gradient=True),
    teacher_labels="permuted",
    teacher=loop.TrainPhase(batch_size=4),
)


def test_noise_avoids_the_gradient_of_the_renamed_labels_of_the_first_batch():
    """Two classes have one renaming that leaves neither its name: they change places."""
    initial = jax.jit(lambda: stages.init_params(0, 1, DATA, seed=3, spec=CONFIG.init_config))()
    noise = optax.tree.sub(initial.student, initial.reference)

    @jax.jit
    def cosine(labels):
        def loss(params):
            return losses.cross_entropy(MODEL.apply(params, jnp.asarray(INPUTS[:4]))[:, :2], labels)

        gradient = jax.grad(loss)(initial.reference)
        return optax.tree.vdot(noise, gradient) / optax.tree.norm(noise) / optax.tree.norm(gradient)

    assert abs(cosine(1 - LABELS[:4])) < 1e-5  # rounding of float32, in sums of 49 terms
    assert abs(cosine(LABELS[:4])) > 0.01
