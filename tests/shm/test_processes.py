"""Handles that reach other processes; nobody tracks what they open."""

from __future__ import annotations

import copy
import errno
import multiprocessing
import os
import pickle
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import (
    InvalidArgument,
    IpcError,
    NotFound,
)
from ipckit.shm import MappedFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child

SIZE = 5000


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_handles_reach_a_child_however_it_is_started(
    method: str, spawn: Callable[..., Child]
) -> None:
    child = spawn(Path(__file__).with_name("hand_over.py"), method)
    assert {seen for _, seen in child.result} == {b"\7"}
    assert len(child.result) == 6 + (method == "fork")


def test_only_a_fork_shares_memory_of_no_file(kinds: Any) -> None:
    with kinds("anonymous").create() as memory, pytest.raises(InvalidArgument, match="only a fork"):
        pickle.dumps(memory)


def test_a_pickled_handle_finds_the_same_memory(named: Any) -> None:
    with named.create() as memory:
        memory.write(b"hello")
        pickled = pickle.loads(pickle.dumps(memory))  # noqa: S301
        for copied in (pickled, copy.copy(memory), copy.deepcopy(memory)):
            with copied:
                assert type(copied) is named.cls
                assert (copied.read(5), copied.owner, copied.size) == (b"hello", False, SIZE)
        assert memory.read(5) == b"hello"


def test_a_forked_child_is_no_owner_and_keeps_its_views(
    kind: Any, spawn: Callable[..., Child]
) -> None:
    del spawn
    with kind.create() as memory:
        array = memory.array("u1")
        pid = os.fork()
        if pid == 0:
            try:
                good = not memory.owner
                with memory:
                    pass
                array[0] = 9
                os._exit(0 if good and memory.closed and array[0] == 9 else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert array[0] == 9
        if kind.named:
            kind.again(memory).close()


def test_nobody_tracks_it(named: Any, spawn: Callable[..., Child]) -> None:
    with named.create() as memory:
        child = spawn(
            """
            import sys
            from pathlib import Path
            from ipckit import shm
            kind, at = args
            found = getattr(shm, kind)
            options = {"mode": "r+"} if kind == "MappedFile" else {}
            with found.open(at, **options) as memory:
                memory.write(b"hello")
            kept = found.open(at, **options)
            tracked = "multiprocessing.resource_tracker" in sys.modules
            children = Path("/proc/self/task/%d/children" % __import__("os").getpid()).read_text()
            kept.close()
            result = tracked, children
            """,
            named.cls.__name__,
            memory.path if named.cls is MappedFile else getattr(memory, "key", None) or memory.name,
        )
        assert child.result == (False, "")
        assert memory.read(5) == b"hello"
        with named.again(memory) as again:
            assert again.read(5) == b"hello"


def test_errors_tell_the_call_and_the_object(named: Any) -> None:
    with pytest.raises(NotFound) as caught:
        named.open(named.address())
    assert caught.value.errno == errno.ENOENT
    assert caught.value.op
    assert caught.value.target
    assert re.search(r"create", caught.value.hint)
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert isinstance(again, IpcError)
    assert str(again) == str(caught.value)
    assert multiprocessing.active_children() == []
