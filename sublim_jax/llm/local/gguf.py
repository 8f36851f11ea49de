"""GGUF files, llama.cpp's format for the weights of one model: metadata, and tensors as float32.

    file = GGUFFile("SmolLM2-135M-Instruct.Q4_1.gguf")
    file.entry("llama.block_count", specs.Count)      a metadata entry, checked
    file["token_embd.weight"]                         a tensor, read from the disk and dequantised when it is asked for

Read are versions 2 and 3, little-endian, and tensors of the types in `TYPES`: every other type, a file in parts and a
file that is cut short are refused by name. `gguf_llama` says what the entries and tensors of a model mean.

Source: the format's description in ggml, docs/gguf.md, and its block layouts in ggml-common.h.
"""

import collections
import hashlib
import math
import mmap
import os
import pathlib
import struct
from typing import Any, NamedTuple

import numpy as np

from sublim_jax import errors, specs
from sublim_jax.llm.local import entries

MAGIC, VERSIONS, SUFFIX = b"GGUF", (2, 3), ".gguf"
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
"""Formats of single numbers in the metadata, by their code."""
_TEXT, _ARRAY = 8, 9
_MAX_DIMENSIONS = 4


class TensorType(NamedTuple):
    """How a type stores numbers: in blocks of consecutive ones, along the last axis."""

    name: str
    values: int  # numbers in a block
    size: int  # bytes of a block


TYPES = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    2: TensorType("Q4_0", 32, 18),
    3: TensorType("Q4_1", 32, 20),
    8: TensorType("Q8_0", 32, 34),
    30: TensorType("BF16", 1, 2),
}
"""Types that are read, by their code."""
OTHER_TYPES = {
    6: "Q5_0", 7: "Q5_1", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K",
    16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS",
    24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip
"""Names of types that are not read."""


def is_gguf(place: str | os.PathLike[str]) -> bool:
    """Whether a place of weights is meant to be a GGUF file: a file, or a name that ends in .gguf and is no folder."""
    path = pathlib.Path(place)
    return path.is_file() or (path.suffix.lower() == SUFFIX and not path.is_dir())


class Tensor(NamedTuple):
    """Where a tensor stands in the file."""

    shape: tuple[int, ...]  # as in PyTorch, the last axis consecutive; the file has it in reverse
    type: TensorType
    offset: int  # of its first byte in the file
    row_size: int  # bytes of one index of the first axis


class GGUFFile:
    """A GGUF file whose header is read, and whose tensors are read and dequantised when they are asked for.

    Raises:
        ModelFormatError: no such file, no GGUF file, or one that is not supported or cut short.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = pathlib.Path(path)
        try:
            with open(self.path, "rb") as file:
                # The map duplicates the file's descriptor, so it outlives the file that is closed here.
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise errors.ModelFormatError(f"{self.path}: the file is empty; download it again") from error
        except OSError as error:
            raise errors.ModelFormatError(f"{self.path}: there is no readable file ({error.strerror})") from error
        header = _Header(self.path, self._data)
        header.require_version()
        num_tensors, num_entries = header.number("<Q"), header.number("<Q")
        self.metadata: dict[str, Any] = header.pairs(num_entries)
        if self.metadata.get("split.count", 1) != 1:
            raise errors.ModelFormatError(
                f"{self.path}: this is one of {self.metadata['split.count']} parts of a model; put them together with "
                f"`llama-gguf-split --merge` and open the result"
            )
        self._tensors = header.tensors(num_tensors, self.entry("general.alignment", specs.Count, 32))

    def entry(self, name: str, annotation: Any, default: Any = ...) -> Any:
        """A metadata entry.

        Args:
            default: what a file without it means; by default it must have it.

        Raises:
            ModelFormatError: it is missing, or the annotation does not allow it.
        """
        value = self.metadata.get(name, default)
        if value is ...:
            raise errors.ModelFormatError(f"{self.path}: the metadata entry {name} is missing; was it converted whole?")
        if name in self.metadata:
            entries.check(value, annotation, f"{self.path}: {name}")
        return value

    def names(self) -> set[str]:
        """Names of all tensors."""
        return set(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, as in PyTorch."""
        return self._tensors[name].shape

    def types(self) -> dict[str, int]:
        """Number of tensors of each type, by the type's name, the most frequent first."""
        return dict(collections.Counter(tensor.type.name for tensor in self._tensors.values()).most_common())

    def sha256(self) -> str:
        """Hash of the whole file, in hex digits."""
        return hashlib.sha256(self._data).hexdigest()

    def description(self) -> str:
        """The file in a line, for records: its name, how its weights are stored, its licence and its hash."""
        stored = ", ".join(f"{count} {name}" for name, count in self.types().items())
        license_name = self.entry("general.license", str, "not named")
        return (
            f"weights of {self.path.name}, dequantised ({stored} tensors); licence {license_name}; sha256 "
            f"{self.sha256()}"
        )

    def rows(self, name: str, index: np.ndarray | slice) -> np.ndarray:
        """Those indices of the first axis of a tensor, as float32 numbers of their own: the file may change after."""
        tensor = self._tensors[name]
        size = tensor.shape[0] * tensor.row_size
        stored = np.frombuffer(self._data, np.uint8, size, tensor.offset).reshape(tensor.shape[0], tensor.row_size)
        chosen = stored[index]
        values = dequantised(chosen.reshape(-1, tensor.type.size), tensor.type.name)
        return values.reshape(len(chosen), *tensor.shape[1:])

    def __getitem__(self, name: str) -> np.ndarray:
        return self.rows(name, slice(None))


def dequantised(blocks: np.ndarray, type_name: str) -> np.ndarray:
    """The numbers in some blocks (block, byte) of a type, as float32 (block, number).

    A block of Q8_0 is a scale and 32 signed bytes. One of Q4_0 is a scale and 16 bytes, one of Q4_1 a scale, a minimum
    and 16 bytes: their low halves are the numbers 0 to 15, their high halves 16 to 31. Scales and minima are float16.
    """

    def half(start: int) -> np.ndarray:
        return np.ascontiguousarray(blocks[:, start : start + 2]).view("<f2").astype(np.float32)

    def nibbles(start: int) -> np.ndarray:
        return np.concatenate([blocks[:, start:] & 15, blocks[:, start:] >> 4], axis=1)

    blocks = np.ascontiguousarray(blocks)
    match type_name:
        case "F32":
            return blocks.view("<f4").astype(np.float32)  # a copy
        case "F16":
            return blocks.view("<f2").astype(np.float32)
        case "BF16":
            return (blocks.view("<u2").astype(np.uint32) << 16).view(np.float32)
        case "Q8_0":
            return half(0) * blocks[:, 2:].view(np.int8)
        case "Q4_0":
            return half(0) * (nibbles(2).astype(np.int8) - np.int8(8))
        case "Q4_1":
            values = half(0) * nibbles(4)
            values += half(2)
            return values
    raise AssertionError(type_name)


class _Header:
    """Reads what stands before the tensors, from the start on, and refuses to read beyond the end."""

    def __init__(self, path: pathlib.Path, data: mmap.mmap):
        self._path, self._data, self._at = path, data, 0

    def number(self, form: str) -> Any:
        (value,) = self._numbers(form, 1)
        return value

    def _numbers(self, form: str, count: int) -> tuple[Any, ...]:
        self._require(count * struct.calcsize(form))
        values = struct.unpack_from(f"<{count}{form[1:]}", self._data, self._at)
        self._at += count * struct.calcsize(form)
        return values

    def _require(self, size: int) -> None:
        if self._at + size > len(self._data):
            raise errors.ModelFormatError(
                f"{self._path}: the file ends within its header, at byte {len(self._data):,}; it is cut short, "
                f"download it again"
            )

    def require_version(self) -> None:
        """Refuse another format, another version and numbers in the other byte order."""
        magic = self._data[: len(MAGIC)]
        if magic != MAGIC:
            raise errors.ModelFormatError(
                f"{self._path}: this is no GGUF file: it begins with {magic!r}, expected {MAGIC!r}. Give a "
                f"folder as the hub lays it out, or a GGUF file"
            )
        self._at = len(MAGIC)
        version = self.number("<I")
        if version in VERSIONS:
            return
        if int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS:
            raise errors.ModelFormatError(
                f"{self._path}: this GGUF file is big-endian; only little-endian ones are read"
            )
        raise errors.ModelFormatError(f"{self._path}: version {version} of GGUF is not read; versions 2 and 3 are")

    def text(self) -> str:
        size = self.number("<Q")
        self._require(size)
        self._at += size
        try:
            return self._data[self._at - size : self._at].decode("utf-8")
        except UnicodeDecodeError as error:
            raise errors.ModelFormatError(
                f"{self._path}: a text of its header, before byte {self._at:,}, is not UTF-8; the file is damaged"
            ) from error

    def pairs(self, count: int) -> dict[str, Any]:
        """The metadata."""
        metadata: dict[str, Any] = {}
        for _ in range(count):
            name = self.text()
            if name in metadata:
                raise errors.ModelFormatError(f"{self._path}: the metadata entry {name} is there twice")
            metadata[name] = self._value(name, self.number("<I"))
        return metadata

    def _value(self, name: str, kind: int) -> Any:
        if kind == _TEXT:
            return self.text()
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _ARRAY:
            kind, count = self.number("<I"), self.number("<Q")
            if kind == _TEXT:
                return tuple(self.text() for _ in range(count))
            if kind in _SCALARS:
                return self._numbers(_SCALARS[kind], count)
        raise errors.ModelFormatError(
            f"{self._path}: the metadata entry {name} has a value of kind {kind}, which GGUF does not define or which "
            f"is not supported; the file may be damaged"
        )

    def tensors(self, count: int, alignment: int) -> dict[str, Tensor]:
        """Where all tensors stand, each within the file."""
        if alignment < 1 or alignment & (alignment - 1):
            raise errors.ModelFormatError(f"{self._path}: general.alignment={alignment} is no power of two")
        described: dict[str, tuple[tuple[int, ...], TensorType, int]] = {}
        for _ in range(count):
            name = self.text()
            if name in described:
                raise errors.ModelFormatError(f"{self._path}: the tensor {name} is there twice")
            described[name] = self._shape(name), self._type(name), self.number("<Q")
        start = -(-self._at // alignment) * alignment
        return {name: self._placed(name, *tensor, start, alignment) for name, tensor in described.items()}

    def _shape(self, name: str) -> tuple[int, ...]:
        num_dimensions = self.number("<I")
        if not 1 <= num_dimensions <= _MAX_DIMENSIONS:
            raise errors.ModelFormatError(
                f"{self._path}: {name} has {num_dimensions} dimensions, expected 1 to {_MAX_DIMENSIONS}; the file is "
                f"damaged"
            )
        shape = self._numbers("<Q", num_dimensions)[::-1]
        if 0 in shape:
            raise errors.ModelFormatError(f"{self._path}: {name} has shape {shape}, which holds no numbers")
        return shape

    def _type(self, name: str) -> TensorType:
        code = self.number("<I")
        if code not in TYPES:
            readable = ", ".join(known.name for known in TYPES.values())
            raise errors.ModelFormatError(
                f"{self._path}: {name} is stored as {OTHER_TYPES.get(code, f'type {code}')}, which is not supported; "
                f"supported are {readable}. Convert the model to one of these"
            )
        return TYPES[code]

    def _placed(
        self, name: str, shape: tuple[int, ...], kind: TensorType, offset: int, start: int, alignment: int
    ) -> Tensor:
        if shape[-1] % kind.values or (len(shape) == 1 and kind.values > 1):
            raise errors.ModelFormatError(
                f"{self._path}: {name} of shape {shape} is stored as {kind.name}, whose blocks of {kind.values} "
                f"numbers are parts of rows, and they do not fit; the file is damaged"
            )
        if offset % alignment:
            raise errors.ModelFormatError(
                f"{self._path}: {name} begins at {offset:,}, no multiple of the alignment {alignment}; the "
                f"file is damaged"
            )
        size = math.prod(shape) // kind.values * kind.size
        if start + offset + size > len(self._data):
            raise errors.ModelFormatError(
                f"{self._path}: the tensor {name} ends at byte {start + offset + size:,}, and the file has "
                f"{len(self._data):,}; it is cut short, download it again"
            )
        return Tensor(shape, kind, start + offset, size // shape[0])
