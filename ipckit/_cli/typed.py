"""The forms of messages: how the commands show messages of each type, and read them.

`form_of` returns the form of a channel's or topic's messages. The user need not name their type:
the header has it as text, from which a type is made. The fingerprint in the header shows whether it
is the same type.
"""

from __future__ import annotations

import errno
import json
import re
import sys
import warnings
from abc import ABC, abstractmethod
from ast import literal_eval
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import ipckit._native as native
from ipckit._cli.arrays import array_from, array_text, plain_array
from ipckit._cli.output import json_of
from ipckit._cli.payload import decoded, message_fields, struct_from_json
from ipckit._core.fingerprints import fingerprint
from ipckit._core.lazy_numpy import is_array, is_dtype, np
from ipckit.codec import RawCodec, codec_for
from ipckit.errors import InvalidArgument, LayoutMismatch, one_line
from ipckit.structs import ArrayView, Struct, StructType

if TYPE_CHECKING:
    from ipckit.codec import Codec
    from ipckit.inventory import IpcObject

_SHOWN: Final = 100  # items of an array, or bytes, that a terminal shows in full
_EDGE: Final = 3
_SWAPPED: Final[Any] = "little" if sys.byteorder == "big" else "big"
# The header keeps this many bytes of the type, and a character may have been cut.
_CUT: Final = native.CHANNEL_TYPE_SIZE - 4


class Form:
    """How messages are shown and read; this one is for bytes.

    Attributes:
        type: the payload type, to open a channel or topic.
        has_values: whether values are written as JSON.
        why: why the messages can't be decoded; "" if they can.
    """

    type: Any = bytes
    has_values = False
    why = ""

    def fields(self, data: bytes, mtype: int = 0) -> tuple[dict[str, Any], str]:
        """Return the JSON fields of a message, and why it can't be decoded or ``""``."""
        del mtype
        return message_fields(data, None)

    def line(self, data: bytes, mtype: int = 0, *, short: bool) -> tuple[str | None, str]:
        """Return the value of a message as a line, and why it can't be decoded or ``""``.

        Args:
            data: the bytes of the message.
            mtype: its message type, if it is from a System V queue.
            short: leave out the middle of what is long.

        Returns:
            None for a message that is shown as bytes: its type is `bytes`, or it can't be decoded.
        """
        del data, mtype, short
        return None, ""

    def of_text(self, text: bytes) -> Any:
        """Return the message that an argument or a line of standard input means.

        Raises:
            InvalidArgument: the text does not fit the type.
        """
        return text

    def of_json(self, value: object) -> Any:
        """Return the message of the name ``value`` in a JSON record.

        Raises:
            InvalidArgument: the value does not fit the type.
        """
        del value
        message = "value is for messages of another type, and these are bytes"
        raise _invalid(message, "name a struct by --struct or --c, or send hex or text")

    def of_bytes(self, data: bytes) -> Any:
        """Return the message that has these bytes.

        Raises:
            InvalidArgument: the bytes are not a message of this type.
        """
        return data


def _invalid(message: str, hint: str = "") -> InvalidArgument:
    return InvalidArgument(message, errno=errno.EINVAL, hint=hint)


class QueueRecords(Form):
    """Structs in a queue. The queue also takes other bytes."""

    has_values = True

    def __init__(self, struct: type[Struct]) -> None:
        self.type = self._struct = struct

    def fields(self, data: bytes, mtype: int = 0) -> tuple[dict[str, Any], str]:
        return message_fields(data, self._struct, mtype)

    def line(self, data: bytes, mtype: int = 0, *, short: bool) -> tuple[str | None, str]:
        value, why = decoded(self._struct, data, mtype)
        return (None if value is None else _struct_text(value, short=short)), why

    def of_text(self, text: bytes) -> Any:
        return struct_from_json(self._struct, text.decode(errors="replace"))

    def of_json(self, value: object) -> Any:
        return struct_from_json(self._struct, json.dumps(value))


class Records(QueueRecords):
    """Structs in a channel or topic, which takes nothing else."""

    def of_bytes(self, data: bytes) -> Any:
        value, why = decoded(self._struct, data)
        if value is None:
            raise _invalid(why)
        return value


class _Decoded(Form, ABC):
    """Messages that a codec decodes."""

    has_values = True

    def __init__(self, type: Any) -> None:
        self.type = type
        self._codec: Codec[Any] = codec_for(type)

    def fields(self, data: bytes, mtype: int = 0) -> tuple[dict[str, Any], str]:
        del mtype
        try:
            return {"size": len(data), **self._plain(self._codec.decode(data))}, ""
        except LayoutMismatch as exc:
            return message_fields(data, None)[0], str(exc.strerror)

    def line(self, data: bytes, mtype: int = 0, *, short: bool) -> tuple[str | None, str]:
        del mtype
        try:
            return self._text(self._codec.decode(data), short=short), ""
        except LayoutMismatch as exc:
            return None, str(exc.strerror)

    def of_text(self, text: bytes) -> Any:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as exc:
            message = f"not JSON: {exc}"
            raise _invalid(message) from None
        return self.of_json(value)

    def of_bytes(self, data: bytes) -> Any:
        try:
            return self._codec.decode(data)
        except LayoutMismatch as exc:
            raise _invalid(str(exc.strerror)) from None

    @abstractmethod
    def _plain(self, value: Any) -> dict[str, Any]:
        """Return a value as JSON fields."""

    @abstractmethod
    def _text(self, value: Any, *, short: bool) -> str:
        """Return a value as a line."""


class Text(_Decoded):
    """Messages of text."""

    has_values = False

    def __init__(self) -> None:
        super().__init__(str)

    def of_text(self, text: bytes) -> Any:
        return self.of_bytes(text)

    def of_json(self, value: object) -> Any:
        if not isinstance(value, str):
            message = f"the messages are text, not {value!r}"
            raise _invalid(message)
        return value

    def _plain(self, value: Any) -> dict[str, Any]:
        return {"text": value}

    def _text(self, value: Any, *, short: bool) -> str:
        del short
        return str(value)


class Arrays(_Decoded):
    """Arrays of a numpy dtype."""

    def of_json(self, value: object) -> Any:
        return array_from(value, self.type)

    def _plain(self, value: Any) -> dict[str, Any]:
        return {"value": plain_array(value)}

    def _text(self, value: Any, *, short: bool) -> str:
        return array_text(value, short=short)


class MessagePack(_Decoded):
    """Structs of msgspec, of a class that the user named."""

    def of_json(self, value: object) -> Any:
        import msgspec  # noqa: PLC0415 - optional

        try:
            return msgspec.convert(value, self.type, str_keys=True)
        except msgspec.ValidationError as exc:
            raise _invalid(str(exc)) from None

    def _plain(self, value: Any) -> dict[str, Any]:
        return {"value": _builtins(value)}

    def _text(self, value: Any, *, short: bool) -> str:
        del short
        return one_line(repr(value))


class AnyMessagePack(_Decoded):
    """MessagePack of an unknown class: it can be shown, but not made from JSON."""

    def __init__(self) -> None:
        super().__init__(RawCodec())

    def of_json(self, value: object) -> Any:
        del value
        message = "the header does not have the whole type"
        raise _invalid(message, "name the class by --struct MODULE:CLASS, or send bytes by --hex")

    def _plain(self, value: Any) -> dict[str, Any]:
        import msgspec  # noqa: PLC0415 - optional

        try:
            return {"value": _builtins(msgspec.msgpack.decode(value))}
        except (ValueError, TypeError, RecursionError) as exc:
            message = f"not MessagePack that JSON can show: {exc}"
            raise LayoutMismatch(message, errno=errno.EBADMSG) from None

    def _text(self, value: Any, *, short: bool) -> str:
        del short
        return json_of(self._plain(value)["value"])


def _builtins(value: object) -> Any:
    """Convert MessagePack to what JSON has, as msgspec does: bytes in base64, dates as text."""
    import msgspec  # noqa: PLC0415 - optional

    return msgspec.to_builtins(value, str_keys=True)


class Undecoded(Form):
    """Messages of a type that is not known. Their bytes can be shown and sent."""

    type: Any = RawCodec()

    def __init__(self, why: str, size: int | str = 0) -> None:
        """Create the form.

        Args:
            why: why the type is not known.
            size: the bytes of each message; 0 if messages differ in size.
        """
        self.why = why
        self._size = size

    def of_text(self, text: bytes) -> Any:
        del text
        raise _invalid(self.why)

    def of_json(self, value: object) -> Any:
        del value
        raise _invalid(self.why)

    def of_bytes(self, data: bytes) -> Any:
        if self._size and len(data) != self._size:
            message = f"each message has {self._size} bytes, not {len(data)}"
            raise _invalid(message)
        return data


# -- Structs on a line -----------------------------------------------------------------------------


def _struct_text(value: Struct, *, short: bool) -> str:
    return one_line(_field_text(value) if short else repr(value))


def _field_text(value: object) -> str:
    """Return the `repr` of a field's value, without the middle of what is long."""
    if isinstance(value, Struct):
        names = [field.name for field in type(value).fields]
        parts = (f"{name}={_field_text(getattr(value, name))}" for name in names)
        return f"{type(value).__name__}({', '.join(parts)})"
    if isinstance(value, ArrayView) and len(value) > _SHOWN:
        ends = [[_field_text(each) for each in value[part]] for part in _ENDS]
        return f"[{', '.join([*ends[0], '...', *ends[1]])}]"
    if isinstance(value, ArrayView):
        return f"[{', '.join(map(_field_text, value))}]"
    if is_array(value):
        array: Any = value
        return array_text(array, short=True) if array.size > _SHOWN else repr(array.tolist())
    if isinstance(value, bytes) and len(value) > _SHOWN:
        return f"{value[:_EDGE]!r}...{value[-_EDGE:]!r}"
    return repr(value)


_ENDS: Final = (slice(_EDGE), slice(-_EDGE, None))


# -- the type of a channel's or topic's messages ---------------------------------------------------


def form_of(found: IpcObject, asked: Any = None) -> Form:
    """Return the form of the messages of a channel or topic.

    Args:
        found: the channel or topic.
        asked: the type that the user named: a Struct or msgspec.Struct class, or a dtype; None if
            the type is to be found from the header.

    Raises:
        LayoutMismatch: the messages are of another type than `asked`.
    """
    if "fingerprint" not in found.details:
        return Undecoded("")  # opening it will say why the header can't be read
    if asked is None:
        return _form_by_header(found, found.payload)
    if _is_type_of(found, asked):
        return _form_of_type(asked)
    raise _mismatch(found, asked)


def _form_by_header(found: IpcObject, text: str) -> Form:
    """Return the form of messages by the text of their type, which another user may have chosen."""
    if text == "bytes" and _is_type_of(found, bytes):
        return Form()
    if text == "str" and _is_type_of(found, str):
        return Text()
    if text.startswith("array of "):
        return _array_form(found, text.removeprefix("array of "))
    if text.endswith(" as MessagePack"):
        return _message_pack_form()
    if "typedef " in text:
        return _struct_form(found, text)
    why = f"the header does not say enough about the type of the messages: {text!r}"
    return Undecoded(why, found.details["item_size"])


def _is_type_of(found: IpcObject, type: Any) -> bool:
    try:
        codec = codec_for(type)
    except TypeError:  # a dtype whose bytes mean nothing to another process
        return False
    return fingerprint(codec.fingerprint, codec.size) == int(str(found.details["fingerprint"]), 16)


def _form_of_type(asked: Any) -> Form:
    if is_dtype(asked):
        return Arrays(asked)
    return Records(asked) if issubclass(asked, Struct) else MessagePack(asked)


def _mismatch(found: IpcObject, asked: Any) -> LayoutMismatch:
    wanted = f"array of {asked}" if is_dtype(asked) else f"{asked.__module__}.{asked.__qualname__}"
    if isinstance(asked, StructType):
        with suppress(InvalidArgument):  # C can't declare it
            wanted = " ".join(asked.c_declaration().split())
    message = f"the messages are {found.payload}, and you named {wanted}"
    if found.payload == wanted[: len(found.payload)]:
        message += "; they look alike, but differ in size or in what the bytes mean"
    return LayoutMismatch(message, errno=errno.EBADMSG, target=found.address)


def _undecoded(found: IpcObject, reason: str) -> Undecoded:
    """Return the form of messages whose type can't be made from the text in the header."""
    if len(found.payload.encode()) >= _CUT:
        reason = "has only the beginning of it"
    message = f"the type of the messages is not known: the header {reason}: {found.payload!r}"
    why = f"{message}; name it by --struct MODULE:CLASS"
    return Undecoded(why, found.details["item_size"])


def _array_form(found: IpcObject, text: str) -> Form:
    text = re.sub(r" of \d+ bytes$", "", text)
    invalid = (SyntaxError, ValueError, TypeError, OverflowError, MemoryError, RecursionError)
    # Another user may have chosen the text. It makes a dtype only, and is short.
    with warnings.catch_warnings(action="ignore"), suppress(*invalid):
        dtype = np.dtype(literal_eval(text) if text[:1] in {"(", "[", "{"} else text)
        if _is_type_of(found, dtype):
            return Arrays(dtype)
    return _undecoded(found, "has no type of numpy's own")


def _message_pack_form() -> Form:
    try:
        import msgspec  # noqa: F401, PLC0415 # pyright: ignore[reportUnusedImport] - optional
    except ImportError:
        return Undecoded("the messages are MessagePack, which needs msgspec: pip install msgspec")
    return AnyMessagePack()


_COMMENT: Final = re.compile(r"/\*.*?\*/")
_INCLUDE: Final = re.compile(r"#include <[a-z/]+\.h>")
_PACK: Final = re.compile(r"#pragma pack\((?:push, \d+|pop)\)")
# A text with other characters could include files, or call the compiler's extensions.
_DECLARATIONS: Final = re.compile(r"[A-Za-z0-9_ {}\[\]();:,=*+-]*")


def _c_source(text: str) -> str | None:
    """Return the C text of a Struct in a header, one line for each directive; None if it is none.

    Another user may have chosen the text, so what is not a plain declaration is refused.
    `Struct.from_c` needs no includes for the types that a Struct can have.
    """
    text = _INCLUDE.sub(" ", _COMMENT.sub(" ", text))
    if not _DECLARATIONS.fullmatch(_PACK.sub(" ", text)):
        return None
    return _PACK.sub(lambda found: f"\n{found[0]}\n", text)


def _struct_form(found: IpcObject, text: str) -> Form:
    source = _c_source(text)
    if source is None:
        return _undecoded(found, "has no plain C declaration")
    for endian in ("native", _SWAPPED):
        try:
            struct: Any = Struct.from_c(source, endian=endian)
        except ImportError:
            return _undecoded(found, "has it in C, which needs libclang (pip install libclang)")
        except (InvalidArgument, RecursionError):
            return _undecoded(found, "has C that does not compile")
        if _is_type_of(found, struct):
            return Records(struct)
    return _undecoded(found, "has it in C, which does not say everything about it")
