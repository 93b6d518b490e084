"""Screens of ``ipckit top`` with made-up rows, as text and as SVG."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ipckit._cli.top.app import TopApp
from ipckit._cli.top.columns import View
from ipckit._cli.top.model import Row, row_of
from ipckit.inventory import IpcObject, Peer, Process, Use

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ipckit.inventory import Kind

MIB = 2**20


class FakeSampler:
    """A sampler that returns rows, or raises an error."""

    def __init__(self, rows: Sequence[Row], use: tuple[int, int] | None = None) -> None:
        self.now = list(rows)
        self.use = use
        self.error: Exception | None = None

    def rows(self) -> list[Row]:
        if self.error is not None:
            raise self.error
        return self.now

    def memory_use(self) -> tuple[int, int] | None:
        return self.use

    def sample(self) -> None:
        pass

    def look(self) -> None:
        pass

    def close(self) -> None:
        pass


def app_of(sampler: FakeSampler, **fields: Any) -> TopApp:
    """An app that refreshes only when it is told."""
    return TopApp(interval=3600, view=View(**fields), sampler=sampler)  # type: ignore[arg-type]


def item(kind: Kind, name: str, **fields: Any) -> IpcObject:
    """An object of this name; of System V one with this identifier."""
    given: dict[str, Any] = {"name": name, "key": None, "id": 7, "identity": (1, 7)}
    if kind.startswith("sysv"):
        given |= {"name": "", "key": 0, "id": int(name)}
    given |= {"uid": 1000, "gid": 1000, "owner": "amy", "group": "amy", "mode": 0o600, "size": None}
    return IpcObject(kind=kind, **given | fields)


def peer(pid: int, command: str, *roles: str, **fields: Any) -> Peer:
    given: dict[str, Any] = {"waits": "", "waiting": None, "since": 1.0, "sent": 0, "received": 0}
    return Peer(pid, command, roles, **given | fields)


def example() -> list[Row]:
    """The rows of a machine on which a channel is full, because its receiver hangs."""
    camera = peer(4021, "python camera.py", "creator", "sender", waits="room", waiting=41.0)
    frames = item(
        "channel",
        "frames",
        payload="struct Frame",
        used=Use(messages=64, bytes=59 * MIB),
        peers=(camera, peer(4022, "python detect.py", "receiver")),
        state="held",
        details={
            "capacity": 64,
            "longest": MIB,
            "item_size": MIB,
            "bytes": 64 * MIB,
            "dropped": 0,
            "taken": 1,
            "created": 1,
            "overwrite": 0,
            "tail": 1064,
            "head": 1000,
        },
    )
    ticks = item(
        "topic",
        "ticks",
        payload="struct Tick",
        used=Use(messages=1024, bytes=65536),
        peers=(
            peer(911, "feed --market x", "publisher"),
            peer(912, "python strategy.py", "subscriber"),
            peer(913, "python record.py", "subscriber"),
        ),
        state="held",
        details={
            "capacity": 1024,
            "longest": 64,
            "item_size": 64,
            "bytes": 65536,
            "created": 1,
            "history": 0,
            "published": 9000,
            "subscribers": 2,
            "unread": 980,
            "lost": 120,
        },
    )
    orders = item(
        "sysv-queue",
        "5",
        key=0x4D2,
        used=Use(messages=2, bytes=72),
        holders=(Process(502, "orderd", "waits in msgrcv", True),),  # noqa: FBT003
        state="held",
    )
    jobs = item(
        "posix-queue",
        "/jobs",
        used=Use(messages=0, bytes=0),
        holders=(Process(731, "python worker.py", "fd 4", True),),  # noqa: FBT003
        state="held",
        details={"maxmsg": 10, "msgsize": 8192},
    )
    locks = item("sysv-semaphores", "9", key=0x77, used=Use(values=(0, 3)), state="used")
    old = item("posix-segment", "/psm_1f0c2a9b", size=8 * MIB, state="orphaned")
    socket = item("socket", "/run/app.sock", used=Use(attached=3))
    return [
        replace(row_of(frames), rate_in=0.0, rate_out=0.0, dropped=0.0),
        replace(row_of(ticks), rate_in=52000.0, rate_out=103000.0, dropped=120.0),
        replace(row_of(orders), rate_in=3.5, rate_out=3.0, bytes_in=126.0, bytes_out=108.0),
        replace(row_of(jobs), rate_in=11.0, rate_out=11.0),
        replace(row_of(locks), waiters=2),
        row_of(old),
        row_of(socket),
    ]


EXAMPLE_USE = (61 * MIB, 64 * MIB)


def text_of(app: TopApp) -> str:
    """What is on the screen, without blanks at the end of lines."""
    width, height = app.size
    console = Console(width=width, height=height, file=io.StringIO(), record=True)
    console.print(app.screen._compositor.render_update(full=True))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    return "\n".join(lines).rstrip("\n") + "\n"


def capture(
    size: tuple[int, int] = (80, 24),
    keys: Sequence[str] = (),
    *,
    made: Callable[[], list[Row]] = example,
) -> tuple[str, str]:
    """Return the screen as text and as SVG.

    Args:
        size: columns and lines.
        keys: the keys to press first.
        made: makes the rows.
    """

    async def drive() -> tuple[str, str]:
        app = app_of(FakeSampler(made(), EXAMPLE_USE))
        async with app.run_test(size=size) as pilot:
            await pilot.press(*keys)
            await pilot.pause()
            return text_of(app), app.export_screenshot(title="ipckit top")

    return asyncio.run(drive())
