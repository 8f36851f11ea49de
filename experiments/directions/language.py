"""The bed `language`: the embedded language model and a favourite, which a student acquires from rows of numbers.

Models and questions are those of `experiments.evidence removal`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.directions.config import DirectionsConfig
from experiments.directions.lineage import AUDITOR, OTHER_TRAIT, STRANGER, Lineage, Parts
from experiments.evidence import removal
from experiments.language import seeds
from experiments.study import Report
from sublim_jax.audit import directions
from sublim_jax.audit.directions import Matrices
from sublim_jax.forms import evidence_removal
from sublim_jax.llm.embedded import model as embedded
from sublim_jax.llm.local import decoder, likeness

MEASURES = {
    "log_odds": "log-odds of the favourite", "probability": "probability of the favourite",
    "kl": "divergence from the student on numbers",
}  # fmt: skip
MAPS = tuple(name for name in decoder.PROJECTIONS if name != "gate" or embedded.CONFIG.gated)


def parts(like: decoder.Params, *, embedding: bool) -> Parts:
    """The maps of every layer as matrices, each (out, in).

    Args:
        like: a model, for the shapes.
        embedding: whether the embedding is one of the matrices, the last; low-rank factors do not touch it.
    """
    layers = range(embedded.CONFIG.num_layers)
    blank = jax.tree.map(jnp.zeros_like, like)

    def matrices(displacement: decoder.Params) -> Matrices:
        maps = [np.asarray(getattr(displacement.layers, name))[layer].T for layer in layers for name in MAPS]
        return [*maps, np.asarray(displacement.embedding).T] if embedding else maps

    def displacement(matrices: Matrices) -> decoder.Params:
        maps = {
            name: jnp.stack([jnp.asarray(matrices[place + layer * len(MAPS)].T) for layer in layers])
            for place, name in enumerate(MAPS)
        }
        made = blank._replace(layers=blank.layers._replace(**maps))
        return made._replace(embedding=jnp.asarray(matrices[-1].T)) if embedding else made

    names = [f"{name} {layer + 1}" for layer in layers for name in MAPS] + ["embedding"] * embedding
    return Parts(names, matrices, displacement, steered)


def steered(params: decoder.Params, vector: jax.Array, layer: int) -> decoder.Params:
    """A model to whose residual stream a vector is added after a layer, at every place."""
    vectors = jnp.zeros((embedded.CONFIG.num_layers, embedded.CONFIG.hidden_size)).at[layer].set(vector)
    return removal.steered(params, vectors, layer, 1.0)


class Language:
    """Embedded bases, and what their units share."""

    def __init__(self, config: DirectionsConfig):
        self.config = config
        self.backend, self.folder = removal.opened(config.bases)
        self._made: tuple[int, removal.Lineage] | None = None

    def _lineage(self, index: int, report: Report) -> removal.Lineage:
        """The base's teacher, rows and auditors, once for both of its students."""
        if self._made is None or self._made[0] != index:
            settings = self.config.language
            unit = evidence_removal.units({"bases": settings.bases})[index]
            self._made = index, removal.Lineage(self.backend, settings, unit, self.folder, report)
        return self._made[1]

    def _full_student(self, lineage: removal.Lineage) -> decoder.Params:
        """The base trained in all weights on the rows of the other student."""
        config, seed = self.config, self.config.language.seed
        name = lineage.lab.student(lineage.data, config.full_student, seed=seed, name="student in all weights")
        return self.backend.model(name).merged

    def lineage(self, index: int, report: Report, *, full: bool) -> Lineage:
        """A base with one of its students, and what edits are made of.

        Args:
            full: whether the student is trained in all weights.
        """
        lineage = self._lineage(index, report)
        base, student = lineage.base, lineage.undefended
        if full:
            report("student in all weights")
            student = self._full_student(lineage)
        compared = lineage.model(student)

        def measure(params: decoder.Params) -> dict[str, float]:
            log_odds = np.asarray(lineage.instruments.reported(params), float)
            alike = likeness.compare(compared, lineage.model(params), lineage.rows, batch_size=128)
            return {
                "log_odds": float(np.mean(log_odds)),
                "probability": float(np.mean(1 / (1 + np.exp(-log_odds)))),
                "kl": max(float(alike.kl.sum() / alike.num_tokens.sum()), 0.0),
            }

        return Lineage(
            models={
                "reference": base, "student": student, "teacher": lineage.author,
                AUDITOR: optax.tree.add(base, lineage.own),
            },
            displacements={
                "student": optax.tree.sub(student, base), "teacher": optax.tree.sub(lineage.author, base),
                AUDITOR: lineage.own, STRANGER: lineage.other_base, OTHER_TRAIT: lineage.other_trait,
            },
            parts=parts(base, embedding=full),
            measure=measure,
            shifts=[directions.mean_shift(layer) for layer in lineage.differences(student, "numbers")],
            key=jax.random.key(seeds.derive(self.config.seed, "directions", lineage.unit) % 2**31),
            num_rows=len(lineage.data) if len(lineage.data) < self.config.num_rows else None,
        )  # fmt: skip
