"""Namespace: unique keys, names and paths for a test, and the removal of their objects."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, final

import posix_ipc as _untyped_posix_ipc
import sysv_ipc as _untyped_sysv_ipc

from ipckit._core.public import public
from ipckit._testing.snapshot import SHM, SYSV_KINDS, Queues, sysv_table
from ipckit.errors import one_line

if TYPE_CHECKING:
    from types import TracebackType

# These two packages ship no types.
_posix_ipc: Any = _untyped_posix_ipc
_sysv_ipc: Any = _untyped_sysv_ipc

_LARGEST_KEY: Final = 0x7FFFFFFF


@final
@public("ipckit.testing")
class Namespace:
    """Unique keys, names and paths for a test.

    The end of the ``with`` block removes every object that has one of them, and the directory.
    Objects with other keys and names are not touched.

    Example:
        >>> from ipckit import SysVMessageQueue
        >>> with Namespace() as ns:
        ...     queue = SysVMessageQueue.create(ns.key())
        ...     queue.close()
        ...     len(ns.leftovers())
        1
    """

    def __init__(self) -> None:
        self._keys: set[int] = set()
        self._names: list[str] = []
        self._directory: Path | None = None

    def key(self) -> int:
        """Return a System V key that no object has; it serves one object of each kind."""
        taken = {key for table in SYSV_KINDS for key in sysv_table(table).values()} | self._keys
        while (key := secrets.randbelow(_LARGEST_KEY) + 1) in taken:
            pass
        self._keys.add(key)
        return key

    def name(self) -> str:
        """Return a POSIX name, ``"/ipckit-test-PID-RANDOM"``.

        Without the slash, it can name an abstract socket.
        """
        name = f"/ipckit-test-{os.getpid()}-{secrets.token_hex(6)}"
        self._names.append(name)
        return name

    @property
    def directory(self) -> Path:
        """A private directory with mode 0o700, created at the first access.

        Raises:
            OSError: no directory can be created where temporary files are.
        """
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="ipckit-test-"))
        return self._directory

    def path(self, suffix: str = "") -> Path:
        """Return an unused path in the directory, short enough for a socket.

        Args:
            suffix: the end of the name, such as ``".sock"``; by default empty.

        Raises:
            OSError: no directory can be created where temporary files are.
        """
        return self.directory / f"{secrets.token_hex(4)}{suffix}"

    def leftovers(self) -> list[str]:
        """List the objects that now exist with these keys, names and paths.

        Returns:
            A line for each object, such as ``"POSIX queue /ipckit-test-71-c0ffee"``; sorted.
        """
        found = [
            f"{kind} {number}, key {key:#010x}"
            for table, kind in SYSV_KINDS.items()
            for number, key in sysv_table(table).items()
            if key in self._keys
        ]
        for name in self._names:
            if self._queue_exists(name):
                found.append(f"POSIX queue {name}")
            paths = (SHM / name[1:], SHM / f"sem.{name[1:]}")
            found.extend(str(path) for path in paths if os.path.lexists(path))
        if self._directory is not None:
            found.extend(str(path) for path in self._directory.rglob("*"))
        return sorted(map(one_line, found))

    @staticmethod
    def _queue_exists(name: str) -> bool:
        names = Queues.names()
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
        """Remove every object that now has one of these keys, names and paths, and the directory.

        Raises:
            OSError: a file can't be removed.
            sysv_ipc.PermissionsError: an object belongs to another user.
            posix_ipc.PermissionsError: an object belongs to another user.
        """
        removers = {
            "msg": _sysv_ipc.remove_message_queue,
            "sem": _sysv_ipc.remove_semaphore,
            "shm": _sysv_ipc.remove_shared_memory,
        }
        for table, remove in removers.items():
            for number, key in sysv_table(table).items():
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
