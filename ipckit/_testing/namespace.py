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
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

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
        taken = {key for table in SYSV_KINDS for key in sysv_table(table).values()} | self._keys
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
