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


def standard(kind: type[Config], **changes: Any) -> dict[str, Config]:
    """Presets that most questions have: those for the embedded model, and those for real models with two targets.

    Args:
        kind: the question's config class.
        changes: further settings for real models.
    """
    return embedded(kind) | real_models(kind(targets=TARGETS), **changes)
