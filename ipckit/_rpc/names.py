"""The names of a service's objects in /dev/shm."""

from __future__ import annotations

import errno
import os
from typing import Final

from ipckit.errors import InvalidArgument
from ipckit.keys import Name

_LONGEST: Final = 190  # the names of a client's objects are longer


def target_of(service: str) -> str:
    """Return the service for error messages."""
    return f"service {service}"


def channel_of(service: str) -> str:
    """Return the name of the channel for a service's calls. Its other names begin with it."""
    return f"rpc.{service}"


def client_of(service: str, token: int) -> str:
    """Return the name of a client's channel for replies, and of its table of calls."""
    return f"rpc.{service}.{token:016x}"


def stream_of(service: str, token: int, call: int) -> str:
    """Return the name of the channel for the items of a stream."""
    return f"rpc.{service}.{token:016x}.{call}"


def checked_service(name: str) -> str:
    """Return the valid name of a service, without a slash.

    Raises:
        TypeError: it is not a str.
        InvalidArgument: it is invalid, or too long.
    """
    found = Name(name)[1:]
    if len(os.fsencode(found)) > _LONGEST:
        message = f"a service's name must have at most {_LONGEST} bytes"
        raise InvalidArgument(message, errno=errno.ENAMETOOLONG, op="open")
    return str(found)
