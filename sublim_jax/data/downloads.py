"""The published datasets through TensorFlow Datasets, without TensorFlow.

TFDS's own builders of these datasets decode images with TensorFlow, which is not installed. The builder here uses its
download manager and checksums, its `Tensor` feature and its array_record files, none of which need TensorFlow. TFDS
takes a second to import and is imported when it is needed.

Left to itself TFDS tries an unreachable host for over three minutes, so whether it answers is decided beforehand.
"""

import contextlib
import functools
import io
import os
import pathlib
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from sublim_jax import errors, files
from sublim_jax.data import arrays, mnist

SOURCE = "TensorFlow Datasets"
REACH_SECONDS = 2.5  # how long a host may take to answer before it counts as unreachable
VERSION = "1.0.0"  # of what the builder writes
RECORD_IMAGES = 1_000  # images in one record; with one in each, the first start takes twenty seconds longer


def load(
    dataset: mnist.PublishedDataset, folder: str | os.PathLike[str], *, announce: Callable[[str], object] = print
) -> arrays.ImageArrays:
    """The arrays of `dataset`, downloaded and prepared in `folder` unless they lie there already.

    Args:
        folder: holds a `data_dir` of TFDS for each dataset. One process at a time may prepare a dataset in it.

    Raises:
        DataUnavailableError: the host does not answer or breaks off, or TFDS fails.
        ChecksumError: what was downloaded is not the published file.
        CacheError: `folder` cannot be written.
    """
    own_folder = pathlib.Path(folder) / dataset.name
    if (own_folder / "sublim_images" / VERSION).exists():
        try:
            return _read(_builder(dataset, own_folder), dataset)
        except Exception as error:  # a damaged file makes TFDS raise nearly anything; the answer is always to rebuild
            announce(f"{dataset.name}: what TensorFlow Datasets had prepared is damaged ({error}) and is made again")
    refuse_unreachable(dataset.address(dataset.train_labels), name=dataset.name)
    announce(f"{dataset.name}: downloading from {dataset.url}")
    try:
        files.remove_folder(own_folder / "sublim_images")
        builder = _builder(dataset, own_folder)
        _prepare(builder, own_folder / "downloads")
        return _read(builder, dataset)
    except errors.DataError:
        raise
    except Exception as error:
        raise _translated(error, dataset, folder) from error


def refuse_unreachable(url: str, *, name: str, seconds: float = REACH_SECONDS) -> None:
    """Return if `url` can be fetched; otherwise say so within `seconds`. Proxies count as they do for the download.

    Raises:
        DataUnavailableError: no answer, or one that is not the file.
    """
    import requests  # TFDS downloads with it, so an answer here is one there

    outcome: list[str] = []

    def ask() -> None:
        try:
            answer = requests.head(url, timeout=seconds, allow_redirects=True)
            understood = answer.ok or answer.status_code in (405, 501)  # some servers know no HEAD
            outcome.append("" if understood else f"HTTP {answer.status_code} {answer.reason}")
        except requests.RequestException as error:
            outcome.append(type(error).__name__)

    # A thread, because looking up the name of a host can take half a minute that no timeout bounds.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    reason = outcome[0] if outcome else f"no answer within {seconds} s"
    if reason:
        raise errors.DataUnavailableError(
            f"{name} could not be fetched from {urllib.parse.urlsplit(url).netloc} ({reason}): no connection, a proxy, "
            f"or the host is down. Give the folder of its four IDX files as data_dir or SUBLIM_DATA_DIR."
        )


def _prepare(builder: Any, downloads: pathlib.Path) -> None:
    """Download, verify and write array_record files, in TFDS's way: into a temporary folder that is then renamed."""
    import tensorflow_datasets as tfds

    config = tfds.download.DownloadConfig(try_download_gcs=False, force_checksums_validation=True)
    try:
        with _quiet():
            builder.download_and_prepare(download_dir=downloads, download_config=config, file_format="array_record")
    finally:
        files.remove_folder(downloads)  # the next time TFDS would trust these files without a look


def _read(builder: Any, dataset: mnist.PublishedDataset) -> arrays.ImageArrays:
    """All records of both splits as arrays."""
    columns = {}
    for split in ("train", "test"):
        with _quiet():
            records = list(builder.as_data_source(split))
        for column in ("images", "labels"):
            columns[f"{split}_{column}"] = np.concatenate([record[column] for record in records])
    loaded = arrays.ImageArrays(**columns)
    arrays.check(loaded, where=str(builder.data_dir), num_train=dataset.num_train, num_test=dataset.num_test)
    return loaded


def _translated(error: Exception, dataset: mnist.PublishedDataset, folder: str | os.PathLike[str]) -> errors.DataError:
    """The error of this package for one that TFDS raised."""
    import requests

    reason = " ".join(str(error).split())  # TFDS's messages have several lines
    if type(error).__name__ == "NonMatchingChecksumError":  # not among TFDS's public names
        return errors.ChecksumError(
            f"{dataset.url}: expected the published files of {dataset.name}, but what came has another checksum: "
            f"probably an error page or the login page of a network. Try again later, or give the folder of the four "
            f"IDX files as data_dir or SUBLIM_DATA_DIR. TensorFlow Datasets says: {reason}"
        )
    if isinstance(error, OSError) and not isinstance(error, requests.RequestException):
        return errors.CacheError(
            f"{os.fspath(folder)}: expected a folder for prepared datasets, but it cannot be written "
            f"({error.strerror or error}). Set SUBLIM_CACHE_DIR to a folder you may write to, with 200 MB free."
        )
    return errors.DataUnavailableError(
        f"{dataset.name} could not be fetched from {dataset.url} by TensorFlow Datasets ({type(error).__name__}: "
        f"{reason}). Try again later, or give the folder of its four IDX files as data_dir or SUBLIM_DATA_DIR."
    )


def _builder(dataset: mnist.PublishedDataset, folder: pathlib.Path) -> Any:
    return _builder_class()(dataset, data_dir=folder)


@functools.cache  # TFDS registers a builder class by its name and refuses a second one
def _builder_class() -> type:
    """The builder, made here because its base class is TFDS's."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import utils
    from tensorflow_datasets.core.download import checksums

    class SublimImages(tfds.core.GeneratorBasedBuilder):
        """A published dataset in its published order, many images to a record."""

        VERSION = tfds.core.Version(VERSION)

        def __init__(self, dataset, **options):
            self.dataset = dataset
            super().__init__(**options)

        @property
        def url_infos(self):
            """Sizes and checksums against which TFDS verifies the downloads."""
            return {
                self.dataset.address(file): checksums.UrlInfo(
                    size=utils.Size(file.num_bytes), checksum=file.gz_sha256, filename=f"{file.name}.gz"
                )
                for file in self.dataset.files.values()
            }

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(
                    {
                        "images": tfds.features.Tensor(shape=(None, 28, 28), dtype=np.uint8),
                        "labels": tfds.features.Tensor(shape=(None,), dtype=np.uint8),
                    }
                ),
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager):
            urls = {role: self.dataset.address(file) for role, file in self.dataset.files.items()}
            loaded = mnist.read_downloads(dl_manager.download(urls), self.dataset)
            return {
                "train": self._generate_examples(loaded.train_images, loaded.train_labels),
                "test": self._generate_examples(loaded.test_images, loaded.test_labels),
            }

        def _generate_examples(self, images, labels):
            for start in range(0, len(images), RECORD_IMAGES):
                chunk = slice(start, start + RECORD_IMAGES)
                yield start, {"images": images[chunk], "labels": labels[chunk]}

    return SublimImages


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence while TFDS works: it prints and draws progress bars, and one line of our own has said what happens.

    TFDS is not imported in here: the logger that comes with it would keep the silenced stream for good.
    """
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
