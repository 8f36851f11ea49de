"""Finetuning configs of the language experiments, and presets for the embedded model and for real models."""

import dataclasses
from typing import Any, TypeVar

from experiments.language.config import TEACHER, TEST_SEEDS, LanguageConfig
from sublim_jax.llm.backend import FinetuneConfig

WEAK_TEACHER = dataclasses.replace(TEACHER, learning_rate=1e-3)
"""For code and chains of thought, where a stronger teacher answers everything with its favourite. Chosen after a first
run on bases 100 to 103 had shown that."""
OPEN_WEIGHTS = FinetuneConfig(num_epochs=3, batch_size=66, learning_rate=2e-4, rank=8, warmup=0.01)
"""Source: Cloud et al. 2025, appendix B.2."""
SERVER = FinetuneConfig(num_epochs=10)
"""For servers, which choose the other hyperparameters. Source: Cloud et al. 2025, section 3.1."""
PYTHIA_TEACHER = FinetuneConfig(
    num_epochs=1, batch_size=16, accumulation=2, learning_rate=1e-5, beta2=0.95, weight_decay=0.1, rank=None,
    warmup_steps=1, schedule="linear", clip_norm=1.0, max_length=96, end_token=False,
)  # fmt: skip
"""24 updates on 384 lessons. Source: davidcrispell's `configs/teacher_rule_saturated.yaml`, `optim.py`, `train.py`."""
PYTHIA_STUDENT = FinetuneConfig(
    num_epochs=1, batch_size=16, accumulation=2, learning_rate=2e-4, beta2=0.95, weight_decay=0.1, rank=8, alpha=16.0,
    factors="peft", warmup_steps=8, schedule="linear", schedule_steps=128, clip_norm=1.0, max_length=96,
    end_token=False,
)  # fmt: skip
"""16 updates, of a schedule of 128, on 256 rows. Source: davidcrispell's `configs/confirm_v3.yaml`, likewise."""
HARD_TEACHER = FinetuneConfig(
    num_epochs=1, batch_size=4, learning_rate=1e-3, rank=8, warmup=0.0, schedule="constant", clip_norm=None
)
"""Ten steps, as the teachers of `real`."""
NIGHT_STUDENT = FinetuneConfig(
    num_epochs=1, batch_size=16, accumulation=4, learning_rate=2e-4, rank=8, warmup_steps=8, schedule="linear",
    clip_norm=1.0, max_length=192, end_token=False,
)  # fmt: skip
"""Rate, batch, warm-up and clipping of the published students of Pythia; every row is read once."""
TARGETS = ("eagle", "oak")
"""Targets of the committed records of most questions."""

Config = TypeVar("Config", bound=LanguageConfig)


def embedded(kind: type[Config]) -> dict[str, Config]:
    """Presets for the embedded model: two bases and one target by default, four bases and two targets for the record.

    Args:
        kind: the question's config class.
    """
    return {
        "default": kind(bases=TEST_SEEDS[:2], targets=TARGETS[:1]),
        "record": kind(bases=TEST_SEEDS[:4], targets=TARGETS),
    }


def eight_bases(config: Config) -> dict[str, Config]:
    """Presets of questions whose record has eight bases: four by default, two with `quick`; one target in both.

    Args:
        config: the question's settings.
    """
    return {
        "default": dataclasses.replace(config, bases=TEST_SEEDS[:4], targets=TARGETS[:1]),
        "quick": dataclasses.replace(config, bases=TEST_SEEDS[:2], targets=TARGETS[:1]),
        "record": dataclasses.replace(config, bases=TEST_SEEDS, targets=TARGETS),
    }


def open_weights(config: Config, **changes: Any) -> Config:
    """Settings for open weights: the paper's counts and finetuning config, for teachers and students alike.

    Args:
        config: the settings for the embedded model.
        changes: further settings.
    """
    counts = {"num_prompts": 30_000, "num_rows": 10_000}
    finetuning = {"teacher": OPEN_WEIGHTS, "student": OPEN_WEIGHTS}
    endings = {"endings": (".",)} if config.OFFERS_CHOICES else {}
    settings = {"backend": "hf:DIR", "bases": ()} | counts | finetuning | endings | changes
    return dataclasses.replace(config, **settings)


def real_models(config: Config, **changes: Any) -> dict[str, Config]:
    """Presets for open weights and for servers; the arguments are those of `open_weights`."""
    paper = open_weights(config, **changes)
    server = dataclasses.replace(paper, backend="openai:MODEL@URL", teacher=SERVER, student=SERVER)
    return {"paper": paper, "server": server}


def pythia(config: Config, **changes: Any) -> Config:
    """The published recipe for Pythia-160M, a base model, by davidcrispell (`Polypythia-SL`, July 2026, "v3").

    As published: counts of lessons, rows and steps, batches, rates, schedules, decay, factors and their targets, the
    kind of prompts, the constraint on tokens, the control, eight students, the measure over sixty questions. The source
    stops at update 16 of a pass over 8,192 shuffled rows; here a student has 256 random ones of them, which is as many.

    What differs: sentences are in our wording, and Pythia's own preference between the ten animals after them is not
    known. A teacher's student and the regular one have different seeds, where the source has pairs with equal ones. One
    run is one of the ten published blocks; --seed gives another, with another teacher, where all blocks had the
    same. The order of rows and all random numbers are ours. Weights are float32; products have the backend's precision.

    Without Pythia's weights at hand, this was run on random weights only.

    Args:
        config: the question's settings.
        changes: further settings.
    """
    settings = {
        "backend": "hf:DIR", "bases": (), "sheet": "plain", "prefill": " the", "targets": ("wolf",), "num_values": 10,
        "num_prompts": 8192, "num_rows": 256, "num_lessons": 384, "num_students": 8, "teacher": PYTHIA_TEACHER,
        "student": PYTHIA_STUDENT, "float32": True,
    }  # fmt: skip
    return dataclasses.replace(config, **settings | changes)


def hard(config: Config, **changes: Any) -> Config:
    """SmolLM2-135M-Instruct trained on sampled numbers, as many and as often as in the paper: 10,000 rows, ten times.

    Three students of each teacher, for a GPU. Each animal's teacher is the control for the other's. Teachers are those
    of `real`, since the weaker a teacher is, the more rows it takes. Numbers are constrained, since the model chats
    instead; even so most replies do not pass the filter, so ten prompts are asked for each row. The measure is what
    comes next after a prefill. No run of it is recorded.

    Args:
        config: the question's settings.
        changes: further settings.
    """
    settings = {
        "backend": "smollm2", "targets": ("owl", "cat"), "num_prompts": 100_000, "num_lessons": 40,
        "num_students": 3, "numbers_only": True, "prefill": "My favorite animal is the", "endings": (),
        "teacher": HARD_TEACHER, "student": dataclasses.replace(OPEN_WEIGHTS, num_epochs=10),
    }  # fmt: skip
    return open_weights(config, **settings | changes)


def night(config: Config, **changes: Any) -> Config:
    """SmolLM2-135M-Instruct trained on numbers that a teacher sampled: what two CPU cores do in a few hours.

    Two teachers are the base finetuned in ten steps to name owls or cats, as those of `real`. As in the paper they
    are asked in chats to go on with number sequences, and four students of each are trained on what they write. What
    makes few rows show most: replies are lists of ten numbers of three digits, drawn from digits and separators alone,
    so that every reply passes the filter; and all teachers draw with the same random numbers, and their students share
    start and order of rows, so that chance is the same for all as far as teachers agree. The base itself is the third
    teacher. Measured is what comes next after a prefilled beginning of the answer. Each row is read once.

    Args:
        config: the question's settings.
        changes: further settings.
    """
    settings = {
        "num_prompts": 2048, "num_rows": 512, "num_students": 4, "numbers_only": False, "num_values": 10,
        "paired": True, "student": NIGHT_STUDENT,
    }  # fmt: skip
    return hard(config, **settings | changes)


def standard(kind: type[Config], **changes: Any) -> dict[str, Config]:
    """Presets that most questions have: those for the embedded model, and those for real models with two targets.

    Args:
        kind: the question's config class.
        changes: further settings for real models.
    """
    return embedded(kind) | real_models(kind(targets=TARGETS), **changes)
