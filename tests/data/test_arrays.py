import numpy as np
import pytest

from sublim_jax import errors
from sublim_jax.data import arrays


def test_the_checksum_tells_apart_any_change(tiny):
    def other(role):
        changed = getattr(tiny, role).copy()
        changed.flat[-1] ^= 1
        return tiny._replace(**{role: changed})

    variants = [
        tiny,
        *(other(role) for role in tiny._fields),
        tiny._replace(train_images=tiny.train_images.reshape(25, 14, 56)),  # same bytes, another shape
        # The same bytes one after the other, divided differently between the splits.
        arrays.ImageArrays(
            np.concatenate([tiny.train_images, tiny.test_images[:1]]),
            np.concatenate([tiny.train_labels, tiny.test_labels[:1]]),
            tiny.test_images[1:],
            tiny.test_labels[1:],
        ),
    ]
    assert len({arrays.checksum(variant) for variant in variants}) == len(variants)


def test_the_checksum_depends_on_values_and_not_on_memory(tiny):
    moved = tiny._replace(train_images=np.asfortranarray(tiny.train_images), test_labels=tiny.test_labels[::-1][::-1])
    assert arrays.checksum(moved) == arrays.checksum(tiny)


def test_good_arrays_pass(tiny):
    arrays.check(tiny, where="f", num_train=25, num_test=12)


@pytest.mark.parametrize("split", ["train", "test"])
def test_refusals(tiny, split):
    images, labels = getattr(tiny, f"{split}_images"), getattr(tiny, f"{split}_labels")

    def refused(message, **changes):
        bad = tiny._replace(**{f"{split}_{column}": array for column, array in changes.items()})
        with pytest.raises(errors.DataFormatError, match=f"^f: {message}"):
            arrays.check(bad, where="f", num_train=25, num_test=12)

    refused(rf"{len(images):,} {split} images but {len(images) - 1:,} {split} labels", labels=labels[:-1])
    refused(rf"expected {split} images of shape .* exchanged", images=images[:-1], labels=labels[:-1])
    refused(rf"expected {split} images of shape .*, found \(\d+, 27, 28\)", images=images[:, :27])
    labels = labels.copy()
    labels[3:5] = 10
    refused(rf"{split} label 3 is 10, expected 0 to 9", labels=labels)


def test_images_and_labels_exchanged(tiny):
    bad = arrays.ImageArrays.__new__(arrays.ImageArrays, tiny.train_labels, tiny.train_images, *tiny[2:])
    with pytest.raises(
        errors.DataFormatError, match=r"found shapes \(25,\) and \(25, 28, 28\). .* exchanged or renamed"
    ):
        arrays.check(bad, where="f", num_train=25, num_test=12)
