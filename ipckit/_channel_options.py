"""What a handle of a channel can be told about waiting."""

from __future__ import annotations

import errno
from typing import Final, Literal

from ipckit.errors import InvalidArgument

PeerGonePolicy = Literal["raise", "wait"]

SPIN: Final = 8000
_SPIN_MOST: Final = 1_000_000


def check_options(peer_gone: str, spin: int) -> None:
    """Refuse what `peer_gone` and `spin` can't be.

    Raises:
        TypeError: `spin` is not an integer.
        InvalidArgument: one is out of range.
    """
    if peer_gone not in {"raise", "wait"}:
        message = f'peer_gone is {peer_gone!r}; it takes "raise" or "wait"'
        raise InvalidArgument(message, errno=errno.EINVAL)
    if isinstance(spin, bool) or not isinstance(spin, int):
        message = f"spin is an int, not {type(spin).__name__}"
        raise TypeError(message)
    if not 0 <= spin <= _SPIN_MOST:
        message = f"spin is {spin}; it takes 0 to {_SPIN_MOST}"
        raise InvalidArgument(message, errno=errno.EINVAL)
