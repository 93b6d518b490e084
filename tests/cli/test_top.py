"""``ipckit top``: its rates, its snapshot, its keys."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import select
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from textual.widgets import DataTable, Static

from ipckit import (
    PosixMessageQueue,
    SysVMessageQueue,
    SysVSemaphoreSet,
    SysVSharedMemory,
    Topic,
)
from ipckit._cli.top.app import TopApp
from ipckit._cli.top.model import Row, Sampler, arranged, cells

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
            (row,) = (each for each in sampler.rows() if str(topic.name)[1:] in each.address)
            assert (row.messages, row.rate_in, row.attached) == (5, 3.0, 2)
            topic.unlink()
            assert row.address not in {each.address for each in sampler.rows()}
        finally:
            sampler.close()


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


def row(address: str, **fields: Any) -> Row:
    return Row(address, "", "amy", **fields)


def test_rows_are_sorted_in_descending_order() -> None:
    rows = [row("q:1", messages=3), row("q:2", messages=9), row("s:1", waiters=2), row("m:1")]
    assert [each.address for each in arranged(rows, "messages", "")][:2] == ["q:2", "q:1"]
    assert arranged(rows, "waiters", "")[0].address == "s:1"
    assert [each.address for each in arranged(rows, "name", "")] == ["m:1", "q:1", "q:2", "s:1"]
    assert [each.address for each in arranged(rows, "name", "Q:")] == ["q:1", "q:2"]
    assert cells(row("q:1", messages=0, rate_in=0.25, rate_out=12.3))[3:7] == ["0", "", "0.2", "12"]


def test_a_snapshot_is_one_table_or_json(
    commands: Callable[..., Any], objects: dict[str, Any]
) -> None:
    objects["q"].send(b"hello")
    names = addresses(objects)
    quick = ("top", "--once", "--interval", 0.05)
    table, data, filtered, *wrong = commands(
        quick,
        [*quick, "--json", "--sort", "bytes"],
        [*quick, "--filter", names["mq"]],
        ["top", "--json"],
        ["top", "--once", "--sort", "age"],
        ["top", "--once", "--interval", 0],
    )
    assert re.search(rf"^{names['q']} .* 1 +5 ", table[1], re.M)
    rows = {each["address"]: each for each in json.loads(data[1])}
    assert set(names.values()) <= rows.keys()
    assert rows[names["q"]]["messages"] == 1
    assert filtered[1].splitlines()[1].split()[0] == names["mq"]
    assert [status for status, _, _ in wrong] == [2, 2, 2]


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
    objects["q"].drain()


def shown(app: TopApp) -> list[str]:
    table = app.query_one("#objects", DataTable)
    return [str(table.get_row_at(index)[0]) for index in range(table.row_count)]


def status(app: TopApp) -> str:
    return str(app.query_one("#status", Static).render())


async def drive(objects: dict[str, Any]) -> None:
    names = addresses(objects)
    # An interval that does not come: the test takes the rows anew when it wants.
    app = TopApp(interval=3600, order="messages", wanted="")
    async with app.run_test(size=(160, 40)) as pilot:
        await pilot.pause()
        assert set(names.values()) <= set(shown(app))
        objects["mq"].send(b"1")
        objects["mq"].send(b"2")
        app.refresh_rows()
        order = [each for each in shown(app) if each in names.values()]
        assert order[0] == names["mq"]
        await pilot.press("b")
        order = [each for each in shown(app) if each in names.values()]
        assert order[0] == names["m"]
        assert "by bytes" in status(app)
        await pilot.press("slash", *names["s"])
        assert shown(app) == [each for each in [names["s"]] if each in shown(app)]
        assert names["s"] in shown(app)
        await pilot.press("enter", "n")
        assert "by name" in status(app)
        assert f"filter '{names['s']}'" in status(app)
        await pilot.press("escape")
        assert set(names.values()) <= set(shown(app))
        await pilot.press("space")
        assert "paused" in status(app)
        await pilot.press("space", "q")
    assert app.return_code == 0
    objects["mq"].drain()


async def filter_on_a_small_terminal() -> tuple[int, int]:
    app = TopApp(interval=3600, order="messages", wanted="")
    async with app.run_test(size=(80, 7)) as pilot:
        await pilot.press("slash")
        await pilot.pause()
        line = app.query_one("#filter")
        return line.region.bottom, line.region.height


@pytest.mark.usefixtures("objects")
def test_the_filter_input_is_visible_below_many_rows() -> None:
    bottom, height = asyncio.run(filter_on_a_small_terminal())
    assert height > 0
    assert bottom < 7


def test_the_keys_sort_filter_pause_and_quit(objects: dict[str, Any]) -> None:
    asyncio.run(drive(objects))


def test_it_runs_on_a_terminal_and_q_quits() -> None:
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "30"}
    with subprocess.Popen(
        [sys.executable, "-m", "ipckit", "top", "--interval", "0.1"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=env,
    ) as top:
        os.close(theirs)
        seen = b""
        while b"OBJECT" not in seen:
            ready, _, _ = select.select([ours], [], [], 60)
            assert ready, seen
            seen += os.read(ours, 65536)
        os.write(ours, b"q")
        while select.select([ours], [], [], 60)[0]:
            try:
                os.read(ours, 65536)
            except OSError:
                break  # its end is closed
        assert top.wait(30) == 0
    os.close(ours)
