"""Small published datasets on the disk and on a local web server, and no way to a user's data or cache."""

import dataclasses
import functools
import hashlib
import http.server
import pathlib
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from sublim_jax.data import arrays, idx, mnist


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path) -> pathlib.Path:
    """A cache for one test. SUBLIM_DATA_DIR is hidden; tests of the real files read it before, as `REAL`."""
    monkeypatch.setenv("SUBLIM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("SUBLIM_DATA_DIR", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def tiny() -> arrays.ImageArrays:
    """25 + 12 random images. The counts differ, so that exchanged files show."""
    rng = np.random.default_rng(0)
    return arrays.ImageArrays(
        train_images=rng.integers(256, size=(25, 28, 28), dtype=np.uint8),
        train_labels=rng.integers(10, size=25, dtype=np.uint8),
        test_images=rng.integers(256, size=(12, 28, 28), dtype=np.uint8),
        test_labels=rng.integers(10, size=12, dtype=np.uint8),
    )


@pytest.fixture
def publish() -> Callable[..., mnist.PublishedDataset]:
    """Write the four .gz files of some arrays into a folder; returns the dataset with their names and checksums."""

    def publish(
        folder: pathlib.Path, contents: arrays.ImageArrays, *, name: str = "mnist", url: str = "http://nowhere/"
    ):
        folder.mkdir(parents=True, exist_ok=True)
        files = {}
        for role, file in mnist.MNIST.files.items():
            path = folder / f"{file.name}.gz"
            idx.write(path, getattr(contents, role), compress=True)
            files[role] = mnist.PublishedFile(
                name=file.name,
                num_bytes=path.stat().st_size,
                gz_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
                content_sha256=hashlib.sha256(idx.serialize(getattr(contents, role))).hexdigest(),
            )
        return mnist.PublishedDataset(
            name=name, url=url, **files, num_train=len(contents.train_labels), num_test=len(contents.test_labels)
        )

    return publish


@dataclasses.dataclass
class Server:
    """Serves the files of a folder and counts what it was asked for."""

    url: str
    folder: pathlib.Path
    requests: list[str]


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    """A local web server, with an empty folder."""
    folder, requests = tmp_path / "served", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            requests.append(str(args[0]))

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
    ) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Server(f"http://127.0.0.1:{running.server_port}/", folder, requests)
        running.shutdown()
        thread.join()
