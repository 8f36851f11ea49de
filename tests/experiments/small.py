"""An experiment of seconds, as a config and as the flags that mean the same."""

import dataclasses
import shlex

from experiments import mnist_aux
from sublim_jax.models import mlp
from sublim_jax.training import loop


def replaced(config: mnist_aux.MnistAuxConfig, **changes) -> mnist_aux.MnistAuxConfig:
    """The config with other values, also of its member's settings."""
    own = {field.name for field in dataclasses.fields(config)}
    inner = {name: value for name, value in changes.items() if name not in own}
    outer = {name: value for name, value in changes.items() if name in own}
    return dataclasses.replace(config, member=dataclasses.replace(config.member, **inner), **outer)


CONFIG = replaced(
    mnist_aux.PRESETS["default"],
    num_members=3,  # does not divide among two devices or processes
    dataset="synthetic-digits",
    conditions=("student_aux", "cross_model_aux"),
    model=mlp.MLPSpec(hidden_sizes=(8,), precision="float32"),
    teacher=loop.TrainPhase(num_epochs=1, batch_size=64),
    student=loop.TrainPhase(num_epochs=1, batch_size=64),
    num_noise_images=10_000,  # makes a member take long enough to be killed half-way
)
FLAGS = shlex.split(
    "--num-members 3 --dataset synthetic-digits --conditions student_aux cross_model_aux --model.hidden-sizes 8 "
    "--model.precision float32 --teacher.num-epochs 1 --teacher.batch-size 64 --student.num-epochs 1 "
    "--student.batch-size 64 --num-noise-images 10000"
)
_HUGE_STEPS = dataclasses.replace(
    CONFIG.member.teacher,
    optimizer=dataclasses.replace(CONFIG.member.teacher.optimizer, name="sgd", learning_rate=1e30),
)
DIVERGING = replaced(  # overflows in the second step
    CONFIG, num_members=1, conditions=("student_aux",), num_noise_images=128, teacher=_HUGE_STEPS, student=_HUGE_STEPS
)
