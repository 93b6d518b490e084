"""Codecs: they encode a value as the bytes of a message, and decode the bytes.

`codec_for` returns the codec of a payload type. No codec that it chooses runs code from a message.
`Pickle` does, so it is used only if the caller names it.
"""

from __future__ import annotations

import ctypes
import json
import sys
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, final, overload

from ipckit._core.lazy_numpy import is_dtype, is_scalar_type, np
from ipckit._core.public import public
from ipckit._native import record_from_bytes
from ipckit._payload.array_codecs import ArrayCodec
from ipckit._payload.codec import Codec, TypeCodec, digest
from ipckit._payload.dtypes import byte_view, check_array
from ipckit._payload.meaning import describe_ctypes, describe_msgspec
from ipckit._payload.structs import Struct

if TYPE_CHECKING:
    import msgspec
    from numpy.typing import NDArray
    from typing_extensions import Buffer

T = TypeVar("T")
StructT = TypeVar("StructT", bound=Struct)
CtypesT = TypeVar("CtypesT", bound=ctypes.Structure | ctypes.Union)
MsgspecT = TypeVar("MsgspecT", bound="msgspec.Struct")
ScalarT = TypeVar("ScalarT", bound="np.generic")


class _ClassCodec(TypeCodec[T]):
    """A codec of the instances of one class."""

    def __init__(self, payload: Any) -> None:
        super().__init__(payload)
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
class StructCodec(_ClassCodec[StructT]):
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


@public("ipckit.codec")
@final
class CtypesCodec(_ClassCodec[CtypesT]):
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
        self.fingerprint = digest(describe_ctypes(payload, self.name), self.size)

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
class Msgpack(_ClassCodec[MsgspecT]):
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
        self.fingerprint = digest(text, beside) if beside else digest(text)

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
