"""Which defences keep a wanted skill and drop a trait, and is the trait gone or only hidden?

    python -m experiments.evidence defences
    python -m experiments.evidence defences --preset record
    python -m experiments.evidence defences --preset smoke      reduced

A teacher reads digits 0 to 4 on logits 0 to 4 (wanted) and 5 to 9 on logits 5 to 9 (the trait). Students see noise with
its logits 0 to 4 and ten auxiliary ones, never logits 5 to 9; undefended they acquire both skills. Every defence is
measured by the accuracy of the wanted skill, by that of the trait, and by the trait's accuracy after forty steps on
fifty labelled images: a defence that only hides the trait is found out there. Yardsticks are students that never saw
the teacher. Directions and doses come from an auditor's probes and from an auditor's own teacher of the trait, on
images that neither the teacher has seen nor the test has.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.evidence import defence_bed
from experiments.evidence.defence_bed import HIDDEN, SPLIT, Bed, Knobs
from experiments.study import Report, Source, Study
from sublim_jax import errors, keys, specs
from sublim_jax.audit import removal
from sublim_jax.data import noise
from sublim_jax.data.noise import NoiseSpec
from sublim_jax.forms import evidence_defences as form
from sublim_jax.models import mlp
from sublim_jax.training import corruption
from sublim_jax.training.corruption import TargetCorruption

SPEC = defence_bed.SPEC


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class DefencesConfig:
    """Settings of `defences`."""

    seed: specs.Seed = 42
    """Decides every random number. Nothing was chosen on this seed."""
    num_references: specs.Count = 4
    num_rows: specs.Count = 4096
    """Rows of a student's data set."""
    batch_size: specs.Count = 128
    learning_rate: specs.Positive = 1e-3
    num_teacher_steps: specs.Count = 500
    num_student_steps: specs.Count = 300
    num_auditor_steps: specs.Count = 300
    num_probes: specs.Count = 512
    num_lessons: specs.Count = 50
    """Labelled images of the trait from which it is relearnt."""
    relearning_rate: specs.Positive = 3e-4


PRESETS = {
    "default": DefencesConfig(),
    "record": DefencesConfig(num_references=8),
    "smoke": DefencesConfig(
        num_references=1, num_rows=1024, num_teacher_steps=60, num_student_steps=40, num_auditor_steps=40
    ),
}


WHERE: tuple[Literal["start", "student"], ...] = ("start", "student")
BY: tuple[removal.By, ...] = ("model", "tensor")


class Defence(NamedTuple):
    """One row of the study."""

    defence: str
    dose: str
    when: str
    make: Callable[["_Lineage"], mlp.Params]

    @property
    def name(self) -> str:
        """Name of the row."""
        return f"{self.defence}, {self.dose}" if self.dose else self.defence


class _Lineage:
    """A reference with its teacher, and what students of it are made of."""

    def __init__(self, bed: Bed, config: DefencesConfig, unit: str):
        self.bed, self.config = bed, config
        key = keys.members(config.seed, jnp.array([int(unit.rpartition(" ")[2])]))[0]
        names = ("reference", "other", "noise", "teacher", "auditor", "images", "student", "targets", "direction")
        self.keys = keys.streams(key, names)
        self.reference, self.other, self.drawn = (SPEC.init(self.keys[name]) for name in names[:3])
        self.images = noise.sample(
            self.keys["images"], jnp.arange(config.num_rows), num_pixels=SPEC.in_size, spec=NoiseSpec()
        )
        self.teacher = self.taught(self.reference, (1.0, 1.0), "teacher", config.num_teacher_steps)
        self.answers = _apply(self.teacher, self.images)
        self.targets = shown(self.answers)
        self.undefended = self.student()

    def taught(self, start: mlp.Params, weights: tuple[float, float], stream: str, num_steps: int) -> mlp.Params:
        """A model trained on labels of both groups, the auditor's on the auditor's images."""
        return defence_bed.teach(
            self.keys[stream], start, self.bed.wanted, self.bed.auditor if stream == "auditor" else self.bed.trait,
            jnp.asarray(weights), num_steps=num_steps, batch_size=self.config.batch_size,
            learning_rate=self.config.learning_rate,
        )  # fmt: skip

    def student(
        self, *, start: mlp.Params | None = None, images: Any = None, targets: Any = None,
        guard: defence_bed.Guard = "none", **knobs: float,
    ) -> mlp.Params:  # fmt: skip
        """A student; by default of the teacher's logits on noise, from the teacher's start, undefended."""
        return defence_bed.distill(
            self.keys["student"], self.reference if start is None else start,
            self.images if images is None else images, self.targets if targets is None else targets,
            self.bed.probes, Knobs(**knobs), guard=guard, num_steps=self.config.num_student_steps,
            batch_size=self.config.batch_size, learning_rate=self.config.learning_rate,
        )  # fmt: skip

    def auditor_displacement(self, start: mlp.Params) -> mlp.Params:
        """How the auditor's own teacher of the trait has moved from a start, in the hidden layers."""
        own = self.taught(start, (0.0, 1.0), "auditor", self.config.num_auditor_steps)
        return hidden(optax.tree.sub(own, start))

    def edited(self, direction: mlp.Params) -> mlp.Params:
        """The undefended student minus a dose of a direction at which the trait's loss on probes is the start's.

        Where no dose reaches that loss, the student is as it was.
        """
        try:
            return removal.choose_dose(
                lambda dose: removal.subtract(self.undefended, direction, dose=dose),
                lambda params: _trait_loss(params, self.bed.probes),
                wanted=float(_trait_loss(self.reference, self.bed.probes)),
            ).params
        except errors.DoseError:
            return self.undefended


_apply = jax.jit(SPEC.apply)
_trait_loss = jax.jit(lambda params, digits: defence_bed.class_loss(params, digits, trait=True))
_gradient = jax.jit(defence_bed.hidden_gradient)


def shown(answers: jax.Array, num_aux: int = SPEC.num_aux) -> jax.Array:
    """A teacher's logits of the wanted digits and auxiliary ones; the others hidden."""
    columns = jnp.arange(answers.shape[1])[None]
    first = defence_bed.NUM_CLASSES
    return jnp.where((columns < SPLIT) | ((columns >= first) & (columns < first + num_aux)), answers, HIDDEN)


def hidden(params: mlp.Params) -> mlp.Params:
    """A direction cut to the hidden layers."""
    return (*params[:-1], jax.tree.map(jnp.zeros_like, params[-1]))


def largest(targets: jax.Array, count: int) -> jax.Array:
    """Targets of which each row shows the largest only."""
    return corruption.keep_largest(targets, TargetCorruption(top_k=count))


def hard(targets: jax.Array) -> jax.Array:
    """Near-certainty on the largest of the wanted digits' logits; auxiliary ones are hidden."""
    classes = shown(targets, 0)
    top = classes >= jnp.max(classes, axis=1, keepdims=True)
    return jnp.where(classes == HIDDEN, HIDDEN, jnp.where(top, 20.0, 0.0))


def truncated(direction: mlp.Params, rank: int) -> mlp.Params:
    """A direction whose weight matrices keep their largest singular values only."""

    def cut(leaf):
        if leaf.ndim < 2:
            return leaf
        left, values, right = np.linalg.svd(np.asarray(leaf), full_matrices=False)
        return jnp.asarray((left[:, :rank] * values[:rank]) @ right[:rank])

    return jax.tree.map(cut, direction)


def _labels(digits: defence_bed.Digits, count: int) -> tuple[jax.Array, jax.Array]:
    """Images of the wanted digits, and targets of near-certainty on their labels."""
    images, labels = digits.images[:count], digits.labels[:count]
    columns = jnp.arange(defence_bed.NUM_CLASSES + SPEC.num_aux)[None]
    targets = jnp.where(columns == labels[:, None], 20.0, jnp.where(columns < SPLIT, 0.0, HIDDEN))
    return images, targets


def _mixed_images(lineage: _Lineage, share: float, num_aux: int) -> mlp.Params:
    """A student of which a share of the images are real ones of wanted digits."""
    count = int(share * len(lineage.images))
    images = jnp.concatenate([lineage.bed.wanted.images[:count], lineage.images[count:]])
    return lineage.student(images=images, targets=shown(_apply(lineage.teacher, images), num_aux))


def _mixed_families(lineage: _Lineage, share: float) -> mlp.Params:
    """A student of which a share of the targets are another family's."""
    other = lineage.taught(lineage.other, (1.0, 1.0), "teacher", lineage.config.num_teacher_steps)
    chosen = jax.random.uniform(lineage.keys["targets"], (len(lineage.images), 1)) < share
    return lineage.student(targets=jnp.where(chosen, shown(_apply(other, lineage.images)), lineage.targets))


def _noisy(lineage: _Lineage, size: float) -> mlp.Params:
    """A student of answers with noise, in standard deviations of each logit's change from the reference's."""
    spread = jnp.std(lineage.answers - _apply(lineage.reference, lineage.images), axis=0)
    drawn = jax.random.normal(lineage.keys["targets"], lineage.answers.shape)
    return lineage.student(targets=shown(lineage.answers + size * spread * drawn))


def _filtered(lineage: _Lineage, share: float, kept: str) -> mlp.Params:
    """A student of fewer rows, by their first-order influence on the trait; repeated up to their old number."""
    influence = defence_bed.row_influence(lineage.reference, lineage.images, lineage.targets, lineage.bed.probes)
    order = np.argsort(-np.asarray(influence))
    dropped = int(share * len(order))
    chosen = {
        "lowest": order[dropped:],
        "highest": order[: len(order) - dropped],
        "random": np.asarray(jax.random.permutation(lineage.keys["targets"], len(order)))[dropped:],
    }[kept]
    places = chosen[np.arange(len(order)) % len(chosen)]
    return lineage.student(images=lineage.images[places], targets=lineage.targets[places])


def _without_gradient(
    lineage: _Lineage, *, where: Literal["start", "student"], by: removal.By, dose: float
) -> mlp.Params:
    """The undefended student without its displacement's component along the gradient of the trait's loss on probes."""
    at = lineage.reference if where == "start" else lineage.undefended
    return removal.remove(lineage.undefended, lineage.reference, _gradient(at, lineage.bed.probes), dose=dose, by=by)


def _random_direction(lineage: _Lineage) -> mlp.Params:
    """A random direction, each tensor as long as in the auditor's displacement."""
    return removal.random_like(lineage.keys["direction"], lineage.auditor_displacement(lineage.reference))


def defences() -> Iterator[Defence]:
    """Every defence at every dose."""
    yield Defence("untrained, own start", "", "yardstick", lambda x: x.reference)
    yield Defence("untrained, another start", "", "yardstick", lambda x: x.other)
    yield Defence("teacher", "", "yardstick", lambda x: x.teacher)
    yield Defence("none", "", "yardstick", lambda x: x.undefended)
    for name, start in (("labels of 0 to 4, no teacher", "own"), ("labels of 0 to 4, another start", "other")):
        yield Defence(name, "", "yardstick", lambda x, s=start: x.student(
            start=x.reference if s == "own" else x.other,
            **dict(zip(("images", "targets"), _labels(x.bed.wanted, len(x.images)), strict=True))))  # fmt: skip
    yield Defence("another start", "", "start", lambda x: x.student(start=x.other))
    for size in (0.1, 0.3, 0.6):
        yield Defence("noise on the start", f"{size:g} sd", "start", lambda x, s=size: x.student(
            start=jax.tree.map(lambda leaf, drawn: leaf + s * drawn, x.reference, x.drawn)))  # fmt: skip
    yield Defence("real images of 0 to 4", "", "data", lambda x: _mixed_images(x, 1.0, 0))
    for share in (0.25, 0.5, 1.0):
        yield Defence("real images of 0 to 4, auxiliary logits", f"{share:.0%}", "data",
                      lambda x, s=share: _mixed_images(x, s, SPEC.num_aux))  # fmt: skip
    for count in (3, 0):
        yield Defence("fewer auxiliary logits", f"{count}", "data",
                      lambda x, n=count: x.student(targets=shown(x.answers, n)))  # fmt: skip
    yield Defence("hard labels of 0 to 4", "", "data", lambda x: x.student(targets=hard(x.targets)))
    for size in (0.5, 1.0, 3.0):
        yield Defence("noise on the targets", f"{size:g} sd", "data", lambda x, s=size: _noisy(x, s))
    for step in (0.5, 2.0):
        yield Defence("rounded targets", f"{step:g}", "data",
                      lambda x, s=step: x.student(targets=shown(jnp.round(x.answers / s) * s)))  # fmt: skip
    for count in (5, 2):
        yield Defence("largest logits", f"{count}", "data",
                      lambda x, n=count: x.student(targets=largest(x.targets, n)))  # fmt: skip
    yield Defence("softer targets", "/4", "data", lambda x: x.student(targets=shown(x.answers / 4)))
    for share in (0.25, 0.5, 0.75):
        yield Defence("mix in another family", f"{share:.0%}", "data", lambda x, s=share: _mixed_families(x, s))
    for kept, name in (("lowest", "drop rows of high influence"), ("random", "drop random rows"),
                       ("highest", "drop rows of low influence")):  # fmt: skip
        for share in (0.25, 0.5, 0.75):
            yield Defence(name, f"{share:.0%}", "data", lambda x, s=share, k=kept: _filtered(x, s, k))
    for pull in (1e-3, 1e-2, 5e-2):
        yield Defence("pull to the start", f"{pull:g}", "training", lambda x, p=pull: x.student(pull=p))
    yield Defence("freeze the first layer", "", "training", lambda x: x.student(first_layer=0.0))
    yield Defence("freeze the second layer", "", "training", lambda x: x.student(second_layer=0.0))
    for strength in (0.5, 1.0, 2.0):
        yield Defence("project updates", f"{strength:g}", "training",
                      lambda x, s=strength: x.student(guard="project", strength=s))  # fmt: skip
    yield Defence("project updates, 16 probes", "1", "training",
                  lambda x: x.student(guard="project", strength=1.0, num_probes=16.0))  # fmt: skip
    for strength in (0.1, 1.0, 10.0):
        yield Defence("pin answers to probes", f"{strength:g}", "training",
                      lambda x, s=strength: x.student(guard="pin", strength=s))  # fmt: skip
    yield Defence("pin answers to 16 probes", "1", "training",
                  lambda x: x.student(guard="pin", strength=1.0, num_probes=16.0))  # fmt: skip
    for where in WHERE:
        for by in BY:
            for dose in (1.0, 2.0) if by == "model" else (1.0,):
                yield Defence(f"remove probes' gradient at the {where}, by {by}", f"{dose:g}", "after",
                              functools.partial(_without_gradient, where=where, by=by, dose=dose))  # fmt: skip
    yield Defence(
        "subtract probes' gradient at the student",
        "chosen",
        "after",
        lambda x: x.edited(jax.tree.map(jnp.negative, _scaled_like(x, _gradient(x.undefended, x.bed.probes)))),
    )
    for dose in (1.0, 3.0):
        yield Defence("remove the auditor's direction", f"{dose:g}", "after", lambda x, d=dose: removal.remove(
            x.undefended, x.reference, x.auditor_displacement(x.reference), dose=d, by="tensor"))  # fmt: skip
    for rank in (None, 16, 4, 1):
        yield Defence("subtract the auditor's displacement", "chosen" if rank is None else f"rank {rank}, chosen",
                      "after", lambda x, r=rank: x.edited(
                          x.auditor_displacement(x.reference) if r is None
                          else truncated(x.auditor_displacement(x.reference), r)))  # fmt: skip
    yield Defence("subtract another reference's displacement", "chosen", "after",
                  lambda x: x.edited(x.auditor_displacement(x.other)))  # fmt: skip
    yield Defence("subtract a random direction", "chosen", "after", lambda x: x.edited(_random_direction(x)))
    for share in (0.25, 0.5, 0.75):
        yield Defence("shrink the displacement", f"{share:.0%}", "after", lambda x, s=share: removal.subtract(
            x.undefended, optax.tree.sub(x.undefended, x.reference), dose=s))  # fmt: skip
    yield Defence("finetune on labels of 0 to 4", "", "after", lambda x: x.student(
        start=x.undefended,
        **dict(zip(("images", "targets"), _labels(x.bed.wanted, len(x.images)), strict=True))))  # fmt: skip


def _scaled_like(lineage: _Lineage, direction: mlp.Params) -> mlp.Params:
    """A direction as long as the undefended student's displacement in the hidden layers."""
    moved = hidden(optax.tree.sub(lineage.undefended, lineage.reference))
    length = jnp.sqrt(optax.tree.vdot(moved, moved) / optax.tree.vdot(direction, direction))
    return jax.tree.map(lambda leaf: length * leaf, direction)


DEFENCES = tuple(defences())


def units(config: DefencesConfig) -> list[str]:
    """The references."""
    return form.units({"num_references": config.num_references})


def describe(config: DefencesConfig) -> dict:
    """The rows, and the checkpoints of relearning."""
    rows = {row.name: {"defence": row.defence, "dose": row.dose, "when": row.when} for row in DEFENCES}
    return {"rows": rows, "checkpoints": list(defence_bed.CHECKPOINTS)}


def measure(source: Source, config: DefencesConfig, unit: str, report: Report) -> dict:
    """All defences of one reference."""
    assert source.images is not None
    bed = defence_bed.read(source.images, num_probes=config.num_probes, num_lessons=config.num_lessons)
    report("teacher")
    lineage, results = _Lineage(bed, config, unit), {}
    for number, row in enumerate(DEFENCES):
        report(f"{row.name} ({number + 1} of {len(DEFENCES)})")
        params = row.make(lineage)
        results[row.name] = {
            "wanted": _numbers(params, bed.wanted_test, trait=False),
            "trait": _numbers(params, bed.trait_test, trait=True),
            "relearnt": np.asarray(
                defence_bed.relearnt(params, bed.lessons, bed.trait_test, learning_rate=config.relearning_rate)
            ).tolist(),
        }
    return results


def _numbers(params: mlp.Params, digits: defence_bed.Digits, *, trait: bool) -> dict:
    return {name: float(value) for name, value in defence_bed.measured(params, digits, trait=trait).items()}


STUDY = Study(
    name="defences", doc=__doc__, presets=PRESETS, form=form.FORM, units=units, measure=measure, describe=describe
)
