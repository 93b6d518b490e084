"""Addresses of UNIX sockets: paths and abstract names."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

from ipckit._core.files import absolute
from ipckit._core.public import public
from ipckit._core.socket_paths import SOCKET_TYPES, SUN_PATH_MAX, Kind, kernel_path
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    import socket
    from collections.abc import Generator

# The name takes the place of a path, and a NUL byte in front the place of the path's NUL.
_ABSTRACT_MAX: Final = SUN_PATH_MAX
KINDS: Final[dict[int, Kind]] = {int(number): kind for kind, number in SOCKET_TYPES.items()}


@public("ipckit.unixsock")
@dataclass(frozen=True, slots=True)
class Abstract:
    """A name of a UNIX socket outside the file system; it disappears with the socket.

    An abstract name has no permissions: any process of the same network namespace can connect. A
    server must check its clients with `allow_uids` or `UnixSocket.peer`.

    Args:
        name: 1 to 107 bytes as UTF-8; any character.

    Raises:
        TypeError: the name is not a str.
        InvalidArgument: the name is empty or too long.

    Example:
        >>> from ipckit.unixsock import Abstract
        >>> print(Abstract("backup"))
        @backup

    See unix(7).
    """

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            message = f"an abstract name must be a str, not {type(self.name).__name__}"
            raise TypeError(message)
        if not 1 <= len(os.fsencode(self.name)) <= _ABSTRACT_MAX:
            message = f"an abstract name must have 1 to {_ABSTRACT_MAX} bytes, "
            message += f"not {len(os.fsencode(self.name))}"
            raise InvalidArgument(message, errno=errno.EINVAL)

    def __str__(self) -> str:
        return f"@{self.name}"


Address = str | os.PathLike[str] | Abstract


def checked_type(kind: Kind) -> socket.SocketKind:
    """Return the socket type of a kind.

    Raises:
        InvalidArgument: there is no such kind.
    """
    if kind not in SOCKET_TYPES:
        message = f"kind must be one of {', '.join(map(repr, get_args(Kind)))}, not {kind!r}"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return SOCKET_TYPES[kind]


def checked_address(address: Address) -> Path | Abstract:
    """Return an address as an absolute path or an abstract name.

    Raises:
        TypeError: the address is neither a path nor an `Abstract`.
        InvalidArgument: the path is empty, or contains a NUL.
    """
    if isinstance(address, Abstract):
        return address
    if not isinstance(address, (str, os.PathLike)):
        message = f"an address must be a path or Abstract(name), not {type(address).__name__}"
        raise TypeError(message)
    text = os.fspath(address)
    if not isinstance(text, str):
        message = f"a path must be a str, not {type(text).__name__}"
        raise TypeError(message)
    if not text or "\0" in text:
        message = (
            "a path must not be empty or contain a NUL; use Abstract(name) for an abstract name"
        )
        raise InvalidArgument(message, errno=errno.EINVAL)
    return Path(absolute(text, op="bind"))


def from_kernel(address: object) -> str | Abstract | None:
    """Return what getsockname(2) or recvmsg(2) gave as a path or a name; None for no address."""
    if isinstance(address, bytes) and address:
        return Abstract(os.fsdecode(address[1:])) if len(address) > 1 else None
    return address if isinstance(address, str) and address else None


@contextmanager
def for_kernel(address: Path | Abstract, *, binding: bool = False) -> Generator[str | bytes]:
    """Yield an address as bind(2) and connect(2) accept it; it is valid inside the block.

    Raises:
        IpcError: as `kernel_path`.
    """
    if isinstance(address, Abstract):
        yield b"\0" + os.fsencode(address.name)
        return
    with kernel_path(address, binding=binding) as path:
        yield path


def describe(address: Path | Abstract | str | None) -> str:
    """Return an address for messages."""
    return "UNIX socket" if address is None else f"UNIX socket {address}"
