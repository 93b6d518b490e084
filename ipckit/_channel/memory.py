"""A channel's memory: its header is written, or mapped and checked."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, Final

import ipckit._native as native
from ipckit._channel.type_text import fingerprint_of, text_of
from ipckit._shm.mapping import READ_WRITE, SHARED, allocate, map_file, populate
from ipckit.errors import Corrupt, LayoutMismatch

if TYPE_CHECKING:
    from ipckit._channel.shape import Shape
    from ipckit._payload.codecs import Codec

_FULL: Final = (
    "a container's /dev/shm is often 64 MB: docker run --shm-size=1g, or an emptyDir of medium "
    "Memory in Kubernetes; Channel.anonymous does not count there"
)
_POPULATE_MOST: Final = 1 << 26  # what an opener may never look at is not worth more time than this


def format_memory(
    fd: int, shape: Shape, codec: Codec[Any], *, overwrite: bool, target: str
) -> None:
    """Give a new file its bytes and its header.

    Raises:
        LimitReached: there is no room for it.
    """
    allocate(fd, shape.total, target, _FULL)
    mapping = map_file(fd, shape.total, READ_WRITE, SHARED, target)
    try:
        native.channel_format(
            mapping,
            shape.capacity,
            shape.item_size,
            shape.longest,
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
    """A channel's memory, after a look at whether it is one, and of this type.

    Raises:
        Corrupt: it is none, or of another version.
        LayoutMismatch: its messages are of another type; the message has both.
    """
    size = os.fstat(fd).st_size
    if size < native.CHANNEL_ARENA_START:
        message = f"the file has {size:,} bytes, and no channel is so small"
        raise Corrupt(message, errno=errno.EUCLEAN, op="open", target=target)
    mapping = map_file(fd, size, READ_WRITE, SHARED, target)
    try:
        _check_type(mapping, codec, target)
        if size <= _POPULATE_MOST:
            populate(mapping)
    except BaseException:
        mapping.close()
        raise
    return mapping


def _check_type(mapping: native.Mapping, codec: Codec[Any], target: str) -> None:
    found, text = native.channel_type(mapping)
    if found is None:
        message = "the file holds no channel of this version"
        raise Corrupt(message, errno=errno.EUCLEAN, op="open", target=target)
    if found == fingerprint_of(codec):
        return
    wanted = text_of(codec)
    message = f"the channel's messages are {text}, and {wanted} is wanted"
    if text == wanted[: len(text)]:
        message += "; they look alike, and differ in bytes or in what the bytes mean"
    raise LayoutMismatch(message, errno=errno.EBADMSG, op="open", target=target)
