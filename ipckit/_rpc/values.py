"""The values of calls as MessagePack, with arrays and structs as extensions.

msgspec encodes and decodes plain values. Two extensions carry the rest: an array is a part of its
own beside the body, and the extension has its dtype, its shape and the number of the part; a
`Struct`, or a ctypes structure, is its bytes after the fingerprint of its type.
"""

from __future__ import annotations

import ast
import ctypes
import threading
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast, get_args, get_origin

import msgspec
from msgspec.msgpack import Decoder, Encoder, Ext, encode

from ipckit._core.lazy_numpy import np
from ipckit._payload.codecs import StructCodec, codec_for
from ipckit._payload.dtypes import check_array, check_dtype, dtype_text, same_dtype
from ipckit._payload.structs import Struct

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from typing_extensions import Buffer

    from ipckit._payload.codecs import Codec

_ARRAY: Final = 1  # the body has the key of the dtype, the shape and the number of the part
_STRUCT: Final = 2  # the body has the fingerprint, and then the bytes
_FINGERPRINT: Final = 16
_HEADER: Final = msgspec.msgpack.Decoder(tuple[str, list[int], int])


class _Message(threading.local):
    """The message that this thread is decoding; the hooks of msgspec get no argument for it."""

    parts: Sequence[memoryview] = ()
    in_place: bool = False
    classes: dict[bytes, Codec[Any]] = {}  # noqa: RUF012 - replaced, not changed


_message = _Message()


# -- numpy -----------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def dtype_key(dtype: np.dtype[Any]) -> str:
    """Return a text from which `dtype_of` makes the same dtype.

    Raises:
        TypeError: the dtype has no bytes that another process could read, or no such text.
    """
    check_dtype(dtype)
    try:
        found: Any = np.lib.format.dtype_to_descr(dtype)
        key = found if isinstance(found, str) else repr(found)
        same = same_dtype(dtype_of(key), dtype)
    except ValueError:  # such as fields that are not in the order of their bytes
        key, same = "", False
    if not same:
        message = f"an array of {dtype_text(dtype)} can't be sent to another process"
        raise TypeError(message)
    return key


@lru_cache(maxsize=256)
def dtype_of(key: str) -> np.dtype[Any]:
    """Return the dtype of a key.

    Raises:
        ValueError: it is not the key of a dtype that can be carried.
    """
    try:
        described: Any = ast.literal_eval(key) if key[:1] in "[(" else key
        dtype: np.dtype[Any] = np.lib.format.descr_to_dtype(described)
        check_dtype(dtype)
    except Exception as exc:  # numpy and `ast` raise many, and another process chose the key
        message = f"invalid dtype: {type(exc).__name__}"
        raise ValueError(message) from None
    return dtype


def _array_in(data: memoryview) -> npt.NDArray[Any]:
    """Return the array of an extension: over the message's memory if asked for, or else a copy."""
    key, shape, number = _HEADER.decode(data)
    dtype = dtype_of(key)
    part = _message.parts[number] if 0 <= number < len(_message.parts) else memoryview(b"")
    array: npt.NDArray[Any] = np.ndarray(shape, dtype, part)
    return array if _message.in_place else array.copy()


# -- encode ----------------------------------------------------------------------------------------


def _extension(item: object, parts: list[Buffer]) -> Any:
    """Return what msgspec encodes in place of a value that it does not know.

    Raises:
        TypeError: the value can't be carried.
    """
    kind, value = type(item), cast("Any", item)
    if kind is np.ndarray:
        check_array(value)
        key = dtype_key(value.dtype)
        parts.append(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
        return Ext(_ARRAY, encode((key, value.shape, len(parts) - 2)))
    if issubclass(kind, np.generic):
        plain: Any = value.item()
        # A datetime64 can convert to an int, without its unit.
        if type(plain) in {int, float, bool, bytes, str} and value.dtype.kind not in "mM":
            return plain
    elif issubclass(kind, (Struct, ctypes.Structure, ctypes.Union)):
        codec: Codec[Any] = codec_for(kind)
        return Ext(_STRUCT, struct_key(codec) + bytes(codec.encode(value)))
    check_array(value)
    message = f"a {kind.__module__}.{kind.__qualname__} can't be carried"
    raise TypeError(message)


def encoded(value: Any) -> bytes | list[Buffer]:
    """Return a value in MessagePack; or that and the arrays, each a part of its own.

    Raises:
        TypeError: the value, or a value in it, can't be carried.
    """
    parts: list[Buffer] = [b""]
    body = Encoder(enc_hook=lambda each: _extension(each, parts)).encode(value)
    if len(parts) == 1:
        return body
    parts[0] = body
    return parts


def struct_key(codec: Codec[Any]) -> bytes:
    """Return the bytes that name a codec's type in a message."""
    return bytes.fromhex(codec.fingerprint)[:_FINGERPRINT].ljust(_FINGERPRINT, b"\0")


# -- decode ----------------------------------------------------------------------------------------


def _from_extension(code: int, data: memoryview) -> Any:
    """Return the value of an extension.

    Raises:
        ValidationError: there is none. Of a hook for extensions, msgspec lets any error pass.
    """
    try:
        if code == _ARRAY:
            return _array_in(data)
        if code == _STRUCT:
            return _struct_in(data)
        message = f"unknown extension {code}"
    except Exception as exc:  # numpy raises many, and another process chose the bytes
        message = str(exc)
    raise msgspec.ValidationError(message)


def _struct_in(data: memoryview) -> Any:
    key = bytes(data[:_FINGERPRINT])
    codec = _message.classes.get(key) or loaded_struct(key)
    if codec is None:
        message = "expected a known struct, got one that this process has no class for"
        raise ValueError(message)
    return codec.decode(bytes(data[_FINGERPRINT:]))


def loaded_struct(key: bytes) -> Codec[Any] | None:
    """Return the codec of the `Struct` class in this process that has a key; None if none has."""
    waiting: list[type[Struct]] = [Struct]
    while waiting:
        for cls in waiting.pop().__subclasses__():
            waiting.append(cls)
            try:
                codec = StructCodec(cls)
            except TypeError:  # it has no members yet, or can't be sent
                continue
            if struct_key(codec) == key:
                return codec
    return None


def _checked(wanted: Any, value: object) -> Any:
    """Return a value of a type that msgspec does not know.

    Raises:
        ValueError: it is not of that type; msgspec adds where it is.
    """
    kind: Any = get_origin(wanted) or wanted
    same = kind  # `issubclass` narrows the type of `kind`, to one that is partly unknown
    if kind is np.ndarray:
        return _checked_array(kind, value)
    if issubclass(kind, ArrayOf):
        return _checked_array(kind, value)
    if issubclass(kind, np.generic):
        return _number(same, value)
    if isinstance(value, kind):
        return value
    codec: Codec[Any] = codec_for(same)
    try:
        given: Codec[Any] = codec_for(type(value))
        if given.fingerprint == codec.fingerprint:
            return codec.decode(bytes(given.encode(value)))
    except TypeError:
        pass
    raise _mismatch(codec.name, value)


def _checked_array(wanted: Any, value: Any) -> Any:
    array = value  # `isinstance` narrows the type of `value`, to one that is partly unknown
    is_array = isinstance(value, np.ndarray)
    if is_array and (wanted is np.ndarray or wanted.takes(array.dtype)):
        return array
    what = "array" if wanted is np.ndarray else f"array of {wanted.text}"
    got = f"array of {array.dtype}" if is_array else type(array).__name__
    message = f"Expected `{what}`, got `{got}`"
    raise ValueError(message)


class _ArrayType(type):
    def __instancecheck__(cls, value: object) -> bool:  # msgspec checks what `_checked` returns
        return isinstance(value, np.ndarray)


class ArrayOf(metaclass=_ArrayType):
    """The base of types that stand for the arrays of some dtypes; see `array_of`.

    Attributes:
        text: the dtypes, for errors.
        dtype: the only dtype; None if there are several.
        scalar: the class of the items.
    """

    text: str
    dtype: np.dtype[Any] | None
    scalar: type[Any]

    @classmethod
    def takes(cls, dtype: np.dtype[Any]) -> bool:
        """Return whether a dtype is one of them."""
        if cls.dtype is None:
            return issubclass(dtype.type, cls.scalar)
        return same_dtype(dtype, cls.dtype)


# The classes of items that have several dtypes: of several sizes, or with several units.
_MANY_DTYPES: Final = frozenset(
    {
        "bytes_",
        "character",
        "complexfloating",
        "datetime64",
        "flexible",
        "floating",
        "generic",
        "inexact",
        "integer",
        "number",
        "signedinteger",
        "str_",
        "timedelta64",
        "unsignedinteger",
        "void",
    }
)


@lru_cache(maxsize=256)
def array_of(key: str) -> type[ArrayOf]:
    """Return the type that stands for the arrays of a key; only decoders use it.

    Args:
        key: the key of a dtype, or the name of a class that has several dtypes.
    """
    if key in _MANY_DTYPES:
        facts = {"text": key, "dtype": None, "scalar": getattr(np, key)}
    else:
        dtype = dtype_of(key)
        facts = {"text": dtype_text(dtype), "dtype": dtype, "scalar": dtype.type}
    return type("array", (ArrayOf,), facts)


def array_key(annotation: Any) -> str | None:
    """Return the key for `array_of` of an annotation such as ``NDArray[np.float64]``.

    None if it asks for no dtype.

    Raises:
        TypeError: arrays of this dtype can't be sent.
    """
    for argument in get_args(annotation)[1:2]:
        for scalar in get_args(argument)[:1]:
            kind: Any = get_origin(scalar) or scalar
            if isinstance(kind, type) and issubclass(kind, np.generic):
                name = kind.__name__
                return name if name in _MANY_DTYPES else dtype_key(np.dtype(cast("Any", kind)))
    return None


def _number(kind: type[Any], value: Any) -> Any:
    boolean, integer = issubclass(kind, np.bool_), issubclass(kind, np.integer)
    accepted = (bool,) if boolean else (int,) if integer else (int, float)
    if type(value) not in accepted:
        raise _mismatch(kind.__name__, value)
    found, fits = None, False
    with suppress(OverflowError, TypeError, ValueError), np.errstate(over="ignore"):
        found = kind(value)
        # A float is rounded, but does not become infinite. An int is not rounded.
        if type(value) is float and _is_finite(value):
            fits = _is_finite(found.item())
        else:
            fits = type(value) is float or found.item() == value
    if not fits:
        message = f"Expected `{kind.__name__}`, got `{value}`, which is out of range"
        raise ValueError(message)
    return found


def _is_finite(value: float) -> bool:
    return value - value == 0


def _mismatch(wanted: str, value: object) -> ValueError:
    return ValueError(f"Expected `{wanted}`, got `{type(value).__name__}`")


def decoder_of(kind: Any) -> Decoder[Any]:
    """Return a decoder of values of a type.

    Raises:
        TypeError: msgspec refuses the type.
    """
    return Decoder(kind, dec_hook=_checked, ext_hook=_from_extension)


def decoded(
    decoder: Decoder[Any],
    body: Buffer,
    parts: Sequence[memoryview],
    classes: dict[bytes, Codec[Any]],
    *,
    in_place: bool = False,
) -> Any:
    """Decode a value that has extensions.

    Args:
        decoder: the decoder, from `decoder_of`.
        body: the value in MessagePack.
        parts: the arrays.
        classes: the types of structs by `struct_key`.
        in_place: whether arrays use the message's memory, read-only.

    Raises:
        msgspec.DecodeError: it is not a value of the decoder's type.
    """
    # A finalizer may decode another message in between, so set what was there again.
    before = _message.parts, _message.in_place, _message.classes
    _message.parts, _message.in_place, _message.classes = parts, in_place, classes
    try:
        return decoder.decode(body)
    finally:
        _message.parts, _message.in_place, _message.classes = before
