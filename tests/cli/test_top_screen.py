"""The screen of ``ipckit top``: what fits it, its keys, its pages, and how it ends."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from top_screens import EXAMPLE_USE, FakeSampler, app_of, capture, example, item, text_of

from ipckit import SysVSemaphoreSet
from ipckit._cli.top.app import TopApp
from ipckit._cli.top.columns import COLUMNS, ORDERS, View
from ipckit._cli.top.model import row_of
from ipckit._cli.top.screens import DetailPage, HelpPage, help_lines
from ipckit._cli.top.table import ObjectTable, layout_of
from ipckit.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from textual.pilot import Pilot

    from ipckit._cli.top.layout import Layout
    from ipckit._cli.top.model import Row
    from ipckit.testing import Namespace


# -- columns ---------------------------------------------------------------------------------------


def titles(layout: Layout) -> list[str]:
    return [COLUMNS[index].title for index in layout.widths]


def text(layout: Layout, row: int, part: int = 0) -> str:
    return "".join(piece for piece, _ in layout.line(row, part)).rstrip()


def test_columns_are_dropped_by_importance_and_waiters_stay() -> None:
    rows = example()
    hidden: list[set[str]] = []
    for room in (20, 30, 50, 80, 120, 160, 250):
        layout = layout_of(rows, room)
        assert {"OBJECT", "WAITERS"} <= set(titles(layout))
        assert room < 30 or sum(layout.widths.values()) + 2 * (len(layout.widths) - 1) <= room
        hidden.append(set(layout.hidden))
    assert all(more >= fewer for more, fewer in pairwise(hidden))
    assert hidden[-1] == set()
    empty = {"LAST", "BRIDGE"}
    assert titles(layout) == [column.title for column in COLUMNS if column.title not in empty]
    at_80 = {"OBJECT", "MESSAGES", "BYTES", "IN/s", "OUT/s", "DROP/s", "WAITERS", "PEERS"}
    assert set(titles(layout_of(rows, 80))) == at_80
    assert titles(layout_of([], 250)) == [column.title for column in COLUMNS]


def test_a_long_name_has_lines_of_its_own() -> None:
    long = replace(example()[0], address="channel:" + "über-x\x1b" * 12)
    layout = layout_of([example()[1], long, example()[2]], 80)
    assert layout.starts == [0, 1, 4, 5]
    assert "DROP/s" in titles(layout)
    name = text(layout, 1) + text(layout, 1, 1)
    assert name == "channel:" + r"über-x\x1b" * 12
    assert text(layout, 1, 2).split()[0] == "64/64"
    assert text(layout, 0).startswith("topic:ticks")


def test_many_rows_are_laid_out_quickly() -> None:
    began = time.process_time()
    layout = layout_of(example() * 700, 80)
    assert time.process_time() - began < 1
    assert len(layout.starts) == 4901


def test_every_order_has_its_key_and_its_column() -> None:
    assert {order.title for order in ORDERS.values()} <= {column.title for column in COLUMNS}
    assert " ".join(order.key for order in ORDERS.values()) == "n m b r d w a"


def test_the_help_fits_a_small_terminal() -> None:
    lines = help_lines()
    assert len(lines) <= 22
    assert max(map(len, lines)) <= 78
    told = " ".join(lines)
    missing = [column.title for column in COLUMNS if column.title not in told]
    assert missing == ["OWNER", "KEY", "IN-BYTES/s", "OUT-BYTES/s"]  # they explain themselves


# -- keys and pages --------------------------------------------------------------------------------


def shown(app: TopApp) -> list[str]:
    return [row.address for row in app.query_one(ObjectTable).rows]


def status(app: TopApp) -> str:
    return text_of(app).splitlines()[0]


async def keys_on_the_table(app: TopApp, pilot: Pilot[None]) -> None:
    await pilot.press("b")
    assert shown(app)[0] == "channel:frames"
    assert "by bytes" in status(app)
    await pilot.press("S")
    assert "by bytes, reversed" in status(app)
    assert shown(app)[-1] == "channel:frames"
    await pilot.press("left")  # MESSAGES is the column to the left
    assert "by messages " in status(app)
    await pilot.click(ObjectTable, offset=(2, 0))
    assert "by name" in status(app)
    await pilot.press("k", "k")
    assert shown(app) == ["shm:/psm_1f0c2a9b"]
    assert "only segments" in status(app)
    await pilot.press("K", "K", "W")
    assert shown(app) == ["channel:frames", "q:5", "s:9"]
    await pilot.press("slash", *"ord", "enter")
    assert shown(app) == ["q:5"]
    assert "filter 'ord'" in status(app)
    await pilot.press("escape")
    assert len(shown(app)) == 7
    await pilot.press("space")
    assert status(app).startswith("PAUSED")
    await pilot.press("space")


async def the_cursor_stays_on_its_object(
    app: TopApp, pilot: Pilot[None], sampler: FakeSampler
) -> None:
    table = app.query_one(ObjectTable)
    await pilot.press("m", "home", "down", "down")
    assert table.current is not None
    assert table.current.address == "q:5"
    await pilot.press("n")
    assert table.current.address == "q:5"
    await pilot.press("end", "pagedown")
    assert table.current.address == shown(app)[-1]
    sampler.now = sampler.now[:2]
    app.refresh_rows()
    assert table.current.address in shown(app)
    sampler.now = example()
    app.refresh_rows()
    await pilot.press("home")


async def pages(app: TopApp, pilot: Pilot[None], sampler: FakeSampler) -> None:
    await pilot.press("m", "down", "enter")
    page = app.screen
    assert isinstance(page, DetailPage)
    assert page.row.address == "channel:frames"
    assert "creator, sender  room, 41s" in text_of(app)
    # The keys of the table do nothing here, and the details are refreshed.
    await pilot.press("slash", "k", "W")
    sampler.now[0] = replace(sampler.now[0], rate_in=17.0)
    app.refresh_rows()
    await pilot.pause()
    assert "17 messages in" in text_of(app)
    sampler.now = sampler.now[1:]
    app.refresh_rows()
    await pilot.pause()
    assert "channel:frames: it no longer exists" in text_of(app)
    await pilot.press("question_mark")
    assert isinstance(app.screen, HelpPage)
    assert "No room for" in text_of(app)
    await pilot.press("escape", "escape")
    assert "channel:frames" not in text_of(app)
    assert len(shown(app)) == 6
    # Another user wrote nonsense into the memory of a channel.
    sampler.now = [row_of(item("channel", "bad", details={"tail": 1, "capacity": 2**64}))]
    app.refresh_rows()
    await pilot.press("enter")
    assert "could not show its details: KeyError" in text_of(app)
    await pilot.press("escape")
    sampler.now = example()
    app.refresh_rows()


async def resized(app: TopApp, pilot: Pilot[None]) -> None:
    await pilot.resize_terminal(200, 50)
    await pilot.pause()
    wide = text_of(app)
    assert "OWNER" in wide
    assert "4021 python camera.py" in wide
    await pilot.resize_terminal(40, 6)
    await pilot.pause()
    narrow = text_of(app)
    assert "WAITERS" in narrow
    assert "OWNER" not in narrow
    assert max(map(len, narrow.splitlines())) <= 40


async def errors(app: TopApp, pilot: Pilot[None], sampler: FakeSampler) -> None:
    await pilot.resize_terminal(100, 24)
    sampler.error = NotFound("it was removed", target="q:5\x1b")
    app.refresh_rows()
    await pilot.pause()
    assert r"could not list the objects: q:5\x1b: it was removed" in status(app)
    assert len(shown(app)) == 7
    sampler.error = None
    app.refresh_rows()
    await pilot.pause()
    assert "could not" not in status(app)


def test_keys_pages_sizes_and_errors() -> None:
    async def drive() -> None:
        sampler = FakeSampler(example(), EXAMPLE_USE)
        app = app_of(sampler)
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            await keys_on_the_table(app, pilot)
            await the_cursor_stays_on_its_object(app, pilot, sampler)
            await pages(app, pilot, sampler)
            await resized(app, pilot)
            await errors(app, pilot, sampler)
            await pilot.press("q")
        assert app.return_code == 0
        other = app_of(sampler, wanted="q:5")
        async with other.run_test(size=(80, 24)) as pilot:
            await pilot.press("slash", "escape", "slash", "ctrl+c")
        assert other.return_code == 130

    asyncio.run(drive())


def many() -> list[Row]:
    return [row_of(item("posix-segment", f"/{n:04}", size=n)) for n in range(3000)]


def test_a_small_terminal_shows_the_cursor_and_the_filter() -> None:
    async def drive() -> None:
        app = app_of(FakeSampler(many()), order="name")
        async with app.run_test(size=(80, 7)) as pilot:
            await pilot.press("end", "up")
            await pilot.pause()
            assert "shm:/2998" in text_of(app)
            app.refresh_rows()
            await pilot.pause()
            assert "shm:/2998" in text_of(app)
            await pilot.press("S")  # the cursor stays on its object, and in view
            await pilot.pause()
            assert "shm:/2998" in text_of(app)
            await pilot.press("slash", "9")
            await pilot.pause()
            line = app.query_one("#filter")
            assert line.region.height > 0
            assert line.region.bottom < 7

    asyncio.run(drive())


@pytest.fixture
def waited_on(ns: Namespace) -> Iterator[SysVSemaphoreSet]:
    with SysVSemaphoreSet.create(ns.key(), [0, 3]) as semaphores:
        yield semaphores


def test_its_thread_refreshes_what_is_shown(waited_on: SysVSemaphoreSet) -> None:
    address = f"s:{waited_on.id}"

    async def drive() -> None:
        app = TopApp(interval=0.05, view=View(wanted=address))
        async with app.run_test(size=(120, 30)) as pilot:
            await pilot.press("enter")
            assert "0 3" in text_of(app)
            waited_on[0].release()
            deadline = time.monotonic() + 30
            while "1 3" not in text_of(app):
                assert time.monotonic() < deadline, text_of(app)
                await pilot.pause(0.02)

    asyncio.run(drive())


def test_a_capture_is_the_same_each_time() -> None:
    screen, picture = capture((80, 12))
    assert "topic:ticks" in screen
    assert "topic:ticks" in picture
    assert capture((80, 12)) == (screen, picture)


# -- a real terminal -------------------------------------------------------------------------------


class Screen:
    """`ipckit top` on a pseudo terminal."""

    def __init__(self) -> None:
        self.ours, theirs = pty.openpty()
        env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "30"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ipckit", "top", "--interval", "0.1"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=env,
        )
        os.close(theirs)

    def read_until(self, wanted: bytes) -> bytes:
        """Read until the output has this, or, if that is b"", until its end."""
        seen = b""
        while not wanted or wanted not in seen:
            ready, _, _ = select.select([self.ours], [], [], 60)
            assert ready, seen
            try:
                seen += os.read(self.ours, 65536)
            except OSError:
                break  # its end is closed
        return seen


@pytest.fixture
def screen() -> Iterator[Screen]:
    made = Screen()
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait(60)


def test_it_runs_on_a_terminal_until_ctrl_c(screen: Screen) -> None:
    screen.read_until(b"OBJECT")
    os.write(screen.ours, b"?")
    screen.read_until(b"Ctrl-Z")
    os.write(screen.ours, b"\x03")
    rest = screen.read_until(b"")
    assert screen.process.wait(60) == 130
    assert re.search(rb"\x1b\[\?1049l", rest)  # it left the alternate screen
    os.close(screen.ours)


def test_it_ends_with_its_terminal(screen: Screen) -> None:
    screen.read_until(b"OBJECT")
    os.close(screen.ours)
    assert screen.process.wait(60) == -signal.SIGHUP
