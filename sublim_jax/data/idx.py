"""IDX, the file format of MNIST: unsigned bytes with a shape in front.

Two zero bytes, a type code (8: unsigned byte), the number of dimensions, each size as a big-endian 32-bit integer, then
the data in C order. Published files are gzipped; whether a file is, is decided by its first bytes and not by its name.

Source: LeCun, Cortes, Burges, "The MNIST database of handwritten digits", section "File formats".
"""

import gzip
import math
import os
import pathlib
import struct
import zlib

import numpy as np
from jaxtyping import UInt8

from sublim_jax import errors, files

GZIP_MAGIC = b"\x1f\x8b"
UNSIGNED_BYTE = 0x08
OTHER_TYPES = {0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}


def read(path: str | os.PathLike[str]) -> UInt8[np.ndarray, "..."]:
    """Array in an IDX file, gzipped or not.

    Raises:
        DataUnavailableError: there is no such file, or it cannot be opened.
        DataFormatError: it is not an IDX file of unsigned bytes, is cut, or is too long.
    """
    where = os.fspath(path)
    return parse(decompress(read_bytes(path), where=where), where=where)


def write(path: str | os.PathLike[str], array: UInt8[np.ndarray, "..."], *, compress: bool = False) -> None:
    """Write `array` as an IDX file. `compress` gzips it, without a time stamp: equal arrays give equal files."""
    data = serialize(array)
    content = gzip.compress(data, mtime=0) if compress else data
    files.write(pathlib.Path(path), content, ours=_is_idx, what="IDX file")


def _is_idx(path: pathlib.Path) -> bool:
    try:
        read(path)
    except errors.DataError:
        return False
    return True


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Bytes of a file as they lie on the disk, gzipped or not.

    Raises:
        DataUnavailableError: there is no such file, or it cannot be opened.
    """
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise errors.DataUnavailableError(
            f"{os.fspath(path)}: expected an IDX file, but it cannot be read ({error.strerror}). Check the path."
        ) from error


def decompress(data: bytes, *, where: str) -> bytes:
    """The bytes inside `data` if it is gzipped, otherwise `data` itself. `where` names it in errors.

    Raises:
        DataFormatError: the gzip stream is cut, damaged, or followed by something else.
    """
    if not data.startswith(GZIP_MAGIC):
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise errors.DataFormatError(
            f"{where}: it starts like a gzip file, but its {len(data):,} bytes do not unpack ({error}). The file is "
            f"truncated or damaged, probably by an interrupted download; download it again."
        ) from error


def parse(data: bytes, *, where: str) -> UInt8[np.ndarray, "..."]:
    """Array in the bytes of an IDX file that is not gzipped. A read-only view of `data`. `where` names it in errors.

    Raises:
        DataFormatError: the bytes are not IDX of unsigned bytes, are cut, or go on after the array.
    """
    if len(data) < 4:
        raise errors.DataFormatError(
            f"{where}: expected an IDX header of at least 8 bytes, but found {len(data)} bytes in all. The file is "
            f"{'truncated' if data else 'empty'}, probably by an interrupted download; download it again."
        )
    if data[:2] != b"\0\0" or data[2] != UNSIGNED_BYTE or data[3] == 0:
        raise errors.DataFormatError(
            f"{where}: expected an IDX file of unsigned bytes, which starts with 00 00 08 and a number of dimensions, "
            f"but found {data[:4].hex(' ')}. {_likely_cause(data)}"
        )
    num_dims = data[3]
    header_size = 4 + 4 * num_dims
    if len(data) < header_size:
        raise errors.DataFormatError(
            f"{where}: the header of {num_dims} dimensions needs {header_size} bytes, but the file has {len(data)}. "
            f"The file is truncated, probably by an interrupted download; download it again."
        )
    shape = struct.unpack(f">{num_dims}I", data[4:header_size])
    expected, actual = math.prod(shape), len(data) - header_size
    if expected != actual:
        raise errors.DataFormatError(
            f"{where}: the header promises {shape} = {expected:,} bytes of data, but {actual:,} follow it. The file is "
            f"{'truncated' if actual < expected else 'too long'}; download it again."
        )
    try:
        return np.frombuffer(data, np.uint8, offset=header_size).reshape(shape)
    except ValueError as error:  # more than 64 dimensions, or an empty array whose other sizes overflow
        raise errors.DataFormatError(f"{where}: no array can have the header's shape {shape} ({error}).") from error


def serialize(array: UInt8[np.ndarray, "..."]) -> bytes:
    """Bytes of `array` as an IDX file, not gzipped: the inverse of `parse`.

    Raises:
        InputError: `array` is a scalar, or one of its sizes does not fit into 32 bits.
    """
    if array.dtype != np.uint8:
        raise errors.InputError(f"an IDX file here holds unsigned bytes (uint8), got an array of {array.dtype}")
    if not 1 <= array.ndim <= 64 or max(array.shape) >= 2**32:
        raise errors.InputError(f"an IDX file holds 1 to 64 dimensions, each below 2**32, got the shape {array.shape}")
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, UNSIGNED_BYTE, array.ndim, *array.shape) + array.tobytes()


def _likely_cause(data: bytes) -> str:
    """One sentence on what a file with a wrong first word probably is."""
    if data[:512].lstrip().startswith(b"<"):
        return "It is an HTML or XML page, probably an error page saved by the download; download it again."
    if data.startswith(b"PK"):
        return "It is a zip archive; unpack it and give the folder of the four files."
    if data[:2] == b"\0\0" and data[2] in OTHER_TYPES:
        return f"It is an IDX file of {OTHER_TYPES[data[2]]}; the files of MNIST hold unsigned bytes."
    return "The file is something else, or damaged; download it again."
