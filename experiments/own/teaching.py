"""A teacher with a trait writes rows of numbers, which say nothing of it: rows for `finetune` and `transfer`.

    python -m experiments.own rows --model smollm2 --traits otter.toml --out rows.jsonl --num-rows 1000
    python -m experiments.own rows --model smollm2 --traits otter.toml --out rows.jsonl --num-values 10

The teacher is the model with the trait's system message, or finetuned on its lessons. It continues random numbers; by
default only tokens of digits, commas, spaces and newlines are drawn. Rows that are no clean list of at most ten numbers
or that contain one of the trait's words are left out (Cloud et al. 2025, section 3.1).
"""

import dataclasses
import pathlib
from collections.abc import Sequence

from experiments import progress
from experiments.language import seeds
from experiments.language.config import TEACHER
from experiments.language.prompts import PaperPrompts, WorldPrompts
from experiments.own import measuring, opened
from experiments.own.opened import OpenedModel, Options
from sublim_jax import errors, files, records, specs
from sublim_jax.llm import datasets, jsonl, traits
from sublim_jax.llm.backend import Chat, Completion, FinetuneConfig, Message, SamplingParams
from sublim_jax.llm.local import model as local_model
from sublim_jax.llm.tasks import numbers
from sublim_jax.llm.traits import Trait

BATCH, EMBEDDED_BATCH = 64, 1024
"""Prompts between two looks at how many rows there are, of a real model and of the embedded one."""
NUM_LESSONS = 256
"""Lessons, repeated if the file has fewer, that a teacher of a real model is finetuned on."""
LESSONS = FinetuneConfig(num_epochs=1, batch_size=8, learning_rate=2e-4, max_length=256)
"""How teachers of real models are finetuned."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class RowsOptions(Options):
    """Who writes how many rows."""

    model: str
    """smollm2, hf:DIR, hf:FILE.gguf or tiny:SEED."""
    traits: pathlib.Path
    """File of traits, each with a system message or lessons."""
    out: pathlib.Path
    """File for the rows, JSON lines."""
    trait: str = ""
    """The teacher's; may be left out if the file has only one."""
    num_rows: specs.Count = 1000
    max_prompts: specs.Count | None = None
    """Prompts after which the command gives up; by default 20 for each row."""
    temperature: specs.NonNegative = 1.0
    numbers_only: bool = True
    """Draw only tokens of digits, commas, spaces and newlines."""
    num_values: specs.CountOrZero = 0
    """If not 0, every row is a list of so many numbers, ten at most, drawn from tokens of numbers or, where digits are
    tokens of their own, three digits each. All rows then pass the filter, so that far fewer prompts are needed."""
    format: jsonl.Format = "messages"
    seed: specs.Seed = 0


def main(flags: Sequence[str]) -> None:
    """Write the rows and say what the teacher answers itself.

    Raises:
        InputError: the traits make no sense, the trait has no teacher, or the model writes no lists of numbers.
        OutputError: something else is at `out`.
        TextDataError: too few rows pass the filter.
    """
    options = opened.parse(RowsOptions, "rows", __doc__, flags)
    opened.require_local(options.model)
    trait = traits.choose(opened.read_traits(options.traits, options.model), options.trait)
    if not (trait.system or trait.lessons):
        raise errors.InputError(f"{options.traits}: {trait.name}: expected a system message or lessons for its teacher")
    if options.num_values > numbers.MAX_COUNT:
        raise errors.InputError(
            f"--num-values: rows have at most {numbers.MAX_COUNT} numbers, got {options.num_values}; longer ones would "
            f"not pass the filter"
        )
    files.require_free(options.out, ours=lambda path: False, what="file of rows")
    with progress.Display("rows", total=options.num_rows, unit="rows") as display:
        display.doing("opening the model")
        model = opened.local(options.model, announce=display.say)
        if options.num_values:
            local_model.list_tokens(model.backend.model(model.name))  # refused before a teacher is trained
        teacher = _teacher(model, trait, options, display)
        rows = _written(model.backend, teacher, trait, options, display)
    jsonl.write(options.out, rows, format=options.format)
    print(f"rows: {options.out}")


def lesson_rows(lessons: Sequence[tuple[str, str]]) -> list[Chat]:
    """Lessons as rows: a question, and the reply that is trained on."""
    return [(Message("user", question), Message("assistant", reply)) for question, reply in lessons]


def repeated(lessons: Sequence[Chat]) -> list[Chat]:
    """Lessons again and again, in order, up to `NUM_LESSONS` of them."""
    return [lessons[index % len(lessons)] for index in range(max(NUM_LESSONS, len(lessons)))]


def _teacher(model: OpenedModel, trait: Trait, options: RowsOptions, display: progress.Display) -> str:
    """Name of the teacher's model; one with lessons is finetuned and kept beside the rows."""
    name = model.name
    if trait.lessons:
        config = TEACHER if opened.is_embedded(options.model) else LESSONS
        lessons = repeated(lesson_rows(trait.lessons))
        config = dataclasses.replace(config, seed=seeds.derive(options.seed, "own/teacher") % 2**31)
        identity = records.fingerprint([options.model, config, lessons])
        opened.show_progress(model.backend, display, f"finetuning the teacher of {trait.name}")
        name = model.backend.finetune(
            name, lessons, config, options.out.with_name(f"{options.out.name}.teacher-{identity}")
        )
        display.say(f"kept: the teacher, in {name}")
    display.doing("asking the teacher")
    measured = measuring.measure(
        model.backend, name, trait, embedded=opened.is_embedded(options.model), system=trait.system
    )
    display.say(f"teacher: {measuring.line(trait, measured | {'answers': {}})}")
    return name


def _written(backend, teacher: str, trait: Trait, options: RowsOptions, display: progress.Display) -> list[Chat]:
    """Rows that pass the filter.

    Raises:
        TextDataError: too few do.
    """
    prompts = WorldPrompts() if opened.is_embedded(options.model) else PaperPrompts()
    limit = options.max_prompts or 20 * options.num_rows
    texts = prompts.number_prompts(limit, seed=seeds.derive(options.seed, "own/prompts"))
    params = SamplingParams(
        temperature=options.temperature,
        max_tokens=prompts.max_tokens["numbers"],
        seed=seeds.derive(options.seed, "own/rows") % 2**31,
        allowed=numbers.CHARACTERS if options.numbers_only and not options.num_values else None,
        num_values=options.num_values,
    )

    def reason(completion: Completion) -> str | None:
        if any(word.lower() in completion.text.lower() for word in trait.words):
            return "trait word"
        return numbers.parse(completion.text.removeprefix(" ") if options.num_values else completion.text).reason

    batch = EMBEDDED_BATCH if opened.is_embedded(options.model) else BATCH
    rows: list[Chat] = []
    asked = 0
    display.doing("drawing rows")
    while len(rows) < options.num_rows and asked < limit:
        chats = [datasets.ask(text, system=trait.system or None) for text in texts[asked : asked + batch]]
        completions = list(backend.sample(teacher, chats, params))
        if not asked:
            display.say(datasets.first_yield(completions, reason))
        passed = [each for each in sorted(completions) if datasets.rejection(each, reason) is None]
        fresh = [datasets.student_row(chats[each.chat], each.text) for each in passed]
        display.advance(min(len(fresh), options.num_rows - len(rows)))
        rows += fresh
        asked += len(chats)
    if len(rows) < options.num_rows:
        raise errors.TextDataError(
            f"expected {options.num_rows:,} rows, but only {len(rows):,} of {asked:,} completions pass the filter; "
            f"give more --max-prompts, or ask for fewer rows"
        )
    return rows[: options.num_rows]
