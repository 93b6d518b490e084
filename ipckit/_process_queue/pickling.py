"""The messages of a ProcessQueue: pickled objects, with large buffers outside the pickle.

A message is a pickle or a frame. A pickle begins with the byte 0x80. A frame is a head, a pickle
and the object's large buffers; each begins at a multiple of 64 bytes. The head is `FRAME`, the
number of the other parts, and their sizes. See "Out-of-band buffers" in Python's documentation of
pickle.

A large message is encoded as a list of parts, which are copied into shared memory one after the
other. Large bytes are a part of their own, so they are copied once.
"""

from __future__ import annotations

import copyreg
import errno
import pickle
import struct
from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from ipckit._native import Chunks, copy_bytes
from ipckit.errors import Corrupt

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    Parts = list[Buffer]

PICKLE: Final = b"\x80"  # the opcode that a pickle of protocol 2 or later begins with
FRAME: Final = b"\x01ipckitQ"
_PROTOCOL: Final = 5
_HEAD: Final = struct.Struct("=8sQ")  # FRAME, and the number of parts
_ALIGN: Final = 64
# A smaller buffer is copied into the pickle, which costs less than a part of its own.
_OUT_OF_BAND_BYTES: Final = 16384
PLAIN: Final[frozenset[type[Any]]] = frozenset({bytes, str, int, float, bool, type(None)})
SIZED: Final[frozenset[type[Any]]] = frozenset({bytes, str})
LARGE: Final = 65536  # from this size on, a pickler writes bytes without copying them

# The reducers of multiprocessing, for objects that pickle alone can't send to another process, such
# as sockets, and the reducers that copyreg registered. Both can change at any time.
_EXTRA: Final[dict[type[Any], Any]] = cast("Any", ForkingPickler)._extra_reducers  # noqa: SLF001
_TABLE: Final = copyreg.dispatch_table


class _Encoder(NamedTuple):
    """A pickler to be reused: creating one takes longer than pickling most objects."""

    dump: Callable[[Any], None]  # pickles an object
    forget: Callable[[], None]  # clears the memo; otherwise the next pickle refers to this one
    take: Callable[[], bytes | list[bytes]]  # returns the pickle
    buffers: Parts  # the buffers outside the pickle
    extra: dict[type[Any], Any]  # the pickler's copies of _EXTRA and _TABLE
    table: dict[type[Any], Any]


def _new_encoder() -> _Encoder:
    chunks, buffers = Chunks(), cast("Parts", [])
    extra, table = dict(_EXTRA), dict(_TABLE)

    def keep(buffer: pickle.PickleBuffer) -> bool:
        """Return whether to copy a buffer into the pickle."""
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous
            return True
        if raw.nbytes < _OUT_OF_BAND_BYTES:
            return True
        buffers.append(raw)
        return False

    pickler = pickle.Pickler(cast("Any", chunks), _PROTOCOL, buffer_callback=cast("Any", keep))
    pickler.dispatch_table = {**table, **extra}
    return _Encoder(pickler.dump, pickler.clear_memo, chunks.take, buffers, extra, table)


_ENCODERS: Final[list[_Encoder]] = []  # those that no thread is using


def encode(value: Any) -> bytes | Parts:
    """Return the message for an object: a pickle, or the parts of a large one.

    Raises:
        Exception: any exception of pickling the object.
    """
    try:
        encoder = _ENCODERS.pop()
    except IndexError:
        encoder = _new_encoder()
    dump, forget, take, buffers, extra, table = encoder
    if extra != _EXTRA or table != _TABLE:  # a reducer was registered or replaced since
        encoder = dump, forget, take, buffers, _, _ = _new_encoder()
    dump(value)  # if it raises, the encoder is dropped
    forget()
    pickled = take()
    if not buffers:
        _ENCODERS.append(encoder)
        return cast("bytes | Parts", pickled)
    parts = [pickled if isinstance(pickled, bytes) else b"".join(pickled), *buffers]
    buffers.clear()
    _ENCODERS.append(encoder)
    return _framed(parts)


def _framed(parts: Parts) -> Parts:
    """Return the parts of a frame: the head, then each part after its padding."""
    sizes = [memoryview(each).nbytes for each in parts]
    head = _HEAD.pack(FRAME, len(parts)) + struct.pack(f"={len(parts)}Q", *sizes)
    framed: Parts = [head]
    before = len(head)
    for part, size in zip(parts, sizes, strict=True):
        framed += [bytes(-before % _ALIGN), part]
        before = size
    return framed


def decode(memory: Buffer) -> Any:
    """Return the object in a message. It does not use the message's memory.

    Raises:
        Corrupt: it is not a message of a ProcessQueue.
        Exception: any exception of unpickling the object.
    """
    view = memoryview(memory)
    if bytes(view[:1]) == PICKLE:
        return pickle.loads(view)  # noqa: S301 - ProcessQueue says whom to trust
    return _decode_frame(view)


def _decode_frame(memory: memoryview) -> Any:
    try:
        magic, count = _HEAD.unpack_from(memory)
        valid = magic == FRAME and 0 < count <= memory.nbytes // 8
        sizes = struct.unpack_from(f"={count if valid else 0}Q", memory, _HEAD.size)
    except struct.error:
        valid, sizes = False, ()
    if not valid:
        message = "the queue's memory was overwritten: a message is not one of a ProcessQueue"
        raise Corrupt(message, errno=errno.EUCLEAN, op="get")
    at = _HEAD.size + 8 * len(sizes)
    parts: list[memoryview] = []
    for size in sizes:
        at += -at % _ALIGN
        parts.append(memory[at : at + size])
        at += size
    pickled, *found = parts
    buffers = [copy_bytes(each) for each in found]
    return pickle.loads(pickled, buffers=buffers)  # noqa: S301 - ProcessQueue says whom to trust
