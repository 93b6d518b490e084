"""The scripts for topics as a user runs them: ``python path/to/script.py`` from anywhere."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest
from script_runs import SCRIPTS

from ipckit import Char, Int, NotFound, Struct, Topic
from ipckit.testing import Child, wait_blocked

if TYPE_CHECKING:
    from script_runs import Scripts

    from ipckit.testing import Namespace

RATE = rb"messages: [\d,]+ messages/s, [\d,.]+ MB/s\n"


class Stu(Struct):
    name: Char[32]
    age: Int


def test_each_subscriber_gets_all_lines(scripts: Scripts, ns: Namespace) -> None:
    name = ns.name()[1:]
    lines = b"one\n\n  two  \n\xff\xfe no UTF-8\n"
    with Topic.create(name) as topic:
        readers = [scripts.start("topic_subscribe.py", "--name", name, "--rate") for _ in range(2)]
        options = ("--subscribers", 2, "--rate")
        sent = scripts.run("topic_publish.py", "--name", name, *options, stdin=lines)
        assert (sent.returncode, sent.stdout) == (0, b"")
        assert re.fullmatch(b"4 " + RATE, sent.stderr)
        for reader in readers:
            out, err = reader.communicate(timeout=60)
            assert (reader.returncode, out) == (0, lines)
            assert re.fullmatch(b"4 " + RATE + b"lost: 0\n", err)
        assert topic.stats().published == 4


def test_a_new_subscriber_gets_the_last_structs(scripts: Scripts, ns: Namespace) -> None:
    name = ns.name()[1:]
    here = ("--name", name, "--struct")
    sent = scripts.run(
        "topic_publish.py", *here, "--create", "--history", 2, "eve,19", "amy,20", "bob,31"
    )
    assert (sent.returncode, sent.stdout, sent.stderr) == (0, b"", b"")
    got = scripts.run("topic_subscribe.py", *here)
    assert (got.returncode, got.stderr) == (0, b"")
    assert got.stdout == b"Stu(name='amy', age=20)\nStu(name='bob', age=31)\n"
    got = scripts.run("topic_subscribe.py", *here, "--history", 1, "--count", 1)
    assert (got.returncode, got.stdout) == (0, b"Stu(name='bob', age=31)\n")
    wrong = scripts.run("topic_subscribe.py", "--name", name)
    assert wrong.returncode == 1
    assert b"char name[32]; int age;" in wrong.stderr
    wrong = scripts.run("topic_publish.py", *here, "no comma")
    assert (wrong.returncode, wrong.stdout) == (1, b"")
    assert wrong.stderr.startswith(b"error: ")
    assert scripts.run("topic_subscribe.py", *here, "--remove").returncode == 0
    with pytest.raises(NotFound):
        Topic.open(name, Stu)


def test_a_subscriber_that_wants_the_newest_counts_what_it_lost(
    scripts: Scripts, ns: Namespace
) -> None:
    with Topic.create(ns.name()) as topic:
        assert topic.name is not None
        here = ("--name", topic.name[1:], "--newest", "--depth", 1)
        with scripts.start("topic_subscribe.py", *here, "--count", 2) as reader:
            wait_blocked(reader.pid, "shared_futex")
            topic.publish(b"first")
            assert reader.stdout.readline() == b"first\n"
            wait_blocked(reader.pid, "shared_futex")
            reader.send_signal(signal.SIGSTOP)
            for number in range(5):
                topic.publish(b"%d" % number)
            reader.send_signal(signal.SIGCONT)
            assert reader.communicate(timeout=60) == (b"4\n", b"lost: 4\n")
        assert reader.returncode == 0


def test_frames_go_to_a_subscriber_that_waits_for_publishers(
    scripts: Scripts, ns: Namespace
) -> None:
    name = ns.name()[1:]
    sent = scripts.run(
        "topic_publish.py", "--name", name, "--create", "--frames", 1, "--capacity", 2
    )
    assert (sent.returncode, sent.stdout, sent.stderr) == (0, b"", b"")
    options = ("--frames", "--wait", "--remove")
    with scripts.start("topic_subscribe.py", "--name", name, *options) as reader:
        for _ in range(2):
            sent = scripts.run(
                "topic_publish.py", "--name", name, "--frames", 3, "--subscribers", 1
            )
            assert (sent.returncode, sent.stdout, sent.stderr) == (0, b"", b"")
            for number in range(3):
                assert reader.stdout.readline() == b"frame %d: whole\n" % number
        wait_blocked(reader.pid, "shared_futex")
        reader.send_signal(signal.SIGINT)
        assert reader.communicate(timeout=60) == (b"", b"")
    assert reader.returncode == 128 + signal.SIGINT


def test_a_topic_that_does_not_exist(scripts: Scripts, ns: Namespace) -> None:
    for script in ("topic_publish.py", "topic_subscribe.py"):
        done = scripts.run(script, "--name", ns.name()[1:])
        assert (done.returncode, done.stdout) == (1, b"")
        assert re.fullmatch(rb"error: .*no such topic; create it with .*\n", done.stderr)
        assert scripts.run(script).returncode == 2


def test_a_publisher_does_not_wait_longer_than_told_for_subscribers(
    scripts: Scripts, ns: Namespace
) -> None:
    name = ns.name()[1:]
    with Topic.create(name) as topic:
        options = ("--subscribers", 1, "--timeout", 0.1, "line")
        done = scripts.run("topic_publish.py", "--name", name, *options)
        assert (done.returncode, done.stderr) == (1, b"error: nothing changed within 0.1 s\n")
        assert topic.stats().published == 0


@pytest.mark.parametrize("script", ["topic_publish.py", "channel_send.py"])
def test_a_capacity_of_0(scripts: Scripts, ns: Namespace, script: str) -> None:
    done = scripts.run(script, "--name", ns.name()[1:], "--create", "--capacity", 0, "line")
    assert done.returncode == 1
    assert b"error: capacity must be 1 to" in done.stderr


def test_a_camera_goes_on_while_its_analyser_is_killed(scripts: Scripts) -> None:
    done = scripts.run("camera_fanout.py", "--frames", 40, "--kills", 3)
    assert done.returncode == 0, done
    *kills, recorder, viewer, analyser = done.stdout.decode().splitlines()
    assert len(kills) == 3
    assert all(re.fullmatch(r"analyser \d+ was killed with -9", each) for each in kills)
    assert recorder == "recorder: 40 frames, 0 lost"
    numbers = re.fullmatch(r"viewer: (\d+) frames, (\d+) lost; the last one is frame 39", viewer)
    assert numbers
    assert int(numbers[1]) + int(numbers[2]) == 40
    assert analyser == "analyser: 3 restarts; 0 torn frames"
    assert re.fullmatch(b"40 " + RATE, done.stderr)


TORN = """
import sys
sys.path[0:0] = args
import numpy as np
from _fanout import FRAME, number_of, paint
pixels = np.zeros(FRAME.shape, np.uint8)
paint(pixels, 7)
result = [number_of(pixels)]
for part in (pixels[540:], pixels[0:1, 0:1], pixels[-1:, -1:], pixels[700:701, 5:6]):
    kept = part.copy()
    part[...] = 8
    result.append(number_of(pixels))
    part[...] = kept
"""


def test_a_mixture_of_two_frames_is_seen() -> None:
    with Child(TORN, str(SCRIPTS)) as child:
        assert child.result == [7, None, None, None, None]
