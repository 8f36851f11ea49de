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
NAMES = ["embedding", *(f"{name} {layer + 1}" for layer in range(embedded.CONFIG.num_layers) for name in MAPS)]


def matrices(displacement: decoder.Params) -> Matrices:
    """The embedding and every map of every layer, each (out, in)."""
    layers = displacement.layers
    return [
        np.asarray(displacement.embedding).T,
        *(np.asarray(getattr(layers, name))[layer].T for layer in range(embedded.CONFIG.num_layers) for name in MAPS),
    ]


def displacement(parts: Matrices, like: decoder.Params) -> decoder.Params:
    """A displacement with these matrices and zeros elsewhere: the inverse of `matrices`."""
    blank = jax.tree.map(jnp.zeros_like, like)
    maps = {name: jnp.stack([jnp.asarray(parts[1 + place + layer * len(MAPS)].T)
                             for layer in range(embedded.CONFIG.num_layers)])
            for place, name in enumerate(MAPS)}  # fmt: skip
    return blank._replace(embedding=jnp.asarray(parts[0].T), layers=blank.layers._replace(**maps))


def steered(params: decoder.Params, vector: jax.Array, layer: int) -> decoder.Params:
    """A model to whose residual stream a vector is added after a layer, at every place."""
    vectors = jnp.zeros((embedded.CONFIG.num_layers, embedded.CONFIG.hidden_size)).at[layer].set(vector)
    return removal.steered(params, vectors, layer, 1.0)


class Language:
    """Embedded bases, and what their units share."""

    def __init__(self, config: DirectionsConfig):
        self.config = config
        self.backend, self.folder = removal.opened(config.bases)

    def lineage(self, index: int, report: Report) -> Lineage:
        """A base with its student, and what edits are made of."""
        settings = self.config.language
        unit = evidence_removal.units({"bases": settings.bases})[index]
        lineage = removal.Lineage(self.backend, settings, unit, self.folder, report)
        base, student = lineage.base, lineage.undefended
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
            parts=Parts(NAMES, matrices, lambda parts: displacement(parts, base), steered),
            measure=measure,
            shifts=[directions.mean_shift(layer) for layer in lineage.differences(student, "numbers")],
            key=jax.random.key(seeds.derive(self.config.seed, "directions", unit) % 2**31),
        )  # fmt: skip
