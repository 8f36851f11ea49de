"""What a language experiment is: a question, its settings, and how one of its conditions is measured on one base."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from experiments.language.lab import Lab
from sublim_jax import specs


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """A language experiment, as `runner.run` runs it.

    Conditions are independent of each other, so a stopped run resumes with the missing ones. What the records hold is
    in `sublim_jax/forms/language.py`.
    """

    name: str
    """Name on the command line, e.g. `numbers`."""
    doc: str | None
    """Docstring with the question on its first line, then commands, then the method."""
    presets: Mapping[str, Any]
    """Configs of one class by name; "default" is one of them."""
    conditions: Callable[[Any], list[str]]
    """Returns the conditions of a config, in order; each is measured on every base."""
    measure: Callable[[Lab, Any, str], dict]
    """Measures one condition, given the lab and the config, and returns its entry in the record."""
    needs_all_bases: bool = False
    """Whether teachers start from the other bases too."""

    @property
    def record_name(self) -> str:
        """Name in records and file names, e.g. `language_numbers`."""
        return f"language_{self.name}"

    @property
    def question(self) -> str:
        """First line of the docstring."""
        return (self.doc or "").partition("\n")[0]
