"""A program that imports one name of the package has all that the name needs beside it."""

from __future__ import annotations

import subprocess
import sys

import pytest

STEPS = """
from ipckit import {name}
from ipckit._core import forks
print(*sorted({{*forks._before, *forks._after_in_child}}))
"""
NEEDED = {
    "SysVMessageQueue": {"handles", "tokens"},
    "PosixMessageQueue": {"handles", "tokens"},
    "PosixSemaphore": {"handles", "tokens"},
    "SysVSemaphoreSet": {"handles", "tokens"},
    "Lock": {"handles", "tokens"},
    "Barrier": {"handles", "tokens"},
    "SysVSharedMemory": {"handles", "mappings"},
    "SharedStruct": {"tokens"},
    "SharedArray": {"handles", "mappings", "loans"},
    "Channel": {"handles", "mappings", "tokens", "channels"},
    "Topic": {"handles", "mappings", "tokens", "channels"},
    "ProcessQueue": {"handles", "mappings", "tokens", "channels", "queues"},
}


def alone(code: str) -> str:
    """Return what code prints in a new interpreter, which has imported nothing else."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("name", NEEDED)
def test_the_steps_after_a_fork_are_there(name: str) -> None:
    assert set(alone(STEPS.format(name=name)).split()) >= NEEDED[name]


def test_a_child_does_not_release_its_parent_s_lock() -> None:
    code = """
import os
from ipckit.sem import Lock
lock = Lock.create()
with lock:
    if os.fork() == 0:
        lock.__exit__(None, None, None)
        os._exit(0)
    os.wait()
    print(lock.semaphores.values)
"""
    assert alone(code) == "[0, 1]\n"


def test_a_child_is_a_subscriber_of_its_own() -> None:
    code = """
import os
from ipckit import Topic
with Topic.anonymous() as topic:
    topic.publish(b"x")
    if os.fork() == 0:
        topic.publish(b"y")
        os._exit(len({each.pid for each in topic.publishers()}))
    print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    assert alone(code) == "2\n"


def test_a_handle_is_received_whose_class_was_not_imported() -> None:
    code = """
import os
from ipckit import pair
here, there = pair("seqpacket")
if os.fork() == 0:
    from ipckit import SharedArray, Topic
    there.send_handle(Topic.anonymous())
    there.send_handle(SharedArray.create(3, "i4"))
    os._exit(0)
there.close()
print(*(type(here.receive_handle()).__name__ for _ in range(2)))
os.wait()
here.close()
"""
    assert alone(code) == "Topic SharedArray\n"
