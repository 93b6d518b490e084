"""The hook for forks: the parts of the packages run in the stated order, each of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ipckit  # noqa: F401 - its packages give their parts
from ipckit._core import forks
from ipckit._core.cached import cached_property

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []

    def part(step: str, when: str) -> Callable[[], None]:
        return lambda: found.append((step, when))

    for when in ("before", "after_in_parent", "after_in_child"):
        parts: dict[str, Any] = {step: part(step, when) for step in sorted(forks.ORDER)}
        monkeypatch.setattr(forks, f"_{when}", parts)
    return found


def fork_and_read(calls: list[tuple[str, str]]) -> str:
    """Fork, and return what the child saw of the calls."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, repr(calls).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        text = pipe.read().decode()
    os.wait()
    return text


def test_parts_run_in_the_stated_order(calls: list[tuple[str, str]]) -> None:
    in_child = fork_and_read(calls)
    before = [(step, "before") for step in reversed(forks.ORDER)]
    assert in_child == repr(before + [(step, "after_in_child") for step in forks.ORDER])
    assert calls == before + [(step, "after_in_parent") for step in forks.ORDER]


def test_a_part_that_raises_stops_no_other(
    calls: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: reported.append(args.exc_type))
    monkeypatch.setitem(vars(forks)["_after_in_parent"], forks.ORDER[0], fail)
    fork_and_read(calls)
    assert reported == [ZeroDivisionError]
    assert [step for step, when in calls if when == "after_in_parent"] == list(forks.ORDER[1:])


def test_no_other_module_registers_a_hook() -> None:
    command = ["grep", "-rl", "--include=*.py", "register_at_fork(", "ipckit"]
    found = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["ipckit/_core/forks.py"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_child_computes_a_property_that_a_thread_was_computing() -> None:
    """The functools of Python 3.11 has a lock for it, which nothing releases in the child."""
    computing, forked = threading.Event(), threading.Event()
    parent = os.getpid()

    class Slow:
        @cached_property
        def value(self) -> int:
            computing.set()
            if os.getpid() == parent:
                forked.wait()
            return 1

    thread = threading.Thread(target=lambda: Slow().value)
    thread.start()
    computing.wait()
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)  # kills a child that hangs
        os._exit(Slow().value)
    forked.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1


def test_a_property_is_computed_once() -> None:
    class Counting:
        count = 0

        @cached_property
        def value(self) -> int:
            """Document it."""
            self.count += 1
            return self.count

    first, second = Counting(), Counting()
    assert (first.value, first.value, second.value) == (1, 1, 1)
    assert Counting.value.__doc__ == "Document it."


def test_no_module_uses_the_property_with_a_lock() -> None:
    command = ["grep", "-rlE", "--include=*.py", r"functools.*\bcached_property", "ipckit"]
    found = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (found.stdout, found.returncode) == ("", 1)
