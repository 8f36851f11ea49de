"""What a run writes where there is no terminal."""

import io
import time

from experiments import progress


class Log:
    """A console that is no terminal, and the lines in it."""

    def __init__(self, **options):
        self._file = io.StringIO()
        self.console = progress.open_console(file=self._file, **options)

    def listen(self, monkeypatch) -> None:
        """Be where runs write, with a line every hundredth of a second."""
        monkeypatch.setattr(progress, "console", self.console)
        monkeypatch.setattr(progress, "INTERVAL", 0.01)

    @property
    def text(self) -> str:
        return self._file.getvalue()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def wait(self, shown: str, times: int = 1) -> None:
        """Until the text stands there so often."""
        until = time.monotonic() + 60
        while self.text.count(shown) < times:
            assert time.monotonic() < until, self.text
            time.sleep(0.005)
