"""How fast is work on a small real language model here, beside its own matrix products and beside PyTorch?

    python -m experiments.real_speed                     SmolLM2-135M; some minutes on two CPU cores
    python -m experiments.real_speed --backend hf:DIR    other open weights

Three kinds of work of `experiments.language real` are timed: a step of soft distillation, 4 rows of 25 tokens with the
teacher's forward pass; completions of 32 prompts; and one evaluation, the log-odds of animals over held-out questions.
Each is compared with the time that its own matrix products take at their own sizes, with the same weights on the same
cores (see `experiments.real_products`), and, where the extra `parity` is installed, with transformers and peft in
PyTorch on the same weights and as many threads. Programs take turns in one process, and the record has every
repetition. Models have random low-rank factors, so nothing here says what a student learns. Compiled programs are kept
for the next run, and the record says how long compiling, or reading them, took.
"""

import contextlib
import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments import cli, progress, real_peer, real_products
from experiments.language import next_token, real
from experiments.language.real_config import RealConfig
from experiments.language.real_lab import RealLab
from experiments.real_products import Pass
from sublim_jax import compilation, keys, records, specs
from sublim_jax.forms import real_speed as form
from sublim_jax.llm import open as open_llm
from sublim_jax.llm.local import decoder, sampling, soft
from sublim_jax.llm.local.finetune import TokenizedRows
from sublim_jax.llm.local.model import Model
from sublim_jax.llm.local.soft import Batch, SoftConfig
from sublim_jax.training import ensemble

PAUSE = 0.3
"""Seconds between two programs, in which the threads of the first stop waiting for more."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class RealSpeedConfig:
    """What is timed, and how often."""

    backend: str = "smollm2"
    """Weights on this machine: smollm2, hf:DIR, hf:FILE.gguf or, for a trial in seconds, tiny:SEED."""
    repeats: specs.Count = 5
    """Repetitions, in each of which all programs run once, in turns."""
    num_steps: specs.Count = 4
    """Steps of distillation in a repetition."""
    num_prompts: specs.Count = 32
    """Completions that are drawn together."""
    num_new_tokens: specs.Count = 16
    """Tokens of each completion."""
    pytorch: bool = True
    """Whether PyTorch is timed too, where it is installed."""


class Job(NamedTuple):
    """One kind of work."""

    sizes: dict[str, int]
    passes: list[Pass]  # products of one unit of work
    units: int  # in a repetition; seconds are given for one
    ours: Callable[[], Any]  # of one repetition; returns a result that can be compared with the peer's
    peer: Callable[[real_peer.Peer], Any]


class Setting(NamedTuple):
    """Models and texts that all work shares."""

    config: RealSpeedConfig
    lab: RealLab
    student: Model
    teacher: Model


def setting(config: RealSpeedConfig, lab: RealLab) -> Setting:
    """Student and teacher with random factors. Neither is the base, so that no gradient is zero."""

    def with_factors(role: str) -> Model:
        low_rank = lab.fresh(0, "full").low_rank
        assert low_rank is not None
        root = keys.stream(jax.random.key(0), f"real_speed/{role}")
        factors = {
            name: decoder.Factors(a, 0.02 * jax.random.normal(jax.random.fold_in(root, index), b.shape, b.dtype))
            for index, (name, (a, b)) in enumerate(sorted(low_rank.factors.items()))
        }
        return dataclasses.replace(lab.base, low_rank=low_rank._replace(factors=factors))

    return Setting(config, lab, with_factors("student"), with_factors("teacher"))


def jobs(shared: Setting, settings: RealConfig) -> dict[form.Work, Job]:
    """The three kinds of work."""
    return {
        "distillation": _distillation(shared, settings),
        "drawing": _drawing(shared, settings),
        "evaluation": _evaluation(shared, settings),
    }


def _distillation(shared: Setting, settings: RealConfig) -> Job:
    config, num_steps = shared.student.config, shared.config.num_steps
    rows = np.stack([shared.lab.number_rows(0, step) for step in range(num_steps)])
    every = np.ones(rows.shape, bool)
    training = SoftConfig(num_steps=num_steps, learning_rate=settings.learning_rate, schedule="constant")

    def ours() -> float:
        batches = Batch(TokenizedRows(rows, every, every))
        return float(soft.distill(shared.student, shared.teacher, batches, training).divergences[0])

    sizes = {"rows": settings.num_rows, "length": settings.num_tokens, "rank": settings.rank}
    passes = real_products.distillation(config, **sizes)
    return Job(sizes, passes, num_steps, ours, lambda peer: peer.distil(rows))


def _drawing(shared: Setting, settings: RealConfig) -> Job:
    model, count, num_new = shared.teacher, shared.config.num_prompts, shared.config.num_new_tokens
    ids, valid = (np.asarray(array) for array in shared.lab.questions)
    order = np.arange(count) % len(ids)
    ids, valid = ids[order], valid[order]

    def ours() -> None:
        drawn = sampling.generate(
            model.params, jnp.asarray(ids), jnp.asarray(valid), jax.random.split(jax.random.key(0), count),
            jnp.float32(1), jnp.float32(1), config=model.config, max_tokens=num_new, end_tokens=(),
            low_rank=model.low_rank,
        )  # fmt: skip
        jax.block_until_ready(drawn)

    sizes = {"rows": count, "length": ids.shape[1], "num_new": num_new, "rank": settings.rank}
    passes = real_products.drawing(model.config, **sizes)

    def peer(other: real_peer.Peer) -> None:
        assert other.draw(ids, valid, num_new) == count * num_new

    return Job(sizes, passes, 1, ours, peer)


def _evaluation(shared: Setting, settings: RealConfig) -> Job:
    model, (ids, valid), writings = shared.teacher, shared.lab.questions, shared.lab.writings

    def ours() -> np.ndarray:
        measured = next_token.words(model.params, model.low_rank, ids, valid, writings, config=model.config)
        return np.asarray(measured.log_odds)

    sizes = {"rows": len(ids), "length": ids.shape[1], "rank": settings.rank}
    passes = real_products.evaluation(model.config, **sizes)
    return Job(
        sizes | {"words": len(writings)}, passes, 1, ours,
        lambda peer: peer.log_odds(np.asarray(ids), np.asarray(valid), writings),
    )  # fmt: skip


class Compiled:
    """Seconds and numbers of programs that JAX compiled, or read from its cache, inside `counting`."""

    def __init__(self):
        self.seconds, self.kept, self.read = 0.0, 0, 0

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Count what happens until the end of this block."""
        jax.monitoring.register_event_listener(self._event)
        jax.monitoring.register_event_duration_secs_listener(self._duration)
        try:
            yield
        finally:
            jax.monitoring.unregister_event_listener(self._event)
            jax.monitoring.unregister_event_duration_listener(self._duration)

    def _event(self, event: str, **_: Any) -> None:
        self.kept += event == "/jax/compilation_cache/cache_misses"
        self.read += event == "/jax/compilation_cache/cache_hits"

    def _duration(self, event: str, duration_secs: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            self.seconds += duration_secs


def measure(
    work: form.Work, job: Job, shared: Setting, peer: real_peer.Peer | None, display: progress.Display
) -> dict[str, Any]:
    """Seconds of every repetition of all programs, each of which has run once before."""
    products = real_products.alone(job.passes, shared.student.config, shared.student.params, steps=job.units)
    programs: dict[form.Program, Callable[[], Any]] = {
        "sublim_jax": job.ours,
        "products": lambda: jax.block_until_ready(products()),
    }
    if peer is not None:
        programs["pytorch"] = functools.partial(job.peer, peer)
    display.doing(f"{work}, first call of sublim_jax")
    compiled, began = Compiled(), time.perf_counter()
    with compiled.counting():
        result = job.ours()
    first_call = time.perf_counter() - began
    measured: dict[str, Any] = {
        "sizes": job.sizes,
        "gflop": real_products.flops(job.passes, shared.student.config) / 1e9,
        "compilation": {
            "first_call_s": first_call, "compile_s": compiled.seconds, "kept": compiled.kept, "read": compiled.read,
        },
    }  # fmt: skip
    display.say(
        f"{work}: first call {first_call:.1f} s, of which compiling or reading compiled programs "
        f"{compiled.seconds:.1f} s"
    )
    for name, program in programs.items():
        if name == "sublim_jax":
            continue
        display.doing(f"{work}, first call of {name}")
        other = program()
        if name == "pytorch" and result is not None:
            measured["largest_difference"] = float(np.max(np.abs(np.asarray(other) - np.asarray(result))))
    return measured | _in_turns(work, programs, shared.config.repeats, job.units, display)


def _in_turns(
    work: form.Work,
    programs: dict[form.Program, Callable[[], Any]],
    repeats: int,
    units: int,
    display: progress.Display,
) -> dict[str, form.Seconds]:
    """Seconds of one unit of work in every repetition; each repetition begins with another program."""
    names = list(programs)
    seconds: form.Seconds = {name: [] for name in names}
    cpu_seconds: form.Seconds = {name: [] for name in names}
    for repeat in range(repeats):
        for turn in range(len(names)):
            name = names[(repeat + turn) % len(names)]
            display.doing(f"{work}, repetition {repeat + 1} of {repeats}, {name}")
            time.sleep(PAUSE)
            began, cpu_began = time.perf_counter(), time.process_time()
            programs[name]()
            seconds[name].append((time.perf_counter() - began) / units)
            cpu_seconds[name].append((time.process_time() - cpu_began) / units)
        times = (f"{name} {seconds[name][-1]:.3g} s ({cpu_seconds[name][-1]:.3g} CPU s)" for name in names)
        display.say(f"{work}, repetition {repeat + 1}: {', '.join(times)}")
    return {"seconds": seconds, "cpu_seconds": cpu_seconds}


def run(config: RealSpeedConfig, record: pathlib.Path | None = None, *, visible: bool = True) -> records.Record:
    """Measure all kinds of work, and write the record after each.

    Raises:
        InputError: the model has no writing of an animal that is a single token.
        ModelFormatError: the model cannot be opened.
        OutputError: the record cannot be written there, or another process is writing it.
    """
    say = progress.console.print if visible else lambda *_, **__: None
    targets = ("owl", "eagle") if config.backend.startswith("tiny:") else ("owl", "cat")
    settings = RealConfig(backend=config.backend, targets=targets, num_answers=0)
    with records.opened(record, form.FORM, announce=say) as output:
        shared = setting(config, real.open_lab(settings, announce=say))
        model, threads = shared.student.config, ensemble.num_cores()
        absence = real_peer.absence(model) if config.pytorch else "not timed: --no-pytorch"
        description: form.Description = {
            "num_weights": sum(leaf.size for leaf in jax.tree.leaves(shared.lab.base.params)),
            "dtype": str(shared.lab.base.params.embedding.dtype),
            "threads": threads,
            "pytorch": absence or real_peer.versions(),
        }
        file = open_llm.weights_file(config.backend)
        checksum = file.sha256() if file else shared.lab.fingerprint
        data = {"name": config.backend, "source": settings.prompts.name, "checksum": checksum}
        result = output.begin(records.Record.begin("real_speed", config, data, description=description))
        result.notes += [*([file.description()] if file else []), *settings.notes]
        say(f"PyTorch: {description['pytorch']}; {threads} threads each", highlight=False)
        with progress.Display("real_speed", total=len(form.WORKS), unit="kinds of work", visible=visible) as display:
            peer = None
            if absence is None:
                display.doing("opening the model in PyTorch")
                peer = real_peer.Peer(
                    shared.student, shared.teacher, learning_rate=settings.learning_rate, threads=threads
                )
            for work, job in jobs(shared, settings).items():
                result.results[work] = measure(work, job, shared, peer, display)
                output.write(result)
                display.advance()
    return result


def main(
    config: Annotated[RealSpeedConfig, tyro.conf.arg(name="")],
    record: pathlib.Path = pathlib.Path("runs/real_speed.json"),
) -> None:
    """Measure, and print a table."""
    compilation.use_cache()
    result = run(config, record)
    print("\n".join(form.lines(result)))
    print(f"record: {record}")


if __name__ == "__main__":
    cli.main(
        lambda: tyro.cli(main, prog="python -m experiments.real_speed"),
        interrupted="work that was measured is in the record; a new run measures all",
    )
