"""Describe types of parameters and results as plain values, which a service sends to clients."""

from __future__ import annotations

import ctypes
import dataclasses
import datetime as dt
import decimal
import enum
import types
import typing
import uuid
from collections import abc
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, TypeAlias, Union

import msgspec

from ipckit._core.lazy_numpy import np
from ipckit._payload.codecs import codec_for
from ipckit._payload.dtypes import dtype_text
from ipckit._payload.structs import Struct
from ipckit._rpc.values import array_key, dtype_key, dtype_of, struct_key

if TYPE_CHECKING:
    from ipckit._payload.codec import Codec

# A word such as "int", or a list of a word and its arguments: ["dict", "str", ["array", "<f8"]].
Description: TypeAlias = Any

# The words for types without arguments.
WORDS: Final[dict[str, Any]] = {
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "None": type(None),
    "Any": Any,
    "datetime": dt.datetime,
    "date": dt.date,
    "time": dt.time,
    "timedelta": dt.timedelta,
    "Decimal": decimal.Decimal,
    "UUID": uuid.UUID,
    "list": list,
    "dict": dict,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
}
_WORD_OF: Final[dict[Any, str]] = {
    **{kind: word for word, kind in WORDS.items()},
    None: "None",
    object: "Any",
}
_WORD_OF_GENERIC: Final[dict[Any, str]] = {
    list: "list",
    abc.Sequence: "list",
    abc.MutableSequence: "list",
    abc.Collection: "list",
    abc.Iterable: "list",
    set: "set",
    abc.Set: "set",
    abc.MutableSet: "set",
    frozenset: "frozenset",
    dict: "dict",
    abc.Mapping: "dict",
    abc.MutableMapping: "dict",
}
_MEMBER_TYPES: Final = {int, str, float}
_BYTES_CLASSES: Final = (Struct, ctypes.Structure, ctypes.Union)


@dataclass
class TypeTable:
    """The classes to which descriptions refer by name.

    Attributes:
        definitions: the fields or members of each class, by its name.
        classes: the class in this process, by its name.
        structs: the codecs of structs and ctypes structures, by `struct_key`.
    """

    definitions: dict[str, Description] = field(default_factory=dict[str, Description])
    classes: dict[str, Any] = field(default_factory=dict[str, Any])
    structs: dict[bytes, Codec[Any]] = field(default_factory=dict[bytes, "Codec[Any]"])


def describe(annotation: Any, table: TypeTable) -> Description:
    """Return the description of a type, and add the classes that it names to the table.

    Raises:
        TypeError: values of this type can't be carried.
    """
    if (word := _word_of(annotation)) is not None:
        return word
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is not None:
        return _describe_generic(annotation, origin, arguments, table)
    if isinstance(annotation, typing.NewType):
        return describe(annotation.__supertype__, table)
    if type(annotation).__name__ == "TypeAliasType":
        return describe(annotation.__value__, table)
    if isinstance(annotation, type):
        return _describe_class(annotation, table)
    raise _not_carried(annotation)


def _word_of(annotation: Any) -> str | None:
    try:
        return _WORD_OF.get(annotation)
    except TypeError:  # the annotation can't be hashed
        return None


def _describe_generic(  # noqa: PLR0911 - one a kind of type
    annotation: Any, origin: Any, arguments: tuple[Any, ...], table: TypeTable
) -> Description:
    if type(origin).__name__ == "TypeAliasType":  # such as NDArray, since numpy 2.5
        return describe(_value_of(origin, arguments), table)
    if origin is Literal:
        return ["literal", *arguments]
    if origin is np.ndarray:
        key = array_key(annotation)
        return ["array"] if key is None else ["array", key]
    if origin is Annotated:
        kind, *facts = arguments
        for fact in facts:
            dtype = fact
            if isinstance(fact, np.dtype) and (typing.get_origin(kind) or kind) is np.ndarray:
                return ["array", dtype_key(dtype)]
        return describe(kind, table)
    if origin is tuple and len(arguments) == 2 and arguments[1] is ...:  # noqa: PLR2004
        return ["tuple_of", describe(arguments[0], table)]
    members = [describe(each, table) for each in arguments]
    if origin is tuple:
        return ["tuple", *members]
    if origin in {Union, types.UnionType}:
        return ["union", *members]
    if (word := _WORD_OF_GENERIC.get(origin)) is not None:
        return [word, *members]
    raise _not_carried(annotation)


def _value_of(alias: Any, arguments: tuple[Any, ...]) -> Any:
    """Return the type to which a generic alias with arguments refers."""
    given = dict(zip(alias.__type_params__, arguments, strict=False))  # the others have defaults
    value = alias.__value__
    return value[tuple(given.get(each, each) for each in value.__parameters__)]


def _describe_class(cls: type[Any], table: TypeTable) -> Description:
    kind: Any = cls  # to the type checkers, numpy's types are partly unknown
    if kind is np.ndarray:
        return ["array"]
    if issubclass(cls, np.generic):
        return ["number", dtype_key(np.dtype(_number_type(kind)))]
    if issubclass(cls, _BYTES_CLASSES):
        codec = codec_for(cls)
        key = struct_key(codec)
        table.structs[key] = codec
        return ["struct", key, cls.__module__, cls.__qualname__, codec.name]
    name = f"{cls.__module__}.{cls.__qualname__}"
    while table.classes.get(name, cls) is not cls:  # another class has the same name
        name += "'"
    if name not in table.classes:
        table.classes[name] = cls  # before `definition`, because a field can have this class
        try:
            table.definitions[name] = definition(cls, table)
        except BaseException:
            del table.classes[name]
            raise
    return ["class", name]


def _number_type(cls: Any) -> Any:
    """Return a class of numpy's numbers.

    Raises:
        TypeError: its values can't be carried.
    """
    if issubclass(cls, (np.datetime64, np.timedelta64)):  # a value needs a unit
        raise _not_carried(cls)
    try:
        plain: Any = cls(1).item()
    except (TypeError, ValueError):  # an abstract class, such as numpy.floating
        plain = None
    if type(plain) not in {bool, int, float}:
        raise _not_carried(cls)
    return cls


def definition(cls: type[Any], table: TypeTable) -> Description:
    """Return the description of the fields or members of a class.

    Raises:
        TypeError: its values can't be carried.
    """
    if issubclass(cls, enum.Enum):
        values = {name: member.value for name, member in cls.__members__.items()}
        if not all(type(value) in _MEMBER_TYPES for value in values.values()):
            raise _not_carried(cls)
        word = "flag" if issubclass(cls, enum.Flag) else "enum"  # flags can be combined
        return [cls.__module__, cls.__qualname__, word, values]
    word, members, options = _members_of(cls)
    fields = [[each.name, describe(each.kind, table), each.required] for each in members]
    return [cls.__module__, cls.__qualname__, word, fields, options]


def text_of(description: Description) -> str:  # noqa: PLR0911 - one a kind of type
    """Return a description as text for people, such as ``dict[str, array of float64]``."""
    if isinstance(description, str):
        return description
    word, *arguments = description
    if word == "array":
        return f"array of {_name_of_dtype(arguments[0])}" if arguments else "array"
    if word == "number":
        return _name_of_dtype(arguments[0])
    if word in {"class", "struct"}:
        return str(arguments[-1]).rpartition(".")[2]
    if word == "literal":
        return f"Literal[{', '.join(map(repr, arguments))}]"
    members = list(map(text_of, arguments))
    if word == "union":
        return " | ".join(members)
    if word == "tuple_of":
        members, word = [*members, "..."], "tuple"
    return f"{word}[{', '.join(members)}]"


def _name_of_dtype(key: str) -> str:
    try:
        return dtype_text(dtype_of(key))
    except ValueError:
        return key  # the name of a numpy class that has several dtypes


class _Field(NamedTuple):
    name: str
    kind: Any
    required: bool


def _members_of(cls: type[Any]) -> tuple[str, list[_Field], dict[str, Any]]:
    """Return the kind and the fields of a class, and the options of a msgspec struct."""
    if issubclass(cls, msgspec.Struct):
        config = cls.__struct_config__
        options = {
            "array_like": config.array_like,
            "tag": config.tag,
            "tag_field": config.tag_field,
        }
        found = [
            _Field(each.encode_name, each.type, each.required)
            for each in msgspec.structs.fields(cls)
        ]
        return "msgspec", found, options
    if not (dataclasses.is_dataclass(cls) or typing.is_typeddict(cls) or hasattr(cls, "_fields")):
        raise _not_carried(cls)
    hints = typing.get_type_hints(cls, include_extras=True)
    if dataclasses.is_dataclass(cls):
        found = [
            _Field(each.name, hints[each.name], _is_required(each))
            for each in dataclasses.fields(cls)
            if each.init
        ]
        return "dataclass", found, {}
    if typing.is_typeddict(cls):
        return "dict", [_key_of(cls, name, kind) for name, kind in hints.items()], {}
    defaults: Any = cls._field_defaults
    names: Any = cls._fields
    return "tuple", [_Field(name, hints.get(name, Any), name not in defaults) for name in names], {}


def _is_required(each: dataclasses.Field[Any]) -> bool:
    return each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING


def _key_of(cls: Any, name: str, annotation: Any) -> _Field:
    """Return a key of a TypedDict."""
    origin = typing.get_origin(annotation)
    if origin in {typing.Required, typing.NotRequired}:
        # `__required_keys__` is wrong if the annotations were text.
        return _Field(name, typing.get_args(annotation)[0], origin is typing.Required)
    return _Field(name, annotation, name in cls.__required_keys__)


def _not_carried(annotation: Any) -> TypeError:
    name = getattr(annotation, "__qualname__", None) or repr(annotation)
    return TypeError(f"values of {name} can't be carried")
