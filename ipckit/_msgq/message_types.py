"""The payload types of a System V queue that carries several, by message type."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from ipckit._core.arguments import int_argument
from ipckit._msgq.message_form import form_of, own_mtype
from ipckit._payload.codecs import codec_for
from ipckit._payload.structs import is_same_class
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit._payload.codec import Codec
    from ipckit._payload.structs import Struct
    from ipckit._payload.types import AnyPayload, TypeMap

_TYPE_END: Final = 2**63


class MessageTypes:
    """The codecs of a queue's payload types, by message type.

    Args:
        types: the mapping that the queue was opened with.

    Attributes:
        decoders: what decodes the text of a message, by message type.
        typed: the message types that carry message structs, which begin with their type.
    """

    __slots__ = ("_codecs", "_exact", "_types", "decoders", "typed")

    def __init__(self, types: TypeMap[Any]) -> None:
        self._types = types
        self._codecs: dict[int, Codec[Any]] = {n: codec_for(each) for n, each in types.items()}
        self.decoders: dict[int, Callable[[bytes], Any]] = {}
        self._exact: dict[type, list[int]] = {}
        self.typed: set[int] = set()
        for number, codec in self._codecs.items():
            form = form_of(codec)
            self.decoders[number] = partial(form.decode, number) if form else codec.decode
            self._exact.setdefault(codec.accepts, []).append(number)
            if form and form.head:
                self.typed.add(number)

    def __str__(self) -> str:
        return ", ".join(f"{number}: {codec.name}" for number, codec in self._codecs.items())

    def codec_to_send(self, mtype: int, target: str) -> Codec[Any]:
        """Return the codec for a message that is about to be sent.

        Args:
            mtype: the message type.
            target: the queue, for the error.

        Raises:
            InvalidArgument: the queue has no such type.
        """
        codec = self._codecs.get(mtype)
        if codec is None:
            known = ", ".join(map(str, self._codecs))
            message = f"the queue has no message type {mtype!r}; it has {known}"
            raise InvalidArgument(message, errno=errno.EINVAL, op="msgsnd", target=target)
        return codec

    def number_for(self, value: object, target: str) -> int:
        """Return the message type to send a value under.

        Args:
            value: the payload. If it is a message struct, the type is its own.
            target: the queue, for the error.

        Raises:
            TypeError: no payload type accepts the value, or several do.
            InvalidArgument: a message struct has a type under which the queue has another payload.
        """
        # An exact match first: a subclass may be a payload type of its own.
        numbers = (
            self._exact.get(type(value))
            or self._again(type(value))
            or [n for n, codec in self._codecs.items() if isinstance(value, codec.accepts)]
        )
        if len(numbers) == 1 and numbers[0] not in self.typed:
            return numbers[0]
        if numbers and self.typed.issuperset(numbers):
            own = own_mtype(cast("Struct", value))
            if own not in numbers:
                name, known = type(value).__name__, ", ".join(map(str, numbers))
                message = f"{name}.mtype is {own}, but the queue has {name} as message type {known}"
                raise InvalidArgument(message, errno=errno.EINVAL, op="msgsnd", target=target)
            return own
        return self._only(numbers, f"a value of type {type(value).__name__}")

    def number_of(self, payload: type[Any]) -> int:
        """Return the message type of a payload class.

        Raises:
            TypeError: the class is not in the mapping, or is there under several types.
        """
        numbers = [number for number, each in self._types.items() if each is payload]
        return self._only(numbers or self._again(payload), payload.__name__)

    def _again(self, cls: type[Any]) -> list[int]:
        """Return the message types of a Struct class that was defined again since."""
        codecs = self._codecs.items()
        return [number for number, codec in codecs if is_same_class(codec.accepts, cls)]

    def _only(self, numbers: list[int], what: str) -> int:
        if len(numbers) == 1:
            return numbers[0]
        problem = "several message types accept" if numbers else "no message type accepts"
        message = f"{problem} {what}; the queue has {self}"
        raise TypeError(message)


def check_payload(payload: AnyPayload) -> None:
    """Check a payload type, or a mapping of them, before a queue is created or opened.

    Raises:
        TypeError: a payload type is invalid, or a message type is not an int.
        InvalidArgument: the mapping is empty, or a message type is out of range.
    """
    if not isinstance(payload, Mapping):
        codec_for(payload)
        return
    if not payload:
        message = "the mapping of message types is empty"
        raise InvalidArgument(message, errno=errno.EINVAL)
    for number, each in payload.items():
        if not 1 <= int_argument("a message type", number) < _TYPE_END:
            message = f"a message type must be 1 to {_TYPE_END - 1}, not {number}"
            raise InvalidArgument(message, errno=errno.EINVAL)
        codec_for(each)
