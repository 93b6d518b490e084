"""List the UNIX sockets of a network namespace, by netlink; see sock_diag(7).

/proc/net/unix prints names unescaped, so a name that contains a line end can look like the line of
another socket. In a netlink message each name has a length.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Final

from ipckit._inventory.proc_text import SOCKET_TYPES, UnixRow, socket_name

if TYPE_CHECKING:
    from collections.abc import Iterator

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_REQUEST_DUMP: Final = 0x301  # NLM_F_REQUEST | NLM_F_ROOT | NLM_F_MATCH
_ERROR: Final = 2  # NLMSG_ERROR
_DONE: Final = 3  # NLMSG_DONE
_ALL_STATES: Final = 0xFFFFFFFF
_SHOWN: Final = 1 | 2 | 4  # UDIAG_SHOW_NAME | UDIAG_SHOW_VFS | UDIAG_SHOW_PEER
_NAME: Final = 0  # UNIX_DIAG_NAME
_FILE: Final = 1  # UNIX_DIAG_VFS
_PEER: Final = 2  # UNIX_DIAG_PEER: an inode
_ESTABLISHED: Final = 1  # TCP_ESTABLISHED
_LISTEN: Final = 10  # TCP_LISTEN
_HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ASKED: Final = struct.Struct("=BBHIIIII")  # unix_diag_req
_FOUND: Final = struct.Struct("=BBBBIII")  # unix_diag_msg
_ATTRIBUTE: Final = struct.Struct("=HH")  # rtattr: length, type
_CODE: Final = struct.Struct("=i")
_INODE_AND_DEVICE: Final = struct.Struct("=II")  # unix_diag_vfs
_MINOR_BITS: Final = 20  # of the kernel's own device numbers
_INODE: Final = struct.Struct("=I")
# The kernel sends at most 32 KiB at a time.
_ROOM: Final = 1 << 16
_TIMEOUT: Final = 10.0  # seconds; the kernel answers at once


def unix_sockets() -> list[UnixRow]:
    """Return the UNIX sockets of this process's network namespace.

    Raises:
        OSError: the kernel lacks sock_diag for UNIX sockets, or a sandbox forbids it.
    """
    family = socket.AF_NETLINK
    with socket.socket(family, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as asked:
        asked.settimeout(_TIMEOUT)
        body = _ASKED.pack(socket.AF_UNIX, 0, 0, _ALL_STATES, 0, _SHOWN, 0, 0)
        header = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0)
        asked.sendto(header + body, (0, 0))
        found: list[UnixRow] = []
        for kind, message in _answers(asked):
            if kind in {_DONE, _ERROR}:
                (code,) = _CODE.unpack_from(message)
                if code:
                    raise OSError(-code, os.strerror(-code))
                break
            found.append(_row(message))
        return found


def _answers(asked: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Yield the messages of an answer: the type of each, and the bytes after its header."""
    while True:
        data, _, flags, sender = asked.recvmsg(_ROOM)
        if sender[0] != 0:
            continue  # not from the kernel, whose port is 0
        if flags & socket.MSG_TRUNC or not data:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, _, _, _ = _HEADER.unpack_from(data, at)
            yield kind, data[at + _HEADER.size : at + length]
            at += _aligned(length)


def _row(message: bytes) -> UnixRow:
    _, kind, state, _, inode, _, _ = _FOUND.unpack_from(message)
    name, file, peer = b"", None, 0
    at = _FOUND.size
    while at + _ATTRIBUTE.size <= len(message):
        length, attribute = _ATTRIBUTE.unpack_from(message, at)
        if attribute == _NAME:
            name = message[at + _ATTRIBUTE.size : at + length]
        elif attribute == _FILE:
            number, device = _INODE_AND_DEVICE.unpack_from(message, at + _ATTRIBUTE.size)
            minor = device & ((1 << _MINOR_BITS) - 1)
            file = os.makedev(device >> _MINOR_BITS, minor), number
        elif attribute == _PEER:
            (peer,) = _INODE.unpack_from(message, at + _ATTRIBUTE.size)
        at += _aligned(max(length, _ATTRIBUTE.size))
    return UnixRow(
        inode=inode,
        type=SOCKET_TYPES.get(kind, "other"),
        listening=state == _LISTEN,
        connected=state == _ESTABLISHED,
        name=socket_name(name),
        file=file,
        peer=peer,
    )


def _aligned(length: int) -> int:
    """Return the length of a netlink message or attribute, rounded up to a multiple of 4."""
    return max(length, 4) + 3 & ~3
