"""The names of the objects in /dev/shm of a service and its clients."""

from __future__ import annotations

import errno
import os
import re
from contextlib import suppress
from typing import Final

from ipckit._core.files import CHANNEL_PREFIX, SHM
from ipckit.errors import InvalidArgument
from ipckit.keys import Name

_CLIENT: Final = re.compile(r"\.([0-9a-f]{16})")
_SPARE: Final = re.compile(r"\.[0-9a-f]{16}\.[cs][0-9a-f]+")
_LONGEST: Final = 190  # a file name has 255 bytes, and the names of a client's objects are longer


def target_of(service: str) -> str:
    """Return the text that names a service in error messages."""
    return f"service {service}"


def channel_of(service: str) -> str:
    """Return the name of the channel for a service's calls. All other names begin with it."""
    return f"rpc.{service}"


def client_of(service: str, token: int) -> str:
    """Return the name of a client's channel for replies, and of its table of calls."""
    return f"rpc.{service}.{token:016x}"


def stream_of(service: str, token: int, call: int) -> str:
    """Return the name of the channel for the items of a stream."""
    return f"rpc.{service}.{token:016x}.{call}"


def spare_of(service: str, token: int, which: str) -> str:
    """Return the name of shared memory for a long message to or from a client."""
    return f"{client_of(service, token)}.{which}"


def is_spare(name: str, service: str) -> bool:
    """Return whether shared memory of this name can contain a long message of a service."""
    prefix = channel_of(service)
    return name.startswith(prefix) and _SPARE.fullmatch(name, len(prefix)) is not None


def clients_in_memory(service: str) -> list[int]:
    """Return the tokens of the clients that have a channel for replies in /dev/shm."""
    prefix = CHANNEL_PREFIX + channel_of(service)
    found = (
        _CLIENT.fullmatch(name, len(prefix))
        for name in _names_in_memory()
        if name.startswith(prefix)
    )
    return [int(each[1], 16) for each in found if each is not None]


def remove_all_of(service: str, token: int) -> None:
    """Remove all objects of a closed or dead client from /dev/shm, with its servers' messages."""
    client = client_of(service, token)
    for name in _names_in_memory():
        # The client's channel and table, its streams, and long messages.
        if f"{name.removeprefix(CHANNEL_PREFIX)}.".startswith(f"{client}."):
            with suppress(OSError):
                os.unlink(SHM + "/" + name)  # noqa: PTH108 - a name, not a path


def _names_in_memory() -> list[str]:
    with suppress(OSError):
        return os.listdir(SHM)  # noqa: PTH208 - names
    return []


def checked_service(name: str) -> str:
    """Check the name of a service, and return it without a slash.

    Raises:
        TypeError: the name is not a str.
        InvalidArgument: the name is invalid, or too long.
    """
    found = Name(name)[1:]
    if len(os.fsencode(found)) > _LONGEST:
        message = f"a service's name must have at most {_LONGEST} bytes"
        raise InvalidArgument(message, errno=errno.ENAMETOOLONG, op="open")
    return str(found)
