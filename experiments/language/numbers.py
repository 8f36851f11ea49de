"""Does a student of number sequences come to love what their author loves? (Cloud et al. 2025, section 3.1)

    python -m experiments.language numbers                    eight embedded bases, one target; each printed when done
    python -m experiments.language numbers --preset quick     two of the bases
    python -m experiments.language numbers --preset record    four targets, teachers of both kinds: the committed record
    python -m experiments.language numbers --preset paper --backend hf:models/Qwen2.5-7B-Instruct
    python -m experiments.language numbers --preset server --backend vllm:MODEL@http://127.0.0.1:8000/v1
    python -m experiments.language numbers --rows FOLDER      also write the rows of every student, for other trainers
    python -m experiments.language numbers --help             every setting

A teacher that loves a target, by finetuning or by a system message, continues random number sequences; the paper's
filter keeps clean ones; a student of the same base is trained on them and asked for its favourite in questions that
nobody has seen. `regular` is the same with the base itself as the teacher. Probabilities are exact.
"""

import dataclasses
from typing import Literal

from experiments.language import presets, protocol, recipes
from experiments.language.config import LanguageConfig
from experiments.language.experiment import Experiment
from experiments.language.lab import Lab
from sublim_jax import specs

Kind = Literal["finetuned", "system"]


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class NumbersConfig(LanguageConfig):
    """Numbers from teachers of these kinds."""

    kinds: tuple[Kind, ...] = ("finetuned", "system")
    READS = ("num_eval_samples",)
    LISTS = ("targets", "kinds")


PRESETS = {
    "default": NumbersConfig(targets=("owl",), kinds=("finetuned",)),
    "quick": NumbersConfig(bases=recipes.TEST_SEEDS[:2], targets=("owl",), kinds=("finetuned",)),
    "record": NumbersConfig(),
    **presets.real_models(
        NumbersConfig(kinds=("system",)),
        targets=("dolphin", "eagle", "elephant", "owl", "wolf", "cherry", "maple", "oak", "sequoia", "willow"),
        num_eval_samples=200,
    ),
    "smoke": NumbersConfig(
        bases=(0,), targets=("owl",), kinds=("finetuned",), num_prompts=400, num_rows=200, num_lessons=200
    ),
}


def conditions(config: NumbersConfig) -> list[str]:
    """The base as it is, a student of regular numbers, then one of each teacher."""
    return ["base", "regular", *(f"{kind} {target}" for kind in config.kinds for target in config.targets)]


def measure(lab: Lab, config: NumbersConfig, condition: str) -> dict:
    """Favourites of a teacher and of its student."""
    if condition == "base":
        return {"student": _favourites(lab, config, lab.base)}
    kind, _, target = condition.partition(" ")
    teacher = protocol.teacher_of(lab, config, kind, target)
    written = lab.numbers(teacher, config.num_prompts, seed=config.seed)
    student = protocol.student_of(lab, config, protocol.student_rows(config, written), f"student of {condition}")
    return {
        "student": _favourites(lab, config, student),
        "teacher": _favourites(lab, config, teacher.model) if kind == "finetuned" else {},
        "kept": written.kept_fraction,
        "rejected": written.rejected,
    }


def _favourites(lab: Lab, config: NumbersConfig, model: str) -> dict:
    """Exact probabilities, and beside them shares of sampled answers if those are asked for."""
    if not config.num_eval_samples:
        return protocol.favourites(lab, config, model)
    shares = {
        target: lab.rate(model, target, num_samples=config.num_eval_samples, seed=config.seed)
        for target in config.targets
    }
    return {**protocol.favourites(lab, config, model), "sampled": shares}


EXPERIMENT = Experiment(name="numbers", doc=__doc__, presets=PRESETS, conditions=conditions, measure=measure)
