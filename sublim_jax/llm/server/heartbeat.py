"""Lines at regular intervals about work that takes long."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def repeated(line: Callable[[float], str], announce: Callable[[str], object], *, every: float) -> Iterator[None]:
    """Announce a line at regular intervals from a separate thread, so that long work is never silent.

    Args:
        line: the text, given the seconds since the beginning.
        every: seconds between two lines.
    """
    ended, start = threading.Event(), time.monotonic()

    def report() -> None:
        while not ended.wait(every):
            announce(line(time.monotonic() - start))

    thread = threading.Thread(target=report, name="lines", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
