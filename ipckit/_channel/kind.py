"""Kind: in what a channel and a topic differ, for the code that both use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import ipckit._native as native
from ipckit._core.files import CHANNEL_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit._channel.shape import Shape


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object that keeps messages in a file.

    Attributes:
        word: the word for an object of this kind, in messages and in the name of the memfd.
        class_name: its public class.
        prefix: the names of its files in /dev/shm begin with it.
        verb: the method that sends a message.
        sender: the word for a peer that sends.
        smallest: the bytes of the smallest file.
        format: writes the header of new memory, from its mapping, shape, fingerprint of the type,
            option (see `NewMemory`), random id, and text of the type.
        type_of: returns the fingerprint and the text of the type in a header.
    """

    word: str
    class_name: str
    prefix: str
    verb: str
    sender: str
    smallest: int
    format: Callable[[native.Mapping, Shape, int, int, bytes, str], None]
    type_of: Callable[[native.Mapping], tuple[int | None, str]]


CHANNEL: Final = Kind(
    word="channel",
    class_name="Channel",
    prefix=CHANNEL_PREFIX,
    verb="send",
    sender="sender",
    smallest=native.CHANNEL_ARENA_START,
    format=native.channel_format,
    type_of=native.channel_type,
)
