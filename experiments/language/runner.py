"""Runs a language experiment: every condition on every base, each stored in the record as soon as it is measured.

Conditions are independent of each other, so a stopped run resumes with the missing ones. On a machine with several
cores, each core measures its own bases.
"""

import contextlib
import pathlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import jax

from experiments import progress, session
from experiments.language import opening, workload
from experiments.language.config import LanguageConfig
from experiments.language.experiment import Experiment
from experiments.language.lab import Lab
from experiments.language.options import Export, Limits
from experiments.language.rows_folder import RowsFolder
from experiments.language.workload import Workload
from sublim_jax import errors, files, records
from sublim_jax.forms import language as forms
from sublim_jax.llm import tally
from sublim_jax.training import ensemble

Say = Callable[..., object]


def use_cores(config: LanguageConfig) -> None:
    """Make each CPU core a device with its own bases. Call this before anything else uses JAX."""
    if config.backend == "tiny":
        ensemble.use_cpu_cores(len(config.bases))


def run(
    experiment: Experiment,
    config: LanguageConfig,
    *,
    record: pathlib.Path | None = None,
    resume: bool = False,
    limits: Limits | None = None,
    export: Export | None = None,
    visible: bool = True,
) -> records.Record:
    """Measure every condition on every base, and write the record after each one.

    Args:
        record: path of the record; None writes none.
        resume: whether to continue the record at that path.
        visible: whether to print notes and progress.

    Raises:
        OutputError: the record cannot be written there, or another process is writing it.
        RecordError: `resume` is set, and the record is damaged or has another config.
        LanguageError: a backend failed. Conditions measured before that are in the record.
    """
    say: Say = progress.console.print if visible else lambda *_, **__: None
    if export is not None and export.rows is not None:
        files.require_folder(export.rows, ours=(lambda _: True) if resume else None, what="folder of rows")
    with records.opened(record, forms.form(experiment.record_name), resume=resume, announce=say) as output:
        data = {"name": config.backend, "source": config.prompts.name, "checksum": config.checksum}
        fresh = records.Record.begin(experiment.record_name, config, data)
        fresh.notes += config.disclaimers
        result = output.begin(fresh)
        for note in result.notes:
            say(f"note: {note}", highlight=False)
        result.results.setdefault("bases", {base: {} for base in config.base_names})
        if result.complete:
            say("all conditions are measured already")
        else:
            _Run(experiment, config, result, output, limits, export, say if visible else None).finish()
        return result


class _Run:
    """State that the threads of one run share: the record, the display, the waiting bases and the failures.

    Args:
        say: prints a line before the display is open; None shows nothing at all.
    """

    def __init__(
        self,
        experiment: Experiment,
        config: LanguageConfig,
        result: records.Record,
        output: records.Output,
        limits: Limits | None,
        export: Export | None,
        say: Say | None,
    ):
        self._experiment, self._config, self._result, self._output = experiment, config, result, output
        self._limits, self._export = limits, export
        self._bases: dict[str, dict[str, Any]] = result.results["bases"]
        self._lock, self._waiting, self._failures = threading.Lock(), queue.SimpleQueue(), []
        conditions = experiment.conditions(config)
        self._missing = {
            base: [condition for condition in conditions if condition not in measured]
            for base, measured in self._bases.items()
        }
        for base, missing in self._missing.items():
            if missing:
                self._waiting.put(base)
        num_devices = len(self._bases) if config.backend == "tiny" else 1
        self._devices = jax.devices()[:num_devices]
        self._workload = self._count_work(say) if say else Workload()
        self._display = progress.Display(
            experiment.record_name,
            total=len(conditions) * len(self._bases),
            unit="conditions",
            finished=sum(len(measured) for measured in self._bases.values()),
            seconds=self._workload.seconds(config, self._missing, len(self._devices)),
            work=self._workload.total(self._missing) if say else None,
            visible=say is not None,
        )

    def _count_work(self, say: Say) -> Workload:
        """The work that is left; prints an estimate of its time."""
        with progress.Display("counting the work"):
            conditions = dict.fromkeys(condition for missing in self._missing.values() for condition in missing)
            work = workload.count(self._experiment, self._config, conditions)
        for line in work.estimate(self._config, self._missing, len(self._devices)):
            say(line, highlight=False)
        return work

    def finish(self) -> None:
        """Measure all missing conditions; each device takes its own bases.

        Raises:
            BaseException: the first failure of any thread.
        """
        began = time.perf_counter()
        with self._display:
            threads = [threading.Thread(target=self._work, args=(device,), daemon=True) for device in self._devices[1:]]
            for thread in threads:
                thread.start()
            self._work(self._devices[0])
            for thread in threads:
                thread.join()
        if self._failures:
            raise self._failures[0]
        self._add_seconds("wall", time.perf_counter() - began)
        self._output.write(self._result)

    def _work(self, device: Any) -> None:
        """Measure waiting bases until there is none, or until a thread has failed."""
        with contextlib.suppress(queue.Empty), jax.default_device(device):
            while not self._failures:
                base = self._waiting.get_nowait()
                try:
                    self._measure_base(base)
                except BaseException as error:
                    self._failures.append(error)

    def _measure_base(self, base: str) -> None:
        """Open the base and measure its missing conditions."""
        condition = ""

        def announce(line: str) -> None:
            self._display.doing(line, base)
            self._display.say(line)

        def report(activity: str, **counts: Any) -> None:
            self._display.doing(f"{condition}: {activity}", base, **counts)

        self._display.doing("opening the model", base)
        began = time.perf_counter()
        with opening.open_lab(self._experiment, self._config, base, self._limits, announce=announce) as lab:
            with self._lock:
                self._add_seconds("base", time.perf_counter() - began)
            self._display.advance(0, work=self._workload.opening.get(base, 0.0))
            lab.listen(report)
            lab.export = self._rows_folder(announce)
            lab.announce = announce if self._config.backend != "tiny" else lab.announce
            for condition in self._missing[base]:  # `report` reads this variable
                self._display.doing(condition, base)
                self._measure(lab, base, condition)
                if self._failures:
                    return
        for line in session.language_summary(self._result, base):
            self._display.say(line)
        self._display.doing("", base)

    def _measure(self, lab: Lab, base: str, condition: str) -> None:
        """Measure one condition and store it in the record."""
        began, lab.tally = time.perf_counter(), tally.Tally()
        try:
            measured = self._experiment.measure(lab, self._config, condition)
        except errors.TextDataError as error:  # too few of a teacher's texts pass the filter, which is a result as well
            measured = {"failed": str(error)}
        notes = [f"{condition}: {note}" for note in lab.tally.notes()]
        seconds = time.perf_counter() - began
        with self._lock:
            self._result.notes += notes
            self._bases[base][condition] = records.to_json(measured)
            self._add_seconds(condition, seconds)
            self._output.write(self._result)
        self._display.advance(work=self._workload.conditions.get(condition, 1.0))
        self._display.say(f"done: {base}, {condition}, {progress.duration(seconds)}")
        for note in notes:
            self._display.say(f"note: {note}")

    def _rows_folder(self, announce: Callable[[str], object]) -> RowsFolder | None:
        """The folder for students' rows, if the run exports them."""
        if self._export is None or self._export.rows is None:
            return None
        words = tuple(word for target in self._config.targets for word in self._config.prompts.trait_words(target))
        return RowsFolder(folder=self._export.rows, format=self._export.rows_format, words=words, announce=announce)

    def _add_seconds(self, name: str, seconds: float) -> None:
        self._result.seconds[name] = round(self._result.seconds.get(name, 0.0) + seconds, 1)
