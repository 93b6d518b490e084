"""The base of System V and POSIX message queues: typed payloads, draining, iterating."""

from __future__ import annotations

import errno
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, NoReturn

import ipckit._native as native
from ipckit._core.handle import Handle
from ipckit._payload.codecs import codec_for
from ipckit._payload.structs import Struct
from ipckit._payload.types import T
from ipckit.errors import IpcError, LayoutMismatch, Removed, WouldBlock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit._payload.codec import Codec
    from ipckit._payload.types import AnyPayload


class MessageQueue(Handle, Generic[T]):
    """A message queue with a payload type: the part that both kinds of queue share."""

    def __init__(self, payload: AnyPayload, *, owner: bool) -> None:
        super().__init__(owner=owner)
        self._payload = payload
        # The native calls send and receive bytes and structs directly, without a codec.
        self._record: type[Struct] | None = None
        if isinstance(payload, type) and issubclass(payload, Struct):
            self._record = payload
        self._direct: type[Any] | None = bytes if payload is bytes else self._record
        if isinstance(payload, Mapping):
            self._codec: Codec[Any] | None = None
        else:
            self._codec = codec_for(payload)

    @abstractmethod
    def receive(self, *, timeout: float | None = None) -> native.Message[T]:
        """Receive one message."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of messages in the queue."""

    def __bool__(self) -> bool:
        # Without this, `if queue:` would be false for an empty queue, because of `__len__`.
        return True

    def drain(self) -> list[native.Message[T]]:
        """Receive all messages that are in the queue now, without waiting for more.

        Returns:
            The messages in the order in which `receive` returns them. At most as many as the
            queue contained when the call began, so a busy sender cannot prolong the call.

        Raises:
            LayoutMismatch: a message could not be decoded. ``.raw`` has its bytes, and
                ``.received`` the messages before it.
            Removed: the queue was removed before the first message.
            IpcError: as `receive`.

        Example:
            >>> with SysVMessageQueue.create(type=str) as queue:
            ...     for word in ("a", "b"):
            ...         queue.send(word)
            ...     [message.value for message in queue.drain()]
            ['a', 'b']
        """
        taken: list[native.Message[T]] = []
        try:
            for _ in range(len(self)):
                taken.append(self.receive(timeout=0))  # noqa: PERF401 - keeps the messages before an error
        except (WouldBlock, Removed) as exc:
            if not taken and isinstance(exc, Removed):
                raise
        except BaseException as exc:
            if taken or isinstance(exc, LayoutMismatch):
                _keep(exc, "received", tuple(taken))
            raise
        return taken

    def __iter__(self) -> Iterator[native.Message[T]]:
        """Receive message after message, waiting for each, until the queue is removed."""
        while True:
            try:
                message = self.receive()
            except Removed:
                return
            yield message

    def _decode(
        self, raw: native.Message[bytes], decode: Callable[[bytes], T]
    ) -> native.Message[T]:
        """Decode a message that has left the queue; any exception has its bytes in ``.raw``."""
        try:
            value = decode(raw.value)
        except Exception as exc:  # a codec may raise anything; the bytes must not be lost
            if isinstance(exc, MemoryError):
                _keep(exc, "raw", raw.value)
                raise
            self._mismatch(raw, exc)
        except BaseException as exc:
            _keep(exc, "raw", raw.value)
            raise
        return native.message(value, raw.mtype, raw.priority, raw.truncated)

    def _mismatch(self, raw: native.Message[bytes], exc: Exception) -> NoReturn:
        detail = exc.strerror if isinstance(exc, IpcError) else f"{type(exc).__name__}: {exc}"
        error = LayoutMismatch(
            str(detail),
            errno=errno.EBADMSG,
            op="receive",
            target=self._target,
            hint="the message has left the queue; its bytes are in the exception's attribute raw",
        )
        error.raw, error.mtype, error.priority = raw.value, raw.mtype, raw.priority
        raise error from exc


def _keep(exc: BaseException, name: str, value: object) -> None:
    """Attach a value to an exception, unless its class refuses attributes."""
    with suppress(Exception):
        setattr(exc, name, value)
