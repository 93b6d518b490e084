"""PayloadType: the type of the messages of a bridge, which both sides compare."""

from __future__ import annotations

import errno
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import ipckit._native as native
from ipckit.codec import DescribedCodec
from ipckit.errors import LayoutMismatch

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX: Final = "ipckit."
_FORMAT: Final = "1"


@dataclass(frozen=True, slots=True)
class PayloadType:
    """A type of messages.

    Attributes:
        fingerprint: the number of the type in the headers of channels and topics.
        text: the type as text, for people.
        size: the size of each message in bytes; 0 if messages differ in size.
        byteorder: the byte order of the machine that writes the messages: "little" or "big".
    """

    fingerprint: int
    text: str
    size: int
    byteorder: str = sys.byteorder

    @property
    def codec(self) -> DescribedCodec:
        """A codec that creates and opens channels and topics of this type."""
        return DescribedCodec(self.fingerprint, self.text, self.size or None)

    def metadata(self) -> dict[str, str]:
        """Return the type as the metadata of a JetStream stream: names and values."""
        return {
            f"{_PREFIX}format": _FORMAT,
            f"{_PREFIX}fingerprint": f"{self.fingerprint:#018x}",
            f"{_PREFIX}type": self.text,
            f"{_PREFIX}size": str(self.size),
            f"{_PREFIX}byteorder": self.byteorder,
        }

    def check_byteorder(self, target: str) -> None:
        """Check that this machine can read the numbers in the messages.

        Raises:
            LayoutMismatch: the messages were written on a machine with another byte order.
        """
        if self.byteorder != sys.byteorder:
            message = f"the messages were written on a {self.byteorder}-endian machine, and this "
            message += f"machine is {sys.byteorder}-endian"
            raise LayoutMismatch(message, errno=errno.EBADMSG, op="bridge", target=target)

    def check_same(self, other: PayloadType, target: str) -> None:
        """Check that the messages on the other side have this type.

        Raises:
            LayoutMismatch: the messages have another type or another byte order.
        """
        if self.fingerprint != other.fingerprint:
            message = f"the messages there are {other.text}, and the messages here are {self.text}"
            if self.text == other.text:
                message += "; they look alike, but differ in size or in what the bytes mean"
            raise LayoutMismatch(message, errno=errno.EBADMSG, op="bridge", target=target)
        other.check_byteorder(target)


def type_of_object(fd: int, *, topic: bool) -> PayloadType:
    """Return the type of the messages of a channel or topic.

    Args:
        fd: the descriptor of the memory of the channel or topic.
        topic: True for a topic, False for a channel.
    """
    facts: dict[str, Any] = native.ring_look(fd, topic)
    return PayloadType(facts["fingerprint"], facts["type"], facts["item_size"])


def is_type(found: object) -> bool:
    """Return whether a decoded JSON value is the metadata of a type, of any version of ipckit."""
    if not isinstance(found, dict):
        return False
    names = cast("dict[object, object]", found)
    return f"{_PREFIX}format" in names and all(isinstance(each, str) for each in names.values())


def type_of_metadata(metadata: Mapping[str, str], target: str) -> PayloadType:
    """Return the type from the metadata of a stream.

    Args:
        metadata: the metadata.
        target: the name of the stream, for the message of the exception.

    Raises:
        LayoutMismatch: the stream was not made by a bridge, or by one of another version.
    """
    try:
        if metadata[f"{_PREFIX}format"] != _FORMAT:
            message = "the stream was made by a bridge of another version of ipckit"
            raise LayoutMismatch(message, errno=errno.EBADMSG, op="bridge", target=target)
        fingerprint = int(metadata[f"{_PREFIX}fingerprint"], 16)
        size = int(metadata[f"{_PREFIX}size"])
        text, order = metadata[f"{_PREFIX}type"], metadata[f"{_PREFIX}byteorder"]
        if (
            not 0 <= fingerprint < 1 << 64
            or not 0 <= size < 1 << 63
            or order not in {"little", "big"}
        ):
            raise ValueError(fingerprint, size, order)  # noqa: TRY301 - the error is below
        return PayloadType(fingerprint, text, size, order)
    except (KeyError, ValueError):
        message = "the stream exists, and was not made by a bridge of ipckit"
        hint = "use another name, or remove the stream"
        raise LayoutMismatch(
            message, errno=errno.EBADMSG, op="bridge", target=target, hint=hint
        ) from None
