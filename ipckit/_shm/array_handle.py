"""ArrayHandle: the base of `SharedArray` and `Counter`, handles of memory with a header.

The memory is a memfd if it has no name, and POSIX shared memory if it has one. Both have all that
concerns descriptors, names, modes and pickling.
"""

from __future__ import annotations

import errno
import os
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

import posix_ipc

from ipckit._core.bindings import BINDING_ERRORS, from_binding
from ipckit._core.construct import construct
from ipckit._core.deadline import Deadline
from ipckit._core.descriptors import (
    checked_fd,
    close_quietly,
    descriptor_error,
    is_spawning,
    reopened,
)
from ipckit._core.fd_access import check_access
from ipckit._core.files import path_of_fd
from ipckit._core.handle import Handle, checked_mode
from ipckit._core.making import find_or_make
from ipckit._core.trust import Trust
from ipckit._shm.array_header import array_over, has_header, read_header, write_header
from ipckit._shm.lending import count_opened, lend, open_loan, release
from ipckit._shm.memfd import MemFd
from ipckit._shm.memory import MEMORY_CAPS
from ipckit._shm.posix import PosixSharedMemory
from ipckit.errors import IpcError, NotFound, Timeout
from ipckit.keys import Name

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from ipckit._shm.array_header import ArrayHeader
    from ipckit._shm.lending import ArrayMemory


class ArrayHandle(Handle):
    """A handle of memory that contains one array and its description.

    Attributes:
        _word: the kind of object, for messages.
        _create_call: how to create one, for the hint of NotFound.
    """

    caps = MEMORY_CAPS
    _word: ClassVar[str]
    _create_call: ClassVar[str]

    def __init__(self, memory: ArrayMemory | None, *, owner: bool, unpickled: bool) -> None:
        self._memory = memory
        self._unpickled = unpickled
        self._lent_by = 0  # the process that pickled this handle as a loan
        super().__init__(owner=owner)

    @classmethod
    def _over(
        cls,
        memory: ArrayMemory,
        header: ArrayHeader,
        *,
        owner: bool = False,
        unpickled: bool = False,
    ) -> Self:
        """Create the handle of memory with a header, which owns the memory's handle."""
        make: Any = cls
        made: Self = construct(make, memory, header, owner=owner, unpickled=unpickled)
        return made

    # -- create and open ---------------------------------------------------------------------------

    @classmethod
    def _create(
        cls,
        header: ArrayHeader,
        name: str | None,
        mode: int,
        fill: Callable[[npt.NDArray[Any]], None] | None = None,
    ) -> Self:
        """Create the memory, let `fill` write the array, and then write the header."""
        checked_mode(mode)
        memory: ArrayMemory
        if name is None:
            memory = MemFd.create(f"ipckit-{cls._word.replace(' ', '-')}", header.total)
        else:
            wanted = Name(name)
            try:
                memory = PosixSharedMemory.create(wanted, header.total, mode=mode)
            except IpcError as exc:
                cls._reword(exc, wanted)
                raise
        try:
            if fill is not None:
                fill(array_over(memory, header))
            write_header(memory, header)
            return cls._over(memory, header, owner=name is not None)
        except BaseException:
            if name is not None:
                memory.unlink(missing_ok=True)
            memory.close()
            raise

    @classmethod
    def _open(
        cls, name: str, deadline: Deadline, *, readonly: bool = False, trust: Trust | None = None
    ) -> Self:
        """Open named memory, once its creator has written the header."""
        wanted = Name(name)
        try:
            memory = PosixSharedMemory.open(wanted, readonly=readonly, timeout=deadline.remaining)
        except IpcError as exc:
            cls._reword(exc, wanted)
            raise
        try:
            target = cls._describe(wanted)
            if trust is not None:
                trust.check_file(memory.fileno(), op="shm_open", target=target)
            _await_header(memory, deadline, target)
        except BaseException:
            memory.close()
            raise
        return cls._over_received(memory)

    @classmethod
    def _reword(cls, exc: IpcError, name: Name) -> None:
        """Let an error of `PosixSharedMemory` name this class."""
        exc.target = cls._describe(name)
        if isinstance(exc, NotFound) and "PosixSharedMemory.create" in exc.hint:
            exc.hint = f"create it with {cls._create_call.format(name)}"
        else:
            exc.hint = exc.hint.replace("PosixSharedMemory", cls.__name__)

    @classmethod
    def _open_or_create(
        cls,
        header: ArrayHeader,
        name: str,
        *,
        mode: int,
        timeout: float | None,
        owner_uid: int | None,
    ) -> Self:
        """Open named memory with the same header, or create it."""
        deadline = Deadline(timeout)
        trust = Trust(owner_uid, checked_mode(mode))
        return find_or_make(
            lambda: cls._create(header, name, mode),
            lambda: cls._open(name, deadline, trust=trust),
            deadline,
            op="shm_open",
            target=cls._describe(Name(name)),
        )

    @classmethod
    def _from_fd(cls, fd: int, *, readonly: bool) -> Self:
        """Take over a descriptor of memory with a header; if this raises, it is the caller's."""
        target = f"the memory of descriptor {checked_fd(fd)}"
        check_access(fd, write=not readonly, target=target)
        try:
            duplicate = os.dup(fd)
        except OSError as exc:
            raise descriptor_error(exc.errno or errno.EIO, op="dup", target=target) from None
        opened = cls._over_received(reopened(duplicate, partial(_memory_of, readonly=readonly)))
        close_quietly(fd)
        return opened

    @classmethod
    def _over_received(cls, memory: ArrayMemory, *, unpickled: bool = False) -> Self:
        """Create the handle of memory whose header is not yet read."""
        name = memory.name if isinstance(memory, PosixSharedMemory) else None
        try:
            return cls._over(memory, read_header(memory, cls._describe(name)), unpickled=unpickled)
        except BaseException:
            memory.close()
            raise

    # -- facts -------------------------------------------------------------------------------------

    @property
    def name(self) -> Name | None:
        """The name; None if it is anonymous."""
        memory = self._memory
        return memory.name if isinstance(memory, PosixSharedMemory) else None

    def fileno(self) -> int:
        """Return the descriptor of the memory; the handle closes it.

        Raises:
            ClosedHandle: the handle is closed.
        """
        self._check_open("fileno")
        return self._backing("fileno").fileno()

    def _backing(self, op: str) -> ArrayMemory:
        """Return the memory of the handle; Counter.view has none."""
        del op
        assert self._memory is not None  # noqa: S101
        return self._memory

    @classmethod
    def _describe(cls, name: Name | None) -> str:
        return f"anonymous {cls._word}" if name is None else f"{cls._word} {name}"

    @property
    def _target(self) -> str:
        return self._describe(self.name)

    # -- lifecycle ---------------------------------------------------------------------------------

    def _release(self) -> None:
        if self._memory is None:
            return
        if self._lent_by == os.getpid():
            release(self._memory)
        else:
            self._memory.close()

    @classmethod
    def remove(cls, name: str, missing_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - as pathlib has it
        """Remove the named memory, without opening it.

        Args:
            name: the name.
            missing_ok: do nothing if there is no such memory; False by default.

        Raises:
            NotFound: there is no memory of that name.
            AccessDenied: another user owns it.
            InvalidArgument: `name` is invalid.

        See shm_unlink(3).
        """
        wanted = Name(name)
        try:
            posix_ipc.unlink_shared_memory(str(wanted))
        except BINDING_ERRORS as exc:
            error = from_binding(exc, op="shm_unlink", target=cls._describe(wanted))
            if isinstance(error, NotFound):
                if missing_ok:
                    return
                error.strerror = f"no such {cls._word}"
            raise error from None

    def _remove(self) -> None:
        if self.name is None:
            message = f"an anonymous {self._word} has no name to unlink; it is freed with its last "
            message += "handle and view"
            raise NotFound(message, errno=errno.ENOENT, op="unlink", target=self._target)
        self._backing("unlink").unlink()

    def __del__(self) -> None:
        # Nothing is left of an anonymous array that nobody closed, and a worker that gets a handle
        # as an argument has not opened it.
        if getattr(self, "_closed", True) is False and (self._unpickled or self.name is None):
            self.close()
        super().__del__()

    def _reopen_args(self) -> tuple[Any, ...]:
        memory = self._backing("pickle")
        # A name that is unlinked would raise in the process that unpickles the handle.
        reachable = self.name is not None and os.fstat(memory.fileno()).st_nlink > 0
        if reachable or memory.readonly or is_spawning():
            return memory.__reduce__()
        self._lent_by = os.getpid()
        return (lend(memory),)

    @classmethod
    def _reopen(cls, *args: Any) -> Self:
        first, *rest = args
        if rest:
            return cls._over_received(first(*rest[0]), unpickled=True)
        fd = open_loan(first, cls._describe(None))
        memory = reopened(fd, partial(_memory_of, readonly=False))
        opened = cls._over_received(memory, unpickled=True)
        count_opened(memory)
        return opened


def _memory_of(fd: int, *, readonly: bool) -> ArrayMemory:
    """Return a handle of memory, which takes over the descriptor."""
    if path_of_fd(fd).startswith("/memfd:"):
        return MemFd.from_fd(fd, readonly=readonly)
    return PosixSharedMemory.from_fd(fd, readonly=readonly)


def _await_header(memory: ArrayMemory, deadline: Deadline, target: str) -> None:
    """Wait until the creator of named memory has written the header."""
    for _ in deadline.looks():
        if has_header(memory):
            return
    message = "it has no header yet: its creator is slow, or died, or it is other memory"
    raise Timeout(message, errno=errno.ETIMEDOUT, op="shm_open", target=target)
