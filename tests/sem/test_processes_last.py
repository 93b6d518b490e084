"""A lock that was created without a key ends with the last process that has it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ipckit._sem import last_process
from ipckit._sem.stat import SETS
from ipckit.sem import Event, Lock

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child, Namespace

KINDS = """
import multiprocessing.util
from ipckit.sem import Barrier, BoundedBuffer, Event, Lock, ReadWriteLock
locks = [each.create() for each in (Barrier, BoundedBuffer, Event, Lock, ReadWriteLock)]
kept = Lock.create()
kept.semaphores.disown()
result = [lock.id for lock in (*locks, kept)]
for lock in (*locks, kept):
    lock.close()
"""

# The forked child runs longer than its parent, and still uses the lock.
FORK = """
import os
from ipckit._sem import last_process
from ipckit.sem import Lock

reader, writer = os.pipe()
heard, told = os.pipe()
pid = os.fork()
if pid == 0:
    lock = Lock.create()
    if os.fork() == 0:
        os.close(writer)
        os.read(reader, 1)  # until the parent has exited
        with lock:
            os.write(told, b"%d" % lock.id)
        killed = args[0]
    else:
        killed = False
    if not killed:
        last_process._end()
    os._exit(0)
os.close(writer)
os.close(told)
os.waitpid(pid, 0)
text = b""
while more := os.read(heard, 99):  # until the grandchild has exited
    text += more
result = int(text)
"""


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names


def exists(ident: int) -> bool:
    return SETS.find(ident) is not None


def test_they_end_with_the_process_that_created_them(spawn: Callable[..., Child]) -> None:
    child = spawn(KINDS)
    *ended, kept = child.result
    child.finish()
    assert [each for each in ended if exists(each)] == []
    assert exists(kept)  # it was disowned
    with Lock.from_id(kept).lifetime() as lock:
        lock.semaphores.adopt()


def test_they_end_with_a_forked_child_that_runs_longer(spawn: Callable[..., Child]) -> None:
    assert not exists(spawn(FORK, 0).result)


def test_they_stay_if_the_last_process_is_killed(spawn: Callable[..., Child]) -> None:
    left = spawn(FORK, 1).result
    assert exists(left)
    with Lock.from_id(left).lifetime() as lock:
        lock.semaphores.adopt()


def test_the_pipe_is_closed_with_the_last_set() -> None:
    before = descriptors()
    with Lock.create().lifetime(), Event.create().lifetime():
        assert descriptors() == before + 2
    assert descriptors() == before


def test_a_lock_with_a_key_stays(ns: Namespace) -> None:
    key = ns.key()
    lock = Lock.create(key)
    lock.close()
    last_process._end()
    Lock.remove(key)


def test_it_leaves_a_file_alone_that_has_the_number_of_its_pipe() -> None:
    lock = Lock.create()
    (group,) = last_process._groups
    numbers = [end.number for end in group._ends]
    with open("/dev/null", "rb") as other:  # noqa: PTH123 - a daemon that closed all descriptors
        for number in numbers:
            os.dup2(other.fileno(), number)
    last_process._end()
    for number in numbers:
        os.fstat(number)
        os.close(number)
    assert exists(lock.id)
    lock.unlink()
    lock.close()
