"""What ``ipckit top`` shows: each queue, segment and semaphore set, and how fast it changes.

The kernel counts no messages that passed, only those that are there. So the depth of each queue
is looked at many times, and rises and falls are added up: what comes and goes between two looks
is missed, and the rates are lower bounds.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from ipckit import inventory
from ipckit.errors import IpcError
from ipckit.msgq import PosixMessageQueue, list_queues
from ipckit.sem import SysVSemaphoreSet, list_sets
from ipckit.shm import list_segments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOOKS: Final = 20  # an interval


@dataclass(frozen=True, slots=True)
class Row:
    """One object now.

    Attributes:
        address: what names it, such as ``"q:5"``.
        key: its key as text, or "".
        owner: the owner's name.
        messages: messages queued; None for what has none.
        bytes: bytes of text queued, or bytes of a segment.
        rate_in: messages a second that came, at least.
        rate_out: messages a second that were taken, at least.
        bytes_in: bytes a second that came, at least; None where the kernel does not tell.
        bytes_out: bytes a second that were taken, likewise.
        waiters: who waits on its semaphores; None for what has none, or where it may not be read.
        attached: how often a segment is attached; None for what is not.
        values: the values of its semaphores, as text.
        last: the process that last used it; 0 for none on record.
    """

    address: str
    key: str
    owner: str
    messages: int | None = None
    bytes: int | None = None
    rate_in: float | None = None
    rate_out: float | None = None
    bytes_in: float | None = None
    bytes_out: float | None = None
    waiters: int | None = None
    attached: int | None = None
    values: str = ""
    last: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return asdict(self)


def _key(key: int) -> str:
    return f"{key & 0xFFFFFFFF:#010x}" if key else ""


def _set_row(row: Row, ident: int) -> Row:
    try:
        with SysVSemaphoreSet.from_id(ident) as found:
            waiting = sum(each.waiting + each.waiting_zero for each in found)
            last = next((each.pid for each in found if each.pid), 0)
            values = found.values
    except IpcError:
        return row  # removed meanwhile, or not to be read
    shown = " ".join(map(str, values[:8])) + (" …" if len(values) > 8 else "")  # noqa: PLR2004
    return replace(row, waiters=waiting, values=shown, last=last)


@dataclass(slots=True)
class _Flow:
    """What came to and went from one queue since the rates were last taken."""

    depth: int
    size: int | None
    came: int = 0
    went: int = 0
    bytes_came: int = 0
    bytes_went: int = 0

    def look(self, depth: int, size: int | None) -> None:
        """Note the messages and bytes that are there now."""
        self.came += max(0, depth - self.depth)
        self.went += max(0, self.depth - depth)
        if size is not None and self.size is not None:
            self.bytes_came += max(0, size - self.size)
            self.bytes_went += max(0, self.size - size)
        self.depth, self.size = depth, size


class Sampler:
    """Looks at every object again and again.

    Call `look` many times an interval, which is cheap, and `rows` once at its end. `close` it
    when done: it keeps the POSIX queues open.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._flows: dict[str, _Flow] = {}
        self._began = clock()
        self._posix: dict[str, PosixMessageQueue[bytes]] = {}
        self._owners: dict[str, str] = {}
        self._refresh()
        self.look()

    def close(self) -> None:
        """Let go of the queues."""
        for queue in self._posix.values():
            queue.close()
        self._posix.clear()

    def _refresh(self) -> None:
        """Find the POSIX queues that came, and forget those that went."""
        found = inventory.survey(["posix-queue"], holders=False).objects
        self._owners = {each.name: each.owner for each in found}
        for name in set(self._posix) - set(self._owners):
            self._posix.pop(name).close()
        for name in set(self._owners) - set(self._posix):
            with suppress(IpcError):
                self._posix[name] = PosixMessageQueue.open(name, readonly=True)

    def look(self) -> None:
        """Note how deep each queue is now."""
        for address, depth, size in self._depths():
            flow = self._flows.get(address)
            if flow is None:
                self._flows[address] = _Flow(depth, size)
            else:
                flow.look(depth, size)

    def _depths(self) -> Iterator[tuple[str, int, int | None]]:
        for queue in list_queues():
            yield f"q:{queue.id}", queue.qnum, queue.cbytes
        for name, posix in self._posix.items():
            yield f"mq:{name}", posix.attributes().curmsgs, None

    def _rated(self, row: Row, elapsed: float) -> Row:
        flow = self._flows.get(row.address)
        if flow is None or elapsed <= 0:
            return row
        known = flow.size is not None
        rated = replace(
            row,
            rate_in=flow.came / elapsed,
            rate_out=flow.went / elapsed,
            bytes_in=flow.bytes_came / elapsed if known else None,
            bytes_out=flow.bytes_went / elapsed if known else None,
        )
        flow.came = flow.went = flow.bytes_came = flow.bytes_went = 0
        return rated

    def rows(self) -> list[Row]:
        """Every object, with the rates since the last call."""
        self._refresh()
        self.look()
        now = self._clock()
        elapsed, self._began = now - self._began, now
        found = [self._rated(row, elapsed) for row in self._objects()]
        there = {row.address for row in found}
        for address in set(self._flows) - there:
            del self._flows[address]  # a later queue of that id is another
        return found

    def _objects(self) -> Iterator[Row]:
        users: dict[int, str] = {}
        for each in inventory.survey(
            ["sysv-queue", "sysv-segment", "sysv-semaphores"], holders=False
        ).objects:
            if each.uid is not None:
                users[each.uid] = each.owner
        for queue in list_queues():
            last = queue.lrpid if queue.rtime > queue.stime else queue.lspid
            yield Row(
                f"q:{queue.id}",
                _key(queue.key),
                users.get(queue.uid, str(queue.uid)),
                messages=queue.qnum,
                bytes=queue.cbytes,
                last=last,
            )
        for name, owner in sorted(self._owners.items()):
            row = Row(f"mq:{name}", "", owner)
            posix = self._posix.get(name)
            yield row if posix is None else replace(row, messages=posix.attributes().curmsgs)
        for segment in list_segments():
            yield Row(
                f"m:{segment.id}",
                _key(segment.key),
                users.get(segment.uid, str(segment.uid)),
                bytes=segment.segsz,
                attached=segment.nattch,
                last=segment.lpid or segment.cpid,
            )
        for stat in list_sets():
            row = Row(f"s:{stat.id}", _key(stat.key), users.get(stat.uid, str(stat.uid)))
            yield _set_row(row, stat.id)


def _number(value: float | None) -> float:
    return -1.0 if value is None else float(value)


# What `top` can sort by: a key, a title, and what of a row counts; the largest first but names.
ORDERS: Final[dict[str, tuple[str, Callable[[Row], Any]]]] = {
    "name": ("n", lambda row: row.address),
    "messages": ("m", lambda row: _number(row.messages)),
    "bytes": ("b", lambda row: _number(row.bytes)),
    "rate": ("r", lambda row: _number(row.rate_in) + _number(row.rate_out)),
    "waiters": ("w", lambda row: _number(row.waiters)),
    "attached": ("a", lambda row: _number(row.attached)),
}


def arranged(rows: list[Row], order: str, wanted: str) -> list[Row]:
    """The rows in which some text stands, in an order of `ORDERS`."""
    shown = [
        row for row in rows if wanted.lower() in f"{row.address} {row.key} {row.owner}".lower()
    ]
    return sorted(shown, key=ORDERS[order][1], reverse=order != "name")


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}" if value >= 10 or value == 0 else f"{value:.1f}"  # noqa: PLR2004


TITLES: Final = (
    "OBJECT", "KEY", "OWNER", "MESSAGES", "BYTES", "IN/s", "OUT/s", "BYTES-IN/s", "BYTES-OUT/s",
    "WAITERS", "ATTACHED", "VALUES", "LAST",
)  # fmt: skip
NUMBERS: Final = "MESSAGES BYTES IN/s OUT/s BYTES-IN/s BYTES-OUT/s WAITERS ATTACHED LAST"


def cells(row: Row) -> list[str]:
    """A row as text, under `TITLES`."""
    counts = (row.messages, row.bytes)
    rates = (row.rate_in, row.rate_out, row.bytes_in, row.bytes_out)
    uses = (row.waiters, row.attached)
    return [
        row.address,
        row.key,
        row.owner,
        *("" if each is None else str(each) for each in counts),
        *map(_rate, rates),
        *("" if each is None else str(each) for each in uses),
        row.values,
        str(row.last) if row.last else "",
    ]
