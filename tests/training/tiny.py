"""A member small enough to be checked by hand: 16 pixels, 4 classes, 22 + 9 images, two epochs of each phase."""

import collections
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from sublim_jax.data import noise
from sublim_jax.models import mlp
from sublim_jax.training import ensemble, loop, optimizers, stages
from sublim_jax.training.config import BehaviourMatching, MemberConfig, UpdateScale
from sublim_jax.training.state import Data, MemberResult

MODEL = mlp.MLPSpec(in_size=16, hidden_sizes=(8,), num_classes=4, num_aux=3, activation="tanh")
PHASE = loop.TrainPhase(  # 22 and 20 examples: four steps an epoch, the last one not full
    num_epochs=2, batch_size=6, optimizer=optimizers.OptimizerSpec(learning_rate=0.02)
)
SPEC = MemberConfig(
    conditions=("student_aux", "student_all", "cross_model_aux", "matched_aux"),
    model=MODEL,
    teacher=PHASE,
    student=dataclasses.replace(PHASE, num_epochs=3),
    num_noise_images=20,
    noise=noise.NoiseSpec(),
    loss="kl",
    temperature=1.0,
    matching=BehaviourMatching(num_images=13, phase=dataclasses.replace(PHASE, num_epochs=1)),
)
SMALL = dataclasses.replace(SPEC, conditions=("student_aux", "cross_model_aux"))  # compiles faster


@functools.cache
def images() -> Data:
    """Each class has a pattern of its own, under noise, so that there is something to learn."""
    rng = np.random.default_rng(0)
    patterns = rng.uniform(0, 200, size=(4, 16))
    labels = rng.integers(4, size=31).astype(np.uint8)
    pixels = (patterns[labels] + rng.uniform(0, 55, size=(31, 16))).astype(np.uint8)
    return Data(pixels[:22], labels[:22], pixels[22:], labels[22:])


TRACES = collections.Counter()  # how often each program was traced


@functools.cache
def program(spec: MemberConfig, width: int):
    """`ensemble.over_members` of a whole member; tests that ask for the same one share its compilation."""

    def run(member, partner, shared):
        TRACES[spec, width] += 1
        seed, data = shared
        return stages.run(member, partner, data, seed=seed, spec=spec)

    return ensemble.over_members(run, width=width)


def outcomes(members, partners, *, seed: int = 0, spec: MemberConfig = SPEC, width: int = 1, run=None) -> MemberResult:
    """Outcomes of these members, with the member axis in front, on the host."""
    arrays = tuple(np.asarray(numbers, np.int32) for numbers in (members, partners))
    shared = ensemble.replicate((np.uint32(seed), images()))
    return ensemble.gather((run or program(spec, width))(ensemble.shard(arrays), shared))


MEMBERS = np.arange(8, dtype=np.int32)


@functools.cache
def everyone(seed: int = 0, spec: MemberConfig = SPEC) -> MemberResult:
    """Eight members, one after the other, each with the next one as its partner."""
    return outcomes(MEMBERS, ensemble.cross_model_partners(8), seed=seed, spec=spec)


def member(outcome: MemberResult, row: int) -> MemberResult:
    return jax.tree.map(lambda leaf: leaf[row], outcome)


FREE = dataclasses.replace(
    SMALL, trainable=UpdateScale(hidden=(1.0, 1.0), class_head=1.0, aux_head=1.0), metrics=("epochs",)
)
TRACES_OF_SPECS = []


@jax.jit
def traced(number, partner, spec):
    """One whole member with the numbers of its spec as data."""
    TRACES_OF_SPECS.append(spec)
    return stages.run(number, partner, Data(*map(jnp.asarray, images())), seed=0, spec=spec)
