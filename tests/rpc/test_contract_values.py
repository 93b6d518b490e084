"""The types that calls carry, to the method and back, and the values that are refused."""

from __future__ import annotations

import ctypes
import dataclasses
import datetime as dt
import decimal
import enum
import math
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    TypedDict,
    TypeVar,
)

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from ipckit import Char, Int, RemoteError, Struct
from ipckit.codec import Pickle

if TYPE_CHECKING:
    from ipckit.rpc import Client, Service

    Serve = Callable[..., Client]

T = TypeVar("T")
Meters = NewType("Meters", float)
NOON = dt.datetime(2026, 11, 28, 12, 0, 0, 250, tzinfo=dt.UTC)


def shown(value: object) -> str:
    """The `repr` without addresses, which differ between the processes of a run."""
    return re.sub(r" at 0x\w+", "", repr(value))


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass
class Point:
    x: int
    y: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    name: str
    tags: list[str] = dataclasses.field(default_factory=list[str])


@dataclass
class Node:
    value: int
    next: Node | None = None


@dataclass
class Frame:
    at: dt.datetime
    pixels: npt.NDArray[np.uint8]


@dataclass
class Box(Generic[T]):
    content: T


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Pair(NamedTuple):
    left: int
    right: str = "none"


class Circle(msgspec.Struct, tag=True):
    radius: float


class Square(msgspec.Struct, tag=True):
    side: float


class Row(msgspec.Struct, array_like=True):
    key: str
    count: int = 0


class Renamed(msgspec.Struct, rename="camel"):
    first_name: str


class Stu(Struct):
    name: Char[32]
    age: Int


class Raw(ctypes.Structure):
    _fields_ = (("a", ctypes.c_int), ("b", ctypes.c_double))


class NotCarried:
    pass


def echo_of(kind: Any, result: Any = None, name: str = "echo") -> Callable[..., Any]:
    """A method that returns its argument, which is of a type."""

    def echo(x: Any) -> Any:
        seen.append(x)
        return x

    seen: list[Any] = []
    echo.__annotations__ = {"x": kind, "return": kind if result is None else result}
    echo.__name__ = name
    echo.seen = seen  # type: ignore[attr-defined]
    return echo


def same(left: Any, right: Any) -> bool:  # noqa: PLR0911 - one a kind of value
    """Return whether two values are of one type and equal, with the arrays in them."""
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ndarray):
        if left.dtype != right.dtype or left.shape != right.shape:
            return False
        if left.dtype.names:  # a copy has other bytes between the fields
            return bool((left == right).all())
        return left.tobytes() == right.tobytes()
    if isinstance(left, float) and math.isnan(left):
        return math.isnan(right)
    if isinstance(left, (ctypes.Structure, Struct)):
        return bytes(left) == bytes(right)
    if dataclasses.is_dataclass(left):
        names = [each.name for each in dataclasses.fields(left)]
        return all(same(getattr(left, each), getattr(right, each)) for each in names)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


CARRIED: list[tuple[Any, Any]] = [
    (int, 0),
    (int, -(2**63)),
    (int, 2**64 - 1),
    (float, 1.5),
    (float, -0.0),
    (float, math.inf),
    (float, math.nan),
    (bool, True),
    (str, "grüße\0\N{SNOWMAN}"),
    (str, "long " * 10_000),
    (bytes, b"\0\xff"),
    (bytes, bytes(3 << 20)),
    (bytearray, bytearray(b"abc")),
    (None, None),
    (Any, {"a": [1, 2.5, None, b"x"]}),
    (dt.datetime, NOON),
    (dt.datetime, dt.datetime(2026, 11, 28)),  # noqa: DTZ001 - it has no time zone
    (dt.date, dt.date(2026, 11, 28)),
    (dt.time, dt.time(12, 30, 15, 7)),
    (dt.timedelta, dt.timedelta(days=-3, microseconds=1)),
    (decimal.Decimal, decimal.Decimal("1.10")),
    (uuid.UUID, uuid.UUID(int=7)),
    (list, [1, "two", None]),
    (list[int], [1, 2, 3]),
    (list[list[str]], [["a"], []]),
    (Sequence[int], [1, 2]),
    (tuple[int, str], (1, "a")),
    (tuple[int, ...], (1, 2, 3)),
    (tuple[()], ()),
    (set[int], {1, 2}),
    (frozenset[str], frozenset({"a"})),
    (dict[str, int], {"a": 1}),
    (dict[int, str], {1: "a"}),
    (dict[tuple[int, int], str], {(1, 2): "a"}),
    (Mapping[str, float], {"a": 1.5}),
    (Optional[int], None),  # noqa: UP045 - both spellings
    (Optional[int], 5),  # noqa: UP045
    (int | str, "five"),
    (int | None | list[str], ["a"]),
    (Literal["a", 3], "a"),
    (Literal["a", 3], 3),
    (Annotated[int, "meters"], 5),
    (Meters, 2.5),
    (Color, Color.GREEN),
    (Level, Level.HIGH),
    (dict[str, Color], {"a": Color.RED}),
    (Point, Point(1)),
    (Point, Point(1, 2.5)),
    (Frozen, Frozen(name="n", tags=["t"])),
    (Node, Node(1, Node(2, Node(3)))),
    (list[Point], [Point(1), Point(2)]),
    (dict[str, Point | None], {"a": Point(1), "b": None}),
    (Frame, Frame(NOON, np.arange(6, dtype=np.uint8).reshape(2, 3))),
    (Movie, {"title": "Alien"}),
    (Movie, {"title": "Alien", "year": 1979}),
    (Pair, Pair(1)),
    (Pair, Pair(1, "a")),
    (Circle | Square, Square(2.0)),
    (list[Circle | Square], [Circle(1.0), Square(2.0)]),
    (Row, Row("a")),
    (Row, Row("a", 3)),
    (Renamed, Renamed("amy")),
    (Stu, Stu("amy", 20)),
    (list[Stu], [Stu("amy", 20), Stu("bob", 21)]),
    (dict[str, Stu | None], {"a": Stu("amy", 20), "b": None}),
    (Raw, Raw(1, 2.5)),
    (np.ndarray, np.arange(5)),
    (np.ndarray, np.array(["a", "bc"])),
    (npt.NDArray[np.float64], np.array([[1.5, math.nan], [math.inf, 0.0]])),
    (npt.NDArray[np.float64], np.array(5.0)),
    (npt.NDArray[np.float64], np.empty((0, 3))),
    (npt.NDArray[np.float64], np.zeros((600, 600))),
    (npt.NDArray[np.float64], np.zeros((300, 1000))[::2, ::3]),
    (npt.NDArray[np.float64], np.asfortranarray(np.arange(6.0).reshape(2, 3))),
    (npt.NDArray[np.complex128], np.array([1 + 2j])),
    (npt.NDArray[np.bool_], np.array([True, False])),
    (npt.NDArray[np.datetime64], np.array(["2026-11-28", "NaT"], "datetime64[s]")),
    (npt.NDArray[np.timedelta64], np.array([1, 2], "timedelta64[ns]")),
    (npt.NDArray[np.str_], np.array(["a", "bc"])),
    (npt.NDArray[np.bytes_], np.array([b"a", b"bc"])),
    (npt.NDArray[np.floating], np.arange(3, dtype=np.float32)),
    (npt.NDArray[np.number], np.arange(3, dtype=np.uint8)),
    (npt.NDArray[np.generic], np.array(["a"])),
    (npt.NDArray[Any], np.arange(3)),
    (np.ndarray, np.array([1, 2], ">i4")),
    (np.ndarray, np.array([(1, 2.5)], [("a", "<i4"), ("b", "<f8")])),
    (np.ndarray, np.zeros(2, np.dtype([("a", "u1"), ("b", "<f8")], align=True))),
    (np.ndarray, np.zeros(2, np.dtype([("a", "<i2", (2, 3))]))),
    (npt.NDArray[np.uint8] | None, np.arange(3, dtype=np.uint8)),
    (npt.NDArray[np.uint8] | None, None),
    (list[npt.NDArray[np.int32]], [np.arange(3, dtype=np.int32), np.ones(2, np.int32)]),
    (dict[str, npt.NDArray[np.int32]], {"a": np.arange(20_000, dtype=np.int32)}),
    (tuple[npt.NDArray[np.int32], float], (np.arange(3, dtype=np.int32), 0.5)),
    (Annotated[np.ndarray, np.dtype("<i2")], np.array([1, 2], "<i2")),
    (np.float32, np.float32(0.1)),
    (np.int64, np.int64(-5)),
    (np.uint64, np.uint64(2**64 - 1)),
    (np.bool_, np.bool_(True)),  # noqa: FBT003
]


@pytest.mark.parametrize(("kind", "value"), CARRIED, ids=shown)
def test_a_value_of_each_type(serve: Serve, kind: Any, value: Any) -> None:
    echo = echo_of(kind)
    client = serve(echo)
    for got in (client.call("echo", value, timeout=60), client.call("echo", x=value, timeout=60)):
        assert same(got, value), got
    for seen in echo.seen:  # type: ignore[attr-defined]
        assert same(seen, value), seen


# What is given, and what arrives.
CONVERTED: list[tuple[Any, Any, Any]] = [
    (float, 3, 3.0),
    (float, np.float32(0.5), 0.5),
    (int, np.int64(5), 5),
    (bool, np.bool_(True), True),  # noqa: FBT003
    (list[int], (1, 2), [1, 2]),
    (list[float], [1, np.float64(2.5)], [1.0, 2.5]),
    (tuple[int, ...], [1, 2], (1, 2)),
    (set[int], [1, 2, 2], {1, 2}),
    (frozenset[int], {1}, frozenset({1})),
    (bytes, bytearray(b"abc"), b"abc"),
    (bytes, memoryview(b"abc"), b"abc"),
    (np.float32, 0.5, np.float32(0.5)),
    (np.uint8, 255, np.uint8(255)),
    (Level, 2, Level.HIGH),
    (Point, {"x": 1}, Point(1)),
    (Any, (1, 2), [1, 2]),
    (object, "a", "a"),
]


@pytest.mark.parametrize(("kind", "given", "wanted"), CONVERTED, ids=shown)
def test_a_value_that_is_converted(serve: Serve, kind: Any, given: Any, wanted: Any) -> None:
    client = serve(echo_of(kind))
    assert same(client.call("echo", given, timeout=60), wanted)


# What is given, and what the error says of it.
REFUSED: list[tuple[Any, Any, str]] = [
    (int, "five", "x: Expected `int`, got `str`"),
    (int, 1.5, "x: Expected `int`, got `float`"),
    (int, True, "x: Expected `int`, got `bool`"),
    (int, None, "x: Expected `int`, got `None`"),
    (int, 2**64, "can't serialize ints"),
    (list[int], [2**64], "can't serialize ints"),
    (str, "\ud800", "surrogates not allowed"),
    (list[str], ["\ud800"], "surrogates not allowed"),
    (int, NotCarried(), "NotCarried can't be carried"),
    (float, "1.5", "x: Expected `float`, got `str`"),
    (bool, 1, "x: Expected `bool`, got `int`"),
    (str, b"a", "x: Expected `str`, got `bytes`"),
    (bytes, 5, "x: Expected `bytes`, got `int`"),
    (None, 5, "x: Expected `null`, got `int`"),
    (list[int], [1, "a"], r"x\[1\]: Expected `int`, got `str`"),
    (list[int], 5, "x: Expected `array`, got `int`"),
    (list[int], {"a": 1}, "x: Expected `array`, got `object`"),
    (dict[str, int], {"a": "b"}, r"x\[...\]: Expected `int`, got `str`"),
    (dict[str, int], {1: 1}, "x|Expected `str`, got `int`"),
    (tuple[int, str], (1,), "x: Expected `array` of length 2"),
    (int | str, 1.5, r"x: Expected `int \| str`, got `float`"),
    (Literal["a"], "b", "x: Invalid enum value 'b'"),
    (Color, "blue", "x: Invalid enum value 'blue'"),
    (Point, Circle(1.0), "x: Object missing required field `x`"),
    (Point, {"x": "a"}, "x.x: Expected `int`, got `str`"),
    (Movie, {"year": 1979}, "x: Object missing required field `title`"),
    (Circle | Square, {"type": "Cube"}, "x.type: Invalid value 'Cube'"),
    (Stu, Raw(1, 2.5), "expected a known struct"),
    (Stu, 5, "x: Expected `.*Stu`, got `int`"),
    (npt.NDArray[np.float64], np.arange(3), "x: Expected `array of float64`, got `array of int64`"),
    (npt.NDArray[np.float64], [1.0, 2.0], "x: Expected `array of float64`, got `list`"),
    (npt.NDArray[np.float64], 5, "x: Expected `array of float64`, got `int`"),
    (
        npt.NDArray[np.datetime64],
        np.arange(3),
        "Expected `array of datetime64`, got `array of int64`",
    ),
    (npt.NDArray[np.integer], np.ones(3), "x: Expected `array of integer`, got `array of float64`"),
    (npt.NDArray[np.str_], np.arange(3), "x: Expected `array of str_`, got `array of int64`"),
    (
        npt.NDArray[np.int32],
        np.array([1], ">i4"),
        "x: Expected `array of int32`, got `array of >i4`",
    ),
    (np.ndarray, np.array([object()]), "object"),
    (np.ndarray, np.array([(1, None)], [("a", "i4"), ("b", "O")]), "object"),
    (np.uint8, 256, "x: Expected `uint8`, got `256`, which is out of range"),
    (np.uint8, -1, "x: Expected `uint8`, got `-1`, which is out of range"),
    (np.uint8, "a", "x: Expected `uint8`, got `str`"),
    (np.float32, "a", "x: Expected `float32`, got `str`"),
    (dt.datetime, "yesterday", "x: Invalid RFC3339 encoded datetime"),
    (uuid.UUID, "7", "x: Invalid UUID"),
]


@pytest.mark.parametrize(("kind", "value", "text"), REFUSED, ids=shown)
def test_a_value_that_is_refused(serve: Serve, kind: Any, value: Any, text: str) -> None:
    """It is refused before the call is sent, and by the service too if the method returns it."""
    echo = echo_of(kind)
    make = echo_of(Any, name="make")  # its result is checked by the client only
    client = serve(echo, make)
    with pytest.raises(TypeError, match=text) as caught:
        client.call("echo", value, timeout=60)
    assert str(caught.value).startswith(f"service {client.name}.echo: ")
    assert echo.seen == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("kind", "value"), [(kind, value) for kind, value, _ in REFUSED], ids=shown
)
def test_a_result_that_is_refused(serve: Serve, kind: Any, value: Any) -> None:
    def make() -> Any:
        return value

    make.__annotations__ = {"return": kind}
    client = serve(make)
    with pytest.raises(RemoteError, match="the result of make is not of its type") as caught:
        client.call("make", timeout=60)
    assert caught.value.type_name == "TypeError"


# -- types -----------------------------------------------------------------------------------------

NEVER: list[tuple[Any, str]] = [
    (NotCarried, "values of NotCarried can't be carried"),
    (Callable[[int], int], "can't be carried"),
    (type, "values of type can't be carried"),
    (complex, "values of complex can't be carried"),
    (T, "can't be carried"),
    (list[NotCarried], "values of NotCarried can't be carried"),
    (dict[str, NotCarried], "values of NotCarried can't be carried"),
    (npt.NDArray[np.object_], r"dtype\('O'\) has no bytes"),
    ("Missing", "name 'Missing' is not defined"),
]


@pytest.mark.parametrize(("kind", "text"), NEVER, ids=shown)
def test_a_type_that_is_never_carried(service: Service, kind: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        service.method(echo_of(kind))
    with pytest.raises(TypeError, match=text):
        service.method(echo_of(int, kind))


def test_an_annotation_that_is_missing(service: Service) -> None:
    def no_parameter(x) -> int:  # type: ignore[no-untyped-def] # noqa: ANN001
        return int(x)

    def no_result(x: int):  # type: ignore[no-untyped-def] # noqa: ANN202
        return x

    with pytest.raises(TypeError, match="no_parameter: parameter x has no annotation"):
        service.method(no_parameter)
    with pytest.raises(TypeError, match=r"no_result: the result has no annotation.*codec=Pickle"):
        service.method(no_result)


def test_parameters_of_any_number(service: Service) -> None:
    def many(*numbers: int) -> int:
        return sum(numbers)

    def named(**numbers: int) -> int:
        return sum(numbers.values())

    with pytest.raises(TypeError, match=r"many: \*numbers can't be carried"):
        service.method(many)
    with pytest.raises(TypeError, match=r"named: \*numbers can't be carried|\*\*numbers"):
        service.method(named)


def test_local_classes(service: Service, serve: Serve) -> None:
    """A client can't find them, and makes classes with the same fields."""

    @dataclass
    class Local:
        x: int
        y: str = "y"

    class Shade(enum.Enum):
        DARK = 1

    class Tuple(NamedTuple):
        a: int

    class Dict(TypedDict):
        a: int

    class Record(msgspec.Struct):
        a: int
        b: str = "b"

    def dataclass_of(x: int) -> Local:
        return Local(x)

    def x_of(local: Local) -> int:
        assert type(local) is Local
        return local.x

    def shade() -> Shade:
        return Shade.DARK

    def others() -> tuple[Tuple, Dict, Record]:
        return Tuple(1), {"a": 2}, Record(3)

    for each in (dataclass_of, x_of, shade, others):
        service.method(each)  # here, where the local names are known
    client = serve()
    got = client.call("dataclass_of", 5, timeout=60)
    assert (type(got).__name__, got.x, got.y) == ("Local", 5, "y")
    assert type(got) is not Local
    assert client.call("x_of", got, timeout=60) == 5
    assert client.call("x_of", Local(6), timeout=60) == 6
    assert client.call("x_of", {"x": 7}, timeout=60) == 7
    assert client.call("shade", timeout=60).name == "DARK"
    pair, found, record = client.call("others", timeout=60)
    assert (pair, pair.a, found, record.a, record.b) == ((1,), 1, {"a": 2}, 3, "b")


def test_classes_of_one_name(serve: Serve) -> None:
    def make(kind: Any) -> Any:
        return dataclasses.make_dataclass("Same", [("x", kind)])

    first, second = make(int), make(str)

    def both(a: Any, b: Any) -> str:
        return f"{a.x!r} {b.x!r}"

    both.__annotations__ = {"a": first, "b": second, "return": str}
    client = serve(both)
    assert client.call("both", first(1), second("a"), timeout=60) == "1 'a'"
    with pytest.raises(TypeError, match=r"a\.x: Expected `int`, got `str`"):
        client.call("both", second("a"), second("a"), timeout=60)


# -- arrays ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 20_000, 1 << 20])
def test_arrays_are_copies_unless_asked_for_in_place(
    service: Service, serve: Serve, size: int
) -> None:
    kept: list[Any] = []

    def change(x: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        x += 1
        kept.append(x)
        return x

    def keep(x: npt.NDArray[np.int64]) -> bool:
        kept.append(x)
        return bool(x.flags.writeable)

    service.method(keep, in_place=True)
    client = serve(change)
    given = np.arange(size)
    got = client.call("change", given, timeout=60)
    assert np.array_equal(got, np.arange(size) + 1)
    assert got.flags.writeable
    assert not client.call("keep", given, timeout=60)
    given[:] = 0
    for _ in range(3):  # calls that could use the memory again
        client.call("change", given, timeout=60)
    assert np.array_equal(kept[0], np.arange(size) + 1)
    assert np.array_equal(kept[1], np.arange(size))
    kept.clear()  # their memory


def test_arrays_of_more_than_the_memory_of_a_client(serve: Serve) -> None:
    client = serve(echo_of(npt.NDArray[np.uint8]))
    given = np.arange(20 << 20, dtype=np.uint8)
    for _ in range(3):
        assert same(client.call("echo", given, timeout=60), given)


# -- codecs ----------------------------------------------------------------------------------------


def test_pickle_by_name(service: Service, serve: Serve) -> None:
    def add(*numbers, **named):  # type: ignore[no-untyped-def] # noqa: ANN002, ANN003, ANN202
        return [*numbers, named]

    service.method(add, codec=Pickle)
    client = serve()
    assert client.call("add", 1, 2 + 3j, x=Level.LOW, timeout=60) == [1, 2 + 3j, {"x": Level.LOW}]
    with pytest.raises(TypeError, match="codec must be a Codec"):
        service.method(add, name="other", codec=5)  # type: ignore[call-overload]


def test_a_codec_for_items(service: Service, serve: Serve) -> None:
    @service.method(codec=Pickle)
    def items(count):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        yield from (complex(each) for each in range(count))

    assert list(serve().call("items", 3, timeout=60)) == [0j, 1 + 0j, 2 + 0j]
