"""Threads that meet at the worst moment, which each test forces."""

from __future__ import annotations

import pytest

from ipckit import ProcessQueue
from ipckit._process_queue.feeder import Feeder


def test_no_thread_can_be_started_while_another_thread_puts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The call that failed took back the object of the other one."""
    queue: ProcessQueue[str] = ProcessQueue()
    feeder = queue._feeder

    def start(self: Feeder) -> None:
        self.waiting.append(b"another")  # by another thread
        message = "can't start new thread"
        raise RuntimeError(message)

    with monkeypatch.context() as patch:
        patch.setattr(Feeder, "_start", start)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            feeder.add(b"mine")
    assert list(feeder.waiting) == [b"another"]
    feeder.waiting.clear()
    queue.close()


def test_no_thread_can_be_started_but_another_one_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    queue: ProcessQueue[str] = ProcessQueue()
    feeder = queue._feeder
    queue.put("first")

    def start(self: Feeder) -> None:
        self._send_all()  # by the thread of another call
        message = "can't start new thread"
        raise RuntimeError(message)

    with monkeypatch.context() as patch:
        patch.setattr(Feeder, "_start", start)
        feeder.waiting.append(b"\x80\x05]\x94.")  # an empty list, that waits
        queue.put("second")
    assert [queue.get(timeout=10) for _ in range(3)] == ["first", [], "second"]
    queue.close()
