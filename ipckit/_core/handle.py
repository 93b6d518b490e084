"""Handle: one lifecycle for every kind of object.

A handle gives this process access to an object that the system keeps. `close` ends the access;
`unlink` removes the object from the system.
"""

from __future__ import annotations

import errno
import warnings
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, final

from ipckit._core.arguments import int_argument
from ipckit._core.construct import FactoryMade
from ipckit._core.forks import at_fork
from ipckit._core.lazy_names import import_name
from ipckit._core.own_token import keep_own_token
from ipckit._core.public import public
from ipckit.errors import ClosedHandle, InvalidArgument, LayoutMismatch, NotFound, one_line

if TYPE_CHECKING:
    from types import TracebackType

    from ipckit._core.descriptors import Descriptor

_MODE_MAX = 0o777


@public("ipckit")
@final
@dataclass(frozen=True, slots=True)
class Capabilities:
    """The features in which the kinds of objects differ.

    Attributes:
        pollable: the object has a descriptor on which select, poll and epoll can wait.
        timed: the kernel waits with a timeout. If this is false, ipckit polls.
        priorities: messages have a priority, and the highest is received first.
        typed_receive: the receiver can choose by message type.
        unlink_destroys_now: `unlink` destroys the object while processes use it. If this is false,
            the object exists until the last process closes it.

    Example:
        >>> from ipckit import PosixMessageQueue, SysVMessageQueue
        >>> PosixMessageQueue.caps.pollable, SysVMessageQueue.caps.pollable
        (True, False)
    """

    pollable: bool
    timed: bool
    priorities: bool
    typed_receive: bool
    unlink_destroys_now: bool


class _Forks:
    """Counts forks, so that a handle knows that it is a copy in a forked child."""

    count: ClassVar[int] = 0

    @classmethod
    def happened(cls) -> None:
        cls.count += 1


at_fork("handles", after_in_child=_Forks.happened)
keep_own_token()


class Waiting(Protocol):
    """The calls of event loops that wait on a handle."""

    def wake(self) -> None:
        """Wake each call, so that it tries again. Any thread may call this."""


class Closable(metaclass=FactoryMade):
    """An object that has resources of this process until it is closed.

    The end of a ``with`` block closes it. An object that is deleted without `close` warns
    (ResourceWarning) and closes.
    """

    _awaiting: Waiting | None = None

    def __init__(self) -> None:
        self._born = _Forks.count
        # The last statement: `__del__` ignores an object without it. A subclass sets what
        # `_release` needs before it calls this constructor.
        self._closed = False

    @abstractmethod
    def _release(self) -> None:
        """Release the resources, such as a descriptor; must not raise."""

    def _failed(self) -> bool:
        """Return whether the constructor failed: the descriptor is closed, or not the object's."""
        held: Descriptor | None = getattr(self, "_descriptor", None)
        return held is not None and (held.closed or not held.owned)

    @property
    @abstractmethod
    def _target(self) -> str:
        """The kind and name of the system's object, for messages."""

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def close(self) -> None:
        """Release what this process has of it; idempotent, never raises."""
        if not self._closed:
            self._closed = True
            if self._awaiting is not None:
                self._awaiting.wake()
            self._release()

    def _check_open(self, op: str) -> None:
        if self._closed:
            raise closed_handle(op, self._target)

    def __enter__(self) -> Self:
        self._check_open("enter")
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_closed", True):
            return  # closed, or a constructor that failed
        try:
            # The copy in a forked child does not warn: the parent opened it.
            if self._born == _Forks.count and not self._failed():
                warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
        finally:
            self.close()


@public("ipckit")
class Handle(Closable):
    """The base of all handles: ownership, `with`, closing, unlinking, pickling.

    The end of a ``with`` block closes the handle, and unlinks the object if this handle owns it. A
    handle that is deleted without `close` warns (ResourceWarning) and closes; it never unlinks.

    Example:
        >>> from ipckit import SysVMessageQueue
        >>> with SysVMessageQueue.create() as queue:
        ...     queue.owner, queue.closed
        (True, False)
        >>> queue.closed
        True
    """

    caps: ClassVar[Capabilities]
    # The kind of object that `send_handle` names beside a descriptor. A class that sets it has a
    # `from_fd`; subclasses are passed as the same kind. "" if handles of the class can't be passed.
    _passed_as: ClassVar[str] = ""
    _passable: ClassVar[dict[str, type[Handle]]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "_passed_as" in cls.__dict__:
            Handle._passable[cls._passed_as] = cls

    @classmethod
    def _made_from_passed(cls, kind: str) -> type[Handle] | None:
        """The class of a handle that is received as this class, or None if `kind` is unknown.

        Args:
            kind: the sender's `_passed_as`.

        Raises:
            LayoutMismatch: handles of that kind are not of this class.
        """
        if kind not in Handle._passable:
            import_name(kind)  # defining the class adds it
        base = Handle._passable.get(kind)
        if base is None or issubclass(base, cls):
            return base
        if issubclass(cls, base):
            return cls
        message = f"expected {cls.__name__}, but received {kind}"
        raise LayoutMismatch(message, errno=errno.EBADMSG, op="receive_handle")

    def __init__(self, *, owner: bool) -> None:
        self._owned = owner
        Closable.__init__(self)

    @abstractmethod
    def _remove(self) -> None:
        """Remove the object from the system, or raise NotFound."""

    def _still_ours(self) -> bool:
        """Return whether the name still belongs to this object, and not to a later one."""
        return True

    @abstractmethod
    def _size_text(self) -> str:
        """The object's size, for `repr`; may raise IpcError."""

    @abstractmethod
    def _reopen_args(self) -> tuple[Any, ...]:
        """The arguments with which `_reopen` opens the same object in another process."""

    @classmethod
    @abstractmethod
    def _reopen(cls, *args: Any) -> Self:
        """Create a handle that does not own the object, from the values of `_reopen_args`."""

    @property
    def owner(self) -> bool:
        """Whether the end of a ``with`` block unlinks the object; false in a forked child."""
        return self._owned and self._born == _Forks.count

    def disown(self) -> Self:
        """Give up ownership: the end of a ``with`` block only closes.

        Returns:
            The handle itself.
        """
        self._owned = False
        return self

    def adopt(self) -> Self:
        """Take ownership: the end of a ``with`` block unlinks the object.

        Returns:
            The handle itself.
        """
        self._owned = True
        self._born = _Forks.count
        return self

    def close(self) -> None:
        """End this process's access to the object; idempotent, never raises.

        The object itself stays until a process unlinks it.
        """
        super().close()

    def unlink(self, missing_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - as pathlib has it
        """Remove the object from the system; works on a closed handle too.

        Args:
            missing_ok: do nothing if the object does not exist any more; False by default.

        Raises:
            NotFound: the object does not exist any more, or another object has its name now.
            AccessDenied: the caller is neither the object's owner nor its creator.
        """
        try:
            self._check_name()
            self._remove()
        except NotFound:
            self._owned = False
            if not missing_ok:
                raise
        self._owned = False

    def _check_name(self) -> None:
        """Raise NotFound if another object has the name of this one."""
        if not self._still_ours():
            message = "it was removed already, and another object has its name"
            raise NotFound(message, errno=errno.ENOENT, op="unlink", target=self._target)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self.owner and self._still_ours():
                self.unlink(missing_ok=True)
        finally:
            self.close()

    def __repr__(self) -> str:
        facts = [type(self).__name__]
        try:
            facts[0] += f" {one_line(self._target)}"
            facts += ["closed"] if self.closed else [self._size_text(), "open"]
            if self.owner:
                facts.append("owner")
        except Exception as exc:
            facts.append(type(exc).__name__)
        return f"<{', '.join(facts)}>"

    def __reduce__(self) -> tuple[Any, ...]:
        self._check_open("pickle")
        return (type(self)._reopen, self._reopen_args())  # noqa: SLF001 - its own


def closed_handle(op: str, target: str) -> ClosedHandle:
    """The error for a call on a closed handle."""
    return ClosedHandle("the handle is closed", errno=errno.EBADF, op=op, target=target)


def checked_mode(mode: int) -> int:
    """Check a permission mode.

    Raises:
        TypeError: it is not an int.
        InvalidArgument: it is not 0 to 0o777.
    """
    mode = int_argument("mode", mode, "an int such as 0o600")
    if not 0 <= mode <= _MODE_MAX:
        message = f"mode must be 0 to {_MODE_MAX:#o}, not {mode:#o}"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return mode
