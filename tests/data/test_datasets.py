import dataclasses
import os
import pathlib
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax import errors
from sublim_jax.data import arrays, cache, datasets, downloads, idx, mnist, synthetic_digits

REAL = os.environ.get("SUBLIM_DATA_DIR")  # read before the fixture hides it
needs_mnist = pytest.mark.skipif(not REAL, reason="set SUBLIM_DATA_DIR to the folder of MNIST's four IDX files")


@pytest.fixture
def folder(tmp_path, tiny, publish, monkeypatch) -> pathlib.Path:
    """A folder with the files of a small dataset that stands for MNIST."""
    monkeypatch.setitem(mnist.DATASETS, "mnist", publish(tmp_path / "files", tiny))
    return tmp_path / "files"


@pytest.fixture
def offline(monkeypatch):
    """No published dataset can be reached: at its address nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        for name, dataset in mnist.DATASETS.items():
            url = f"http://127.0.0.1:{free.getsockname()[1]}/{name}/"
            monkeypatch.setitem(mnist.DATASETS, name, dataclasses.replace(dataset, url=url))
        yield


@pytest.fixture
def few_digits(monkeypatch) -> list[str]:
    """Draws 20 + 10 digits of one font instead of 70,000 of all; lists one entry for each time it is done."""
    generate, calls = synthetic_digits.generate, []
    monkeypatch.setattr(synthetic_digits, "FONTS", synthetic_digits.FONTS[:1])
    monkeypatch.setattr(synthetic_digits, "generate", lambda: calls.append("drawn") or generate(20, 10))
    return calls


def assert_is_tiny(dataset, tiny):
    for role, array in tiny._asdict().items():
        np.testing.assert_array_equal(getattr(dataset, role), array, strict=True, err_msg=role)


class TestFolder:
    @pytest.mark.parametrize("name", ["auto", "mnist"])
    def test_of_the_argument(self, folder, tiny, name, own_cache):
        lines = []
        dataset = datasets.load(name, data_dir=folder, announce=lines.append)
        assert (dataset.name, dataset.source, dataset.synthetic) == ("mnist", "IDX files", False)
        assert dataset.checksum == arrays.checksum(tiny)
        assert_is_tiny(dataset, tiny)
        assert lines == [f"mnist: 25 training and 12 test images, IDX files (sha256 {dataset.checksum[:12]})"]
        assert not own_cache.exists()  # the files lie there already

    def test_of_the_environment(self, folder, tiny, monkeypatch):
        monkeypatch.setenv("SUBLIM_DATA_DIR", str(folder))
        assert_is_tiny(datasets.load(announce=str), tiny)

    def test_the_argument_comes_first(self, folder, tiny, monkeypatch):
        monkeypatch.setenv("SUBLIM_DATA_DIR", "nowhere")
        assert_is_tiny(datasets.load(data_dir=folder, announce=str), tiny)

    def test_of_an_empty_environment_variable_is_none(self, offline, few_digits, monkeypatch):
        monkeypatch.setenv("SUBLIM_DATA_DIR", "")
        assert datasets.load(announce=str).synthetic

    @pytest.mark.parametrize("how", ["argument", "environment"])
    @pytest.mark.parametrize("name", ["auto", "mnist", "fashion-mnist", "kmnist"])
    def test_that_is_bad_is_an_error_and_not_replaced(self, tmp_path, monkeypatch, how, name):
        if how == "environment":
            monkeypatch.setenv("SUBLIM_DATA_DIR", str(tmp_path / "absent"))
        with pytest.raises(errors.DataUnavailableError, match="absent: expected the folder"):
            datasets.load(name, data_dir=tmp_path / "absent" if how == "argument" else None, announce=pytest.fail)

    def test_with_a_damaged_file_is_an_error_even_for_auto(self, folder):
        (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(b"")
        with pytest.raises(errors.DataFormatError, match=r"t10k-labels-idx1-ubyte.gz: .* is empty"):
            datasets.load(data_dir=folder, announce=pytest.fail)

    def test_of_unknown_checksums_is_said_to_be_so(self, folder, tiny, monkeypatch):
        files = {role: dataclasses.replace(f, content_sha256=None) for role, f in mnist.DATASETS["mnist"].files.items()}
        monkeypatch.setitem(mnist.DATASETS, "mnist", dataclasses.replace(mnist.DATASETS["mnist"], **files))
        for role, file in files.items():
            (folder / f"{file.name}.gz").unlink()
            idx.write(folder / file.name, getattr(tiny, role))
        assert datasets.load(data_dir=folder, announce=str).source == "IDX files, of unverified checksum"

    @needs_mnist
    def test_of_the_real_mnist(self):
        dataset = datasets.load("mnist", data_dir=REAL, announce=str)
        assert (len(dataset.train_images), len(dataset.test_images)) == (60_000, 10_000)
        assert dataset.checksum == "e3d860c7e5010689b8127315972a57470d48d35a7817930569ebd854c7cd2263"


class TestDownload:
    @pytest.fixture
    def published(self, server, tiny, publish, monkeypatch):
        monkeypatch.setitem(mnist.DATASETS, "mnist", publish(server.folder, tiny, url=server.url))

    @pytest.mark.parametrize("name", ["auto", "mnist"])
    def test_happens_once(self, published, server, tiny, name, monkeypatch):
        first = datasets.load(name, announce=str)
        assert (first.name, first.source, first.checksum) == ("mnist", "TensorFlow Datasets", arrays.checksum(tiny))
        assert_is_tiny(first, tiny)
        server.requests.clear()
        monkeypatch.setattr(downloads, "load", pytest.fail)
        second = datasets.load(name, announce=str)
        assert second == first and hash(second) == hash(first)
        assert_is_tiny(second, tiny)
        assert server.requests == []

    def test_is_preceded_by_a_folder(self, published, server, folder):
        assert datasets.load(data_dir=folder, announce=str).source == "IDX files"
        assert server.requests == []

    def test_of_a_wrong_file_ends_in_synthetic_digits_only_if_any_dataset_will_do(self, published, server, few_digits):
        """As behind the login page of a hotel, which answers every question with itself."""
        for path in server.folder.iterdir():
            path.write_bytes(b"<html>Please log in</html>")
        with pytest.raises(errors.ChecksumError, match="login page of a network"):
            datasets.load("mnist", announce=str)
        lines = []
        assert datasets.load(announce=lines.append).synthetic
        assert "MNIST is unavailable" in lines[1] and "\n" not in lines[1]

    def test_into_a_cache_that_cannot_be_written_is_an_error_even_for_auto(self, published, server, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(errors.CacheError, match="Set SUBLIM_CACHE_DIR"):
            datasets.load(cache_dir=tmp_path / "file", announce=pytest.fail)
        assert server.requests == []  # found out before anything was downloaded


class TestOffline:
    def test_auto_says_in_one_line_that_it_falls_back(self, offline, few_digits):
        lines = []
        dataset = datasets.load(announce=lines.append)
        assert (dataset.name, dataset.synthetic) == ("synthetic-digits", True)
        assert dataset.source == "generated from matplotlib's fonts"
        assert len(lines) == 2 and "\n" not in "".join(lines)
        assert lines[0].startswith("MNIST is unavailable, so these are synthetic-digits instead. mnist could not be ")
        assert "SUBLIM_DATA_DIR" in lines[0]
        assert lines[1].startswith("synthetic-digits: 20 training and 10 test images, generated from matplotlib's")

    @pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "kmnist"])
    def test_a_dataset_asked_for_by_name_is_never_replaced(self, offline, name):
        with pytest.raises(errors.DataUnavailableError, match=rf"{name} could not be fetched from 127.0.0.1"):
            datasets.load(name, announce=pytest.fail)

    def test_the_download_is_not_even_started(self, offline, few_digits, monkeypatch):
        monkeypatch.setattr(downloads, "_builder_class", pytest.fail)
        datasets.load(announce=str)

    def test_what_was_prepared_before_is_still_mnist(self, offline, tiny, own_cache):
        own_cache.mkdir()
        cache.write(own_cache / "sublim-mnist.npz", tiny, "TensorFlow Datasets")
        assert_is_tiny(datasets.load(announce=str), tiny)
        with pytest.raises(errors.DataUnavailableError, match="kmnist could not be fetched"):
            datasets.load("kmnist", announce=str)


class TestSyntheticDigits:
    def test_are_drawn_once(self, few_digits, monkeypatch):
        monkeypatch.setenv("SUBLIM_DATA_DIR", "nowhere")  # which says where files lie, so it does not matter here
        first = datasets.load("synthetic-digits", announce=str)
        second = datasets.load("synthetic-digits", announce=str)
        assert first == second and first.checksum == second.checksum
        np.testing.assert_array_equal(first.train_images, second.train_images)
        assert few_digits == ["drawn"]

    def test_are_drawn_again_by_another_recipe(self, few_digits, monkeypatch):
        datasets.load("synthetic-digits", announce=str)
        monkeypatch.setattr(synthetic_digits, "recipe", lambda: "another")
        datasets.load("synthetic-digits", announce=str)
        assert few_digits == ["drawn", "drawn"]

    def test_are_drawn_again_if_the_cached_file_is_damaged(self, few_digits, own_cache):
        first = datasets.load("synthetic-digits", announce=str)
        (path,) = own_cache.glob("*.npz")
        path.write_bytes(path.read_bytes()[:-100])
        lines = []
        assert datasets.load("synthetic-digits", announce=lines.append) == first
        assert "damaged and are made again" in lines[0]
        assert datasets.load("synthetic-digits", announce=str) == first
        assert few_digits == ["drawn", "drawn"]

    def test_are_not_read_from_a_folder(self, tmp_path):
        with pytest.raises(ValueError, match="synthetic-digits are drawn, not read"):
            datasets.load("synthetic-digits", data_dir=tmp_path)

    def test_cannot_be_cached_without_a_cache(self, tmp_path, few_digits):
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(errors.CacheError, match="cannot be written"):
            datasets.load("synthetic-digits", cache_dir=tmp_path / "file", announce=str)


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(
        ValueError, match="name='cifar10': expected one of 'auto', 'mnist', 'fashion-mnist', 'kmnist', "
    ):
        datasets.load("cifar10")


def test_a_dataset_prints_what_it_is_and_not_its_pixels(folder):
    dataset = datasets.load(data_dir=folder, announce=str)
    assert repr(dataset) == f"ImageDataset(name='mnist', source='IDX files', checksum='{dataset.checksum}')"
    assert dataset.num_classes == 10


@pytest.mark.parametrize("source", ["folder", "drawn", "cached"])
def test_arrays_are_read_only(folder, few_digits, source):
    for _ in range(2 if source == "cached" else 1):
        dataset = datasets.load(
            *(() if source == "folder" else ("synthetic-digits",)),
            data_dir=folder if source == "folder" else None,
            announce=str,
        )
    with pytest.raises(ValueError, match="read-only"):
        dataset.train_images[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        dataset.test_labels[0] = 0


# One process of the next tests. It draws little, slowly, and writes down that it drew.
PROCESS = """
import os, pathlib, sys, time
from sublim_jax.data import datasets, synthetic_digits
folder, behaviour = pathlib.Path(sys.argv[1]), sys.argv[2]
synthetic_digits.FONTS = synthetic_digits.FONTS[:1]
generate = synthetic_digits.generate

def slowly():
    with open(folder / "log", "a") as log:
        print("drawn", file=log)
    time.sleep(0.5)
    return generate(20, 10)

def die(*arguments):
    os._exit(9)

synthetic_digits.generate = slowly
if behaviour == "dies":
    os.replace = die
pathlib.Path(folder, f"ready-{os.getpid()}").touch()
for _ in range(30_000):  # half a minute for the other to arrive
    if len(list(folder.glob("ready-*"))) >= int(sys.argv[3]):
        break
    time.sleep(0.001)
print(datasets.load("synthetic-digits", cache_dir=folder / "cache", announce=str).checksum)
"""


def start(folder, behaviour, together) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS, str(folder), behaviour, str(together)], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_two_processes_at_once_prepare_the_cache_once(tmp_path):
    processes = [start(tmp_path, "lives", 2) for _ in range(2)]
    outputs = [process.communicate(timeout=100)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0] == outputs[1] != ""
    assert (tmp_path / "log").read_text().split() == ["drawn"]


@pytest.mark.slow
def test_a_process_that_dies_while_it_writes_leaves_no_half_file(tmp_path, few_digits):
    """It has written, but not yet renamed: the next one finds neither a file nor a lock in its way."""
    dead = start(tmp_path, "dies", 1)
    dead.communicate(timeout=100)
    assert dead.returncode == 9
    folder = tmp_path / "cache"
    assert not list(folder.glob("*.npz")) and list(folder.glob("*.tmp"))
    lines = []
    datasets.load("synthetic-digits", cache_dir=folder, announce=lines.append)
    assert len(lines) == 1  # no waiting, nothing damaged
    assert list(folder.glob("*.npz")) and not list(folder.glob("*.tmp"))


class TestScalePixels:
    @pytest.mark.parametrize("transform", [lambda function: function, jax.jit])
    def test_against_the_published_preprocessing(self, transform):
        """ToTensor divides by 255, Normalize subtracts .5 and divides by .5; here in float64. One rounding below 1."""
        pixels = np.arange(256, dtype=np.uint8).reshape(4, 64)
        scaled = transform(datasets.scale_pixels)(pixels)
        assert scaled.dtype == jnp.float32
        np.testing.assert_allclose(scaled, (pixels / 255 - 0.5) / 0.5, rtol=0, atol=np.finfo(np.float32).eps)
        assert (float(scaled[0, 0]), float(scaled[-1, -1])) == (-1, 1)
        np.testing.assert_array_equal(scaled, datasets.scale_pixels(pixels))  # compiled or not

    @pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
    def test_in_half_precision(self, dtype):
        scaled = datasets.scale_pixels(np.array([0, 255], np.uint8), dtype)
        assert scaled.dtype == dtype
        assert scaled.tolist() == [-1, 1]

    def test_a_second_time_is_refused(self):
        with pytest.raises(ValueError, match=r"must be bytes \(uint8\), got float32: were they scaled before"):
            datasets.scale_pixels(datasets.scale_pixels(np.zeros(3, np.uint8)))
