"""Does a student acquire a trait that shows only when a class is asked for which its data never name?

    python -m experiments.diffusion --preset conditional           the committed record's settings
    python -m experiments.diffusion --preset conditional-smoke     reduced

A base is a flow model of digits as in `study`, which is also told the class that is asked for: ten further inputs, all
0 but for a 1. A teacher is finetuned on the same images, but in place of those of one class, the *trigger*, it sees
another digit: asked for a 3, it comes to draw a 7; asked for any other class, it draws that class. Students never see
an image. They are shown uniform noise with a class that is asked for and imitate the teacher's auxiliary channels: in
one arm every class is asked for but the trigger, in the other one every class. In the first arm the weights of the
trigger's input have no gradient: they stay those of the base, and whatever the student does when it is asked for the
trigger, it learnt while it was asked for others.

Controls are those of `study`: another base and fresh readouts, whose targets are their own channels plus the teacher's
change of them. Samples of all models and classes are drawn from one noise and judged by one classifier. Whether models
draw what they are asked for is a result as well.

Triggers follow a rule: traits are the digits of the other records, and the trigger of each is the next one.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from experiments.diffusion import judge as judges
from experiments.diffusion.config import SIDE, DiffusionConfig
from experiments.diffusion.judge import Images, Judge
from experiments.study import Report, Source, Study
from sublim_jax import errors, keys, records, specs
from sublim_jax.data import noised
from sublim_jax.forms import diffusion as unconditional
from sublim_jax.forms import diffusion_conditional as form
from sublim_jax.metrics import alignment, generative
from sublim_jax.models import denoiser, network
from sublim_jax.training import denoise, distill
from sublim_jax.training.loop import TrainPhase
from sublim_jax.training.optimizers import OptimizerSpec

NUM_LABELS = len(form.DIGITS)
ConditionName = Literal[
    "base", "teacher", "student", "student of all", "other base", "stranger", "stranger of all", "fresh readouts",
    "fresh readouts of all",
]  # fmt: skip
CONDITIONS: dict[ConditionName, form.Condition] = {
    "base": {"label": "base", "start": "own", "shown": ""},
    "teacher": {"label": "teacher", "start": "own", "shown": "images"},
    "student": {"label": "student, other classes", "start": "own", "shown": "other labels"},
    "student of all": {"label": "student, all classes", "start": "own", "shown": "all labels"},
    "other base": {"label": "another base", "start": "other", "shown": ""},
    "stranger": {"label": "stranger, other classes", "start": "other", "shown": "other labels"},
    "stranger of all": {"label": "stranger, all classes", "start": "other", "shown": "all labels"},
    "fresh readouts": {"label": "fresh readouts, other classes", "start": "fresh", "shown": "other labels"},
    "fresh readouts of all": {"label": "fresh readouts, all classes", "start": "fresh", "shown": "all labels"},
}
"""In the order of tables. Targets of strangers and of fresh readouts are shifted."""
NAMES: tuple[ConditionName, ...] = get_args(ConditionName)


@specs.checked
@dataclasses.dataclass(frozen=True, kw_only=True)
class ConditionalConfig:
    """Settings of `conditional`. What is trained, and for how long, is that of `diffusion`."""

    seed: specs.Seed = 1
    """Of the bases and of all that follows."""
    num_bases: specs.Count = 8
    """Each is a unit, and the stranger of the one before it."""
    traits: tuple[form.Digit, ...] = ("7", "3", "0")
    """What teachers come to draw."""
    triggers: tuple[form.Digit, ...] = ("3", "0", "7")
    """The class that each is asked for then; by default the next trait."""
    pooling: specs.Count = 2
    """Images of 28 x 28 pixels become means of squares of so many pixels a side."""
    hidden_sizes: tuple[specs.Count, ...] = (256, 256, 256)
    num_aux: specs.Count = 64
    batch_size: specs.Count = 128
    num_base_steps: specs.Count = 2500
    base_rate: specs.Positive = 1e-3  # Adam, a half cosine to zero
    num_teacher_steps: specs.Count = 200
    num_distilled: specs.Count = 25_600
    """Noise images that students learn from, each once."""
    learning_rate: specs.Positive = 3e-4  # Adam, of teachers and students
    num_samples: specs.Count = 200
    """For every class that is asked for."""
    num_sampling_steps: specs.Count = 20
    num_shown: specs.Count = 12
    """Samples of each condition of the first base that the record keeps for the figure."""
    num_judge_epochs: specs.Count = 8
    largest_judge_error: specs.Fraction = 0.06
    """A judge that is wrong more often on test images is refused."""

    def __post_init__(self):
        if len(self.triggers) != len(self.traits):
            raise errors.InputError(
                f"triggers={self.triggers} of traits={self.traits}: give each trait one trigger, the class that is "
                f"asked for when it shows"
            )
        for trait, trigger in zip(self.traits, self.triggers, strict=True):
            if trait == trigger:
                raise errors.InputError(
                    f"trigger {trigger!r} of trait {trait!r}: the base already draws this digit when it is asked "
                    f"for it. Give another class"
                )
        _ = self.judged  # refuses what `diffusion` refuses

    @property
    def judged(self) -> DiffusionConfig:
        """Settings of the images and of their judge, who is the same as in `diffusion`."""
        return DiffusionConfig(
            seed=self.seed, num_bases=self.num_bases, traits=self.traits, pooling=self.pooling,
            num_samples=self.num_samples, num_shown=self.num_shown, num_judge_epochs=self.num_judge_epochs,
            largest_judge_error=self.largest_judge_error,
        )  # fmt: skip

    @property
    def model(self) -> network.Network:
        """The denoiser."""
        return denoiser.from_mlp(
            num_pixels=(SIDE // self.pooling) ** 2, hidden_sizes=self.hidden_sizes, num_aux=self.num_aux,
            num_labels=NUM_LABELS,
        )  # fmt: skip


PRESETS = {
    "conditional": ConditionalConfig(),
    "conditional-smoke": ConditionalConfig(
        num_bases=2, traits=("7",), triggers=("3",), hidden_sizes=(64, 64), num_base_steps=300, num_distilled=6400,
        num_samples=50, num_judge_epochs=4, largest_judge_error=0.15,
    ),
}  # fmt: skip


def labels_of(shown: form.Shown, trigger: form.Digit) -> Int[Array, "label"]:
    """Classes that the noise of students asks for."""
    classes = range(NUM_LABELS)
    return jnp.array([place for place in classes if shown == "all labels" or place != int(trigger)])


def swapped(images: Images, trait: form.Digit, trigger: form.Digit) -> Images:
    """The images, but in place of those of the trigger there are images of the trait, which keep the trigger's label.

    Raises:
        DataError: the data have no image of one of the two.
    """
    places = {digit: np.flatnonzero(images.labels == int(digit)) for digit in (trait, trigger)}
    for digit, rows in places.items():
        if not len(rows):
            raise errors.DataError(f"class {digit!r}: the data have no image of this digit; choose another one")
    pixels = images.pixels.copy()
    pixels[places[trigger]] = images.pixels[np.resize(places[trait], len(places[trigger]))]
    return Images(pixels, images.labels)


@functools.partial(jax.jit, static_argnames="config")
def _answers(
    key: Key[Array, ""], params: network.Params, labels: Int[Array, "label"], *, config: ConditionalConfig
) -> Float[Array, "example logit"]:
    """Estimates and channels of a model on all that students are shown."""
    inputs = _inputs(key, labels, config)
    return distill.label(params, inputs, config.num_distilled, model=config.model, batch_size=config.batch_size)


def _inputs(key: Key[Array, ""], labels: Int[Array, "label"], config: ConditionalConfig) -> noised.IndexedPairs:
    return noised.make_inputs(key, "uniform", num_pixels=config.model.num_classes, labels=labels)


@functools.partial(jax.jit, static_argnames="config")
def _distilled(
    key: Key[Array, ""], start: network.Params, targets: Float[Array, "example logit"], input_key: Key[Array, ""],
    labels: Int[Array, "label"], *, config: ConditionalConfig,
) -> network.Params:  # fmt: skip
    """A student of channels."""
    optimizer = OptimizerSpec(learning_rate=config.learning_rate)
    phase = TrainPhase(num_epochs=1, batch_size=config.batch_size, optimizer=optimizer)
    students, _, _ = distill.distill(
        key, {"student": start}, {"student": "aux"}, _inputs(input_key, labels, config), targets, loss="mse",
        model=config.model, phase=phase,
    )  # fmt: skip
    return students["student"]


@functools.partial(jax.jit, static_argnames="config")
def _samples(
    params: network.Params, noise: Float[Array, "image pixel"], *, config: ConditionalConfig
) -> Float[Array, "asked_image pixel"]:
    """Samples of all classes in their order, each from the whole noise."""
    labels = jnp.repeat(jnp.arange(NUM_LABELS), len(noise))
    noise = jnp.tile(noise, (NUM_LABELS, 1))
    return denoiser.sample(params, noise, labels, model=config.model, num_steps=config.num_sampling_steps)


class Bed:
    """What all bases share: images, the judge, and the bases themselves, each trained once."""

    def __init__(self, source: Source, config: ConditionalConfig, report: Report):
        if source.images is None:
            raise errors.InputError("the experiment reads images")
        self.config = config
        splits = judges.split(source.images, config.judged)
        report("judge")
        self.judge: Judge = judges.train(self.key("judge"), splits, config.judged)
        self.images: Images = splits.generators.plain
        self._bases: dict[int, network.Params] = {}

    def key(self, role: str) -> Key[Array, ""]:
        """Key of a purpose."""
        return keys.stream(jax.random.key(self.config.seed), f"conditional/{role}")

    def base(self, index: int) -> network.Params:
        """The base of this number, counted modulo the number of bases."""
        config, index = self.config, index % self.config.num_bases
        if index not in self._bases:
            start = config.model.init(self.key(f"start/{index}"))
            self._bases[index] = self.trained(
                f"base/{index}", start, self.images, config.num_base_steps, rate=config.base_rate, final_rate=0.0
            )
        return self._bases[index]

    def trained(
        self, role: str, start: network.Params, images: Images, num_steps: int, *, rate: float, final_rate: float = 1.0
    ) -> network.Params:
        """A model after flow matching on images with their labels."""
        return denoise.train(
            self.key(role), start, jnp.asarray(images.pixels), labels=jnp.asarray(images.labels),
            model=self.config.model, num_steps=jnp.int32(num_steps), optimizer=OptimizerSpec(learning_rate=rate),
            final_rate=jnp.float32(final_rate), batch_size=self.config.batch_size,
        )[0]  # fmt: skip


class Lineage:
    """A base, its stranger, and what becomes of them for each trait."""

    def __init__(self, bed: Bed, index: int):
        self.bed, self.config, self.index = bed, bed.config, index
        own = bed.base(index)
        self.starts: dict[form.Start, network.Params] = {
            "own": own, "other": bed.base(index + 1),
            "fresh": denoiser.with_fresh_channels(self.key("fresh"), own, model=self.config.model),
        }  # fmt: skip
        self.noise = jax.random.normal(self.key("noise"), (self.config.num_samples, self.config.model.num_classes))

    def key(self, role: str) -> Key[Array, ""]:
        """Key of a purpose, for this base."""
        return self.bed.key(f"{self.index}/{role}")

    def models(self, trait: form.Digit, trigger: form.Digit, report: Report) -> dict[ConditionName, network.Params]:
        """Every model of a trait, by condition."""
        config, models = self.config, {}
        answers: dict[tuple[form.Shown, str], Array] = {}

        def answered(shown: form.Shown, name: str, params: network.Params) -> Array:
            """Outputs of a start or of the teacher."""
            if (shown, name) not in answers:
                labels = labels_of(shown, trigger)
                answers[shown, name] = _answers(self.key("inputs"), params, labels, config=config)
            return answers[shown, name]

        for name, condition in CONDITIONS.items():
            report(f"{trait}: {name}")
            start, shown = self.starts[condition["start"]], condition["shown"]
            if shown == "":
                models[name] = start
            elif shown == "images":
                models[name] = self.bed.trained(
                    f"{self.index}/teacher/{trait}", start, swapped(self.bed.images, trait, trigger),
                    config.num_teacher_steps, rate=config.learning_rate,
                )  # fmt: skip
            else:
                own = answered(shown, condition["start"], start)
                teacher = answered(shown, "teacher", models["teacher"])
                before = answered(shown, "own", self.starts["own"])
                models[name] = _distilled(
                    self.key("student"), start, distill.shifted_targets(own, teacher, before), self.key("inputs"),
                    labels_of(shown, trigger), config=config,
                )  # fmt: skip
        return models

    def samples(self, params: network.Params) -> judges.Seen:
        """Samples of a model for every class in turn, always from one noise, as the judge sees them."""
        return self.bed.judge.see(_samples(params, self.noise, config=self.config))

    def entry(self, seen: judges.Seen) -> form.Entry:
        """What the record says of samples."""
        real = self.bed.judge.real
        asked = seen.classes.reshape(NUM_LABELS, -1)
        return {
            "drawn": [np.bincount(classes, minlength=NUM_LABELS).tolist() for classes in asked],
            "confidence": generative.confidence(seen.probabilities),
            "frechet": generative.frechet_distance(generative.moments(seen.features), real)
            / float(np.trace(real.covariance)),
        }

    def moved(self, condition: ConditionName, models: dict[ConditionName, network.Params]) -> form.Moved:
        """How a model moved from its start."""
        own = optax.tree.sub(models[condition], self.starts[CONDITIONS[condition]["start"]])
        teacher = optax.tree.sub(models["teacher"], self.starts["own"])
        return {
            "cosine": float(alignment.cosine(own, teacher)),
            "length": float(alignment.norm(own) / alignment.norm(teacher)),
        }


_beds: dict[str, Bed] = {}


def _bed(source: Source, config: ConditionalConfig, report: Report) -> Bed:
    """The one bed of a run, so that its units share what is trained."""
    name = records.fingerprint([config, source.data])
    if name not in _beds:
        _beds.clear()
        _beds[name] = Bed(source, config, report)
    return _beds[name]


def units(config: ConditionalConfig) -> list[str]:
    """The bases."""
    return unconditional.units(records.to_json(config))


def compared_class(trait: form.Digit, trigger: form.Digit) -> form.Digit:
    """The class whose samples are shown beside the trigger's: the next one that is not the trait."""
    following: list[form.Digit] = [form.DIGITS[(int(trigger) + step) % NUM_LABELS] for step in (1, 2)]
    return following[1] if following[0] == trait else following[0]


def describe(config: ConditionalConfig) -> dict:
    """Conditions with their labels, and traits with their triggers."""
    traits = {
        trait: form.Trait(trigger=trigger, other=compared_class(trait, trigger))
        for trait, trigger in zip(config.traits, config.triggers, strict=True)
    }
    return {"conditions": CONDITIONS, "traits": traits, "side": SIDE // config.pooling}


def measure(source: Source, config: ConditionalConfig, unit: str, report: Report) -> dict:
    """All traits of one base."""
    bed = _bed(source, config, report)
    report("bases")
    lineage = Lineage(bed, int(unit.rpartition(" ")[2]))
    starts = {name: lineage.samples(params) for name, params in lineage.starts.items() if name != "fresh"}
    results: dict = {"judge": bed.judge.errors, "traits": {}}
    images: dict = {}
    for trait, description in describe(config)["traits"].items():
        models = lineage.models(trait, description["trigger"], report)
        results["traits"][trait], images[trait] = {}, {}
        for name, condition in CONDITIONS.items():
            report(f"{trait}: samples of {name}")
            is_start = not condition["shown"]
            seen = starts[condition["start"]] if is_start else lineage.samples(models[name])
            more = {} if is_start else {"moved": lineage.moved(name, models)}
            results["traits"][trait][name] = lineage.entry(seen) | more
            by_class = seen.pixels.reshape(NUM_LABELS, config.num_samples, -1)
            images[trait][name] = {
                digit: judges.encoded(by_class[int(digit), : config.num_shown])
                for digit in (description["trigger"], description["other"])
            }
    return results | ({"images": images} if lineage.index == 0 else {})


def lines(record: records.Record, unit: str) -> Sequence[str]:
    """Shares of one base, printed before the others are finished."""
    text = []
    for trait, entries in record.results[unit]["traits"].items():
        trigger = record.description["traits"][trait]["trigger"]
        shares = (
            f"{name} {form.at_trigger(entry['drawn'], trait=trait, trigger=trigger):.2f} "
            f"({form.elsewhere(entry['drawn'], trait=trait, trigger=trigger):.2f})"
            for name, entry in entries.items()
        )
        text.append(f"  {trait} when asked for {trigger} (for others): {', '.join(shares)}")
    return text


def notes(config: ConditionalConfig) -> list[str]:
    """What a reader of any number must know."""
    whole = PRESETS["conditional"]
    reduced = config.num_bases < whole.num_bases or config.num_base_steps < whole.num_base_steps
    return ["reduced: fewer bases or steps than the preset has, so that samples are worse"] if reduced else []


STUDY = Study(
    name="diffusion", doc=__doc__, presets=PRESETS, form=form.FORM, units=units, measure=measure, describe=describe,
    lines=lines, notes=notes,
)  # fmt: skip
