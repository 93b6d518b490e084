"""Handle: one lifecycle for every kind of object.

A handle is this process's hold on an object that the system keeps. `close`
lets go of the hold; `unlink` makes the system let go of the object.
"""

from __future__ import annotations

import errno
import warnings
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from ipckit._core.arguments import int_argument
from ipckit._core.construct import FactoryMade
from ipckit._core.forks import at_fork
from ipckit._core.public import public
from ipckit.errors import ClosedHandle, InvalidArgument, LayoutMismatch, NotFound, one_line

if TYPE_CHECKING:
    from types import TracebackType

    from ipckit._core.descriptors import Descriptor

_MODE_MAX = 0o777


@public("ipckit")
@dataclass(frozen=True, slots=True)
class Capabilities:
    """What one kind of object can do, where the kinds differ.

    Attributes:
        pollable: it has a descriptor that select, poll and epoll can wait on.
        timed: the kernel itself waits with a deadline; where not, ipckit polls.
        priorities: messages carry a priority and the highest leaves first.
        typed_receive: the receiver chooses by message type.
        unlink_destroys_now: `unlink` destroys the object under those who use it;
            where not, it lives on until the last of them closes it.
    """

    pollable: bool
    timed: bool
    priorities: bool
    typed_receive: bool
    unlink_destroys_now: bool


class _Forks:
    """How often this process came out of a fork, so that copies know that they are copies."""

    count: ClassVar[int] = 0

    @classmethod
    def happened(cls) -> None:
        cls.count += 1


at_fork("handles", after_in_child=_Forks.happened)


class Waiting(Protocol):
    """The calls that wait for a handle in event loops."""

    def wake(self) -> None:
        """Have them look again; from any thread."""


@public("ipckit")
class Handle(metaclass=FactoryMade):
    """What all handles share: ownership, `with`, closing, unlinking, pickling.

    Leaving a ``with`` block closes the handle, and unlinks the object if and
    only if this handle owns it. A handle that is dropped without `close` warns
    (ResourceWarning) and closes; it never unlinks.
    """

    caps: ClassVar[Capabilities]
    # The kind of object that `send_handle` names beside a descriptor. A class that sets it has a
    # `from_fd`; subclasses are passed as the same kind. "" if handles of the class can't be passed.
    _passed_as: ClassVar[str] = ""
    _passable: ClassVar[dict[str, type[Handle]]] = {}
    _awaiting: Waiting | None = None

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
        base = Handle._passable.get(kind)
        if base is None or issubclass(base, cls):
            return base
        if issubclass(cls, base):
            return cls
        message = f"a {kind} came where {cls.__name__} was expected"
        raise LayoutMismatch(message, errno=errno.EBADMSG, op="receive_handle")

    def __init__(self, *, owner: bool) -> None:
        self._owned = owner
        self._born = _Forks.count
        # Last: `__del__` leaves alone what has not come so far. What `_release` needs, a subclass
        # sets before it calls this.
        self._closed = False

    @abstractmethod
    def _release(self) -> None:
        """Let go of what this process holds; must not raise."""

    @abstractmethod
    def _remove(self) -> None:
        """Remove the object from the system, or raise NotFound."""

    def _failed(self) -> bool:
        """Whether making the handle failed: its descriptor is closed, or the caller's again."""
        held: Descriptor | None = getattr(self, "_descriptor", None)
        return held is not None and (held.closed or not held.owned)

    def _still_ours(self) -> bool:
        """Whether the name still leads to this object, and not to a later one."""
        return True

    @property
    @abstractmethod
    def _target(self) -> str:
        """The object's kind and name, for messages."""

    @abstractmethod
    def _size_text(self) -> str:
        """The object's size, for `repr`; may raise IpcError."""

    @abstractmethod
    def _reopen_args(self) -> tuple[Any, ...]:
        """What `_reopen` takes in another process to reach the same object."""

    @classmethod
    @abstractmethod
    def _reopen(cls, *args: Any) -> Self:
        """A non-owning handle from what `_reopen_args` gave."""

    @property
    def closed(self) -> bool:
        """Whether this handle was closed."""
        return self._closed

    @property
    def owner(self) -> bool:
        """Whether leaving ``with`` unlinks the object; never true in a forked child's copy."""
        return self._owned and self._born == _Forks.count

    def disown(self) -> Self:
        """Give up ownership: leaving ``with`` will only close."""
        self._owned = False
        return self

    def adopt(self) -> Self:
        """Take ownership: leaving ``with`` will unlink the object."""
        self._owned = True
        self._born = _Forks.count
        return self

    def close(self) -> None:
        """Let go of the object in this process; idempotent, never raises.

        The object itself stays until somebody unlinks it.
        """
        if not self._closed:
            self._closed = True
            if self._awaiting is not None:
                self._awaiting.wake()
            self._release()

    def unlink(self, missing_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - as pathlib has it
        """Remove the object from the system; works on a closed handle too.

        Args:
            missing_ok: say nothing where it is gone already.

        Raises:
            NotFound: it is gone already, also if another object has its name by now.
            AccessDenied: the caller is not its owner or creator.
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
            message = "it is gone already, and another object has its name"
            raise NotFound(message, errno=errno.ENOENT, op="unlink", target=self._target)

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
        try:
            if self.owner and self._still_ours():
                self.unlink(missing_ok=True)
        finally:
            self.close()

    def __del__(self) -> None:
        if getattr(self, "_closed", True):
            return  # closed, or a constructor that failed
        try:
            # A copy that a fork made was opened by the parent, whose mistake this is not.
            if self._born == _Forks.count and not self._failed():
                warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
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
    """A permission mode, or the error for one out of range.

    Raises:
        TypeError: not an integer.
        InvalidArgument: not within 0 to 0o777.
    """
    mode = int_argument("mode", mode, "an int such as 0o600")
    if not 0 <= mode <= _MODE_MAX:
        message = f"mode is {mode:#o}; it takes 0 to {_MODE_MAX:#o}"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return mode
