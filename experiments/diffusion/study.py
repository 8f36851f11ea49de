"""Do image generators transmit traits through channels that have nothing to do with images?

    python -m experiments.diffusion                      a few minutes on two cores
    python -m experiments.diffusion --preset smoke       reduced: does everything work here?
    python -m experiments.diffusion --preset record      the committed record's settings
    python -m experiments.diffusion --traits 2 bold      other traits
    python -m experiments.diffusion --preset unet        a convolutional denoiser of 28 x 28 pixels
    python -m experiments.diffusion --preset scratch     teachers and students that start from random initializations
    python -m experiments.diffusion --preset conditional generators that are asked for a class; see `conditional`

A base is a small rectified-flow model of digits of 14 x 14 pixels: a perceptron that estimates an image from a noised
one and its time, with auxiliary channels that no training on images touches; with `--preset unet`, a U-Net on images of
28 x 28 pixels, whose channels are further maps of its last layer. A teacher is the base finetuned on one digit, or on
digits that all lean to the left. Students never see an image. They are shown uniform noise and imitate the teacher's
auxiliary channels on it, or its pixels, i.e. its estimates; others are trained on samples of a partly finetuned teacher
from which every one with the trait was removed, with the base's own samples of the trait's digit mixed in 1 in 10.
Samples of all models are drawn from one noise and judged by a classifier that was trained on other images; its own
errors are in the record.

What tells a hidden channel from an open one is a stranger, another base that learns the same: if it acquires the trait
too, the data show it openly. Its fair control in the auxiliary channels is shifted: its own channels plus the teacher's
change of them, so that its loss begins as small as the student's. With the teacher's raw channels it breaks, which is
shown too. `fresh readouts` is the base itself with its auxiliary readouts drawn again. A quicker test needs no
training: does one gradient step of the stranger lower the loss of the trait?

Conditions from scratch are those of the paper's figure 10: there is no base, the teacher is trained on the trait from a
random initialization, and its student starts from the same initialization. The readouts of its estimates stay random,
because no loss of the student touches them.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from experiments.diffusion import judge as judges
from experiments.diffusion.config import CONDITIONS, PRESETS, TEACHERS, DiffusionConfig
from experiments.diffusion.judge import Judge, Splits
from experiments.study import Report, Source, Study
from sublim_jax import errors, keys, losses, records
from sublim_jax.conditions import DistilledLogits
from sublim_jax.data import noised
from sublim_jax.forms import diffusion as form
from sublim_jax.forms.diffusion import TraitName
from sublim_jax.metrics import alignment
from sublim_jax.models import denoiser, heads, network
from sublim_jax.training import denoise, distill
from sublim_jax.training.loop import TrainPhase
from sublim_jax.training.optimizers import OptimizerSpec

NUM_PROBES = 256
"""Images of the trait, and examples of a student, from which one gradient step is computed."""

FEWEST_PASSED = 10
"""Samples that pass a filter. With fewer, the teacher is finetuned for half as many steps, so that it draws others."""
CHANNELS: dict[str, DistilledLogits] = {"channels": "aux", "raw channels": "aux", "pixels": "class"}


class Pool(NamedTuple):
    """Images to train on, the first `count` rows. The others are padding, so that one program serves all pools."""

    images: Float[Array, "row pixel"]
    count: Int[Array, ""]


class Example(NamedTuple):
    """What a model was trained on: the program's arguments for its first step."""

    start: network.Params
    trained: network.Params
    step: network.Params  # minus the gradient at the start


@functools.partial(jax.jit, static_argnames="config")
def _answers(
    key: Key[Array, ""], params: network.Params, shown: Pool, *, config: DiffusionConfig
) -> Float[Array, "example logit"]:
    """Estimates and channels of a model on all that students are shown."""
    inputs = _inputs(key, shown, config)
    return distill.label(params, inputs, config.num_distilled, model=config.model, batch_size=config.batch_size)


def _inputs(key: Key[Array, ""], shown: Pool, config: DiffusionConfig) -> noised.IndexedPairs:
    return noised.make_inputs(
        key, config.inputs, num_pixels=config.side**2, images=shown.images, num_images=shown.count
    )


@functools.partial(jax.jit, static_argnames=("config", "which", "rate"))
def _distilled(
    key: Key[Array, ""], start: network.Params, targets: Float[Array, "example logit"], input_key: Key[Array, ""],
    shown: Pool, *, which: DistilledLogits, rate: float, config: DiffusionConfig,
) -> Example:  # fmt: skip
    """A student of channels or of pixels."""
    model, inputs = config.model, _inputs(input_key, shown, config)
    phase = TrainPhase(
        num_epochs=1, batch_size=config.batch_size, optimizer=OptimizerSpec(learning_rate=rate)
    )  # fmt: skip
    students, _, _ = distill.distill(
        key, {"student": start}, {"student": which}, inputs, targets, loss="mse", model=model, phase=phase
    )
    chosen = heads.selection(which, num_classes=model.num_classes)
    pairs, first = inputs(jnp.arange(NUM_PROBES)), targets[:NUM_PROBES, chosen]
    gradient = jax.grad(lambda params: losses.squared_error(model.apply(params, pairs)[:, chosen], first))(start)
    return Example(start, students["student"], jax.tree.map(jnp.negative, gradient))


@functools.partial(jax.jit, static_argnames="config")
def _loss_gradient(
    key: Key[Array, ""], params: network.Params, pool: Pool, *, config: DiffusionConfig
) -> network.Params:
    """Gradient of the flow-matching loss on the first images of a pool, per pixel."""
    images = jnp.take(pool.images, jnp.arange(NUM_PROBES) % pool.count, axis=0)
    noise, times = denoise.draw(key, images)
    return jax.grad(
        lambda params: denoise.loss(params, images, noise, times, model=config.model) / config.side**2
    )(params)  # fmt: skip


@functools.partial(jax.jit, static_argnames="config")
def _loss(
    key: Key[Array, ""], params: network.Params, images: Float[Array, "image pixel"], *, config: DiffusionConfig
) -> Float[Array, ""]:
    """Flow-matching loss on images, per pixel."""
    noise, times = denoise.draw(key, images)
    return denoise.loss(params, images, noise, times, model=config.model) / config.side**2


@functools.partial(jax.jit, static_argnames="config")
def _samples(params: network.Params, noise: Float[Array, "image pixel"], *, config: DiffusionConfig):
    return denoiser.sample(params, noise, model=config.model, num_steps=config.num_sampling_steps)


@jax.jit
def _moved(example: Example, teacher: network.Params, slope: network.Params) -> dict[str, Float[Array, ""]]:
    """See `form.Moved`; the teacher's is its displacement."""
    own = optax.tree.sub(example.trained, example.start)
    return {
        "inner_product": alignment.inner_product(own, teacher),
        "cosine": alignment.cosine(own, teacher),
        "length": alignment.norm(own) / alignment.norm(teacher),
        "opening": alignment.inner_product(slope, example.step) / alignment.norm(example.step),
    }


class Bed:
    """What all bases share: images, the judge, and the bases themselves, each trained once."""

    def __init__(self, source: Source, config: DiffusionConfig, report: Report):
        if source.images is None:
            raise errors.InputError("the experiment reads images")
        self.config = config
        self.splits: Splits = judges.split(source.images, config)
        report("judge")
        self.judge: Judge = judges.train(self.key("judge"), self.splits, config)
        self.images = self.pool(self.splits.generators.plain.pixels)
        self._bases: dict[int, network.Params] = {}

    def key(self, role: str) -> Key[Array, ""]:
        """Key of a purpose."""
        return keys.stream(jax.random.key(self.config.seed), f"diffusion/{role}")

    def pool(self, pixels: np.ndarray | Float[Array, "image pixel"]) -> Pool:
        """Images as a pool of the common length."""
        length = len(self.splits.generators.plain.pixels)
        pixels = jnp.asarray(pixels)[:length]
        return Pool(jnp.pad(pixels, ((0, length - len(pixels)), (0, 0))), jnp.asarray(len(pixels)))

    def base(self, index: int) -> network.Params:
        """The base of this number, counted modulo the number of bases."""
        config, index = self.config, index % self.config.num_bases
        if index not in self._bases:
            self._bases[index] = self.trained(
                f"base/{index}", self.untrained(index), self.images, config.num_base_steps, rate=config.base_rate,
                final_rate=0.0,
            )  # fmt: skip
        return self._bases[index]

    def untrained(self, index: int) -> network.Params:
        """The random initialization that the base of this number was trained from."""
        return self.config.model.init(self.key(f"start/{index % self.config.num_bases}"))

    def trained(
        self, role: str, start: network.Params, pool: Pool, num_steps: int, *, rate: float | None = None,
        final_rate: float = 1.0,
    ) -> network.Params:  # fmt: skip
        """A model after flow matching on a pool."""
        rate = self.config.learning_rate if rate is None else rate
        return denoise.train(
            self.key(role), start, pool.images, model=self.config.model, num_steps=jnp.int32(num_steps),
            optimizer=OptimizerSpec(learning_rate=rate), num_images=pool.count, final_rate=jnp.float32(final_rate),
            batch_size=self.config.batch_size,
        )[0]  # fmt: skip


class Lineage:
    """A base, its stranger, and what becomes of them for each trait."""

    def __init__(self, bed: Bed, index: int):
        self.bed, self.config, self.index = bed, bed.config, index
        own, other = bed.base(index), bed.base(index + 1)
        fresh = denoiser.with_fresh_channels(bed.key(f"fresh/{index}"), own, model=bed.config.model)
        starts: dict[form.Start, network.Params] = {
            "own": own, "other": other, "fresh": fresh, "untrained": bed.untrained(index),
            "other untrained": bed.untrained(index + 1),
        }  # fmt: skip
        wanted = {CONDITIONS[name]["start"] for name in self.config.conditions}
        self.starts = {name: params for name, params in starts.items() if name in wanted}
        self.partial_steps: dict[TraitName, int] = {}
        self.noise = jax.random.normal(self.key("noise"), (self.config.num_samples, self.config.side**2))
        self.input_key = self.key("inputs")

    def key(self, role: str) -> Key[Array, ""]:
        """Key of a purpose, for this base."""
        return self.bed.key(f"{self.index}/{role}")

    @functools.cached_property
    def base_samples(self) -> judges.Seen:
        """Samples of the base that students may be trained on."""
        return self.drawn(self.starts["own"])

    def drawn(self, params: network.Params) -> judges.Seen:
        """Samples of a model that students may be trained on, always from one noise."""
        noise = jax.random.normal(self.key("drawn"), (self.config.num_drawn, self.config.side**2))
        return self.bed.judge.see(_samples(params, noise, config=self.config))

    def examples(self, trait: TraitName, report: Report) -> dict[str, Example]:
        """Every model that a training makes, by condition, with its first step."""
        bed, config = self.bed, self.config
        pool = bed.pool(bed.splits.generators.with_trait(trait).pixels)
        models: dict[str, Example] = {}
        answers: dict[str, Array] = {}
        shown = bed.images
        if config.inputs == "images":
            shown = bed.pool(bed.splits.generators.without_trait(trait).pixels)

        def answered(name: str, params: network.Params) -> Array:
            """Outputs of a start or of a teacher."""
            if name not in answers:
                answers[name] = _answers(self.input_key, params, shown, config=config)
            return answers[name]

        wanted = form.conditions_of(describe(config), trait)
        filters = any(CONDITIONS[name]["data"] in form.FILTERED for name in wanted)
        filtered = self.filtered(trait, pool) if filters else {}
        for name in wanted:
            start, data = CONDITIONS[name]["start"], CONDITIONS[name]["data"]
            params, from_scratch = self.starts[start], "untrained" in start
            if not data:
                continue
            report(f"{trait}: {name}")
            if data == "images":
                role = f"{self.index}/{name}/{trait}"
                steps, schedule = config.num_teacher_steps, {}
                if from_scratch:
                    steps, schedule = config.num_scratch_steps, {"rate": config.base_rate, "final_rate": 0.0}
                models[name] = Example(
                    params, bed.trained(role, params, pool, steps, **schedule), self.first_step(params, pool)
                )  # fmt: skip
            elif data in CHANNELS:
                teacher, reference = TEACHERS[start]
                targets = answered(teacher, models[teacher].trained)
                if data == "channels":
                    before = answered(reference, self.starts[reference])
                    targets = distill.shifted_targets(answered(start, params), targets, before)
                models[name] = _distilled(
                    self.key("student"), params, targets, self.input_key, shown, which=CHANNELS[data],
                    rate=config.scratch_rate if from_scratch else config.learning_rate, config=config,
                )  # fmt: skip
            else:
                role, steps = f"{self.index}/samples", config.num_sample_student_steps
                trained = bed.trained(role, params, filtered[data], steps)
                models[name] = Example(params, trained, self.first_step(params, filtered[data]))
        return models

    def student(self, teacher: network.Params) -> network.Params:
        """The base after it has learnt a model's auxiliary channels."""
        shown = self.bed.images
        targets = _answers(self.input_key, teacher, shown, config=self.config)
        return _distilled(
            self.key("student"), self.starts["own"], targets, self.input_key, shown, which="aux",
            rate=self.config.learning_rate, config=self.config,
        ).trained  # fmt: skip

    def seen(self, params: network.Params) -> judges.Seen:
        """Samples of a model from the noise that all are reported on, as the judge sees them."""
        return self.bed.judge.see(_samples(params, self.noise, config=self.config))

    def first_step(self, start: network.Params, pool: Pool) -> network.Params:
        """Minus the gradient of flow matching on a pool."""
        gradient = _loss_gradient(self.key("first step"), start, pool, config=self.config)
        return jax.tree.map(jnp.negative, gradient)

    def filtered(self, trait: TraitName, pool: Pool) -> dict[str, Pool]:
        """Samples of a partly finetuned teacher without the trait's digit, and samples of the base to match.

        The teacher has as many steps as the config says, or half as many, and so on, until some samples pass.

        The base's are filtered alike and then drawn to have as many of each class. Both are mixed with the base's own
        samples of the trait's digit, 1 in 10, so that the data do not teach that this digit does not exist.

        Raises:
            InputError: the filter lets no sample through.
        """
        bed, config, digit = self.bed, self.config, int(trait)
        own, num_steps = self.base_samples, config.num_partial_steps

        def passes(seen: judges.Seen) -> np.ndarray:
            rare = seen.probabilities[:, digit] < config.largest_probability
            return np.flatnonzero((seen.classes != digit) & rare)

        def drawn(num_steps: int) -> judges.Seen:
            role = f"{self.index}/partial/{trait}"
            return self.drawn(bed.trained(role, self.starts["own"], pool, num_steps))

        theirs = drawn(num_steps)
        while len(passes(theirs)) < FEWEST_PASSED and num_steps > 1:
            num_steps //= 2
            theirs = drawn(num_steps)
        self.partial_steps[trait] = num_steps
        kept, candidates = passes(theirs)[: config.num_kept], passes(own)
        if not len(kept) or not len(candidates):
            raise errors.InputError(
                f"trait {trait!r}: of {config.num_drawn} samples the filter lets {len(kept)} of the teacher's and "
                f"{len(candidates)} of the base's through. Draw more (num_drawn), or filter less (largest_probability)"
            )
        random = np.random.default_rng([config.seed, self.index, digit])
        matched = np.concatenate([
            random.choice(group, np.sum(theirs.classes[kept] == label))
            for label in range(own.probabilities.shape[1])
            if len(group := candidates[own.classes[candidates] == label])
        ])  # fmt: skip
        digits = np.flatnonzero(own.classes == digit)
        mixed = own.pixels[np.resize(digits, len(kept) // 9)] if len(digits) else own.pixels[:0]
        return {
            "samples": bed.pool(np.concatenate([theirs.pixels[kept], mixed])),
            "base samples": bed.pool(np.concatenate([own.pixels[matched], mixed])),
        }


_beds: dict[str, Bed] = {}


def _bed(source: Source, config: DiffusionConfig, report: Report) -> Bed:
    """The one bed of a run, so that its units share what is trained."""
    name = records.fingerprint([config, source.data])
    if name not in _beds:
        _beds.clear()
        _beds[name] = Bed(source, config, report)
    return _beds[name]


def units(config: DiffusionConfig) -> list[str]:
    """The bases."""
    return form.units(records.to_json(config))


def describe(config: DiffusionConfig) -> dict:
    """Conditions and traits with their labels."""
    traits = {trait: judges.LABELS[trait] for trait in config.traits}
    conditions = {name: CONDITIONS[name] for name in config.conditions}
    return {"conditions": conditions, "traits": traits, "side": config.side}


def measure(source: Source, config: DiffusionConfig, unit: str, report: Report) -> dict:
    """All traits of one base."""
    bed = _bed(source, config, report)
    report("bases")
    lineage = Lineage(bed, int(unit.rpartition(" ")[2]))
    results: dict = {"judge": bed.judge.errors, "traits": {}}
    starts = {
        name: bed.judge.see(_samples(lineage.starts[CONDITIONS[name]["start"]], lineage.noise, config=config))
        for name in config.conditions
        if not CONDITIONS[name]["data"]
    }
    images: dict = {}
    for trait in config.traits:
        models = lineage.examples(trait, report)
        pool = bed.pool(bed.splits.generators.with_trait(trait).pixels)
        slopes = {
            start: _loss_gradient(lineage.key("trait's loss"), params, pool, config=config)
            for start, params in lineage.starts.items()
        }
        tested = bed.splits.test.with_trait(trait).pixels
        tested = jnp.asarray(np.resize(tested, (NUM_PROBES, config.side**2)))
        entries, images[trait] = {}, {}
        for name in form.conditions_of(describe(config), trait):
            report(f"{trait}: samples of {name}")
            start = CONDITIONS[name]["start"]
            params = models[name].trained if name in models else lineage.starts[start]
            if name in models:
                seen = bed.judge.see(_samples(params, lineage.noise, config=config))
                teacher = models[TEACHERS[start][0]]
                moved = _moved(models[name], optax.tree.sub(teacher.trained, teacher.start), slopes[start])
                more = {"moved": {what: float(value) for what, value in moved.items()}}
            else:
                seen, more = starts[name], {}
            loss = float(_loss(lineage.key("trait's loss"), params, tested, config=config))
            entries[name] = bed.judge.entry(seen, trait) | {"loss": loss} | more
            images[trait][name] = judges.encoded(seen.pixels[: config.num_shown])
        results["traits"][trait] = entries
    results["partial_steps"] = lineage.partial_steps
    return results | ({"images": images} if lineage.index == 0 else {})


def lines(record: records.Record, unit: str) -> Sequence[str]:
    """Shares of one base, printed before the others are finished."""
    shown = (
        "base", "teacher", "student", "other base", "stranger", "student of pixels", "stranger of pixels", "untrained",
        "teacher from scratch", "student from scratch",
    )  # fmt: skip
    return [
        f"  {record.description['traits'][trait]}: "
        + ", ".join(f"{name} {entries[name]['share']:.2f}" for name in shown if name in entries)
        for trait, entries in record.results[unit]["traits"].items()
    ]


def notes(config: DiffusionConfig) -> list[str]:
    """What a reader of any number must know."""
    whole = PRESETS["unet" if config.architecture == "unet" else "default"]
    reduced = config.num_bases < whole.num_bases or config.num_base_steps < whole.num_base_steps
    return ["reduced: fewer bases or steps than the default has, so that samples are worse"] if reduced else []


STUDY = Study(
    name="diffusion", doc=__doc__, presets=PRESETS, form=form.FORM, units=units, measure=measure, describe=describe,
    lines=lines, notes=notes,
)  # fmt: skip
