"""Helpers for tests of programs that use IPC: names, leftovers, and child processes in step.

A test takes its names from a `Namespace`, which removes what is left of them;
compares `snapshot` before and after, to find what it leaked; and runs other
processes as `Child`, whose order comes from steps told through pipes, never
from sleeping. `Sandbox` and `run_in_namespace` give a process IPC objects,
limits and a ``/dev/shm`` of its own.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import posix_ipc as _untyped_posix_ipc
import sysv_ipc as _untyped_sysv_ipc

from ipckit._public import public
from ipckit._testing_children import Child, ChildFailed
from ipckit._testing_sandbox import Sandbox, as_user, require, run_in_namespace
from ipckit._testing_step import drop_privileges, step
from ipckit._testing_syscalls import wait_blocked
from ipckit._text import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

__all__ = [
    "Child",
    "ChildFailed",
    "Namespace",
    "Sandbox",
    "Snapshot",
    "as_user",
    "drop_privileges",
    "require",
    "run_in_namespace",
    "snapshot",
    "step",
    "wait_blocked",
]

# These two packages ship no types.
_posix_ipc: Any = _untyped_posix_ipc
_sysv_ipc: Any = _untyped_sysv_ipc

_SHM: Final = Path("/dev/shm")  # noqa: S108 - where Linux keeps POSIX shared memory
_SYSV_KINDS: Final[Mapping[str, str]] = {
    "msg": "System V queue",
    "sem": "System V semaphore set",
    "shm": "System V segment",
}
_LARGEST_KEY: Final = 0x7FFFFFFF


def _sysv(table: str) -> dict[int, int]:
    """Each object's id, with its key, of one table of sysvipc(7)."""
    rows = Path(f"/proc/sysvipc/{table}").read_text().splitlines()[1:]
    fields = (row.split(None, 2) for row in rows)
    return {int(number): int(key) for key, number, _ in fields}


class _Queues:
    """The directory of POSIX queues, opened once for each IPC namespace.

    Many machines mount no mqueue file system, and a mount that is there may show
    another IPC namespace's queues. Root can mount one in a mount namespace that
    lives no longer than it takes to open the directory: the descriptor goes on.
    """

    directory: int | None = None
    namespace: str = ""

    @classmethod
    def names(cls) -> list[str] | None:
        """The names of all queues, or None where they cannot be listed."""
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
        # Bytes, because a path that a user mounted something on need not be UTF-8.
        for line in Path("/proc/self/mountinfo").read_bytes().split(b"\n"):
            where, _, what = line.partition(b" - ")
            if what.startswith(b"mqueue "):
                with contextlib.suppress(OSError):
                    return os.open(where.split(b" ")[4], os.O_RDONLY | os.O_DIRECTORY)
        return None


@public("ipckit.testing")
class Snapshot:
    """The IPC objects, descriptors and children that this process saw at one moment.

    Attributes:
        entries: a line of text for each object, by what identifies it.
        unseen: what could not be listed here, and why; a line each.
    """

    __slots__ = ("entries", "unseen")

    def __init__(
        self, entries: Mapping[tuple[str, object], str], unseen: tuple[str, ...] = ()
    ) -> None:
        # A line for each: others choose the names, and a test's report goes to a terminal.
        self.entries = {identity: one_line(text) for identity, text in entries.items()}
        self.unseen = unseen

    def diff(self, later: Snapshot) -> list[str]:
        """What a later snapshot has that this one has not.

        Args:
            later: taken after this one, in the same process.

        Returns:
            A line for each new object, such as ``"System V queue 3, key 0x000004d2"``; sorted.
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
        # A file that was open before and deleted since is not a new descriptor.
        target = target.removesuffix(" (deleted)")
        entries["descriptor", (number, target)] = f"descriptor {number}, {target}"


def _children(entries: dict[tuple[str, object], str]) -> None:
    for task in os.listdir("/proc/self/task"):  # noqa: PTH208
        try:
            children = Path(f"/proc/self/task/{task}/children").read_text().split()
        except ProcessLookupError:
            continue  # the thread ended meanwhile
        for pid in children:
            try:
                name = os.fsdecode(Path(f"/proc/{pid}/comm").read_bytes()).removesuffix("\n")
            except (FileNotFoundError, ProcessLookupError):
                continue
            entries["child", pid] = f"child process {pid}, {name}"


@public("ipckit.testing")
def snapshot() -> Snapshot:
    """Everything that a test can leave behind, as this process sees it now.

    System V objects, POSIX queues, shared memory and semaphores of this process's
    namespaces, whoever made them; and its own descriptors and children, those not
    yet waited for included. Cheap, but for the first call in a process, which
    opens one descriptor that stays.

    Returns:
        The snapshot; what this machine does not let this process list stands in `Snapshot.unseen`.
    """
    entries: dict[tuple[str, object], str] = {}
    unseen: list[str] = []
    # First, because it may open the descriptor that it keeps.
    queues = _Queues.names()
    if queues is None:
        unseen.append("POSIX queues: no mqueue file system is mounted, and mounting it takes root")
    for name in queues or ():
        entries["POSIX queue", name] = f"POSIX queue /{name}"
    for table, kind in _SYSV_KINDS.items():
        for number, key in _sysv(table).items():
            entries[kind, number] = f"{kind} {number}, key {key & 0xFFFFFFFF:#010x}"
    for name in os.listdir(_SHM):  # noqa: PTH208
        entries["shm", name] = f"{_SHM}/{name}"
    for what, look in (("descriptors", _descriptors), ("children", _children)):
        try:
            look(entries)
        except OSError as exc:
            unseen.append(f"{what}: {exc.strerror}")
    return Snapshot(entries, tuple(unseen))


@public("ipckit.testing")
class Namespace:
    """Keys, names and paths that are nobody else's, and whose objects go with it.

    Leaving the ``with`` block removes whatever exists under them by then, and the
    directory. Objects made without one of its keys or names are not its own.
    """

    def __init__(self) -> None:
        self._keys: set[int] = set()
        self._names: list[str] = []
        self._directory: Path | None = None

    def key(self) -> int:
        """A System V key that no object has; one key serves one object of each kind."""
        taken = {key for table in _SYSV_KINDS for key in _sysv(table).values()} | self._keys
        while (key := secrets.randbelow(_LARGEST_KEY) + 1) in taken:
            pass
        self._keys.add(key)
        return key

    def name(self) -> str:
        """A POSIX name, ``"/ipckit-test-PID-RANDOM"``; without the slash, an abstract socket's."""
        name = f"/ipckit-test-{os.getpid()}-{secrets.token_hex(6)}"
        self._names.append(name)
        return name

    @property
    def directory(self) -> Path:
        """A directory of its own, mode 0o700; made when first asked for.

        Raises:
            OSError: the directory for temporary files takes no more.
        """
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="ipckit-test-"))
        return self._directory

    def path(self, suffix: str = "") -> Path:
        """A path in the directory where nothing is yet; short enough for a socket.

        Args:
            suffix: how the name ends, such as ``".sock"``.

        Raises:
            OSError: the directory for temporary files takes no more.
        """
        return self.directory / f"{secrets.token_hex(4)}{suffix}"

    def leftovers(self) -> list[str]:
        """What exists under these keys, names and paths now.

        Returns:
            A line for each, such as ``"POSIX queue /ipckit-test-71-c0ffee"``; sorted.
        """
        found = [
            f"{kind} {number}, key {key:#010x}"
            for table, kind in _SYSV_KINDS.items()
            for number, key in _sysv(table).items()
            if key in self._keys
        ]
        for name in self._names:
            if self._queue_exists(name):
                found.append(f"POSIX queue {name}")
            paths = (_SHM / name[1:], _SHM / f"sem.{name[1:]}")
            found.extend(str(path) for path in paths if os.path.lexists(path))
        if self._directory is not None:
            found.extend(str(path) for path in self._directory.rglob("*"))
        return sorted(map(one_line, found))

    @staticmethod
    def _queue_exists(name: str) -> bool:
        names = _Queues.names()
        if names is not None:
            return name[1:] in names
        try:
            _posix_ipc.MessageQueue(name, read=True, write=False).close()
        except _posix_ipc.ExistentialError:
            return False
        except _posix_ipc.PermissionsError:
            return True
        return True

    def clear(self) -> None:
        """Remove whatever exists under these keys, names and paths now, and the directory.

        Raises:
            OSError: a file that may not be removed.
            sysv_ipc.PermissionsError: an object of another user's.
            posix_ipc.PermissionsError: an object of another user's.
        """
        removers = {
            "msg": _sysv_ipc.remove_message_queue,
            "sem": _sysv_ipc.remove_semaphore,
            "shm": _sysv_ipc.remove_shared_memory,
        }
        for table, remove in removers.items():
            for number, key in _sysv(table).items():
                if key in self._keys:
                    with contextlib.suppress(_sysv_ipc.ExistentialError):
                        remove(number)
        for name in self._names:
            for remove in (
                _posix_ipc.unlink_message_queue,
                _posix_ipc.unlink_shared_memory,
                _posix_ipc.unlink_semaphore,
            ):
                with contextlib.suppress(_posix_ipc.ExistentialError):
                    remove(name)
        if self._directory is not None:
            shutil.rmtree(self._directory)
            self._directory = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.clear()
