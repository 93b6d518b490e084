"""List the UNIX sockets of a network namespace, by netlink; see sock_diag(7).

/proc/net/unix prints names unescaped, so a name that contains a line end can look like the line of
another socket. In a netlink message each name has a length.
"""

from __future__ import annotations

import struct
from typing import Final

from ipckit._core.unix_diag import FILE, SHOW_FILE, SHOW_NAME, file_of, unix_diag
from ipckit._inventory.proc_text import SOCKET_TYPES, UnixRow, socket_name

_SHOW_PEER: Final = 4  # UDIAG_SHOW_PEER
_NAME: Final = 0  # UNIX_DIAG_NAME
_PEER: Final = 2  # UNIX_DIAG_PEER: an inode
_ESTABLISHED: Final = 1  # TCP_ESTABLISHED
_LISTEN: Final = 10  # TCP_LISTEN
_FOUND: Final = struct.Struct("=BBBBIII")  # unix_diag_msg
_INODE: Final = struct.Struct("=I")


def unix_sockets() -> list[UnixRow]:
    """Return the UNIX sockets of this process's network namespace.

    Raises:
        OSError: the kernel lacks sock_diag for UNIX sockets, or a sandbox forbids it.
    """
    shown = SHOW_NAME | SHOW_FILE | _SHOW_PEER
    return [_row(fixed, found) for fixed, found in unix_diag(shown)]


def _row(fixed: bytes, found: dict[int, bytes]) -> UnixRow:
    _, kind, state, _, inode, _, _ = _FOUND.unpack(fixed)
    return UnixRow(
        inode=inode,
        type=SOCKET_TYPES.get(kind, "other"),
        listening=state == _LISTEN,
        connected=state == _ESTABLISHED,
        name=socket_name(found.get(_NAME, b"")),
        file=file_of(found[FILE]) if FILE in found else None,
        peer=_INODE.unpack_from(found[_PEER])[0] if _PEER in found else 0,
    )
