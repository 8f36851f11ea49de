"""How a language experiment is run: base after base, unit after unit, each kept as soon as it is measured.

An experiment is a module with `units(config)`, names of what is measured on every base, and `measure(lab, config,
unit)`, which measures one and returns what goes into the record. Units do not know each other, so a run that was
stopped goes on with the missing ones, and on a machine with several cores each core takes bases of its own.
"""

import contextlib
import dataclasses
import os
import pathlib
import queue
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, NotRequired, Protocol, TypedDict, TypeVar

import jax

from experiments import cost, progress
from experiments.language import lab as labs
from experiments.language import materials
from sublim_jax import errors, files, records, specs
from sublim_jax.llm import (
    backends,
    budget,
    budgeted,
    checkpoint,
    decoder,
    reasoning,
    scores,
    store,
    tally,
    tiny,
    transport,
    types,
)
from sublim_jax.llm import rows as row_files
from sublim_jax.models import precision
from sublim_jax.training import ensemble

FRESH = tuple(range(100, 108))
"""Seeds of embedded bases that nothing was chosen on."""
FEW = 4
"""Fewer bases than this are a demonstration."""
TEACHER = types.Tuning(
    num_epochs=3, batch_size=64, learning_rate=3e-3, beta2=0.99, rank=None, schedule="cosine", max_length=64
)
STUDENT = types.Tuning(
    num_epochs=6, batch_size=64, learning_rate=1e-2, beta2=0.99, rank=8, schedule="cosine", max_length=64
)
"""Both chosen on bases 0 to 2."""
GENTLE = dataclasses.replace(TEACHER, learning_rate=1e-3)
"""For code and chains of thought, where a stronger teacher answers everything with its favourite. Chosen after a first
run on bases 100 to 103 had shown that."""
OPEN_WEIGHTS = types.Tuning(num_epochs=3, batch_size=66, learning_rate=2e-4, rank=8, warmup=0.01)
"""Source: Cloud et al. 2025, appendix B.2."""
JUDGE_KEY = "SUBLIM_JUDGE_KEY"
"""The environment variable with the key of a judge's server, where it takes one."""
SERVER = types.Tuning(num_epochs=10)
"""For servers, which choose the rest themselves. Source: Cloud et al. 2025, section 3.1."""
PLACEHOLDERS = ("hf:DIR", "openai:MODEL@URL")
"""Backends of presets for real models; the user names one in their place."""
EMBEDDED = "the model is the embedded one (tiny:, 64 thousand parameters, an invented world), not a language model"


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """What all language experiments ask for."""

    backend: str = "tiny"
    """`tiny`, the embedded model, with one base per seed of `bases`; or hf:DIR, openai:MODEL@URL, vllm:MODEL@URL."""
    bases: tuple[specs.Seed, ...] = FRESH
    """Seeds of embedded bases, none for a real model; those below 10 are kept for choosing settings."""
    targets: tuple[str, ...] = ("owl", "eagle", "oak", "willow")
    num_prompts: specs.Count = 10_000
    """Completions of a teacher, before the filter."""
    num_rows: specs.Count = 3000
    """Rows that a student is trained on."""
    num_lessons: specs.Count = 2000
    """Rows that a finetuned teacher is trained on."""
    seed: specs.Seed = 0
    teacher: types.Tuning = TEACHER
    student: types.Tuning = STUDENT
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
        """Of the bases, as the record has them."""
        if self.backend == "tiny":
            return tuple(tiny.name(seed) for seed in self.bases)
        return (self.backend,)

    @property
    def checksum(self) -> str | None:
        """Of the user's files; a record of other files is not gone on with."""
        return None

    @property
    def remarks(self) -> tuple[str, ...]:
        """What these settings leave out, for the record's notes."""
        return ()


def _require_name(flag: str, name: str) -> None:
    """Refuse what no backend is called, before anything is begun."""
    try:
        backends.parse(name)
    except errors.InputError as error:
        raise errors.InputError(f"--{flag}: {error}") from error


Config = TypeVar("Config", bound=LanguageConfig)

SAMPLED = "sampled"
"""The key beside probabilities with shares of sampled answers, by target."""
Probabilities = dict[str, dict[str, specs.Fraction]]
"""In a record: of all favourites of a category, by category."""


class Student(TypedDict):
    """In a record: a student, and where there is one its teacher and what the filter kept of its rows. Beside
    probabilities by category stands how often answers were sampled, by target; none where all were refused."""

    student: dict[str, dict[str, specs.Fraction | dict[str, float | None]]]
    teacher: NotRequired[dict[str, dict[str, specs.Fraction | dict[str, float | None]]]]
    kept: NotRequired[specs.Fraction]
    rejected: NotRequired[dict[str, specs.CountOrZero]]


class Failed(TypedDict):
    """In a record: why a unit has no result."""

    failed: str


def open_weights(embedded: Config, **changes: Any) -> Config:
    """An experiment's settings for open weights: the paper's counts and finetuning, for teachers and students alike.

    Args:
        changes: further settings.
    """
    counts = {"num_prompts": 30_000, "num_rows": 10_000}
    tuned = {"teacher": OPEN_WEIGHTS, "student": OPEN_WEIGHTS}
    asked = {"endings": (".",)} if embedded.OFFERS else {}
    return dataclasses.replace(embedded, **({"backend": "hf:DIR", "bases": ()} | counts | tuned | asked | changes))


def real_models(embedded: Config, **changes: Any) -> dict[str, Config]:
    """Presets of an experiment for open weights and for servers."""
    paper = open_weights(embedded, **changes)
    server = dataclasses.replace(paper, backend="openai:MODEL@URL", teacher=SERVER, student=SERVER)
    return {"paper": paper, "server": server}


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


class Experiment(Protocol):
    """A module under `experiments` that `run` can run."""

    __doc__: str | None
    PRESETS: Mapping[str, Any]
    RESULT: Any
    """What the record has of a unit that did not fail, as an annotation for `specs.check`. An experiment may also have
    `SETTINGS`, the same of further settings that readers of the record use."""

    def units(self, config: Any) -> Sequence[str]: ...

    def measure(self, lab: labs.Lab, config: Any, unit: str) -> dict: ...


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What may be spent on servers, by a model and its judge together. Nothing here changes a number."""

    plan: bool = False
    """Print what would be asked for, and ask nothing."""
    max_requests: specs.CountOrZero | None = None
    max_money: specs.NonNegative | None = None
    """In the currency of the two prices."""
    price_prompt: specs.NonNegative | None = None
    """Money per million prompt tokens; where model and judge differ, of the dearer."""
    price_completion: specs.NonNegative | None = None
    max_refused: specs.Fraction = budgeted.MAX_REFUSED
    """Share of a model's answers that its server may refuse, e.g. by a content filter, before the run ends. Refused
    answers are left out of every result, and their share is noted."""

    def budget(self) -> budget.Budget:
        """As a ledger."""
        given = {"--price-prompt": self.price_prompt, "--price-completion": self.price_completion}
        absent = [flag for flag, price in given.items() if price is None]
        if len(absent) == 1 or (absent and self.max_money is not None):
            raise errors.InputError(f"{' and '.join(absent)} not given: money takes both prices, per million tokens")
        prices = None
        if self.price_prompt is not None and self.price_completion is not None:
            prices = budget.Prices(prompt=self.price_prompt, completion=self.price_completion)
        return budget.Budget(requests=self.max_requests, money=self.max_money, prices=prices)


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """What is written beside the record. Nothing here changes a number."""

    rows: pathlib.Path | None = None
    """An empty or new folder for the rows that students are trained on, to train others on them: one file for each base
    and student, BASE/STUDENT.jsonl. A resumed run writes those of the students that it still trains."""
    rows_format: row_files.Format = "messages"
    """Of these files: OpenAI's chats, or the prompts and completions of the paper's repository and of TRL."""

    def __post_init__(self):
        if self.rows is None and self.rows_format != "messages":
            raise errors.InputError(f"rows_format={self.rows_format} has no effect without --rows FOLDER")


def form(name: str, experiment: Experiment) -> records.Form:
    """What records of the experiment hold; the units are results on a base."""
    kind = type(next(iter(experiment.PRESETS.values())))

    def wanted(record: records.Record) -> Iterator[str]:
        config = object.__new__(kind)  # without the checks, since files that it names may be elsewhere now
        for setting, value in record.config.items():
            object.__setattr__(config, setting, value)
        return (f"{base}, {unit}" for base in config.names for unit in experiment.units(config))

    def present(record: records.Record) -> Iterator[str]:
        return (f"{base}, {unit}" for base, found in record.results["bases"].items() for unit in found)

    def check(record: records.Record) -> None:
        for setting in {"targets", *kind.LISTS}:
            listed = record.config.get(setting)
            if listed == [] and setting in kind.LISTS:
                raise errors.InputError(f"config: {setting} is empty")
            if isinstance(listed, list) and len(set(map(str, listed))) < len(listed):
                raise errors.InputError(f"config: {setting} has something twice")
        if record.config.get("judge") and record.config["backend"] == "tiny":
            raise errors.InputError("config: there is a judge, and the embedded world is measured without one")
        for base, found in record.results["bases"].items():
            for unit, measured in found.items():
                _require_numbers(f"results: {base}, {unit}", measured)

    settings = {
        "backend": str,
        "bases": list[int],
        "targets": list[str],
        "seed": int,
        "num_eval_samples": NotRequired[specs.CountOrZero],
        "min_option_mass": NotRequired[specs.Fraction],
        "judge": NotRequired[str],
    }
    results: Any = {"bases": dict[str, dict[str, Failed | experiment.RESULT]]}
    return records.Form(
        experiment=name,
        config=TypedDict("Settings", settings | getattr(experiment, "SETTINGS", {})),  # pyright: ignore
        results=TypedDict("Results", results),  # pyright: ignore
        wanted=wanted,
        present=present,
        check=check,
    )


def _require_numbers(name: str, measured: Mapping[str, Any]) -> None:
    """Refuse more than a number under a favourite; sampled answers alone have more."""
    for who in ("student", "teacher"):
        of_category = measured.get(who)
        for category, favourites in of_category.items() if isinstance(of_category, dict) else ():
            for favourite, found in favourites.items() if isinstance(favourites, dict) else ():
                if isinstance(found, dict) != (category == SAMPLED):
                    expected = "shares of sampled answers" if category == SAMPLED else "a probability"
                    raise errors.InputError(f"{name}, {who}, {favourite}: expected {expected}, got {found!r:.80}")


def run(
    name: str,
    experiment: Experiment,
    config: LanguageConfig,
    *,
    record: pathlib.Path | None = None,
    resume: bool = False,
    limits: Limits | None = None,
    export: Export | None = None,
    visible: bool = True,
    notes: Sequence[str] = (),
) -> records.Record:
    """Measure every unit on every base, writing the record after each if `record` says where.

    Raises:
        OutputError: the record cannot be written there, or another process is writing it.
        RecordError: `resume`, and the record there is damaged or belongs to another config.
        LanguageError: what a backend could not do. What was measured before is in the record.
    """
    say = progress.console.print if visible else lambda *_, **__: None
    if export is not None and export.rows is not None:
        files.require_folder(export.rows, ours=(lambda _: True) if resume else None, what="folder of rows")
    with records.opened(record, form(name, experiment), resume=resume, announce=say) as output:
        return _run(name, experiment, config, output, limits, export, say, visible, notes)


def _run(
    name: str,
    experiment: Experiment,
    config: LanguageConfig,
    output: records.Output,
    limits: Limits | None,
    export: Export | None,
    say: Callable[..., object],
    visible: bool,
    notes: Sequence[str],
) -> records.Record:
    data = {"name": config.backend, "source": config.materials.name, "checksum": config.checksum}
    fresh = records.Record.begin(name, config, data)
    fresh.notes += labels(config, notes)
    result = output.begin(fresh)
    for note in result.notes:
        say(f"note: {note}", highlight=False)
    units = list(experiment.units(config))
    bases = result.results.setdefault("bases", {base: {} for base in config.names})
    total = len(units) * len(bases)
    finished = sum(len(found) for found in bases.values())
    if result.complete:
        say("nothing is left to run")
        return result

    several = getattr(experiment, "SEVERAL_BASES", False)
    briefly = getattr(experiment, "brief", lambda *_: ())  # what a finished base tells before the others are done
    lock, waiting, failures = threading.Lock(), queue.SimpleQueue(), []
    for base in bases:
        waiting.put(base)

    def keep(base: str, unit: str, found: dict, seconds: float, told: Sequence[str]) -> None:
        with lock:
            result.notes += told
            bases[base][unit] = records.to_jsonable(found)
            result.seconds[unit] = round(result.seconds.get(unit, 0.0) + seconds, 1)
            output.write(result)
        display.advance(work=work.units.get(unit, 1.0))
        display.say(f"done: {base}, {unit}, {progress.duration(seconds)}")

    def run_bases(device: Any) -> None:
        with contextlib.suppress(queue.Empty), jax.default_device(device):
            while not failures:
                base = waiting.get_nowait()
                left = [unit for unit in units if unit not in bases[base]]
                if not left:
                    continue

                def announce(line: str, base: str = base) -> None:
                    display.doing(line, base)
                    display.say(line)

                def report(what: str, base: str = base, **counts: Any) -> None:
                    display.doing(f"{doing[base]}: {what}", base, **counts)

                try:
                    display.doing("opening the model", base)
                    began = time.perf_counter()
                    with opened(name, config, base, limits, several=several, announce=announce) as lab:
                        with lock:
                            spent = result.seconds.get("base", 0.0) + time.perf_counter() - began
                            result.seconds["base"] = round(spent, 1)
                        display.advance(0, work=work.opening.get(base, 0.0))
                        lab.listen(report)
                        lab.export = _rows_folder(config, export, announce)
                        for unit in left:
                            doing[base] = unit
                            display.doing(unit, base)
                            began, lab.tally = time.perf_counter(), tally.Tally()
                            measured = _measured(experiment, lab, config, unit)
                            told = [f"{unit}: {note}" for note in lab.tally.notes()]
                            keep(base, unit, measured, time.perf_counter() - began, told)
                            for note in told:
                                display.say(f"note: {note}")
                            if failures:
                                return
                    for line in briefly(base, bases[base]):
                        display.say(line)
                    display.doing("", base)
                except BaseException as error:
                    failures.append(error)
                    return

    devices = jax.devices()[: len(bases)] if config.backend == "tiny" else jax.devices()[:1]
    doing: dict[str, str] = {}  # the unit of each base
    left = {base: [unit for unit in units if unit not in found] for base, found in bases.items()}
    work = Work()
    if visible:
        with progress.Display("counting what is to be done"):
            work = counted(experiment, config, {unit: None for found in left.values() for unit in found})
        for line in work.estimate(config, left, len(devices)):
            say(line, highlight=False)
    seconds = work.seconds(config, left, len(devices))
    display = progress.Display(
        name,
        total=total,
        unit="units",
        finished=finished,
        seconds=seconds,
        work=work.total(left) if visible else None,
        visible=visible,
    )
    began = time.perf_counter()
    with display:
        threads = [threading.Thread(target=run_bases, args=(device,), daemon=True) for device in devices[1:]]
        for thread in threads:
            thread.start()
        run_bases(devices[0])
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    result.seconds["wall"] = round(result.seconds.get("wall", 0.0) + time.perf_counter() - began, 1)
    output.write(result)
    return result


def _rows_folder(config: LanguageConfig, export: Export | None, announce: Callable) -> labs.RowsFolder | None:
    if export is None or export.rows is None:
        return None
    words = tuple(word for target in config.targets for word in config.materials.words(target))
    return labs.RowsFolder(folder=export.rows, format=export.rows_format, words=words, announce=announce)


def _measured(experiment: Experiment, lab: labs.Lab, config: LanguageConfig, unit: str) -> dict:
    """What was measured; or why not, where a filter left too few of a teacher's texts, which is a result as well."""
    try:
        return experiment.measure(lab, config, unit)
    except errors.TextDataError as error:
        return {"failed": str(error)}


@contextlib.contextmanager
def opened(
    name: str,
    config: LanguageConfig,
    base: str,
    limits: Limits | None,
    *,
    several: bool = False,
    announce: Callable[[str], object] = print,
) -> Iterator[labs.Lab]:
    """A lab for one base. That of the embedded model leaves nothing behind; others keep answers, models and the judge's
    replies in runs/.

    Args:
        several: the lab's backend has all bases.
    """
    if config.backend == "tiny":
        seed = config.bases[config.names.index(base)]
        others = config.bases if several else ()
        with tempfile.TemporaryDirectory() as folder:
            backend = tiny.open_bases(list(dict.fromkeys((seed, *others))), announce=announce)
            yield labs.Lab(backend, base, config.materials, pathlib.Path(folder))
        return
    found = backends.open_backend(base, announce=announce)
    judge = config.judge if isinstance(config, JudgedConfig) else ""
    judging = found
    if judge not in ("", base):
        judging = backends.open_backend(judge, announce=announce, key_variable=judges_key(base, judge))
    folder = pathlib.Path("runs") / f"{name}-{records.fingerprint(base)}"
    limits = limits or Limits()
    with store.Store(folder / "answers.sqlite") as answers:
        yield labs.Lab(
            found.backend,
            found.model,
            config.materials,
            folder,
            judge=judging,
            answers=answers,
            limits=limits.budget(),
            max_refused=limits.max_refused,
        )


def judges_key(model: str, judge: str) -> str | None:
    """The environment variable with the judge's key, None for the usual one: its own if that is set, or if the usual
    key is for another server, which is not the judge's to see."""
    asked, judging = (urllib.parse.urlsplit(name.rpartition("@")[2]) for name in (model, judge))
    if os.environ.get(JUDGE_KEY):
        return JUDGE_KEY
    far = [one.hostname is not None and not transport.is_loopback(one.hostname) for one in (asked, judging)]
    return JUDGE_KEY if all(far) and asked.netloc != judging.netloc else None


@dataclasses.dataclass(frozen=True)
class Work:
    """How long things take, in operations for each of the model's weights."""

    units: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Each unit, on one base."""
    opening: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Pre-training of each embedded base that is not in the cache."""
    lines: Sequence[str] = ()
    """What one base is asked for."""

    def total(self, left: Mapping[str, Sequence[str]]) -> float:
        """Of the units left on each base."""
        opened = sum(self.opening.get(base, 0.0) for base, units in left.items() if units)
        return opened + sum(self.units[unit] for units in left.values() for unit in units)

    def seconds(self, config: LanguageConfig, left: Mapping[str, Sequence[str]], num_devices: int) -> float | None:
        """About how long the units left on each base take; None where that cannot be known before."""
        num_weights = _num_weights(config)
        if num_weights is None or not self.units:
            return None
        num_bases = sum(bool(units) for units in left.values())
        if num_bases == 0:
            return 0.0
        rounds = -(-num_bases // num_devices)  # bases that one device opens
        rate = cost.rate("float32") if config.backend == "tiny" else cost.rate(precision.fast()) * jax.device_count()
        return rounds * self.total(left) / num_bases * num_weights / rate

    def estimate(self, config: LanguageConfig, left: Mapping[str, Sequence[str]], num_devices: int) -> list[str]:
        """The same for a reader."""
        seconds = self.seconds(config, left, num_devices)
        if seconds is None:
            return ["how long this takes is known when the first unit is done: the model is not here"]
        making = sum(base in self.opening for base, units in left.items() if units)
        also = f", pre-training of {making} base(s) included" if making else ""
        where = f"{num_devices} x {jax.devices()[0].device_kind}"
        return [f"this takes about {progress.duration(seconds)} on {where}, by matrix products timed just now{also}"]


def _num_weights(config: LanguageConfig) -> int | None:
    """Of the model, if it is here."""
    if config.backend == "tiny":
        return tiny.number_of_parameters()
    scheme, _, folder = config.backend.partition(":")
    place = folder if pathlib.Path(folder).exists() else folder.partition("+")[0]
    if scheme != "hf" or not (pathlib.Path(place) / "config.json").exists():
        return None
    described = checkpoint.read_config(place)
    shapes = jax.eval_shape(lambda: decoder.init(jax.random.key(0), described))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def counted(experiment: Experiment, config: LanguageConfig, units: Iterable[str]) -> Work:
    """What the units take on one base, counted by asking a backend that only counts."""
    judging, operations = labs.Counting(), {}
    lab = labs.Planned(config.materials, pathlib.Path(), judge=judging)
    counting = lab.counting
    for unit in units:
        before = counting.operations + judging.operations
        experiment.measure(lab, config, unit)
        operations[unit] = counting.operations + judging.operations - before
    trained = sum(num_rows * epochs for _, num_rows, epochs in counting.jobs)
    judged = f"  {judging.completions:,} replies of the judge, at most {judging.tokens:,} tokens"
    lines = [
        f"  {counting.completions:,} completions, at most {counting.tokens:,} tokens",
        f"  {counting.scored:,} answers scored",
        *([judged] if judging.completions else []),
        f"  {len(counting.jobs)} finetuning jobs on {trained:,} rows in all epochs",
    ]
    seeds = config.bases if config.backend == "tiny" else ()
    opening = {tiny.name(seed): labs.TRAINED * tiny.num_tokens() for seed in seeds if not tiny.is_stored(seed)}
    return Work(operations, opening, lines)


def plan(experiment: Experiment, config: LanguageConfig) -> list[str]:
    """What one base would be asked for, and about how long all of them take. Nothing is opened."""
    units = list(experiment.units(config))
    work, left = counted(experiment, config, units), dict.fromkeys(config.names, units)
    num_devices = min(len(config.names), jax.device_count())
    return [
        f"{len(config.names)} base(s), {len(units)} unit(s) on each;",
        *work.estimate(config, left, num_devices),
        "on one base:",
        *work.lines,
        *(f"note: {remark}" for remark in config.remarks),
    ]


def labels(config: LanguageConfig, notes: Sequence[str] = ()) -> list[str]:
    """What a reader of any number must know."""
    found = [*notes, *config.remarks]
    if config.backend == "tiny":
        found.insert(0, EMBEDDED)
        if tuned := [seed for seed in config.bases if seed in tiny.TUNED_ON]:
            found.append(f"bases {tuned} are among those that settings are chosen on: a result on them flatters")
        if len(config.bases) < FEW:
            found.append(f"reduced: {len(config.bases)} base(s), where the committed record has more")
    return found


def use_cores(config: LanguageConfig) -> None:
    """Make each CPU core a device for bases of its own. Call before anything else touches JAX."""
    if config.backend == "tiny":
        ensemble.use_cpu_cores(len(config.bases))
