"""A reference with its student, as edits of any bed see it, and the edits."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import optax
from jaxtyping import Array, Key

from experiments.directions.config import DirectionsConfig
from sublim_jax import keys
from sublim_jax.audit import directions, removal
from sublim_jax.audit.directions import Matrices, Matrix, Shift, Singular
from sublim_jax.forms import directions as form
from sublim_jax.metrics import alignment

AUDITOR, STRANGER, OTHER_TRAIT = "auditor", "another reference's auditor", "another trait's auditor"
RANDOM, MEAN = "random", "mean"
COUNTS = (1.0, 2.0)
"""How often a vector is added to the reference."""


class Parts(NamedTuple):
    """How the weights of a bed's models become matrices."""

    names: list[str]
    matrices: Callable[[Any], Matrices]  # of a displacement
    displacement: Callable[[Matrices], Any]  # with these matrices; zero elsewhere
    steered: Callable[[Any, Any, int], Any]  # a model to whose hidden layer a vector is added


class Lineage(NamedTuple):
    """A reference, what became of it, and how models of its bed are measured.

    Displacements are cut to what edits may change: of a perceptron the hidden layers, since the readouts of classes
    have no part in what a student learns.
    """

    models: dict[str, Any]  # the reference, the student, the teacher and the auditor
    displacements: dict[str, Any]  # of the student, the teacher and auditors, from their starts
    parts: Parts
    measure: Callable[[Any], dict[str, float]]
    shifts: list[Shift]  # from the reference to the student on neutral inputs, by layer
    key: Key[Array, ""]  # of random controls
    judge: dict[str, float] | None = None  # how often a judge of samples is wrong
    num_rows: int | None = None  # that the student was trained on, where fewer were there than were asked for


class Edit(NamedTuple):
    """How a model is made; see `form.Edit`."""

    kind: form.Kind
    source: str
    amount: float = 0.0
    layer: int | None = None

    @property
    def entry(self) -> form.Edit:
        """The entry in the description of a record."""
        entry: form.Edit = {"kind": self.kind, "source": self.source, "amount": self.amount}
        if self.layer is not None:
            entry["layer"] = self.layer
        return entry


def edits(config: DirectionsConfig, bed: form.Bed) -> dict[str, Edit]:
    """All models that are measured for one reference, by name."""
    return dict(_edits(config, bed))


def _edits(config: DirectionsConfig, bed: form.Bed) -> Iterator[tuple[str, Edit]]:
    for model in ("reference", "student", "teacher", AUDITOR):
        yield model, Edit("yardstick", model)
    for model in ("student", "teacher", AUDITOR):
        yield f"{model}'s matrices", Edit("yardstick", f"{model}'s matrices")
    for rank in config.ranks_of(bed):
        for source in ("student", "teacher"):
            yield f"{source}'s top {rank}", Edit("kept", source, float(rank))
        yield f"without the student's top {rank}", Edit("removed", "student", float(rank))
        for source in (AUDITOR, STRANGER, OTHER_TRAIT):
            yield f"inside {source}'s top {rank}", Edit("inside", source, float(rank))
        yield f"inside {rank} x {rank} at random", Edit("inside", RANDOM, float(rank))
    for dose in config.doses:
        for source in (AUDITOR, STRANGER, OTHER_TRAIT, RANDOM):
            yield f"less {dose:g} x {source}", Edit("subtracted", source, dose)
    for layer in range(config.num_layers(bed)):
        for source in (MEAN, RANDOM):
            for count in COUNTS:
                name = f"reference plus {count:g} x {source} vector, layer {layer + 1}"
                yield name, Edit("shifted", source, count, layer)
            yield f"student less {source} vector, layer {layer + 1}", Edit("shifted", source, -1.0, layer)


class Surgery:
    """Makes the edited models of one reference."""

    def __init__(self, lineage: Lineage):
        self.lineage, parts = lineage, lineage.parts
        self.matrices = {source: parts.matrices(moved) for source, moved in lineage.displacements.items()}
        self.moved = self.matrices["student"]
        self.singular = {
            source: [directions.singular(matrix) for matrix in matrices] for source, matrices in self.matrices.items()
        } | {RANDOM: [self._random(number, matrix) for number, matrix in enumerate(self.moved)]}
        own = lineage.displacements[AUDITOR]
        self.subtracted = {
            AUDITOR: own,
            RANDOM: removal.random_like(self.key("displacement"), own),
            **{name: removal.as_long_as(lineage.displacements[name], own) for name in (STRANGER, OTHER_TRAIT)},
        }

    def key(self, role: str) -> Key[Array, ""]:
        """Key of a random control."""
        return keys.stream(self.lineage.key, role)

    def _random(self, number: int, matrix: Matrix) -> Singular:
        """Random directions of a matrix, drawn once, so that fewer of them are the first ones of more."""
        rank = min(matrix.shape)
        left, right = (
            directions.random_frame(self.key(f"{side} directions of matrix {number}"), size, rank)
            for side, size in zip(("left", "right"), matrix.shape, strict=True)
        )
        return Singular(left, np.ones(rank, left.dtype), right)

    def vector(self, source: str, layer: int) -> Any:
        """The mean shift of a layer, or a random vector of the same length."""
        vector = self.lineage.shifts[layer].vector
        return vector if source == MEAN else directions.random_vector(self.key(f"vector of layer {layer}"), vector)

    def make(self, edit: Edit) -> Any:
        """The model of an edit."""
        lineage = self.lineage
        match edit.kind:
            case "yardstick":
                return self._yardstick(edit.source)
            case "kept":
                return self._with([each.top(int(edit.amount)) for each in self.singular[edit.source]])
            case "removed":
                tops = [each.top(int(edit.amount)) for each in self.singular[edit.source]]
                return self._with([matrix - top for matrix, top in zip(self.moved, tops, strict=True)])
            case "inside":
                rank = int(edit.amount)
                return self._with([
                    directions.inside(matrix, each.left[:, :rank], each.right[:, :rank])
                    for matrix, each in zip(self.moved, self.singular[edit.source], strict=True)
                ])  # fmt: skip
            case "subtracted":
                return removal.subtract(lineage.models["student"], self.subtracted[edit.source], dose=edit.amount)
            case "shifted":
                assert edit.layer is not None
                start = lineage.models["reference" if edit.amount > 0 else "student"]
                vector = edit.amount * self.vector(edit.source, edit.layer)
                return lineage.parts.steered(start, vector, edit.layer)

    def _yardstick(self, source: str) -> Any:
        model, _, of = source.partition("'s ")
        return self._with(self.matrices[model]) if of else self.lineage.models[model]

    def _with(self, matrices: Matrices) -> Any:
        return optax.tree.add(self.lineage.models["reference"], self.lineage.parts.displacement(matrices))

    def spectra(self, ranks: Sequence[int]) -> dict[str, list[form.Spectrum]]:
        """Singular values of the displacements of the student, the teacher and the auditor, and what the first ones of
        so many hold."""
        return {
            source: [
                {
                    "matrix": name,
                    "values": [_short(value) for value in each.values],
                    "participation": _short(directions.participation_ratio(each.values)),
                    "energy": [_short(directions.energy(each.values, rank)) for rank in ranks],
                }
                for name, each in zip(self.lineage.parts.names, self.singular[source], strict=True)
            ]
            for source in ("student", "teacher", AUDITOR)
        }

    def cosines(self) -> dict[str, float]:
        """Cosines of the student's displacement with the others."""
        others: Mapping[str, Any] = self.lineage.displacements
        own = others["student"]
        return {name: _short(alignment.cosine(own, other)) for name, other in others.items() if name != "student"}


def measured(
    lineage: Lineage, chosen: Mapping[str, Edit], ranks: Sequence[int], report: Callable[[str], object]
) -> form.Unit:
    """The entry of one reference: all edits, and how its student has moved."""
    surgery, values = Surgery(lineage), {}
    for number, (name, edit) in enumerate(chosen.items()):
        report(f"{name} ({number + 1} of {len(chosen)})")
        values[name] = {what: _short(value) for what, value in lineage.measure(surgery.make(edit)).items()}
    unit: form.Unit = {
        "values": values,
        "spectra": surgery.spectra(ranks),
        "shifts": [
            {"length": _short(np.linalg.norm(shift.vector)), "share": _short(shift.share)} for shift in lineage.shifts
        ],
        "cosines": surgery.cosines(),
    }
    if lineage.judge is not None:
        unit["judge"] = lineage.judge
    if lineage.num_rows is not None:
        unit["num_rows"] = lineage.num_rows
    return unit


def _short(value: Any) -> float:
    return float(f"{float(value):.5g}")
