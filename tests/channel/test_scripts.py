"""The scripts for channels as a user runs them: ``python path/to/script.py`` from anywhere."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest
from script_runs import SCRIPTS

from ipckit import Channel, Char, Int, NotFound, Struct
from ipckit.testing import Child, wait_blocked

if TYPE_CHECKING:
    from script_runs import Scripts

    from ipckit.testing import Namespace


class Stu(Struct):
    name: Char[32]
    age: Int


def test_lines_go_through(scripts: Scripts, ns: Namespace) -> None:
    name = ns.name()[1:]
    lines = b"one\n\n  two  \n\xff\xfe no UTF-8\n"
    sent = scripts.run("channel_send.py", "--name", name, "--create", "--rate", stdin=lines)
    assert (sent.returncode, sent.stdout) == (0, b"")
    assert re.fullmatch(rb"4 messages: [\d,]+ messages/s, [\d,.]+ MB/s\n", sent.stderr)
    got = scripts.run("channel_recv.py", "--name", name, "--count", 2)
    assert (got.returncode, got.stdout, got.stderr) == (0, b"one\n\n", b"")
    got = scripts.run("channel_recv.py", "--name", name, "--remove", "--timeout", 60, "--rate")
    assert (got.returncode, got.stdout) == (0, b"  two  \n\xff\xfe no UTF-8\n")
    assert got.stderr.startswith(b"2 messages: ")
    with pytest.raises(NotFound):
        Channel.open(name)


def test_structs_go_through(scripts: Scripts, ns: Namespace) -> None:
    with Channel.create(ns.name(), Stu) as channel:
        assert channel.name is not None
        here = ("--name", channel.name[1:], "--struct")
        sent = scripts.run("channel_send.py", *here, "amy,20", "bob,31")
        assert (sent.returncode, sent.stdout, sent.stderr) == (0, b"", b"")
        assert channel.receive() == Stu("amy", 20)
        got = scripts.run("channel_recv.py", *here)
        assert (got.returncode, got.stderr) == (0, b"")
        assert got.stdout == b"Stu(name='bob', age=31)\n"
        wrong = scripts.run("channel_recv.py", *here[:2])
        assert wrong.returncode == 1
        assert b"char name[32]; int age;" in wrong.stderr
        wrong = scripts.run("channel_send.py", *here, "no comma")
        assert (wrong.returncode, wrong.stdout) == (1, b"")
        assert wrong.stderr.startswith(b"error: ")


def test_frames_go_through_while_both_run(scripts: Scripts, ns: Namespace) -> None:
    name = ns.name()[1:]
    sent = scripts.run(
        "channel_send.py", "--name", name, "--create", "--frames", 2, "--capacity", 3
    )
    assert (sent.returncode, sent.stdout, sent.stderr) == (0, b"", b"")
    receiver = scripts.start("channel_recv.py", "--name", name, "--frames", "--wait", "--remove")
    with receiver:
        assert receiver.stdout is not None
        sent = scripts.run("channel_send.py", "--name", name, "--frames", 6)
        assert (sent.returncode, sent.stdout, sent.stderr) == (0, b"", b"")
        for number in range(2):
            assert receiver.stdout.readline() == b"frame %d: whole\n" % number
        for number in range(6):
            assert receiver.stdout.readline() == b"frame %d: whole\n" % number
        wait_blocked(receiver.pid, "shared_futex")
        receiver.send_signal(signal.SIGINT)
        assert receiver.communicate(timeout=60) == (b"", b"")
    assert receiver.returncode == 128 + signal.SIGINT


def test_a_channel_that_does_not_exist(scripts: Scripts, ns: Namespace) -> None:
    for script in ("channel_send.py", "channel_recv.py"):
        done = scripts.run(script, "--name", ns.name()[1:])
        assert (done.returncode, done.stdout) == (1, b"")
        assert re.fullmatch(rb"error: .*no such channel; create it with .*\n", done.stderr)
        assert scripts.run(script).returncode == 2


def test_killing_a_worker_tears_no_frame(scripts: Scripts) -> None:
    done = scripts.run("camera_pipeline.py", "--frames", 30)
    assert done.returncode == 0, done
    killed, result = done.stdout.decode().splitlines()
    assert re.fullmatch(r"worker \d+ was killed with -9 after \d+ frames", killed)
    assert re.fullmatch(r"(29|30) of 30 frames: 0 torn, 0 twice, lost: \[\d*\]", result)
    assert re.fullmatch(rb"\d+ messages: .*\n", done.stderr)


def test_killing_workers_loses_no_job(scripts: Scripts) -> None:
    done = scripts.run("job_queue.py", "--jobs", 60, "--kills", 8)
    assert (done.returncode, done.stderr) == (0, b""), done
    result, deaths = done.stdout.decode().splitlines()
    assert result == "60 jobs: 60 done, 0 put aside"
    pattern = r"redelivered jobs: \d+; jobs done twice: \d; workers killed: 8"
    assert re.fullmatch(pattern, deaths)


def test_a_job_that_kills_its_workers_is_put_aside(scripts: Scripts) -> None:
    here = ("--jobs", 30, "--kills", 0, "--poison", 7, "--tries", 2)
    done = scripts.run("job_queue.py", *here)
    assert (done.returncode, done.stderr) == (0, b""), done
    aside, result, deaths = done.stdout.decode().splitlines()
    assert aside == "job 7 was put aside; failed attempts: 2"
    assert result == "30 jobs: 29 done, 1 put aside"
    assert deaths == "redelivered jobs: 1; jobs done twice: 0; workers killed: 2"


def test_control_c_ends_the_workers_too(scripts: Scripts) -> None:
    here = ("--jobs", 1_000_000, "--poison", 0, "--tries", 1)
    with scripts.start("job_queue.py", *here) as queue:
        assert queue.stdout is not None
        assert queue.stdout.readline() == b"job 0 was put aside; failed attempts: 1\n"
        queue.send_signal(signal.SIGINT)
        assert queue.communicate(timeout=60) == (b"", b"")
    assert queue.returncode == 128 + signal.SIGINT


INTERRUPTED = """
import os, signal, sys
sys.path.insert(0, args[0])
import _children

def interrupted(call):
    def inner(*arguments):
        try:
            return call(*arguments)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
    return inner

def told(act):
    try:
        act()
    except KeyboardInterrupt:
        return True
    return False

fork, wait = os.fork, os.waitpid
os.fork = lambda: os.kill(parent, signal.SIGINT) or fork()
parent = os.getpid()
result = [told(lambda: _children.in_child(lambda: signal.pause()))]
os.fork = fork
pid = _children.in_child(lambda: None)
os.waitpid = interrupted(wait)
result.append(told(lambda: _children.wait_child(pid)))
os.waitpid = wait
_children.end_children()
try:
    os.wait()
except ChildProcessError:
    result.append("none is left")
"""


def test_no_child_is_lost_to_control_c() -> None:
    with Child(INTERRUPTED, str(SCRIPTS)) as child:
        assert child.result == [True, True, "none is left"]
