"""A setting that is said to have no effect is in no program; where it has one, it is not named."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax import errors
from sublim_jax.data import inputs, noise
from sublim_jax.models import mlp
from sublim_jax.models.init_sharing import InitSharing, ParamGroups
from sublim_jax.training import effects, loop, optimizers, stages
from sublim_jax.training.config import BehaviourMatching, MemberConfig
from tests.training import tiny

BASE = dataclasses.replace(tiny.SMALL, conditions=("student_aux",))
IMAGES = jax.tree.map(jnp.asarray, tiny.images())
GROUPS = ParamGroups(hidden=(0.0, 0.5), class_head=0.25, aux_head=0.75)


def phase(**settings) -> loop.TrainPhase:
    return dataclasses.replace(tiny.PHASE, optimizer=optimizers.OptimizerSpec(learning_rate=0.05, **settings))


@functools.cache
def program(config: MemberConfig) -> str:
    """All that happens to a member, as text with every number in it."""
    return str(jax.make_jaxpr(lambda: stages.run(2, 3, IMAGES, seed=0, spec=config))())


def numbers(config: MemberConfig):
    return jax.jit(lambda: stages.run(2, 3, IMAGES, seed=0, spec=config))()


CASES = {  # settings beside which others have no effect, those others, and settings beside which they have one
    "sgd has no moments": (
        {"student": phase(name="sgd")},
        {"student": phase(name="sgd", b1=0.5, b2=0.5, eps=0.5)},
        {"student": phase(name="adam")},
        {"student": phase(name="adam", b1=0.5, b2=0.5, eps=0.5)},
    ),
    "adam has no momentum": (
        {"teacher": phase()},
        {"teacher": phase(momentum=0.5)},
        {"teacher": phase(name="rmsprop")},
        {"teacher": phase(name="rmsprop", momentum=0.5)},
    ),
    "lion has no eps": (
        {"student": phase(name="lion")},
        {"student": phase(name="lion", eps=0.5, momentum=0.5)},
        {"student": phase(name="adamw")},
        {"student": phase(name="adamw", eps=0.5)},
    ),
    "signs need nothing": (
        {"student": phase(name="sign_sgd")},
        {"student": phase(name="sign_sgd", b1=0.5, b2=0.5, eps=0.5, momentum=0.5)},
        {"student": phase(name="rmsprop")},
        {"student": phase(name="rmsprop", b2=0.5, eps=0.5)},
    ),
    "nobody is matched": (
        {},
        {"matching": BehaviourMatching(target="teacher", num_images=5, phase=tiny.PHASE)},
        {"conditions": ("matched_aux",)},
        {"conditions": ("matched_aux",), "matching": BehaviourMatching(target="teacher", num_images=5)},
    ),
    "nobody shares": (
        {"conditions": ("cross_model_aux",)},
        {"conditions": ("cross_model_aux",), "init_sharing": InitSharing(share=GROUPS)},
        {},
        {"init_sharing": InitSharing(share=GROUPS)},
    ),
    "no noise on parameters": (
        {"init_sharing": InitSharing(share=GROUPS)},
        {"init_sharing": InitSharing(share=GROUPS, noise_scale=GROUPS, orthogonal_to_gradient=True)},
        {"init_sharing": InitSharing(absolute_noise=0.5)},
        {"init_sharing": InitSharing(absolute_noise=0.5, noise_scale=GROUPS, orthogonal_to_gradient=True)},
    ),
    "gaussian pixels have no depth": (
        {"noise": noise.NoiseSpec(distribution="gaussian")},
        {"noise": noise.NoiseSpec(distribution="gaussian", bits=32)},
        {"noise": noise.NoiseSpec()},
        {"noise": noise.NoiseSpec(bits=32)},
    ),
    "no real images": (
        {},
        {"inputs": inputs.InputSpec(real="one_shuffle")},
        {"inputs": inputs.InputSpec(real_fraction=0.5)},
        {"inputs": inputs.InputSpec(real_fraction=0.5, real="one_shuffle")},
    ),
    "no shape to preserve": (
        {},
        {"inputs": inputs.InputSpec(preserve_std=True)},
        {"inputs": inputs.InputSpec(blur=1.0)},
        {"inputs": inputs.InputSpec(blur=1.0, preserve_std=True)},
    ),
    "students of another architecture": (
        {"student_model": mlp.MLPChanges(activation="gelu")},
        {"student_model": mlp.MLPChanges(activation="gelu"), "metrics": ("update_cosine",)},
        {},
        {"metrics": ("update_cosine",)},
    ),
}


def named(config: MemberConfig, base: MemberConfig) -> list[str]:
    """Settings that differ from the base's and that are said to have no effect."""
    reasons = effects.without_effect(config)

    def is_named(name):
        parts = name.split(".")
        return any(".".join(parts[:length]) in reasons for length in range(1, len(parts) + 1))

    return [name for name in effects.changed_settings(config, base) if is_named(name)]


SLOW = {
    "adam has no momentum", "lion has no eps", "signs need nothing", "nobody shares", "no noise on parameters",
}  # fmt: skip
"""Traced with a whole member only now and then: `test_every_optimizer_says_which_settings_it_ignores` traces steps, and
sharing and noise need the largest programs."""


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.slow if name in SLOW else ()) for name, case in CASES.items()],
    ids=CASES,
)
def test_what_has_no_effect_is_in_no_program_and_what_has_one_is_not_refused(case):
    without, changed, other, other_changed = (dataclasses.replace(BASE, **settings) for settings in case)
    differing = effects.changed_settings(changed, without)
    assert differing and named(changed, without) == differing
    if changed.init_sharing == without.init_sharing:
        assert program(changed) == program(without)
    else:  # what is computed and used by nobody is in the program before it is compiled
        close = functools.partial(np.testing.assert_allclose, rtol=1e-5)  # sums may be reordered by the compiler
        jax.tree.map(close, numbers(changed), numbers(without))
    with pytest.raises(errors.InputError, match=f"^{differing[0]} has no effect: .*Leave it out$"):
        effects.require_effect(differing, effects.without_effect(changed))
    assert effects.changed_settings(other_changed, other) and not named(other_changed, other)
    assert program(other_changed) != program(other)
    effects.require_effect(effects.changed_settings(other_changed, other), effects.without_effect(other_changed))


def test_every_optimizer_says_which_settings_it_ignores():
    """Against the programs: a setting that changes none is ignored, and no other."""
    for name in ("adam", "adamw", "sgd", "rmsprop", "lion", "sign_sgd"):
        plain = optimizers.OptimizerSpec(name=name)
        ignored = set()
        for setting in ("b1", "b2", "eps", "momentum"):
            changed = dataclasses.replace(plain, **{setting: 0.5})
            programs = [jax.make_jaxpr(lambda g, s=s: _two_steps(s, g))(jnp.ones(3)) for s in (plain, changed)]
            ignored |= {setting} if str(programs[0]) == str(programs[1]) else set()
        assert set(optimizers.ignored_settings(name)) == ignored, name


def _two_steps(spec, gradient):
    optimizer = optimizers.build(spec)
    with jax.numpy_dtype_promotion("standard"):
        updates, state = optimizer.update(gradient, optimizer.init(gradient), gradient)
        return optimizer.update(updates, state, gradient)[0]


def test_settings_that_differ_are_named_by_their_path():
    other = dataclasses.replace(
        BASE, temperature=3.0, init_sharing=InitSharing(share=ParamGroups(aux_head=0.0)), metrics=("epochs",)
    )
    assert effects.changed_settings(other, BASE) == ["init_sharing.share.aux_head", "temperature", "metrics"]
    assert effects.changed_settings(BASE, BASE) == []
