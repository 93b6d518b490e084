"""CPython's tests of the module queue, run on a ProcessQueue; imported in a child only."""

from __future__ import annotations

import queue
import unittest
from typing import TYPE_CHECKING, Any

from test import test_queue

from ipckit.channel import ProcessQueue
from tests.core.cpython_run import every_test, run

if TYPE_CHECKING:
    from collections.abc import Collection


class Queue(ProcessQueue[Any]):
    """The tests ask a queue for its limit, and take the order that is due from the class's name."""

    @property
    def maxsize(self) -> int:
        """The limit that the queue was made with."""
        return self._maxsize


class QueueTest(test_queue.BaseQueueTestMixin, unittest.TestCase):
    queue = queue
    type2test = Queue


class SimpleQueueTest(test_queue.BaseSimpleQueueTest, unittest.TestCase):
    queue = queue
    type2test = Queue


def outcomes(cut: Collection[str]) -> dict[str, str]:
    """How each test ends."""
    return run(every_test(QueueTest, SimpleQueueTest), cut)
