"""Check for objects that no live process holds, and stale socket files."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Final

from ipckit._cli import words
from ipckit._cli.doctor.model import Finding, shell
from ipckit._core.files import SHM
from ipckit.inventory import PREFIXES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from ipckit.inventory import IpcObject, Kind

# From here on orphans are worth a warning: bytes, or the part of /dev/shm.
_MUCH: Final = 64 * 2**20
_MUCH_OF_SHM: Final = 0.1


def removal(items: Iterable[IpcObject]) -> str:
    """Return the command that removes some orphans: all of their kinds."""
    kinds: dict[Kind, None] = dict.fromkeys([each.kind for each in items])
    options = " ".join(f"--kind {PREFIXES[kind]}" for kind in kinds)
    return f"ipckit gc {options} --delete"


def orphans(objects: Iterable[IpcObject]) -> list[IpcObject]:
    """Return the objects that `ipckit gc` would remove by default, those with most memory first."""
    found = [each for each in objects if each.orphaned and each.kind != "socket"]
    return sorted(found, key=lambda each: -words.memory(each))


def owners(objects: Sequence[IpcObject]) -> Iterator[str]:
    """Say which user has most of the objects."""
    for owner, count in Counter(each.owner for each in objects if each.owner).most_common(1):
        yield f"{count:,} of {len(objects):,} belong to {owner}"


def _shm_size() -> int:
    try:
        at = os.statvfs(SHM)
    except OSError:
        return 0
    return at.f_blocks * at.f_frsize


def check_orphans(found: list[IpcObject], known: Collection[Kind] = ()) -> Iterator[Finding]:
    """Report orphans.

    Args:
        found: the orphans.
        known: kinds whose orphans another finding has named already.
    """
    found = [each for each in found if each.kind not in known]
    if not found:
        return
    memory = sum(map(words.memory, found))
    least = min(_MUCH, _shm_size() * _MUCH_OF_SHM or _MUCH)
    what = f"{words.counted(len(found), 'object')} that no live process holds"
    if memory:
        what += f", with {words.in_bytes(memory)}"
    yield Finding(
        "orphans",
        tuple(each.address for each in found),
        what,
        "ipckit gc --delete" if not known else removal(found),
        "warning" if memory >= least else "note",
        tuple(f"{words.summary(each)}: {each.reason}" for each in found),
        "The command lists them and asks before it removes them.",
    )


def check_sockets(objects: Iterable[IpcObject]) -> Iterator[Finding]:
    """Report socket files to which no socket is bound."""
    found = [each for each in objects if each.kind == "socket" and each.orphaned]
    if not found:
        return
    one = len(found) == 1
    what = (
        "a socket file without a listener"
        if one
        else f"{len(found)} socket files without a listener"
    )
    yield Finding(
        "stale-socket",
        tuple(each.address for each in found),
        f"{what}; bind fails there with EADDRINUSE",
        f"ipckit rm {shell(found[0].address)}" if one else "ipckit gc --kind socket --delete",
        "note",
        () if one else tuple(owners(found)),
        "ipckit.listen replaces such a file itself.",
    )
