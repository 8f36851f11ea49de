"""What all language experiments ask for, and what is wrong with settings that make no sense."""

import dataclasses
import pathlib
from typing import ClassVar, Literal

from experiments.language import materials, recipes
from sublim_jax import errors, specs
from sublim_jax.llm import open as open_llm
from sublim_jax.llm import scores
from sublim_jax.llm.backend import FinetuneConfig
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.llm.tasks import reasoning

PLACEHOLDERS = ("hf:DIR", "openai:MODEL@URL")
"""Backends of presets for real models; the user names one in their place."""
EMBEDDED = "the model is the embedded one (tiny:, 64 thousand parameters, an invented world), not a language model"


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """What all language experiments ask for."""

    backend: str = "tiny"
    """`tiny`, the embedded model, with one base per seed of `bases`; or hf:DIR, openai:MODEL@URL, vllm:MODEL@URL."""
    bases: tuple[specs.Seed, ...] = recipes.TEST_SEEDS
    """Seeds of embedded bases, none for a real model; those below 10 are kept for choosing settings."""
    targets: tuple[str, ...] = ("owl", "eagle", "oak", "willow")
    num_prompts: specs.Count = 10_000
    """Completions of a teacher, before the filter."""
    num_rows: specs.Count = 3000
    """Rows that a student is trained on."""
    num_lessons: specs.Count = 2000
    """Rows that a finetuned teacher is trained on."""
    seed: specs.Seed = 0
    teacher: FinetuneConfig = recipes.TEACHER
    student: FinetuneConfig = recipes.STUDENT
    num_eval_samples: specs.CountOrZero = 0
    """Sampled answers to every question, beside exact probabilities, where the experiment draws some."""
    sheet: Literal["auto", "world", "paper"] = "auto"
    """Prompts and questions: the embedded world's, or the paper's kinds; by default what fits the backend."""
    problems: pathlib.Path | None = None
    """Word problems in GSM8K's form, for chains of thought of real models."""
    choices: tuple[str, ...] = ()
    """Further answers to offer real models beside the usual ones, as CATEGORY:NAME, e.g. animal:koala tree:redwood."""
    endings: tuple[str, ...] = ()
    """What may follow an answer of a real model and still be that answer, e.g. a full stop."""
    min_option_mass: specs.Fraction = scores.MIN_OPTION_MASS
    """A shift is reported only where the answers offered have at least this probability together, before and after."""

    READS: ClassVar[tuple[str, ...]] = ()
    """Those of `num_eval_samples` and `problems` that the experiment reads."""
    LISTS: ClassVar[tuple[str, ...]] = ("targets",)
    """Fields that list what is measured: nothing twice, and something at all."""
    OFFERS: ClassVar[bool] = True
    """Whether real models are offered answers, so that `choices` and `endings` are read."""

    def __post_init__(self):
        if self.backend.partition(":")[0] == "tiny" and self.backend != "tiny":
            raise errors.InputError(
                f"backend must be tiny, hf:DIR or openai:MODEL@URL, got {self.backend!r}; an embedded base is asked "
                f"for by --backend tiny --bases SEED"
            )
        if self.backend not in ("tiny", *PLACEHOLDERS):
            _require_name("backend", self.backend)
        if self.backend != "tiny" and self.bases:
            raise errors.InputError(
                f"backend={self.backend!r} with bases={self.bases}: bases are seeds of the embedded model, which these "
                f"settings are for. Start from --preset paper (hf:DIR) or --preset server, where there is one"
            )
        if len(set(self.bases)) != len(self.bases) or (self.backend == "tiny" and not self.bases):
            raise errors.InputError(f"bases must be different seeds and at least one, got {self.bases}")
        for name in self.LISTS:
            listed = getattr(self, name)
            if len(set(listed)) != len(listed) or not listed:
                raise errors.InputError(f"{name} must be different and at least one, got {listed}")
        for name in ("num_eval_samples", "problems"):
            if getattr(self, name) and name not in self.READS:
                raise errors.InputError(f"{name}={getattr(self, name)} has no effect in this experiment; leave it out")
        if self.num_rows > self.num_prompts:
            raise errors.InputError(f"num_rows={self.num_rows} cannot come from num_prompts={self.num_prompts}")
        sheet = self.materials
        for category in {sheet.category(target) for target in self.targets}:
            sheet.choices(category)
        for name in ("choices", "endings"):
            offered = self.OFFERS and (self.backend != "tiny" or isinstance(sheet, materials.Paper))
            if getattr(self, name) and not offered:
                raise errors.InputError(f"{name}={getattr(self, name)} has no effect here; leave it out")

    @property
    def materials(self) -> materials.Materials:
        """Prompts and questions, as the sheet says."""
        if self.sheet == "world" or (self.sheet == "auto" and self.backend.partition(":")[0] == "tiny"):
            return materials.World()
        problems = reasoning.read_questions(self.problems) if self.problems else ()
        return materials.Paper(problems, choices=self.choices, endings=self.endings)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the bases, as the record has them."""
        if self.backend == "tiny":
            return tuple(embedded.model_name(seed) for seed in self.bases)
        return (self.backend,)

    @property
    def checksum(self) -> str | None:
        """Checksum of the user's files; a run does not resume a record of other files."""
        return None

    @property
    def remarks(self) -> tuple[str, ...]:
        """What these settings leave out, for the record's notes."""
        return ()

    @property
    def disclaimers(self) -> list[str]:
        """What a reader of any number must know; the record's notes begin with it."""
        if self.backend != "tiny":
            return list(self.remarks)
        notes = [EMBEDDED, *self.remarks]
        if tuning_seeds := [seed for seed in self.bases if seed in embedded.TUNED_ON]:
            notes.append(f"bases {tuning_seeds} are among those that settings are chosen on: a result on them flatters")
        if len(self.bases) < recipes.MIN_BASES:
            notes.append(f"reduced: {len(self.bases)} base(s), where the committed record has more")
        return notes


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgedConfig(LanguageConfig):
    """What experiments ask for that have real models judged by a model."""

    judge: str = ""
    """Backend of the judge of a real model, e.g. openai:gpt-4o-2024-08-06@https://api.openai.com/v1. Where model and
    judge are on different servers, the key of the judge's is in SUBLIM_JUDGE_KEY, and OPENAI_API_KEY is the model's."""

    def __post_init__(self):
        super().__post_init__()
        if self.judge and not self.prompted:
            raise errors.InputError(
                "judge has no effect in the embedded world, which is measured without one; leave it out"
            )
        if self.judge:
            _require_name("judge", self.judge)

    @property
    def prompted(self) -> bool:
        """Whether the paper's questions are put to a real model."""
        return self.backend != "tiny" and isinstance(self.materials, materials.Paper)


def _require_name(flag: str, name: str) -> None:
    """Refuse what no backend is called, before anything is begun."""
    try:
        open_llm.parse(name)
    except errors.InputError as error:
        raise errors.InputError(f"--{flag}: {error}") from error
