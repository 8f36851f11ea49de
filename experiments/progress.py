"""What long work says while it runs: a bar on a terminal, and elsewhere lines in which a log can be searched.

    with progress.Display("figure 10", total=50, unit="epochs") as display:
        display.doing("teacher of member 3")
        display.advance()
        display.say("member 3: teacher .94")

Where there is no terminal a line is written at the start, with everything that is said, and at least every 30 s by a
thread of its own, so that minutes inside one compiled program are not silent either:

    figure 10: 12 of 50 epochs, 0:03:25, about 11 min left; members 2 to 3, student, 8 s of about 20 s

A compiled program cannot be asked how far it is, so what is done advances when one ends: on a CPU a stage of figure 10
takes seconds to tens of seconds. Meanwhile a line says for how long it has run and about how long it takes. What is
left is estimated from what has passed, or, before anything is done, from `seconds`. Nothing here changes a number.
"""

import datetime
import threading
import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from sublim_jax import commands

INTERVAL = 30.0
"""Seconds between two lines where there is no terminal."""

open_console = commands.open_console
console = open_console(stderr=True)


def duration(seconds: float) -> str:
    """About how long, for a reader: "45 s", "12 min", "2.5 h", "3.1 days"."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


class Display:
    """See the top of this module. Its methods may be called from any thread.

    Args:
        title: what the work is.
        total: how many things there are, if that is known.
        unit: what they are called.
        finished: how many an earlier run did.
        seconds: about how long all that is left takes, where there is an estimate.
        work: what `advance` adds up to when all that is left is done; by default every thing counts 1.
        visible: whether anything is shown at all.
        interval: seconds between two lines where there is no terminal; by default `INTERVAL`.
        on: where it is shown; by default `console`.
    """

    def __init__(
        self,
        title: str,
        *,
        total: int | None = None,
        unit: str = "",
        finished: int = 0,
        seconds: float | None = None,
        work: float | None = None,
        visible: bool = True,
        interval: float | None = None,
        on: Console | None = None,
    ):
        self._title, self._total, self._unit, self._finished = title, total, unit, finished
        self._seconds = seconds
        self._work = work if work is not None else (total or 0) - finished
        self._worked = 0.0
        self._console = console if on is None else on
        self._visible, self._interval = visible, INTERVAL if interval is None else interval
        self._doing: dict[str, _Activity] = {}
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._began = self._last = time.monotonic()
        self._bar: Progress | None = None
        self._beating: threading.Thread | None = None

    def __enter__(self) -> "Display":
        self._began = self._last = time.monotonic()
        if self._visible and self._console.is_terminal:
            columns = TextColumn("{task.description}"), BarColumn(bar_width=20), _Status(self.status)
            self._bar = Progress(*columns, console=self._console, transient=self._total is None)
            self._task = self._bar.add_task(self._title, total=self._work or None)
            self._bar.start()
        elif self._visible:
            self._print_status()
            self._beating = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
            self._beating.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._ended.set()
        with self._lock:
            self._doing = {"": _Activity("done" if kind is None else "stopped")}
        if self._bar is not None:
            self._bar.stop()
        if self._beating is not None:
            self._beating.join()
            self._print_status()

    def say(self, line: str) -> None:
        """Write a line, on a terminal above the bar."""
        if self._visible:
            self._console.print(line)

    def doing(
        self,
        what: str,
        who: str = "",
        *,
        done: int = 0,
        total: int | None = None,
        unit: str = "",
        seconds: float | None = None,
    ) -> None:
        """What is being done now, of one or more that work side by side, and how much of it; "" is nothing.

        The same with less of it done than before is work that starts again, with an estimate for it alone.

        Args:
            who: which of them.
            seconds: about how long it takes in all, where there is an estimate.
        """
        with self._lock:
            before = self._doing.pop(who, None)
            if what:
                same = before is not None and before.what == what and before.done <= done
                began = before.began if before is not None and same else time.monotonic()
                self._doing[who] = _Activity(what, began, done, total, unit, seconds)

    def advance(self, count: int = 1, work: float = 1.0) -> None:
        """So many more things are done, which were so much work."""
        with self._lock:
            self._finished += count
            self._worked += work
            self._last = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=self._worked)

    def status(self) -> str:
        """One line: what is done, since when, what is left, and what is being done."""
        now = time.monotonic()
        with self._lock:
            parts = [] if self._total is None else [f"{self._finished:,} of {self._total:,} {self._unit}"]
            parts.append(str(datetime.timedelta(seconds=int(now - self._began))))
            left = self._left(now)
            if left is not None and not self._ended.is_set():
                parts.append(f"about {duration(left)} left")
            doing = [activity.text(who, now) for who, activity in self._doing.items()]
        return "; ".join([", ".join(parts), *doing])

    def _left(self, now: float) -> float | None:
        """Seconds, or None where nothing is known or the last estimate has run out."""
        if self._worked:
            pace = (self._last - self._began) / self._worked
            left = pace * (self._work - self._worked) - (now - self._last)
        elif self._seconds is not None:
            left = self._seconds - (now - self._began)
        else:
            return None
        return left if left > 0 else None

    def _beat(self) -> None:
        while not self._ended.wait(self._interval):
            self._print_status()

    def _print_status(self) -> None:
        self._console.print(f"{self._title}: {self.status()}")


class _Activity:
    """What somebody is busy with."""

    def __init__(
        self,
        what: str,
        began: float = 0.0,
        done: int = 0,
        total: int | None = None,
        unit: str = "",
        seconds: float | None = None,
    ):
        self.what, self.began, self.done, self._total, self._unit = what, began, done, total, unit
        self._seconds = seconds

    def text(self, who: str, now: float) -> str:
        parts = ([who] if who else []) + [self.what]
        if self._total is not None:
            parts.append(f"{self.done:,} of {self._total:,} {self._unit}")
            if 0 < self.done < self._total:
                left = (now - self.began) * (self._total - self.done) / self.done
                parts.append(f"about {duration(left)} left of it")
        elif self._seconds is not None:
            parts.append(f"{duration(now - self.began)} of about {duration(self._seconds)}")
        return ", ".join(parts)


class _Status(ProgressColumn):
    """The status, at the right of a bar."""

    def __init__(self, status: Callable[[], str]):
        super().__init__()
        self._status = status

    def render(self, task: Task) -> Text:
        """On one line, cut where the terminal ends."""
        return Text(self._status(), no_wrap=True, overflow="ellipsis")
