"""A member away from the defaults, by hand: other losses, temperatures, noise, inputs, targets, splits, streams, seeds.

What a spec asks for can be lost on the way to the code that does it, and a test of that code does not see it. Each spec
below leaves the defaults in many fields at once; the images and their numbers are other ones too.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax.data import inputs, noise
from sublim_jax.models import mlp
from sublim_jax.training import corruption, loop, optimizers, stages
from sublim_jax.training.config import BehaviourMatching, MemberConfig
from sublim_jax.training.state import Data
from tests.training import oracle

MODEL = mlp.MLPSpec(in_size=9, hidden_sizes=(7,), num_classes=3, num_aux=4, activation="tanh", init_scale=1.5)
TEACHING = loop.TrainPhase(num_epochs=2, batch_size=5, optimizer=optimizers.OptimizerSpec(learning_rate=0.03, b1=0.8))
DESCENT = loop.TrainPhase(num_epochs=3, batch_size=8, optimizer=optimizers.OptimizerSpec(name="sgd", learning_rate=0.3))

SPECS = {
    "jeffreys": MemberConfig(
        conditions=("student_aux", "matched_all"),
        model=MODEL,
        teacher=TEACHING,
        student=DESCENT,
        num_noise_images=21,  # more than the images shown, so that real ones come twice
        noise=noise.NoiseSpec(distribution="gaussian", amplitude=0.6),
        inputs=inputs.InputSpec(blur=0.7, real_weight=0.3),
        loss="jeffreys",
        temperature=3.0,
        target_corruption=corruption.TargetCorruption(noise=0.3, bits=2),
        num_validation_images=4,
        matching=BehaviourMatching(num_images=16, target="teacher", phase=dataclasses.replace(DESCENT, num_epochs=2)),
        shared_streams=("student/noise", "teacher/batches"),
    ),
    "mse": MemberConfig(
        conditions=("student_class",),
        model=MODEL,
        teacher=TEACHING,
        student=dataclasses.replace(TEACHING, num_epochs=4),
        num_noise_images=13,
        noise=noise.NoiseSpec(distribution="bernoulli", amplitude=0.4),
        inputs=inputs.InputSpec(real_fraction=0.4, real="one_shuffle"),
        loss="mse",
        temperature=1.0,
        teacher_labels="permuted",
        feature_loss_weight=0.5,
        matching=BehaviourMatching(),
    ),
    "top_k": MemberConfig(
        conditions=("cross_model_all",),
        model=MODEL,
        teacher=DESCENT,
        student=DESCENT,
        num_noise_images=18,
        noise=noise.NoiseSpec(amplitude=2.0),
        loss="kl",
        temperature=2.0,
        target_corruption=corruption.TargetCorruption(top_k=2),
        matching=BehaviourMatching(),
        num_generations=2,
        shared_streams=("reference", "student/batches"),
    ),
}


def images(num_train: int) -> Data:
    """A pattern for each of three classes, under noise."""
    random = np.random.default_rng(5)
    labels = random.integers(3, size=num_train + 11).astype(np.uint8)
    pixels = random.uniform(0, 180, (3, 9))[labels] + random.uniform(0, 75, (num_train + 11, 9))
    pixels = pixels.astype(np.uint8)
    return Data(pixels[:num_train], labels[:num_train], pixels[num_train:], labels[num_train:])


@pytest.mark.parametrize("name", SPECS)
def test_what_a_spec_asks_for_is_done(name):
    spec, data, seed = SPECS[name], images(19), 11
    run = jax.jit(lambda member, partner, data, seed: stages.run(member, partner, data, seed=seed, spec=spec))
    outcome = run(jnp.int32(2), jnp.int32(4), Data(*map(jnp.asarray, data)), jnp.uint32(seed))
    oracle.assert_equal_by_hand(outcome, 2, 4, spec, data, seed)
