import dataclasses
import gzip
import importlib.util
import os
import pathlib

import numpy as np
import pytest

from sublim_jax import errors
from sublim_jax.data import arrays, idx, mnist

REAL = os.environ.get("SUBLIM_DATA_DIR")  # read before the fixture hides it
needs_mnist = pytest.mark.skipif(not REAL, reason="set SUBLIM_DATA_DIR to the folder of MNIST's four IDX files")
TRAIN_IMAGES = "train-images-idx3-ubyte"
TRAIN_LABELS = "train-labels-idx1-ubyte"
TEST_LABELS = "t10k-labels-idx1-ubyte"


def assert_same(found: arrays.ImageArrays, expected: arrays.ImageArrays):
    for role, array in found._asdict().items():
        np.testing.assert_array_equal(array, getattr(expected, role), strict=True, err_msg=role)


def unpack(folder: pathlib.Path, *, rename=lambda name: name):
    for path in list(folder.glob("*.gz")):
        content = gzip.decompress(path.read_bytes())
        path.unlink()
        (folder / rename(path.stem)).write_bytes(content)


@pytest.mark.parametrize("name", mnist.DATASETS)
def test_addresses_sizes_and_checksums_are_those_registered_by_tfds(name):
    """A second source, read from the installed package as text: address, size, sha256 and name, tab-separated."""
    folders = importlib.util.find_spec("tensorflow_datasets").submodule_search_locations
    registered = pathlib.Path(folders[0]) / "url_checksums" / f"{name.replace('-', '_')}.txt"
    dataset = mnist.DATASETS[name]
    ours = {(dataset.address(file), str(file.num_bytes), file.gz_sha256) for file in dataset.files.values()}
    assert ours == {tuple(line.split("\t")[:3]) for line in registered.read_text().splitlines()}


def test_the_four_arrays_end_up_under_their_names(tmp_path, tiny, publish):
    found, verified = mnist.read_folder(tmp_path, publish(tmp_path, tiny))
    assert verified
    assert_same(found, tiny)


@pytest.mark.parametrize(
    "rename", [lambda name: name, lambda name: name.replace("-idx", ".idx"), lambda name: name + ".gz"]
)
def test_unpacked_files_are_read_under_any_of_their_names(tmp_path, tiny, publish, rename):
    dataset = publish(tmp_path, tiny)
    unpack(tmp_path, rename=rename)
    found, verified = mnist.read_folder(tmp_path, dataset)
    assert verified
    assert_same(found, tiny)


def test_files_gzipped_anew_are_known_by_their_content(tmp_path, tiny, publish):
    dataset = publish(tmp_path, tiny)
    for path in tmp_path.glob("*.gz"):
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=1, mtime=1))
    found, verified = mnist.read_folder(tmp_path, dataset)
    assert verified
    assert_same(found, tiny)


def test_a_subfolder_with_the_datasets_name_comes_first(tmp_path, tiny, publish):
    other = tiny._replace(train_images=255 - tiny.train_images)
    dataset = publish(tmp_path / "kmnist", tiny, name="kmnist")
    publish(tmp_path, other)
    found, _ = mnist.read_folder(tmp_path, dataset)
    assert_same(found, tiny)


def without_content_checksums(dataset):
    """As for Fashion-MNIST and KMNIST, of which only the .gz files' checksums are published."""
    files = {role: dataclasses.replace(file, content_sha256=None) for role, file in dataset.files.items()}
    return dataclasses.replace(dataset, **files)


def test_an_unpacked_file_of_unknown_checksum_is_read_but_not_called_verified(tmp_path, tiny, publish):
    dataset = without_content_checksums(publish(tmp_path, tiny))
    assert mnist.read_folder(tmp_path, dataset)[1]
    unpack(tmp_path)
    found, verified = mnist.read_folder(tmp_path, dataset)
    assert not verified
    assert_same(found, tiny)


def test_a_wrong_gz_is_refused_even_if_the_contents_checksum_is_unknown(tmp_path, tiny, publish):
    dataset = without_content_checksums(publish(tmp_path, tiny))
    idx.write(tmp_path / f"{TRAIN_LABELS}.gz", tiny.train_labels[::-1], compress=True)
    with pytest.raises(
        errors.ChecksumError, match=rf"{TRAIN_LABELS}.gz: expected the sha256 of mnist's {TRAIN_LABELS}"
    ):
        mnist.read_folder(tmp_path, dataset)


@pytest.mark.parametrize("compress", [False, True])
def test_a_wrong_pixel_is_a_wrong_checksum(tmp_path, tiny, publish, compress):
    dataset = publish(tmp_path, tiny)
    tiny.train_images[7, 3, 3] ^= 1
    (tmp_path / f"{TRAIN_IMAGES}.gz").unlink()
    idx.write(tmp_path / TRAIN_IMAGES, tiny.train_images, compress=compress)
    with pytest.raises(errors.ChecksumError, match=rf"{TRAIN_IMAGES}: .* well formed but not the published one"):
        mnist.read_folder(tmp_path, dataset)


@pytest.mark.parametrize("unpacked", [False, True])
def test_the_files_of_another_dataset_are_named(tmp_path, tiny, publish, monkeypatch, unpacked):
    """All three have the same file names, so a folder given for the wrong one is the likeliest mistake."""
    dataset = publish(tmp_path, tiny)
    publish_other = publish(tmp_path, tiny._replace(train_images=255 - tiny.train_images), name="fashion-mnist")
    monkeypatch.setitem(mnist.DATASETS, "fashion-mnist", publish_other)
    if unpacked:
        unpack(tmp_path)
    with pytest.raises(errors.ChecksumError, match=rf"This is fashion-mnist's {TRAIN_IMAGES}: ask for that dataset"):
        mnist.read_folder(tmp_path, dataset)
    with pytest.raises(errors.ChecksumError, match=rf"This is fashion-mnist's {TRAIN_IMAGES}"):
        mnist.read_folder(tmp_path, without_content_checksums(dataset))


def test_no_such_folder(tmp_path):
    with pytest.raises(errors.DataUnavailableError, match=r"absent: expected the folder .* there is no such folder"):
        mnist.read_folder(tmp_path / "absent", mnist.MNIST)


def test_a_file_for_a_folder(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(errors.DataUnavailableError, match=r"file: expected the folder .* it is a file"):
        mnist.read_folder(tmp_path / "file", mnist.MNIST)


def test_a_missing_file_and_what_is_there_instead(tmp_path, tiny, publish):
    with pytest.raises(errors.DataUnavailableError, match=rf"{TRAIN_IMAGES}.gz or {TRAIN_IMAGES}, .* holds nothing"):
        mnist.read_folder(tmp_path, mnist.MNIST)
    dataset = publish(tmp_path, tiny)
    (tmp_path / f"{TEST_LABELS}.gz").unlink()
    with pytest.raises(
        errors.DataUnavailableError,
        match=rf"expected {TEST_LABELS}.gz .* holds t10k-images-idx3-ubyte.gz, train-images.* from http://nowhere/",
    ):
        mnist.read_folder(tmp_path, dataset)


def test_a_folder_that_cannot_be_looked_into(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "exists", refuse)
    with pytest.raises(errors.DataUnavailableError, match=r"cannot be read \(Permission denied\)"):
        mnist.read_folder(tmp_path, mnist.MNIST)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes in all. The file is empty"),
        (b"<html><body>404 Not Found</body></html>", "It is an HTML or XML page"),
        (idx.serialize(np.zeros((25, 28, 28), np.uint8))[:-1], "truncated"),
        (idx.serialize(np.zeros((25, 28, 28), np.uint8)) + b"\0", "too long"),
        (gzip.compress(idx.serialize(np.zeros((25, 28, 28), np.uint8)), mtime=0)[:-9], "truncated or damaged"),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_malformed_file_is_a_format_error_that_names_it(tmp_path, tiny, publish, content, message, suffix):
    """What is wrong with the format says more than a wrong checksum would, so it is found first."""
    dataset = publish(tmp_path, tiny)
    (tmp_path / f"{TRAIN_IMAGES}.gz").unlink()
    (tmp_path / f"{TRAIN_IMAGES}{suffix}").write_bytes(content)
    with pytest.raises(errors.DataFormatError, match=rf"{TRAIN_IMAGES}{suffix}: .*{message}") as caught:
        mnist.read_folder(tmp_path, dataset)
    assert not isinstance(caught.value, errors.ChecksumError)


def test_files_that_do_not_belong_together(tmp_path, tiny, publish):
    dataset = publish(tmp_path, tiny)
    idx.write(tmp_path / f"{TRAIN_LABELS}.gz", tiny.test_labels, compress=True)
    with pytest.raises(errors.DataFormatError, match="25 train images but 12 train labels"):
        mnist.read_folder(tmp_path, dataset)
    idx.write(tmp_path / f"{TRAIN_LABELS}.gz", tiny.train_labels | 16, compress=True)
    with pytest.raises(errors.DataFormatError, match=r"train label 0 is .*, expected 0 to 9"):
        mnist.read_folder(tmp_path, dataset)


@needs_mnist
def test_the_real_mnist(tmp_path):
    """Digits per class as MNIST is known to have them, and the sha256 that records of runs on MNIST carry."""
    found, verified = mnist.read_folder(REAL, mnist.MNIST)
    assert verified
    assert np.bincount(found.train_labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(found.test_labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert found.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert arrays.checksum(found) == "e3d860c7e5010689b8127315972a57470d48d35a7817930569ebd854c7cd2263"
    for role, file in mnist.MNIST.files.items():
        idx.write(tmp_path / file.name, getattr(found, role))
    again, verified = mnist.read_folder(tmp_path, mnist.MNIST)  # the checksums of the unpacked files
    assert verified
    assert_same(again, found)
