"""Codec: the base of all codecs, and what several kinds of them share."""

from __future__ import annotations

import errno
import hashlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from ipckit._core.public import public
from ipckit.errors import LayoutMismatch

if TYPE_CHECKING:
    from typing_extensions import Buffer

T = TypeVar("T")


@public("ipckit.codec")
class Codec(ABC, Generic[T]):
    """Encodes values of one type as bytes, and decodes the bytes.

    Subclass it for a type of your own, and set the four attributes.

    Attributes:
        size: the bytes of each encoded value; None if values have different sizes.
        accepts: the class whose instances `encode` takes.
        fingerprint: a short text that is equal in two programs if they agree about the bytes.
        name: the payload type's name, for messages.

    Example:
        >>> from ipckit import Channel, Codec
        >>> class Celsius(Codec[float]):
        ...     size, accepts, fingerprint, name = 4, float, "celsius of 4 bytes", "celsius"
        ...     def encode(self, value: float) -> bytes:
        ...         return round(value * 1000).to_bytes(4, "little", signed=True)
        ...     def decode(self, data: bytes) -> float:
        ...         return int.from_bytes(data, "little", signed=True) / 1000
        >>> with Channel.create(type=Celsius()) as channel:
        ...     channel.send(-12.5)
        ...     channel.receive()
        -12.5
    """

    size: int | None
    accepts: type
    fingerprint: str
    name: str

    @abstractmethod
    def encode(self, value: T) -> Buffer:
        """Encode a value.

        Returns:
            An object with the buffer protocol, C-contiguous. It may share the value's memory. Its
            length is ``memoryview(result).nbytes``.

        Raises:
            TypeError: the value is not of this codec's type.
        """

    @abstractmethod
    def decode(self, data: bytes) -> T:
        """Decode bytes to a value, which shares no memory with them unless it is the bytes.

        Raises:
            LayoutMismatch: the bytes are not such a value; its ``raw`` is the bytes.
        """

    def _refuse(self, value: object) -> NoReturn:
        cls = type(value)
        given, wanted = cls.__name__, self.name
        if given == wanted:
            given = f"{cls.__module__}.{cls.__qualname__}"
            wanted = f"{self.accepts.__module__}.{self.accepts.__qualname__}"
        if given == wanted:
            given = f"another class of that name (expected the fingerprint {self.fingerprint})"
        message = f"the payload must be {wanted}, not {given}"
        raise TypeError(message)

    def _mismatch(self, data: bytes, why: str) -> LayoutMismatch:
        error = LayoutMismatch(f"expected {self.name}: {why}", errno=errno.EBADMSG)
        error.raw = bytes(data)
        return error


class TypeCodec(Codec[T]):
    """A codec of one class or dtype, which is also what its pickle contains."""

    def __init__(self, payload: Any) -> None:
        self._payload = payload

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self._payload,))


def digest(*parts: object) -> str:
    """Return a fingerprint of what describes a type."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
