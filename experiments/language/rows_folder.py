"""A folder with the rows that students are trained on, for other trainers."""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Sequence

from sublim_jax.llm import datasets, jsonl
from sublim_jax.llm.backend import Chat


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowsFolder:
    """A folder for the rows that students are trained on, one file BASE/STUDENT.jsonl for each student."""

    folder: pathlib.Path
    format: jsonl.Format
    words: tuple[str, ...]
    """Words that no row should contain; rows that do are announced."""
    announce: Callable[[str], object]

    def write(self, base: str, name: str, data: Sequence[Chat]) -> None:
        """Write a student's rows and announce what is unusual about them.

        Raises:
            OutputError: the file has other rows, or the folder cannot be written.
        """
        plain_base, plain_name = (re.sub(r"[^\w.+-]+", "-", text).strip("-") for text in (base, name))
        path = self.folder / plain_base / f"{plain_name}.jsonl"
        jsonl.write(path, data, format=self.format)
        for sentence in datasets.notices(data, self.words):
            self.announce(f"{path}: {sentence}")
