"""Which functions the files of a process call: who could have made an object without a record.

The kernel keeps no creator of a queue. A process can only have made one if its executable or one of
its libraries names msgget, or makes the system call itself.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
from typing import Final

# The C library itself has every call.
_C_LIBRARY: Final = re.compile(rb"/(libc[.-]|ld-|ld\.|libpthread)[^/]*$")
# mov $68,%eax (or push $68; pop %rax), and a syscall soon after.
_X86_64: Final = {
    name: re.compile(rb"(?:\xb8%b\0\0\0|\x6a%b\x58).{0,24}?\x0f\x05" % (number, number), re.DOTALL)
    for name, number in {"msgget": b"\x44", "msgrcv": b"\x46", "semget": b"\x40"}.items()
}
_ELF_64: Final = b"\x7fELF\x02\x01"
_SECTIONS_AT: Final = 0x28  # e_shoff in the file's header
_SECTION_COUNT_AT: Final = 0x3A  # e_shentsize stands before it
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_DYNAMIC: Final = 6  # SHT_DYNAMIC


def dynamic_names(image: bytes | mmap.mmap) -> bytes | None:
    """The names that an ELF file of 64 bits imports and exports; None where that can't be told.

    Empty for a file that is not linked dynamically.
    """
    try:
        if image[: len(_ELF_64)] != _ELF_64:
            return None
        (offset,) = struct.unpack_from("<Q", image, _SECTIONS_AT)
        size, count = struct.unpack_from("<HH", image, _SECTION_COUNT_AT)
        if offset == 0 or size != _SECTION.size:
            return None
        sections: list[tuple[int, ...]] = [
            _SECTION.unpack_from(image, offset + i * size) for i in range(count)
        ]
        for section in sections:
            if section[1] == _DYNAMIC:
                names = sections[section[6]]
                return bytes(image[names[4] : names[4] + names[5]])
    except (struct.error, IndexError):
        return None
    return b""


def may_call(image: bytes | mmap.mmap, name: str) -> bool:
    """Whether the code of an ELF file can call ``"msgget"``, ``"msgrcv"`` or ``"semget"``.

    A file that is linked dynamically has to name the function; one that is not makes the system
    call itself. True also where that can't be told.
    """
    names = dynamic_names(image)
    if names:
        return b"\0%b\0" % name.encode() in names
    code = _X86_64[name]
    return names is None or os.uname().machine != "x86_64" or code.search(image) is not None


class Imports:
    """What files may call; each file is read once."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, str], bool] = {}

    def any_of(self, base: str, maps: bytes, name: str) -> bool:
        """Whether a process may call a function.

        Args:
            base: the process's directory in /proc.
            maps: its /proc/PID/maps.
            name: ``"msgget"``, ``"msgrcv"`` or ``"semget"``.

        Returns:
            False where none of its files does; true also where they can't be read.
        """
        for line in maps.split(b"\n"):
            if b"xp " not in line or b" /" not in line:
                continue
            where, _, _, device, inode, path = line.split(None, 5)
            file = device + b" " + inode
            if _C_LIBRARY.search(path):
                continue
            if (file, name) not in self._known:
                # A file that was replaced or never had a path can be had as root only.
                gone = path.endswith(b" (deleted)")
                inside = b"map_files/" + where if gone else b"root" + path
                self._known[file, name] = _read(f"{base}/{os.fsdecode(inside)}", name)
            if self._known[file, name]:
                return True
        return False


def _read(path: str, name: str) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return True
    try:
        with mmap.mmap(fd, 0, access=mmap.ACCESS_READ) as image:
            return may_call(image, name)
    except (OSError, ValueError):
        return True
    finally:
        os.close(fd)
