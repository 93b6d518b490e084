"""Turn replies that are not a result into exceptions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from msgspec import DecodeError
from msgspec.msgpack import Decoder

from ipckit._rpc.names import target_of
from ipckit._rpc.wire import ERROR, corrupt
from ipckit.errors import RemoteError

if TYPE_CHECKING:
    from ipckit._channel.in_place import View

    # A short message, a long message, or the exception to raise.
    Reply: TypeAlias = bytes | View | BaseException

_DECODER: Final = Decoder(tuple[str, str, str])


class OtherReply(Exception):  # noqa: N818 - not an error
    """The reply to a call of `Link.exchange` is not a short result.

    Attributes:
        reply: the reply: a message, the exception to raise, or None if it came too late.
    """

    def __init__(self, reply: Reply | None) -> None:
        super().__init__()
        self.reply = reply


class StaleMethods(Exception):  # noqa: N818 - not an error
    """The methods of the service have changed, and the service did not run the call."""


def remote_error(service: str, method: str, kind: int, body: memoryview) -> Exception:
    """Return the exception for a reply, or an item of a stream, that is not a result.

    Args:
        service: the name of the service.
        method: the name of the method.
        kind: the first byte of the message.
        body: the body of the message.

    Returns:
        `RemoteError` for an exception of the method, or `Corrupt` for any other kind.
    """
    if kind != ERROR:
        return corrupt(service)
    try:
        type_name, text, trace = _DECODER.decode(body)
    except DecodeError:
        return corrupt(service)
    return RemoteError(type_name, text, trace, op=f"call {method}", target=target_of(service))
