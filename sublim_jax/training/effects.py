"""Settings that have no effect under the others, which commands refuse by name."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from sublim_jax import conditions, errors, specs
from sublim_jax.data import inputs as input_data
from sublim_jax.training import loop, optimizers
from sublim_jax.training.config import MemberConfig


def without_effect(config: MemberConfig) -> dict[str, str]:
    """Settings that change no number while the others are as they are: the reason for each, by dotted name.

    A name stands for all settings inside it, e.g. "matching" for "matching.phase.num_epochs".
    """
    origins = {conditions.start_of(condition) for condition in config.conditions}
    reasons: dict[str, str] = {}
    phases = {"teacher": config.teacher, "student": config.student, "matching.phase": config.matching.phase}
    for place, phase in phases.items():
        reasons |= _optimizer_reasons(place, phase)
    if "matched" not in origins:
        reasons["matching"] = "no condition is matched_aux, matched_class or matched_all"
    if "student" not in origins:
        reasons["init_sharing"] = "no condition is student_aux, student_class or student_all"
    else:
        reasons |= _init_reasons(config)
    reasons |= _input_reasons(config)
    if "update_cosine" in config.metrics and config.students_differ:
        reasons["metrics"] = "the update cosine needs students of the teacher's own architecture"
    return reasons


def _optimizer_reasons(place: str, phase: loop.TrainPhase) -> dict[str, str]:
    name = phase.optimizer.name
    return {f"{place}.optimizer.{setting}": f"{name} has none" for setting in optimizers.ignored_settings(name)}


def _init_reasons(config: MemberConfig) -> dict[str, str]:
    sharing = config.init_sharing
    if not (specs.is_zero(sharing.relative_noise) and specs.is_zero(sharing.absolute_noise)):
        return {}
    reason = "there is no noise on the initial parameters"
    return {f"init_sharing.{setting}": reason for setting in ("noise_scale", "orthogonal_to_gradient")}


def _input_reasons(config: MemberConfig) -> dict[str, str]:
    if config.noise_function is not None:
        return dict.fromkeys(("noise", "inputs"), "noise_function replaces it")
    reasons: dict[str, str] = {}
    if config.noise.distribution != "uniform":
        reasons["noise.bits"] = f"only uniform pixels have a depth, and these are {config.noise.distribution}"
    if config.inputs.real_weight is None and config.inputs.real_fraction is None:
        reasons["inputs.real"] = "no real images are shown; see real_weight and real_fraction"
    if not input_data.is_shaped(config.inputs):
        reasons["inputs.preserve_std"] = "there is no blur, no lattice and no spectrum"
    return reasons


def require_gradient(config: MemberConfig) -> None:
    """Refuse students of a single auxiliary logit under a loss that no constant changes: they would not learn.

    Raises:
        InputError: there are some.
    """
    invariant = config.loss in ("kl", "reverse_kl", "jeffreys", "centred_mse")
    for condition in config.conditions:
        if config.model.num_aux == 1 and invariant and conditions.distilled_logits_of(condition) == "aux":
            raise errors.InputError(
                f"num_aux=1: a constant added to all logits does not change the loss {config.loss}, so a single "
                f"logit has zero gradient and {condition} cannot learn. Use num_aux >= 2, or the loss mse."
            )


def changed_settings(config: Any, base: Any) -> list[str]:
    """Dotted names of the settings of a config that differ from those of another config of the same class."""
    names = []
    for field in dataclasses.fields(base):
        ours, theirs = getattr(config, field.name), getattr(base, field.name)
        if type(ours) is type(theirs) and dataclasses.is_dataclass(ours):
            names += [f"{field.name}.{name}" for name in changed_settings(ours, theirs)]
        elif ours is not theirs and ours != theirs:
            names.append(field.name)
    return names


def require_effect(changed: list[str], reasons: Mapping[str, str], *, prefix: str = "") -> None:
    """Refuse the first changed setting that has no effect.

    Args:
        changed: dotted names.
        reasons: see `without_effect`.
        prefix: what stands before the names in the message, e.g. "--" where they are flags.

    Raises:
        InputError: there is one.
    """
    for name in changed:
        parts = name.split(".")
        for length in range(len(parts), 0, -1):
            if (reason := reasons.get(".".join(parts[:length]))) is not None:
                shown = name.removeprefix("member.").replace("_", "-") if prefix else name
                raise errors.InputError(f"{prefix}{shown} has no effect: {reason}. Leave it out")
