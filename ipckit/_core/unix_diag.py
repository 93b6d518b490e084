"""Ask the kernel for the UNIX sockets of a network namespace, by netlink; see sock_diag(7)."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_REQUEST_DUMP: Final = 0x301  # NLM_F_REQUEST | NLM_F_ROOT | NLM_F_MATCH
_ERROR: Final = 2  # NLMSG_ERROR
_DONE: Final = 3  # NLMSG_DONE
_ALL_STATES: Final = 0xFFFFFFFF
SHOW_NAME: Final = 1  # UDIAG_SHOW_NAME
SHOW_FILE: Final = 2  # UDIAG_SHOW_VFS
FILE: Final = 1  # UNIX_DIAG_VFS
_HEADER: Final = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ASKED: Final = struct.Struct("=BBHIIIII")  # unix_diag_req
_FOUND: Final = 16  # bytes of unix_diag_msg
_ATTRIBUTE: Final = struct.Struct("=HH")  # rtattr: length, type
_VFS: Final = struct.Struct("=II")  # unix_diag_vfs: inode, device
_CODE: Final = struct.Struct("=i")
_MINOR_BITS: Final = 20  # of a device number in the kernel
# The kernel sends at most 32 KiB at a time.
_ROOM: Final = 1 << 16
_TIMEOUT: Final = 10.0  # seconds; the kernel answers at once


def unix_diag(show: int) -> Iterator[tuple[bytes, dict[int, bytes]]]:
    """Yield the UNIX sockets of this process's network namespace.

    Args:
        show: which attributes the kernel shall report, such as `SHOW_NAME`.

    Yields:
        For each socket the struct unix_diag_msg, and its attributes by number.

    Raises:
        OSError: the kernel lacks sock_diag for UNIX sockets, or a sandbox forbids it.
    """
    family = socket.AF_NETLINK
    with socket.socket(family, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as asked:
        asked.settimeout(_TIMEOUT)
        body = _ASKED.pack(socket.AF_UNIX, 0, 0, _ALL_STATES, 0, show, 0, 0)
        header = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0)
        asked.sendto(header + body, (0, 0))
        for kind, message in _answers(asked):
            if kind in {_DONE, _ERROR}:
                (code,) = _CODE.unpack_from(message)
                if code:
                    raise OSError(-code, os.strerror(-code))
                return
            yield message[:_FOUND], _attributes(message)


def is_bound(status: os.stat_result) -> bool | None:
    """Return whether a process has a socket that is bound to a socket file; None if unknown.

    A process can have bound it without listening: it has not called listen(2) yet, or it has shut
    the socket down. Processes of other network namespaces are not seen.

    Args:
        status: the status of the file.
    """
    wanted = status.st_dev, status.st_ino & 0xFFFFFFFF
    try:
        return stat.S_ISSOCK(status.st_mode) and any(
            FILE in found and file_of(found[FILE]) == wanted for _, found in unix_diag(SHOW_FILE)
        )
    except OSError:
        return None


def file_of(attribute: bytes) -> tuple[int, int]:
    """Return the device and the low 32 bits of the inode in an attribute `FILE`."""
    inode, device = _VFS.unpack_from(attribute)
    minor = device & ((1 << _MINOR_BITS) - 1)
    return os.makedev(device >> _MINOR_BITS, minor), inode


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


def _attributes(message: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = _FOUND
    while at + _ATTRIBUTE.size <= len(message):
        length, attribute = _ATTRIBUTE.unpack_from(message, at)
        found[attribute] = message[at + _ATTRIBUTE.size : at + length]
        at += _aligned(max(length, _ATTRIBUTE.size))
    return found


def _aligned(length: int) -> int:
    """Return the length of a netlink message or attribute, rounded up to a multiple of 4."""
    return max(length, 4) + 3 & ~3
