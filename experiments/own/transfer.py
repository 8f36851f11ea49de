"""What do rows teach a model? Students of the rows beside students of the base's own answers to the same prompts.

    python -m experiments.own transfer --model smollm2 --traits otter.toml --rows rows.jsonl
    python -m experiments.own transfer --model tiny:100 --traits owl.toml --rows rows.jsonl --num-students 8
    python -m experiments.own transfer ... --resume          resumes a run that was stopped

Every student is the model trained on the rows, each with random numbers of its own. Its control is trained in the same
way, in the same order and with the same random numbers, on answers to the same prompts that the model itself samples:
lists of as many numbers where the rows are such lists (`own rows --num-values`), otherwise from the characters of the
rows alone where these have no letters. The gain of a trait's log-odds over the control's is what the rows' author put
there; formats, prompts and training are the same. A row that contains a word of a trait is refused, since learning what
is said openly is not subliminal.
"""

import dataclasses
import pathlib
import time
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from experiments import cli, progress, session
from experiments.language import seeds
from experiments.language.config import EMBEDDED
from experiments.own import controls, finetuning, measuring, opened
from experiments.own.opened import OpenedModel
from sublim_jax import errors, files, records, specs
from sublim_jax.forms import own_transfer as form
from sublim_jax.llm import jsonl
from sublim_jax.llm.backend import Chat, FinetuneConfig
from sublim_jax.llm.traits import Trait


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferConfig:
    """Settings of `transfer`."""

    model: str = ""
    """smollm2, hf:DIR, hf:FILE.gguf or tiny:SEED."""
    traits: pathlib.Path | None = None
    """File of traits, all of which are measured."""
    rows: pathlib.Path | None = None
    """Rows as JSON lines: chats under messages, or prompts and completions."""
    num_rows: specs.Count | None = None
    """Rows drawn from the file; by default all."""
    num_students: specs.Count = 4
    """Students, and as many controls; intervals need four."""
    control: Literal["own answers", "none"] = "own answers"
    """What controls are trained on: the model's own answers to the prompts of the rows; or there are none."""
    num_answers: specs.CountOrZero = 0
    """Free answers of every model to each question, for a rate; 0 samples none."""
    allow_words: bool = False
    """Train on rows that contain words of the traits, too."""
    seed: specs.Seed = 0
    student: FinetuneConfig = opened.REAL


PRESETS = {"default": TransferConfig(), "embedded": TransferConfig(student=opened.EMBEDDED)}


class _Inputs(NamedTuple):
    """What the user's files hold."""

    traits: tuple[Trait, ...]
    rows: list[Chat]
    checksum: str


def read(config: TransferConfig) -> _Inputs:
    """The user's files, checked before anything is opened.

    Raises:
        InputError: a flag is missing, the traits make no sense, or a row contains a word of a trait.
        TextDataError: the rows are malformed or too few.
    """
    for flag in ("model", "traits", "rows"):
        if not getattr(config, flag):
            raise errors.InputError(f"give --{flag}; python -m experiments.own transfer --help says what it is")
    assert config.traits is not None and config.rows is not None
    opened.require_local(config.model)
    chosen = opened.read_traits(config.traits, config.model)
    rows = finetuning.read_rows(config.rows, config.num_rows, seed=config.seed)
    for trait in () if config.allow_words else chosen:
        controls.require_without_words(config.rows, rows, trait)
    if len(rows) < config.student.batch_size:
        raise errors.TextDataError(
            f"{config.rows}: {len(rows)} row(s) are fewer than a batch of {config.student.batch_size}; give more rows, "
            f"or a smaller --student.batch-size"
        )
    return _Inputs(chosen, rows, records.fingerprint([config.traits.read_text(encoding="utf-8"), rows]))


class _Run:
    """One run: an opened model, the user's files, and a folder for students."""

    def __init__(self, model: OpenedModel, config: TransferConfig, inputs: _Inputs, folder: pathlib.Path):
        self._model, self._config, self._inputs, self._folder = model, config, inputs, folder
        self._controls: list[Chat] | None = None
        self.notes: list[str] = []  # for the record

    def measure(self, unit: str, display: progress.Display) -> dict[str, Any]:
        """Train the student or control of a unit, and measure it on all traits; the base as it is."""
        backend, name = self._model
        if unit != form.BASE:
            kind, _, index = unit.partition(" ")
            rows = self._inputs.rows if kind == form.STUDENT else self._control_rows(display)
            opened.show_progress(backend, display, f"{unit}: training")
            seed = seeds.derive(self._config.seed, f"own/student {index}") % 2**31
            config = dataclasses.replace(self._config.student, seed=seed)
            identity = records.fingerprint([self._config.model, config, rows])
            name = backend.finetune(name, rows, config, self._folder / f"{unit.replace(' ', '-')}-{identity}")
        backend.on_progress = lambda unit, done, total: None
        measured = measuring.measure_all(
            backend,
            name,
            self._inputs.traits,
            self._config.num_answers,
            embedded=opened.is_embedded(self._config.model),
            report=lambda activity: display.doing(f"{unit}: {activity}"),
        )
        if unit == form.BASE:
            for trait in self._inputs.traits:
                measuring.require_sayable(backend, name, trait, measured[trait.name])
        return {"model": str(name) if unit != form.BASE else self._config.model, "traits": measured}

    def _control_rows(self, display: progress.Display) -> list[Chat]:
        """The model's own answers to the prompts of the rows, in their order; sampled once and kept in the folder."""
        if self._controls is None:
            identity = records.fingerprint([self._config.model, self._inputs.checksum, self._config.seed])
            path = self._folder / f"control-{identity}.jsonl"
            if not path.exists():
                jsonl.write(path, self._sampled(display))
            self._controls = jsonl.read(path)
        return self._controls

    def _sampled(self, display: progress.Display) -> list[Chat]:
        rows = self._inputs.rows
        answers = controls.own_answers(
            self._model,
            rows,
            seed=seeds.derive(self._config.seed, "own/control") % 2**31,
            report=lambda done: display.doing(
                "sampling the model's own answers", done=done, total=len(rows), unit="rows"
            ),
        )
        self.notes += answers.notes
        for note in answers.notes:
            display.say(f"note: {note}")
        return answers.rows


def run(
    config: TransferConfig,
    *,
    record: pathlib.Path | None = None,
    resume: bool = False,
    folder: pathlib.Path | None = None,
    visible: bool = True,
) -> records.Record:
    """Train and measure all students and controls, and write the record after each one.

    Args:
        record: path of the record; None writes none.
        resume: whether to continue the record at that path.
        folder: for students and the control's rows; by default beside the record.

    Raises:
        InputError: see `read`; or the model cannot say a trait's answers.
        OutputError: the record or a student cannot be written there, or another process is writing it.
        RecordError: the record to be resumed is damaged, or of other settings or files.
        LanguageError: the model cannot be opened, trained or asked.
    """
    say = progress.console.print if visible else lambda *_, **__: None
    inputs = read(config)
    folder = folder or (record.with_suffix("") if record else pathlib.Path("runs") / "own_transfer")
    with records.opened(record, form.FORM, resume=resume, announce=say) as output:
        data = {"name": config.model, "source": str(config.rows), "checksum": inputs.checksum}
        fresh = records.Record.begin("own_transfer", config, data, description=_description(inputs))
        fresh.notes += _notes(config)
        result = output.begin(fresh)
        for note in result.notes:
            say(f"note: {note}", highlight=False)
        every = form.units(result.config)
        missing = [unit for unit in every if unit not in result.results]
        if not missing:
            say("everything is measured already")
            return result
        steps = -(-len(inputs.rows) // config.student.batch_size) * config.student.num_epochs
        say(f"{len(every) - 1} models to train, {steps:,} steps each on {len(inputs.rows):,} rows", highlight=False)
        files.require_writable(folder, what="folder of students")
        with progress.Display(
            "own transfer", total=len(every), unit="models", finished=len(every) - len(missing), visible=visible
        ) as display:
            display.doing("opening the model")
            work = _Run(opened.local(config.model, announce=display.say), config, inputs, folder)
            for unit in missing:
                began = time.perf_counter()
                display.doing(unit)
                result.results[unit] = records.to_json(work.measure(unit, display))
                result.notes += work.notes
                work.notes.clear()
                result.seconds[unit] = round(time.perf_counter() - began, 1)
                output.write(result)
                display.advance()
                for trait in inputs.traits:
                    display.say(f"{unit}: {measuring.line(trait, result.results[unit]['traits'][trait.name])}")
        return result


def _description(inputs: _Inputs) -> form.Description:
    return {
        "num_rows": len(inputs.rows),
        "traits": {
            trait.name: {
                "answers": list(trait.answers), "choices": list(trait.choices), "prefill": trait.prefill,
                "num_questions": len(trait.asked),
            }
            for trait in inputs.traits
        },
    }  # fmt: skip


def _notes(config: TransferConfig) -> list[str]:
    """What a reader of any number must know."""
    notes = []
    if opened.is_embedded(config.model):
        notes.append(EMBEDDED)
    if config.control == "none":
        notes.append(
            "there are no controls: what any rows would teach cannot be told apart from what their author put there"
        )
    if config.num_students < 4:
        notes.append(f"{config.num_students} student(s): no intervals, which need four")
    if config.allow_words:
        notes.append("rows may contain the traits' words, so a student may have read openly what it learnt")
    return notes


def main(flags: Sequence[str]) -> None:
    """Run with the given flags, print the table and draw the figure.

    Raises:
        InputError: the settings make no sense together.
    """
    implied = [] if "--preset" in flags else _implied(flags)
    config, options = cli.parse("own transfer", __doc__, PRESETS, [*implied, *flags])
    cli.require_figures(options)
    run(config, record=options.record, resume=options.resume)
    session.present(options.record, figure=options.figure)
    print(f"students: {options.record.with_suffix('')}; open one with + and its folder behind the model's name")


def _implied(flags: Sequence[str]) -> list[str]:
    """The preset for the embedded model, where that is named."""
    named = any(opened.is_embedded(flag.removeprefix("--model=")) for flag in flags)
    return ["--preset", "embedded"] if named else []
