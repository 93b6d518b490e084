"""``ipckit top``: its rates, what it shows of each kind of object, and what it prints."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from top_screens import example, item, peer

from ipckit import (
    Channel,
    PosixMessageQueue,
    PosixSharedMemory,
    SysVMessageQueue,
    SysVSemaphoreSet,
    SysVSharedMemory,
    Topic,
)
from ipckit._cli.top.bridges import BridgeRates
from ipckit._cli.top.columns import COLUMNS, View, arranged, cells, number, who
from ipckit._cli.top.model import _MODULUS, Row, Sampler, _Count, judged_socket, row_of
from ipckit._cli.top.status import gauge, status
from ipckit.inventory import PeerBridge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Child, Namespace


class Clock:
    """A clock that stands still until told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def objects(ns: Namespace) -> Iterator[dict[str, Any]]:
    with (
        SysVMessageQueue.create(ns.key()) as queue,
        PosixMessageQueue.create(ns.name()) as posix,
        SysVSemaphoreSet.create(ns.key(), [0, 3]) as semaphores,
        SysVSharedMemory.create(ns.key(), 4096) as segment,
    ):
        yield {"q": queue, "mq": posix, "s": semaphores, "m": segment}


def addresses(objects: dict[str, Any]) -> dict[str, str]:
    return {
        kind: f"{kind}:{each.name if kind == 'mq' else each.id}" for kind, each in objects.items()
    }


def test_rates_count_sent_and_received_messages(objects: dict[str, Any]) -> None:
    clock = Clock()
    names = addresses(objects)
    sampler = Sampler(clock)
    try:
        for _ in range(3):
            objects["q"].send(b"x" * 100)
            objects["mq"].send(b"y")
            sampler.sample()
        objects["q"].receive()
        sampler.sample()
        objects["mq"].drain()
        clock.now = 2.0
        rows = {row.address: row for row in sampler.rows()}
        queue, posix = rows[names["q"]], rows[names["mq"]]
        assert (queue.rate_in, queue.rate_out) == (1.5, 0.5)
        assert (queue.bytes_in, queue.bytes_out) == (150, 50)
        assert (queue.messages, queue.bytes) == (2, 200)
        assert (posix.rate_in, posix.rate_out, posix.messages) == (1.5, 1.5, 0)
        clock.now = 3.0
        rows = {row.address: row for row in sampler.rows()}
        assert (rows[names["q"]].rate_in, rows[names["mq"]].rate_out) == (0, 0)
    finally:
        sampler.close()


def test_a_topic_has_its_subscribers_and_the_rate_of_what_is_published(ns: Namespace) -> None:
    clock = Clock()
    with (
        Topic.create(ns.name(), capacity=8) as topic,
        topic.subscribe() as slow,
        topic.subscribe(when_full="drop_oldest", depth=1),
    ):
        sampler = Sampler(clock)
        try:
            sampler.rows()
            for _ in range(6):
                topic.publish(b"x")
            slow.receive()
            clock.now = 2.0
            sampler._cost = 0.0  # look at the subscribers again
            (row,) = (each for each in sampler.rows() if str(topic.name)[1:] in each.address)
            assert (row.messages, row.attached, row.capacity, row.peers) == (5, 2, 8, 3)
            assert (row.rate_in, row.rate_out, row.dropped) == (3.0, 0.5, 2.5)
            topic.unlink()
            assert row.address not in {each.address for each in sampler.rows()}
        finally:
            sampler.close()


def test_the_rates_of_a_channel_are_exact(ns: Namespace) -> None:
    clock = Clock()
    with Channel.create(ns.name(), capacity=4, overwrite=True) as channel:
        sampler = Sampler(clock)
        try:
            for _ in range(10):
                channel.send(b"x" * 100)
            channel.receive()
            clock.now = 2.0
            (row,) = (each for each in sampler.rows() if each.kind == "channel")
            assert (row.messages, row.capacity) == (3, 4)
            assert (row.rate_in, row.rate_out, row.dropped) == (5.0, 0.5, 3.0)
            assert (row.peers, row.waiters, row.taken) == (1, 0, 0)
            assert f"{os.getpid()} " in who(row)
        finally:
            sampler.close()
    # The counts are modulo 2**24.
    before = item("channel", "a", details={"tail": _MODULUS - 2, "head": _MODULUS - 5})
    count = _Count.of(before, 0.0)
    count.sample(item("channel", "a", details={"tail": 8, "head": 5}), 1.0)
    count.sample(item("channel", "a", details={"tail": 18, "head": 10}), 2.0)
    rated = count.rated(row_of(before))
    assert (rated.rate_in, rated.rate_out) == (10.0, 7.5)
    # Nothing was read since then, so the rates stay.
    assert count.rated(row_of(before)) == rated


def test_a_later_channel_of_the_same_name_is_another_one(ns: Namespace) -> None:
    clock, name = Clock(), ns.name()
    sampler = Sampler(clock)
    try:
        for seconds in (1.0, 2.0):
            with Channel.create(name, capacity=16) as channel:
                for _ in range(int(5 * seconds)):
                    channel.send(b"x")
                clock.now = seconds
                (row,) = (each for each in sampler.rows() if each.kind == "channel")
                assert (row.messages, row.rate_in) == (5 * seconds, None)
                clock.now += 0.5
                channel.receive()
                (row,) = (each for each in sampler.rows() if each.kind == "channel")
                assert (row.rate_in, row.rate_out) == (0, 2)
    finally:
        sampler.close()


def test_all_kinds_of_objects_are_shown(ns: Namespace, objects: dict[str, Any]) -> None:
    memfd = os.memfd_create("pool")
    os.ftruncate(memfd, 4096)
    with (
        socket.socket(socket.AF_UNIX) as listener,
        PosixSharedMemory.create(ns.name(), 8192) as memory,
        Channel.anonymous(capacity=2) as channel,
    ):
        listener.bind("\0ipckit-test-top")
        listener.listen()
        channel.send(b"x")
        sampler = Sampler()
        rows = sampler.rows()
        # The second survey is without holders, and keeps those that are known.
        sampler._cost = 1000.0
        again = sampler.rows()
        sampler.close()
        assert {each.address for each in rows} == {each.address for each in again}
        found = {each.address: each for each in again}
        assert set(addresses(objects).values()) <= found.keys()
        assert found[f"shm:{memory.name}"].bytes == 8192
        assert found[f"shm:{memory.name}"].state == "held"
        pool = found[f"memfd:{os.fstat(memfd).st_ino}"]
        assert (pool.bytes, pool.peers) == (4096, 1)
        # Other processes of the machine may have anonymous channels, too.
        (anonymous,) = (
            each
            for each in again
            if each.capacity == 2
            and each.item
            and os.getpid() in {h.pid for h in each.item.holders}
        )
        assert (anonymous.messages, anonymous.peers) == (1, 1)
        bound = found["socket:@ipckit-test-top"]
        assert bound.item is not None
        assert (bound.item.holders, bound.attached) == ((), 0)
        assert [each.pid for each in judged_socket(bound.item).holders] == [os.getpid()]
        os.close(memfd)


def test_top_itself_is_not_a_holder_of_a_queue(ns: Namespace) -> None:
    name = ns.name()
    with PosixMessageQueue.create(name) as queue:
        queue.disown()
    sampler = Sampler()
    try:
        for _ in range(2):
            sampler._cost = 0.0
            (row,) = (each for each in sampler.rows() if each.address == f"mq:{name}")
            assert row.item is not None
            assert (row.item.holders, row.state) == ((), "orphaned")
    finally:
        sampler.close()
        with PosixMessageQueue.open(name) as queue:
            queue.unlink()


def test_objects_come_and_go(ns: Namespace) -> None:
    sampler = Sampler(Clock())
    try:
        name = ns.name()
        with PosixMessageQueue.create(name) as queue:
            queue.send(b"x")
            assert f"mq:{name}" in {row.address for row in sampler.rows()}
        assert f"mq:{name}" not in {row.address for row in sampler.rows()}
    finally:
        sampler.close()


def test_waiters_attaches_and_values_are_shown(
    objects: dict[str, Any], spawn: Callable[..., Child]
) -> None:
    code = "from ipckit import *\nwith SysVSemaphoreSet.from_id(args[0]) as s:\n    s[0].acquire()"
    child = spawn(code, objects["s"].id)
    child.wait_blocked("semop", "semtimedop")
    sampler = Sampler()
    rows = {row.address: row for row in sampler.rows()}
    sampler.close()
    objects["s"][0].release()
    child.wait()
    names = addresses(objects)
    assert (rows[names["s"]].waiters, rows[names["s"]].values) == (1, "0 3")
    assert (rows[names["m"]].attached, rows[names["m"]].bytes) == (1, 4096)
    assert rows[names["m"]].last == os.getpid()


def shown(rows: list[Row], **fields: Any) -> list[str]:
    return [each.address for each in arranged(rows, View(**fields))]


def row(address: str, **fields: Any) -> Row:
    return Row(address, "", "amy", **fields)


def test_rows_are_sorted_in_descending_order() -> None:
    rows = [row("q:1", messages=3), row("q:2", messages=9), row("s:1", waiters=2), row("m:1")]
    assert shown(rows, order="messages")[:2] == ["q:2", "q:1"]
    assert shown(rows, order="messages", reverse=True)[-2:] == ["q:1", "q:2"]
    assert shown(rows, order="waiters")[0] == "s:1"
    assert shown([*rows, row("q:10")], order="name") == ["m:1", "q:1", "q:2", "q:10", "s:1"]


def test_rows_are_filtered_by_text_kind_and_waiters() -> None:
    rows = example()
    assert shown(rows, wanted="MQ:") == ["mq:/jobs"]
    assert shown(rows, wanted="camera") == ["channel:frames"]
    assert shown(rows, wanted="00077") == ["s:9"]
    assert shown(rows, kinds=("topic", "channel")) == ["topic:ticks", "channel:frames"]
    assert shown(rows, waiting=True) == ["channel:frames", "q:5", "s:9"]
    odd = replace(rows[0], address="channel:a\x1b[31m")
    assert shown([odd], wanted=r"a\x1B[") == [odd.address]


def test_numbers_are_in_full_in_a_pipe_and_short_on_a_terminal() -> None:
    assert [number(value) for value in (None, 0.0, 0.25, 3.0, 12.3, 99999)] == [
        *("", "0", "0.2", "3", "12", "99999")
    ]
    assert [number(value) for value in (100_000, 1_250_000.0, 2.5e13)] == ["100k", "1.2M", "25T"]
    assert number(1_250_000.0, full=True) == "1250000"
    frames = example()[0]
    at = [column.title for column in COLUMNS].index
    assert cells(frames)[at("MESSAGES")] == "64/64"
    assert cells(frames)[at("BYTES")] == str(59 * 2**20)
    assert cells(frames, full=False)[at("BYTES")] == "59M"
    long = replace(frames, item=item("memfd", "", holders=[peer(n, "x" * 90) for n in range(5)]))
    assert who(long).count("x") == 450
    assert who(long, full=False).endswith("2 more")
    assert who(long, full=False).count("x") < 180


def test_a_snapshot_is_one_table_or_json(
    commands: Callable[..., Any], objects: dict[str, Any]
) -> None:
    objects["q"].send(b"hello")
    names = addresses(objects)
    quick = ("top", "--once", "--interval", 0.05)
    watched = ("top", "-n", 2, "--interval", 0.05)
    table, data, filtered, tables, lines, *wrong = commands(
        quick,
        [*quick, "--json", "--sort", "bytes"],
        [*quick, "--filter", names["mq"], "--sort", "attached"],
        [*watched, "--kind", "mq", "--kind", "channel"],
        [*watched, "--json", "--waiting", "--kind", "q"],
        ["top", "--once", "-n", 2],
        ["top", "--once", "--sort", "age"],
        ["top", "--once", "--interval", 0],
    )
    assert re.search(rf"^{names['q']} .* 1 +5 ", table[1], re.M)
    rows = {each["address"]: each for each in json.loads(data[1])}
    assert set(names.values()) <= rows.keys()
    assert rows[names["q"]]["messages"] == 1
    assert filtered[1].splitlines()[1].split()[0] == names["mq"]
    stamp, titles, only, blank, again, *_ = tables[1].splitlines()
    pattern = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+  1 of \d+ objects(, \d+ waiters?)?  only "
    assert re.match(pattern, stamp)
    assert "/dev/shm" in stamp  # noqa: S108
    assert stamp[:10] == again[:10]
    assert (titles.split()[0], only.split()[0], blank) == ("OBJECT", names["mq"], "")
    assert [json.loads(line) for line in lines[1].splitlines()] == [[], []]
    assert [status for status, _, _ in (table, data, filtered, tables, lines)] == [0] * 5
    assert [status for status, _, _ in wrong] == [2, 2, 2]


def test_it_ends_when_nothing_reads_its_output() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "ipckit", "top", "--interval", "3600"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as top:
        assert top.stdout is not None
        assert top.stderr is not None
        top.stdout.close()
        assert (top.stderr.read(), top.wait(60)) == (b"", 141)


def test_the_gauge_of_shared_memory_shrinks_before_the_rest() -> None:
    use, rows, view = (6 * 2**20, 64 * 2**20), example(), View()
    assert gauge(use) == "/dev/shm [|         ] 6M of 64M, 9%"  # noqa: S108
    assert gauge((64, 64)) == "/dev/shm [||||||||||] 64 of 64, 100%"  # noqa: S108
    assert gauge(None) == ""
    parts = [status(room, rows, rows, view, use, paused=False)[1] for room in (90, 65, 50, 40)]
    assert parts == [gauge(use), gauge(use, bar=0), "/dev/shm 9%", "9%"]  # noqa: S108
    filtered = View(wanted="a\n", kinds=("topic",), waiting=True)
    left, _ = status(200, rows[:1], rows, filtered, use, paused=True, error="failed")
    assert left == (
        "PAUSED  failed  1 of 7 objects, 4 waiters  only topics  only with waiters  "
        r"filter 'a\\n'  by messages"
    )


@pytest.mark.usefixtures("root")
def test_another_user_sees_depths_but_not_waiters(
    commands: Callable[..., Any], objects: dict[str, Any]
) -> None:
    objects["q"].send(b"hello")
    line = ["top", "--once", "--interval", 0.05, "--json"]
    [(status, out, _)] = commands(line, user="nobody")
    rows = {each["address"]: each for each in json.loads(out)}
    names = addresses(objects)
    assert status == 0
    assert rows[names["q"]]["messages"] == 1
    assert rows[names["s"]]["waiters"] is None
    assert rows[names["s"]]["peers"] is None  # they can't be seen
    objects["q"].drain()


def test_a_bridge_has_its_url_rate_and_what_is_on_the_way() -> None:
    bridge = PeerBridge(
        "nats://host/a b", "send", "waiting", "away", 0.0, 0.0, messages=500, unacknowledged=7
    )
    bridged = item("channel", "jobs", peers=(peer(1, "python", bridge=bridge),))
    row = row_of(bridged)
    assert (row.bridge, row.bridge_rate, row.unacknowledged) == (
        r"to nats://host/a\x20b (waiting)",
        None,
        7,
    )
    column = [each.title for each in COLUMNS].index("BRIDGE")
    assert cells(row)[column] == r"to nats://host/a\x20b (waiting), 7 on the way"
    rated = replace(row, bridge_rate=250_000.0, unacknowledged=0)
    assert cells(rated, full=False)[column] == r"to nats://host/a\x20b (waiting), 250k/s"
    rates = BridgeRates()
    more = replace(bridge, messages=800)
    assert rates.rate(bridged, 10.0) is None
    later = replace(bridged, peers=(peer(1, "python", bridge=more),))
    assert rates.rate(later, 12.0) == 150.0
    rates.forget([])
    assert rates.rate(later, 13.0) is None
