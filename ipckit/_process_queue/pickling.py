"""Objects of any kind as the messages of a ProcessQueue: pickled, with their buffers beside.

A message is a pickle, which begins with the byte 0x80; or a frame, which begins with another:
a head, the pickle's bytes and the buffers', each beginning at a multiple of 64.
"""

from __future__ import annotations

import copyreg
import errno
import pickle
import struct
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from ipckit._native import Chunks
from ipckit.errors import Corrupt

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    Parts = list[Buffer]

PICKLE: Final = b"\x80"  # the opcode that a pickle of protocol 2 or later begins with
FRAME: Final = b"\x01ipckitQ"
_PROTOCOL: Final = 5
_COUNT: Final = struct.Struct("=8sQ")
_ALIGN: Final = 64
# Copying a small buffer into the pickle costs less than telling of it apart.
_APART: Final = 16384
PLAIN: Final = frozenset({bytes, str, int, float, bool, type(None)})


# How to reduce what pickle alone can't send to another process, such as a socket.
_EXTRA: Final[dict[type[Any], Any]] = cast("Any", ForkingPickler)._extra_reducers  # noqa: SLF001


_TABLE: Final = copyreg.dispatch_table


class _Encoder(NamedTuple):
    """A pickler, kept because making one costs more than most objects take."""

    dump: Callable[[Any], None]
    forget: Callable[[], None]  # what it pickled; it would refer to that again
    take: Callable[[], bytes]  # what it wrote
    apart: Parts
    extra: dict[type[Any], Any]  # the reducers that it has: copies of _EXTRA and _TABLE
    table: dict[type[Any], Any]


def _encoder() -> _Encoder:
    chunks, apart = Chunks(), cast("Parts", [])
    extra, table = dict(_EXTRA), dict(_TABLE)

    def keep(buffer: pickle.PickleBuffer) -> bool:
        """Whether the buffer goes into the pickle."""
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous
            return True
        if raw.nbytes < _APART:
            return True
        apart.append(raw)
        return False

    pickler = pickle.Pickler(cast("Any", chunks), _PROTOCOL, buffer_callback=cast("Any", keep))
    pickler.dispatch_table = {**table, **extra}
    return _Encoder(pickler.dump, pickler.clear_memo, chunks.take, apart, extra, table)


_ENCODERS: Final[list[_Encoder]] = []  # that no thread uses just now


def encode(value: Any) -> bytes | Parts:
    """An object as a message: a pickle, or the parts of a frame.

    Raises:
        Exception: whatever pickling it raises.
    """
    try:
        encoder = _ENCODERS.pop()
    except IndexError:
        encoder = _encoder()
    dump, forget, take, apart, extra, table = encoder
    if extra != _EXTRA or table != _TABLE:  # a reducer was registered or replaced since
        encoder = dump, forget, take, apart, _, _ = _encoder()
    dump(value)  # an encoder that failed is not used again
    forget()
    text = take()
    if not apart:
        _ENCODERS.append(encoder)
        return text
    parts = [text, *apart]
    apart.clear()
    _ENCODERS.append(encoder)
    return _framed(parts)


def _framed(parts: Parts) -> Parts:
    sizes = [memoryview(each).nbytes for each in parts]
    head = _COUNT.pack(FRAME, len(parts)) + struct.pack(f"={len(parts)}Q", *sizes)
    framed: Parts = [head]
    before = len(head)
    for part, size in zip(parts, sizes, strict=True):
        framed += [bytes(-before % _ALIGN), part]
        before = size
    return framed


def decode(memory: Buffer, own: Callable[[memoryview], Buffer] | None) -> Any:
    """The object in a message.

    Args:
        memory: the message.
        own: makes a buffer the object's own; None where the memory is its own already.

    Raises:
        Corrupt: it is no message of a ProcessQueue.
        Exception: whatever unpickling it raises.
    """
    view = memoryview(memory)
    if bytes(view[:1]) == PICKLE:
        return pickle.loads(view)  # noqa: S301 - the class says whom to trust
    return _decode_frame(view, own)


def _decode_frame(memory: memoryview, own: Callable[[memoryview], Buffer] | None) -> Any:
    try:
        magic, count = _COUNT.unpack_from(memory)
        sane = magic == FRAME and 0 < count <= memory.nbytes // 8
        sizes = struct.unpack_from(f"={count if sane else 0}Q", memory, _COUNT.size)
    except struct.error:
        sane, sizes = False, ()
    if not sane:
        message = "a message that no ProcessQueue sends"
        raise Corrupt(message, errno=errno.EUCLEAN, op="get")
    at = _COUNT.size + 8 * len(sizes)
    parts: list[memoryview] = []
    for size in sizes:
        at += -at % _ALIGN
        parts.append(memory[at : at + size])
        at += size
    text, *apart = parts
    buffers = apart if own is None else [own(each) for each in apart]
    return pickle.loads(text, buffers=buffers)  # noqa: S301 - the class says whom to trust
