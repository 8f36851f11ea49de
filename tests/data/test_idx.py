import gzip

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublim_jax import errors
from sublim_jax.data import idx

BYTE_ARRAYS = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5))
TWO_BY_THREE = bytes(
    [0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 10, 11, 12, 20, 21, 22]
)  # by hand, from the format's definition


def test_a_file_written_by_hand():
    np.testing.assert_array_equal(idx.parse(TWO_BY_THREE, where="f"), [[10, 11, 12], [20, 21, 22]])
    assert idx.serialize(np.array([[10, 11, 12], [20, 21, 22]], np.uint8)) == TWO_BY_THREE


def test_sizes_are_big_endian_and_32_bit():
    assert idx.parse(bytes([0, 0, 8, 1, 0, 0, 1, 2]) + bytes(258), where="f").shape == (258,)


@given(array=BYTE_ARRAYS, gzipped=st.booleans())
def test_round_trip(array, gzipped):
    data = idx.serialize(array)
    found = idx.parse(idx.decompress(gzip.compress(data) if gzipped else data, where="f"), where="f")
    np.testing.assert_array_equal(found, array, strict=True)


@given(array=BYTE_ARRAYS)
def test_the_order_in_memory_does_not_matter(array):
    """An array in Fortran order, which is not contiguous, gives the same file."""
    assert idx.serialize(np.asfortranarray(array)) == idx.serialize(array)


@given(
    array=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=3)), gzipped=st.booleans()
)
def test_every_strict_prefix_is_refused(array, gzipped):
    data = idx.serialize(array)
    data = gzip.compress(data, mtime=0) if gzipped else data
    for length in range(len(data)):
        with pytest.raises(errors.DataFormatError, match=r"truncated|empty"):
            idx.parse(idx.decompress(data[:length], where="f"), where="f")


@given(array=BYTE_ARRAYS, extra=st.binary(min_size=1, max_size=4))
def test_trailing_bytes_are_refused(array, extra):
    with pytest.raises(errors.DataFormatError, match=r"^f: the header promises .* too long"):
        idx.parse(idx.serialize(array) + extra, where="f")


@given(header=st.binary(max_size=8), rest=st.binary(max_size=40))
def test_whatever_is_accepted_is_what_serialize_writes(header, rest):
    """Arbitrary bytes give our own error or an array whose file they are; never another exception."""
    for data in (header + rest, b"\0\0\x08" + header + rest, idx.GZIP_MAGIC + header + rest):
        try:
            array = idx.parse(idx.decompress(data, where="f"), where="f")
        except errors.DataFormatError as error:
            assert str(error).startswith("f: ")
        else:
            assert idx.serialize(array) == data


@given(array=BYTE_ARRAYS, position=st.integers(0), flipped=st.integers(1, 255))
def test_a_damaged_gzip_file_is_refused_or_harmless(array, position, flipped):
    """Gzip's own checksum guards the content. A few bytes of its header, such as the time, carry none of it."""
    data = bytearray(gzip.compress(idx.serialize(array), mtime=0))
    data[position % len(data)] ^= flipped
    try:
        found = idx.parse(idx.decompress(bytes(data), where="f"), where="f")
    except errors.DataFormatError:
        return
    np.testing.assert_array_equal(found, array, strict=True)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"f: expected an IDX header .* found 0 bytes in all. The file is empty"),
        (b"\0\0\x08", r"f: expected an IDX header .* found 3 bytes in all. The file is truncated"),
        (
            b"\0\0\x08\x03\0\0\0\1\0\0",
            r"f: the header of 3 dimensions needs 16 bytes, but the file has 10. .*truncated",
        ),
        (TWO_BY_THREE[:-1], r"f: the header promises \(2, 3\) = 6 bytes of data, but 5 follow it. .* truncated"),
        (TWO_BY_THREE + b"\0", r"f: the header promises \(2, 3\) = 6 bytes of data, but 7 follow it. .* too long"),
        (b"<!DOCTYPE html><html>403</html>", r"found 3c 21 44 4f. It is an HTML or XML page, probably an error page"),
        (b"\n <?xml version='1.0'?>", r"It is an HTML or XML page"),
        (b"PK\x03\x04....", r"It is a zip archive; unpack it"),
        (b"\0\0\x0d\x01\0\0\0\0", r"found 00 00 0d 01. It is an IDX file of float32"),
        (b"\0\0\x08\0", r"f: expected .* a number of dimensions, but found 00 00 08 00"),
        (b"\0\1\x08\x01\0\0\0\0", r"f: expected .* found 00 01 08 01. The file is something else"),
        (b"\x08\0\0\x01\0\0\0\0", r"f: expected .* found 08 00 00 01. The file is something else, or damaged"),
        (b"\0\0\x08\x41" + bytes(4 * 65), r"f: no array can have the header's shape"),
        (b"\0\0\x08\x03" + b"\xff" * 8 + bytes(4), r"f: no array can have the header's shape"),
    ],
)
def test_refusals(data, message):
    with pytest.raises(errors.DataFormatError, match=message):
        idx.parse(data, where="f")


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(TWO_BY_THREE, mtime=0) + b"<html>",
        gzip.compress(TWO_BY_THREE, mtime=0)[:-4],
        gzip.compress(TWO_BY_THREE, mtime=0)[:10] + b"\xff" * 20,  # a header, then no deflate stream
        b"\x1f\x8b<html>",
    ],
    ids=["more after it", "cut off", "no deflate stream", "two bytes of it"],
)
def test_a_gzip_file_that_does_not_unpack_is_refused(data):
    with pytest.raises(errors.DataFormatError, match=r"^f: it starts like a gzip file, but its .* bytes do not unpack"):
        idx.decompress(data, where="f")


@pytest.mark.parametrize("name", ["images", "images.gz"])
@pytest.mark.parametrize("compress", [False, True])
def test_the_content_and_not_the_name_says_whether_a_file_is_gzipped(tmp_path, name, compress):
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    idx.write(tmp_path / name, array, compress=compress)
    assert (tmp_path / name).read_bytes().startswith(idx.GZIP_MAGIC) == compress
    np.testing.assert_array_equal(idx.read(tmp_path / name), array, strict=True)


def test_equal_arrays_give_equal_files(tmp_path, monkeypatch):
    array = np.arange(6, dtype=np.uint8)
    for name, now in (("a.gz", 1.0), ("b.gz", 2.0)):
        monkeypatch.setattr("time.time", lambda now=now: now)
        idx.write(tmp_path / name, array, compress=True)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


@pytest.mark.parametrize("content", [gzip.compress(b"years of work", mtime=0), b"\0\0\0\x18ftypmp42", b"\0\0\x08"])
def test_only_an_idx_file_is_replaced(tmp_path, content):
    """Archives are gzipped too, and films begin with zeros."""
    path, array = tmp_path / "paper.tar.gz", np.arange(6, dtype=np.uint8)
    path.write_bytes(content)
    with pytest.raises(errors.OutputError, match="it is not replaced"):
        idx.write(path, array)
    assert path.read_bytes() == content
    for compress in (True, False, True):
        idx.write(tmp_path / "other", array, compress=compress)


def test_errors_name_the_file_as_it_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cut").write_bytes(b"\0\0")
    with pytest.raises(errors.DataFormatError, match=r"^cut: expected"):
        idx.read("cut")
    with pytest.raises(errors.DataUnavailableError, match=r"^absent: .*cannot be read \(No such file"):
        idx.read("absent")
    with pytest.raises(errors.DataUnavailableError, match=r"cannot be read \(Is a directory"):
        idx.read(tmp_path)


def test_what_the_format_cannot_hold_is_refused():
    with pytest.raises(ValueError, match=r"1 to 64 dimensions, each below 2\*\*32, got the shape \(\)"):
        idx.serialize(np.array(3, np.uint8))
    with pytest.raises(ValueError, match="each below"):
        idx.serialize(np.empty((0, 2**32), np.uint8))
    most = np.zeros((1,) * 64, np.uint8)
    assert idx.parse(idx.serialize(most), where="f").shape == most.shape
