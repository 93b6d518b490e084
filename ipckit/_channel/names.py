"""The names of channels, and the paths of their files."""

from __future__ import annotations

import errno
import os

from ipckit._core.files import CHANNEL_PREFIX, SHM
from ipckit.errors import InvalidArgument
from ipckit.keys import Name


def describe(name: Name | None) -> str:
    """Return the name of a channel for error messages."""
    return "anonymous channel" if name is None else f"channel {name[1:]}"


def path_of(name: Name) -> str:
    """Return the path of a named channel's file."""
    return f"{SHM}/{CHANNEL_PREFIX}{name[1:]}"


def name_of_path(path: str) -> Name | None:
    """Return the name of the channel whose file is at a path, or None for another path."""
    prefix = path_of(Name("-"))[:-1]
    if not path.startswith(prefix) or path.endswith(" (deleted)"):
        return None
    return Name(path.removeprefix(prefix))


def checked_name(name: str) -> Name:
    """Return a valid name of a channel.

    Raises:
        InvalidArgument: the name is invalid, or longer than the name of a file can be.
    """
    wanted = Name(name)
    most = 255 - len(CHANNEL_PREFIX)
    length = len(os.fsencode(wanted)) - 1  # without the slash
    if length > most:
        message = f"a channel's name must have at most {most} bytes, not {length}"
        raise InvalidArgument(message, errno=errno.ENAMETOOLONG, op="open")
    return wanted
