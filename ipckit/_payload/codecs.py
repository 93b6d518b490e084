"""Codecs: they encode a value as the bytes of a message, and decode the bytes.

`codec_for` returns the codec of a payload type. No codec that it chooses runs code from a message.
`Pickle` does, so it is used only if the caller names it.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import struct
import sys
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeVar, cast, final, overload

from ipckit._core.lazy_numpy import is_dtype, is_scalar_type, np
from ipckit._core.public import public
from ipckit._native import Record, record_from_bytes
from ipckit._payload.dtypes import (
    byte_view,
    check_array,
    check_dtype,
    describe_dtype,
    dtype_text,
    same_dtype,
)
from ipckit._payload.meaning import describe_ctypes, describe_msgspec
from ipckit._payload.structs import Struct
from ipckit.errors import LayoutMismatch

if TYPE_CHECKING:
    import msgspec
    from numpy.typing import NDArray
    from typing_extensions import Buffer

T = TypeVar("T")
StructT = TypeVar("StructT", bound=Struct)
CtypesT = TypeVar("CtypesT", bound=ctypes.Structure | ctypes.Union)
MsgspecT = TypeVar("MsgspecT", bound="msgspec.Struct")
ScalarT = TypeVar("ScalarT", bound="np.generic")


_WORD: Final = 8  # bytes of a number in the head of an array of any shape
_MOST_DIMENSIONS: Final = 64  # of a numpy array


@public("ipckit.codec")
class Codec(ABC, Generic[T]):
    """Encodes values of one type as bytes, and decodes the bytes.

    Subclass it for a type of your own, and set the four attributes.

    Attributes:
        size: the bytes of each encoded value; None if values have different sizes.
        accepts: the class whose instances `encode` takes.
        fingerprint: a short text that is equal in two programs if they agree about the bytes.
        name: the payload type's name, for messages.

    Example:
        >>> from ipckit import Channel, Codec
        >>> class Celsius(Codec[float]):
        ...     size, accepts, fingerprint, name = 4, float, "celsius of 4 bytes", "celsius"
        ...     def encode(self, value: float) -> bytes:
        ...         return round(value * 1000).to_bytes(4, "little", signed=True)
        ...     def decode(self, data: bytes) -> float:
        ...         return int.from_bytes(data, "little", signed=True) / 1000
        >>> with Channel.create(type=Celsius()) as channel:
        ...     channel.send(-12.5)
        ...     channel.receive()
        -12.5
    """

    size: int | None
    accepts: type
    fingerprint: str
    name: str

    @abstractmethod
    def encode(self, value: T) -> Buffer:
        """Encode a value.

        Returns:
            An object with the buffer protocol, C-contiguous. It may share the value's memory. Its
            length is ``memoryview(result).nbytes``.

        Raises:
            TypeError: the value is not of this codec's type.
        """

    @abstractmethod
    def decode(self, data: bytes) -> T:
        """Decode bytes to a value, which shares no memory with them unless it is the bytes.

        Raises:
            LayoutMismatch: the bytes are not such a value; its ``raw`` is the bytes.
        """

    def _refuse(self, value: object) -> NoReturn:
        cls = type(value)
        given, wanted = cls.__name__, self.name
        if given == wanted:
            given = f"{cls.__module__}.{cls.__qualname__}"
            wanted = f"{self.accepts.__module__}.{self.accepts.__qualname__}"
        if given == wanted:
            given = f"another class of that name (expected the fingerprint {self.fingerprint})"
        message = f"the payload must be {wanted}, not {given}"
        raise TypeError(message)

    def _mismatch(self, data: bytes, why: str) -> LayoutMismatch:
        error = LayoutMismatch(f"expected {self.name}: {why}", errno=errno.EBADMSG)
        error.raw = bytes(data)
        return error


class _OneType(Codec[T]):
    """A codec of one class or dtype, which is also what its pickle contains."""

    def __init__(self, payload: Any) -> None:
        self._payload = payload
        self._same: weakref.WeakSet[type] = weakref.WeakSet()  # classes that are the same type

    def _check_class(self, value: object) -> None:
        """Refuse an instance of a class that is not the same type.

        Two classes with one fingerprint are the same type: a class that was defined again, or one
        that only adds methods. A subclass with fields of its own is another type.

        Raises:
            TypeError: the value is of another type.
        """
        cls = type(value)
        if cls is self.accepts or cls in self._same:
            return
        if not self._is_same(cls):
            self._refuse(value)
        self._same.add(cls)

    def _is_same(self, cls: type[Any]) -> bool:
        try:
            codec: Codec[Any] = codec_for(cls)
        except TypeError:
            return False
        return type(codec) is type(self) and codec.fingerprint == self.fingerprint

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self._payload,))


class _Plain(Codec[T]):
    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), ())


@public("ipckit.codec")
@final
class BytesCodec(_Plain[bytes]):
    """Sends bytes unchanged; `encode` takes any C-contiguous bytes-like object.

    Example:
        >>> from ipckit import codec
        >>> bytes(codec.BytesCodec().encode(memoryview(b"hello")))
        b'hello'
    """

    size = None
    accepts = bytes
    fingerprint = "bytes"
    name = "bytes"

    def encode(self, value: Buffer) -> Buffer:
        """Return the value itself, or a memoryview of it.

        Raises:
            TypeError: the value is not a C-contiguous bytes-like object, or it is an array of
                Python objects or of a subclass, such as a masked array.
        """
        if isinstance(value, bytes):
            return value
        check_array(value)
        try:
            memoryview(value)
        except TypeError:
            self._refuse(value)
        except ValueError:  # an array whose dtype has no format in the buffer protocol
            pass
        view = byte_view(value)
        if not view.c_contiguous:
            message = "the payload is not C-contiguous; copy it first"
            raise TypeError(message)
        return view

    def decode(self, data: bytes) -> bytes:
        """Return the bytes."""
        return bytes(data)


@public("ipckit.codec")
@final
class RawCodec(_Plain[bytes]):
    """Messages of any type as their bytes, for a tool that does not know the type.

    It opens every channel and topic, whatever the type of its messages. What `encode` gets is sent
    unchanged, so it must be a message of that type.

    >>> from ipckit import Channel
    >>> from ipckit.codec import RawCodec
    >>> with Channel.create("raw-example", str) as channel:
    ...     channel.send("amy")
    ...     with Channel.open("raw-example", RawCodec()) as other:
    ...         other.receive()
    b'amy'
    """

    size = None
    accepts = bytes
    fingerprint = "raw"
    name = "bytes of any type"

    def encode(self, value: Buffer) -> Buffer:
        """Return the value itself, or a memoryview of it; as `BytesCodec.encode`.

        Raises:
            TypeError: the value is not a C-contiguous bytes-like object.
        """
        return BytesCodec().encode(value)

    def decode(self, data: bytes) -> bytes:
        """Return the bytes."""
        return bytes(data)


@public("ipckit.codec")
@final
class DescribedCodec(_Plain[bytes]):
    """Messages of a type that another program has described, as their bytes.

    Unlike `RawCodec`, it creates channels and topics of that type, and opens those of no other.
    Bridges use it: they know a type only from the channel, or from the other side.

    Args:
        number: the fingerprint of the type, as headers have it.
        name: the type as text.
        size: the bytes of each message; None if messages differ in size.

    >>> from ipckit import Channel
    >>> from ipckit.codec import DescribedCodec
    >>> with Channel.create(type=DescribedCodec(0x1234, "point of 2 bytes", 2)) as channel:
    ...     channel.send(b"xy")
    ...     channel.receive()
    b'xy'
    """

    accepts = bytes

    def __init__(self, number: int, name: str, size: int | None) -> None:
        self.number, self.name, self.size = number, name, size
        self.fingerprint = f"described {number:#018x}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.number, self.name, self.size))

    def encode(self, value: Buffer) -> Buffer:
        """Return the value itself, or a memoryview of it; as `BytesCodec.encode`.

        Raises:
            TypeError: the value is not a C-contiguous bytes-like object, or has not the size of
                each message.
        """
        data = BytesCodec().encode(value)
        if self.size is not None and memoryview(data).nbytes != self.size:
            given = memoryview(data).nbytes
            message = f"the payload must have {self.size} bytes, not {given}"
            raise TypeError(message)
        return data

    def decode(self, data: bytes) -> bytes:
        """Return the bytes."""
        return bytes(data)


@public("ipckit.codec")
@final
class StrCodec(_Plain[str]):
    """Text as UTF-8.

    Example:
        >>> from ipckit import codec
        >>> codec.StrCodec().decode(b"hello")
        'hello'
    """

    size = None
    accepts = str
    fingerprint = "utf-8"
    name = "str"

    def encode(self, value: str) -> bytes:
        """Encode text as UTF-8.

        Raises:
            TypeError: the value is not a str.
            UnicodeEncodeError: the text has lone surrogates. This is a ValueError.
        """
        if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            self._refuse(value)
        return value.encode()

    def decode(self, data: bytes) -> str:
        """Decode UTF-8.

        Raises:
            LayoutMismatch: the bytes are not UTF-8.
        """
        try:
            return str(data, "utf-8")
        except UnicodeDecodeError as error:
            raise self._mismatch(data, f"{len(data)} bytes are not UTF-8 ({error})") from None


@public("ipckit.codec")
@final
class StructCodec(_OneType[StructT]):
    """Sends a `Struct` without encoding it, because it exports its own bytes.

    The messages of a struct with a flexible array member have different sizes.

    Example:
        >>> from ipckit import Int, Struct, codec
        >>> class Point(Struct):
        ...     x: Int
        ...     y: Int
        >>> codec.StructCodec(Point).decode(bytes(8))
        Point(x=0, y=0)
    """

    def __init__(self, payload: type[StructT]) -> None:
        super().__init__(payload)
        self.size = None if payload.flexible else payload.size
        self.accepts = payload
        self.fingerprint = payload.fingerprint
        self.name = payload.__name__

    def encode(self, value: StructT) -> StructT:
        """Return the value itself.

        Raises:
            TypeError: the value is of another type.
        """
        self._check_class(value)
        return value

    def decode(self, data: bytes) -> StructT:
        """Create an instance that owns a copy of the bytes.

        Raises:
            LayoutMismatch: the number of bytes is not the size of the type, or it is less than the
                fields before a flexible array member need.
        """
        return record_from_bytes(cast("type[StructT]", self.accepts), data)


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


@public("ipckit.codec")
@final
class CtypesCodec(_OneType[CtypesT]):
    """Sends a ctypes Structure or Union that contains no addresses.

    Raises:
        TypeError: a field is a pointer, a function or a Python object. Such a field has an address,
            which is invalid in another process.

    Example:
        >>> import ctypes
        >>> from ipckit import codec
        >>> class Point(ctypes.Structure):
        ...     _fields_ = (("x", ctypes.c_int), ("y", ctypes.c_int))
        >>> codec.CtypesCodec(Point).size
        8
    """

    def __init__(self, payload: type[CtypesT]) -> None:
        super().__init__(payload)
        self.size = ctypes.sizeof(payload)
        self.accepts = payload
        self.name = payload.__name__
        self.fingerprint = _hash(describe_ctypes(payload, self.name), self.size)

    def encode(self, value: CtypesT) -> CtypesT:
        """Return the value itself.

        Raises:
            TypeError: the value is of another type.
        """
        self._check_class(value)
        return value

    def decode(self, data: bytes) -> CtypesT:
        """Create an instance that owns a copy of the bytes.

        Raises:
            LayoutMismatch: the number of bytes is not the size of the type.
        """
        if len(data) != self.size:
            raise self._mismatch(data, f"the payload has {len(data)} bytes, not {self.size}")
        return cast("CtypesT", self._payload.from_buffer_copy(data))


@public("ipckit.codec")
@final
class ArrayCodec(_OneType["NDArray[Any]"]):
    """Sends one-dimensional numpy arrays of one dtype and any length.

    If the dtype has a shape, such as ``np.dtype((np.uint8, (1080, 1920, 3)))``, it sends arrays of
    that shape only. `AnyShape` sends arrays of any shape, with their shape.

    `encode` also takes a single record (a numpy scalar), and what numpy can read without a copy or
    a conversion: a buffer of numbers such as an `array.array` or a memoryview, a pandas Series (its
    values, without the index), or an Arrow array. It never casts: an array of another dtype raises
    TypeError.

    Attributes:
        dtype: the dtype from which the codec was created.

    Raises:
        TypeError: the dtype holds Python objects, or has no size.

    Example:
        >>> import numpy as np
        >>> from ipckit import codec
        >>> floats = codec.ArrayCodec(np.dtype(float))
        >>> floats.decode(bytes(floats.encode(np.array([1.5, 2.5]))))
        array([1.5, 2.5])
    """

    def __init__(self, payload: np.dtype[Any]) -> None:
        super().__init__(payload)
        self.dtype = payload
        check_dtype(payload)
        self.size = payload.itemsize if payload.shape else None
        self.accepts = np.ndarray
        self.name = f"array of {dtype_text(payload)}"
        self.fingerprint = _hash(describe_dtype(payload))

    def encode(self, value: Any) -> Buffer:
        """Return the array's bytes. It copies only an array that is not C-contiguous.

        Raises:
            TypeError: the value is not an array of this dtype and shape, or it is of a subclass,
                such as a masked array.
        """
        value = self.array_of(value)
        shape, dtype = self._payload.shape, self._payload.base
        wrong = value.shape != shape if shape else value.ndim > 1
        if wrong or not same_dtype(value.dtype, dtype):
            wanted = self.name if shape else f"one-dimensional {self.name}"
            given = f"{dtype_text(value.dtype)} of shape {value.shape}"
            message = f"the payload must be {wanted}, not {given}"
            if not shape and value.ndim > 1 and same_dtype(value.dtype, dtype):
                message += (
                    "; codec.AnyShape sends the shape too, a dtype with a shape fixes it, and "
                    "array.ravel() leaves it out"
                )
            raise TypeError(message)
        return np.ascontiguousarray(value).reshape(-1).view(np.uint8).data

    def array_of(self, value: Any) -> NDArray[Any]:
        """Return a value as an array; not a copy of it, if it is a buffer.

        Raises:
            TypeError: it has no numbers, or its class means more than them, such as a mask.
        """
        if not isinstance(value, (np.ndarray, np.generic)):
            if isinstance(value, Record):
                self._refuse(value)
            if getattr(value, "null_count", 0):  # of an Arrow array
                message = "the payload has nulls, which an array can't have; fill them first"
                raise TypeError(message)
            known = hasattr(value, "__array__") or hasattr(value, "__array_interface__")
            try:
                value = np.asarray(value if known else memoryview(value))
            except (TypeError, ValueError):
                self._refuse(value)
        array = cast("NDArray[Any]", value)
        check_array(array)
        return array

    def decode(self, data: bytes) -> NDArray[Any]:
        """Create a writable array that owns a copy of the bytes.

        Raises:
            LayoutMismatch: the number of bytes does not fit the dtype.
        """
        dtype = self._payload
        if self.size not in {None, len(data)}:
            raise self._mismatch(data, f"the payload has {len(data)} bytes, not {self.size}")
        if len(data) % dtype.itemsize:
            why = f"{len(data)} bytes are not a multiple of {dtype.itemsize}"
            raise self._mismatch(data, why)
        found = np.frombuffer(data, dtype.base).copy()
        return found.reshape(dtype.shape) if dtype.shape else found


@public("ipckit.codec")
@final
class AnyShape(_OneType["NDArray[Any]"]):
    """Sends numpy arrays of one dtype and any shape, with their shape.

    The bytes of the array follow the number of its dimensions and the length of each, as 64-bit
    integers of this machine. A C program must know that; `ArrayCodec` sends only the numbers.

    Args:
        dtype: the dtype of the arrays.

    Raises:
        TypeError: the dtype holds Python objects, or has no size.

    >>> import numpy as np
    >>> from ipckit import Channel, codec
    >>> with Channel.create(type=codec.AnyShape(np.dtype(float))) as channel:
    ...     channel.send(np.ones((2, 3)))
    ...     channel.receive().shape
    (2, 3)
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        dtype = np.dtype(dtype)
        super().__init__(dtype)
        self._numbers = ArrayCodec(dtype.base)
        self.dtype = dtype.base
        self.size = None
        self.accepts = np.ndarray
        self.name = f"array of {dtype_text(dtype.base)} of any shape"
        self.fingerprint = _hash("any shape", describe_dtype(dtype.base))

    def encode(self, value: Any) -> bytes:
        """Return the array's shape and bytes.

        Raises:
            TypeError: the value is not an array of this dtype, or it is of a subclass, such as a
                masked array.
        """
        array = self._numbers.array_of(value)
        head = struct.pack(f"={array.ndim + 1}q", array.ndim, *array.shape)
        return b"".join((head, self._numbers.encode(np.ascontiguousarray(array).reshape(-1))))

    def decode(self, data: bytes) -> NDArray[Any]:
        """Create a writable array that owns a copy of the bytes.

        Raises:
            LayoutMismatch: the bytes are not a shape and as many numbers.
        """
        view = memoryview(data)
        try:
            (count,) = struct.unpack_from("=q", view)
            if not 0 <= count <= _MOST_DIMENSIONS:
                raise ValueError(count)  # noqa: TRY301
            shape = struct.unpack_from(f"={count}q", view, _WORD)
            numbers = np.frombuffer(view[_WORD * (count + 1) :], self.dtype)
            if min(shape, default=0) < 0:
                raise ValueError(shape)  # noqa: TRY301
            return numbers.reshape(shape).copy()
        except (struct.error, ValueError):
            raise self._mismatch(data, f"{len(data)} bytes are not a shape and its items") from None


@public("ipckit.codec")
@final
class Msgpack(_OneType[MsgspecT]):
    """Sends a `msgspec.Struct` as MessagePack.

    Raises:
        ImportError: msgspec is not installed; ``pip install msgspec``.

    Example:
        >>> import msgspec
        >>> from ipckit import codec
        >>> class Login(msgspec.Struct):
        ...     user: str
        >>> logins = codec.Msgpack(Login)
        >>> logins.decode(logins.encode(Login("amy")))
        Login(user='amy')
    """

    def __init__(self, payload: type[MsgspecT]) -> None:
        super().__init__(payload)
        try:
            import msgspec  # noqa: PLC0415 - optional
        except ImportError as error:
            message = "MessagePack payloads need msgspec: pip install msgspec"
            raise ImportError(message, name="msgspec") from error
        self._encoder = msgspec.msgpack.Encoder(enc_hook=_plain_number)
        self._decoder = msgspec.msgpack.Decoder(payload)
        self._failures = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
        self.size = None
        self.accepts = payload
        self.name = payload.__name__
        schema = msgspec.json.schema(payload, schema_hook=lambda kind: {"type": kind.__qualname__})
        text = json.dumps(schema, sort_keys=True, default=repr)
        beside = describe_msgspec(payload)
        self.fingerprint = _hash(text, beside) if beside else _hash(text)

    def encode(self, value: MsgspecT) -> bytes:
        """Encode the value as MessagePack.

        Raises:
            TypeError: the value is of another type.
        """
        self._check_class(value)
        return self._encoder.encode(value)

    def _is_same(self, cls: type[Any]) -> bool:
        if not issubclass(cls, self.accepts):
            return super()._is_same(cls)
        # A schema contains the name of the class, so a subclass has another fingerprint.
        from msgspec import structs  # noqa: PLC0415 - optional

        base: Any = self.accepts
        derived: Any = cls
        own, its = base.__struct_config__, derived.__struct_config__
        if (own.tag, own.tag_field, own.array_like) != (its.tag, its.tag_field, its.array_like):
            return False
        same: bool = structs.fields(derived) == structs.fields(base)
        return same

    def decode(self, data: bytes) -> MsgspecT:
        """Decode the value, and check it against the types that its class declares.

        Raises:
            LayoutMismatch: the bytes are not MessagePack, or do not fit the class.
        """
        try:
            return self._decoder.decode(data)
        except self._failures as error:
            raise self._mismatch(data, f"{len(data)} bytes do not decode ({error})") from None


def _plain_number(value: object) -> object:
    """Return a number or bool of numpy as Python's.

    Raises:
        TypeError: it is another object.
    """
    if is_scalar_type(type(value)):
        number = cast("np.generic", value)
        if number.dtype.kind in "biuf" and type(plain := number.item()) in {bool, int, float}:
            return plain
    cls = type(value)
    message = f"Encoding objects of type {cls.__module__}.{cls.__qualname__} is unsupported"
    raise TypeError(message)


@public("ipckit.codec")
@final
class Pickle(_Plain[Any]):
    """Sends any Python object, with `pickle`.

    It is never a default. A process that can write to the queue or the channel can run its own code
    in the receiver. Use it only if all processes with write permission are trusted.

    Example:
        >>> from ipckit import Channel, codec
        >>> with Channel.create(type=codec.Pickle) as channel:
        ...     channel.send({"any": "object"})
        ...     channel.receive()
        {'any': 'object'}
    """

    size = None
    accepts = object
    fingerprint = "pickle"
    name = "pickle"

    def encode(self, value: Any) -> bytes:
        """Pickle the value. The exceptions are those of `pickle.dumps`."""
        import pickle  # noqa: PLC0415

        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)

    def decode(self, data: bytes) -> Any:
        """Unpickle the value. This can run code that the sender chose.

        Raises:
            LayoutMismatch: the bytes do not unpickle.
        """
        import pickle  # noqa: PLC0415

        try:
            return pickle.loads(data)  # noqa: S301 - the caller named Pickle; see its docstring
        except Exception as error:
            why = f"{len(data)} bytes do not unpickle ({type(error).__name__}: {error})"
            raise self._mismatch(data, why) from error


_ACCEPTED: Final = (
    "bytes, str, a Struct, a ctypes Structure or Union, a numpy dtype, a msgspec.Struct, "
    "or a Codec (codec.Pickle is one)"
)


@overload
def codec_for(type: Codec[T]) -> Codec[T]: ...
@overload
def codec_for(type: type[Codec[T]]) -> Codec[T]: ...
@overload
def codec_for(type: type[bytes]) -> Codec[bytes]: ...
@overload
def codec_for(type: type[str]) -> Codec[str]: ...
@overload
def codec_for(type: type[StructT]) -> Codec[StructT]: ...
@overload
def codec_for(type: type[CtypesT]) -> Codec[CtypesT]: ...
@overload
def codec_for(type: np.dtype[ScalarT]) -> Codec[NDArray[ScalarT]]: ...
@overload
def codec_for(type: type[ScalarT]) -> Codec[NDArray[ScalarT]]: ...
@overload
def codec_for(type: type[MsgspecT]) -> Codec[MsgspecT]: ...
@public("ipckit.codec")
def codec_for(type: Any) -> Codec[Any]:
    """Return the codec of a payload type.

    Args:
        type: bytes, str, a `Struct` subclass, a ctypes Structure or Union
            subclass, a numpy dtype or numpy scalar type (for arrays of it), a
            `msgspec.Struct` subclass, or a `Codec`, instance or class.

    Raises:
        TypeError: it is another type, or a type whose bytes are invalid in another process.

    Example:
        >>> from ipckit.codec import codec_for
        >>> text = codec_for(str)
        >>> text.decode(text.encode("amy"))
        'amy'
    """
    payload: Any = type
    if isinstance(type, Codec):
        codec: Codec[Any] = payload
        return codec
    if is_dtype(type):
        return ArrayCodec(payload)
    if isinstance(type, _CLASS):
        return _codec_of_class(payload)
    message = f"{type!r} is not a payload type; use {_ACCEPTED}"
    raise TypeError(message)


_CLASS: Final = type  # `codec_for` has a parameter of that name


def _codec_of_class(cls: type[Any]) -> Codec[Any]:  # noqa: PLR0911 - one a kind
    payload: Any = cls
    if payload is bytes:
        return BytesCodec()
    if payload is str:
        return StrCodec()
    if issubclass(cls, Codec):
        codec: Codec[Any] = payload()
        return codec
    if issubclass(cls, Struct):
        return StructCodec(payload)
    if issubclass(cls, (ctypes.Structure, ctypes.Union)):
        return CtypesCodec(payload)
    if is_scalar_type(cls):
        return ArrayCodec(np.dtype(payload))
    # msgspec is optional. A program that has a msgspec.Struct has imported it already.
    msgspec = sys.modules.get("msgspec")
    if msgspec is not None and issubclass(cls, msgspec.Struct):
        return Msgpack(payload)
    message = f"{payload.__name__} is not a payload type; use {_ACCEPTED}"
    raise TypeError(message)


def unpickles(payload: Any) -> bool:
    """Return whether decoding a payload can run code that its sender chose."""
    if isinstance(payload, Mapping):
        kinds = cast("Mapping[int, Any]", payload)
        return any(isinstance(codec_for(each), Pickle) for each in kinds.values())
    return isinstance(codec_for(payload), Pickle)
