"""What a study is: a question, its settings, and how one of its units is measured."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sublim_jax import records, specs
from sublim_jax.data.datasets import ImageDataset


class Source(NamedTuple):
    """What a study reads, and how the record names it."""

    name: str
    source: str
    checksum: str | None
    images: ImageDataset | None = None

    @property
    def data(self) -> records.Data:
        """The entry of the record."""
        return {"name": self.name, "source": self.source, "checksum": self.checksum}


Report = Callable[[str], object]
"""Tells what is being done at the moment, in a few words."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """A study of independent units, as `units.run` runs it.

    Units, e.g. references, are independent of each other, so a stopped run resumes with the missing ones.
    """

    name: str
    """Name on the command line, e.g. `forecast`."""
    doc: str | None
    """Docstring with the question on its first line, then commands, then the method."""
    presets: Mapping[str, Any]
    """Configs of one class by name; "default" is one of them."""
    form: records.Form
    """What its records hold."""
    units: Callable[[Any], list[str]]
    """Returns the units of a config, in order."""
    measure: Callable[[Any, Any, str, Report], dict]
    """Measures one unit, given what the study reads, its config and its name, and returns its entry in the record."""
    lines: Callable[[records.Record, str], Sequence[str]] = lambda record, unit: ()
    """Lines about a finished unit, printed before the others are finished."""
    reads_images: Callable[[Any], bool] = lambda config: True
    """Whether a config reads the data set of images; otherwise it reads the embedded language model alone."""
    describe: Callable[[Any], dict] = lambda config: {}
    """What figures need beside the results, from the config; or from what is read, if `open_source` is given."""

    open_source: Callable[[Any, Callable[[str], object]], Any] | None = None
    """Opens what is read, given the config and a function that prints a line, where it is something of the user's. The
    result has an attribute `data`, as `Source` has."""
    notes: Callable[[Any], Sequence[str]] = lambda config: ()
    """What a reader of any number must know."""

    @property
    def record_name(self) -> str:
        """Name in records and file names, e.g. `evidence_forecast`."""
        return self.form.experiment

    @property
    def question(self) -> str:
        """First line of the docstring."""
        return (self.doc or "").partition("\n")[0]
