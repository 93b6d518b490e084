"""The names of channels and topics, and the paths of their files."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from ipckit._core.files import SHM
from ipckit.errors import InvalidArgument
from ipckit.keys import Name

if TYPE_CHECKING:
    from ipckit._channel.kind import Kind


def describe(kind: Kind, name: Name | None) -> str:
    """Return the kind and the name of an object for error messages."""
    return f"anonymous {kind.word}" if name is None else f"{kind.word} {name[1:]}"


def path_of(kind: Kind, name: Name) -> str:
    """Return the path of a named object's file."""
    return f"{SHM}/{kind.prefix}{name[1:]}"


def name_of_path(kind: Kind, path: str) -> Name | None:
    """Return the name of the object whose file is at a path.

    Returns:
        None for another path, and for a name that `open` does not take: any program can give a
        file a name that is not UTF-8.
    """
    prefix = f"{SHM}/{kind.prefix}"
    if not path.startswith(prefix) or path.endswith(" (deleted)"):
        return None
    try:
        return Name(path.removeprefix(prefix))
    except InvalidArgument:
        return None


def checked_name(kind: Kind, name: str) -> Name:
    """Return a valid name for an object of this kind.

    Raises:
        InvalidArgument: the name is invalid, or longer than the name of a file can be.
    """
    wanted = Name(name)
    most = 255 - len(kind.prefix)
    length = len(os.fsencode(wanted)) - 1  # without the slash
    if length > most:
        message = f"a {kind.word}'s name must have at most {most} bytes, not {length}"
        raise InvalidArgument(message, errno=errno.ENAMETOOLONG, op="open")
    return wanted
