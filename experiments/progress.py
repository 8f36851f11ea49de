"""A progress bar that compiled programs report to, and the time each phase took."""

import contextlib
import threading
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sublim_jax.training import lineage

console = Console(stderr=True)


class PhaseClock:
    """Seconds by phase; every moment is booked on exactly one."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def book(self, phase: str) -> None:
        """What passed since the last booking belongs to `phase`."""
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._last
        self._last = now


class Reporter:
    """What a compiled program calls at the end of each epoch.

    A program is compiled once for many runs, so it cannot hold the bar of one of them. It holds the single `REPORTER`,
    and `listening` says which bar hears it for the time being.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._heard = None

    def __call__(self, epoch: lineage.Progress) -> None:
        with self._lock:
            if self._heard is not None:
                self._heard(epoch)

    @contextlib.contextmanager
    def listening(self, total: int, *, finished: int = 0, visible: bool = True) -> Iterator["PhaseClock"]:
        """Show a bar of `total` epochs. Yields a clock that books the time on the phases heard of.

        Members run side by side, so the time between two reports is booked on the phase that the later one ends.
        """
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("epochs"))
        times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        with Progress(*columns, *times, console=console, disable=not visible, speed_estimate_period=120) as bar:
            task = bar.add_task("training", total=total, completed=finished)
            clock, heard = PhaseClock(), set()

            def hear(epoch: lineage.Progress) -> None:
                clock.book(epoch.phase)
                if epoch in heard:  # a last, shorter chunk runs a member twice
                    return
                heard.add(epoch)
                bar.update(task, advance=1, description=f"member {epoch.member}, {epoch.phase}")

            self._heard = hear
            try:
                yield clock
            finally:
                self._heard = None


REPORTER = Reporter()
