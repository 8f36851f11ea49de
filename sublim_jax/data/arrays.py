"""The four arrays of an image dataset: what every source delivers and the cache keeps."""

import hashlib
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from sublim_jax import errors

NUM_CLASSES = 10


class ImageArrays(NamedTuple):
    """Grey images, 0 (background) to 255, with their classes, 0 to 9."""

    train_images: UInt8[np.ndarray, "train height width"]
    train_labels: UInt8[np.ndarray, " train"]
    test_images: UInt8[np.ndarray, "test height width"]
    test_labels: UInt8[np.ndarray, " test"]


def checksum(arrays: ImageArrays) -> str:
    """Sha256 (hex) of names, shapes and contents: the same for the same data, whatever source it came from."""
    digest = hashlib.sha256()
    for name, array in arrays._asdict().items():
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def check(arrays: ImageArrays, *, where: str, num_train: int, num_test: int) -> None:
    """Refuse arrays that are not `num_train` + `num_test` images of 28x28 with one label in 0..9 each.

    Raises:
        DataFormatError: and its message starts with `where`.
    """
    for split, images, labels, count in (
        ("train", arrays.train_images, arrays.train_labels, num_train),
        ("test", arrays.test_images, arrays.test_labels, num_test),
    ):
        if images.ndim != 3 or labels.ndim != 1:
            raise errors.DataFormatError(
                f"{where}: expected {split} images with 3 dimensions and labels with 1, found shapes {images.shape} "
                f"and {labels.shape}. The files are probably exchanged or renamed."
            )
        if len(images) != len(labels):
            raise errors.DataFormatError(
                f"{where}: {len(images):,} {split} images but {len(labels):,} {split} labels. The files do not belong "
                f"together; take both from the same download."
            )
        if images.shape != (count, 28, 28):
            raise errors.DataFormatError(
                f"{where}: expected {split} images of shape {(count, 28, 28)}, found {images.shape}. Training and test "
                f"files are exchanged, or this is another dataset."
            )
        if labels.size and labels.max() >= NUM_CLASSES:
            position = int(np.argmax(labels >= NUM_CLASSES))
            raise errors.DataFormatError(
                f"{where}: {split} label {position} is {labels[position]}, expected 0 to {NUM_CLASSES - 1}. The label "
                f"file is damaged, or this is another dataset."
            )
