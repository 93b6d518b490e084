"""Find which functions a process may call, from its program files.

The kernel does not record the creator of a queue. A process can only have created a queue if its
executable or one of its libraries names msgget, or makes the system call itself.
"""

from __future__ import annotations

import os
import re
import struct
from typing import TYPE_CHECKING, Final, Protocol

from ipckit._core.files import open_regular

if TYPE_CHECKING:
    from collections.abc import Iterator

# The C library contains every call, and says nothing about the program.
_C_LIBRARY: Final = re.compile(rb"/(libc[.-]|ld-|ld\.|libpthread)[^/]*$")
# mov $68,%eax (or push $68; pop %rax), and a syscall instruction soon after.
_X86_64: Final = {
    name: re.compile(rb"(?:\xb8%b\0\0\0|\x6a%b\x58).{0,24}?\x0f\x05" % (number, number), re.DOTALL)
    for name, number in {"msgget": b"\x44", "msgrcv": b"\x46", "semget": b"\x40"}.items()
}
_ELF_64: Final = b"\x7fELF\x02\x01"
_SECTIONS_AT: Final = 0x28  # e_shoff in the file's header
_SECTION_COUNT_AT: Final = 0x3A  # e_shentsize; e_shnum follows it
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_DYNAMIC: Final = 6  # SHT_DYNAMIC
# Other users wrote the files, including the sizes in them. A file above these sizes is not searched
# and may call every function.
_MOST_NAMES: Final = 1 << 26
_MOST_CODE: Final = 1 << 30
_PIECE: Final = 1 << 20
_LONGEST_CALL: Final = 64  # more bytes than a match of a pattern in `_X86_64`


class Image(Protocol):
    """The bytes of a file."""

    def __getitem__(self, part: slice, /) -> bytes: ...
    def __len__(self) -> int: ...


class _FileImage:
    """The bytes of a file, read by pread.

    With a mapping, the file's owner could end this process by SIGBUS, by truncating the file.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._size = os.fstat(fd).st_size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, _ = part.indices(self._size)
        return os.pread(self._fd, max(0, stop - start), start)


def _pieces(image: Image) -> Iterator[bytes]:
    """Yield a file's bytes in pieces that overlap, so that each call is whole in one of them."""
    for start in range(0, len(image), _PIECE):
        yield image[max(0, start - _LONGEST_CALL) : start + _PIECE]


def dynamic_names(image: Image) -> bytes | None:
    """Return the names that a 64-bit ELF file imports and exports.

    Returns:
        The names, each with a NUL at its end; empty for a file that is not linked dynamically;
        None if it can't be known.
    """
    try:
        if image[: len(_ELF_64)] != _ELF_64:
            return None
        (offset,) = struct.unpack("<Q", image[_SECTIONS_AT : _SECTIONS_AT + 8])
        size, count = struct.unpack("<HH", image[_SECTION_COUNT_AT : _SECTION_COUNT_AT + 4])
        if offset == 0 or size != _SECTION.size:
            return None
        table = image[offset : offset + count * size]
        if len(table) != count * size:
            return None
        sections: list[tuple[int, ...]] = list(_SECTION.iter_unpack(table))
        for section in sections:
            if section[1] == _DYNAMIC:
                start, length = sections[section[6]][4:6]
                names = image[start : start + min(length, _MOST_NAMES)]
                return names if len(names) == length else None
    except (struct.error, IndexError):
        return None
    return b""


def may_call(image: Image, name: str) -> bool:
    """Return whether the code of an ELF file may call ``"msgget"``, ``"msgrcv"`` or ``"semget"``.

    A dynamically linked file has to name the function. A statically linked file makes the system
    call itself. The answer is also true if it can't be known.
    """
    names = dynamic_names(image)
    if names:
        return b"\0%b\0" % name.encode() in names
    if names is None or os.uname().machine != "x86_64" or len(image) > _MOST_CODE:
        return True
    return any(_X86_64[name].search(piece) for piece in _pieces(image))


class Imports:
    """The functions that files may call; each file is read once."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, str], bool] = {}

    def any_of(self, base: str, maps: bytes, name: str) -> bool:
        """Return whether a process may call a function.

        Args:
            base: the process's directory in /proc.
            maps: its /proc/PID/maps.
            name: ``"msgget"``, ``"msgrcv"`` or ``"semget"``.

        Returns:
            False if none of its files calls it; true also if a file can't be read.
        """
        for line in maps.split(b"\n"):
            if b"xp " not in line or b" /" not in line:
                continue
            where, _, _, device, inode, path = line.split(None, 5)
            file = device + b" " + inode
            if _C_LIBRARY.search(path):
                continue
            if (file, name) not in self._known:
                # A file that was unlinked or replaced is in map_files only, which takes root.
                deleted = path.endswith(b" (deleted)")
                inside = b"map_files/" + where if deleted else b"root" + path
                self._known[file, name] = _read(f"{base}/{os.fsdecode(inside)}", name)
            if self._known[file, name]:
                return True
        return False


def _read(path: str, name: str) -> bool:
    fd = None
    try:
        fd = open_regular(path)  # the path may lead to another file now
        return fd is None or may_call(_FileImage(fd), name)
    except (OSError, ValueError, OverflowError):
        return True
    finally:
        if fd is not None:
            os.close(fd)
