"""Runs tests of CPython's own suite in a child, and says how each of them ended."""

from __future__ import annotations

import unittest
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

PASSED = "passed"
SKIPPED = "skipped: "
FAILED = "failed: "


def name_of(test: unittest.TestCase) -> str:
    """Such as ``"QueueTest.test_basic"``."""
    return ".".join(test.id().split(".")[-2:])


class _Outcomes(unittest.TestResult):
    def __init__(self) -> None:
        super().__init__()
        self.by_name: dict[str, str] = {}

    def addSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        self.by_name.setdefault(name_of(test), PASSED)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802
        self.by_name.setdefault(name_of(test), f"{SKIPPED}{reason}")

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        # The text only: the traceback would keep the test's queues and sockets alive.
        self.by_name[name_of(test)] = f"{FAILED}{err[0].__name__}: {err[1]}"

    addError = addFailure  # noqa: N815

    def addSubTest(  # noqa: N802
        self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any
    ) -> None:
        del subtest
        if err is not None:
            self.addFailure(test, err)


def run(tests: Iterable[unittest.TestCase], cut: Collection[str]) -> dict[str, str]:
    """Run tests one after the other.

    Args:
        tests: each with a class and a method of its own.
        cut: names of tests that are not run, as patterns of fnmatch.

    Returns:
        How each test ended, by its name. A test that was cut has no outcome. A pattern in `cut`
        that fits no test is told as a test that failed.
    """
    outcomes = _Outcomes()
    unknown = set(cut)
    for test in tests:
        fitting = {each for each in cut if fnmatchcase(name_of(test), each)}
        unknown -= fitting
        if not fitting:
            test.run(outcomes)
    found = outcomes.by_name
    found.update(dict.fromkeys(unknown, f"{FAILED}no test has this name"))
    return found


def every_test(*classes: type[unittest.TestCase]) -> list[unittest.TestCase]:
    """The tests of these classes, in the order of their names."""
    loader = unittest.TestLoader()
    return [cls(name) for cls in classes for name in loader.getTestCaseNames(cls)]
