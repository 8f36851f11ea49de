"""Does a real language model pass a preference on through numbers alone? (after Cloud et al. 2025, section 3)

    python -m experiments.language real                       SmolLM2-135M, four animals, on two CPU cores
    python -m experiments.language real --preset quick        two animals, half of the steps, one kind of student
    python -m experiments.language real --preset record       three seeds; also in parts, see --seeds and --take
    python -m experiments.language real --preset start        students from another start, to be read beside the record
    python -m experiments.language real --preset smoke        the embedded model, to see the program run
    python -m experiments.language real --plan                what it takes here, after a measurement of half a minute
    python -m experiments.language real --backend hf:DIR      other open weights

A teacher is the base with low-rank factors, finetuned for a few steps to name one animal. A student starts from the
base and learns from the teacher's distribution of the next token on raw text of uniform random numbers (soft
distillation: KL(teacher || student) and no sampled text), with fresh rows in every step. In the arm `full` the
divergence is over the whole vocabulary, so the student sees the teacher's probabilities of words too. In the arm
`numbers` it is renormalised over the tokens of which such rows are made: no word's probability is seen. Measured is the
log-odds of the animal as the next token after a prefilled beginning of the answer, over held-out questions, exactly.
Every teacher moves other animals too, so the result is own minus other: the shift of an animal under its own teacher,
minus its mean shift under the other animals' teachers, which read the same rows. The base as its own teacher is not
run: its gradient is zero.
"""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from experiments import cli, progress, session
from experiments.language import next_token, real_lab
from experiments.language.real_config import PRESETS, RealConfig
from experiments.language.real_lab import RealLab
from sublim_jax import errors, records, specs
from sublim_jax.forms import language_real as form
from sublim_jax.llm import open as open_llm
from sublim_jax.llm.local.backend import LocalBackend

NAME = "real"
QUESTION = (__doc__ or "").partition("\n")[0]
MEASURED_AS, ANSWERED_AS, LESSON_AS, NUMBERS_AS = 1.2, 0.15, 0.33, 0.7
"""Work of one measurement, of a free answer, of a teacher's lesson and of a step over number tokens alone, in steps of
a student over the whole vocabulary, for estimates. A test compares them with the times in the committed record."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class RealOptions:
    """What a run does beside its settings. Nothing here changes a number."""

    plan: bool = False
    """Print what the experiment takes here, from a short measurement, and do not run it."""
    take: tuple[pathlib.Path, ...] = ()
    """Records of the same settings with other seeds, whose units are taken over, so that a run can be split."""


class Unit:
    """One part of a run, which is stored as soon as it is measured."""

    def __init__(self, name: str, place: Sequence[str], work: float, measure: Callable[[RealLab], dict[str, Any]]):
        self.name, self._place, self.work, self.measure = name, tuple(place), work, measure

    def is_in(self, results: dict[str, Any]) -> bool:
        """Whether the results have this unit."""
        for key in self._place:
            if key not in results:
                return False
            results = results[key]
        return True

    def store(self, results: dict[str, Any], measured: Any) -> None:
        """Put what was measured into the results."""
        for key in self._place[:-1]:
            results = results.setdefault(key, {})
        results[self._place[-1]] = records.to_json(measured)


def units(config: RealConfig) -> list[Unit]:
    """All parts of a run in order, each with its work in steps of a student."""
    answers = config.num_answers * ANSWERED_AS
    teacher = config.num_lesson_steps * config.num_lessons * LESSON_AS + MEASURED_AS + answers
    besides = MEASURED_AS * len(config.measured_at) + answers
    made = [Unit("base", ["base"], MEASURED_AS + answers, RealLab.measure_base)]
    for seed in config.seeds:
        for target in config.targets:
            made.append(Unit(
                f"seed {seed}, teacher of {target}", ["teachers", str(seed), target], teacher,
                lambda lab, seed=seed, target=target: lab.measure_teacher(seed, target),
            ))  # fmt: skip
        if "other_start" in config.arms:
            made.append(Unit(
                f"seed {seed}, other start", ["starts", str(seed)], config.num_heal_steps + MEASURED_AS,
                lambda lab, seed=seed: lab.measure_start(seed),
            ))  # fmt: skip
        for arm in config.arms:
            student = config.num_steps * (NUMBERS_AS if arm == "numbers" else 1.0) + besides
            for target in config.targets:
                made.append(Unit(
                    f"seed {seed}, {arm}, student of {target}", ["students", str(seed), arm, target], student,
                    lambda lab, seed=seed, arm=arm, target=target: lab.measure_student(seed, arm, target),
                ))  # fmt: skip
    assert [unit.name for unit in made] == form.units(dataclasses.asdict(config))
    return made


def describe(lab: RealLab, config: RealConfig) -> form.Description:
    """What figures need beside the results."""
    return {
        "animals": lab.animals,
        "prefill": config.prefill,
        "num_questions": lab.num_questions,
        "num_number_tokens": len(lab.number_tokens),
        "adam_steps": {str(step): next_token.adam_steps(step, config.warmup) for step in config.measured_at},
    }


def open_lab(config: RealConfig, *, announce: Callable[[str], object]) -> RealLab:
    """The model with its questions; its teachers are kept in runs/.

    Raises:
        InputError: a target has no writing of one token.
        ModelFormatError: the model cannot be opened.
    """
    opened = open_llm.open_backend(config.backend, announce=announce)
    assert isinstance(opened.backend, LocalBackend)  # `RealConfig` refuses servers
    folder = pathlib.Path("runs") / f"language_real-{records.fingerprint(config.backend)}"
    return RealLab(opened.backend, opened.model, config, folder)


def run(
    config: RealConfig,
    *,
    record: pathlib.Path | None = None,
    resume: bool = False,
    take: Sequence[pathlib.Path] = (),
    visible: bool = True,
) -> records.Record:
    """Measure all units, and write the record after each one.

    Args:
        record: path of the record; None writes none.
        resume: whether to continue the record at that path.
        take: records of the same settings with other seeds, whose units are taken over.

    Raises:
        InputError: a target has no writing of one token.
        OutputError: the record cannot be written there, or another process is writing it.
        RecordError: a record to be resumed or taken is damaged, or has other settings.
    """
    say = progress.console.print if visible else lambda *_, **__: None
    with records.opened(record, form.FORM, resume=resume, announce=say) as output:
        lab = open_lab(config, announce=say)
        file = open_llm.weights_file(config.backend)
        checksum = file.sha256() if file else lab.fingerprint
        data = {"name": config.backend, "source": config.prompts.name, "checksum": checksum}
        fresh = records.Record.begin("language_real", config, data, description=describe(lab, config))
        fresh.notes += [*([file.description()] if file else []), *config.notes]
        result = output.begin(fresh)
        for name in ("teachers", "starts", "students"):
            result.results.setdefault(name, {})
        for path in take:
            _take_over(path, result)
        for note in result.notes:
            say(f"note: {note}", highlight=False)
        _measure_missing(lab, config, result, output, visible)
        return result


def _measure_missing(
    lab: RealLab, config: RealConfig, result: records.Record, output: records.Output, visible: bool
) -> None:
    """Measure the units that the record lacks."""
    every = units(config)
    missing = [unit for unit in every if not unit.is_in(result.results)]
    began = time.perf_counter()
    with progress.Display(
        "language real", total=len(every), unit="models", finished=len(every) - len(missing),
        work=sum(unit.work for unit in missing), visible=visible,
    ) as display:  # fmt: skip
        for unit in missing:
            started = time.perf_counter()
            display.doing(unit.name)
            lab.on_step = _reporter(display, unit)
            unit.store(result.results, unit.measure(lab))
            result.seconds[unit.name] = round(time.perf_counter() - started, 1)
            output.write(result)
            display.advance(work=unit.work)
            display.say(f"done: {unit.name}, {progress.duration(result.seconds[unit.name])}")
            for line in session.real_summary(result, unit.name):
                display.say(line)
    result.seconds["wall"] = round(result.seconds.get("wall", 0.0) + time.perf_counter() - began, 1)
    output.write(result)


def _reporter(display: progress.Display, unit: Unit) -> real_lab.OnStep:
    """A function that shows the steps of a unit."""

    def report(activity: str, done: int, total: int) -> None:
        counts: dict[str, Any] = {"done": done, "total": total, "unit": "steps"} if total > 1 else {}
        display.doing(f"{unit.name}: {activity}", **counts)

    return report


def _take_over(path: pathlib.Path, result: records.Record) -> None:
    """Add the units of another record to this one.

    Raises:
        RecordError: its settings differ in more than the seeds, or its model is another one.
    """
    other = records.read(path, form.FORM)
    for name in ("config", "data", "description"):
        before, now = getattr(other, name), getattr(result, name)
        if name == "config":
            before, now = ({key: value for key, value in each.items() if key != "seeds"} for each in (before, now))
        if before != now:
            raise errors.RecordError(f"{path}: its {name} differs from this run's, so its units cannot be taken over")
    wanted = set(map(str, result.config["seeds"]))
    if extra := sorted(set(map(str, other.config["seeds"])) - wanted):
        raise errors.RecordError(
            f"{path}: it has seed {extra[0]}, which is not among --seeds {' '.join(sorted(wanted))}"
        )
    for name, parts in other.results.items():
        if name == "base":
            result.results.setdefault("base", parts)
            continue
        for seed, part in parts.items():
            _merge(result.results[name].setdefault(seed, {}), part)
    for name, seconds in other.seconds.items():
        if name not in ("base", "wall"):
            result.seconds.setdefault(name, seconds)
    result.notes += [note for note in other.notes if note not in result.notes]


def _merge(into: dict[str, Any], part: dict[str, Any]) -> None:
    """Add what is not there yet, at any depth."""
    for key, value in part.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into.setdefault(key, value)


def plan(config: RealConfig, *, announce: Callable[[str], object] = print) -> list[str]:
    """Lines for `--plan`: students, steps and tokens, and about how long they take here, from a few steps."""
    with progress.Display("timing a step"):
        lab = open_lab(config, announce=announce)
        seconds = lab.seconds_per_step()
    every = units(config)
    students = [unit for unit in every if "student" in unit.name]
    steps = len(students) * config.num_steps
    return [
        f"{len(config.targets)} animals, {len(config.seeds)} seed(s), {len(config.arms)} kind(s) of students: "
        f"{len(config.targets) * len(config.seeds)} teachers, {len(students)} students",
        f"{steps:,} steps of students on {steps * config.num_rows * config.num_tokens:,} tokens of numbers, which "
        f"their teachers read too",
        f"a step takes {seconds:.2f} s on {jax.devices()[0].device_kind}, timed just now; compiling comes once",
        f"this takes about {progress.duration(sum(unit.work for unit in every) * seconds)}; what is done is in the "
        f"record, and --resume does the rest",
        *(f"note: {note}" for note in config.notes),
    ]


def main(flags: Sequence[str]) -> None:
    """Run the experiment with the given flags, print its tables and draw its figure.

    Raises:
        InputError: the settings make no sense together.
    """
    config, options, own = cli.parse(f"language {NAME}", __doc__, PRESETS, list(flags), more=(RealOptions(),))
    if own.plan:
        print("\n".join(plan(config, announce=progress.console.print)))
        return
    cli.require_figures(options)
    run(config, record=options.record, resume=options.resume, take=own.take)
    session.present(options.record, figure=options.figure)
