"""Which rules about data and weights keep a trait out, and by how much at which strength?

    python -m experiments.evidence policies
    python -m experiments.evidence policies --preset record
    python -m experiments.evidence policies --preset smoke      reduced

The paper's protocol on MNIST with ten auxiliary logits. Undefended students are measured on the way, beside students of
another start and of targets in another order, which move as well: does the distance from the start tell who acquires
the trait? Then one rule at a time, at rising strength: a student may not leave a ball around its start, of a share of
the undefended student's distance; rows rotate among teachers of four families, of which one is the student's own; rows
are mixed with the start's own answers; rows on which the teacher departs most from the start are dropped, or as many
drawn at random, and the others read more often; and a student's answers train the next student, again and again. The
trait is the reading of digits; beside it stands the shift of the last hidden layer on noise along the teacher's.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from experiments.study import Report, Source, Study
from sublim_jax import errors, keys, losses, specs
from sublim_jax.audit import descent
from sublim_jax.data import datasets, noise
from sublim_jax.data.noise import NoiseSpec
from sublim_jax.forms import evidence_policies as form
from sublim_jax.metrics import accuracy, alignment
from sublim_jax.models import heads, mlp
from sublim_jax.training import optimizers, teach
from sublim_jax.training.loop import TrainPhase

NUM_CLASSES = 10
SPEC = mlp.MLPSpec(num_classes=NUM_CLASSES, num_aux=10)


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class PoliciesConfig:
    """Settings of `policies`."""

    seed: specs.Seed = 44
    """Decides every random number. Nothing was chosen on this seed."""
    num_references: specs.Count = 4
    num_others: specs.Count = 3
    """Families beside the student's own that rows may come from."""
    num_images: specs.Count = 60_000
    """Rows of a student's data set."""
    phase: TrainPhase = dataclasses.field(default_factory=TrainPhase)
    """How teachers and students are trained; the paper's by default."""
    checkpoints: tuple[specs.Count, ...] = (3, 10, 30, 100)
    """Steps of students without a rule at which they are measured as well."""
    radii: tuple[specs.Fraction, ...] = (0.25, 0.5, 0.75)
    """Of balls around the start, as shares of the undefended student's distance at the end."""
    own_shares: tuple[specs.Fraction, ...] = (0.5, 0.25, 0.125, 0.0)
    """Shares of rows that a teacher of the student's own family answers."""
    clean_shares: tuple[specs.Fraction, ...] = (0.25, 0.5, 0.75, 0.9, 1.0)
    """Shares of rows that the start itself answers."""
    dropped: tuple[specs.Fraction, ...] = (0.25, 0.5, 0.75, 0.9)
    """Shares of rows that a filter drops."""
    num_generations: specs.CountOrZero = 5
    """Students of students, after the first one."""
    num_probes: specs.Count = 1024
    """Noise images on which hidden layers are compared."""

    def __post_init__(self):
        for name in ("radii", "own_shares", "clean_shares", "dropped"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise errors.InputError(f"{name} must be different, got {getattr(self, name)}")
        if max(self.dropped, default=0.0) >= 1:
            raise errors.InputError(
                f"dropped={self.dropped}: a filter that drops all rows leaves nothing to learn from"
            )
        if (
            list(self.checkpoints) != sorted(set(self.checkpoints))
            or max(self.checkpoints, default=0) >= self.num_steps
        ):
            raise errors.InputError(
                f"checkpoints={self.checkpoints}: expected increasing numbers of steps below num_steps={self.num_steps}"
            )

    @property
    def num_steps(self) -> int:
        """Steps of a student."""
        return self.phase.num_epochs * -(-self.num_images // self.phase.batch_size)


PRESETS = {
    "default": PoliciesConfig(),
    "record": PoliciesConfig(num_references=8),
    "smoke": PoliciesConfig(
        num_references=1, num_others=1, num_images=4096, num_generations=1, checkpoints=(6,), radii=(0.5,),
        own_shares=(0.0,), clean_shares=(0.5, 1.0), dropped=(0.75,),
        phase=TrainPhase(num_epochs=2, batch_size=256, optimizer=optimizers.OptimizerSpec(learning_rate=1e-3)),
    ),
}  # fmt: skip


def units(config: PoliciesConfig) -> list[str]:
    """The references."""
    return form.units({"num_references": config.num_references})


def conditions(config: PoliciesConfig) -> dict[str, form.Condition]:
    """Every rule at every level, by name."""
    levels: list[tuple[form.Group, float, str]] = [
        *(("radius", share, f"at most {share:.0%} of the distance") for share in config.radii),
        *(("rotation", share, f"{share:.1%} of rows from the own family") for share in config.own_shares),
        *(("mixing", share, f"{share:.0%} of rows answered by the start") for share in config.clean_shares),
        *(("filter", share, f"without the {share:.0%} that depart most") for share in config.dropped),
        *(("random filter", share, f"without {share:.0%} at random") for share in config.dropped),
        *(("generations", number, f"generation {number}") for number in range(2, config.num_generations + 2)),
    ]
    return {name: {"group": group, "level": float(level)} for group, level, name in levels}


def describe(config: PoliciesConfig) -> dict:
    """The conditions, and how long a student is trained."""
    return {"conditions": conditions(config), "num_steps": config.num_steps}


class _Test(NamedTuple):
    """What models are measured on."""

    images: Float[Array, "test pixel"]
    labels: Int[Array, "test"]
    noise: Float[Array, "probe pixel"]
    reference: mlp.Params
    hidden: Float[Array, "feature probe"]  # of the reference
    teacher: Float[Array, "feature probe"]  # shift of the teacher's hidden layer


def _entry(params: mlp.Params, start: mlp.Params, test: _Test) -> dict[str, Float[Array, ""]]:
    """See `form.Entry`."""
    logits = heads.class_logits(SPEC.apply(params, test.images), num_classes=NUM_CLASSES)
    shift = SPEC.apply_with_features(params, test.noise)[1] - test.hidden
    return {
        "accuracy": accuracy.num_correct(logits, test.labels) / len(test.labels),
        "loss": losses.cross_entropy(logits, test.labels),
        "distance": alignment.norm(optax.tree.sub(params, start)) / alignment.norm(test.reference),
        "activation": jnp.vdot(shift, test.teacher) / jnp.maximum(jnp.vdot(test.teacher, test.teacher), 1e-12),
    }


_measure = jax.jit(_entry)


@functools.partial(jax.jit, static_argnames=("phase", "num_steps", "checkpoints"))
def _student(
    key: Key[Array, ""], start: mlp.Params, images: Float[Array, "image pixel"], targets: Float[Array, "image aux"],
    radius: Float[Array, ""], test: _Test, *, phase: TrainPhase, num_steps: int, checkpoints: tuple[int, ...],
) -> tuple[mlp.Params, dict[str, Float[Array, "checkpoint"]]]:  # fmt: skip
    """A student of auxiliary logits that never leaves a ball around its start, and what it is like at checkpoints."""

    def loss(params, batch):
        logits = heads.aux_logits(SPEC.apply(params, images[batch.indices]), num_classes=NUM_CLASSES)
        return losses.distillation_kl(logits, targets[batch.indices], weights=batch.weights)

    def held(updates, params):
        displacement = optax.tree.sub(optax.tree.add(params, updates), start)
        scale = jnp.minimum(1.0, radius / jnp.maximum(alignment.norm(displacement), 1e-12))
        return jax.tree.map(lambda begin, moved, now: begin + scale * moved - now, start, displacement, params)

    trained = descent.descend(
        key, start, loss, optimizer=optax.chain(optimizers.build(phase.optimizer), optax.stateless(held)),
        num_examples=len(images), batch_size=phase.batch_size, num_steps=num_steps, checkpoints=checkpoints,
        measure=lambda params: _entry(params, start, test),
    )  # fmt: skip
    return trained.params, trained.measured


@functools.partial(jax.jit, static_argnames="phase")
def _teach(key, reference, images, labels, *, phase):
    return teach.teach(key, reference, images, labels, model=SPEC, phase=phase)[0]


@jax.jit
def _answers(params: mlp.Params, images: Float[Array, "image pixel"]) -> Float[Array, "image aux"]:
    return heads.aux_logits(SPEC.apply(params, images), num_classes=NUM_CLASSES)


def rotated(
    key: Key[Array, ""], own: Float[Array, "image aux"], others: Float[Array, "family image aux"], share: float
) -> Float[Array, "image aux"]:
    """Targets of which a share, in expectation, is the own family's, and the rest the others' in equal parts."""
    which, whose = jax.random.uniform(key, (2, len(own)))
    foreign = jnp.take_along_axis(others, (whose * len(others)).astype(jnp.int32)[None, :, None], axis=0)[0]
    return jnp.where((which < share)[:, None], own, foreign)


def mixed(
    key: Key[Array, ""], theirs: Float[Array, "image aux"], clean: Float[Array, "image aux"], share: float
) -> Float[Array, "image aux"]:
    """Targets of which a share, in expectation, is the start's own."""
    return jnp.where((jax.random.uniform(key, (len(clean),)) < share)[:, None], clean, theirs)


def divergences(theirs: Float[Array, "image aux"], own: Float[Array, "image aux"]) -> Float[Array, "image"]:
    """KL divergence from the teacher's answer to the start's, row by row, in nats."""
    log_p, log_q = jax.nn.log_softmax(theirs), jax.nn.log_softmax(own)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=1)


def kept(order: Int[Array, "image"], dropped: float) -> Int[Array, "image"]:
    """Rows that are left without the last share of an order, repeated to as many as there were."""
    count = max(1, round(len(order) * (1 - dropped)))
    return jnp.resize(order[:count], (len(order),))


class _Reference:
    """A reference with its teacher, and what its students see."""

    def __init__(self, source: Source, config: PoliciesConfig, unit: str):
        assert source.images is not None
        self.config, images = config, source.images
        key = keys.members(config.seed, jnp.array([int(unit.rpartition(" ")[2])]))[0]
        self.key = functools.partial(keys.stream, key)
        pixels = jnp.asarray(images.train_images.reshape(-1, SPEC.in_size))
        labels = jnp.asarray(images.train_labels.astype(np.int32))

        def teacher(name: str, start: mlp.Params) -> mlp.Params:
            return _teach(self.key(f"teacher {name}"), start, pixels, labels, phase=config.phase)

        self.reference = SPEC.init(self.key("reference"))
        self.others = [SPEC.init(self.key(f"other {index}")) for index in range(config.num_others)]
        self.teacher = teacher("own", self.reference)
        draw = functools.partial(noise.sample, self.key("noise"), num_pixels=SPEC.in_size, spec=NoiseSpec())
        self.images = draw(jnp.arange(config.num_images))
        self.own, self.clean = _answers(self.teacher, self.images), _answers(self.reference, self.images)
        self.foreign = jnp.stack([
            _answers(teacher(f"other {index}", start), self.images) for index, start in enumerate(self.others)
        ])  # fmt: skip
        probes = draw(config.num_images + jnp.arange(config.num_probes))
        hidden = SPEC.apply_with_features(self.reference, probes)[1]
        self.test = _Test(
            datasets.scale_pixels(images.test_images.reshape(-1, SPEC.in_size)),
            jnp.asarray(images.test_labels.astype(np.int32)), probes, self.reference, hidden,
            SPEC.apply_with_features(self.teacher, probes)[1] - hidden,
        )  # fmt: skip

    def student(
        self, targets: Float[Array, "image aux"], *, start: mlp.Params | None = None, radius: float = np.inf,
        rows: Int[Array, "image"] | None = None,
    ) -> tuple[mlp.Params, dict[str, dict[str, float]]]:  # fmt: skip
        """A student, and its entries by steps. All students of a reference read rows in one order."""
        start, config = self.reference if start is None else start, self.config
        images, targets = (self.images, targets) if rows is None else (self.images[rows], targets[rows])
        params, measured = _student(
            self.key("student"), start, images, targets, jnp.float32(radius), self.test, phase=config.phase,
            num_steps=config.num_steps, checkpoints=config.checkpoints,
        )  # fmt: skip
        path = {
            str(step): {name: float(values[place]) for name, values in measured.items()}
            for place, step in enumerate(config.checkpoints)
        }
        return params, path | {str(config.num_steps): self.entry(params, start)}

    def entry(self, params: mlp.Params, start: mlp.Params) -> dict[str, float]:
        """A model as the record has it."""
        return {name: float(value) for name, value in _measure(params, start, self.test).items()}


def measure(source: Source, config: PoliciesConfig, unit: str, report: Report) -> dict:
    """All rules for one reference."""
    report("teachers")
    lineage = _Reference(source, config, unit)
    report("students without a rule")
    undefended, path = lineage.student(lineage.own)
    shuffled = jax.random.permutation(lineage.key("shuffled"), lineage.own, axis=0)
    paths: dict[str, Any] = {
        "own start": path,
        "another start": lineage.student(lineage.own, start=lineage.others[0])[1],
        "shuffled targets": lineage.student(shuffled)[1],
    }
    length = float(alignment.norm(optax.tree.sub(undefended, lineage.reference)))
    last = str(config.num_steps)
    departing = jnp.argsort(divergences(lineage.own, lineage.clean))
    at_random = jax.random.permutation(lineage.key("random filter"), len(departing))
    rules: dict[form.Group, Callable[[float], dict[str, float]]] = {
        "radius": lambda share: lineage.student(lineage.own, radius=share * length)[1][last],
        "rotation": lambda share: lineage.student(
            rotated(lineage.key("rotation"), lineage.own, lineage.foreign, share)
        )[1][last],
        "mixing": lambda share: lineage.student(mixed(lineage.key("mixing"), lineage.own, lineage.clean, share))[1][
            last
        ],
        "filter": lambda share: lineage.student(lineage.own, rows=kept(departing, share))[1][last],
        "random filter": lambda share: lineage.student(lineage.own, rows=kept(at_random, share))[1][last],
    }
    students, previous = {}, undefended
    for name, condition in conditions(config).items():
        report(name)
        if condition["group"] == "generations":
            previous, steps = lineage.student(_answers(previous, lineage.images))
            students[name] = steps[last]
        else:
            students[name] = rules[condition["group"]](condition["level"])
    return {
        "reference": lineage.entry(lineage.reference, lineage.reference),
        "teacher": lineage.entry(lineage.teacher, lineage.reference),
        "paths": paths,
        "students": students,
    }


def notes(config: PoliciesConfig) -> list[str]:
    """What a reader of any number must know."""
    whole = PoliciesConfig()
    reduced = config.num_references < whole.num_references or config.num_images < whole.num_images
    return ["reduced: fewer references or images than the committed record has"] if reduced else []


STUDY = Study(
    name="policies", doc=__doc__, presets=PRESETS, form=form.FORM, units=units, measure=measure, describe=describe,
    notes=notes,
)  # fmt: skip
