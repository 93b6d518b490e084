"""The memory of a channel or topic: formatted by its creator, mapped and checked by each handle."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import ipckit._native as native
from ipckit._channel.type_text import fingerprint_of, text_of
from ipckit._payload.codecs import RawCodec
from ipckit._shm.allocation import allocate
from ipckit._shm.mapping import READ_WRITE, SHARED, map_file, populate
from ipckit.errors import Corrupt, LayoutMismatch

if TYPE_CHECKING:
    from ipckit._channel.kind import Kind
    from ipckit._channel.shape import Shape
    from ipckit._payload.codec import Codec

_FULL: Final = (
    "in a container, /dev/shm often has 64 MB: use docker run --shm-size=1g, or an emptyDir of "
    "medium Memory in Kubernetes; {}.anonymous does not use /dev/shm"
)
# Memory of up to this many bytes is populated by `open`, which saves page faults later. For more,
# populating takes too long, and the process may never use all of it.
_POPULATE_MAX: Final = 1 << 26


class NewMemory(NamedTuple):
    """The memory of a channel or topic that is created.

    Attributes:
        kind: whether it is a channel or a topic.
        shape: the shape of the memory.
        codec: the type of the messages.
        option: the flags of a channel; the history of a topic.
    """

    kind: Kind
    shape: Shape
    codec: Codec[Any]
    option: int


def format_memory(fd: int, new: NewMemory, target: str) -> None:
    """Allocate the memory of a new file and write its header.

    Raises:
        LimitReached: there is not enough memory.
    """
    kind, shape, codec, option = new
    allocate(fd, shape.total, target, _FULL.format(kind.class_name))
    mapping = map_file(fd, shape.total, READ_WRITE, SHARED, target)
    try:
        kind.format(
            mapping,
            shape,
            fingerprint_of(codec),
            option,
            os.urandom(16),
            text_of(codec)
            .encode("utf-8", "replace")[: native.CHANNEL_TYPE_SIZE - 1]
            .decode("utf-8", "ignore"),
        )
    finally:
        mapping.close()


def map_memory(kind: Kind, fd: int, codec: Codec[Any], target: str) -> native.Mapping:
    """Map the memory of an object, and check that it is of this kind and payload type.

    Raises:
        Corrupt: the file is not of this kind, or of another version.
        LayoutMismatch: the messages are of another type; the error shows both types.
    """
    size = os.fstat(fd).st_size
    if size < kind.smallest:
        message = f"the file is not a {kind.word}: it has only {size:,} bytes"
        raise Corrupt(message, errno=errno.EUCLEAN, op="open", target=target)
    mapping = map_file(fd, size, READ_WRITE, SHARED, target)
    try:
        _check_type(kind, mapping, codec, target)
        if size <= _POPULATE_MAX:
            populate(mapping)
    except BaseException:
        mapping.close()
        raise
    return mapping


def _check_type(kind: Kind, mapping: native.Mapping, codec: Codec[Any], target: str) -> None:
    found, text = kind.type_of(mapping)
    if found is None:
        message = f"the file is not a {kind.word}, or is a {kind.word} of another version"
        raise Corrupt(message, errno=errno.EUCLEAN, op="open", target=target)
    if found == fingerprint_of(codec) or isinstance(codec, RawCodec):
        return
    wanted = text_of(codec)
    message = f"the {kind.word}'s messages are {text}, and this handle expects {wanted}"
    if text == wanted[: len(text)]:
        message += "; they look alike, but differ in size or in what the bytes mean"
    raise LayoutMismatch(message, errno=errno.EBADMSG, op="open", target=target)
