"""Describe the meaning of the bytes of ctypes and msgspec classes."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, cast

from ipckit._core.lazy_numpy import np

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "CtypesField",
    "ctypes_dtype",
    "ctypes_fields",
    "describe_ctypes",
    "describe_msgspec",
    "is_ctypes",
]

# The name, the type, the number of bits in a list (empty if it is not a bit-field), the descriptor.
CtypesField = tuple[str, Any, list[int], Any]

_SIMPLE: Any = ctypes.c_int.__mro__[1]  # the base of c_int and the other simple types
_CTYPES: Any = (ctypes.Structure, ctypes.Union, ctypes.Array, _SIMPLE)


def ctypes_fields(payload: Any) -> Iterator[CtypesField]:
    """Yield the fields of a ctypes Structure or Union, those of its bases first."""
    bases: tuple[type, ...] = payload.__mro__
    for base in reversed(bases):
        own: dict[str, Any] = dict(vars(base))
        for name, kind, *bits in own.get("_fields_", ()):
            yield name, kind, bits, own[name]


def describe_ctypes(payload: Any, where: str) -> object:
    """Describe a ctypes type; equal for two types whose bytes have the same meaning.

    Args:
        payload: the type.
        where: its name, for the error.

    Raises:
        TypeError: the type contains an address.
    """
    if issubclass(payload, (ctypes.Structure, ctypes.Union)):
        return [
            (name, field.offset, _bits(bits, field), describe_ctypes(kind, f"{where}.{name}"))
            for name, kind, bits, field in ctypes_fields(payload)
        ]
    if issubclass(payload, ctypes.Array):
        item: Any = payload._type_
        # The distance of packed or aligned items can differ although their fields are the same.
        unusual = any(hasattr(item, name) for name in ("_pack_", "_align_", "_layout_"))
        apart = (ctypes.sizeof(item),) if unusual else ()
        return (payload._length_, describe_ctypes(item, where), *apart)
    code = getattr(payload, "_type_", None)
    if not isinstance(code, str) or code in "PzZO":
        message = f"{where} is an address, which is invalid in another process"
        raise TypeError(message)
    return (code, ctypes.sizeof(payload), payload.__name__)


def is_ctypes(payload: Any) -> bool:
    """Return whether an object is a class of ctypes."""
    return isinstance(payload, type) and issubclass(payload, _CTYPES)


def ctypes_dtype(payload: Any, where: str) -> np.dtype[Any]:
    """Return the numpy dtype of the same bytes.

    `numpy.dtype` itself leaves out the fields of the bases of a ctypes structure, and takes an
    address for a number.

    Args:
        payload: a ctypes class.
        where: its name, for the error.

    Raises:
        TypeError: the class contains an address, or a field that no dtype describes.
    """
    describe_ctypes(payload, where)
    if issubclass(payload, (ctypes.Structure, ctypes.Union)):
        return _fields_dtype(payload, where)
    made: np.dtype[Any]
    if issubclass(payload, ctypes.Array):
        made = np.dtype((ctypes_dtype(payload._type_, where), (payload._length_,)))
    else:
        made = np.dtype("U1") if payload._type_ == "u" else np.dtype(payload)
    return made


def _fields_dtype(payload: Any, where: str) -> np.dtype[Any]:
    names: list[str] = []
    formats: list[np.dtype[Any]] = []
    offsets: list[int] = []
    for name, kind, bits, field in ctypes_fields(payload):
        if bits or name in names:
            what = "a bit-field" if bits else "in a base too"
            message = f"{where}.{name} is {what}, which a numpy dtype cannot describe"
            raise TypeError(message)
        names.append(name)
        formats.append(ctypes_dtype(kind, f"{where}.{name}"))
        offsets.append(field.offset)
    size = ctypes.sizeof(payload)
    spec: Any = {"names": names, "formats": formats, "offsets": offsets, "itemsize": size}
    made: np.dtype[Any]
    try:
        made = np.dtype(spec, align=True)
    except ValueError:  # its fields are packed
        made = np.dtype(spec)
    return made


def _bits(bits: list[int], field: Any) -> list[int]:
    """Return the number of bits of a bit-field and the first bit in its unit; else []."""
    return [*bits, getattr(field, "bit_offset", field.size & 0xFFFF)] if bits else []


def describe_msgspec(payload: Any) -> list[object]:
    """Describe the types that the JSON schema of a msgspec class does not distinguish.

    Two classes are the same payload if their schemas and these lists are equal. The list of most
    classes is empty.
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


# Types of msgspec.inspect that have the JSON schema of another type: a tuple has that of a list.
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
