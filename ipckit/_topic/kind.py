"""The kind of a topic, for the code that channels and topics share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import ipckit._native as native
from ipckit._channel.kind import Kind
from ipckit._core.files import TOPIC_PREFIX

if TYPE_CHECKING:
    from ipckit._channel.shape import Shape


def _format(  # noqa: PLR0917 - the parameters of Kind.format
    mapping: native.Mapping, shape: Shape, fingerprint: int, history: int, id: bytes, type: str
) -> None:
    native.topic_format(mapping, shape, history, fingerprint, id, type)


TOPIC: Final = Kind(
    word="topic",
    class_name="Topic",
    prefix=TOPIC_PREFIX,
    verb="publish",
    sender="publisher",
    smallest=native.TOPIC_START,
    format=_format,
    type_of=native.topic_type,
)
