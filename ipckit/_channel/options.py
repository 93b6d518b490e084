"""The keyword arguments of the methods that create or open a `Channel`."""

from __future__ import annotations

import errno
from typing import Final, Literal, TypedDict

from ipckit._core.arguments import int_argument
from ipckit.errors import InvalidArgument

PeerGonePolicy = Literal["raise", "wait"]

SPIN: Final = 8000
_SPIN_MAX: Final = 1_000_000


class HandleOptions(TypedDict, total=False):
    """The keyword arguments of `Channel.from_fd`, which each of the other methods takes too."""

    peer_gone: PeerGonePolicy
    spin: int


class OpenOptions(HandleOptions, total=False):
    """The keyword arguments of `Channel.open`."""

    owner_uid: int | None


class AnonymousOptions(HandleOptions, total=False):
    """The keyword arguments of `Channel.anonymous`."""

    capacity: int | None
    size: int | None
    overwrite: bool


class CreateOptions(AnonymousOptions, total=False):
    """The keyword arguments of `Channel.create`."""

    mode: int


class OpenOrCreateOptions(CreateOptions, OpenOptions, total=False):
    """The keyword arguments of `Channel.open_or_create`."""

    timeout: float | None


def check_options(peer_gone: str, spin: int) -> None:
    """Check the options of a handle.

    Raises:
        TypeError: `spin` is not an integer.
        InvalidArgument: a value is out of range.
    """
    given: object = peer_gone  # may be unhashable, or an array
    if not isinstance(given, str) or given not in {"raise", "wait"}:
        message = f'peer_gone must be "raise" or "wait", not {peer_gone!r}'
        raise InvalidArgument(message, errno=errno.EINVAL)
    if not 0 <= int_argument("spin", spin) <= _SPIN_MAX:
        message = f"spin must be 0 to {_SPIN_MAX}, not {spin}"
        raise InvalidArgument(message, errno=errno.EINVAL)
