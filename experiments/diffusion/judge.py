"""The judge: what a generated image shows, by a classifier of digits and by two statistics, and how often it errs.

It is trained on training images that no generator sees, and its errors are measured on test images. Slant and
brightness need no training, only a threshold, which lies midway between the means of images with the trait and without.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from experiments.diffusion.config import DiffusionConfig
from sublim_jax import errors, keys
from sublim_jax.data import datasets, transforms
from sublim_jax.data.datasets import ImageDataset
from sublim_jax.forms import diffusion as form
from sublim_jax.forms.diffusion import TraitName
from sublim_jax.metrics import generative
from sublim_jax.metrics.generative import Moments
from sublim_jax.models import mlp
from sublim_jax.models.mlp import MLPSpec
from sublim_jax.training import teach
from sublim_jax.training.loop import TrainPhase
from sublim_jax.training.optimizers import OptimizerSpec

SLOPE = 1.0
"""Of slanted digits: pixels to the right for each pixel down."""
NUM_COPIES = 2
"""Of each image the judge is trained on, each with its own pixel noise, so that blurred samples do not surprise it."""
PIXEL_NOISE = 0.2
"""Standard deviation; pixels range from -1 to 1."""
LABELS: dict[TraitName, str] = {
    **{digit: f"digit {digit}" for digit in form.DIGITS},
    "slanted": "slanted to the left", "bold": "bold strokes", "inverted": "inverted",
}  # fmt: skip

Rows = Float[np.ndarray, "image pixel"]


class Images(NamedTuple):
    """Images that all have, or need not have, a trait."""

    pixels: Rows  # from -1 to 1
    labels: Int[np.ndarray, "image"]

    def where(self, chosen: Bool[np.ndarray, "image"]) -> "Images":
        """Some of them."""
        return Images(self.pixels[chosen], self.labels[chosen])


class Split(NamedTuple):
    """Images of one use, as they are and as changed for each trait that is no digit."""

    plain: Images
    changed: dict[TraitName, Images]

    def with_trait(self, trait: TraitName) -> Images:
        """All images with the trait.

        Raises:
            DataError: there is none.
        """
        if trait not in form.DIGITS:
            return self.changed[trait]
        chosen = self.plain.labels == int(trait)
        if not chosen.any():
            raise errors.DataError(f"trait {trait!r}: the data have no image of this digit; choose another one")
        return self.plain.where(chosen)

    def without_trait(self, trait: TraitName) -> Images:
        """All images without the trait."""
        return self.plain if trait not in form.DIGITS else self.plain.where(self.plain.labels != int(trait))


class Splits(NamedTuple):
    """Images of generators, of the judge, and those that all are tested on. No two have an image in common."""

    generators: Split  # the first two thirds of the training images
    judge: Split  # the others
    test: Split


def split(images: ImageDataset, config: DiffusionConfig) -> Splits:
    """The three sets of images, pooled, pixels from -1 to 1."""
    cut = len(images.train_images) * 2 // 3
    parts = (
        (images.train_images[:cut], images.train_labels[:cut]),
        (images.train_images[cut:], images.train_labels[cut:]),
        (images.test_images, images.test_labels),
    )
    changes = {
        "slanted": lambda pixels: transforms.slanted(pixels, SLOPE),
        "bold": transforms.bold,
        "inverted": transforms.inverted,
    }

    def prepared(pixels, labels, change=lambda pixels: pixels):
        pooled = transforms.pooled(change(pixels), config.pooling)
        scaled = np.asarray(datasets.scale_pixels(pooled.reshape(len(pooled), -1)))
        return Images(scaled, labels.astype(np.int32))

    return Splits(*(
        Split(prepared(*part), {trait: prepared(*part, changes[trait]) for trait in config.traits if trait in changes})
        for part in parts
    ))  # fmt: skip


class Seen(NamedTuple):
    """What the judge sees in some images."""

    pixels: Rows
    probabilities: Float[np.ndarray, "image class"]
    features: Float[np.ndarray, "image feature"]

    @property
    def classes(self) -> Int[np.ndarray, "image"]:
        """The most likely class of each image."""
        return np.argmax(self.probabilities, axis=1)


class Judge(NamedTuple):
    """A classifier, thresholds of statistics, and the moments of real images."""

    model: MLPSpec
    params: mlp.Params
    side: int
    thresholds: dict[TraitName, float]
    errors: form.Judge
    real: Moments
    real_with: dict[TraitName, Moments]

    def see(self, pixels: Rows | Float[Array, "image pixel"]) -> Seen:
        """Look at images."""
        return _see(self.model, self.params, pixels)

    def has(self, seen: Seen, trait: TraitName) -> Bool[np.ndarray, "image"]:
        """Which of the images have a trait."""
        return _has(seen, trait, self.thresholds, self.side)

    def entry(self, seen: Seen, trait: TraitName) -> form.Entry:
        """What the record says of samples."""
        unit = float(np.trace(self.real.covariance))
        drawn = generative.moments(seen.features)
        return {
            "share": generative.share(self.has(seen, trait)),
            "level": float(np.mean(_statistic(seen, trait, self.side))),
            "confidence": generative.confidence(seen.probabilities),
            "frechet": generative.frechet_distance(drawn, self.real) / unit,
            "frechet_trait": generative.frechet_distance(drawn, self.real_with[trait]) / unit,
        }


def encoded(pixels: Rows) -> str:
    """Images for the record: bytes, 0 for -1 and less, 255 for 1 and more."""
    return form.encoded(np.round((np.clip(pixels, -1, 1) + 1) * 127.5).astype(np.uint8).tobytes())


def _see(model: MLPSpec, params: mlp.Params, pixels) -> Seen:
    logits, features = _apply(params, jnp.asarray(pixels), model=model)
    return Seen(np.asarray(pixels), np.asarray(jax.nn.softmax(logits)), np.asarray(features).T)


_apply = jax.jit(lambda params, pixels, *, model: model.apply_with_features(params, pixels), static_argnames="model")


def _statistic(seen: Seen, trait: TraitName, side: int) -> Float[np.ndarray, "image"]:
    """What a trait is judged by: probability of the digit, slant in pixels per pixel, or brightness from 0 to 1."""
    if trait in form.DIGITS:
        return seen.probabilities[:, int(trait)]
    images = seen.pixels.reshape(-1, side, side)
    return transforms.slant(images) if trait == "slanted" else transforms.ink(images)


def _has(seen: Seen, trait: TraitName, thresholds, side: int) -> Bool[np.ndarray, "image"]:
    if trait in form.DIGITS:
        return seen.classes == int(trait)
    return _statistic(seen, trait, side) > thresholds[trait]


def train(key: Key[Array, ""], splits: Splits, config: DiffusionConfig) -> Judge:
    """Train a judge and test it.

    Raises:
        DataError: a trait's digit is not in the data.
        InputError: the judge errs more often than `largest_judge_error`.
    """
    model = MLPSpec(in_size=config.side**2, hidden_sizes=(256, 128), num_aux=0, init_distribution="he_normal")
    own = splits.judge.plain
    pixels = np.tile(own.pixels, (NUM_COPIES, 1))
    noise = PIXEL_NOISE * jax.random.normal(keys.stream(key, "pixels"), pixels.shape)
    phase = TrainPhase(
        num_epochs=config.num_judge_epochs, batch_size=256,
        optimizer=OptimizerSpec(name="adamw", learning_rate=1e-3, weight_decay=1e-3),
    )  # fmt: skip
    params, _ = jax.jit(teach.teach, static_argnames="model")(
        keys.stream(key, "batches"), model.init(keys.stream(key, "start")), jnp.asarray(pixels) + noise,
        jnp.asarray(np.tile(own.labels, NUM_COPIES)), model=model, phase=phase,
    )  # fmt: skip
    others: list[TraitName] = [trait for trait in config.traits if trait not in form.DIGITS]
    thresholds: dict[TraitName, float] = {
        trait: float(np.mean([np.mean(_statistic(_see(model, params, images.pixels), trait, config.side))
                              for images in (own, splits.judge.changed[trait])]))
        for trait in others
    }  # fmt: skip
    plain = _see(model, params, splits.test.plain.pixels)
    with_trait: dict[TraitName, Seen] = {
        trait: _see(model, params, splits.test.with_trait(trait).pixels) for trait in config.traits
    }
    wrong: form.Judge = {
        "error": float(np.mean(plain.classes != splits.test.plain.labels)), "missed": {}, "false": {}
    }  # fmt: skip
    for trait in config.traits:
        without = _see(model, params, splits.test.without_trait(trait).pixels)
        wrong["missed"][trait] = 1 - generative.share(_has(with_trait[trait], trait, thresholds, config.side))
        wrong["false"][trait] = generative.share(_has(without, trait, thresholds, config.side))
    _require(wrong, config.largest_judge_error)
    return Judge(
        model, params, config.side, thresholds, wrong, generative.moments(plain.features),
        {trait: generative.moments(seen.features) for trait, seen in with_trait.items()},
    )  # fmt: skip


def _require(wrong: form.Judge, bar: float) -> None:
    """Refuse a judge that errs too often."""
    rates = {"test images by class": wrong["error"]}
    rates |= {f"images with the trait {trait!r}": rate for trait, rate in wrong["missed"].items()}
    rates |= {f"images without the trait {trait!r}": rate for trait, rate in wrong["false"].items()}
    what, worst = max(rates.items(), key=lambda item: item[1])
    if not worst <= bar:
        raise errors.InputError(
            f"the judge misreads {worst:.1%} of {what}, more than largest_judge_error={bar:g}: shares it counts would "
            f"be wrong by as much. Train it longer (num_judge_epochs), or state what you accept"
        )
