"""Queues with little memory, for long objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from interruptions import at_step, interrupt
from queue_memory import SIZE

from ipckit.channel import ProcessQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def make() -> Iterator[Callable[..., Any]]:
    """Make queues with little memory, which are closed at the end."""
    made: list[Any] = []

    def one(*args: Any, size: int = SIZE) -> Any:
        made.append(ProcessQueue(*args, size=size))
        return made[-1]

    yield one
    for each in made:
        each.cancel_join_thread()
        each.close()


@pytest.fixture(scope="module")
def opcodes_are_traced() -> None:
    """CPython 3.12 traces opcodes from the second time on."""
    with at_step(0, interrupt):
        ProcessQueue[Any]().close()
