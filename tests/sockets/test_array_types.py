"""An array arrives over a socket with the dtype that was sent, or not at all."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from ipckit import pair
from ipckit._sockets.records import ARRAY, encode
from ipckit.errors import Corrupt, LayoutMismatch


class Colour(np.void):
    pass


def passed(array: Any) -> Any:
    left, right = pair("seqpacket")
    with left, right:
        left.send_array(array)
        return right.receive_array(timeout=5)


def assert_arrives(array: Any) -> None:
    found = passed(array)
    assert found.dtype == array.dtype
    assert repr(found.dtype) == repr(array.dtype)
    assert found.shape == array.shape
    assert repr(found.tolist()) == repr(array.tolist())


@pytest.mark.parametrize(
    "dtype",
    [
        "?", "i1", ">u2", "<i8", "f2", ">f4", "f8", "g", ">c8", "c16", "G", "S3", "U2", ">U2", "V3",
        "M8", "M8[25s]", ">M8[us]", "m8[D]", "i1,f8", [(("a title", "a"), "i4"), ("b", "f8")],
        [("a", "f4", (2, 3)), ("b", [(("t", "c"), ">M8[ms]")])],
        {"names": ["x", "y"], "formats": ["i4", "i2"], "offsets": [4, 2], "itemsize": 16},
    ],
)  # fmt: skip
def test_a_dtype_arrives_as_it_was_sent(dtype: Any) -> None:
    assert_arrives(np.zeros(3, dtype))
    assert_arrives(np.zeros((), dtype))
    assert_arrives(np.zeros((2, 3), dtype)[:, ::2])
    assert_arrives(np.zeros((2, 3), dtype).T)
    assert_arrives(np.zeros(0, dtype))


def test_every_type_of_ml_dtypes_arrives_by_name() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for kind in vars(ml_dtypes).values():
        if not (isinstance(kind, type) and issubclass(kind, np.generic)):
            continue
        ones = np.ones((2, 3), kind)
        assert passed(ones).dtype == kind
        assert passed(ones.T[::2]).tobytes() == ones.T[::2].tobytes()
        fields = np.zeros(2, [("a", kind), ("b", "f8"), ("c", kind, (2,))])
        assert passed(fields).dtype == fields.dtype


def test_a_process_without_ml_dtypes_says_so_and_keeps_the_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    plain = np.array([1, 2, 3], ml_dtypes.bfloat16)
    inside = np.zeros(2, [("n", "i4"), ("x", ml_dtypes.int4, (2,))])
    left, right = pair()
    with left, right:
        for array in (plain, inside, plain[:0]):
            left.send_array(array)
        left.send_array(np.arange(3))
        monkeypatch.setitem(sys.modules, "ml_dtypes", None)
        for array, name in ((plain, "bfloat16"), (inside, "int4"), (plain[:0], "bfloat16")):
            with pytest.raises(LayoutMismatch, match=f"ml_dtypes.{name}.*install") as caught:
                right.receive_array(timeout=5)
            assert caught.value.raw == array.tobytes()
        assert right.receive_array(timeout=5).tolist() == [0, 1, 2]


def test_other_types_are_refused_by_the_sender() -> None:
    for dtype in (object, (Colour, 3), [("a", (Colour, 3))], [((1, "a"), "i4")]):
        with pytest.raises(TypeError, match=r"another process could|cannot be sent"):
            passed(np.zeros(1, np.dtype(dtype)))


@pytest.mark.parametrize(
    ("dtype", "error"),
    [
        ({"package": "os", "name": "system", "itemsize": 1}, Corrupt),
        ({"package": "ml_dtypes", "name": "_finfo", "itemsize": 1}, Corrupt),
        ({"package": "ml_dtypes", "name": 1, "itemsize": 1}, Corrupt),
        ({"package": "ml_dtypes", "name": "bfloat16", "itemsize": "2"}, Corrupt),
        ({"package": "ml_dtypes", "name": "bfloat16", "itemsize": 1}, Corrupt),
        ({"package": "ml_dtypes", "name": "bfloat16", "itemsize": 2**40}, Corrupt),
        ({"package": "ml_dtypes", "name": "bfloat16"}, Corrupt),
        ({"package": "ml_dtypes", "name": "finfo", "itemsize": 2}, LayoutMismatch),
        ({"package": "ml_dtypes", "name": "float3_new", "itemsize": 2}, LayoutMismatch),
        (
            {"names": ["a"], "formats": ["<i4"], "offsets": [0], "titles": [1], "itemsize": 4},
            Corrupt,
        ),
        (
            {"names": ["a"], "formats": ["<i4"], "offsets": [0], "titles": 1, "itemsize": 4},
            Corrupt,
        ),
    ],
)
def test_a_hostile_description_is_refused(dtype: Any, error: type[Exception]) -> None:
    if error is Corrupt:
        pytest.importorskip("ml_dtypes")
    left, right = pair("seqpacket")
    with left, right:
        left.send(encode(ARRAY, {"dtype": dtype, "shape": [0], "order": "C", "size": 0}))
        with pytest.raises(error):
            right.receive_array(timeout=5)
