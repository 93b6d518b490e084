"""CPython's own tests of ProcessPoolExecutor, run on a ProcessPool in its place."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

import pytest

from ipckit.testing import Child
from tests.core.cpython_run import PASSED
from tests.core.test_interop_cpython import Since, due, judge

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BREAKS = "it wants the pool to be broken; here only the task fails"
NOT_STARTED = "it submits what can't be pickled; here no worker starts for that"
MOCKS = "it replaces private classes of ProcessPoolExecutor"
ONCE = "the start method makes no difference to it"
SECONDS = "it waits for several seconds; tests/pool has a short one"

# Each passes, except these, which must fail.
DEVIATIONS = {
    "*.test_killed_child": BREAKS,
    "*.test_error_at_task_unpickle": BREAKS,
    "*.test_exit_at_task_unpickle": BREAKS,
    "*.test_error_during_result_unpickle_in_result_handler": BREAKS,
    "*.test_exit_during_result_unpickle_in_result_handler": BREAKS,
}
NOT_FORKED = {
    "*.test_saturation": NOT_STARTED,
    "*.test_processes_terminate": NOT_STARTED,
}
# Not run, except in `make soak`.
SLOW = {
    "*.test_map_timeout": SECONDS,
    "*.test_first_exception": SECONDS,
    "*.test_gh105829_should_not_deadlock_if_wakeup_pipe_full": Since((3, 12), MOCKS),
    "*.test_duplicate_futures": SECONDS,
}


@pytest.mark.parametrize(
    ("method", "whole"),
    [
        ("Fork", False),
        pytest.param("Fork", True, marks=pytest.mark.soak),
        pytest.param("Spawn", True, marks=pytest.mark.soak),
        pytest.param("Forkserver", True, marks=pytest.mark.soak),
    ],
)
def test_cpythons_own_tests(
    method: str,
    whole: bool,  # noqa: FBT001 - a parameter of the test
    spawn: Callable[..., Child],
    tmp_path: Path,
) -> None:
    name = "test.test_concurrent_futures"
    if not all(importlib.util.find_spec(each) for each in ("test.support", name)):
        pytest.skip(f"this Python is shipped without its tests: no {name}")
    version = sys.version_info[:2]
    cut = () if whole else tuple(due(SLOW, version))
    child = spawn(
        Child.call(
            "tests.pool.cpython_pool:outcomes",
            cut,
            method,
            cwd=tmp_path,
            options=("-X", "faulthandler"),  # the tests are not written for -W error
        )
    )
    child.wait(110)
    outcomes: dict[str, str] = child.result
    deviations = DEVIATIONS if method == "Fork" else {**DEVIATIONS, **NOT_FORKED}
    assert judge(outcomes, deviations) == []
    assert list(outcomes.values()).count(PASSED) >= 40
