"""The real download manager and array_record files of TFDS, fed by a local web server."""

import dataclasses
import http.server
import shutil
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from sublim_jax import errors
from sublim_jax.data import arrays, downloads, idx, mnist


@pytest.fixture
def served(server, tiny, publish) -> mnist.PublishedDataset:
    """A small dataset that the server has."""
    return publish(server.folder, tiny, url=server.url)


@pytest.fixture(autouse=True)
def small_records(monkeypatch):
    """More than one record per split, and a last one that is not full."""
    monkeypatch.setattr(downloads, "RECORD_IMAGES", 10)


@pytest.fixture(scope="module")
def closed_port():
    """A local address at which nothing listens: what a missing network looks like, only sooner."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{free.getsockname()[1]}/"


def assert_same(found: arrays.ImageArrays, expected: arrays.ImageArrays):
    for role, array in found._asdict().items():
        np.testing.assert_array_equal(array, getattr(expected, role), strict=True, err_msg=role)


def test_downloaded_verified_prepared_and_read_back(served, server, tiny, tmp_path, capfd):
    lines = []
    assert_same(downloads.load(served, tmp_path / "tfds", announce=lines.append), tiny)
    assert lines == [f"mnist: downloading from {server.url}"]
    assert sum(request.startswith("GET") for request in server.requests) == 4
    prepared = tmp_path / "tfds" / "mnist" / "sublim_images" / downloads.VERSION
    assert len(list(prepared.glob("*.array_record-*"))) == 2
    assert not (tmp_path / "tfds" / "mnist" / "downloads").exists()

    server.requests.clear()
    assert_same(downloads.load(served, tmp_path / "tfds", announce=pytest.fail), tiny)
    assert server.requests == []  # it lies there already
    assert capfd.readouterr() == ("", "")  # TFDS itself prints a page


def test_two_datasets_do_not_meet(served, server, tiny, publish, tmp_path):
    other = tiny._replace(test_images=255 - tiny.test_images)
    (server.folder / "k").mkdir()
    kmnist = publish(server.folder / "k", other, name="kmnist", url=f"{server.url}k/")
    for _ in range(2):
        assert_same(downloads.load(served, tmp_path, announce=str), tiny)
        assert_same(downloads.load(kmnist, tmp_path, announce=str), other)


def test_another_checksum_is_refused_and_nothing_kept(served, server, tiny, tmp_path):
    good = (server.folder / f"{served.test_labels.name}.gz").read_bytes()
    idx.write(server.folder / f"{served.test_labels.name}.gz", tiny.test_labels[::-1], compress=True)
    with pytest.raises(errors.ChecksumError, match=r"another checksum: probably an error page .*t10k-labels") as caught:
        downloads.load(served, tmp_path, announce=str)
    assert "\n" not in str(caught.value)
    (server.folder / f"{served.test_labels.name}.gz").write_bytes(good)
    assert_same(downloads.load(served, tmp_path, announce=str), tiny)


def test_a_published_file_that_is_malformed_is_a_format_error(server, tiny, publish, tmp_path):
    """With the right checksum and yet cut: the table of checksums would be wrong. The error is ours, not TFDS's."""
    dataset = publish(server.folder, tiny._replace(train_labels=tiny.train_labels | 16), url=server.url)
    with pytest.raises(errors.DataFormatError, match=r"^http://127.*: train label 0 is"):
        downloads.load(dataset, tmp_path, announce=str)


@pytest.mark.parametrize("damage", ["cut", "emptied", "flipped", "without info", "another count"])
def test_prepared_files_that_are_damaged_are_made_again(served, tiny, tmp_path, damage):
    downloads.load(served, tmp_path, announce=str)
    prepared = tmp_path / "mnist" / "sublim_images" / downloads.VERSION
    records = next(prepared.glob("*train.array_record*"))
    data = bytearray(records.read_bytes())
    if damage == "cut":
        records.write_bytes(data[: len(data) // 2])
    elif damage == "emptied":
        records.write_bytes(b"")
    elif damage == "flipped":
        data[1_000] ^= 1  # in the first record; much of the rest of such a small file is padding
        records.write_bytes(data)
    elif damage == "without info":
        (prepared / "dataset_info.json").unlink()
    else:
        shutil.copy(next(prepared.glob("*test.array_record*")), records)
    lines = []
    assert_same(downloads.load(served, tmp_path, announce=lines.append), tiny)
    assert "is damaged" in lines[0] and "downloading" in lines[1]
    assert_same(downloads.load(served, tmp_path, announce=pytest.fail), tiny)


def test_prepared_files_with_another_number_of_images_are_made_again(served, tmp_path):
    """As if its table had been wrong when they were prepared. Here it is wrong now, so the download is refused, too."""
    downloads.load(served, tmp_path, announce=str)
    lines = []
    with pytest.raises(errors.DataFormatError, match=r"expected train images of shape \(24, 28, 28\)"):
        downloads.load(dataclasses.replace(served, num_train=24), tmp_path, announce=lines.append)
    assert "is damaged" in lines[0]


def test_a_connection_that_breaks_off(served, tmp_path, monkeypatch):
    def half(handler, source, output):
        output.write(source.read()[:50])

    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "copyfile", half)
    with pytest.raises(errors.DataUnavailableError, match=r"by TensorFlow Datasets \(\w+: .*IncompleteRead"):
        downloads.load(served, tmp_path, announce=str)
    monkeypatch.undo()
    monkeypatch.setattr(downloads, "RECORD_IMAGES", 10)
    downloads.load(served, tmp_path, announce=str)


def test_a_file_that_is_not_there(served, server, tmp_path):
    (server.folder / f"{served.test_images.name}.gz").unlink()
    with pytest.raises(errors.DataUnavailableError, match=r"by TensorFlow Datasets \(DownloadError: .*HTTP code: 404"):
        downloads.load(served, tmp_path, announce=str)
    (server.folder / f"{served.train_labels.name}.gz").unlink()  # the one that is asked for beforehand
    with pytest.raises(errors.DataUnavailableError, match=r"127.0.0.1:\d+ \(HTTP 404 File not found\)"):
        downloads.load(served, tmp_path, announce=pytest.fail)


def test_a_folder_that_cannot_be_written(served, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(errors.CacheError, match=r"file: expected a folder .* cannot be written"):
        downloads.load(served, tmp_path / "file", announce=str)


def test_a_tfds_that_fails_in_its_own_way(served, tmp_path, monkeypatch):
    """Say another version of it: the caller gets our error, with the first one as its cause."""

    def fail(builder, downloads):
        raise AttributeError("no such\n   attribute")

    monkeypatch.setattr(downloads, "_prepare", fail)
    with pytest.raises(errors.DataUnavailableError, match=r"\(AttributeError: no such attribute\)") as caught:
        downloads.load(served, tmp_path, announce=str)
    assert isinstance(caught.value.__cause__, AttributeError)


def test_nothing_listens(closed_port):
    start = time.monotonic()
    with pytest.raises(errors.DataUnavailableError, match=r"mnist could not .* 127.0.0.1:\d+ \(ConnectionError\)"):
        downloads.refuse_unreachable(closed_port, name="mnist")
    assert time.monotonic() - start < 30  # TFDS alone would try for minutes; this takes milliseconds


def test_a_host_that_never_answers():
    """It accepts the connection and stays silent: behind some firewalls every host is like this."""
    expected = pytest.raises(errors.DataUnavailableError, match=r"ReadTimeout|no answer within 0.2 s")
    with socket.create_server(("127.0.0.1", 0)) as silent, expected:
        downloads.refuse_unreachable(f"http://127.0.0.1:{silent.getsockname()[1]}/", name="mnist", seconds=0.2)


def test_a_name_that_takes_forever_to_look_up(monkeypatch):
    """No timeout of a socket covers this, and without a network it can take half a minute."""
    answered = threading.Event()

    def look_up(*arguments, **options):
        answered.wait(30)
        raise socket.gaierror("no such host")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    start = time.monotonic()
    with pytest.raises(errors.DataUnavailableError, match=r"no answer within 0.1 s"):
        downloads.refuse_unreachable("http://nowhere.invalid/file", name="mnist", seconds=0.1)
    assert time.monotonic() - start < 25
    answered.set()


def test_the_default_decides_within_three_seconds():
    assert downloads.REACH_SECONDS < 3


def test_a_server_that_knows_no_head_counts_as_reachable(server, monkeypatch):
    """501 is its answer to an unknown verb; the download itself then decides."""
    monkeypatch.delattr(http.server.SimpleHTTPRequestHandler, "do_HEAD")
    downloads.refuse_unreachable(server.url, name="mnist")


def test_tfds_is_imported_late_and_tensorflow_never():
    code = """
import sys
from sublim_jax.data import datasets, downloads
assert not {"tensorflow_datasets", "requests"} & set(sys.modules)
downloads._builder_class()
assert "tensorflow_datasets" in sys.modules and "tensorflow" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
