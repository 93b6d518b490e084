"""CPython's tests of ProcessPoolExecutor, run on a ProcessPool; imported in a child only.

In Python 3.11 they are one module, and since 3.12 a package.
"""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import importlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from test.support import script_helper

from ipckit.pool import ProcessPool
from tests.core.cpython_run import every_test, run

if TYPE_CHECKING:
    import unittest
    from collections.abc import Collection
    from types import ModuleType

MODULES = ("as_completed", "deadlock", "init", "process_pool", "shutdown", "wait")


class _Process:
    """A worker, as the tests see it in `_processes`."""

    def __init__(self, member: Any) -> None:
        self._member = member

    def join(self) -> None:
        self._member.process.exitcode()

    def terminate(self) -> None:
        os.kill(self._member.process.pid, signal.SIGTERM)


class _Queue:
    def join_thread(self) -> None:
        """A ProcessPool has no queue with a thread."""


class ProcessPoolExecutor(ProcessPool):
    """A ProcessPool with the private attributes that the tests look at."""

    _call_queue = _Queue()

    @property
    def _processes(self) -> dict[int, _Process]:
        return {member.process.pid: _Process(member) for member in self._started().crew}

    @property
    def _executor_manager_thread(self) -> Any:
        return self._started().thread

    @property
    def _broken(self) -> str:
        return self._started().broken


def _replace_in_scripts(module: ModuleType) -> None:
    """Let the programs that tests run import ProcessPool."""

    def assert_python_ok(*args: str, **options: Any) -> Any:
        new = "from ipckit.pool import ProcessPool as ProcessPoolExecutor"
        old = "from concurrent.futures import ProcessPoolExecutor"
        changed = [each.replace(old, new) for each in args]
        return script_helper.assert_python_ok(*changed, **options)

    if hasattr(module, "assert_python_ok"):
        module.assert_python_ok = assert_python_ok  # type: ignore[attr-defined]


def outcomes(cut: Collection[str], method: str) -> dict[str, str]:
    """How each test ends, with a start method: "Fork", "Spawn" or "Forkserver"."""
    concurrent.futures.ProcessPoolExecutor = ProcessPoolExecutor  # type: ignore[misc,assignment]
    concurrent.futures.process.ProcessPoolExecutor = ProcessPoolExecutor  # type: ignore[misc]
    names = [f"test.test_concurrent_futures.test_{name}" for name in MODULES]
    if sys.version_info < (3, 12):
        names = ["test.test_concurrent_futures"]
    classes: list[type[unittest.TestCase]] = []
    for name in names:
        module = importlib.import_module(name)
        _replace_in_scripts(module)
        prefix = f"ProcessPool{method}"
        classes += [
            cls
            for key, cls in vars(module).items()
            if key.startswith(prefix)
            and key.endswith("Test")
            # "Fork" is the beginning of "Forkserver" too.
            and not key.startswith(f"{prefix}server")
        ]
    return run(every_test(*classes), cut)
