"""The options of a channel, and of a handle of one."""

from __future__ import annotations

import errno
from typing import Final, Literal, TypedDict

from ipckit._core.arguments import int_argument
from ipckit.errors import InvalidArgument

PeerGonePolicy = Literal["raise", "wait"]

SPIN: Final = 8000
_SPIN_MOST: Final = 1_000_000


class OpenOptions(TypedDict, total=False):
    """What `Channel.open` takes by keyword."""

    peer_gone: PeerGonePolicy
    spin: int
    owner_uid: int | None


class CreateOptions(TypedDict, total=False):
    """What `Channel.create` takes by keyword."""

    capacity: int
    size: int | None
    mode: int
    overwrite: bool
    peer_gone: PeerGonePolicy
    spin: int


class OpenOrCreateOptions(CreateOptions, total=False):
    """What `Channel.open_or_create` takes by keyword."""

    timeout: float | None
    owner_uid: int | None


def check_options(peer_gone: str, spin: int) -> None:
    """Refuse what `peer_gone` and `spin` can't be.

    Raises:
        TypeError: `spin` is not an integer.
        InvalidArgument: one is out of range.
    """
    if peer_gone not in {"raise", "wait"}:
        message = f'peer_gone is {peer_gone!r}; it takes "raise" or "wait"'
        raise InvalidArgument(message, errno=errno.EINVAL)
    if not 0 <= int_argument("spin", spin) <= _SPIN_MOST:
        message = f"spin is {spin}; it takes 0 to {_SPIN_MOST}"
        raise InvalidArgument(message, errno=errno.EINVAL)
