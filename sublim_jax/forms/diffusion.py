"""What a record of the experiment `diffusion` holds: for every base and trait, what each model draws."""

import base64
from typing import Any, Literal, NotRequired, TypedDict, get_args

from sublim_jax import errors, records, specs

TraitName = Literal["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "slanted", "bold", "inverted"]
"""A digit, or a change of all digits: strokes that lean to the left, that are wider, or dark on bright ground."""
DIGITS: tuple[TraitName, ...] = get_args(TraitName)[:10]
Start = Literal["own", "other", "fresh", "untrained", "other untrained"]
"""Where a model's training began: at the teacher's own base, at another one, at the base with its auxiliary readouts
drawn again, or at the random initialization of the base or of the other one."""
FILTERED = ("samples", "base samples")
"""Data from which samples with the trait are removed."""
IMITATED = ("channels", "raw channels", "pixels")
"""Data that are a teacher's outputs on what students are shown."""

COMPARED = {
    "student": "base", "stranger": "other base", "fresh readouts": "base", "stranger, raw": "other base",
    "student of pixels": "base", "stranger of pixels": "other base", "student of samples": "student of base samples",
    "stranger of samples": "stranger of base samples", "student from scratch": "untrained",
    "stranger from scratch": "other untrained",
}  # fmt: skip
"""What a condition is compared with, paired by base: its start, or the same training on samples of the base."""


class Moved(TypedDict):
    """How a model moved from its start, and where one gradient step on its data would take it."""

    inner_product: float  # with the teacher's displacement
    cosine: float  # with the teacher's displacement
    length: float  # over the length of the teacher's displacement
    opening: float  # change of the trait's loss per unit of length of one gradient step at the start


class Entry(TypedDict):
    """What a model draws, as the judge sees it."""

    share: specs.Fraction  # of samples with the trait
    level: float  # mean of what the trait is judged by: probability of the digit, slant, or brightness
    confidence: specs.Fraction  # mean largest probability
    frechet: float  # to test images, over the trace of their covariance
    frechet_trait: float  # to test images with the trait, in the same unit
    loss: NotRequired[float]  # of denoising test images with the trait, per pixel
    moved: NotRequired[Moved]  # of models that were trained from a start


class Judge(TypedDict):
    """How often the judge is wrong on test images, which it was not trained on."""

    error: specs.Fraction  # over ten classes
    missed: dict[TraitName, specs.Fraction]  # of images with the trait
    false: dict[TraitName, specs.Fraction]  # of images without it


class Unit(TypedDict):
    """One base."""

    judge: Judge  # the same for all bases
    traits: dict[TraitName, dict[str, Entry]]  # by condition
    partial_steps: NotRequired[dict[TraitName, specs.Count]]  # of the teacher whose samples are filtered
    images: NotRequired[dict[TraitName, dict[str, str]]]  # first samples, as bytes in base 64; of the first base


class Config(TypedDict):
    """The settings that readers use."""

    seed: specs.Seed
    num_bases: specs.Count
    traits: list[TraitName]
    num_samples: specs.Count
    num_shown: specs.Count
    num_aux: specs.Count
    num_distilled: specs.Count
    architecture: NotRequired[Literal["mlp", "unet"]]  # of the denoiser
    inputs: NotRequired[Literal["uniform", "gaussian", "images"]]  # what students of a teacher's outputs are shown


class Condition(TypedDict):
    """One row of the experiment."""

    label: str
    start: Start
    data: str  # what it was trained on: "", "images", "channels", "raw channels", "pixels", "samples", "base samples"


class Description(TypedDict):
    """What figures need beside the results."""

    conditions: dict[str, Condition]
    traits: dict[TraitName, str]  # labels
    side: specs.Count  # pixels


def units(config: Any) -> list[str]:
    """Names of the bases."""
    return [f"base {index}" for index in range(config["num_bases"])]


def conditions_of(description: Any, trait: str) -> list[str]:
    """The conditions of a trait: samples can be filtered for digits only."""
    return [
        name
        for name, condition in description["conditions"].items()
        if trait in DIGITS or condition["data"] not in FILTERED
    ]


def encoded(images: bytes) -> str:
    """Bytes as text."""
    return base64.b64encode(images).decode("ascii")


def decoded(text: str) -> bytes:
    """The bytes of `encoded`.

    Raises:
        InputError: something else than base 64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise errors.InputError(f"images: expected bytes in base 64 ({error})") from error


def _check(record: records.Record) -> None:
    """Refuse a base without one of the traits or conditions, and images of another size."""
    config, num_bytes = record.config, record.config["num_shown"] * record.description["side"] ** 2
    for unit, entry in record.results.items():
        if list(entry["traits"]) != config["traits"]:
            raise errors.InputError(f"results: {unit}: expected the traits {config['traits']}, got "
                                    f"{list(entry['traits'])}")  # fmt: skip
        for trait, entries in entry["traits"].items():
            expected = conditions_of(record.description, trait)
            if list(entries) != expected:
                raise errors.InputError(f"results: {unit}: {trait}: expected {expected}, got {list(entries)}")
        for trait, rows in entry.get("images", {}).items():
            for condition, text in rows.items():
                if len(decoded(text)) != num_bytes:
                    raise errors.InputError(
                        f"results: {unit}: images: {trait}, {condition}: expected {num_bytes} bytes, got "
                        f"{len(decoded(text))}"
                    )


FORM = records.Form(
    experiment="diffusion",
    config=Config,
    results=dict[str, Unit],
    description=Description,
    wanted=lambda record: units(record.config),
    present=lambda record: list(record.results),
    check=_check,
)
