"""Methods: the methods of a service, and their description for clients."""

from __future__ import annotations

import errno
import zlib
from typing import TYPE_CHECKING, Any

from msgspec.msgpack import encode

from ipckit._rpc.description import TypeTable
from ipckit._rpc.method import Method, checked_codec
from ipckit._rpc.wire import DESCRIBE, VERSION
from ipckit.errors import AlreadyExists, InvalidArgument, LimitReached

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


class Methods:
    """The methods of a service.

    Attributes:
        by_number: the methods, by their number in calls.
        revision: a checksum of the methods, by which a client notices that they have changed.
    """

    def __init__(self) -> None:
        self.by_number: list[Method] = []
        self.revision = 0
        self._table = TypeTable()
        self._description = b""

    def add(
        self,
        function: Callable[..., Any],
        name: str | None,
        codec: Any,
        *,
        in_place: bool,
        frame: FrameType,
    ) -> None:
        """Add a method.

        Args:
            function: the function.
            name: the name by which clients call it; None for the function's own name.
            codec: the argument ``codec`` of `Service.method`.
            in_place: whether arrays among the arguments use shared memory, read-only.
            frame: the frame that registers the function, for local names in its annotations.

        Raises:
            TypeError: a type can't be carried, or an annotation is missing.
            AlreadyExists: the service has a method of that name.
            InvalidArgument: the function has no name, and `name` is None or empty.
            LimitReached: the service has 65,535 methods.
        """
        if not callable(function):
            message = f"a method must be a function, not {type(function).__name__}"
            raise TypeError(message)
        wanted = getattr(function, "__name__", "") if name is None else name
        if not isinstance(wanted, str):
            message = f"name must be a str, not {type(wanted).__name__}"
            raise TypeError(message)
        if not wanted:
            message = "the method needs a name: pass name="
            raise InvalidArgument(message, errno=errno.EINVAL, op="method")
        if any(each.name == wanted for each in self.by_number):
            message = f"the service has a method {wanted!r} already"
            raise AlreadyExists(message, errno=errno.EEXIST, op="method")
        if len(self.by_number) == DESCRIBE:
            message = f"a service can have {DESCRIBE:,} methods"
            raise LimitReached(message, errno=errno.ENOSPC, op="method")
        method = Method(
            function,
            wanted,
            checked_codec(codec),
            in_place=in_place,
            table=self._table,
            frame=frame,
        )
        methods = [*self.by_number, method]
        contents = encode([self._table.definitions, [each.description for each in methods]])
        revision = zlib.crc32(contents)
        description = encode(
            [VERSION, revision, self._table.definitions, [each.description for each in methods]]
        )
        # A server in another thread reads the revision before the method.
        self.by_number, self._description = methods, description
        self.revision = revision

    def description(self) -> bytes:
        """Return the reply to a client that asks for the methods."""
        return self._description or encode([VERSION, 0, {}, []])
