"""Addresses of UNIX sockets: paths, paths too long for the kernel, and abstract names."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

from ipckit._core.files import absolute, no_proc, proc_missing
from ipckit._core.public import public
from ipckit.errors import InvalidArgument, from_errno

if TYPE_CHECKING:
    from collections.abc import Generator

Kind = Literal["stream", "dgram", "seqpacket"]

# struct sockaddr_un: sun_path has 108 bytes, the last of which is a path's NUL.
PATH_MAX: Final = 107
_ABSTRACT_MAX: Final = 107
TYPES: Final = {
    "stream": socket.SOCK_STREAM,
    "dgram": socket.SOCK_DGRAM,
    "seqpacket": socket.SOCK_SEQPACKET,
}
KINDS: Final[dict[int, Kind]] = {
    int(socket.SOCK_STREAM): "stream",
    int(socket.SOCK_DGRAM): "dgram",
    int(socket.SOCK_SEQPACKET): "seqpacket",
}


@public("ipckit.unixsock")
@dataclass(frozen=True, slots=True)
class Abstract:
    """A name of a UNIX socket that is in no file system: it goes with the socket.

    It has no mode: any process of the same network namespace can connect, so `allow_uids` or
    `peer` must guard it. See unix(7).

    Args:
        name: 1 to 107 bytes as UTF-8, any character.

    Raises:
        InvalidArgument: it is empty or too long.
    """

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            message = f"an abstract name is a str, not {type(self.name).__name__}"
            raise TypeError(message)
        if not 1 <= len(os.fsencode(self.name)) <= _ABSTRACT_MAX:
            message = f"the abstract name has {len(os.fsencode(self.name))} bytes; "
            message += f"it takes 1 to {_ABSTRACT_MAX}"
            raise InvalidArgument(message, errno=errno.EINVAL)

    def __str__(self) -> str:
        return f"@{self.name}"


Address = str | os.PathLike[str] | Abstract


def checked_type(kind: Kind) -> int:
    """The socket type of a kind.

    Raises:
        InvalidArgument: there is no such kind.
    """
    if kind not in TYPES:
        message = f"kind is {kind!r}; it takes {', '.join(map(repr, get_args(Kind)))}"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return TYPES[kind]


def checked_address(address: Address) -> Path | Abstract:
    """An address as an absolute path or an abstract name.

    Raises:
        TypeError: it is neither.
        InvalidArgument: it is empty, or has a NUL.
    """
    if isinstance(address, Abstract):
        return address
    if not isinstance(address, (str, os.PathLike)):
        message = f"an address is a path or Abstract(name), not {type(address).__name__}"
        raise TypeError(message)
    text = os.fspath(address)
    if not isinstance(text, str):
        message = f"an address is a path of text, not of {type(text).__name__}"
        raise TypeError(message)
    if not text or "\0" in text:
        message = "a path has 1 character or more, and no NUL; Abstract(name) is the other kind"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return Path(absolute(text, op="bind"))


def shown(address: object) -> str | Abstract | None:
    """What the kernel calls an address, as text or an abstract name; None for no name."""
    if isinstance(address, bytes) and address:
        return Abstract(os.fsdecode(address[1:])) if len(address) > 1 else None
    return address if isinstance(address, str) and address else None


@contextmanager
def for_kernel(address: Path | Abstract, *, binding: bool = False) -> Generator[str | bytes]:
    """An address as bind and connect take it; good for the length of the block.

    A path that is too long goes by a descriptor of its directory, or of the socket file itself.

    Raises:
        InvalidArgument: the last part of the path alone is too long.
        NotFound: the directory does not exist, or the socket file.
        AccessDenied: the directory may not be searched.
    """
    if isinstance(address, Abstract):
        yield b"\0" + os.fsencode(address.name)
        return
    path = os.fspath(address)
    if len(os.fsencode(path)) <= PATH_MAX:
        yield path
        return
    opened = address.parent if binding else address
    flags = os.O_PATH | os.O_CLOEXEC | (os.O_DIRECTORY if binding else 0)
    try:
        held = os.open(opened, flags)
    except OSError as exc:
        raise from_errno(exc.errno or errno.EIO, op="open", target=describe(address)) from None
    try:
        if proc_missing():
            raise no_proc(op="bind" if binding else "connect", target=describe(address))
        short = f"/proc/self/fd/{held}" + (f"/{address.name}" if binding else "")
        if len(os.fsencode(short)) > PATH_MAX:
            size = len(os.fsencode(address.name))
            room = PATH_MAX - len(short) + len(address.name)
            message = f"the name of the socket file has {size} bytes; the kernel takes {PATH_MAX} "
            message += f"of a path, and {room} of a name in a directory reached by a descriptor"
            raise InvalidArgument(
                message, errno=errno.ENAMETOOLONG, op="bind", target=describe(address)
            )
        yield short
    finally:
        os.close(held)


def describe(address: Path | Abstract | str | None) -> str:
    """An address for messages."""
    return "UNIX socket" if address is None else f"UNIX socket {address}"
