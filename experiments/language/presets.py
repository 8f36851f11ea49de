"""Presets of an experiment for real models, made from its settings for embedded ones."""

import dataclasses
from typing import Any, TypeVar

from experiments.language import recipes
from experiments.language.config import LanguageConfig

Config = TypeVar("Config", bound=LanguageConfig)


def open_weights(embedded: Config, **changes: Any) -> Config:
    """An experiment's settings for open weights: the paper's counts and finetuning, for teachers and students alike.

    Args:
        changes: further settings.
    """
    counts = {"num_prompts": 30_000, "num_rows": 10_000}
    finetuning = {"teacher": recipes.OPEN_WEIGHTS, "student": recipes.OPEN_WEIGHTS}
    endings = {"endings": (".",)} if embedded.OFFERS else {}
    settings = {"backend": "hf:DIR", "bases": ()} | counts | finetuning | endings | changes
    return dataclasses.replace(embedded, **settings)


def real_models(embedded: Config, **changes: Any) -> dict[str, Config]:
    """Presets of an experiment for open weights and for servers."""
    paper = open_weights(embedded, **changes)
    server = dataclasses.replace(paper, backend="openai:MODEL@URL", teacher=recipes.SERVER, student=recipes.SERVER)
    return {"paper": paper, "server": server}
