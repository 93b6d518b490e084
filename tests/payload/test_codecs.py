# ruff: noqa: S301 - what a test pickled it may unpickle
from __future__ import annotations

import array
import ctypes
import pickle
import struct
import subprocess
import sys
from typing import Any

import msgspec
import numpy as np
import pytest

from ipckit import codec
from ipckit.codec import AnyShape, codec_for
from ipckit.errors import LayoutMismatch
from ipckit.structs import Char, Int, Struct


class Stu(Struct):
    name: Char[32]
    age: Int


class CStu(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char * 32), ("age", ctypes.c_int))


class Login(msgspec.Struct):
    user: str
    tries: int = 0


RECORD = np.dtype([("id", "i4"), ("value", "f8")])

CASES: list[tuple[Any, Any, int | None]] = [
    (bytes, b"\0abc", None),
    (str, "zoë", None),
    (Stu, Stu("amy", 20), 36),
    (CStu, CStu(b"amy", 20), 36),
    (RECORD, np.array([(1, 0.5), (2, 1.5)], RECORD), None),
    (np.int32, np.array([1, 2, 3], np.int32), None),
    (np.dtype("M8[s]"), np.array([0, 1], "M8[s]"), None),
    (Login, Login("amy", 2), None),
    (codec.Pickle, {"any": ["thing"]}, None),
    (codec.Pickle(), {1}, None),
]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return bool(a.dtype == b.dtype and np.array_equal(a, b))
    return bytes(a) == bytes(b) if isinstance(a, ctypes.Structure) else bool(a == b)


@pytest.mark.parametrize(("payload", "value", "size"), CASES)
def test_round_trip_also_of_the_codec(payload: Any, value: Any, size: int | None) -> None:
    first = codec_for(payload)
    second = pickle.loads(pickle.dumps(first))
    assert type(second) is type(first)
    assert first.size == second.size == size
    assert first.fingerprint == second.fingerprint
    assert first.name
    assert isinstance(value, first.accepts)
    data = bytes(memoryview(first.encode(value)))
    assert size in (None, len(data))
    decoded = second.decode(data)
    assert type(decoded) is type(value)
    assert same(decoded, value)
    assert codec_for(first) is first


@pytest.mark.parametrize(("payload", "value", "size"), CASES[:-2])
def test_a_value_of_another_type_is_a_type_error(payload: Any, value: Any, size: object) -> None:
    del value, size
    with pytest.raises(TypeError, match=r"payload|wanted"):
        codec_for(payload).encode(object())


@pytest.mark.parametrize(
    ("payload", "data"),
    [
        (str, b"\xff"),
        (Stu, b""),
        (Stu, bytes(35)),
        (CStu, bytes(37)),
        (RECORD, bytes(13)),
        (Login, b"\xc1"),
        (Login, msgspec.msgpack.encode({"user": 1})),
        (Login, b"\x91" * 100_000),
        (codec.Pickle, b"garbage"),
    ],
)
def test_the_error_has_the_bytes_that_could_not_be_decoded(payload: Any, data: bytes) -> None:
    with pytest.raises(LayoutMismatch) as caught:
        codec_for(payload).decode(data)
    assert caught.value.raw == data


def test_bytes_take_any_contiguous_buffer() -> None:
    encode = codec_for(bytes).encode
    for value in (bytearray(b"ab"), memoryview(b"ab"), np.frombuffer(b"ab", "u1")):
        assert bytes(encode(value)) == b"ab"
    assert memoryview(encode(array.array("i", [1]))).nbytes == 4
    with pytest.raises(TypeError, match="contiguous"):
        encode(memoryview(b"abcd")[::2])
    with pytest.raises(TypeError, match="must be bytes, not str"):
        encode("text")  # type: ignore[arg-type]


def test_a_struct_is_its_own_encoding() -> None:
    stu = Stu("amy", 20)
    assert codec_for(Stu).encode(stu) is stu


def test_arrays_are_not_cast() -> None:
    ints = codec_for(np.int32)
    with pytest.raises(TypeError, match="not int64 of shape"):
        ints.encode(np.arange(3))
    with pytest.raises(TypeError, match=r"shape \(2, 2\)"):
        ints.encode(np.zeros((2, 2), np.int32))
    with pytest.raises(TypeError, match="not >i4 of shape"):
        ints.encode(np.zeros(2, ">i4"))
    with pytest.raises(TypeError, match="list"):
        ints.encode([1, 2])
    assert bytes(memoryview(ints.encode(np.arange(6, dtype=np.int32)[::2]))) == bytes(
        np.array([0, 2, 4], np.int32)
    )
    assert len(ints.decode(ints.encode(np.zeros(0, np.int32)))) == 0


def test_an_array_codec_takes_whatever_numpy_reads_as_an_array_of_its_dtype() -> None:
    floats = codec_for(np.float64)
    three = array.array("d", [1, 2, 3])

    class Series:
        """As a pandas Series: it has an index beside its values, and gives an array of these."""

        def __array__(self, dtype: Any = None, *, copy: object = None) -> Any:
            del dtype, copy
            return np.asarray(three)

    class WithNulls(Series):
        null_count = 1  # as an Arrow array

    class Interface:
        __array_interface__ = np.asarray(three).__array_interface__

    for value in (three, memoryview(three), (ctypes.c_double * 3)(1, 2, 3), Series(), Interface()):
        assert floats.decode(bytes(floats.encode(value))).tolist() == [1, 2, 3]  # type: ignore[arg-type]
    assert memoryview(floats.encode(three)).obj is not None  # no copy: numpy's view of the array
    with pytest.raises(TypeError, match="has nulls"):
        floats.encode(WithNulls())  # type: ignore[arg-type]
    for wrong in (array.array("f", [1]), memoryview(b"12345678"), [1.0], "text", Stu("amy", 20)):
        with pytest.raises(TypeError, match="the payload must be"):
            floats.encode(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"codec\.AnyShape sends the shape too"):
        floats.encode(np.ones((2, 2)))


def test_arrays_of_any_shape_keep_it() -> None:
    shaped = AnyShape(np.dtype(np.float64))
    big = np.arange(24.0).reshape(2, 3, 4)
    for value in (big, big.T, big[:, ::2], np.float64(3), np.zeros((0, 5)), array.array("d", [1])):
        found = shaped.decode(shaped.encode(value))
        assert found.shape == np.shape(value)
        assert (found == np.asarray(value)).all()
        found[...] = 0
    assert pickle.loads(pickle.dumps(shaped)).fingerprint == shaped.fingerprint
    fingerprints = {each.fingerprint for each in (AnyShape(np.dtype("i4")), codec_for(np.float64))}
    assert shaped.fingerprint not in fingerprints
    with pytest.raises(TypeError):
        shaped.encode(np.ones((2, 2), np.float32))
    words = [struct.pack("=q", word) for word in (-1, 65, 2**62, 1, 2)]
    ones = struct.pack("=qq", 1, -1)
    for data in (b"", b"short", *words, ones, struct.pack("=3qd", 2, 2, 2, 1.0)):
        with pytest.raises(LayoutMismatch, match="are not a shape and its items") as refused:
            shaped.decode(data)
        assert refused.value.raw == data


def test_a_single_record_becomes_an_array_of_one_that_can_be_written() -> None:
    records = codec_for(RECORD)
    decoded = records.decode(bytes(memoryview(records.encode(np.array([(1, 0.5)], RECORD)[0]))))
    decoded["id"] = 5
    assert decoded.tolist() == [(5, 0.5)]


class Bad(ctypes.Structure):
    _fields_ = (("p", ctypes.c_void_p),)


class Worse(ctypes.Structure):
    _fields_ = (("n", ctypes.c_int), ("a", ctypes.py_object * 2))


class Worst(ctypes.Structure):
    _fields_ = (("inner", Worse), ("p", ctypes.POINTER(ctypes.c_int)))


@pytest.mark.parametrize("payload", [Bad, Worse, Worst, np.dtype("O"), np.dtype("S0")])
def test_types_that_hold_addresses_or_nothing_are_refused(payload: Any) -> None:
    with pytest.raises(TypeError, match=r"address|no bytes"):
        codec_for(payload)


@pytest.mark.parametrize("payload", [int, dict, None, "bytes", 3, list[int], object()])
def test_anything_else_is_refused_with_what_is_accepted(payload: Any) -> None:
    with pytest.raises(TypeError, match="not a payload type; use bytes, str, a Struct"):
        codec_for(payload)


def test_fingerprints_tell_layouts_apart() -> None:
    class Other(ctypes.Structure):
        _fields_ = (("name", ctypes.c_char * 32), ("years", ctypes.c_int))

    class Again(msgspec.Struct):
        user: str
        tries: float = 0

    kinds = [
        Stu,
        CStu,
        Other,
        RECORD,
        np.int32,
        np.uint32,
        np.dtype(">i4"),
        Login,
        Again,
        bytes,
        str,
    ]
    assert len({codec_for(kind).fingerprint for kind in kinds}) == len(kinds)
    renamed = np.dtype({"names": ["id", "value"], "formats": ["i4", "f8"], "itemsize": 16})
    assert codec_for(renamed).fingerprint != codec_for(RECORD).fingerprint


@pytest.mark.usefixtures("exec_only")
def test_optional_packages_are_not_imported_and_are_named_when_missing() -> None:
    program = (
        "import sys; sys.modules['msgspec'] = None\n"
        "import ipckit.codec, ipckit.structs\n"
        "assert 'clang' not in sys.modules\n"
        "assert 'pickle' not in ipckit.codec.__dict__\n"
        "try: ipckit.codec.Msgpack(object)\n"
        "except ImportError as error: assert 'pip install msgspec' in str(error)\n"
        "else: raise SystemExit('no error')\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
