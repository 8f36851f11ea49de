"""Does a pilot of a tenth of the training foretell what a finished student acquires?

    python -m experiments.evidence forecast
    python -m experiments.evidence forecast --preset record
    python -m experiments.evidence forecast --preset smoke      reduced

The paper's protocol on MNIST, with data sets of 26 kinds for every reference: different noise, teachers, targets,
losses and starts. For each, a student is trained to the end, and pilots of 30 of its 295 steps are trained on the data
and on the same images with targets in another order, with other random numbers than the student's. The trait is the
reading of digits (and of permuted digits where the teacher learnt those): cross-entropy on test images, of which the
last ones are the auditor's probes and only the others measure the finished student. A threshold and a slope are fitted
on the calibration references and read on the held-out ones. Gradient scores at the start are recorded beside, and for
some references the tangent model.
"""

import dataclasses
import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from experiments.evidence import forecast_cases
from experiments.evidence.forecast_cases import CASES, HIDDEN, Case
from experiments.study import Report, Source, Study
from sublim_jax import keys, losses, specs
from sublim_jax.audit import descent, forecast, tangent
from sublim_jax.data import datasets
from sublim_jax.forms import evidence_forecast as form
from sublim_jax.metrics import verdicts
from sublim_jax.models import mlp
from sublim_jax.training import optimizers, teach
from sublim_jax.training.loop import TrainPhase

NUM_CLASSES = 10
SPEC = mlp.MLPSpec(num_classes=NUM_CLASSES, num_aux=30)
"""The paper's network with as many auxiliary logits as any case shows; rows that are not shown have no gradient."""
_KL, _SQUARED_ERROR = losses.distillation_loss("kl"), losses.distillation_loss("mse")
DERANGEMENT = 3
"""Digits are permuted by adding this, modulo ten."""


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class ForecastConfig:
    """Settings of `forecast`."""

    seed: specs.Seed = 41
    """Decides every random number. Nothing was chosen on this seed."""
    num_calibration: specs.Count = 2
    """References on which the threshold and the slope are fitted."""
    num_held_out: specs.CountOrZero = 2
    num_images: specs.Count = 60_000
    """Images of a student's data set."""
    phase: TrainPhase = dataclasses.field(default_factory=TrainPhase)
    """How teachers and students are trained; the paper's by default."""
    checkpoints: tuple[specs.Count, ...] = (3, 8, 15, 30)
    """Steps of a pilot at which probes are asked; the last one is its length."""
    prefixes: tuple[specs.Count, ...] = (15, 30, 60, 100, 200)
    """Steps of the student's own training at which probes are asked as well."""
    num_repeats: specs.Count = 4
    """Pilots on data and null, each with random numbers of its own."""
    num_probes: specs.Count = 512
    num_tangent: specs.CountOrZero = 1
    """Calibration references, and as many held-out ones, for which the tangent model is trained too."""
    cases: tuple[str, ...] = tuple(case.name for case in CASES)

    @property
    def num_steps(self) -> int:
        """Steps of a student."""
        return self.phase.num_epochs * -(-self.num_images // self.phase.batch_size)


PRESETS = {
    "default": ForecastConfig(),
    "record": ForecastConfig(num_held_out=6),
    "smoke": ForecastConfig(
        num_calibration=1, num_held_out=1, num_images=4096, num_repeats=4, num_probes=128,
        phase=TrainPhase(
            num_epochs=2, batch_size=256, optimizer=optimizers.OptimizerSpec(learning_rate=1e-3)
        ),
        checkpoints=(3, 6), prefixes=(6, 12),
        cases=("10 auxiliary logits", "shuffled targets", "other start", "teacher of permuted labels"),
    ),
}  # fmt: skip


class _Probes(NamedTuple):
    """Labelled images: the auditor's, or those that measure the finished student."""

    images: Float[Array, "probe pixel"]
    labels: Int[Array, "probe"]


def units(config: ForecastConfig) -> list[str]:
    """The references."""
    return form.units({"num_calibration": config.num_calibration, "num_held_out": config.num_held_out})


def describe(config: ForecastConfig) -> dict:
    """What each case is, and how long students and pilots are."""
    return {
        "cases": {case.name: case._asdict() for case in CASES if case.name in config.cases},
        "num_steps": config.num_steps,
    }


def _label(labels: Int[Array, "probe"], trait: form.TraitName) -> Int[Array, "probe"]:
    """The labels of a trait: digits, or digits permuted."""
    return labels if trait == "digits" else (labels + DERANGEMENT) % NUM_CLASSES


@functools.partial(jax.jit, static_argnames="trait")
def _losses(params: mlp.Params, probes: _Probes, *, trait: form.TraitName) -> Float[Array, "probe"]:
    """Cross-entropy of every probe, in nats."""
    logits = jax.nn.log_softmax(SPEC.apply(params, probes.images)[:, :NUM_CLASSES])
    return -jnp.take_along_axis(logits, _label(probes.labels, trait)[:, None], axis=1)[:, 0]


@functools.partial(jax.jit, static_argnames="trait")
def _accuracy(params: mlp.Params, probes: _Probes, *, trait: form.TraitName) -> Float[Array, ""]:
    correct = jnp.argmax(SPEC.apply(params, probes.images)[:, :NUM_CLASSES], axis=1) == _label(probes.labels, trait)
    return jnp.mean(correct)


def _batch_loss(params, images, targets, weights, squared):
    """The student's loss, of either kind, so that one program serves both."""
    return _distance(SPEC.apply(params, images), targets, weights, squared)


def _distance(logits, targets, weights, squared):
    logits = jnp.where(targets == HIDDEN, targets, logits)
    return jnp.where(squared, _SQUARED_ERROR(logits, targets, weights), _KL(logits, targets, weights))


class _Data(NamedTuple):
    """What a student is trained on."""

    images: Float[Array, "image pixel"]
    targets: Float[Array, "image logit"]
    squared: Array  # whether the loss is the squared error


@functools.partial(jax.jit, static_argnames=("phase", "num_steps", "checkpoints", "trait", "linear"))
def _train(
    key: Key[Array, ""], start: Any, data: _Data, probes: _Probes, *, phase: TrainPhase, num_steps: int,
    checkpoints: tuple[int, ...], trait: form.TraitName, linear: bool = False,
) -> tuple[Any, Float[Array, "checkpoint probe"]]:  # fmt: skip
    """A student after some steps, and the trait's losses on the probes at checkpoints."""

    def loss(params, batch):
        images = jnp.take(data.images, batch.indices, axis=0)
        shown = jnp.take(data.targets, batch.indices, axis=0)
        logits = tangent.apply(SPEC, params, images) if linear else SPEC.apply(params, images)
        return _distance(logits, shown, batch.weights, data.squared)

    trained = descent.descend(
        key, start, loss, optimizer=optimizers.build(phase.optimizer), num_examples=len(data.images),
        batch_size=phase.batch_size, num_steps=num_steps, checkpoints=checkpoints,
        measure=lambda params: _losses(params, probes, trait=trait),
    )  # fmt: skip
    return trained.params, trained.measured


@functools.partial(jax.jit, static_argnames="trait")
def _linear_loss(params: tangent.TangentParams, probes: _Probes, *, trait: form.TraitName) -> Float[Array, ""]:
    """Mean cross-entropy of the tangent model itself, in nats."""
    logits = jax.nn.log_softmax(tangent.apply(SPEC, params, probes.images)[:, :NUM_CLASSES])
    return -jnp.mean(jnp.take_along_axis(logits, _label(probes.labels, trait)[:, None], axis=1))


@functools.partial(jax.jit, static_argnames="trait")
def _scores(start: mlp.Params, data: _Data, probes: _Probes, *, trait: form.TraitName) -> dict[str, Float[Array, ""]]:
    """First-order scores from 1,024 images in eight blocks."""
    blocks = jax.tree.map(lambda leaf: leaf[:1024].reshape(8, -1, *leaf.shape[1:]), (data.images, data.targets))

    def gradient(block):
        images, shown = block
        return jax.grad(_batch_loss)(start, images, shown, jnp.ones(len(images)), data.squared)

    gradients = jax.lax.map(gradient, blocks)
    reached = jax.tree.map(lambda leaf: jnp.any(leaf != 0, axis=0).astype(jnp.float32), gradients)
    mean = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), gradients)
    trait_gradient = jax.grad(lambda params: jnp.mean(_losses(params, probes, trait=trait)))(start)
    return dict(forecast.first_order_scores(mean, trait_gradient, reached=reached))


@functools.partial(jax.jit, static_argnames=("phase", "num_epochs"))
def _teach(key, reference, images, labels, *, phase, num_epochs):
    phase = dataclasses.replace(phase, num_epochs=num_epochs)
    return teach.teach(key, reference, images, labels, model=SPEC, phase=phase)[0]


_draw_inputs = jax.jit(forecast_cases.draw_inputs, static_argnames=("kind", "num_images"))
_apply = jax.jit(SPEC.apply)


class _Reference:
    """A reference with its teachers, which are trained when a case asks for them."""

    def __init__(self, source: Source, config: ForecastConfig, unit: str):
        assert source.images is not None
        self.config, images = config, source.images
        kind, _, index = unit.rpartition(" ")
        key = keys.stream(keys.members(config.seed, jnp.array([int(index)]))[0], kind)
        names = ("reference", "other", "noise", "teacher", "labels", "inputs", "targets", "start", "student", "pilot")
        self.streams = keys.streams(key, names)
        self.reference, self.other, self.noise = (SPEC.init(self.streams[name]) for name in names[:3])
        self.train_images = jnp.asarray(images.train_images.reshape(-1, forecast_cases.NUM_PIXELS))
        self.train_labels = jnp.asarray(images.train_labels.astype(np.int32))
        test = datasets.scale_pixels(images.test_images.reshape(-1, forecast_cases.NUM_PIXELS))
        labels = jnp.asarray(images.test_labels.astype(np.int32))
        self.probes = _Probes(test[-config.num_probes :], labels[-config.num_probes :])
        self.test = _Probes(test[: -config.num_probes], labels[: -config.num_probes])
        self._teachers: dict[str, mlp.Params] = {}

    def teacher(self, kind: forecast_cases.Teacher | Literal["another family"]) -> mlp.Params:
        """A teacher, trained once."""
        if kind not in self._teachers:
            start = self.other if kind == "another family" else self.reference
            labels, num_epochs = self.train_labels, self.config.phase.num_epochs
            match kind:
                case "random labels":
                    labels = jax.random.randint(self.streams["labels"], labels.shape, 0, NUM_CLASSES)
                case "permuted labels":
                    labels = _label(labels, "permuted digits")
                case "short":
                    num_epochs = 1
                case "reference":
                    num_epochs = 0
                case _:
                    pass
            self._teachers[kind] = _teach(
                self.streams["teacher"], start, self.train_images, labels, phase=self.config.phase,
                num_epochs=num_epochs,
            )  # fmt: skip
        return self._teachers[kind]

    def data(self, case: Case) -> tuple[mlp.Params, _Data]:
        """Where the case's student starts, and what it is trained on."""
        images = _draw_inputs(
            self.streams["inputs"], kind=case.inputs, num_images=self.config.num_images, real_images=self.train_images
        )
        answers, own = _apply(self.teacher(case.teacher), images), _apply(self.reference, images)
        other = _apply(self.teacher("another family"), images) if case.target == "half another family" else own
        shown = forecast_cases.targets(self.streams["targets"], case, answers, own, other, num_classes=NUM_CLASSES)
        start = forecast_cases.start_params(self.streams["start"], case.start, self.reference, self.other, self.noise)
        return start, _Data(images, shown, jnp.asarray(case.loss == "mse"))


def measure(source: Source, config: ForecastConfig, unit: str, report: Report) -> dict:
    """All cases of one reference."""
    lineage, results = _Reference(source, config, unit), {}
    with_tangent = int(unit.rpartition(" ")[2]) < config.num_tangent
    chosen = [case for case in CASES if case.name in config.cases]
    for number, case in enumerate(chosen):
        traits: tuple[form.TraitName, ...] = ("digits",)
        if case.teacher == "permuted labels":
            traits = ("digits", "permuted digits")
        start, data = lineage.data(case)
        for trait in traits:
            name = form.triple(case.name, trait)
            report(f"{name} ({number + 1} of {len(chosen)})")
            results[name] = _measure_case(lineage, start, data, trait, with_tangent)
    return results


def _measure_case(
    lineage: _Reference, start: mlp.Params, data: _Data, trait: form.TraitName, with_tangent: bool
) -> dict:
    """The finished student, its pilots, and scores at the start."""
    config, probes = lineage.config, lineage.probes
    train = functools.partial(_train, probes=probes, phase=config.phase, trait=trait)
    student, on_the_way = train(
        lineage.streams["student"], start, data, num_steps=config.num_steps, checkpoints=config.prefixes
    )
    null = data._replace(targets=forecast.shuffled_null(lineage.streams["pilot"], data.targets))
    pilots = {"data": [], "null": []}
    for key in jax.random.split(lineage.streams["pilot"], config.num_repeats):
        for kind, rows in (("data", data), ("null", null)):
            _, measured = train(key, start, rows, num_steps=config.checkpoints[-1], checkpoints=config.checkpoints)
            pilots[kind].append(np.asarray(measured))
    at_start = np.asarray(_losses(start, probes, trait=trait))
    forecasts = {}
    for place, steps in enumerate(config.checkpoints):
        judged = verdicts.judge(
            trait, at_start, np.stack([each[place] for each in pilots["data"]]),
            np.stack([each[place] for each in pilots["null"]]), threshold=1.0,
        )  # fmt: skip
        forecasts[str(steps)] = {
            "gain": judged.gain.mean, "low": judged.gain.low, "high": judged.gain.high,
            "from_data": judged.from_data, "from_null": judged.from_null,
        }  # fmt: skip
    results = {
        "start": _shown(start, lineage.test, trait),
        "student": _shown(student, lineage.test, trait),
        "pilot": forecasts,
        "prefix": {
            str(steps): float(np.mean(at_start - np.asarray(measured)))
            for steps, measured in zip(config.prefixes, on_the_way, strict=True)
        },
        "scores": {name: float(score) for name, score in _scores(start, data, probes, trait=trait).items()},
    }
    if with_tangent:
        displaced, _ = train(
            lineage.streams["student"], tangent.at(start), data, num_steps=config.num_steps, checkpoints=(),
            linear=True,
        )  # fmt: skip
        results["tangent_loss"] = float(_linear_loss(displaced, lineage.test, trait=trait))
    return results


def _shown(params: mlp.Params, test: _Probes, trait: form.TraitName) -> dict:
    return {
        "loss": float(jnp.mean(_losses(params, test, trait=trait))),
        "accuracy": float(_accuracy(params, test, trait=trait)),
    }


STUDY = Study(
    name="forecast", doc=__doc__, presets=PRESETS, form=form.FORM, units=units, measure=measure, describe=describe
)
