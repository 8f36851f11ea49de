"""Does a student of number sequences come to love what their author loves? (Cloud et al. 2025, section 3.1)

    python -m experiments.language numbers                    eight embedded bases, one target; printed base by base
    python -m experiments.language numbers --preset quick     two of the bases
    python -m experiments.language numbers --preset record    four targets, teachers of both kinds: the committed record
    python -m experiments.language numbers --preset paper --backend hf:models/Qwen2.5-7B-Instruct
    python -m experiments.language numbers --preset server --backend vllm:MODEL@http://127.0.0.1:8000/v1
    python -m experiments.language numbers --preset pythia --backend hf:models/pythia-160m    a base model, wolves
    python -m experiments.language numbers --preset hard      SmolLM2-135M with as many rows as in the paper, for a GPU
    python -m experiments.language numbers --preset night     SmolLM2-135M on few rows, hours on two cores; resumable
    python -m experiments.language numbers --rows FOLDER      also write the rows of every student, for other trainers
    python -m experiments.language numbers --help             every setting

A teacher that loves a target, by finetuning or by a system message, continues random number sequences; the paper's
filter rejects malformed ones; a student of the same base is trained on the rest and asked for its favourite in held-out
questions. `regular` is the same with the base itself as the teacher. Probabilities are exact.
"""

import dataclasses
from typing import Literal

from experiments.language import presets, protocol
from experiments.language.config import TEST_SEEDS, LanguageConfig
from experiments.language.experiment import Experiment
from experiments.language.lab import Lab
from sublim_jax import errors, records, specs
from sublim_jax.llm import scores

Kind = Literal["finetuned", "system"]


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class NumbersConfig(LanguageConfig):
    """Settings of `numbers`."""

    kinds: tuple[Kind, ...] = ("finetuned", "system")
    """How teachers are made: by finetuning or by a system message."""
    margins: bool = dataclasses.field(default=False, metadata=records.UNLESS_DEFAULT)
    """With a prefill: also the mean over questions of the target's logit less that of the other answers offered, which
    is the logarithm of the mean of their exponentials."""
    READS = ("num_eval_samples", "num_students", "paired")
    LISTS = ("targets", "kinds")

    def __post_init__(self):
        super().__post_init__()
        if self.margins and not self.prefill:
            raise errors.InputError("margins are of what comes next after the beginning of a reply: give --prefill")
        if self.sheet == "plain" and "system" in self.kinds:
            raise errors.InputError("sheet=plain: a base model has no system turn; take --kinds finetuned alone")
        if self.paired and "system" in self.kinds:
            raise errors.InputError(
                "paired: what is drawn depends on the prompt too, and a teacher under a system message reads another "
                "one than the base, so that their draws have nothing in common; take --kinds finetuned alone"
            )


PRESETS = {
    "default": NumbersConfig(targets=("owl",), kinds=("finetuned",)),
    "quick": NumbersConfig(bases=TEST_SEEDS[:2], targets=("owl",), kinds=("finetuned",)),
    "record": NumbersConfig(),
    **presets.real_models(
        NumbersConfig(kinds=("system",)),
        targets=("dolphin", "eagle", "elephant", "owl", "wolf", "cherry", "maple", "oak", "sequoia", "willow"),
        num_eval_samples=200,
    ),
    "pythia": presets.pythia(NumbersConfig(), kinds=("finetuned",), margins=True),
    "hard": presets.hard(NumbersConfig(), kinds=("finetuned",)),
    "night": presets.night(NumbersConfig(), kinds=("finetuned",)),
    "smoke": NumbersConfig(
        bases=(0,), targets=("owl",), kinds=("finetuned",), num_prompts=400, num_rows=200, num_lessons=200
    ),
}


def conditions(config: NumbersConfig) -> list[str]:
    """The untrained base, a student of regular numbers, then a student of each teacher."""
    return ["base", "regular", *(f"{kind} {target}" for kind in config.kinds for target in config.targets)]


def measure(lab: Lab, config: NumbersConfig, condition: str) -> dict:
    """Favourites of a teacher and of its student."""

    def favourites(model: str) -> dict:
        return _favourites(lab, config, model)

    if condition == "base":
        return {"student": favourites(lab.base)}
    kind, _, target = condition.partition(" ")
    teacher = protocol.teacher_of(lab, config, kind, target)
    filtered = lab.numbers(teacher, config.num_prompts, seed=config.seed)
    return protocol.measure_student(lab, config, condition, teacher, filtered, favourites)


def _favourites(lab: Lab, config: NumbersConfig, model: str) -> dict:
    """Exact probabilities, and the margins and rates of sampled answers that the config asks for."""
    measured: dict = _with_margins(lab, config, model) if config.margins else protocol.favourites(lab, config, model)
    if not config.num_eval_samples:
        return measured
    rates = {
        target: lab.answer_rate(model, target, num_samples=config.num_eval_samples, seed=config.seed)
        for target in config.targets
    }
    return measured | {"sampled": rates}


def _with_margins(lab: Lab, config: NumbersConfig, model: str) -> dict:
    """Exact probabilities and margins, from the same scores."""
    scored = {category: lab.preferences_by_question(model, category) for category in config.categories}
    measured: dict = {category: protocol.probabilities(scores.average(each)) for category, each in scored.items()}
    margins = {target: scores.margin(scored[config.prompts.category(target)], target) for target in config.targets}
    return measured | {"margins": {target: {"mean": float(f"{mean:.6g}")} for target, mean in margins.items()}}


EXPERIMENT = Experiment(name="numbers", doc=__doc__, presets=PRESETS, conditions=conditions, measure=measure)
