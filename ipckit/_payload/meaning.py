"""What the bytes of a payload type mean, for its fingerprint: of ctypes and msgspec classes."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CtypesField", "ctypes_fields", "describe_ctypes", "describe_msgspec"]

# name, type, bits if it is a bit-field, descriptor
CtypesField = tuple[str, Any, list[int], Any]


def ctypes_fields(payload: Any) -> Iterator[CtypesField]:
    """The fields of a ctypes Structure or Union, those of its bases first."""
    bases: tuple[type, ...] = payload.__mro__
    for base in reversed(bases):
        own: dict[str, Any] = dict(vars(base))
        for name, kind, *bits in own.get("_fields_", ()):
            yield name, kind, bits, own[name]


def describe_ctypes(payload: Any, where: str) -> object:
    """What two ctypes types share if their bytes mean the same.

    Raises:
        TypeError: it holds an address.
    """
    if issubclass(payload, (ctypes.Structure, ctypes.Union)):
        return [
            (name, field.offset, _bits(bits, field), describe_ctypes(kind, f"{where}.{name}"))
            for name, kind, bits, field in ctypes_fields(payload)
        ]
    if issubclass(payload, ctypes.Array):
        item: Any = payload._type_
        # Items of a packed or aligned structure can lie closer or further apart.
        unusual = any(hasattr(item, name) for name in ("_pack_", "_align_", "_layout_"))
        apart = (ctypes.sizeof(item),) if unusual else ()
        return (payload._length_, describe_ctypes(item, where), *apart)
    code = getattr(payload, "_type_", None)
    if not isinstance(code, str) or code in "PzZO":
        message = f"{where} is an address, which is invalid in another process"
        raise TypeError(message)
    return (code, ctypes.sizeof(payload), payload.__name__)


def _bits(bits: list[int], field: Any) -> list[int]:
    """How many bits a bit-field has, and where they begin in its unit."""
    return [*bits, getattr(field, "bit_offset", field.size & 0xFFFF)] if bits else []


def describe_msgspec(payload: Any) -> list[object]:
    """What two msgspec classes share beside their JSON schemas if their values mean the same.

    Empty for most classes: only types of which JSON schemas say too little are in it.
    """
    import msgspec  # noqa: PLC0415 - optional

    found: list[object] = []
    seen: set[type] = set()

    def walk(kind: Any, where: str) -> None:
        if isinstance(kind, tuple):
            for index, item in enumerate(cast("Any", kind)):
                walk(item, f"{where}[{index}]")
            return
        if not isinstance(kind, msgspec.Struct):
            return
        name = type(kind).__name__
        cls: Any = getattr(kind, "cls", None)
        tz = getattr(kind, "tz", None)
        if name in _AS_ANOTHER:
            found.append((where, name))
        elif name == "EnumType":
            found.append((where, name, [(each.name, each.value) for each in cls]))
        elif tz is not None:
            found.append((where, name, tz))
        if isinstance(cls, type):
            if cls in seen:
                return
            seen.add(cls)
        for part in _PARTS:
            walk(getattr(kind, part, None), f"{where}.{part}")

    walk(msgspec.inspect.type_info(payload), "")
    return found


# Kinds of msgspec.inspect. A JSON schema has a tuple as it has a list, and so on.
_AS_ANOTHER = frozenset(
    {
        "ByteArrayType",
        "DataclassType",
        "FrozenSetType",
        "MemoryViewType",
        "NamedTupleType",
        "RawType",
        "TypedDictType",
        "VarTupleType",
    }
)
_PARTS = ("fields", "type", "types", "item_types", "item_type", "key_type", "value_type")
