"""Decode bytes as the struct that the command line names, and convert structs from and to JSON."""

from __future__ import annotations

import errno
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any, cast

from ipckit._cli.hexdump import printable
from ipckit._cli.output import json_of
from ipckit._core.lazy_numpy import is_dtype
from ipckit.errors import InvalidArgument, LayoutMismatch, one_line
from ipckit.msgq import Message, decode_message
from ipckit.structs import ArrayView, FieldInfo, Struct, StructType


def _invalid(message: str, hint: str = "") -> InvalidArgument:
    return InvalidArgument(message, errno=errno.EINVAL, hint=hint)


def _object_named(reference: str) -> Any:
    """Return what ``module:name`` means. The module can be in the working directory.

    Raises:
        InvalidArgument: the text does not have that form, the module can't be imported, or it has
            no such name.
    """
    module_name, colon, path = reference.partition(":")
    if not (module_name and colon and path):
        message = f"{reference!r} does not have the form MODULE:CLASS"
        raise _invalid(message, "example: records:Stu")
    if os.getcwd() not in sys.path:  # noqa: PTH109 - text is wanted
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as exc:
        message = f"cannot import module {module_name}: {type(exc).__name__}: {exc}"
        raise _invalid(message) from None
    for part in path.split("."):
        if not hasattr(found, part):
            message = f"module {module_name} has no class {path}"
            raise _invalid(message)
        found = getattr(found, part)
    return found


def _is_struct(found: object) -> bool:
    return isinstance(found, StructType) and hasattr(found, "__plan__")


def checked_struct(found: Any, reference: str) -> StructType:
    """Return a Struct class with fields.

    Raises:
        InvalidArgument: it is something else; the message says what named it.
    """
    if not _is_struct(found):
        message = f"{reference} is not a Struct class with fields"
        raise _invalid(message)
    struct: StructType = found
    return struct


def struct_named(reference: str) -> StructType:
    """Return the Struct class that ``module:Class`` names.

    Raises:
        InvalidArgument: it names none.
    """
    return checked_struct(_object_named(reference), reference)


def type_named(reference: str) -> Any:
    """Return the payload type that ``module:name`` names: a Struct, a msgspec.Struct or a dtype.

    Raises:
        InvalidArgument: it names none.
    """
    found = _object_named(reference)
    msgspec = sys.modules.get("msgspec")  # the module of such a class has imported it
    if is_dtype(found) or (
        msgspec is not None and isinstance(found, type) and issubclass(found, msgspec.Struct)
    ):
        return found
    return checked_struct(found, reference)


def c_text(source: str) -> str:
    """Return C source: the text itself, or the content of the file for ``@path``.

    Raises:
        InvalidArgument: the file can't be read.
    """
    if not source.startswith("@"):
        return source
    try:
        return Path(source[1:]).read_text()
    except (OSError, UnicodeDecodeError) as exc:
        message = f"cannot read {source[1:]}: {exc}"
        raise _invalid(message) from None


def type_asked_for(reference: str | None, source: str | None) -> Any:
    """Return the type that ``--struct`` or ``--c`` names; None without both.

    Args:
        reference: the value of ``--struct``.
        source: the value of ``--c``.

    Raises:
        InvalidArgument: the value does not describe a type of messages.
    """
    if reference is not None:
        return type_named(reference)
    if source is None:
        return None
    filename = source[1:] if source.startswith("@") else "<text>"
    try:
        return Struct.from_c(c_text(source), filename=filename)
    except ImportError as exc:
        raise _invalid(str(exc)) from None


# -- out -------------------------------------------------------------------------------------------


def decoded(struct: type[Struct], data: bytes, mtype: int = 0) -> tuple[Struct | None, str]:
    """Decode bytes as a struct; return the struct and "", or None and why they do not fit.

    Args:
        struct: the Struct class.
        data: the bytes.
        mtype: their message type, if they are a message of a System V queue.
    """
    try:
        if mtype:
            return decode_message(Message(data, mtype), struct), ""
        return struct.from_bytes(data), ""
    except LayoutMismatch as exc:
        return None, str(exc.strerror)


def plain(value: object) -> Any:
    """Convert a value for JSON: structs to objects, bytes to hexadecimal digits."""
    if isinstance(value, Struct):
        return plain(Struct.asdict(value))
    if isinstance(value, dict):
        return {name: plain(each) for name, each in cast("dict[str, object]", value).items()}
    if isinstance(value, list):
        return [plain(each) for each in cast("list[object]", value)]
    if isinstance(value, bytes):
        return value.hex()
    return value


def json_line(value: object) -> bytes:
    """Return a value as one line of JSON.

    Text that is not UTF-8 has the escapes of the lone surrogates by which Python represents it.
    """
    return json_of(value).encode() + b"\n"


def text_of(data: bytes) -> str | None:
    """Decode bytes as UTF-8, without NULs at the end; None if they are not UTF-8."""
    try:
        return data.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        return None


def line_of(data: bytes) -> str:
    """Return bytes as one line of plain text; with dots if they are not UTF-8."""
    text = text_of(data)
    return printable(data) if text is None else one_line(text)


def message_fields(
    data: bytes, struct: type[Struct] | None, mtype: int = 0
) -> tuple[dict[str, Any], str]:
    """Return the JSON fields of a message, and why its bytes do not fit the struct or ``""``.

    With a struct, ``value`` has its fields. Without one, and if the bytes do not fit it, ``hex``
    has the bytes, and ``text`` the same as UTF-8 or null.
    """
    why = ""
    if struct is not None:
        value, why = decoded(struct, data, mtype)
        if value is not None:
            return {"size": len(data), "value": plain(value)}, ""
    return {"size": len(data), "hex": data.hex(), "text": text_of(data)}, why


# -- in --------------------------------------------------------------------------------------------


def _fitted(template: object, value: object) -> Any:
    """Convert a value from JSON to the type of a field; `template` is the field's zero value."""
    if isinstance(template, Struct):
        return _built(type(template), value)
    if isinstance(template, bytes) and isinstance(value, str):
        try:
            return bytes.fromhex(value)
        except ValueError:
            message = f"bytes are written as hexadecimal digits, not {value!r}"
            raise _invalid(message) from None
    if isinstance(template, ArrayView) and isinstance(value, list):
        items = cast("list[object]", value)
        if len(items) != len(template):
            message = f"the array takes {len(template)} items, not {len(items)}"
            raise _invalid(message)
        return [_fitted(each, item) for each, item in zip(template, items, strict=True)]
    return value


def _template(struct: type[Struct], values: dict[str, object]) -> Struct:
    """Return a zeroed struct whose flexible array has as many items as the value for it."""
    for field in struct.fields:
        value = values.get(field.name)
        if not field.size and isinstance(value, list):
            return StructType.zeroed(struct, len(cast("list[object]", value)))
    return StructType.zeroed(struct)


def _built(struct: type[Struct], value: object) -> Struct:
    names = [field.name for field in struct.fields]
    if isinstance(value, list):
        given = cast("list[object]", value)
        in_order: tuple[str, ...] = struct.__match_args__
        if len(given) > len(in_order):
            message = f"{struct.__name__} has {len(in_order)} fields, not {len(given)}"
            raise _invalid(message)
        by_name = dict(zip(in_order, given, strict=False))
        zero = _template(struct, by_name)
        return struct(*(_fitted(getattr(zero, name), each) for name, each in by_name.items()))
    if not isinstance(value, dict):
        message = f"{struct.__name__} is written as a JSON object or array, not {value!r}"
        raise _invalid(message)
    fields = cast("dict[str, object]", value)
    unknown = [name for name in fields if name not in names]
    if unknown:
        message = f"{struct.__name__} has no field {unknown[0]!r}"
        raise _invalid(message, f"its fields are {', '.join(names)}")
    zero = _template(struct, fields)
    return _of_fields(struct, {n: _fitted(getattr(zero, n), each) for n, each in fields.items()})


def _bits_of(field: FieldInfo) -> range:
    """Return the bits of a field, counted from the start of the struct."""
    first, width = field.bits or (0, 8 * field.size)
    start = 8 * field.offset + first
    return range(start, start + width)


def _of_fields(struct: type[Struct], fields: dict[str, Any]) -> Struct:
    """Create a struct of its fields. Members of a union that share bytes must agree about them."""
    shared: dict[str, Any] = {}
    taken: list[range] = []  # bits
    for field in struct.fields:
        bits = _bits_of(field)
        if field.name not in fields:
            continue
        if any(bits.start < other.stop and other.start < bits.stop for other in taken):
            shared[field.name] = fields.pop(field.name)
        else:
            taken.append(bits)
    made = struct(**fields)
    for name, each in shared.items():
        other = made.copy()
        setattr(other, name, each)
        if bytes(other) != bytes(made):
            message = f"{struct.__name__}.{name} shares its bytes with another member, and differs"
            raise _invalid(message)
    return made


def struct_from_json(struct: type[Struct], text: str) -> Struct:
    """Create a struct from a JSON object of its fields, or an array of them in order.

    Bytes are hexadecimal digits. A nested struct is an object or an array.

    Raises:
        InvalidArgument: the text is not JSON, or the fields do not fit the struct.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        message = f"not JSON: {exc}"
        hint = f'write {struct.__name__} as {{"field": value, …}} or [value, …]'
        raise _invalid(message, hint) from None
    try:
        return _built(struct, value)
    except InvalidArgument:
        raise
    except (TypeError, ValueError, OverflowError) as exc:
        raise _invalid(str(exc)) from None
