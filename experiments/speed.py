"""How fast is figure 10 here, beside the same figure in plain PyTorch on the same cores?

    python -m experiments.speed                     needs the extra `bench`; more than eight minutes on two cores
    python -m experiments.speed --num-members 2 --repeats 1 --scaling 2 4

Everything is measured in one run, the programs one after another and in turns, each a process of its own: `experiments.
mnist_aux` in float32 and in bfloat16, and `experiments.peer`, the protocol in PyTorch. Time is training time, from the
first reference to the last accuracy, without imports and data; ours is also given with compilation. Arithmetic is
counted, not estimated: six operations a weight, example and step, less the input gradient of the first layer.
"""

import dataclasses
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Literal, NamedTuple, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

from experiments import cli, mnist_aux, progress
from sublim_jax import errors, records, specs
from sublim_jax.data import batches, images
from sublim_jax.data import noise as noise_data
from sublim_jax.metrics import intervals
from sublim_jax.models import mlp
from sublim_jax.training import ensemble, loop, optimizers

OURS = ("float32", "bfloat16")
PEER = "pytorch"
SHAPES = ((1024, 784, 256), (2048, 2048, 2048))  # products whose best rate is called the peak


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeedConfig:
    """What is timed, and how often."""

    dataset: mnist_aux.Dataset = "auto"
    num_members: specs.NumMembers = 4  # of the comparison
    repeats: specs.Count = 2  # of the comparison, in turns
    scaling: tuple[specs.Count, ...] = (2, 4, 8, 25)
    """Numbers of members for the plot of time and memory; one epoch in each phase."""
    largest_peer: specs.CountOrZero = (
        8  # members beyond which the peer is not asked; it keeps all noise images in memory
    )


def operations(spec: mlp.MLPSpec, *, teacher_images: int, noise_images: int, students: int, epochs: int) -> float:
    """Floating-point operations of matrix products in one member's run, one multiplication and one addition each."""
    first = spec.layer_sizes[0] * spec.layer_sizes[1]
    step = 6 * spec.num_weights - 2 * first
    return epochs * step * (teacher_images + students * noise_images) + 2 * spec.num_weights * noise_images


def matmul_peak(precision: mlp.Precision) -> float:
    """Best rate of a matrix product on all devices together, in GFLOP/s: the ceiling of everything below."""
    dtype = jnp.dtype(precision)
    best = 0.0
    for rows, inner, columns in SHAPES:
        left, right = (jnp.ones((jax.device_count(), *shape), dtype) for shape in ((rows, inner), (inner, columns)))
        product = jax.vmap(lambda a, b: jnp.matmul(a, b, preferred_element_type=jnp.float32))
        mesh = jax.sharding.Mesh(np.asarray(jax.devices()), ("member",))
        for arrangement in ("one after another on all cores", "one on each device"):
            if arrangement == "one on each device":
                spread = jax.shard_map(
                    lambda a, b: jnp.matmul(a[0], b[0], preferred_element_type=jnp.float32)[None],
                    mesh=mesh,
                    in_specs=ensemble.MEMBERS,
                    out_specs=ensemble.MEMBERS,
                    check_vma=False,
                )
                call, arguments = jax.jit(spread), ensemble.split((np.asarray(left), np.asarray(right)))
            else:
                call, arguments = jax.jit(product), (left, right)
            work = 2 * rows * inner * columns * jax.device_count()
            best = max(best, work / seconds_of(call, *arguments) / 1e9)
    return best


def seconds_of(call, *arguments, calls: int = 20, rounds: int = 5) -> float:
    """Shortest mean time of a call over several rounds of many."""
    jax.block_until_ready(call(*arguments))
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(calls):
            result = call(*arguments)
        jax.block_until_ready(result)
        times.append((time.perf_counter() - began) / calls)
    return min(times)


def step_parts(precision: mlp.Precision) -> dict[str, float]:
    """Milliseconds of the parts of one student's step, each alone, on all cores."""
    spec = mlp.MLPSpec(precision=precision)
    params = mlp.init(jax.random.key(0), spec)
    numbers = jnp.arange(1024)
    draw = jax.jit(lambda n: noise_data.draw(jax.random.key(1), n, num_pixels=784, spec=noise_data.NoiseSpec()))
    pixels = draw(numbers)
    optimizer = optimizers.build(optimizers.OptimizerSpec())
    state = loop.start(params, optimizer)

    def loss(params, pixels):
        return jnp.mean(mlp.apply(params, pixels, spec) ** 2)

    gradient = jax.jit(jax.grad(loss))
    slopes = gradient(params, pixels)
    parts = {
        "draw a batch of noise (once for all students)": seconds_of(draw, numbers),
        "forward": seconds_of(jax.jit(lambda p, x: mlp.apply(p, x, spec)), params, pixels),
        "forward and backward": seconds_of(gradient, params, pixels),
        "Adam": seconds_of(jax.jit(optimizer.update), slopes, state.opt_state, params),
        "order of an epoch (once in 59 steps)": seconds_of(
            jax.jit(lambda k: batches.shuffled(k, 60_000, batch_size=1024)), jax.random.key(2)
        ),
    }
    return {name: round(seconds * 1e3, 3) for name, seconds in parts.items()}


class _Run(TypedDict):
    program: Literal["pytorch", "float32", "bfloat16"]
    accuracy: dict[str, list[specs.Fraction | None]]
    training_s: specs.NonNegative
    compile_s: specs.NonNegative
    peak_rss_mb: specs.NonNegative


class _Scaling(_Run):
    members: specs.Count


_Peaks = TypedDict("_Peaks", dict.fromkeys(OURS, specs.Positive))  # pyright: ignore
_Parts = TypedDict("_Parts", dict.fromkeys(OURS, dict[str, specs.NonNegative]))  # pyright: ignore


class _Results(TypedDict):
    """All at once: the record is written when everything is measured."""

    peak_gflops: _Peaks
    operations_per_member: specs.Positive
    step_parts_ms: _Parts
    whole: list[_Run]
    scaling: list[_Scaling]


class _Config(TypedDict):
    num_members: specs.NumMembers


class _Device(TypedDict):
    platform: str
    kind: str
    count: specs.Count
    cpu_cores: specs.Count


def _check(record: records.Record) -> None:
    specs.check(record.device, _Device, "device")
    results, num_members = record.results, record.config["num_members"]
    if results["step_parts_ms"][OURS[0]].keys() != results["step_parts_ms"][OURS[1]].keys():
        raise errors.InputError("results: step_parts_ms has other parts for one precision than for the other")
    for program in (PEER, *OURS):
        runs = [run for run in results["whole"] if run["program"] == program]
        if not runs:
            raise errors.InputError(f"results: whole has no run of {program}")
        for condition in CONDITIONS:
            values = runs[0]["accuracy"].get(condition, [])
            if len(values) != num_members or not any(value is not None for value in values):
                raise errors.InputError(
                    f"results: whole, {program}, {condition}: expected accuracies of {num_members} members, of which "
                    f"not all diverged, got {values}"
                )


FORM = records.Form(
    experiment="speed",
    config=_Config,
    results=_Results,
    wanted=lambda record: _Results.__annotations__,
    present=lambda record: record.results,
    check=_check,
)


def run(
    config: SpeedConfig,
    *,
    record: pathlib.Path | None = None,
    resume: bool = False,
    data_dir: pathlib.Path | None = None,
) -> records.Record:
    """Measure everything and write the record, if `record` says where.

    Raises:
        DataError: the images cannot be had.
        OutputError: the record cannot be written there, or another process is writing it.
    """
    with records.opened(record, FORM, resume=resume, announce=progress.console.print) as output:
        return _run(config, output, data_dir)


def _run(config: SpeedConfig, output: records.Output, data_dir: pathlib.Path | None) -> records.Record:
    with progress.Display("loading the images") as display:
        dataset = images.load(config.dataset, data_dir=data_dir, announce=display.say)
    data = {"name": dataset.name, "source": dataset.source, "checksum": dataset.checksum}
    result = output.begin(records.Record.begin("speed", config, data))
    if result.complete:
        progress.console.print("nothing is left to run")
        return result
    began = time.perf_counter()
    whole = [(repeat, program) for repeat in range(config.repeats) for program in (PEER, *OURS)]
    scaling = [
        (members, program)
        for members in config.scaling
        for program in (PEER, *OURS)
        if program != PEER or members <= config.largest_peer
    ]
    seconds = [SECONDS[program] * config.num_members * 5 for _, program in whole]
    seconds += [SECONDS[program] * members for members, program in scaling]
    started = START * len(seconds)
    with tempfile.TemporaryDirectory() as folder, progress.Display(
        "speed", total=len(seconds), unit="runs", seconds=sum(seconds) + started, work=sum(seconds) + started
    ) as display:  # fmt: skip
        display.say(f"this takes about {progress.duration(sum(seconds) + started)} on two cores as the record's")
        npz = pathlib.Path(folder) / "images.npz"
        np.savez(npz, **{name: getattr(dataset, name) for name in images_arrays()})

        def measure(program: str, members: int, epochs: int) -> dict:
            what = f"{LABELS[program]}, {members} member(s), {epochs} epoch(s) a phase"
            display.doing(what)
            if program == PEER:
                found = _peer(npz, members, epochs)
            else:
                found = _ours(program, members, epochs, dataset.name, data_dir, pathlib.Path(folder))
            display.advance(work=SECONDS[program] * members * epochs + START)
            display.say(f"{what}: {found['training_s']:.1f} s")
            return found

        display.doing("matrix products and the parts of a step")
        peak = {precision: matmul_peak(precision) for precision in OURS}
        parts = {precision: step_parts(precision) for precision in OURS}
        whole = [
            {"program": program, "repeat": repeat, **measure(program, config.num_members, 5)}
            for repeat, program in whole
        ]
        scaling = [
            {"program": program, "members": members, **measure(program, members, 1)} for members, program in scaling
        ]
        display.doing("matrix products")
        again = {precision: matmul_peak(precision) for precision in OURS}
    result.results = {
        "peak_gflops": {precision: round(max(peak[precision], again[precision]), 1) for precision in OURS},
        "operations_per_member": operations(
            mlp.MLPSpec(), teacher_images=60_000, noise_images=60_000, students=4, epochs=5
        ),
        "step_parts_ms": parts,
        "whole": whole,
        "scaling": scaling,
    }
    result.seconds = {"all": round(time.perf_counter() - began, 1)}
    output.write(result)
    return result


def images_arrays() -> tuple[str, ...]:
    """Names of the arrays that the peer reads."""
    return ("train_images", "train_labels", "test_images", "test_labels")


def _ours(precision, members, epochs, dataset, data_dir, folder) -> dict:
    record = pathlib.Path(tempfile.mkdtemp(dir=folder)) / "ours.json"
    students = ["student_aux", "student_all"] + (["cross_model_aux", "cross_model_all"] if members > 1 else [])
    flags = ["--num-members", str(members), "--precision", precision, "--dataset", dataset, "--record", str(record)]
    flags += ["--conditions", *students, "--no-figure"]
    flags += ["--teacher.num-epochs", str(epochs), "--student.num-epochs", str(epochs)]
    flags += ["--data-dir", str(data_dir)] if data_dir else []
    _call(["-m", "experiments.mnist_aux", *flags])
    made = records.read(record, mnist_aux.FORM)
    training = sum(seconds for phase, seconds in made.seconds.items() if phase not in ("data", "compile"))
    return {
        "accuracy": {name: values.tolist() for name, values in mnist_aux.accuracies(made).items()},
        "training_s": round(training, 3),
        "compile_s": made.seconds["compile"],
        "students": len(students),
        **made.memory,
    }


def _peer(npz, members, epochs) -> dict:
    flags = ["-m", "experiments.peer", str(npz), "--num-members", str(members), "--num-epochs", str(epochs)]
    printed = json.loads(_call(flags).splitlines()[-1])
    found = {"accuracy": printed["accuracy"], "training_s": printed["seconds"]["training"], "compile_s": 0.0}
    return {**found, "students": 4, "versions": printed["versions"], **printed["memory"]}


def _call(arguments: list[str]) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip() or f"exit code {done.returncode}"
        raise errors.InputError(f"{' '.join(arguments[:2])} failed: {said.splitlines()[-1]}")
    return done.stdout


class Row(NamedTuple):
    """One program of the comparison; medians over its repeats."""

    label: str
    seconds_per_member: float
    ratio: float  # PyTorch's time over this one's
    ratio_with_compilation: float
    gflops: float
    share_of_peak: float | None  # of the matrix product peak in the same precision; not known for the peer
    peak_rss_mb: float
    accuracy: dict[str, intervals.Interval]


def _interval(values: list[float | None]) -> intervals.Interval:
    """Of the members that did not diverge."""
    return intervals.t_interval(np.array([value for value in values if value is not None]))


def comparison(record: records.Record) -> list[Row]:
    """The programs side by side."""
    results, members = record.results, record.config["num_members"]
    runs = {name: [r for r in results["whole"] if r["program"] == name] for name in (PEER, *OURS)}
    base = statistics.median(r["training_s"] for r in runs[PEER])
    rows = []
    for name, measured in runs.items():
        training = statistics.median(r["training_s"] for r in measured)
        total = statistics.median(r["training_s"] + r["compile_s"] for r in measured)
        gflops = results["operations_per_member"] * members / training / 1e9
        rows.append(
            Row(
                label=LABELS[name],
                seconds_per_member=training / members,
                ratio=base / training,
                ratio_with_compilation=base / total,
                gflops=gflops,
                share_of_peak=gflops / results["peak_gflops"][name] if name in OURS else None,
                peak_rss_mb=max(r["peak_rss_mb"] for r in measured),
                accuracy={c: _interval(measured[0]["accuracy"][c]) for c in CONDITIONS},
            )
        )
    return rows


def tables(record: records.Record) -> list[Table]:
    """The comparison, the accuracies that show it is one, and where a step's time goes."""
    results = record.results
    rows = Table(title=f"Figure 10, {record.config['num_members']} members on {record.data['name']}, {_where(record)}")
    for column in ("program", "s / member", "vs PyTorch", "with compilation", "GFLOP/s", "of peak", "peak memory"):
        rows.add_column(column, no_wrap=True)
    accuracy = Table(title="Matched accuracies, mean ± 95 % t-interval")
    for column in ("program", *CONDITIONS):
        accuracy.add_column(column)
    for row in comparison(record):
        times = (f"{row.seconds_per_member:.2f}", f"{row.ratio:.2f}", f"{row.ratio_with_compilation:.2f}")
        share = f"{row.share_of_peak:.0%}" if row.share_of_peak is not None else "-"
        rows.add_row(row.label, *times, f"{row.gflops:.0f}", share, f"{row.peak_rss_mb:.0f} MB")
        accuracy.add_row(row.label, *(f"{row.accuracy[condition]:.3f}" for condition in CONDITIONS))
    for precision in OURS:
        rows.add_row(f"matmul peak, {precision}", "", "", "", f"{results['peak_gflops'][precision]:.0f}", "100%", "")
    parts = Table(title="One student's step by part, each timed alone, milliseconds")
    for column in ("part", *OURS):
        parts.add_column(column)
    for part in results["step_parts_ms"][OURS[0]]:
        parts.add_row(part, *(f"{results['step_parts_ms'][precision][part]:.2f}" for precision in OURS))
    return [rows, accuracy, parts]


CONDITIONS = ("reference", "teacher", "student_aux", "student_all", "cross_model_aux", "cross_model_all")
SECONDS = {PEER: 3.5, "float32": 2.1, "bfloat16": 1.2}
"""Of a member and an epoch of each phase on two cores. Source: experiments/records/speed.json."""
START = 12.0
"""Seconds until a program trains: imports, images, compilation."""
LABELS = {PEER: "PyTorch, float32", "float32": "sublim-jax, float32", "bfloat16": "sublim-jax, bfloat16"}


def _where(record: records.Record) -> str:
    device = record.device
    return (
        f"{device['cpu_cores']} CPU cores" if device["platform"] == "cpu" else f"{device['count']} x {device['kind']}"
    )


def main() -> None:
    config, options = cli.parse("speed", __doc__, {"default": SpeedConfig()}, kind=cli.ImageOptions)
    cli.require_figures(options)
    ensemble.use_cpu_cores(64)
    result = run(config, record=options.record, resume=options.resume, data_dir=options.data_dir)
    for made in tables(result):
        progress.open_console().print(made)
    print(f"record: {options.record}")
    if options.figure:
        from figures import speed as figure

        for path in figure.save(options.record, options.record.with_suffix("")):
            print(f"figure: {path}")


if __name__ == "__main__":
    cli.main(main)
