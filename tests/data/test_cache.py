import pathlib
import tempfile
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublim_jax import errors
from sublim_jax.data import arrays, cache

SMALL = arrays.ImageArrays(
    train_images=np.arange(3 * 4, dtype=np.uint8).reshape(3, 2, 2),
    train_labels=np.array([0, 1, 2], np.uint8),
    test_images=np.arange(8, dtype=np.uint8).reshape(2, 2, 2),
    test_labels=np.array([9, 8], np.uint8),
)


@pytest.fixture(scope="module")
def cached_bytes(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("cache") / "small.npz"
    cache.write(path, SMALL, "by hand")
    return path.read_bytes()


def read_back(data: bytes):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "small.npz")
        path.write_bytes(data)
        return cache.read(path)


def assert_is_small(stored):
    found, source = stored
    assert source == "by hand"
    for role, array in found._asdict().items():
        np.testing.assert_array_equal(array, getattr(SMALL, role), strict=True)


def test_round_trip(tmp_path):
    cache.write(tmp_path / "small.npz", SMALL, "by hand")
    assert_is_small(cache.read(tmp_path / "small.npz"))
    assert [path.name for path in tmp_path.iterdir()] == ["small.npz"]


def test_an_absent_file_is_none(tmp_path):
    assert cache.read(tmp_path / "small.npz") is None
    assert cache.read(tmp_path) is None


@given(length=st.integers(0))
def test_a_cut_file_is_none(cached_bytes, length):
    assert read_back(cached_bytes[: length % len(cached_bytes)]) is None


@given(position=st.integers(0), flipped=st.integers(1, 255))
def test_a_damaged_file_is_none_or_harmless(cached_bytes, position, flipped):
    """A zip file has bytes that say nothing about its content, such as times, and the source is only a text."""
    damaged = bytearray(cached_bytes)
    damaged[position % len(damaged)] ^= flipped
    stored = read_back(bytes(damaged))
    if stored is not None:
        for role, array in stored[0]._asdict().items():
            np.testing.assert_array_equal(array, getattr(SMALL, role), strict=True)


def test_a_consistent_file_with_another_checksum_is_none(tmp_path):
    """Written by other means: every checksum of the zip file is right, ours is not."""
    other = SMALL._replace(train_labels=np.array([0, 1, 3], np.uint8))
    np.savez(tmp_path / "small.npz", **other._asdict(), source="by hand", checksum=arrays.checksum(SMALL))
    assert cache.read(tmp_path / "small.npz") is None


def test_a_file_that_would_run_code_is_none(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("the cached file was unpickled",))

    harmful = np.array([Bomb()], object)
    np.savez(tmp_path / "small.npz", **(SMALL._asdict() | {"test_labels": harmful}), source="", checksum="")
    assert cache.read(tmp_path / "small.npz") is None


def test_a_failed_write_leaves_nothing_and_spares_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "small.npz"
    cache.write(path, SMALL, "by hand")

    def fail(file, **contents):
        file.write(b"half a")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(errors.CacheError, match=r"cannot be written \(No space left on device\). Set SUBLIM_CACHE_DIR"):
        cache.write(path, SMALL, "by hand")
    assert [path.name for path in tmp_path.iterdir()] == ["small.npz"]
    assert_is_small(cache.read(path))


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(errors.CacheError, match="cannot be written"), cache.locked(folder / "small.npz", print):
            pass


def test_a_folder_that_may_not_be_written(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.open", refuse)  # how the lock file comes to be; a test run by root may write anywhere
    expected = pytest.raises(errors.CacheError, match=r"cannot be written \(Permission denied\)")
    with expected, cache.locked(tmp_path / "small.npz", print):
        pass


def test_the_lock_admits_one_at_a_time_and_says_so_to_the_next(tmp_path):
    path, lines, order = tmp_path / "new" / "folder" / "small.npz", [], []
    waiting = threading.Event()

    def announce(line):
        lines.append(line)
        waiting.set()

    def second():
        with cache.locked(path, announce):
            order.append("second")

    with cache.locked(path, lines.append):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert lines == ["another process is preparing small; waiting for it"]


def test_the_lock_falls_back_after_an_error(tmp_path):
    with pytest.raises(KeyError), cache.locked(tmp_path / "small.npz", pytest.fail):
        raise KeyError
    with cache.locked(tmp_path / "small.npz", pytest.fail):
        pass


def test_the_folder_is_the_environments_or_the_systems(monkeypatch, tmp_path):
    monkeypatch.setenv("SUBLIM_CACHE_DIR", str(tmp_path))
    assert cache.default_folder() == tmp_path
    monkeypatch.setenv("SUBLIM_CACHE_DIR", "")
    assert cache.default_folder().name == "sublim-jax"
