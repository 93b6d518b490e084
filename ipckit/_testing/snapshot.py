"""Snapshot: the IPC objects that exist, and the descriptors and children of this process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

from ipckit._core import files
from ipckit._core.public import public
from ipckit.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

SHM: Final = Path(files.SHM)


SYSV_KINDS: Final[Mapping[str, str]] = {
    "msg": "System V queue",
    "sem": "System V semaphore set",
    "shm": "System V segment",
}


def sysv_table(table: str) -> dict[int, int]:
    """Return the id and the key of each object in a table of /proc/sysvipc; see sysvipc(7)."""
    rows = Path(f"/proc/sysvipc/{table}").read_text().splitlines()[1:]
    fields = (row.split(None, 2) for row in rows)
    return {int(number): int(key) for key, number, _ in fields}


class Queues:
    """The directory of POSIX queues, opened once for each IPC namespace.

    Many machines have no mounted mqueue file system, and an existing mount may show the queues of
    another IPC namespace. Root therefore mounts one in a temporary mount namespace, and opens the
    directory. The descriptor stays valid after the namespace ends.
    """

    directory: int | None = None
    namespace: str = ""

    @classmethod
    def names(cls) -> list[str] | None:
        """Return the names of all queues; None if they can't be listed."""
        namespace = os.readlink("/proc/self/ns/ipc")  # noqa: PTH115
        if cls.namespace != namespace:
            if cls.directory is not None:
                os.close(cls.directory)
            cls.directory = cls._open_private() if os.geteuid() == 0 else None
            if cls.directory is None:
                cls.directory = cls._open_mounted()
            cls.namespace = namespace
        return None if cls.directory is None else os.listdir(cls.directory)  # noqa: PTH208

    @staticmethod
    def _open_private() -> int | None:
        here = tempfile.gettempdir()
        script = 'mount -t mqueue none "$1" && echo ok && read -r _'
        helper = subprocess.Popen(  # noqa: S603
            ["unshare", "--mount", "sh", "-c", script, "sh", here],  # noqa: S607
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        with helper:
            if helper.stdout is None or helper.stdout.readline() != b"ok\n":
                return None
            return os.open(f"/proc/{helper.pid}/root{here}", os.O_RDONLY | os.O_DIRECTORY)

    @staticmethod
    def _open_mounted() -> int | None:
        # Bytes, because the path of a mount may not be UTF-8.
        for line in Path("/proc/self/mountinfo").read_bytes().split(b"\n"):
            where, _, what = line.partition(b" - ")
            if what.startswith(b"mqueue "):
                with contextlib.suppress(OSError):
                    return os.open(where.split(b" ")[4], os.O_RDONLY | os.O_DIRECTORY)
        return None


@final
@public("ipckit.testing")
class Snapshot:
    """The IPC objects, descriptors and children that this process saw at one moment.

    Attributes:
        entries: by identity, a line of text for each object.
        unseen: what could not be listed, and why; one line each.

    Example:
        >>> before = snapshot()
        >>> file = open("/dev/null")
        >>> before.diff(snapshot())
        ['descriptor ..., /dev/null']
        >>> file.close()
    """

    __slots__ = ("entries", "unseen")

    def __init__(
        self, entries: Mapping[tuple[str, object], str], unseen: tuple[str, ...] = ()
    ) -> None:
        # Escaped, because other users choose names, and a test report goes to a terminal.
        self.entries = {identity: one_line(text) for identity, text in entries.items()}
        self.unseen = unseen

    def diff(self, later: Snapshot) -> list[str]:
        """List the entries of a later snapshot that are not in this one.

        Args:
            later: a snapshot that was taken after this one, in the same process.

        Returns:
            A line for each new entry, such as ``"System V queue 3, key 0x000004d2"``; sorted.
        """
        return sorted(
            text for identity, text in later.entries.items() if identity not in self.entries
        )

    def __repr__(self) -> str:
        return f"<Snapshot, {len(self.entries)} entries>"


def _descriptors(entries: dict[tuple[str, object], str]) -> None:
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208 - faster, and text is wanted
        try:
            target = os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115
        except FileNotFoundError:
            continue  # the descriptor of the listing itself
        # A file that was unlinked after the first snapshot is not a new descriptor.
        target = target.removesuffix(" (deleted)")
        entries["descriptor", (number, target)] = f"descriptor {number}, {target}"


def _children(entries: dict[tuple[str, object], str]) -> None:
    for task in os.listdir("/proc/self/task"):  # noqa: PTH208
        try:
            children = Path(f"/proc/self/task/{task}/children").read_text().split()
        except ProcessLookupError:
            continue  # the thread has exited
        for pid in children:
            try:
                name = os.fsdecode(Path(f"/proc/{pid}/comm").read_bytes()).removesuffix("\n")
            except (FileNotFoundError, ProcessLookupError):
                continue
            entries["child", pid] = f"child process {pid}, {name}"


@public("ipckit.testing")
def snapshot() -> Snapshot:
    """Take a snapshot of everything that a test can leave behind.

    It contains the System V objects, POSIX queues, shared memory and semaphores in this process's
    namespaces, of all processes; and this process's descriptors and children, including zombies.
    The first call in a process opens one descriptor, which stays open. Later calls are cheap.

    Returns:
        The snapshot. `Snapshot.unseen` says what could not be listed.
    """
    entries: dict[tuple[str, object], str] = {}
    unseen: list[str] = []
    # First, because it may open the descriptor that stays.
    queues = Queues.names()
    if queues is None:
        unseen.append("POSIX queues: no mqueue file system is mounted, and only root can mount it")
    for name in queues or ():
        entries["POSIX queue", name] = f"POSIX queue /{name}"
    for table, kind in SYSV_KINDS.items():
        for number, key in sysv_table(table).items():
            entries[kind, number] = f"{kind} {number}, key {key & 0xFFFFFFFF:#010x}"
    for name in os.listdir(SHM):  # noqa: PTH208
        entries["shm", name] = f"{SHM}/{name}"
    for what, look in (("descriptors", _descriptors), ("children", _children)):
        try:
            look(entries)
        except OSError as exc:
            unseen.append(f"{what}: {exc.strerror}")
    return Snapshot(entries, tuple(unseen))
