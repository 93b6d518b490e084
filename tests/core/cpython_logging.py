"""CPython's tests of logging through a queue, run on a ProcessQueue; imported in a child only."""

from __future__ import annotations

import multiprocessing
import queue
from multiprocessing.context import BaseContext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

from test import test_logging as original

from ipckit.channel import ProcessQueue
from tests.core.cpython_run import every_test, name_of, run

if TYPE_CHECKING:
    from collections.abc import Collection


def _made(maxsize: int = 0) -> ProcessQueue[Any]:
    return ProcessQueue(maxsize)


# What makes a queue is replaced; the classes that logging.config compares a queue with stay.
multiprocessing.Queue = _made  # type: ignore[assignment]
BaseContext.Queue = lambda _self, maxsize=0: _made(maxsize)  # type: ignore[assignment, method-assign]


class _QueueModule:
    """For the tests of a class, the module queue makes ProcessQueues too."""

    def setUp(self) -> None:
        module = SimpleNamespace(Queue=_made, Empty=queue.Empty, Full=queue.Full)
        patch = mock.patch.object(original, "queue", module)
        patch.start()
        self.addCleanup(patch.stop)  # type: ignore[attr-defined]
        super().setUp()  # type: ignore[misc]


class QueueHandlerTest(_QueueModule, original.QueueHandlerTest):
    pass


class QueueListenerTest(_QueueModule, original.QueueListenerTest):
    pass


class ConfigDictTest(original.ConfigDictTest):
    pass


# These two configure a queue too, and have names that don't say so.
_BY_NUMBER = {"ConfigDictTest.test_111615", "ConfigDictTest.test_kwargs_passing"}


def outcomes(cut: Collection[str]) -> dict[str, str]:
    """How each test ends."""
    configured = [
        each
        for each in every_test(ConfigDictTest)
        if "queue" in name_of(each) or name_of(each) in _BY_NUMBER
    ]
    return run([*every_test(QueueHandlerTest, QueueListenerTest), *configured], cut)
