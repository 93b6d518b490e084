"""`create` of a name that exists says whether a process holds the object; `remove` removes it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import (
    AlreadyExists,
    Channel,
    InvalidArgument,
    NotFound,
    PosixMessageQueue,
    PosixSemaphore,
    PosixSharedMemory,
    SysVMessageQueue,
    SysVSemaphoreSet,
    SysVSharedMemory,
    Topic,
)
from ipckit._core.taken import exists, last_users
from ipckit.rpc import Service
from ipckit.sem import Barrier, BoundedBuffer, Event, Lock, ReadWriteLock

if TYPE_CHECKING:
    from ipckit.testing import Namespace

SYSTEM_V = [SysVMessageQueue, SysVSharedMemory, SysVSemaphoreSet]
PRIMITIVES = [Lock, Event, Barrier, ReadWriteLock, BoundedBuffer]
FILES = [PosixMessageQueue, PosixSharedMemory, PosixSemaphore, Channel, Topic, Service]
SIZED = (SysVSharedMemory, PosixSharedMemory)


def address(cls: type[Any], ns: Namespace) -> Any:
    if cls in FILES:
        return ns.name()[1:] if cls in {Channel, Topic, Service} else ns.name()
    return ns.key()


def create(cls: type[Any], where: Any) -> Any:
    return cls.create(where, **({"size": 100} if cls in SIZED else {}))


def leave(handle: Any) -> None:
    """Close a handle, and let the object stay."""
    getattr(handle, "semaphores", handle).disown()
    handle.close()


def refusal(cls: type[Any], where: Any) -> str:
    with pytest.raises(AlreadyExists) as found:
        create(cls, where)
    return str(found.value)


@pytest.mark.parametrize("cls", [*SYSTEM_V, *PRIMITIVES, *FILES])
def test_remove_removes_without_opening(cls: type[Any], ns: Namespace) -> None:
    where = address(cls, ns)
    cls.remove(where, missing_ok=True)
    with pytest.raises(NotFound, match="no such"):
        cls.remove(where)
    leave(create(cls, where))
    cls.remove(where)
    with pytest.raises(NotFound):
        cls.open(where)
    with pytest.raises((InvalidArgument, TypeError)):
        cls.remove("/" if cls in FILES else -(2**40))


@pytest.mark.parametrize("cls", FILES)
def test_the_error_says_whether_a_process_has_it_open(cls: type[Any], ns: Namespace) -> None:
    where = address(cls, ns)
    handle = create(cls, where)
    held = refusal(cls, where)
    who = "a process" if cls is PosixSemaphore else "this process"  # it is only mapped
    assert f"already exists, and {who} has it open; open it with {cls.__name__}.open(" in held
    leave(handle)
    free = refusal(cls, where)
    assert "already exists, and no process has it open; use open_or_create" in free
    assert free.endswith(f'remove it with {cls.__name__}.remove("{where}") or `ipckit gc`')
    cls.remove(where)


def test_the_error_says_whether_a_segment_is_attached(ns: Namespace) -> None:
    key = ns.key()
    handle = create(SysVSharedMemory, key)
    assert "and a process has it attached; open it" in refusal(SysVSharedMemory, key)
    leave(handle)
    free = refusal(SysVSharedMemory, key)
    assert "and no process has it attached; use open_or_create" in free
    assert free.endswith(f"remove it with SysVSharedMemory.remove({key:#x}) or `ipckit gc`")
    SysVSharedMemory.remove(key)


@pytest.mark.parametrize("cls", [SysVMessageQueue, SysVSemaphoreSet, *PRIMITIVES])
def test_the_error_says_whether_the_last_users_run(cls: type[Any], ns: Namespace) -> None:
    key = ns.key()
    pid = os.fork()
    if pid == 0:
        try:
            made = cls.create(key)
            if cls is SysVMessageQueue:
                made.send(b"left")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    free = refusal(cls, key)
    assert f"and process {pid}, which used it last, has exited; use open_or_create" in free
    assert f"{cls.__name__}.remove({key:#x})" in free
    if cls is SysVMessageQueue:
        with SysVMessageQueue.open(key) as queue:
            queue.receive()
        assert "and this process used it last; open it with" in refusal(cls, key)
    cls.remove(key)


def test_who_used_it_last() -> None:
    parent, gone = os.getppid(), 2**22 - 1  # above pid_max, or almost
    assert last_users([]).held is None
    assert last_users([0, gone]).held is None  # a process of another pid namespace
    assert last_users([gone, parent]).evidence == f"process {parent} used it last and still runs"
    two = last_users([gone, gone - 1])
    assert two.evidence == f"processes {gone - 1} and {gone}, which used it last, have exited"
    message, hint = exists("queue", "Queue", "1", last_users([]))
    assert message == "the queue already exists"
    assert hint == (
        "open it with Queue.open(1), or use open_or_create; "
        "if no process needs it, remove it with Queue.remove(1) or `ipckit gc`"
    )
