"""Open a channel or topic that a survey found, whatever its name is."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Any

from ipckit._core.files import SHM
from ipckit.channel import Channel
from ipckit.errors import NotFound
from ipckit.topic import Topic

if TYPE_CHECKING:
    from collections.abc import Generator

    from ipckit.inventory import IpcObject


def _is_utf8(name: str) -> bool:
    """Return whether `open` takes a name. Any user can make a file with another one."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check(fd: int, found: IpcObject) -> None:
    """Check that a descriptor is of the file that was found.

    Raises:
        NotFound: another file has its name by now.
    """
    status = os.fstat(fd)
    if (status.st_dev, status.st_ino) != found.identity:
        message = "it was removed, and another file has its name"
        raise NotFound(message, errno=errno.ENOENT, target=found.address)


@contextlib.contextmanager
def _descriptor(found: IpcObject) -> Generator[int]:
    """Open the file of a channel or topic; close the descriptor only if the block fails."""
    path = os.fsencode(f"{SHM}/{found.file_name}")
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check(fd, found)
        yield fd
    except BaseException:
        os.close(fd)
        raise


def open_channel(found: IpcObject, type: Any, **options: Any) -> Channel[Any]:
    """Open a channel of any user, because the person who named it saw the owner.

    Args:
        found: the channel.
        type: the type of its messages.
        options: options of `Channel.open`.
    """
    if _is_utf8(found.name):
        return Channel.open(found.name, type, owner_uid=found.uid, **options)
    with _descriptor(found) as fd:
        return Channel.from_fd(fd, type, **options)


def open_topic(found: IpcObject, type: Any, **options: Any) -> Topic[Any]:
    """Open a topic as `open_channel` opens a channel."""
    if _is_utf8(found.name):
        return Topic.open(found.name, type, owner_uid=found.uid, **options)
    with _descriptor(found) as fd:
        return Topic.from_fd(fd, type, **options)
