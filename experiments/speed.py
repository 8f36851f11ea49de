"""How fast is figure 10 here, beside the same figure in plain PyTorch on the same cores?

    python -m experiments.speed                     needs the extra `bench`; more than eight minutes on two cores
    python -m experiments.speed --num-members 2 --repeats 1 --scaling 2 4

Everything is measured in one run, the programs one after another and in turns, each a process of its own: `experiments.
mnist_aux` in float32 and in bfloat16, and `experiments.peer`, the protocol in PyTorch. Time is training time, from the
first reference to the last accuracy, without imports and data; ours is also given with compilation, of programs that
were never compiled before: the compilation cache is off. Arithmetic is counted, not estimated: six operations a weight,
example and step, less the input gradient of the first layer.
"""

import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import cli, mnist_aux, progress, session
from sublim_jax import errors, records, specs
from sublim_jax.data import batches, datasets
from sublim_jax.data import noise as noise_data
from sublim_jax.forms import mnist_aux as mnist_form
from sublim_jax.forms import speed as form
from sublim_jax.models import mlp
from sublim_jax.training import ensemble, loop, optimizers

OURS, PEER = form.OURS, form.PEER
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
                call, arguments = jax.jit(spread), ensemble.shard((np.asarray(left), np.asarray(right)))
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
    draw = jax.jit(lambda n: noise_data.sample(jax.random.key(1), n, num_pixels=784, spec=noise_data.NoiseSpec()))
    pixels = draw(numbers)
    optimizer = optimizers.build(optimizers.OptimizerSpec())
    state = loop.init_state(params, optimizer)

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


def run(
    config: SpeedConfig,
    *,
    record: pathlib.Path | None = None,
    resume: bool = False,
    data_dir: pathlib.Path | None = None,
) -> records.Record:
    """Measure everything and write the record, if `record` says where.

    Raises:
        DataError: the images are unavailable.
        OutputError: the record cannot be written there, or another process is writing it.
    """
    with records.opened(record, form.FORM, resume=resume, announce=progress.console.print) as output:
        return _run(config, output, data_dir)


def _run(config: SpeedConfig, output: records.Output, data_dir: pathlib.Path | None) -> records.Record:
    with progress.Display("loading the images") as display:
        dataset = datasets.load(config.dataset, data_dir=data_dir, announce=display.say)
    data = {"name": dataset.name, "source": dataset.source, "checksum": dataset.checksum}
    result = output.begin(records.Record.begin("speed", config, data, description=describe()))
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
                result = _peer(npz, members, epochs)
            else:
                result = _ours(program, members, epochs, dataset.name, data_dir, pathlib.Path(folder))
            display.advance(work=SECONDS[program] * members * epochs + START)
            display.say(f"{what}: {result['training_s']:.1f} s")
            return result

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


def describe() -> form.Description:
    """What a record says of the programs, in the order of a table."""
    labels: Any = LABELS
    return {"programs": labels}


def images_arrays() -> tuple[str, ...]:
    """Names of the arrays that the peer reads."""
    return ("train_images", "train_labels", "test_images", "test_labels")


def _ours(precision, members, epochs, dataset, data_dir, folder) -> dict:
    record = pathlib.Path(tempfile.mkdtemp(dir=folder)) / "ours.json"
    students = ["student_aux", "student_all"] + (["cross_model_aux", "cross_model_all"] if members > 1 else [])
    flags = [
        "--num-members",
        str(members),
        "--model.precision",
        precision,
        "--dataset",
        dataset,
        "--record",
        str(record),
    ]
    flags += ["--conditions", *students, "--no-figure", "--no-compilation-cache"]
    flags += ["--teacher.num-epochs", str(epochs), "--student.num-epochs", str(epochs)]
    flags += ["--data-dir", str(data_dir)] if data_dir else []
    _call(["-m", "experiments.mnist_aux", *flags])
    made = records.read(record, mnist_form.FORM)
    training = sum(seconds for phase, seconds in made.seconds.items() if phase not in ("data", "compile"))
    return {
        "accuracy": {
            name: [made.results["members"][str(member)]["accuracy"][name] for member in range(members)]
            for name in made.description["conditions"]
        },
        "training_s": round(training, 3),
        "compile_s": made.seconds["compile"],
        "students": len(students),
        **made.memory,
    }


def _peer(npz, members, epochs) -> dict:
    flags = ["-m", "experiments.peer", str(npz), "--num-members", str(members), "--num-epochs", str(epochs)]
    printed = json.loads(_call(flags).splitlines()[-1])
    result = {"accuracy": printed["accuracy"], "training_s": printed["seconds"]["training"], "compile_s": 0.0}
    return {**result, "students": 4, "versions": printed["versions"], **printed["memory"]}


def _call(arguments: list[str]) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip() or f"exit code {done.returncode}"
        raise errors.InputError(f"{' '.join(arguments[:2])} failed: {reason.splitlines()[-1]}")
    return done.stdout


SECONDS = {PEER: 3.5, "float32": 2.1, "bfloat16": 1.2}
"""Of a member and an epoch of each phase on two cores. Source: experiments/records/speed.json."""
START = 12.0
"""Seconds until a program trains: imports, images, compilation."""
LABELS = {PEER: "PyTorch, float32", "float32": "sublim-jax, float32", "bfloat16": "sublim-jax, bfloat16"}


def main() -> None:
    config, options = cli.parse(
        "speed", __doc__, {"default": SpeedConfig()}, kind=cli.ImageOptions, compilation_cache=False
    )
    cli.require_figures(options)
    ensemble.use_cpu_cores(64)
    run(config, record=options.record, resume=options.resume, data_dir=options.data_dir)
    session.present(options.record, figure=options.figure)


if __name__ == "__main__":
    cli.main(main)
