"""Tests that CPython's authors wrote for CPython's own modules, run on ipckit in their place.

The tests are those of the Python that runs; where a distribution ships a Python without its tests,
that is said. Each of them passes, or its name stands in a table here beside the reason. A test
that passes although it stands there fails the run, so that the tables stay true.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

import pytest

from ipckit.channel import ProcessQueue
from ipckit.testing import Child
from tests.core.cpython_run import FAILED, PASSED, SKIPPED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

Version = tuple[int, int]


class Since(NamedTuple):
    """A reason that holds from one version of Python on."""

    version: Version
    reason: str


Reason = str | Since


@dataclass(frozen=True)
class Suite:
    """One module of CPython's tests, and what of it is not so for ipckit.

    Attributes:
        original: the module of CPython's tests that the shim stands on.
        shim: the module that runs them, beside this one.
        passing: how many pass at least; a guard against a selection that selects nothing.
        deviations: the tests that must fail, and why; patterns as fnmatch has them.
        cut: the tests that are not run, and why.
        args: what the shim gets besides.
    """

    original: str
    shim: str
    passing: int
    deviations: Mapping[str, Reason] = field(default_factory=dict)
    cut: Mapping[str, Reason] = field(default_factory=dict)
    args: tuple[object, ...] = ()


PICKLES_AT_ONCE = "documented: put pickles at once, so that what can't be pickled raises there"
NO_ROOM_ASKED = "max_fds=0 asks for no control message, and the kernel reports none as cut"
ALL_OR_ERROR = "receive never gives some of the descriptors: more than max_fds is MessageTooLong"
ONCE = "the start method makes no difference to it; it runs with fork"
CLOCK = "it tests the selector's own clock, and says how long a wait may take at most"

SUITES = {
    "queue": Suite(
        "test_queue",
        "cpython_queue",
        passing=9,
        deviations={
            "*.test_negative_timeout_raises_exception": (
                "as in multiprocessing.Queue, a negative timeout has passed"
            ),
            "QueueTest.test_shrinking_queue": (
                "maxsize is the size of memory that other processes have; it does not change"
            ),
            "SimpleQueueTest.test_references": "objects are pickled, and a local class can't be",
        },
        cut={
            "QueueTest.test_shutdown_*": Since(
                (3, 13), "no queue between processes has queue.Queue.shutdown; some would hang"
            ),
        },
    ),
    "processes-fork": Suite(
        "_test_multiprocessing",
        "cpython_processes",
        passing=14,
        deviations={
            "QueueTest.test_queue_feeder_donot_stop_onexc": PICKLES_AT_ONCE,
            "QueueTest.test_queue_feeder_on_queue_feeder_error": PICKLES_AT_ONCE,
        },
        args=("fork",),
    ),
    "processes-spawn": Suite(
        "_test_multiprocessing",
        "cpython_processes",
        passing=6,
        deviations={
            "StartMethodTest.test_mixed_startmethod": (
                "it wants an error: a queue with locks of fork can't be given to a spawned "
                "process. A ProcessQueue can."
            ),
        },
        cut={
            "BarrierTest.*": ONCE,
            "ProcessTest.test_args_argument": ONCE,
            "ProcessTest.test_close": ONCE,
            "ProcessTest.test_process_mainthread_native_id": ONCE,
            "QueueTest.test_closed_*": ONCE,
            "QueueTest.test_qsize": ONCE,
            "QueueTest.test_queue_feeder_*": ONCE,
            "QueueTest.test_task_done": ONCE,
            "QueueTest.test_timeout": ONCE,
        },
        args=("spawn",),
    ),
    "logging": Suite(
        "test_logging",
        "cpython_logging",
        passing=9,
    ),
    "socket": Suite(
        "test_socket",
        "cpython_socket",
        passing=18 + 11,
        deviations={
            "ReceiveTest.testCmsgTrunc1": NO_ROOM_ASKED,
            "ReceiveTest.testCmsgTrunc2Int": NO_ROOM_ASKED,
            "ReceiveTest.testCmsgTruncLen0": NO_ROOM_ASKED,
            "ReceiveTest.testCmsgTruncLen0Minus1": NO_ROOM_ASKED,
            "ReceiveTest.testCmsgTruncLen0Plus1": NO_ROOM_ASKED,
            "ReceiveTest.testCmsgTruncLen1": ALL_OR_ERROR,
            "ReceiveTest.testCmsgTruncLen2Minus1": ALL_OR_ERROR,
        },
    ),
    "selectors": Suite(
        "test_selectors",
        "cpython_selectors",
        passing=140,
        cut={
            "*.test_select_interrupt_exc": CLOCK,
            "*.test_select_interrupt_noraise": CLOCK,
            "*.test_timeout": CLOCK,
        },
    ),
}


def due(table: Mapping[str, Reason], version: Version) -> dict[str, str]:
    """The names and reasons that hold for a version."""
    found = {}
    for name, reason in table.items():
        if isinstance(reason, str):
            found[name] = reason
        elif reason.version <= version:
            found[name] = reason.reason
    return found


def judge(outcomes: Mapping[str, str], deviations: Mapping[str, str]) -> list[str]:
    """What is not as the table says, a line each.

    Args:
        outcomes: how each test ended, by its name.
        deviations: the names that must have failed, with the reasons.
    """
    wrong = []
    for pattern, reason in deviations.items():
        named = [name for name in outcomes if fnmatchcase(name, pattern)]
        if not named:
            wrong.append(f"{pattern}: no such test ({reason})")
        wrong += [
            f"{name}: {outcomes[name]}, and the table says that it fails: {reason}"
            for name in named
            if not outcomes[name].startswith(FAILED)
        ]
    wrong += [
        f"{name}: {outcome}"
        for name, outcome in outcomes.items()
        if outcome.startswith(FAILED) and not any(fnmatchcase(name, each) for each in deviations)
    ]
    return wrong


# These two take the longest.
LONG = frozenset({"processes-spawn", "selectors"})


@pytest.mark.parametrize(
    "name",
    [pytest.param(each, marks=pytest.mark.soak if each in LONG else ()) for each in SUITES],
)
def test_cpythons_own_tests(name: str, spawn: Callable[..., Child], tmp_path: Path) -> None:
    suite = SUITES[name]
    needed = ("test.support", f"test.{suite.original}")
    if not all(importlib.util.find_spec(each) for each in needed):
        pytest.skip(f"this Python is shipped without its tests: no {' or '.join(needed)}")
    version = sys.version_info[:2]
    child = spawn(
        Child.call(
            f"tests.core.{suite.shim}:outcomes",
            tuple(due(suite.cut, version)),
            *suite.args,
            cwd=tmp_path,
            options=("-X", "faulthandler"),  # the tests are not written for -W error
        )
    )
    child.wait(100)
    outcomes: dict[str, str] = child.result
    assert judge(outcomes, due(suite.deviations, version)) == []
    assert list(outcomes.values()).count(PASSED) >= suite.passing


def test_what_is_cut_as_missing_is_missing() -> None:
    assert not hasattr(ProcessQueue, "shutdown"), "run the tests of it: SUITES['queue'].cut"


def test_the_tables_are_strict() -> None:
    outcomes = {
        "A.test_new": f"{FAILED}ValueError",
        "A.test_mended": PASSED,
        "A.test_skipped": f"{SKIPPED}not here",
        "A.test_known": f"{FAILED}TypeError",
        "A.test_fine": PASSED,
        "B.test_skipped": f"{SKIPPED}not here",
    }
    table = {f"A.test_{name}": "so" for name in ("mended", "skipped", "kn*", "gone")}
    assert [line.partition(":")[0] for line in judge(outcomes, table)] == [
        "A.test_mended",
        "A.test_skipped",
        "A.test_gone",
        "A.test_new",
    ]
    assert due({"a": "always", "b": Since((3, 12), "later")}, (3, 11)) == {"a": "always"}
    assert due({"b": Since((3, 12), "later")}, (3, 12)) == {"b": "later"}
