"""The exceptions, and the table that maps an errno to one of them.

Every error is an `IpcError`, which is an `OSError`. Most also derive from the builtin exception for
the same situation, so that ``except FileNotFoundError`` and ``except TimeoutError`` work.

    >>> from ipckit import PosixMessageQueue
    >>> try:
    ...     PosixMessageQueue.open("/no-such-queue")
    ... except FileNotFoundError as exc:
    ...     print(type(exc).__name__, exc.op, exc.target)
    NotFound mq_open queue /no-such-queue
"""

from __future__ import annotations

import errno as _errno
import os
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ipckit._native import Message


class IpcError(OSError):
    """An IPC call failed.

    Args:
        message: what is wrong, in one line.
        errno: the kernel's error number, or the closest one; 0 by default.
        op: the call that failed, such as ``"msgsnd"``.
        target: the object of the call, such as ``"queue key 0x000004d2"``.
        hint: what to do about it, or "".

    Example:
        >>> from ipckit import IpcError, SysVMessageQueue
        >>> try:
        ...     SysVMessageQueue.open(0x4D2)
        ... except IpcError as exc:
        ...     exc.op, exc.target, exc.strerror
        ('msgget', 'queue key 0x000004d2', 'no such queue')
    """

    op: str
    target: str
    hint: str

    def __init__(
        self, message: str, *, errno: int = 0, op: str = "", target: str = "", hint: str = ""
    ) -> None:
        super().__init__(errno, message)
        self.op = op
        self.target = target
        self.hint = hint

    def __str__(self) -> str:
        where = " on ".join(part for part in (self.op, self.target) if part)
        text = f"{where}: {self.strerror}" if where else str(self.strerror)
        # A traceback shows this text, and another user may have chosen the target.
        return one_line(f"{text}; {self.hint}" if self.hint else text)

    def __reduce__(self) -> tuple[Any, ...]:
        # OSError would call cls(errno, message); this class takes its facts by name.
        return (_rebuild, (type(self), self.strerror, self.errno), self.__dict__)


def _rebuild(cls: type[IpcError], message: str, errno: int) -> IpcError:
    return cls(message, errno=errno)


class AlreadyExists(IpcError, FileExistsError):
    """`create` found an object of the same key or name.

    Example:
        >>> from ipckit import Channel
        >>> with Channel.create() as channel:
        ...     try:
        ...         Channel.create(channel.name)
        ...     except FileExistsError as exc:
        ...         type(exc).__name__, exc.strerror
        ('AlreadyExists', 'the channel already exists, and this process has it open')
    """


class NotFound(IpcError, FileNotFoundError):
    """No object has that key, name or id.

    Example:
        >>> from ipckit import PosixSharedMemory
        >>> try:
        ...     PosixSharedMemory.open("/no-such-memory")
        ... except FileNotFoundError as exc:
        ...     type(exc).__name__, exc.strerror
        ('NotFound', 'no such shared memory')
    """


class AccessDenied(IpcError, PermissionError):
    """The permissions of the object do not allow the call.

    Example:
        >>> from ipckit import PosixSharedMemory
        >>> with PosixSharedMemory.create(size=100) as memory:
        ...     with PosixSharedMemory.open(memory.name, readonly=True) as other:
        ...         try:
        ...             other.resize(200)
        ...         except PermissionError as exc:
        ...             type(exc).__name__, exc.strerror
        ('AccessDenied', 'the handle was opened readonly')
    """


class WouldBlock(IpcError, BlockingIOError):
    """The call would wait, and ``timeout=0`` forbids that.

    Example:
        >>> from ipckit import SysVMessageQueue
        >>> with SysVMessageQueue.create() as queue:
        ...     try:
        ...         queue.receive(timeout=0)
        ...     except BlockingIOError as exc:
        ...         type(exc).__name__
        'WouldBlock'
    """


class Timeout(IpcError, TimeoutError):
    """The timeout passed; the call did nothing.

    Example:
        >>> from ipckit import SysVMessageQueue
        >>> with SysVMessageQueue.create() as queue:
        ...     try:
        ...         queue.receive(timeout=0.01)
        ...     except TimeoutError as exc:
        ...         type(exc).__name__, exc.strerror
        ('Timeout', 'no message came within 0.01 s')
    """


class InUse(IpcError):
    """The object was not removed, because a live process uses it or may use it.

    Example:
        >>> from ipckit import InUse, PosixSharedMemory, inventory
        >>> with PosixSharedMemory.create(size=100) as memory:
        ...     (item,) = [
        ...         each
        ...         for each in inventory.survey(["posix-segment"]).objects
        ...         if each.name == memory.name
        ...     ]
        ...     try:
        ...         inventory.remove(item)
        ...     except InUse as exc:
        ...         exc.hint
        'to remove it anyway, use --force (force=True)'
    """


class Removed(IpcError):
    """The object was removed from the system, before the call or during it.

    Example:
        >>> from ipckit import Removed, SysVMessageQueue
        >>> with SysVMessageQueue.create() as queue:
        ...     SysVMessageQueue.remove(queue.key)
        ...     try:
        ...         queue.receive()
        ...     except Removed as exc:
        ...         exc.strerror
        'the queue was removed'
    """


class MessageTooLong(IpcError):
    """A message does not fit into the object or into the requested buffer.

    Example:
        >>> from ipckit import MessageTooLong, PosixMessageQueue
        >>> with PosixMessageQueue.create(max_size=10) as queue:
        ...     try:
        ...         queue.send(bytes(11))
        ...     except MessageTooLong as exc:
        ...         exc.op
        'mq_send'
    """


class LimitReached(IpcError):
    """A limit of the system or of the process is reached; the message names it and its value.

    Example:
        >>> from ipckit import LimitReached, SysVSharedMemory
        >>> try:
        ...     SysVSharedMemory.create(size=2**62)
        ... except LimitReached as exc:
        ...     exc.op
        'shmget'
    """


class InvalidArgument(IpcError, ValueError):
    """An argument is out of range; the message gives the range.

    Example:
        >>> from ipckit import Channel
        >>> try:
        ...     Channel.create(capacity=0)
        ... except ValueError as exc:
        ...     type(exc).__name__
        'InvalidArgument'
    """


class InvalidSource(InvalidArgument):
    """C source that can't be read. The message has one line for each problem.

    Attributes:
        problems: the problems. Each begins with the file and the line, such as ``stu.h:3:``.

    Example:
        >>> from ipckit import InvalidSource, Struct
        >>> try:
        ...     Struct.from_c("struct node { struct node *next; };")
        ... except InvalidSource as exc:
        ...     len(exc.problems)
        1
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems), errno=_errno.EINVAL)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(map(one_line, self.problems))

    def __reduce__(self) -> tuple[Any, ...]:
        return (InvalidSource, (self.problems,))


class ClosedHandle(IpcError, ValueError):
    """The handle was closed in this process.

    Example:
        >>> from ipckit import Channel, ClosedHandle
        >>> with Channel.create() as channel:
        ...     pass
        >>> try:
        ...     channel.send(b"late")
        ... except ClosedHandle as exc:
        ...     exc.strerror
        'the handle is closed'
    """


class PeerGone(IpcError, ConnectionError):
    """No process is left on the other side.

    Example:
        >>> from ipckit import PeerGone, pair
        >>> a, b = pair()
        >>> b.close()
        >>> with a:
        ...     try:
        ...         a.send(b"hello")
        ...     except PeerGone as exc:
        ...         exc.strerror
        'the peer closed its end'
    """


class RemoteError(IpcError):
    """A method of a service raised an exception.

    The traceback of the service is also a note of this exception, so that it is printed with it.

    Args:
        type_name: the name of the exception's class, such as ``"ValueError"``.
        message: the exception's text.
        traceback: the traceback in the service, as text.
        op: the call, such as ``"call norm"``.
        target: the service.

    Attributes:
        type_name: as above.
        message: as above.
        traceback: as above.

    Example:
        >>> import threading
        >>> from ipckit import RemoteError
        >>> from ipckit.rpc import Client, Service
        >>> with Service.create("doc-fails") as service:
        ...     @service.method
        ...     def parse(text: str) -> int:
        ...         return int(text)
        ...     thread = threading.Thread(target=service.serve)  # usually another process
        ...     thread.start()
        ...     with Client.open("doc-fails") as client:
        ...         try:
        ...             client.parse("x", timeout=10)
        ...         except RemoteError as exc:
        ...             print(exc.type_name)
        ...     service.close()
        ...     thread.join()
        ValueError
    """

    def __init__(
        self, type_name: str, message: str, traceback: str, *, op: str = "", target: str = ""
    ) -> None:
        text = f"{type_name}: {message}" if message else type_name
        super().__init__(text, errno=_errno.EREMOTEIO, op=op, target=target)
        self.type_name = type_name
        self.message = message
        self.traceback = traceback
        if traceback:
            self.add_note(f"Traceback in the service:\n\n{_printable(traceback)}")

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild_remote, (self.type_name, self.message, self.traceback), self.__dict__)


def _rebuild_remote(type_name: str, message: str, traceback: str) -> RemoteError:
    return RemoteError(type_name, message, traceback)


def _printable(text: str) -> str:
    """Escape what another process could send to a terminal, except line breaks."""
    return "\n".join(map(one_line, text.splitlines()))


class OwnerDied(IpcError):
    """A process died while it held something.

    It held a lock, and the data that the lock guards may be inconsistent. Or it held objects of a
    `ProcessQueue` that it had not reported by `task_done`.

    Example:
        >>> import os
        >>> from ipckit import OwnerDied
        >>> from ipckit.sem import Lock
        >>> with Lock.create().lifetime() as lock:
        ...     if os.fork() == 0:
        ...         lock.acquire()
        ...         os._exit(0)  # as if it was killed
        ...     _ = os.wait()
        ...     try:
        ...         lock.acquire(timeout=10, report_death=True)
        ...     except OwnerDied as exc:
        ...         exc.hint
        'repair the data in a `with lock.recover():` block'
    """


class DeadlockRisk(IpcError, RuntimeError):
    """Acquiring the lock would violate the declared order, which can cause a deadlock.

    Example:
        >>> from ipckit import DeadlockRisk
        >>> from ipckit.sem import Lock, LockOrder
        >>> first, second = Lock.create(), Lock.create()
        >>> with first.lifetime(), second.lifetime():
        ...     order = LockOrder({"first": first, "second": second})
        ...     try:
        ...         with order.hold("second"), order.hold("first"):
        ...             pass
        ...     except DeadlockRisk as exc:
        ...         type(exc).__name__
        'DeadlockRisk'
    """


class LayoutMismatch(IpcError, TypeError):
    """The two sides disagree about the type of the payload.

    Attributes:
        raw: the bytes that could not be decoded, or None.
        mtype: the message's System V type, or 0.
        priority: the message's POSIX priority, or 0.
        received: the messages that the same call (`drain`, `receive_many`) received before.

    Example:
        >>> from ipckit import Channel, Int, LayoutMismatch, Struct
        >>> class Point(Struct):
        ...     x: Int
        >>> with Channel.create(type=Point) as channel:
        ...     try:
        ...         Channel.open(channel.name, str)
        ...     except LayoutMismatch as exc:
        ...         exc.op
        'open'
    """

    raw: bytes | None = None
    mtype: int = 0
    priority: int = 0
    received: tuple[Message[Any], ...] = ()


class Corrupt(IpcError):
    """Shared memory has contents that no correct peer writes.

    Example:
        >>> from pathlib import Path
        >>> from ipckit import Corrupt, PosixSemaphore
        >>> file = Path("/dev/shm/sem.doc-corrupt")
        >>> _ = file.write_text("text")
        >>> try:
        ...     PosixSemaphore.open("/doc-corrupt")
        ... except Corrupt as exc:
        ...     exc.strerror
        'the file is not a semaphore: it has 4 bytes instead of 32'
        >>> file.unlink()
    """


_BY_ERRNO: Final[Mapping[int, type[IpcError]]] = {
    _errno.EEXIST: AlreadyExists,
    _errno.EADDRINUSE: AlreadyExists,
    _errno.ENOENT: NotFound,
    _errno.EACCES: AccessDenied,
    _errno.EPERM: AccessDenied,
    _errno.EAGAIN: WouldBlock,
    _errno.ENOMSG: WouldBlock,
    _errno.ETIMEDOUT: Timeout,
    _errno.EIDRM: Removed,
    _errno.E2BIG: MessageTooLong,
    _errno.EMSGSIZE: MessageTooLong,
    _errno.ENOSPC: LimitReached,
    _errno.EMFILE: LimitReached,
    _errno.ENFILE: LimitReached,
    _errno.ENOMEM: LimitReached,
    _errno.ERANGE: LimitReached,
    _errno.ETOOMANYREFS: LimitReached,
    _errno.ENOBUFS: LimitReached,
    _errno.EOVERFLOW: LimitReached,
    _errno.EINVAL: InvalidArgument,
    _errno.ENAMETOOLONG: InvalidArgument,
    _errno.EFBIG: InvalidArgument,
    _errno.EBADF: ClosedHandle,
    _errno.EPIPE: PeerGone,
    _errno.ECONNRESET: PeerGone,
    _errno.ECONNREFUSED: PeerGone,
    _errno.ECONNABORTED: PeerGone,
    _errno.ESHUTDOWN: PeerGone,
    _errno.EOWNERDEAD: OwnerDied,
    _errno.EDEADLK: DeadlockRisk,
    _errno.EBADMSG: LayoutMismatch,
    _errno.EUCLEAN: Corrupt,
}

# Calls for which an errno has another meaning.
_BY_CALL: Final[Mapping[tuple[str, int], type[IpcError]]] = {
    ("msgsnd", _errno.EINVAL): Removed,  # its arguments are checked before the call
    ("msgrcv", _errno.EINVAL): Removed,
    ("msgctl", _errno.EINVAL): Removed,
    ("semop", _errno.E2BIG): LimitReached,
    ("semop", _errno.EINVAL): InvalidArgument,
    ("mq_notify", _errno.EBUSY): AlreadyExists,
}


def from_errno(
    errno: int, *, op: str, target: str = "", message: str = "", hint: str = ""
) -> IpcError:
    """The `IpcError` for an errno.

    Args:
        errno: the kernel's error number.
        op: the call that failed.
        target: the object of the call.
        message: what is wrong; by default the C library's text for the errno.
        hint: what to do about it.
    """
    cls = _BY_CALL.get((op, errno)) or _BY_ERRNO.get(errno, IpcError)
    return cls(message or os.strerror(errno), errno=errno, op=op, target=target, hint=hint)


# Printable to Python, but a terminal shows nothing or a blank: the ignorable code points of
# Unicode, and the blank pattern of Braille.
_UNSEEN: Final = frozenset(
    map(
        chr,
        (
            *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0),
            *range(0x180B, 0x1810),
            *range(0xFE00, 0xFE10),
            *range(0xE0100, 0xE01F0),
        ),
    )
)
_BYTE: Final = 0x100
_BASIC: Final = 0x10000
_NAMED: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def is_plain(char: str) -> bool:
    """Whether a terminal shows a character as itself, and visibly."""
    return char.isprintable() and char not in _UNSEEN


def _escaped(char: str) -> str:
    code = ord(char)
    if char in _NAMED:
        return _NAMED[char]
    if code < _BYTE:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < _BASIC else f"\\U{code:08x}"


def one_line(text: str) -> str:
    r"""Escape a text, so that it is one line and can't control a terminal.

    Line ends, control characters, bidirectional controls, characters without width and bytes that
    are not UTF-8 become escapes: ``\n``, ``\x1b``, ``\u202e``, ``\udcff``. A second call changes
    nothing.

    Args:
        text: any text, also with the lone surrogates of `os.fsdecode`.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if is_plain(char) else _escaped(char) for char in text)
