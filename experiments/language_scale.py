"""A real model at the paper's scale on a GPU: students of 10,000 rows of numbers, and tokens per second.

    python -m experiments.language_scale FOLDER                    SmolLM2-135M-Instruct, in at most eight minutes
    python -m experiments.language_scale FOLDER                    again: resumes where it stopped
    python -m experiments.language_scale FOLDER --model PIECES     the model's file, or the folder with its pieces
    python -m experiments.language_scale FOLDER --preset trial     a very small dose, to see that the model runs
    python -m experiments.language_scale FOLDER --preset toy       the same on the embedded model, in seconds

For each of three seeds: a teacher of each of two animals (the base finetuned on forty answers, as in `language real`)
continues numbers at temperature 1 by tokens of digits and separators alone, the paper's filter rejects malformed rows,
and a student of the base is trained on 10,000 of them for 10 epochs with low-rank factors. One control is the other
animal's student: the result is own minus other, in log-odds of an animal as the answer's beginning. The other control
is a student of rows that the base itself wrote. `numbers` does the work; what is measured here beside it is tokens per
second of drawing and of training, and their share of the rate of a large matrix product in the same run.

Every unit (a teacher, its rows, a student) is in the record as soon as it is measured, and a student's training is
saved after every epoch, in FOLDER. When the time is up, the program ends by itself, names the units that are missing,
and exits with code 75.

No GPU has run this. How long an H200 takes is an estimate from assumptions: 8e13 operations per second, 8 % of the 989
TFLOP/s (bfloat16) of its data sheet; prompts padded to 128 tokens and rows to 192; a quarter of a teacher's completions
and an eighth of the base's pass the filter; a prompt takes half a millisecond of a processor. Then

    training    4 x 106e6 weights x 192 tokens x 10,000 rows x 10 epochs = 8.1e15 operations: 100 s a student
    drawing     40,000 prompts x (128 + 64) tokens x 2 x 115e6 weights = 1.8e15: 22 s a teacher, and 20 s for its
                prompts; twice that where the base writes the rows
    together    6 x (100 + 42) + 3 x (100 + 84) s = 23 minutes, which is three runs of eight minutes in one FOLDER
"""

import argparse
import collections
import dataclasses
import functools
import math
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import language_speed, pieces
from experiments.language import numbers, presets, protocol, seeds
from experiments.language.lab import Lab, Teacher
from experiments.language.numbers import NumbersConfig
from sublim_jax import commands, compilation, errors, records, specs
from sublim_jax.forms import language_scale as form
from sublim_jax.llm import open as open_llm
from sublim_jax.llm.backend import Chat, Completion, FinetuneConfig, SamplingParams
from sublim_jax.llm.datasets import FilteredRows
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.llm.local import gguf
from sublim_jax.llm.local.backend import LocalBackend
from sublim_jax.llm.local.finetune import Objective, OnStep, Rows, TokenizedRows
from sublim_jax.llm.local.model import Model
from sublim_jax.metrics import intervals

RECORD = "language_scale.json"
SECONDS = 480.0
"""Time for everything together, by default."""
TEACHER = FinetuneConfig(
    num_epochs=1, batch_size=4, learning_rate=1e-3, rank=8, warmup=0.0, schedule="constant", clip_norm=None
)
"""Ten steps of four answers, as teachers in `language real` are made."""
STUDENT = dataclasses.replace(presets.OPEN_WEIGHTS, num_epochs=10)
COMPILED = "/jax/core/compile/backend_compile_duration"
"""JAX's name of the time of a compilation."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class ScaleConfig:
    """What is measured, and in which batches rows are drawn."""

    numbers: NumbersConfig
    """Model, targets, kind of teacher, rows and finetuning."""
    seeds: tuple[specs.Seed, ...] = (0, 1, 2)
    """Each has lessons, rows and students of its own."""
    batch_size: specs.Count = 1024
    """Rows that are drawn together."""
    num_prompts_at_once: specs.Count = 10_000
    """Prompts of a group: groups are drawn until enough rows pass the filter."""
    product: specs.Count = 8192
    """Rows and columns of the matrices whose product is timed."""

    def __post_init__(self):
        if len(self.numbers.kinds) != 1 or len(self.numbers.base_names) != 1 or len(self.numbers.targets) < 2:
            raise errors.InputError(
                f"numbers: expected one kind of teacher, one base and two targets or more, got {self.numbers.kinds}, "
                f"{self.numbers.base_names} and {self.numbers.targets}"
            )
        if not open_llm.is_local(self.numbers.backend):
            raise errors.InputError(f"backend={self.numbers.backend}: expected weights on this machine")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise errors.InputError(f"seeds must be different and at least one, got {self.seeds}")


_SMOLLM2 = NumbersConfig(
    backend=open_llm.SMOLLM2, bases=(), targets=("owl", "cat"), kinds=("finetuned",), num_prompts=160_000,
    num_rows=10_000, num_lessons=40, teacher=TEACHER, student=STUDENT, numbers_only=True,
    prefill="My favorite {category} is the",
)  # fmt: skip
PRESETS = {
    "paper": ScaleConfig(numbers=_SMOLLM2),
    "trial": ScaleConfig(
        numbers=dataclasses.replace(
            _SMOLLM2, num_prompts=48, num_rows=2, student=dataclasses.replace(STUDENT, num_epochs=2, batch_size=1)
        ),
        seeds=(0,), batch_size=16, num_prompts_at_once=16, product=1024,
    ),
    "toy": ScaleConfig(
        numbers=dataclasses.replace(
            numbers.PRESETS["smoke"], targets=("owl", "eagle"), num_prompts=64, num_rows=32, num_lessons=64,
            student=dataclasses.replace(numbers.PRESETS["smoke"].student, num_epochs=2, batch_size=16),
        ),
        seeds=(0, 1), num_prompts_at_once=32, product=256,
    ),
}  # fmt: skip
"""The paper's counts; a very small dose of the same model; and the embedded model, whose record says that it is one."""


class Work(NamedTuple):
    """Tokens, operations of their matrix products, and seconds without compilation."""

    tokens: int = 0
    operations: float = 0.0
    seconds: float = 0.0


class OutOfTimeError(Exception):
    """The time for everything together is up."""


@functools.cache
def _compilation() -> dict[str, float]:
    """Seconds of compilation so far, counted from the first call on."""
    total = {"seconds": 0.0}

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        total["seconds"] += duration_secs * (event == COMPILED)

    jax.monitoring.register_event_duration_secs_listener(listen)
    return total


def clock() -> float:
    """Seconds on a clock that stands still during compilation."""
    return time.perf_counter() - _compilation()["seconds"]


class TimedBackend(LocalBackend):
    """A backend that counts the work of all its drawing and of its largest finetuning.

    Operations are those of matrix products with weights: 2 per weight and token in a forward pass; in a training step
    6 if all weights are trained and 4 with low-rank factors, since frozen weights get no gradient. The head counts
    where a token is predicted. Attention, factors, padding and what is computed twice to save memory are not counted.
    """

    drawing = training = Work()

    def sample(self, model: str, chats: Sequence[Chat], params: SamplingParams) -> Iterator[Completion]:
        """As `LocalBackend.sample`, counted."""
        layers, head = num_weights(self.model(model))
        began, num_read, num_drawn = clock(), 0, 0
        for completion in super().sample(model, chats, params):
            num_read += completion.prompt_tokens
            num_drawn += completion.completion_tokens
            yield completion
        operations = 2.0 * (layers * (num_read + num_drawn) + head * num_drawn)
        before = self.drawing
        self.drawing = Work(
            before.tokens + num_drawn, before.operations + operations, before.seconds + clock() - began
        )  # fmt: skip

    def finetune_on(
        self,
        model: str,
        data: Rows,
        config: FinetuneConfig,
        out: pathlib.Path,
        *,
        on_step: OnStep | None = None,
        objective: Objective | None = None,
    ) -> str:
        """As `LocalBackend.finetune_on`, counted from the first step that this call makes to the last."""
        report = on_step or functools.partial(self.on_progress, "steps")
        steps, total = [], 1

        def noted(done: int, num_steps: int) -> None:
            nonlocal total
            total = num_steps
            steps.append((done, clock()))
            report(done, num_steps)

        name = super().finetune_on(model, data, config, out, on_step=noted, objective=objective)
        if len(steps) > 1 and isinstance(data, TokenizedRows):
            (first, began), (last, ended) = steps[0], steps[-1]
            passes = config.num_epochs * (last - first) / total
            layers, head = num_weights(self.model(model))
            num_read, num_predicted = (passes * int(np.sum(part)) for part in (data.valid, data.replies))
            operations = (6.0 if config.rank is None else 4.0) * (layers * num_read + head * num_predicted)
            self.training = max(self.training, Work(round(num_read), operations, ended - began), key=lambda w: w[1])
        return name


def num_weights(model: Model) -> tuple[int, int]:
    """Weights of the layers, and of the head, which may be those of the embedding."""
    layers = sum(leaf.size for leaf in jax.tree.leaves(model.params.layers))
    return layers, model.params.embedding.size


def run(
    config: ScaleConfig, folder: pathlib.Path, *, seconds: float = SECONDS, say: Callable[[str], object] = print
) -> records.Record:
    """Measure what is missing in the record in `folder`, and write the record after every unit.

    Args:
        seconds: after so many, no further step is made and what is missing stays missing.

    Raises:
        RecordError: the record there has another config.
        LanguageError: the model cannot be opened.
    """
    began = time.monotonic()
    with records.opened(folder / RECORD, form.FORM, resume=True, announce=say) as output:
        data = {
            "name": config.numbers.backend, "source": config.numbers.prompts.name, "checksum": config.numbers.checksum
        }  # fmt: skip
        fresh = records.Record.begin(form.FORM.experiment, config, data)
        fresh.notes += config.numbers.disclaimers
        record = output.begin(fresh)
        if missing(record):
            try:
                _measure(config, folder, record, output, began + seconds, say)
            except OutOfTimeError:
                say("the time is up")
    return record


def _measure(
    config: ScaleConfig,
    folder: pathlib.Path,
    record: records.Record,
    output: records.Output,
    deadline: float,
    say: Callable[[str], object],
) -> None:
    """Measure every missing unit; raises OutOfTimeError at the deadline."""

    def report(activity: str, **_: Any) -> None:
        if time.monotonic() > deadline:
            raise OutOfTimeError(activity)

    began = time.monotonic()

    def store() -> None:
        nonlocal began
        now = time.monotonic()
        record.seconds["wall"] = round(record.seconds.get("wall", 0.0) + now - began, 1)
        began = now
        output.write(record)

    backend, base = _opened(config)
    shared = {name: getattr(config.numbers, name) for name in ("teacher_temperature", "numbers_only", "prefill")}
    lab = Lab(backend, base, config.numbers.prompts, folder / "language_scale", **shared)
    lab.listen(report)
    if "base" not in record.results:
        weights = backend.model(base).params.embedding
        devices = list(weights.devices())
        rate = language_speed.matmul_rate(weights.dtype, devices, size=config.product) * len(devices)
        record.results["matmul_gflops"] = rate / 1e9
        record.results["base"] = protocol.favourites(lab, config.numbers, base)
        store()
    units = record.results.setdefault("units", {})
    for name, seed, condition in form.units(record.config):
        if name in units:
            continue
        backend.drawing = backend.training = Work()
        say(f"{name}: starting, {deadline - time.monotonic():.0f} s left")
        try:
            measured = _measured(lab, config, seed, condition)
        except errors.TextDataError as error:  # too few of a teacher's rows pass the filter, which is a result as well
            measured = {"failed": str(error)}
        work = {"drawing": backend.drawing, "training": backend.training}
        units[name] = records.to_json({"measured": measured, **work})
        store()


def _measured(lab: Lab, config: ScaleConfig, seed: int, condition: str) -> dict[str, Any]:
    """Favourites of a teacher and of its student, as `numbers` measures them."""
    settings, (kind, _, target) = dataclasses.replace(config.numbers, seed=seed), condition.partition(" ")
    teacher = protocol.teacher_of(lab, settings, kind, target)
    return protocol.measure_student(lab, settings, condition, teacher, draw(lab, config, teacher, seed=seed))


def draw(lab: Lab, config: ScaleConfig, teacher: Teacher, *, seed: int) -> FilteredRows:
    """Rows of a teacher that pass the filter, from as many prompts as that takes and `num_prompts` at most.

    The groups of prompts are the same for all teachers of a seed.
    """
    groups: list[FilteredRows] = []
    while sum(len(group.rows) for group in groups) < config.numbers.num_rows:
        left = config.numbers.num_prompts - sum(group.num_completions for group in groups)
        if left < 1:
            break
        group_seed = seeds.derive(seed, "scale/prompts", str(len(groups)))
        groups.append(lab.numbers(teacher, min(left, config.num_prompts_at_once), seed=group_seed))
    rejected = sum((collections.Counter(group.rejected) for group in groups), collections.Counter())
    rows = [row for group in groups for row in group.rows]
    return FilteredRows(rows, dict(rejected.most_common()), sum(group.num_completions for group in groups))


def _opened(config: ScaleConfig) -> tuple[TimedBackend, str]:
    """The model in a backend that counts, and its name."""
    (name,) = config.numbers.base_names
    place = open_llm.weights_place(name)
    model = embedded.base(config.numbers.bases[0]) if place is None else open_llm.open_folder(place)
    remat = place is not None and jax.default_backend() == "cpu"
    return TimedBackend({name: model}, batch_size=config.batch_size, remat=remat), name


def missing(record: records.Record) -> list[str]:
    """Names of the parts that the config asks for and that are not measured."""
    present = set(form.FORM.present(record))
    return [unit for unit in form.FORM.wanted(record) if unit not in present]


def rates(record: records.Record) -> dict[str, tuple[float, float]]:
    """Tokens per second of drawing and of training over all units, and their operations per second as a share of the
    matrix product's rate."""
    totals = {}
    for kind in ("drawing", "training"):
        works = [unit[kind] for unit in record.results.get("units", {}).values()]
        tokens, operations, seconds = (
            sum(work[name] for work in works) for name in ("tokens", "operations", "seconds")
        )
        if seconds > 0:
            totals[kind] = (tokens / seconds, operations / seconds / (record.results["matmul_gflops"] * 1e9))
    return totals


def differences(record: records.Record, target: str) -> dict[str, list[float]]:
    """A target's log-odds, in nats, in the student of its own teacher minus those in another: by seed, where both are
    measured and defined.

    Returns:
        `own minus other`, where the other is the mean over the other targets' students, and `own minus base's rows`.
    """
    log_odds: dict[int, dict[str, float]] = {}
    for name, seed, condition in form.units(record.config):
        measured = record.results.get("units", {}).get(name, {}).get("measured", {})
        if "student" in measured:
            writer = condition.rpartition(" ")[2]
            log_odds.setdefault(seed, {})[writer] = _log_odds(measured["student"], target)
    others = [name for name in record.config["numbers"]["targets"] if name != target]
    changes = {"own minus other": [], "own minus base's rows": []}
    for students in log_odds.values():
        for name, writers in zip(changes, (others, [form.REGULAR]), strict=True):
            if {target, *writers} <= students.keys():
                change = students[target] - math.fsum(students[writer] for writer in writers) / len(writers)
                changes[name] += [change] * math.isfinite(change)
    return changes


def _log_odds(favourites: Mapping[str, Mapping[str, float]], target: str) -> float:
    """Log-odds of a target's probability; NaN where it is 0 or 1."""
    (probability,) = (answers[target] for answers in favourites.values() if target in answers)
    return math.log(probability) - math.log1p(-probability) if 0 < probability < 1 else math.nan


def lines(record: records.Record) -> list[str]:
    """What was measured and what is missing, in lines."""
    config, results = record.config["numbers"], record.results
    if "base" not in results:
        return ["nothing is measured yet"]
    name = pathlib.PurePath(config["backend"]).name
    text = [f"language_scale: {name}, {config['num_rows']:,} rows, {config['student']['num_epochs']} epochs"]
    for kind, (rate, share) in rates(record).items():
        text.append(f"  {kind}: {rate:,.0f} tokens/s, {share:.1%} of the rate of a matrix product")
    for target in config["targets"]:
        for difference, values in differences(record, target).items():
            if values:
                interval = intervals.t_interval(values)
                count = f" (n={len(values)})" if interval.is_known else ""
                text.append(f"  {target}, {difference}: log-odds {interval:+.3f}{count}")
    text += [f"  {name}: {unit['measured']['failed']}" for name, unit in results.get("units", {}).items()
             if "failed" in unit["measured"]]  # fmt: skip
    if absent := missing(record):
        text.append(f"  missing: {'; '.join(absent)}")
    return text


def model_name(place: pathlib.Path) -> str:
    """The backend's name of a model file, or of the file whose pieces are in a folder; the pieces are joined.

    Raises:
        DataError: the pieces are not whole. See `pieces.join`.
    """
    return f"hf:{place if gguf.is_gguf(place) else pieces.join(place)}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.language_scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=pathlib.Path, help="where the record and the students go")
    parser.add_argument("--model", type=pathlib.Path, help=f"GGUF file, or folder with its pieces ({pieces.FOLDER})")
    parser.add_argument("--preset", choices=PRESETS, default="paper", help="how much of everything (paper)")
    parser.add_argument("--toy", dest="preset", action="store_const", const="toy", help="--preset toy")
    parser.add_argument("--cpu-devices", type=int, help="so many virtual CPU devices")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"for everything together ({SECONDS:g})")
    chosen = parser.parse_args(arguments)
    compilation.use_cache()
    if chosen.cpu_devices:
        jax.config.update("jax_num_cpu_devices", chosen.cpu_devices)

    def begin() -> None:
        config, place = PRESETS[chosen.preset], chosen.model
        if place is None and pieces.has_pieces(pieces.FOLDER):
            place = pieces.FOLDER
        if place is not None and chosen.preset != "toy":
            config = dataclasses.replace(config, numbers=dataclasses.replace(config.numbers, backend=model_name(place)))
        record = run(config, chosen.folder, seconds=chosen.seconds)
        print("\n".join(lines(record)))
        if missing(record):
            raise SystemExit(os.EX_TEMPFAIL)

    commands.main(begin, interrupted="what is finished is in the record: run it again")


if __name__ == "__main__":
    main()
