"""The memory of a channel: formatted by its creator, mapped and checked by each handle."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, Final

import ipckit._native as native
from ipckit._channel.type_text import fingerprint_of, text_of
from ipckit._shm.allocation import allocate
from ipckit._shm.mapping import READ_WRITE, SHARED, map_file, populate
from ipckit.errors import Corrupt, LayoutMismatch

if TYPE_CHECKING:
    from ipckit._channel.shape import Shape
    from ipckit._payload.codecs import Codec

_FULL: Final = (
    "in a container, /dev/shm often has 64 MB: use docker run --shm-size=1g, or an emptyDir of "
    "medium Memory in Kubernetes; Channel.anonymous does not use /dev/shm"
)
# Memory of up to this many bytes is populated by `open`, which saves page faults later. For more,
# populating takes too long, and the process may never use all of it.
_POPULATE_MAX: Final = 1 << 26


def format_memory(
    fd: int, shape: Shape, codec: Codec[Any], *, overwrite: bool, target: str
) -> None:
    """Allocate the memory of a new file and write the channel's header.

    Raises:
        LimitReached: there is not enough memory.
    """
    allocate(fd, shape.total, target, _FULL)
    mapping = map_file(fd, shape.total, READ_WRITE, SHARED, target)
    try:
        native.channel_format(
            mapping,
            shape,
            fingerprint_of(codec),
            int(overwrite),
            os.urandom(16),
            text_of(codec)
            .encode("utf-8", "replace")[: native.CHANNEL_TYPE_SIZE - 1]
            .decode("utf-8", "ignore"),
        )
    finally:
        mapping.close()


def map_channel(fd: int, codec: Codec[Any], target: str) -> native.Mapping:
    """Map a channel's memory, and check that it is a channel of this payload type.

    Raises:
        Corrupt: the file is not a channel, or is a channel of another version.
        LayoutMismatch: the messages are of another type; the error shows both types.
    """
    size = os.fstat(fd).st_size
    if size < native.CHANNEL_ARENA_START:
        message = f"the file is not a channel: it has only {size:,} bytes"
        raise Corrupt(message, errno=errno.EUCLEAN, op="open", target=target)
    mapping = map_file(fd, size, READ_WRITE, SHARED, target)
    try:
        _check_type(mapping, codec, target)
        if size <= _POPULATE_MAX:
            populate(mapping)
    except BaseException:
        mapping.close()
        raise
    return mapping


def _check_type(mapping: native.Mapping, codec: Codec[Any], target: str) -> None:
    found, text = native.channel_type(mapping)
    if found is None:
        message = "the file is not a channel, or is a channel of another version"
        raise Corrupt(message, errno=errno.EUCLEAN, op="open", target=target)
    if found == fingerprint_of(codec):
        return
    wanted = text_of(codec)
    message = f"the channel's messages are {text}, and this handle expects {wanted}"
    if text == wanted[: len(text)]:
        message += "; they look alike, but differ in size or in what the bytes mean"
    raise LayoutMismatch(message, errno=errno.EBADMSG, op="open", target=target)
