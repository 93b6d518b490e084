"""Parse the files of /proc that the inventory reads; see proc(5)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator


def command_line(text: bytes) -> str:
    """Return /proc/PID/cmdline as one line."""
    return os.fsdecode(text.rstrip(b"\0").replace(b"\0", b" "))


@dataclass(frozen=True, slots=True)
class MappedFile:
    """A mapping of shared memory.

    Attributes:
        device: the file's device, like st_dev.
        inode: the file's inode; for a System V segment its id.
        path: the path that the kernel shows, without the suffix `` (deleted)``.
        deleted: the path had that suffix: the file was unlinked.
    """

    device: int
    inode: int
    path: str
    deleted: bool


_DELETED: Final = " (deleted)"
# The addresses, the permissions, the offset; then the device, the inode and the path. The pattern
# is anchored to the start of a line, because a path may contain text that looks like a line.
_LINE: Final = rb"\n[0-9a-f]+-[0-9a-f]+ [-r][-w][-x][ps] [0-9a-f]+ "
_MAPPED: Final = rb"([0-9a-f]+):([0-9a-f]+) (\d+) +(/(?:SYSV|memfd:|dev/shm/)[^\n]*)"
_MARKS: Final = (b" /SYSV", b" /memfd:", b" /dev/shm/")
_PLAIN: Final = re.compile(_LINE + _MAPPED)


def maps_pattern(device: int | None) -> re.Pattern[bytes]:
    """Return the pattern that finds IPC objects in /proc/PID/maps.

    Args:
        device: the device of /dev/shm, which other processes may have mounted elsewhere; None if
            there is no /dev/shm.
    """
    if device is None:
        return _PLAIN
    major, minor = os.major(device), os.minor(device)
    other = rb"(%02x):(%02x) (\d+) +(/[^\n]*)" % (major, minor)
    return re.compile(_LINE + b"(?:" + other + b"|" + _MAPPED + b")")


def mapped_files(text: bytes, pattern: re.Pattern[bytes] = _PLAIN) -> Iterator[MappedFile]:
    """Yield the IPC objects in /proc/PID/maps."""
    # Most processes have none. A search for the marks is faster than the pattern.
    if pattern is _PLAIN and not any(mark in text for mark in _MARKS):
        return
    for match in pattern.finditer(b"\n" + text):
        major, minor, inode, path = (group for group in match.groups() if group is not None)
        name = os.fsdecode(path)
        yield MappedFile(
            os.makedev(int(major, 16), int(minor, 16)),
            int(inode),
            name.removesuffix(_DELETED),
            name.endswith(_DELETED),
        )


@dataclass(frozen=True, slots=True)
class UnixRow:
    """One UNIX socket of a network namespace.

    Attributes:
        inode: the socket's inode; 0 for a connection that was not yet accepted.
        type: ``"stream"``, ``"dgram"``, ``"seqpacket"`` or ``"other"``.
        listening: it listens for connections.
        connected: it is connected.
        name: its path, or ``@name``; "" for none. The path is as the process saw it that bound
            the socket, which may have had another root directory.
        file: the file that it is bound to, by its device and the low 32 bits of its inode, as
            sock_diag(7) has them; None for none, or if it is not known.
        peer: the inode of the socket at the other end; 0 if there is none, or if it is not known.
    """

    inode: int
    type: str
    listening: bool
    connected: bool
    name: str
    file: tuple[int, int] | None = field(default=None, compare=False)
    peer: int = field(default=0, compare=False)


SOCKET_TYPES: Final = {1: "stream", 2: "dgram", 5: "seqpacket"}
_ACCEPTS: Final = 0x10000
_CONNECTED: Final = (2, 3)  # SS_CONNECTING is a connection that was not yet accepted
# The address (which may be hidden), the reference count and the protocol; then the flags, the type,
# the state and the inode.
_UNIX_ROW: Final = re.compile(
    rb"\n[0-9a-f]{8,16}: [0-9A-F]{8} [0-9A-F]{8} ([0-9A-F]{8}) ([0-9A-F]{4}) ([0-9A-F]{2}) +"
    rb"([0-9]{1,20})(?=[ \n]|\Z)"
)


def socket_name(address: bytes) -> str:
    """Return the name of a socket, from its sun_path; "" for none."""
    if address[:1] == b"\0":
        return "@" + os.fsdecode(address[1:])
    path = os.fsdecode(address.partition(b"\0")[0])
    # A relative path that begins with @ is not an abstract name, and one of digits is not an inode.
    return f"./{path}" if path.startswith("@") or path.isdecimal() else path


def unix_rows(text: bytes) -> Iterator[UnixRow]:
    """Parse /proc/net/unix.

    A name may contain anything, also line ends and text that looks like a whole line. Such text
    can't be told from a real line, so try `sock_diag.unix_sockets` first.
    """
    matches = list(_UNIX_ROW.finditer(text))
    ends = [match.start() for match in matches[1:]] + [len(text)]
    for match, end in zip(matches, ends, strict=True):
        flags, kind, state = (int(group, 16) for group in match.groups()[:3])
        name = text[match.end() : end]
        yield UnixRow(
            inode=int(match[4]),
            type=SOCKET_TYPES.get(kind, "other"),
            listening=bool(flags & _ACCEPTS),
            connected=state in _CONNECTED,
            # The kernel writes one blank before the name, and a line end after the last one.
            name=os.fsdecode(name.removesuffix(b"\n")[1:] if end == len(text) else name[1:]),
        )


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of /proc/PID/mountinfo.

    Attributes:
        device: the device of the file system, like st_dev.
        point: the directory on which it is mounted.
        type: the file system's type, such as ``"proc"``.
        options: the file system's options, such as ``"hidepid=invisible"``.
    """

    device: int
    point: bytes
    type: bytes
    options: frozenset[bytes]


_OCTAL: Final = re.compile(rb"\\([0-7]{3})")
_DEVICE_FIELD: Final = 2
_POINT_FIELD: Final = 4
_FIRST_OPTIONAL: Final = 6  # any number of optional fields, and then a dash
_AFTER_DASH: Final = 4  # the dash, the type, the source, the options


def mounts(text: bytes) -> Iterator[Mount]:
    r"""Parse /proc/PID/mountinfo; see proc(5).

    The kernel escapes only blanks, tabs, line ends and backslashes in paths. Other characters that
    `str.splitlines` treats as line ends can be in a path that a user chose.
    """
    for line in text.split(b"\n"):
        fields = line.split(b" ")
        if b"-" not in fields[_FIRST_OPTIONAL:]:
            continue
        dash = fields.index(b"-", _FIRST_OPTIONAL)
        if len(fields) < dash + _AFTER_DASH:
            continue
        point = _OCTAL.sub(lambda found: bytes([int(found[1], 8)]), fields[_POINT_FIELD])
        major, _, minor = fields[_DEVICE_FIELD].partition(b":")
        if not (major.isdigit() and minor.isdigit()):
            continue
        options = frozenset(fields[dash + 3].split(b","))
        yield Mount(os.makedev(int(major), int(minor)), point, fields[dash + 1], options)


def innermost_pid(status: bytes) -> int:
    """Return a process's pid in its own pid namespace, from the text of /proc/PID/status.

    Raises:
        ValueError: the text does not have it.
    """
    for line in status.splitlines():
        if line.startswith(b"NSpid:"):
            return int(line.split()[-1])
    message = "no NSpid"
    raise ValueError(message)
