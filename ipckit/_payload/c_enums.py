"""IntEnum classes for the enums of C."""

from __future__ import annotations

import weakref
from enum import EnumMeta, IntEnum
from typing import Any, Final

_MADE: Final[weakref.WeakValueDictionary[tuple[Any, ...], type[CEnum]]] = (
    weakref.WeakValueDictionary()
)


class CEnumType(EnumMeta):
    """The class of enums that were read from C. They are pickled by their members."""


class CEnum(IntEnum, metaclass=CEnumType):
    """The base of enums that were read from C."""


def enum_from_c(name: str, members: tuple[tuple[str, int], ...]) -> type[CEnum]:
    """Return the class of an enum: the same one for the same name and members while it is in use.

    A member whose name an enum of Python can't have is left out, so that its value stays an int.
    """
    found = _MADE.get((name, members))
    if found is None:
        usable = [(each, value) for each, value in members if _is_usable(each)]
        create: Any = CEnum  # type checkers take the call for a member's
        made = create(name, usable, module="ipckit.structs")
        made.__c_members__ = members
        found = _MADE[name, members] = made
    return found


def _is_usable(name: str) -> bool:
    try:
        IntEnum("_Trial", [(name, 0)])
    except (ValueError, TypeError):
        return False
    return True
