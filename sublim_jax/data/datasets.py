"""The door to the image data: `load` finds a dataset, says where it came from and hands over its arrays.

    dataset = datasets.load()                                      MNIST, or synthetic-digits where it is unavailable
    dataset = datasets.load("fashion-mnist", data_dir="downloads") a folder with the four published files

MNIST comes from (a) the folder `data_dir` or SUBLIM_DATA_DIR, (b) TensorFlow Datasets, once, and the cache from then
on, or, if any dataset will do, (c) digits drawn on the spot, which are never called MNIST. Files come from `mnist`
(names, checksums) and `idx` (format), downloads from `downloads`, drawn digits from `synthetic_digits`; `cache` keeps
what was prepared.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Shaped, UInt8

from sublim_jax import errors
from sublim_jax.data import arrays, cache, downloads, mnist, synthetic_digits

NAMES = ("auto", *mnist.DATASETS, synthetic_digits.NAME)


@dataclasses.dataclass(frozen=True)
class ImageDataset:
    """Training and test images with their classes, and what a record needs to name them exactly.

    Two are equal when their names, sources and checksums are. The arrays are read-only.
    """

    name: str  # "mnist", "fashion-mnist", "kmnist" or "synthetic-digits"
    source: str  # for people, e.g. "IDX files"; without a path
    checksum: str  # sha256 of the four arrays, the same whatever source they came from
    train_images: UInt8[np.ndarray, "train 28 28"] = dataclasses.field(compare=False, repr=False)
    train_labels: UInt8[np.ndarray, " train"] = dataclasses.field(compare=False, repr=False)
    test_images: UInt8[np.ndarray, "test 28 28"] = dataclasses.field(compare=False, repr=False)
    test_labels: UInt8[np.ndarray, " test"] = dataclasses.field(compare=False, repr=False)

    @property
    def synthetic(self) -> bool:
        """Whether the images were drawn by this package rather than collected."""
        return self.name == synthetic_digits.NAME

    @property
    def num_classes(self) -> int:
        """Labels lie in 0 to `num_classes - 1`."""
        return arrays.NUM_CLASSES


def load(
    name: str = "auto",
    *,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    announce: Callable[[str], object] = print,
) -> ImageDataset:
    """The dataset `name`, announced by one line that says where it came from.

    Args:
        name: "mnist", "fashion-mnist", "kmnist", "synthetic-digits", or "auto": MNIST, and synthetic-digits where it
            is unavailable. A dataset asked for by its name is never replaced by another.
        data_dir: folder with the four IDX files, gzipped or not, or with a subfolder `name` that holds them. By default
            SUBLIM_DATA_DIR. A folder that is given and bad is an error, even for "auto".
        cache_dir: where prepared arrays are kept; by default SUBLIM_CACHE_DIR, or this system's folder for caches.
        announce: what to do with a line of text.

    Raises:
        InputError: no such name, or a `data_dir` for synthetic-digits.
        DataUnavailableError: no source has the dataset.
        DataFormatError: a file is not what its name says; `ChecksumError` if it is well formed.
        CacheError: the cache cannot be written.
    """
    if name not in NAMES:
        raise errors.InputError(f"name={name!r}: expected one of {', '.join(map(repr, NAMES))}")
    if name == synthetic_digits.NAME and data_dir is not None:
        raise errors.InputError(f"data_dir={os.fspath(data_dir)!r}: {name} are drawn, not read; leave data_dir out")
    folder = data_dir if data_dir is not None else os.environ.get("SUBLIM_DATA_DIR") or None
    prepared = pathlib.Path(cache_dir) if cache_dir is not None else cache.default_folder()

    if name == synthetic_digits.NAME:
        dataset = _draw(prepared, announce)
    elif folder is not None:
        dataset = _read_folder(mnist.DATASETS["mnist" if name == "auto" else name], folder)
    elif name == "auto":
        try:
            dataset = _download(mnist.DATASETS["mnist"], prepared, announce)
        except (errors.DataUnavailableError, errors.DataFormatError) as error:
            announce(f"MNIST is unavailable, so these are {synthetic_digits.NAME} instead. {error}")
            dataset = _draw(prepared, announce)
    else:
        dataset = _download(mnist.DATASETS[name], prepared, announce)
    announce(
        f"{dataset.name}: {len(dataset.train_labels):,} training and {len(dataset.test_labels):,} test images, "
        f"{dataset.source} (sha256 {dataset.checksum[:12]})"
    )
    return dataset


def scale_pixels(
    images: Shaped[Array, "*shape"] | Shaped[np.ndarray, "*shape"], dtype: DTypeLike = jnp.float32
) -> Float[Array, "*shape"]:
    """Pixels 0 to 255 as numbers from -1 to 1. Runs under `jit`, so images can stay bytes until they are needed.

    Raises:
        InputError: `images` are not bytes; they were probably scaled before. Other data must be rounded to 0 to 255.

    Source: the published script's ToTensor, then Normalize(0.5, 0.5).
    """
    if images.dtype != jnp.uint8:
        raise errors.InputError(
            f"images must be bytes (uint8), got {images.dtype}: were they scaled before? Pixels 0 to 255 are scaled to "
            f"[-1, 1] here; round other data to such bytes"
        )
    return (jnp.asarray(images).astype(dtype) - 127.5) / 127.5  # x / 127.5 - 1 would give 1.0000001 under jit


def _read_folder(dataset: mnist.PublishedDataset, folder: str | os.PathLike[str]) -> ImageDataset:
    loaded, verified = mnist.read_folder(folder, dataset)
    return _named(dataset.name, "IDX files" if verified else "IDX files, of unverified checksum", loaded)


def _download(dataset: mnist.PublishedDataset, folder: pathlib.Path, announce: Callable[[str], object]) -> ImageDataset:
    return _cached(
        dataset.name,
        folder / f"sublim-{dataset.name}.npz",
        lambda: (downloads.load(dataset, folder / "sublim-tfds", announce=announce), downloads.SOURCE),
        announce,
    )


def _draw(folder: pathlib.Path, announce: Callable[[str], object]) -> ImageDataset:
    return _cached(
        synthetic_digits.NAME,
        folder / f"{synthetic_digits.NAME}-{synthetic_digits.recipe()}.npz",
        lambda: (synthetic_digits.generate(), synthetic_digits.SOURCE),
        announce,
    )


def _cached(
    name: str,
    path: pathlib.Path,
    prepare: Callable[[], tuple[arrays.ImageArrays, str]],
    announce: Callable[[str], object],
) -> ImageDataset:
    """What the file at `path` holds; `prepare` makes it if it is absent or damaged."""
    stored = cache.read(path)
    if stored is None:
        with cache.locked(path, announce):
            stored = cache.read(path)  # another process may have prepared it while this one waited
            if stored is None:
                if path.exists():
                    announce(f"{path}: the prepared arrays are damaged and are made again")
                stored = prepare()
                cache.write(path, *stored)
    return _named(name, stored[1], stored[0])


def _named(name: str, source: str, loaded: arrays.ImageArrays) -> ImageDataset:
    checksum = arrays.checksum(loaded)
    for array in loaded:
        array.flags.writeable = False
    return ImageDataset(name, source, checksum, *loaded)
