"""Encode arguments and results as MessagePack, with arrays and structs as extensions.

msgspec encodes and decodes plain values. Two MessagePack extensions are for the other values. The
bytes of an array are a separate part of the message, and the extension contains its dtype, its
shape and the number of the part. The extension for a `Struct` or a ctypes structure contains the
fingerprint of its type and then its bytes.
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

    from ipckit._payload.codec import Codec

_ARRAY: Final = 1  # an extension with the key of the dtype, the shape and the number of the part
_STRUCT: Final = 2  # an extension with the fingerprint, and then the bytes
_FINGERPRINT: Final = 16
_HEADER: Final = msgspec.msgpack.Decoder(tuple[str, list[int], int])


class _Message(threading.local):
    """The message that this thread decodes, because msgspec does not pass it to its hooks."""

    parts: Sequence[memoryview] = ()
    in_place: bool = False
    classes: dict[bytes, Codec[Any]] = {}  # noqa: RUF012 - replaced, not changed


_message = _Message()


# -- numpy -----------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def dtype_key(dtype: np.dtype[Any]) -> str:
    """Return a text from which `dtype_of` makes the same dtype.

    Raises:
        TypeError: another process could not read the bytes of the dtype, or it has no such text.
    """
    check_dtype(dtype)
    try:
        found: Any = np.lib.format.dtype_to_descr(dtype)
        key = found if isinstance(found, str) else repr(found)
        same = same_dtype(dtype_of(key), dtype)
    except ValueError:  # for example, the fields are not in the order of their bytes
        key, same = "", False
    if not same:
        message = f"an array of {dtype_text(dtype)} can't be sent to another process"
        raise TypeError(message)
    return key


@lru_cache(maxsize=256)
def dtype_of(key: str) -> np.dtype[Any]:
    """Return the dtype of a key.

    Raises:
        ValueError: the key is not that of a dtype that can be carried.
    """
    try:
        described: Any = ast.literal_eval(key) if key[:1] in "[(" else key
        dtype: np.dtype[Any] = np.lib.format.descr_to_dtype(described)
        check_dtype(dtype)
    except Exception as exc:  # another process chose the key, so numpy can raise any error
        message = f"invalid dtype: {type(exc).__name__}"
        raise ValueError(message) from None
    return dtype


def _array_in(data: memoryview) -> npt.NDArray[Any]:
    """Return the array of an extension: a copy, or in place a view of the message's memory."""
    key, shape, number = _HEADER.decode(data)
    dtype = dtype_of(key)
    part = _message.parts[number] if 0 <= number < len(_message.parts) else memoryview(b"")
    array: npt.NDArray[Any] = np.ndarray(shape, dtype, part)
    return array if _message.in_place else array.copy()


# -- encode ----------------------------------------------------------------------------------------


def _extension(item: object, parts: list[Buffer]) -> Any:
    """Return the replacement that msgspec encodes for a value whose type it does not know.

    Args:
        item: the value.
        parts: the parts of the message, to which the bytes of an array are added.

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
    """Encode a value as MessagePack.

    Returns:
        The body; or a list of the body and the arrays in the value, if it contains any.

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
    """Return the bytes that identify the type of a codec in a message."""
    return bytes.fromhex(codec.fingerprint)[:_FINGERPRINT].ljust(_FINGERPRINT, b"\0")


# -- decode ----------------------------------------------------------------------------------------


def _from_extension(code: int, data: memoryview) -> Any:
    """Return the value of an extension.

    Raises:
        ValidationError: the extension is invalid. msgspec would pass on any other exception of this
            hook unchanged.
    """
    try:
        if code == _ARRAY:
            return _array_in(data)
        if code == _STRUCT:
            return _struct_in(data)
        message = f"unknown extension {code}"
    except Exception as exc:  # another process chose the bytes, so numpy can raise any error
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
    """Return the codec of the loaded `Struct` class with this key; None if there is none."""
    waiting: list[type[Struct]] = [Struct]
    while waiting:
        for cls in waiting.pop().__subclasses__():
            waiting.append(cls)
            try:
                codec = StructCodec(cls)
            except TypeError:  # the class has no members yet, or can't be sent
                continue
            if struct_key(codec) == key:
                return codec
    return None


def _checked(wanted: Any, value: object) -> Any:
    """Return a value as a type that msgspec does not know.

    Raises:
        ValueError: the value does not have that type. msgspec adds the place of the value.
    """
    kind: Any = get_origin(wanted) or wanted
    same = kind  # `issubclass` narrows the type of `kind` to a partly unknown one
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
    array = value  # `isinstance` narrows the type of `value` to a partly unknown one
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
    """The base class of types for arrays of certain dtypes; see `array_of`.

    Attributes:
        text: the dtypes, for error messages.
        dtype: the only dtype; None if there are several.
        scalar: the class of the items.
    """

    text: str
    dtype: np.dtype[Any] | None
    scalar: type[Any]

    @classmethod
    def takes(cls, dtype: np.dtype[Any]) -> bool:
        """Return whether arrays of this dtype belong to the type."""
        if cls.dtype is None:
            return issubclass(dtype.type, cls.scalar)
        return same_dtype(dtype, cls.dtype)


# numpy's classes of items that have several dtypes, because of several sizes or units.
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
    """Return the type for arrays with a dtype, for decoders.

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
    """Return the key for `array_of` from an annotation such as ``NDArray[np.float64]``.

    None if the annotation names no dtype.

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
        TypeError: msgspec does not accept the type.
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
    """Decode a value that can contain extensions.

    Args:
        decoder: the decoder, from `decoder_of`.
        body: the value in MessagePack.
        parts: the bytes of the arrays.
        classes: the codecs of structs, by `struct_key`.
        in_place: whether arrays use the message's memory, read-only.

    Raises:
        msgspec.DecodeError: the body is not a value of the decoder's type.
    """
    # A finalizer can decode another message during this call, so restore the values before it.
    before = _message.parts, _message.in_place, _message.classes
    _message.parts, _message.in_place, _message.classes = parts, in_place, classes
    try:
        return decoder.decode(body)
    finally:
        _message.parts, _message.in_place, _message.classes = before
