"""What System V and POSIX message queues share: typed payloads, draining, iterating."""

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
    from collections.abc import Iterator

    from ipckit._payload.codecs import Codec
    from ipckit._payload.types import AnyPayload


class MessageQueue(Handle, Generic[T]):
    """A message queue with a payload type: what both kinds of queue have in common."""

    def __init__(self, payload: AnyPayload, *, owner: bool) -> None:
        super().__init__(owner=owner)
        self._payload = payload
        # Bytes and structs go to the kernel and come from it as they are, without a codec's call.
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
        """Take one message."""

    @abstractmethod
    def __len__(self) -> int: ...

    def __bool__(self) -> bool:
        # A queue is something even when it is empty.
        return True

    def drain(self) -> list[native.Message[T]]:
        """Take all the messages that wait now, without waiting for more.

        Returns:
            The messages in the order in which `receive` would have given them; at most as many
            as waited when the call began, so that a busy sender can't keep it going.

        Raises:
            LayoutMismatch: a message could not be decoded; ``.raw`` has its bytes, and
                ``.received`` the messages that were taken before it.
            Removed: the queue was removed before a message was taken.
            IpcError: as `receive`.
        """
        taken: list[native.Message[T]] = []
        try:
            for _ in range(len(self)):
                taken.append(self.receive(timeout=0))  # noqa: PERF401 - keeps what came before an error
        except (WouldBlock, Removed) as exc:
            if not taken and isinstance(exc, Removed):
                raise
        except BaseException as exc:
            if taken or isinstance(exc, LayoutMismatch):
                _keep(exc, "received", tuple(taken))
            raise
        return taken

    def __iter__(self) -> Iterator[native.Message[T]]:
        """Take message after message, waiting for each, until the queue is removed."""
        while True:
            try:
                message = self.receive()
            except Removed:
                return
            yield message

    def _decode(self, raw: native.Message[bytes], codec: Codec[T]) -> native.Message[T]:
        try:
            value = codec.decode(raw.value)
        except Exception as exc:  # a codec may fail in its own way; the bytes must not be lost
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
            hint="the message is taken; its bytes are in this exception's .raw",
        )
        error.raw, error.mtype, error.priority = raw.value, raw.mtype, raw.priority
        raise error from exc


def _keep(exc: BaseException, name: str, value: object) -> None:
    """Give an exception what was taken, unless its class refuses attributes."""
    with suppress(Exception):
        setattr(exc, name, value)
