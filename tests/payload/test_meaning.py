"""Types that share bytes are told apart by what they mean; what cannot be carried is refused."""

from __future__ import annotations

import ctypes
import decimal
import enum
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from numpy._core._rational_tests import rational  # type: ignore[import-not-found,unused-ignore]

from ipckit import MemFd, PosixMessageQueue, SysVMessageQueue, pair
from ipckit._payload.dtypes import describe_dtype
from ipckit.channel import Channel
from ipckit.codec import BytesCodec, codec_for
from ipckit.errors import InvalidArgument, LayoutMismatch
from ipckit.framing import LengthPrefixed, read_exactly, write_all
from ipckit.structs import Array, Bool, Bytes, Char, Double, Float, Int, Struct, UInt8

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Stu(Struct):
    name: Char[32]
    age: Int


class CStu(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char * 32), ("age", ctypes.c_int))


class Swapped(ctypes.BigEndianStructure):
    _pack_ = 1
    _fields_ = (("a", ctypes.c_short), ("b", ctypes.c_double * 2))


class Login(msgspec.Struct):
    user: str
    tries: int = 0


def fingerprint(payload: Any) -> str:
    return codec_for(payload).fingerprint


# -- fingerprints ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (np.dtype("<i4"), "c96df5c7af75d645"),
        (np.dtype("M8[ms]"), "c96bed91fce6dd45"),
        (np.dtype("V3"), "a54c19a0919638ec"),
        (np.dtype((np.uint8, (3, 2))), "3632c8890198b7b9"),
        (np.dtype([("id", "<i4"), ("value", "<f8")]), "30ca82e4a3778dfd"),
        (Stu, "6b6d9a3f9b5c9297"),
        (CStu, "cf92cd731d26b2a0"),
        (Swapped, "c1c795661b9d2a4e"),
        (Login, "028b87ae3f21a90b"),
    ],
)
def test_the_fingerprints_of_ordinary_types_stay_what_they_were(
    payload: Any, expected: str
) -> None:
    assert fingerprint(payload) == expected


class Colour(np.void):
    pass


def test_a_dtype_of_another_package_is_not_bytes_of_that_size() -> None:
    dtype = np.dtype(rational)
    plain = np.dtype(f"V{dtype.itemsize}")
    assert len({fingerprint(each) for each in (dtype, plain, np.int64, np.dtype((Colour, 8)))}) == 4
    inside = [np.dtype([("a", each)]) for each in (dtype, plain)]
    assert fingerprint(inside[0]) != fingerprint(inside[1])
    with pytest.raises(TypeError, match="must be"):
        codec_for(plain).encode(np.zeros(2, dtype))
    with pytest.raises(TypeError, match="must be"):
        codec_for(np.dtype((Colour, 8))).encode(np.zeros(2, plain))
    with Channel.create(None, dtype) as made, pytest.raises(LayoutMismatch, match="rational"):
        Channel.open(made.name or "", plain)
    left, right = pair("seqpacket")
    with left, right, pytest.raises(TypeError, match="could not read its bytes"):
        left.send_array(np.zeros(2, dtype))


def test_float8_and_other_small_types_are_told_apart() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    names = ("float8_e4m3fn", "float8_e4m3b11fnuz", "float8_e5m2", "int4", "uint4", "bfloat16")
    kinds = [np.dtype(getattr(ml_dtypes, name)) for name in names]
    kinds += [np.dtype(kind) for kind in ("V1", "V2", "f2", "i2", "i1")]
    assert len({fingerprint(kind) for kind in kinds}) == len(kinds)
    value = np.array([1.5, -2.0], kinds[0])
    codec = codec_for(kinds[0])
    assert codec.decode(bytes(memoryview(codec.encode(value)))).tolist() == value.tolist()


def test_the_order_of_a_records_items_counts_and_metadata_does_not() -> None:
    there = np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [0, 4]})
    back = np.dtype({"names": ["b", "a"], "formats": ["i4", "i4"], "offsets": [4, 0]})
    assert fingerprint(there) != fingerprint(back)
    titled = np.dtype([(("title", "a"), "i4")])
    both = np.dtype({"names": ["a", "title"], "formats": ["i4", "i4"], "offsets": [0, 0]})
    assert len({fingerprint(each) for each in (titled, both, np.dtype([("a", "i4")]))}) == 3
    assert fingerprint(np.dtype("i4", metadata={"unit": "m"})) == fingerprint(np.int32)
    assert describe_dtype(np.dtype((np.record, [("a", "i4")]))) == describe_dtype(
        np.dtype([("a", "i4")])
    )


def test_units_of_time_byte_orders_and_widths_are_told_apart() -> None:
    kinds = ["M8[s]", "M8[ms]", "M8[25s]", "M8", "m8[s]", "m8[ms]", "i8", ">i8", "f8", "g", "G"]
    kinds += ["U2", ">U2", "S8", "V8", "c8", "?", "u1", "i1", "S1"]
    assert len({fingerprint(np.dtype(kind)) for kind in kinds}) == len(kinds)


def test_strings_of_any_length_are_refused() -> None:
    dtype = np.dtypes.StringDType()
    with pytest.raises(TypeError, match="no bytes"):
        codec_for(dtype)
    with MemFd.create("strings", 4096) as memory, pytest.raises(TypeError, match="no bytes"):
        memory.array(dtype)
    for store in (send_channel, send_queue):
        with pytest.raises(TypeError):
            store(np.array(["a"], dtype), bytes)


class Base(ctypes.Structure):
    _fields_ = (("a", ctypes.c_int),)


class OtherBase(ctypes.Structure):
    _fields_ = (("a", ctypes.c_float),)


class Longer(Base):
    _fields_ = (("b", ctypes.c_int),)


class OtherLonger(OtherBase):
    _fields_ = (("b", ctypes.c_int),)


class SameAsLonger(ctypes.Structure):
    _fields_ = (("a", ctypes.c_int), ("b", ctypes.c_int))


def test_a_ctypes_structure_has_the_fields_of_its_bases() -> None:
    class Again(Longer):
        pass

    assert fingerprint(Longer) != fingerprint(OtherLonger)
    assert fingerprint(Longer) == fingerprint(SameAsLonger) == fingerprint(Again)

    class Pointer(ctypes.Structure):
        _fields_ = (("p", ctypes.c_void_p),)

    class Hides(Pointer):
        _fields_ = (("n", ctypes.c_int),)

    with pytest.raises(TypeError, match=r"Hides\.p is an address"):
        codec_for(Hides)
    with Channel.create(None, Longer) as made:
        with pytest.raises(LayoutMismatch, match=r"Longer\(a: c_int, b: c_int\)"):
            Channel.open(made.name or "", OtherLonger)
        with pytest.raises(TypeError, match="must be Longer, not Base"):
            made.send(Base(1))  # type: ignore[arg-type]
        made.send(Again(1, 2))
        assert made.receive().b == 2
    # A subclass with fields of its own would be cut, or be too long.
    with pytest.raises(TypeError, match="must be Base, not Longer"):
        codec_for(Base).encode(Longer(1, 2))


def test_packed_items_and_the_place_of_bits_count() -> None:
    class Loose(ctypes.Structure):
        _fields_ = (("i", ctypes.c_int), ("c", ctypes.c_char))

    class Tight(ctypes.Structure):
        _pack_ = 1
        _fields_ = (("i", ctypes.c_int), ("c", ctypes.c_char))

    def holder(item: type[Any]) -> type[ctypes.Structure]:
        fields = (("d", ctypes.c_double), ("x", item * 2))
        return type("Holder", (ctypes.Structure,), {"_fields_": fields})

    assert ctypes.sizeof(holder(Loose)) == ctypes.sizeof(holder(Tight))
    assert fingerprint(holder(Loose)) != fingerprint(holder(Tight))

    def bits(base: Any) -> type[Any]:
        return type("Bits", (base,), {"_fields_": (("a", ctypes.c_ubyte, 3),)})

    assert fingerprint(bits(ctypes.BigEndianStructure)) != fingerprint(
        bits(ctypes.LittleEndianStructure)
    )


class Red(enum.Enum):
    A = 1


class Blue(enum.Enum):
    B = 1


Blue.__name__ = Blue.__qualname__ = "Red"


def test_msgspec_fields_of_other_kinds_are_told_apart() -> None:
    kinds: list[Any] = [
        int, float, str, bytes, bool, bytearray, memoryview, list[int], tuple[int, ...], set[int],
        frozenset[int], tuple[int, int], dict[str, int], Red, Blue, msgspec.Raw, Any,
        decimal.Decimal, Login, int | None,
    ]  # fmt: skip
    made = [msgspec.defstruct("Made", [("x", kind)]) for kind in kinds]
    made += [msgspec.defstruct("Made", [("x", int)], tag=tag) for tag in ("a", "b")]
    made += [msgspec.defstruct("Made", [("x", int)], array_like=True)]
    assert len({fingerprint(each) for each in made}) == len(made)


def test_a_msgspec_subclass_with_fields_of_its_own_is_another_type() -> None:
    class Wider(Login):
        extra: int = 0

    class Methods(Login):
        def twice(self) -> int:
            return 2 * self.tries

    codec = codec_for(Login)
    assert codec.decode(bytes(memoryview(codec.encode(Methods("amy", 2))))) == Login("amy", 2)
    with pytest.raises(TypeError, match="must be Login, not Wider"):
        codec.encode(Wider("amy", 2, 3))
    with Channel.create(None, Wider) as made, pytest.raises(LayoutMismatch, match="user: str"):
        Channel.open(made.name or "", Login)


@pytest.mark.parametrize("inside", ["field", "subarray"])
def test_bytes_of_a_class_are_told_apart_inside_a_dtype(inside: str) -> None:
    def dtype(kind: Any) -> np.dtype[Any]:
        return np.dtype([("a", kind) if inside == "field" else ("a", kind, (2,))])

    own, plain = dtype((Colour, 3)), dtype("V3")
    again = dtype((type("Colour", (np.void,), {"__qualname__": "Colour"}), 3))
    with pytest.raises(TypeError, match="must be"):
        codec_for(own).encode(np.zeros(1, plain))
    with Channel.create(None, plain) as channel, pytest.raises(TypeError, match="not messages"):
        channel.send_many(np.zeros(1, own))
    codec_for(own).encode(np.zeros(1, again))  # a class that was defined again
    with pytest.raises(TypeError, match=r"array of tests.*Colour of 3 bytes, not \|V3"):
        codec_for(np.dtype((Colour, 3))).encode(np.zeros(1, "V3"))


def test_every_type_of_ml_dtypes_keeps_its_name_in_channels_and_queues() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kinds = [each for each in vars(ml_dtypes).values() if is_scalar(each)]
    assert len(kinds) >= 15
    assert len({fingerprint(kind) for kind in kinds}) == len(kinds)
    for kind in kinds:
        value = np.array([0, 1, 0], kind)
        with Channel.create(None, kind) as channel:
            channel.send(value)
            channel.send_many(value)
            with channel.receive_view() as view:
                assert view.array.dtype == kind
            assert channel.receive_many().dtype == kind
            with channel.loan(3) as slot:
                assert slot.array.dtype == kind
            for other in (f"V{value.itemsize}", f"u{value.itemsize}", np.dtype((kind, (3,)))):
                with pytest.raises(LayoutMismatch, match=kind.__name__):
                    Channel.open(channel.name or "", np.dtype(other))
                if not np.dtype(other).shape:
                    with pytest.raises(TypeError, match="must be"):
                        channel.send(np.zeros(3, other))
        with SysVMessageQueue.create(None, {1: np.dtype(kind), 2: bytes}) as queue:
            queue.send(value, mtype=1)
            queue.send(value, mtype=2)
            assert queue.receive().value.dtype == kind
            assert queue.receive().value == value.tobytes()
            with pytest.raises(TypeError, match="must be"):
                queue.send(np.zeros(3, f"V{value.itemsize}"), mtype=1)
        with PosixMessageQueue.create(None, np.dtype(kind)) as posix:
            posix.send(value)
            assert posix.receive().value.dtype == kind
        with MemFd.create("small", 4096) as memory:
            assert memory.array(kind, 3).dtype == kind


def is_scalar(each: object) -> bool:
    return isinstance(each, type) and issubclass(each, np.generic)


# -- the same type twice ---------------------------------------------------------------------------


def twice(make: Callable[[], Any]) -> tuple[Any, Any]:
    return make(), make()


def struct_again() -> Any:
    class Again(Struct):
        n: Int

    return Again


def ctypes_again() -> Any:
    class Again(ctypes.Structure):
        _fields_ = (("n", ctypes.c_int),)

    return Again


def msgspec_again() -> Any:
    return msgspec.defstruct("Again", [("n", int)])


@pytest.mark.parametrize("make", [struct_again, ctypes_again, msgspec_again])
def test_a_class_that_was_defined_again_is_the_same_type(make: Callable[[], Any]) -> None:
    old, new = twice(make)
    with Channel.create(None, old) as channel:
        channel.send(new(5))
        channel.send_many([new(6), old(7)])
        assert [channel.receive().n for _ in range(3)] == [5, 6, 7]
    with SysVMessageQueue.create(None, old) as queue:
        queue.send(new(5))
        assert queue.receive().value.n == 5


def test_a_field_and_a_shared_struct_take_the_class_that_was_defined_again() -> None:
    old, new = twice(struct_again)
    holder = type(Struct)("Holder", (Struct,), {"__annotations__": {"inner": old}})
    made: Any = holder(new(5))
    assert made.inner.n == 5
    with MemFd.create("again", 4096) as memory:
        shared = memory.shared(old)
        shared.store(new(6))
        assert shared.load().n == 6
        del shared


def test_two_classes_of_one_name_are_told_apart_in_the_message() -> None:
    other = type(Struct)(
        "Stu", (Struct,), {"__annotations__": {"x": Int}, "__module__": "elsewhere"}
    )
    holder = type(Struct)("Holder", (Struct,), {"__annotations__": {"inner": Stu}})
    with pytest.raises(TypeError, match=r"takes a Stu, not elsewhere\.Stu"):
        holder(other(1))
    with pytest.raises(TypeError, match=r"must be .*test_meaning\.Stu, not elsewhere\.Stu"):
        codec_for(Stu).encode(other(1))


# -- what is hidden is not sent --------------------------------------------------------------------

MASKED = np.ma.array([1.0, -9999.0, 3.0], mask=[0, 1, 0])
OBJECTS = np.array([object(), "a"], object)


class Numbers(Struct):
    a: Array[Double, 3]


class Raw(Struct):
    a: Bytes[24]


class One(Struct):
    n: Int
    d: Double


def send_channel(value: Any, payload: Any) -> None:
    with Channel.create(None, payload) as channel:
        try:
            channel.send(value)
        finally:
            assert len(channel) == 0


def send_many(value: Any, payload: Any) -> None:
    with Channel.create(None, payload) as channel:
        try:
            channel.send_many(value)
        finally:
            assert len(channel) == 0


def write_loan(value: Any) -> None:
    with Channel.create() as channel, channel.loan(64) as slot:
        slot.write(value)


def send_queue(value: Any, payload: Any) -> None:
    with SysVMessageQueue.create(None, payload) as queue:
        queue.send(value)


def write_memory(value: Any) -> None:
    with MemFd.create("masked", 4096) as memory:
        memory.write(value)


def send_socket(value: Any, method: str) -> None:
    left, right = pair("seqpacket")
    with left, right:
        getattr(left, method)(value)


@pytest.mark.parametrize(
    "store",
    [
        lambda m: send_channel(m, np.dtype(float)),
        lambda m: send_channel(m, np.dtype((float, (3,)))),
        lambda m: send_channel(m, bytes),
        lambda m: send_many(m, np.dtype(float)),
        lambda m: send_many(m[None], np.dtype((float, (3,)))),
        lambda m: send_many(m[None], bytes),
        write_loan,
        lambda m: send_queue(m, np.dtype(float)),
        lambda m: send_queue(m, bytes),
        write_memory,
        lambda m: send_socket(m, "send"),
        lambda m: send_socket(m, "send_array"),
        lambda m: send_socket([m, m], "send_array"),
        LengthPrefixed().encode,
        BytesCodec().encode,
        Numbers,
        Raw,
    ],
)  # fmt: skip
def test_a_masked_array_is_refused_wherever_arrays_are_sent_or_stored(
    store: Callable[[Any], Any],
) -> None:
    for mask in ([0, 1, 0], [0, 0, 0]):
        with pytest.raises(TypeError, match="masked array is not accepted"):
            store(np.ma.array(MASKED.data, mask=mask))
    with pytest.raises(TypeError):
        store(OBJECTS)


class Quantity(np.ndarray):
    """Numbers with a unit, as astropy and unyt have them."""

    unit = "m"

    def __array_finalize__(self, obj: Any) -> None:
        self.unit = getattr(obj, "unit", "m")


class Harmless(np.ndarray):
    pass


def receive_into(buffer: Any) -> None:
    with Channel.create() as channel:
        channel.send(bytes(16))
        try:
            channel.receive_into(buffer)
        finally:
            assert len(channel) == 1


TAKE_BYTES: list[Callable[[Any], Any]] = [
    lambda m: send_channel(m, bytes),
    lambda m: send_queue(m, bytes),
    lambda m: send_socket(m, "send"),
    Raw.from_buffer,
    write_loan,
    write_memory,
    LengthPrefixed().encode,
    BytesCodec().encode,
]
TAKE_ARRAYS: list[Callable[[Any], Any]] = [
    lambda m: send_channel(m, np.dtype(float)),
    lambda m: send_many(m, np.dtype(float)),
    lambda m: send_queue(m, np.dtype(float)),
    lambda m: send_socket(m, "send_array"),
    lambda m: send_socket([m, m], "send_array"),
    lambda m: send_socket([(1.0, m)], "send_array"),
    lambda m: send_socket(deque([m]), "send_array"),
    Numbers,
    receive_into,
]


@pytest.mark.parametrize("store", TAKE_BYTES + TAKE_ARRAYS)
@pytest.mark.parametrize("kind", [Quantity, Harmless, np.matrix])
def test_an_array_that_is_more_than_its_elements_is_refused(
    store: Callable[[Any], Any], kind: Any
) -> None:
    value = np.array([1.0, 2.0, 3.0]).view(kind)
    with pytest.raises(TypeError, match=f"{kind.__name__} is not accepted.*asarray"):
        store(value)


def test_arrays_over_a_file_and_record_arrays_are_taken(tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "numbers", float, "w+", shape=(3,))
    mapped[:] = [1, 2, 3]
    records = np.rec.array([(1.0,), (2.0,), (3.0,)], dtype=[("a", "f8")])
    for value in (mapped, mapped[:], records):
        data = value.tobytes()
        with Channel.create(None, value.dtype) as channel:
            channel.send(value)
            channel.send_many(value)
            assert channel.receive().tolist() == value.tolist()
            assert channel.receive_many().tolist() == value.tolist()
        with MemFd.create("plain", 4096) as memory:
            memory.write(value)
            assert memory.read(24) == data
        left, right = pair("seqpacket")
        with left, right:
            left.send(value)
            assert right.receive().data == data
            left.send_array(value)
            assert right.receive_array().tolist() == value.tolist()
        assert bytes(BytesCodec().encode(value)) == data
        assert LengthPrefixed().encode(value)[4:] == data
        assert Raw.from_buffer(value).a == data
        with Channel.create() as channel:
            channel.send(bytes(24))
            assert channel.receive_into(value) == 24
        assert value.tobytes() == bytes(24)


class OfObjects(ctypes.Structure):
    _fields_ = (("o", ctypes.py_object),)


@pytest.mark.parametrize("store", TAKE_BYTES)
def test_buffers_of_python_objects_are_refused(store: Callable[[Any], Any]) -> None:
    named = np.zeros(2, [("O", "i8"), ("x", object)])
    for value in (memoryview(OBJECTS), memoryview(named), OfObjects(1), (ctypes.py_object * 2)()):
        with pytest.raises(TypeError, match="Python objects"):
            store(value)
    BytesCodec().encode(memoryview(np.zeros(3, [("O", "i8")])))


def test_nothing_is_received_into_python_objects() -> None:
    objects = np.array([1, 2, 3], object)
    with Channel.create() as channel:
        channel.send(b"\xff" * 24)
        for buffer in (objects, memoryview(objects), (ctypes.py_object * 3)(1, 2, 3)):
            with pytest.raises(TypeError, match="Python objects"):
                channel.receive_into(buffer)
            assert list(objects) == [1, 2, 3]
        assert len(channel) == 1


@pytest.mark.parametrize("dtype", ["M8[s]", "bfloat16", ">f8", "i4,f8"])
def test_arrays_without_a_buffer_format_are_bytes_like(dtype: str) -> None:
    """memoryview() refuses the first two, and memoryview.cast() the others."""
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    value = np.zeros((2, 3), dtype)
    data = value.tobytes()
    with (
        SysVMessageQueue.create(None, {1: bytes}) as queue,
        PosixMessageQueue.create(None) as posix,
    ):
        queue.send(value, mtype=1)
        assert queue.receive().value == data
        posix.send(value)
        assert posix.receive().value == data
    with MemFd.create("bytes", 4096) as memory:
        assert memory.write(value) == len(data)
    left, right = pair("stream")
    with left, right:
        left.send(value, credentials=True)
        write_all(left, value)
        assert read_exactly(right, 2 * len(data)) == 2 * data
        with pytest.raises((TypeError, InvalidArgument), match="contiguous"):
            left.send(value[:, ::2])
    assert LengthPrefixed().encode(value)[4:] == data
    assert LengthPrefixed().encode(value[:, ::2])[4:] == value[:, ::2].tobytes()
    with pytest.raises(TypeError, match="not C-contiguous"):
        BytesCodec().encode(value[:, ::2])


def test_masked_numbers_are_refused_by_number_fields() -> None:
    for n, d in ((np.ma.array(5, mask=True), 1.0), (1, np.ma.masked), (1, MASKED[1])):
        with pytest.raises(TypeError, match="masked array is not accepted"):
            One(n, d)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="masked array is not accepted"):
        Numbers([1.0, np.ma.masked, 3.0])
    assert One(1, MASKED[0]).d == 1.0


def test_record_arrays_with_a_field_called_mask_are_taken() -> None:
    dtype = np.dtype([("mask", "i4")])
    with Channel.create(None, dtype) as channel:
        channel.send(np.zeros(2, dtype).view(np.recarray))
        assert channel.receive().tolist() == [(0,), (0,)]


# -- numbers of other packages ---------------------------------------------------------------------


class Kinds(Struct):
    on: Bool
    n: UInt8
    f: Float
    d: Double


def test_numpys_numbers_are_taken_where_pythons_are() -> None:
    taken = Kinds(np.array([3])[0] > 2, np.int64(255), np.float16(0.5), np.longdouble(0.25))  # type: ignore[arg-type]
    assert (taken.on, taken.n, taken.f, taken.d) == (True, 255, 0.5, 0.25)
    assert Kinds(np.False_, np.uint8(1), np.float32(1), np.float64(1)).on is False  # type: ignore[arg-type]
    assert Kinds(on=True, n=1, f=np.int8(-1), d=decimal.Decimal("0.5")).d == 0.5  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="must be 0 to 255, not"):
        Kinds(on=True, n=np.int64(256), f=0.0, d=0.0)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="a float takes -3"):
        Kinds(on=True, n=0, f=np.float64(1e300), d=0.0)


class Facts(msgspec.Struct):
    on: bool = False
    n: int = 0
    x: float = 0.0
    several: list[bool] = []


def test_numpys_numbers_are_taken_in_msgspec_structs() -> None:
    codec = codec_for(Facts)
    many = [np.True_, False]
    given = Facts(np.True_, np.int64(-5), np.float32(0.5), many)  # type: ignore[arg-type]
    assert codec.decode(bytes(codec.encode(given))) == Facts(bool(1), -5, 0.5, [True, False])
    for wrong in (np.longdouble(1), np.timedelta64(1, "s"), np.str_("a"), object(), 1j):
        with pytest.raises(TypeError, match="unsupported"):
            codec.encode(Facts(n=wrong))  # type: ignore[arg-type]
    with pytest.raises(LayoutMismatch):
        codec.decode(bytes(codec.encode(Facts(n=np.True_))))


def test_wider_numbers_do_not_become_infinite() -> None:
    for wide in (np.longdouble("1e4000"), decimal.Decimal("1e4000"), -(10**4000)):
        with pytest.raises(InvalidArgument, match="'d' is too large for a double"):
            Kinds(on=True, n=0, f=0.0, d=wide)  # type: ignore[arg-type]
    for infinite in (np.longdouble("inf"), decimal.Decimal("-inf"), np.float32("inf")):
        assert np.isinf(Kinds(on=True, n=0, f=0.0, d=infinite).d)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("on", np.int8(1), "takes a bool, not int8"),
        (
            "on",
            type("bool", (), {"__module__": "elsewhere"})(),
            r"takes a bool, not elsewhere\.bool",
        ),
        ("n", np.True_, "takes an int, not bool"),
        ("n", 1.0, "takes an int, not float"),
        ("n", np.timedelta64(5, "s"), "takes an int, not timedelta64"),
        ("n", type("int", (), {"__module__": "elsewhere"})(), r"takes an int, not elsewhere\.int"),
        ("d", np.complex128(1 + 2j), "takes a float, not complex128"),
        ("d", np.complex64(1 + 2j), "takes a float, not complex64"),
        ("d", np.array(1 + 2j), "takes a float, not ndarray"),
        ("d", np.str_("1.5"), "takes a float, not str_"),
        ("d", np.bytes_(b"1.5"), "takes a float, not bytes_"),
        ("d", np.array("1.5"), "takes a float, not ndarray"),
        ("d", np.timedelta64(5, "ns"), "takes a float, not timedelta64"),
    ],
)
def test_what_is_no_such_number_is_named(field: str, value: Any, says: str) -> None:
    made = Kinds(on=True, n=1, f=0.0, d=0.0)
    with pytest.raises(TypeError, match=says):
        setattr(made, field, value)


def test_numpys_ints_are_taken_as_sizes_and_counts() -> None:
    assert (
        type(Struct)("S", (Struct,), {"__annotations__": {"a": Array[Int, np.int64(2)]}}).size == 8
    )
    with Channel.create(None, int_type(), capacity=np.int64(3), size=np.int32(4096)) as channel:
        assert channel.capacity == 3
        channel.send_many(np.arange(3, dtype="i4"))
        assert channel.receive_many(np.uint8(2)).tolist() == [0, 1]
        for wrong in (True, np.True_, 1.0, "1"):
            with pytest.raises(TypeError, match="max must be an int"):
                channel.receive_many(wrong)  # type: ignore[arg-type]
    with MemFd.create("sized", np.int64(4096)) as memory:
        assert memory.size == 4096


def int_type() -> Any:
    return np.dtype("i4")


# -- arrays of ctypes structures -------------------------------------------------------------------


class Either(ctypes.Union):
    _fields_ = (("i", ctypes.c_int), ("f", ctypes.c_float))


class Swap(ctypes.BigEndianStructure):
    _fields_ = (("a", ctypes.c_int),)


class SwapMore(Swap):
    _fields_ = (("b", ctypes.c_short),)


class Packed(Base):
    _pack_ = 1
    _fields_ = (("c", ctypes.c_char), ("d", ctypes.c_double))


class Everything(Longer):
    _anonymous_ = ("u",)
    _fields_ = (
        ("u", Either),
        ("items", Longer * 2),
        ("swapped", SwapMore),
        ("w", ctypes.c_wchar * 2),
        ("yes", ctypes.c_bool),
        ("tight", Packed),
    )


def test_an_array_of_ctypes_structures_has_the_fields_of_their_bases() -> None:
    with MemFd.create("ctypes", 4096) as memory:
        table = memory.array(Everything, 2)
        made = Everything.from_buffer(memory.buf, ctypes.sizeof(Everything))
        made.a, made.b, made.f, made.yes, made.w = 1, 2, 0.5, True, "hi"
        made.items[1].a, made.items[1].b = 3, 4
        made.swapped.a, made.swapped.b = 5, 6
        made.tight.a, made.tight.d = 7, 0.25
        row = table[1]
        assert table.dtype.itemsize == ctypes.sizeof(Everything)
        assert (row["a"], row["b"], row["u"]["f"], row["yes"]) == (1, 2, 0.5, True)
        assert row["items"][1].tolist() == (3, 4)
        assert row["swapped"].tolist() == (5, 6)
        assert "".join(row["w"]) == "hi"
        assert (row["tight"]["a"], row["tight"]["d"]) == (7, 0.25)
        assert memory.array(Longer * 2, 3).shape == (3, 2)
        del table, row, made


def test_a_ctypes_class_that_no_dtype_describes_is_refused_by_memory() -> None:
    class Address(ctypes.Structure):
        _fields_ = (("p", ctypes.c_void_p),)

    class Below(Address):
        _fields_ = (("n", ctypes.c_int),)

    class Holds(ctypes.Structure):
        _fields_ = (("each", Below * 2),)

    class Flags(ctypes.Structure):
        _fields_ = (("f", ctypes.c_int, 3),)

    class Twice(Base):
        _fields_ = (("a", ctypes.c_int),)

    with MemFd.create("refused", 4096) as memory:
        for kind, says in (
            (Below, r"Below\.p is an address"),
            (Holds, r"Holds\.each\.p is an address"),
            (Flags, r"Flags\.f is a bit-field"),
            (Twice, r"Twice\.a is in a base too"),
            (ctypes.c_void_p, "c_void_p is an address"),
        ):
            with pytest.raises(TypeError, match=says):
                memory.array(kind)
