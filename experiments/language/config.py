"""Settings that all language experiments share, and errors for settings that make no sense."""

import dataclasses
import pathlib
from typing import Any, ClassVar, Literal

from experiments.language.plain_prompts import PlainPrompts
from experiments.language.prompts import PaperPrompts, PromptSet, WorldPrompts
from sublim_jax import errors, records, specs
from sublim_jax.llm import open as open_llm
from sublim_jax.llm import scores
from sublim_jax.llm.backend import FinetuneConfig
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.llm.tasks import reasoning

PLACEHOLDERS = ("hf:DIR", "openai:MODEL@URL")
"""Backends of presets for real models; the user replaces them by a model's name."""
EMBEDDED = "the model is the embedded one (tiny:, 64 thousand parameters, an invented world), not a language model"
TEST_SEEDS = tuple(range(100, 108))
"""Seeds of embedded bases on which no setting was chosen."""
MIN_BASES = 4
"""With fewer bases, a run is a demonstration and its notes say so."""
TEACHER = FinetuneConfig(
    num_epochs=3, batch_size=64, learning_rate=3e-3, beta2=0.99, rank=None, schedule="cosine", max_length=64
)
STUDENT = FinetuneConfig(
    num_epochs=6, batch_size=64, learning_rate=1e-2, beta2=0.99, rank=8, schedule="cosine", max_length=64
)
"""Finetuning configs of the embedded model, both chosen on bases 0 to 2."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """Settings that all language experiments share."""

    backend: str = "tiny"
    """`tiny`, the embedded model, with one base per seed of `bases`; or hf:DIR, hf:FILE.gguf, smollm2,
    openai:MODEL@URL, vllm:MODEL@URL."""
    bases: tuple[specs.Seed, ...] = TEST_SEEDS
    """Seeds of embedded bases, none for a real model; seeds below 10 are reserved for choosing settings."""
    targets: tuple[str, ...] = ("owl", "eagle", "oak", "willow")
    num_prompts: specs.Count = 10_000
    """Completions of a teacher, before the filter."""
    num_rows: specs.Count = 3000
    """Rows that a student is trained on."""
    num_lessons: specs.Count = 2000
    """Rows that a finetuned teacher is trained on."""
    seed: specs.Seed = 0
    teacher: FinetuneConfig = TEACHER
    student: FinetuneConfig = STUDENT
    num_eval_samples: specs.CountOrZero = 0
    """Sampled answers to every question, in addition to exact probabilities, in experiments that sample answers."""
    sheet: Literal["auto", "world", "paper", "plain"] = "auto"
    """Prompt set: the embedded world's (`world`), the paper's kinds (`paper`), or text to go on with (`plain`), about
    animals alone and for base models; by default the world's or the paper's, whichever is for the backend."""
    problems: pathlib.Path | None = None
    """Word problems in GSM8K's format, for chains of thought of real models."""
    choices: tuple[str, ...] = ()
    """Further answers to offer real models, as CATEGORY:NAME, e.g. animal:koala tree:redwood."""
    endings: tuple[str, ...] = ()
    """Text that may follow an answer of a real model without making it another answer, e.g. a full stop."""
    min_option_mass: specs.Fraction = scores.MIN_OPTION_MASS
    """A shift is reported only where the offered answers have at least this total probability, before and after."""
    teacher_temperature: specs.NonNegative = dataclasses.field(default=1.0, metadata=records.UNLESS_DEFAULT)
    """Temperature at which teachers write rows; 0 takes the most likely token."""
    numbers_only: bool = dataclasses.field(default=False, metadata=records.UNLESS_DEFAULT)
    """Teachers write numbers from tokens of digits, commas, spaces and newlines alone, for models that chat instead."""
    num_values: specs.CountOrZero = dataclasses.field(default=0, metadata=records.UNLESS_DEFAULT)
    """If not 0, teachers write exactly so many numbers below 1,000 with commas between: tokens of a space and a whole
    number, or, where digits are tokens of their own, three digits each. Every reply then passes the filter."""
    prefill: str = dataclasses.field(default="", metadata=records.UNLESS_DEFAULT)
    """How replies of a real model about favourites begin, e.g. "My favorite {category} is the". Answers are then scored
    as what comes next, whatever follows them, and `endings` are not used."""
    num_students: specs.Count = dataclasses.field(default=1, metadata=records.UNLESS_DEFAULT)
    """Students of each teacher of a real model, with seeds of their own; intervals are over them."""
    paired: bool = dataclasses.field(default=False, metadata=records.UNLESS_DEFAULT)
    """All teachers draw their rows with the same random numbers, and all first students share start and order of rows,
    as do all second ones. Their rows are alike as far as their teachers agree and the filter rejects none, as with
    `num_values`. Teachers under a system message cannot be paired: draws depend on the prompt."""
    float32: bool = dataclasses.field(default=False, metadata=records.UNLESS_DEFAULT)
    """Weights of a folder are float32 on an accelerator too, for full finetuning in steps that bfloat16 rounds away."""

    READS: ClassVar[tuple[str, ...]] = ()
    """Which of `num_eval_samples`, `problems`, `num_students` and `paired` the experiment uses."""
    LISTS: ClassVar[tuple[str, ...]] = ("targets",)
    """Fields that must be non-empty and without repetition."""
    OFFERS_CHOICES: ClassVar[bool] = True
    """Whether real models are offered answers, so that `choices`, `endings` and `prefill` have an effect."""
    WRITES_NUMBERS: ClassVar[bool] = True
    """Whether teachers write numbers, so that `numbers_only` and `num_values` have an effect."""

    def __post_init__(self):
        if self.backend.partition(":")[0] == "tiny" and self.backend != "tiny":
            raise errors.InputError(
                f"backend must be tiny, hf:DIR or openai:MODEL@URL, got {self.backend!r}; choose an embedded base with "
                f"--backend tiny --bases SEED"
            )
        if self.backend not in ("tiny", *PLACEHOLDERS):
            _require_name("backend", self.backend)
        if self.backend != "tiny" and self.bases:
            raise errors.InputError(
                f"backend={self.backend!r} with bases={self.bases}: bases are seeds of the embedded model, and these "
                f"settings are for it. Start from --preset paper (hf:DIR) or --preset server, if the experiment has it"
            )
        if len(set(self.bases)) != len(self.bases) or (self.backend == "tiny" and not self.bases):
            raise errors.InputError(f"bases must be different seeds and at least one, got {self.bases}")
        for name in self.LISTS:
            listed = getattr(self, name)
            if len(set(listed)) != len(listed) or not listed:
                raise errors.InputError(f"{name} must be different and at least one, got {listed}")
        for name, default in (
            ("num_eval_samples", 0), ("problems", None), ("num_students", 1), ("paired", False),
        ):  # fmt: skip
            if getattr(self, name) != default and name not in self.READS:
                raise errors.InputError(f"{name}={getattr(self, name)} has no effect in this experiment; leave it out")
        if self.num_rows > self.num_prompts:
            raise errors.InputError(
                f"num_rows={self.num_rows} is more than num_prompts={self.num_prompts}; a prompt gives at most one row"
            )
        if self.sheet == "plain":
            self._require_plain()
        prompts = self.prompts
        for category in self.categories:
            prompts.choices(category)
        for name in ("numbers_only", "num_values"):
            if getattr(self, name) and not self.WRITES_NUMBERS:
                raise errors.InputError(f"{name} has no effect where teachers write something else; leave it out")
        if self.num_values and not self.OFFERS_CHOICES:
            raise errors.InputError("num_values: this experiment reads replies that begin with a number, not a space")
        if self.numbers_only and self.num_values:
            raise errors.InputError("numbers_only has no effect beside num_values, which is stricter; leave it out")
        if self.num_students > 1 and self.backend == "tiny":
            raise errors.InputError(
                f"num_students={self.num_students} is for a single real model; intervals of the embedded model are "
                f"over --bases, so take more of them"
            )
        if self.float32 and (self.backend == "tiny" or not open_llm.is_local(self.backend)):
            raise errors.InputError(
                f"float32 has no effect on {self.backend}: it is about weights in a folder (hf:DIR)"
            )
        self._require_drawable()
        for name in ("choices", "endings", "prefill"):
            has_effect = self.OFFERS_CHOICES and (self.backend != "tiny" or isinstance(prompts, PaperPrompts))
            if getattr(self, name) and not has_effect:
                raise errors.InputError(f"{name}={getattr(self, name)} has no effect here; leave it out")

    def _require_drawable(self) -> None:
        """Refuse constraints on tokens where they cannot be drawn from."""
        for name in ("numbers_only", "num_values"):
            if getattr(self, name) and not open_llm.is_local(self.backend):
                raise errors.InputError(
                    f"{name}: {self.backend} is a server, which takes no constraint on tokens; leave it out, or use "
                    f"weights on this machine (hf:DIR)"
                )
        if self.num_values and self.backend == "tiny":
            raise errors.InputError(
                "num_values: the embedded model has no tokens that such lists are made of; take numbers_only instead"
            )

    def _require_plain(self) -> None:
        """Refuse settings that do not go with text to go on with."""
        if not (self.WRITES_NUMBERS and self.OFFERS_CHOICES):
            raise errors.InputError("sheet=plain: this experiment asks for more than numbers and favourites")
        if not self.prefill or self.choices or self.endings:
            raise errors.InputError(
                "sheet=plain: an animal is scored as what comes next after a sentence, so it needs --prefill ' the' "
                "and neither choices nor endings"
            )

    @property
    def prompts(self) -> PromptSet:
        """The prompt set that `sheet` selects."""
        if self.sheet == "plain":
            return PlainPrompts()
        if self.sheet == "world" or (self.sheet == "auto" and self.backend.partition(":")[0] == "tiny"):
            return WorldPrompts()
        problems = reasoning.read_questions(self.problems) if self.problems else ()
        return PaperPrompts(problems, choices=self.choices, endings=() if self.prefill else self.endings)

    @property
    def drawing(self) -> dict[str, Any]:
        """How a `Lab` of these settings samples rows and begins replies, by the lab's own names."""
        names = ("teacher_temperature", "numbers_only", "num_values", "prefill", "paired")
        return {name: getattr(self, name) for name in names}

    @property
    def categories(self) -> list[str]:
        """Categories of the targets, sorted."""
        prompts = self.prompts
        return sorted({prompts.category(target) for target in self.targets})

    @property
    def base_names(self) -> tuple[str, ...]:
        """Names of the bases in the record."""
        if self.backend == "tiny":
            return tuple(embedded.model_name(seed) for seed in self.bases)
        return (self.backend,)

    @property
    def checksum(self) -> str | None:
        """Checksum of the user's files, or of the GGUF file with the model's weights, if any; a run refuses to resume
        a record made from other files."""
        file = open_llm.weights_file(self.backend)
        return None if file is None else file.sha256()

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the record on what these settings leave out."""
        return ()

    @property
    def disclaimers(self) -> list[str]:
        """What a reader of any number must know; the record's notes begin with it."""
        if self.backend != "tiny":
            file = open_llm.weights_file(self.backend)
            return [*([file.description()] if file else []), *self.notes]
        notes = [EMBEDDED, *self.notes]
        if tuning_seeds := [seed for seed in self.bases if seed in embedded.TUNED_ON]:
            notes.append(
                f"bases {tuning_seeds} are among those that settings are chosen on, so results on them are optimistic"
            )
        if len(self.bases) < MIN_BASES:
            notes.append(f"reduced: {len(self.bases)} base(s), where the committed record has more")
        return notes


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgedConfig(LanguageConfig):
    """Settings of experiments in which a judge scores the answers of real models."""

    judge: str = ""
    """Backend of the judge of a real model, e.g. openai:gpt-4o-2024-08-06@https://api.openai.com/v1. If model and judge
    are on different servers, SUBLIM_JUDGE_KEY holds the key of the judge's server and OPENAI_API_KEY the model's."""

    def __post_init__(self):
        super().__post_init__()
        if self.judge and not self.prompted:
            raise errors.InputError("judge has no effect in the embedded world, which needs no judge; leave it out")
        if self.judge:
            _require_name("judge", self.judge)

    @property
    def prompted(self) -> bool:
        """Whether a real model is asked the paper's questions."""
        return self.backend != "tiny" and isinstance(self.prompts, PaperPrompts)


def _require_name(flag: str, name: str) -> None:
    """Refuse a name that no backend has."""
    try:
        open_llm.parse(name)
    except errors.InputError as error:
        raise errors.InputError(f"--{flag}: {error}") from error
