"""CPython's tests of multiprocessing that use a queue, run on a ProcessQueue; for a child only."""

from __future__ import annotations

import inspect
import multiprocessing
import multiprocessing.queues
import types
import unittest
from typing import TYPE_CHECKING

from test import _test_multiprocessing as original

from ipckit.channel import ProcessQueue
from tests.core.cpython_run import every_test, run

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

# multiprocessing makes its queues of this class, and its tests close what is of it.
multiprocessing.queues.Queue = ProcessQueue  # type: ignore[assignment, misc]
multiprocessing.queues.JoinableQueue = ProcessQueue  # type: ignore[assignment, misc]


class ProcessTest(original._TestProcess, original.ProcessesMixin, unittest.TestCase):
    pass


class QueueTest(original._TestQueue, original.ProcessesMixin, unittest.TestCase):
    pass


class BarrierTest(original._TestBarrier, original.ProcessesMixin, unittest.TestCase):
    pass


class StartMethodTest(original.TestStartMethod):
    pass


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _uses_a_queue(test: unittest.TestCase) -> bool:
    method = inspect.unwrap(getattr(type(test), test._testMethodName))
    return not {"Queue", "JoinableQueue"}.isdisjoint(_names(method.__code__))


def outcomes(cut: Collection[str], method: str = "fork") -> dict[str, str]:
    """How each test ends whose processes are started by this method."""
    multiprocessing.set_start_method(method, force=True)
    every = every_test(ProcessTest, QueueTest, BarrierTest, StartMethodTest)
    return run([test for test in every if _uses_a_queue(test)], cut)
