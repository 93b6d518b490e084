"""The names of channels, and the paths of their files."""

from __future__ import annotations

import errno
import os
from typing import Final

from ipckit._core.files import SHM
from ipckit.errors import InvalidArgument
from ipckit.keys import Name

PREFIX: Final = "ipckit."


def describe(name: Name | None) -> str:
    """A channel's name, for messages."""
    return "anonymous channel" if name is None else f"channel {name[1:]}"


def path_of(name: Name) -> str:
    """The file of a named channel."""
    return f"{SHM}/{PREFIX}{name[1:]}"


def name_of_path(path: str) -> Name | None:
    """The name of a channel whose file is, or was, at a path; None where it has none."""
    prefix = path_of(Name("-"))[:-1]
    if not path.startswith(prefix) or path.endswith(" (deleted)"):
        return None
    return Name(path.removeprefix(prefix))


def checked_name(name: str) -> Name:
    """A channel's name.

    Raises:
        InvalidArgument: it can't be one.
    """
    wanted = Name(name)
    most = 255 - len(PREFIX)
    if len(os.fsencode(wanted)) - 1 > most:
        message = f"a channel's name is at most {most} bytes"
        raise InvalidArgument(message, errno=errno.ENAMETOOLONG, op="open")
    return wanted
