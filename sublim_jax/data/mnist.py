"""MNIST and its two drop-in replacements as published: file names, addresses, checksums, and a folder of them.

Fashion-MNIST and KMNIST have the same four file names, sizes and format as MNIST, so only a checksum tells them apart.
Addresses, sizes and the sha256 of the .gz files are those registered by TensorFlow Datasets 4.9.10. The sha256 of the
unpacked content is known for MNIST alone; of an unpacked file of the others only the format can be verified.
"""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Mapping

from sublim_jax import errors
from sublim_jax.data import arrays, idx


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """One IDX file as its authors publish it."""

    name: str  # without .gz
    num_bytes: int  # of the .gz
    gz_sha256: str
    content_sha256: str | None = None  # of what unpacking gives; None where it is not known


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublishedDataset:
    """Four IDX files and where they lie."""

    name: str
    url: str  # of the folder, with a slash at its end
    train_images: PublishedFile
    train_labels: PublishedFile
    test_images: PublishedFile
    test_labels: PublishedFile
    num_train: int = 60_000
    num_test: int = 10_000

    @property
    def files(self) -> dict[str, PublishedFile]:
        """The four files by the name of the array that each holds."""
        return {role: getattr(self, role) for role in arrays.ImageArrays._fields}

    def address(self, file: PublishedFile) -> str:
        """Where the gzipped `file` can be fetched."""
        return f"{self.url}{file.name}.gz"


MNIST = PublishedDataset(
    name="mnist",
    url="https://storage.googleapis.com/cvdf-datasets/mnist/",
    train_images=PublishedFile(
        name="train-images-idx3-ubyte",
        num_bytes=9_912_422,
        gz_sha256="440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        content_sha256="ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    train_labels=PublishedFile(
        name="train-labels-idx1-ubyte",
        num_bytes=28_881,
        gz_sha256="3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        content_sha256="65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    test_images=PublishedFile(
        name="t10k-images-idx3-ubyte",
        num_bytes=1_648_877,
        gz_sha256="8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        content_sha256="0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    test_labels=PublishedFile(
        name="t10k-labels-idx1-ubyte",
        num_bytes=4_542,
        gz_sha256="f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        content_sha256="ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)

FASHION_MNIST = PublishedDataset(
    name="fashion-mnist",
    url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    train_images=PublishedFile(
        name="train-images-idx3-ubyte",
        num_bytes=26_421_880,
        gz_sha256="3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    ),
    train_labels=PublishedFile(
        name="train-labels-idx1-ubyte",
        num_bytes=29_515,
        gz_sha256="a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    ),
    test_images=PublishedFile(
        name="t10k-images-idx3-ubyte",
        num_bytes=4_422_102,
        gz_sha256="346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    ),
    test_labels=PublishedFile(
        name="t10k-labels-idx1-ubyte",
        num_bytes=5_148,
        gz_sha256="67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
)

KMNIST = PublishedDataset(
    name="kmnist",
    url="http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
    train_images=PublishedFile(
        name="train-images-idx3-ubyte",
        num_bytes=18_165_135,
        gz_sha256="51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
    ),
    train_labels=PublishedFile(
        name="train-labels-idx1-ubyte",
        num_bytes=29_497,
        gz_sha256="e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
    ),
    test_images=PublishedFile(
        name="t10k-images-idx3-ubyte",
        num_bytes=3_041_136,
        gz_sha256="edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
    ),
    test_labels=PublishedFile(
        name="t10k-labels-idx1-ubyte",
        num_bytes=5_120,
        gz_sha256="20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
    ),
)

DATASETS = {dataset.name: dataset for dataset in (MNIST, FASHION_MNIST, KMNIST)}


def read_folder(folder: str | os.PathLike[str], dataset: PublishedDataset) -> tuple[arrays.ImageArrays, bool]:
    """The four files of `dataset`, gzipped or not, from `folder` or from a subfolder with the dataset's name.

    Returns:
        The arrays, and whether every checksum was verified: false when a file whose content's checksum is not known
        came unpacked.

    Raises:
        DataUnavailableError: there is no such folder, or a file is missing.
        DataFormatError: a file is not IDX, is cut, or does not fit the others.
        ChecksumError: a file is well formed but not the published one.
    """
    try:
        paths = {role: _find(pathlib.Path(folder), dataset, file) for role, file in dataset.files.items()}
    except OSError as error:
        raise errors.DataUnavailableError(
            f"{os.fspath(folder)}: expected the folder of {dataset.name}'s four IDX files, but it cannot be read "
            f"({error.strerror}). Check its permissions."
        ) from error
    raw = {role: idx.read_bytes(path) for role, path in paths.items()}
    contents = {role: idx.decompress(data, where=str(paths[role])) for role, data in raw.items()}
    parsed = arrays.ImageArrays(**{role: idx.parse(data, where=str(paths[role])) for role, data in contents.items()})
    # Shape and labels first: "exchanged" or "label 17" says more than a checksum does.
    arrays.check(parsed, where=os.fspath(folder), num_train=dataset.num_train, num_test=dataset.num_test)
    verified = [
        _verify(file, dataset.name, raw=raw[role], content=contents[role], where=str(paths[role]))
        for role, file in dataset.files.items()
    ]
    return parsed, all(verified)


def read_downloads(paths: Mapping[str, str | os.PathLike[str]], dataset: PublishedDataset) -> arrays.ImageArrays:
    """Arrays of the four files at `paths`, whose bytes were verified when they were downloaded."""
    parsed = arrays.ImageArrays(**{role: idx.read(paths[role]) for role in dataset.files})
    arrays.check(parsed, where=dataset.url, num_train=dataset.num_train, num_test=dataset.num_test)
    return parsed


def _find(folder: pathlib.Path, dataset: PublishedDataset, file: PublishedFile) -> pathlib.Path:
    if not folder.is_dir():
        raise errors.DataUnavailableError(
            f"{folder}: expected the folder of {dataset.name}'s four IDX files, but "
            f"{'it is a file' if folder.exists() else 'there is no such folder'}. Check data_dir or SUBLIM_DATA_DIR."
        )
    dotted = file.name.replace("-idx", ".idx")  # some archives unpack to train-images.idx3-ubyte
    for place in (folder / dataset.name, folder):
        for name in (file.name + ".gz", file.name, dotted + ".gz", dotted):
            if (place / name).exists():
                return place / name
    present = sorted(path.name for path in folder.iterdir())
    raise errors.DataUnavailableError(
        f"{folder}: expected {file.name}.gz or {file.name}, one of {dataset.name}'s four IDX files, but it holds "
        f"{', '.join(present[:6]) if present else 'nothing'}{', ...' if len(present) > 6 else ''}. "
        f"Download it from {dataset.address(file)}."
    )


def _verify(file: PublishedFile, name: str, *, raw: bytes, content: bytes, where: str) -> bool:
    """Whether the checksum could be verified. Gzipped again, a file has another one but the same content."""
    gzipped = raw.startswith(idx.GZIP_MAGIC)
    raw_sha256 = hashlib.sha256(raw).hexdigest()
    if raw_sha256 == file.gz_sha256:
        return True
    content_sha256 = hashlib.sha256(content).hexdigest()
    if content_sha256 == file.content_sha256:
        return True
    owner = {
        checksum: f"{other.name}'s {published.name}"
        for other in DATASETS.values()
        for published in other.files.values()
        for checksum in (published.gz_sha256, published.content_sha256)
    }.get(raw_sha256)
    if owner is None and not gzipped and file.content_sha256 is None:
        return False
    expected, actual = (file.gz_sha256, raw_sha256) if gzipped else (file.content_sha256, content_sha256)
    raise errors.ChecksumError(
        f"{where}: expected the sha256 of {name}'s {file.name}, {expected}, but found {actual}. "
        + (
            f"This is {owner}: ask for that dataset or give the other folder."
            if owner
            else "The file is well formed but not the published one; download it again."
        )
    )
