"""One question: its settings and how one of its conditions is measured on one base."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from experiments.language.lab import Lab
from sublim_jax import specs


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """A language experiment, as `runner.run` runs it.

    Conditions do not know each other, so a run that was stopped resumes with the missing ones. What its records hold,
    for those who read them, is in `figures.language.forms`.
    """

    name: str
    """As on the command line, e.g. `numbers`."""
    doc: str | None
    """The question on the first line; then commands; then how it is answered."""
    presets: Mapping[str, Any]
    """Configs by name, all of one class; "default" is among them."""
    conditions: Callable[[Any], list[str]]
    """What a config has measured on every base, in order."""
    measure: Callable[[Lab, Any, str], dict]
    """Measures one condition, with the config, and returns what goes into the record."""
    needs_all_bases: bool = False
    """Whether a lab has the other bases too, as teachers."""

    @property
    def record_name(self) -> str:
        """As records and files have it, e.g. `language_numbers`."""
        return f"language_{self.name}"

    @property
    def question(self) -> str:
        """The question, on one line."""
        return (self.doc or "").partition("\n")[0]
