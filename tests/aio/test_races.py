"""Threads that meet at the worst moment, which each test forces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ipckit import Channel, aio
from ipckit._aio import face

if TYPE_CHECKING:
    import pytest


def test_two_threads_wrap_a_handle(monkeypatch: pytest.MonkeyPatch) -> None:
    """`close` woke only the calls by one of the two faces."""
    made = face.Waiters
    with Channel.anonymous() as channel:
        faces: list[Any] = []

        def interrupted(*args: Any) -> face.Waiters:
            monkeypatch.setattr(face, "Waiters", made)
            faces.append(aio.wrap(channel))  # as another thread would
            return made(*args)

        monkeypatch.setattr(face, "Waiters", interrupted)
        faces.append(aio.wrap(channel))
        assert faces[0]._waiters is faces[1]._waiters is channel._awaiting
