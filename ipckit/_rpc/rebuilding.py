"""Make types from their descriptions, which a service sends to its clients.

For a class of the service, the client uses its own class of the same module and name, if the module
is loaded and the class has the same fields. Otherwise it makes a new class with these fields. It
never imports a module.
"""

from __future__ import annotations

import collections
import ctypes
import dataclasses
import enum
import keyword
import sys
import typing
from typing import TYPE_CHECKING, Any, Literal, Union

import msgspec

from ipckit._core.lazy_numpy import np
from ipckit._payload.codecs import codec_for
from ipckit._payload.structs import Struct
from ipckit._rpc.description import WORDS, TypeTable, definition
from ipckit._rpc.values import array_of, dtype_of, loaded_struct, struct_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit._payload.codec import Codec
    from ipckit._rpc.description import Description


def rebuild(description: Description, table: TypeTable) -> Any:
    """Return the type of a description.

    Args:
        description: the description.
        table: the definitions of the classes to which it refers. `rebuild` adds the classes that
            it finds or makes.

    Raises:
        LookupError: the description is invalid.
        TypeError: the description is invalid.
        ValueError: the description is invalid.
    """
    if isinstance(description, str):
        return WORDS[description]
    word, *arguments = description
    make = _MAKERS.get(word)
    if make is not None:
        return make(arguments, table)
    members = tuple(rebuild(each, table) for each in arguments)
    return WORDS[word][members] if members else WORDS[word]


def _tuple(members: list[Description], table: TypeTable) -> Any:
    return tuple[tuple(rebuild(each, table) for each in members)]  # type: ignore[misc]


def _tuple_of(members: list[Description], table: TypeTable) -> Any:
    return tuple[rebuild(members[0], table), ...]  # type: ignore[misc]


def _union(members: list[Description], table: TypeTable) -> Any:
    return Union[tuple(rebuild(each, table) for each in members)]  # noqa: UP007 - of any number


def _literal(values: list[Any], _: TypeTable) -> Any:
    return Literal[tuple(values)]


def _array(facts: list[str], _: TypeTable) -> Any:
    return array_of(facts[0]) if facts else np.ndarray


def _number(facts: list[str], _: TypeTable) -> Any:
    return dtype_of(facts[0]).type


def _struct(facts: list[Any], table: TypeTable) -> Any:
    key, module, qualname, name = facts
    codec = table.structs.get(key) or _struct_of(module, qualname, key) or loaded_struct(key)
    if codec is None:
        return type(name, (UnknownStruct,), {})
    table.structs[key] = codec
    return codec.accepts


class UnknownStruct:
    """The base class of types for structs whose class this process has not loaded."""


def _struct_of(module: str, qualname: str, key: bytes) -> Codec[Any] | None:
    cls = loaded_object(module, qualname)
    if isinstance(cls, type) and issubclass(cls, (Struct, ctypes.Structure, ctypes.Union)):
        codec = codec_for(cls)
        return codec if struct_key(codec) == key else None
    return None


def _class(facts: list[str], table: TypeTable) -> Any:
    name = facts[0]
    if name not in table.classes:
        module, qualname, *contents = table.definitions[name]
        cls = loaded_object(module, qualname)
        if not _is_same(cls, table.definitions[name]):
            table.classes[name] = Any  # for a field that has the class itself
            cls = _made(qualname.rpartition(".")[2], contents, table)
            cls.__module__ = "ipckit.rpc"  # not the library that made the class
        table.classes[name] = cls
    return table.classes[name]


_MAKERS: dict[str, Callable[[list[Any], TypeTable], Any]] = {
    "tuple": _tuple,
    "tuple_of": _tuple_of,
    "union": _union,
    "literal": _literal,
    "array": _array,
    "number": _number,
    "struct": _struct,
    "class": _class,
}


def loaded_object(module: str, qualname: str) -> Any:
    """Return the object of a name in a module that this process has imported, or None."""
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def _is_same(cls: Any, described: Description) -> bool:
    """Return whether a class of this process has the fields or members that a service describes."""
    if not isinstance(cls, type):
        return False
    try:
        return bool(definition(cls, TypeTable()) == described)
    except (TypeError, NameError):
        return False


def _made(name: str, contents: list[Any], table: TypeTable) -> Any:
    """Return a new class with the described fields or members."""
    word, members, *options = contents
    if word in {"enum", "flag"}:
        return enum.Flag(name, members) if word == "flag" else enum.Enum(name, members)
    fields = [(field, rebuild(kind, table), required) for field, kind, required in members]
    if word == "dict":
        keys = {
            field: kind if required else typing.NotRequired[kind]
            for field, kind, required in fields
        }
        make: Any = typing.TypedDict
        return make(name, keys)
    if word == "tuple":
        return _named_tuple(name, [(field, kind) for field, kind, _ in fields])
    typed: list[Any] = [
        (field, kind) if required else (field, kind | msgspec.UnsetType, msgspec.UNSET)
        for field, kind, required in fields
    ]
    if word == "dataclass":
        typed = [
            (*each[:2], dataclasses.field(default=each[2])) if each[2:] else each for each in typed
        ]
        return dataclasses.make_dataclass(name, typed, kw_only=True)
    # A name in messages need not be a name in Python.
    rename = {each[0]: each[0] for each in typed}
    for number, each in enumerate(typed):
        if not each[0].isidentifier() or keyword.iskeyword(each[0]):
            attribute = f"f{number}"
            rename[attribute] = rename.pop(each[0])
            typed[number] = (attribute, *each[1:])
    array_like = bool(options[0]["array_like"])
    return msgspec.defstruct(
        name,
        typed,
        array_like=array_like,
        tag=options[0]["tag"],
        tag_field=options[0]["tag_field"],
        kw_only=not array_like,
        rename=rename,
    )


def _named_tuple(name: str, fields: list[tuple[str, Any]]) -> Any:
    """Return a new named tuple. With ``rename=True``, the fields can have any names."""
    make: Any = collections.namedtuple  # noqa: PYI024 - typing.NamedTuple refuses some names
    made = make(name, [field for field, _ in fields], rename=True)
    made.__annotations__ = dict(zip(made._fields, (kind for _, kind in fields), strict=True))
    return made
