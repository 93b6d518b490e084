"""Structs as System V messages: which Struct is a message struct, and how each is decoded."""

from __future__ import annotations

import errno
import sys
from struct import calcsize
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ipckit._core.arguments import int_argument
from ipckit._core.public import public
from ipckit._native import MessageForm
from ipckit._payload.codecs import StructCodec
from ipckit._payload.structs import StructType
from ipckit.errors import InvalidArgument, LayoutMismatch

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ipckit._native import Message
    from ipckit._payload.codec import Codec
    from ipckit._payload.structs import Struct

StructT = TypeVar("StructT", bound="Struct")

_LONG_SIZE: Final = calcsize("l")
# How CType.canonical writes C's long in the byte order of this machine.
_LONG: Final = f"{'<' if sys.byteorder == 'little' else '>'}i{_LONG_SIZE}"


def is_message_struct(cls: type[Struct]) -> bool:
    """Return whether a Struct begins with the message type, as C's ``struct msgbuf`` does.

    Its first field is ``mtype``, a native ``long``, and no other field shares the bytes.
    """
    entries = cls.__plan__.entries
    return bool(entries) and (
        (entries[0].name, entries[0].bit) == ("mtype", 0)
        and entries[0].ctype.canonical(swap=entries[0].swap) == _LONG
        and all(entry.bit >= 8 * _LONG_SIZE for entry in entries[1:])
    )


def form_of(codec: Codec[Any]) -> MessageForm | None:
    """Return how a codec's structs are sent as messages; None if it is not a Struct's codec."""
    return _form_of_class(codec.accepts) if isinstance(codec, StructCodec) else None


def _form_of_class(cls: type[Struct]) -> MessageForm:
    return MessageForm(cls, is_message_struct(cls), cls.__plan__.end)


def own_mtype(record: Buffer) -> int:
    """Return the message type with which the bytes of a message struct begin."""
    return int.from_bytes(memoryview(record)[:_LONG_SIZE], sys.byteorder, signed=True)


def text_size(data: Buffer, mtype: int | None) -> int:
    """Return the bytes of a message's text.

    Args:
        data: what msgsnd was given.
        mtype: the message type; None if `data` begins with it.
    """
    return memoryview(data).nbytes - (_LONG_SIZE if mtype is None else 0)


def check_mtype(record: Buffer, mtype: int, target: str) -> None:
    """Check the message type that the caller gave beside a message struct.

    Args:
        record: the message struct.
        mtype: the caller's argument.
        target: the queue, for the error.

    Raises:
        InvalidArgument: it is not the struct's own.
        TypeError: it is not an int.
    """
    own = own_mtype(record)
    if int_argument("mtype", mtype) == own:
        return
    name = type(record).__name__
    raise InvalidArgument(
        f"the argument mtype is {mtype}, but {name}.mtype is {own}",
        errno=errno.EINVAL,
        op="msgsnd",
        target=target,
        hint="a struct that begins with mtype is sent under that type; leave the argument out",
    )


@public("ipckit.msgq")
def decode_message(message: Message[bytes], type: type[StructT]) -> StructT:
    """Decode a message of a System V queue of bytes as `SysVMessageQueue.receive` decodes structs.

    Args:
        message: a message that a queue of bytes returned.
        type: the Struct class. If it begins with ``mtype``, that field gets the message's type.

    Returns:
        An instance of the class, with its own memory.

    Raises:
        LayoutMismatch: the bytes do not fit the class; ``.raw`` has them.
        TypeError: `type` is not a Struct class with fields.

    Example:
        >>> from ipckit import Int, Long, Struct, SysVMessageQueue
        >>> from ipckit.msgq import decode_message
        >>> class Rep(Struct):
        ...     mtype: Long
        ...     sum: Int
        >>> with SysVMessageQueue.create() as queue:
        ...     queue.send(bytes(4), 7)
        ...     decode_message(queue.receive(), Rep)
        Rep(mtype=7, sum=0)

    See msgop(2).
    """
    if not isinstance(type, StructType):
        wrong = f"type must be a Struct class, not {type!r}"
        raise TypeError(wrong)
    form = _form_of_class(StructCodec(type).accepts)
    try:
        value: StructT = form.decode(message.mtype, message.value)
    except LayoutMismatch as exc:
        exc.mtype = message.mtype
        raise
    return value
