"""The socket types by name, and paths of socket files that are too long for the kernel."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal

from ipckit._core.files import no_proc, proc_missing
from ipckit.errors import InvalidArgument, from_errno

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

Kind = Literal["stream", "dgram", "seqpacket"]

# struct sockaddr_un: sun_path has 108 bytes, and a path ends with a NUL.
SUN_PATH_MAX: Final = 107
SOCKET_TYPES: Final[dict[Kind, socket.SocketKind]] = {
    "stream": socket.SOCK_STREAM,
    "dgram": socket.SOCK_DGRAM,
    "seqpacket": socket.SOCK_SEQPACKET,
}


@contextmanager
def kernel_path(path: Path, *, binding: bool = False) -> Generator[str]:
    """Yield a path that bind(2) and connect(2) accept; it is valid inside the block.

    A path of more than 107 bytes is replaced by /proc/self/fd/N, where N is a descriptor of the
    socket file, or of its directory if the file is still to be created.

    Args:
        path: an absolute path.
        binding: whether bind(2) will create the file.

    Raises:
        InvalidArgument: the name of the socket file alone is too long.
        NotFound: the socket file, or its directory, does not exist.
        AccessDenied: the process may not search a directory of the path.
        IpcError: /proc is not mounted.
    """
    if len(os.fsencode(path)) <= SUN_PATH_MAX:
        yield os.fspath(path)
        return
    op, target = "bind" if binding else "connect", f"UNIX socket {path}"
    flags = os.O_PATH | os.O_CLOEXEC | (os.O_DIRECTORY if binding else 0)
    try:
        fd = os.open(path.parent if binding else path, flags)
    except OSError as exc:
        raise from_errno(exc.errno or errno.EIO, op="open", target=target) from None
    try:
        if proc_missing():
            raise no_proc(op=op, target=target)
        short = f"/proc/self/fd/{fd}" + (f"/{path.name}" if binding else "")
        if len(os.fsencode(short)) > SUN_PATH_MAX:
            size = len(os.fsencode(path.name))
            room = SUN_PATH_MAX - len(short) + len(path.name)
            message = f"the name of the socket file has {size} bytes, but at most {room} fit after "
            message += f"/proc/self/fd/{fd}/ in a path of {SUN_PATH_MAX} bytes"
            raise InvalidArgument(message, errno=errno.ENAMETOOLONG, op="bind", target=target)
        yield short
    finally:
        os.close(fd)
