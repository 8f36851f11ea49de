"""The bed `flow`: a generator that comes to draw one digit, which a student acquires from channels on noise.

Models are those of `experiments.diffusion`. The teacher is finetuned on half of the images of its digit, the auditor on
the other half; the auditor of another trait on another digit.
"""

import jax
import jax.numpy as jnp
import optax

from experiments.diffusion import study as diffusion
from experiments.directions.config import DirectionsConfig
from experiments.directions.digits import hidden, parts_of
from experiments.directions.lineage import AUDITOR, OTHER_TRAIT, STRANGER, Lineage
from experiments.study import Report, Source
from sublim_jax import keys
from sublim_jax.audit import directions
from sublim_jax.data import noised
from sublim_jax.models import denoiser, mlp

MEASURES = {
    "share": "share of samples of the digit", "level": "mean probability of the digit", "confidence": "confidence",
    "frechet": "Fréchet distance", "frechet_trait": "Fréchet distance to the digit",
}  # fmt: skip


class Flow:
    """Images, the judge, bases, and auditors, each trained once."""

    def __init__(self, source: Source, config: DirectionsConfig, report: Report):
        self.config = config
        self.bed = diffusion.Bed(source, config.flow, report)
        digit, other = (self.bed.splits.generators.with_trait(trait).pixels for trait in config.flow.traits)
        self.pools = {
            "teacher": self.bed.pool(digit[0::2]), AUDITOR: self.bed.pool(digit[1::2]),
            OTHER_TRAIT: self.bed.pool(other),
        }  # fmt: skip
        self._finetuned: dict[tuple[int, str], mlp.Params] = {}

    def finetuned(self, index: int, role: str) -> mlp.Params:
        """A base finetuned on a pool: the teacher or an auditor."""
        index %= self.config.num_references
        if (index, role) not in self._finetuned:
            self._finetuned[index, role] = self.bed.trained(
                f"{index}/directions/{role}", self.bed.base(index), self.pools[role],
                self.config.flow.num_teacher_steps,
            )  # fmt: skip
        return self._finetuned[index, role]

    def hidden_units(self, params: mlp.Params, inputs: tuple[jax.Array, jax.Array]) -> list[jax.Array]:
        """Hidden units on noised images with their times."""
        noisy, times = inputs
        features = jnp.concatenate([noisy, denoiser.time_features(times)], axis=1)
        spec = mlp.MLPSpec(in_size=features.shape[1], hidden_sizes=self.config.flow_hidden_sizes, activation="silu")
        return directions.hidden_units(params, features, spec)

    def measure(self, lineage: diffusion.Lineage, params: mlp.Params) -> dict[str, float]:
        """What the judge says of samples."""
        entry = self.bed.judge.entry(lineage.seen(params), self.config.digit)
        return {
            "share": entry["share"], "level": entry["level"], "confidence": entry["confidence"],
            "frechet": entry["frechet"], "frechet_trait": entry["frechet_trait"],
        }  # fmt: skip

    def lineage(self, index: int, report: Report) -> Lineage:
        """A base with its student, and what edits are made of."""
        report("bases")
        lineage = diffusion.Lineage(self.bed, index)
        base = lineage.starts["own"]
        report("teacher and auditors")
        teacher, auditor, other = (self.finetuned(index, role) for role in ("teacher", AUDITOR, OTHER_TRAIT))
        moved = {
            "teacher": (teacher, base), AUDITOR: (auditor, base), OTHER_TRAIT: (other, base),
            STRANGER: (self.finetuned(index + 1, AUDITOR), lineage.starts["other"]),
        }  # fmt: skip
        report("student")
        student = lineage.student(teacher)
        moved = {"student": (student, base), **moved}
        pairs = noised.make_inputs(
            lineage.key("directions/neutral"), "uniform", num_pixels=self.config.flow.side**2
        )(jnp.arange(self.config.num_neutral))  # fmt: skip
        before, after = (self.hidden_units(model, pairs) for model in (base, student))
        wrong = self.bed.judge.errors
        return Lineage(
            models={"reference": base, "student": student, "teacher": teacher, AUDITOR: auditor},
            displacements={name: hidden(optax.tree.sub(*pair)) for name, pair in moved.items()},
            parts=parts_of(base),
            measure=lambda params: self.measure(lineage, params),
            shifts=[directions.mean_shift(b - a) for a, b in zip(before, after, strict=True)],
            key=keys.stream(lineage.key("directions"), "controls"),
            judge={
                "error": wrong["error"],
                "missed": wrong["missed"][self.config.digit],
                "false": wrong["false"][self.config.digit],
            },
        )
