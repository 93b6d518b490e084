"""The rows of ``ipckit top``: each queue, topic, segment and semaphore set, with message rates.

The kernel counts only the messages in a queue, not those that passed through it. `Sampler`
therefore samples the depth of each queue many times, and adds up the changes. A message that is
sent and received between two samples is missed, so the rates are lower bounds. A topic counts what
was published, so that rate is exact.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from ipckit import inventory
from ipckit.errors import IpcError
from ipckit.msgq import PosixMessageQueue, list_queues
from ipckit.sem import SysVSemaphoreSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ipckit.inventory import IpcObject, Kind

SAMPLES: Final = 20  # in each interval
_KINDS: Final[tuple[Kind, ...]] = (
    "sysv-queue",
    "posix-queue",
    "sysv-segment",
    "sysv-semaphores",
    "posix-semaphore",
    "topic",
)
_SHOWN: Final = 8  # values of a set


@dataclass(frozen=True, slots=True)
class Row:
    """One object now.

    Attributes:
        address: its address, such as ``"q:5"``.
        key: its key as text, or "".
        owner: the owner's name.
        messages: the number of queued messages; in a topic, those that the slowest subscriber has
            not read; None for other kinds.
        bytes: bytes of queued text, or bytes of a segment or topic.
        rate_in: sent or published messages a second, at least.
        rate_out: received messages a second, at least.
        bytes_in: sent bytes a second, at least; None for a POSIX queue.
        bytes_out: received bytes a second, at least; None for a POSIX queue.
        waiters: how many threads wait on its semaphores; None if it has none or can't be read.
        attached: the number of attaches to a segment, or subscribers of a topic; None for other
            kinds.
        values: the values of its semaphores, as text.
        last: the pid of the process that used it last; 0 if none is recorded.
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
        """Return all fields as plain values, for JSON."""
        return asdict(self)


def _waiters(each: IpcObject) -> int | None:
    """Return how many threads wait on a semaphore or set; None for other kinds, or if denied."""
    if each.kind == "posix-semaphore":
        waiting = each.details.get("waiting")
        return None if waiting is None else int(waiting)
    if each.kind != "sysv-semaphores":
        return None
    try:
        with SysVSemaphoreSet.from_id(each.id) as found:
            return sum(semaphore.waiting + semaphore.waiting_zero for semaphore in found)
    except IpcError:
        return None


def _last(each: IpcObject) -> int:
    """Return the pid of the last user of a queue or segment; 0 if none is recorded."""
    details = each.details
    sent = float(details.get("stime", 0)) >= float(details.get("rtime", 0))
    names = ("lspid", "lrpid") if sent else ("lrpid", "lspid")
    return next((int(details[name]) for name in (*names, "lpid", "cpid") if details.get(name)), 0)


def _count(details: Mapping[str, int | str], name: str) -> int | None:
    """Return a number of a topic; None if its file can't be read."""
    return int(details[name]) if name in details else None


def row_of(each: IpcObject) -> Row:
    """Return the row of an object, without rates."""
    values = each.used.values or ()
    memory = each.kind == "sysv-segment"
    topic = each.details if each.kind == "topic" else {}
    return Row(
        each.address,
        f"{each.key:#010x}" if each.key else "",
        each.owner,
        messages=_count(topic, "unread") if topic else each.used.messages,
        bytes=each.size if memory else each.used.bytes if each.used.messages is not None else None,
        waiters=_waiters(each),
        attached=_count(topic, "subscribers") if topic else each.used.attached,
        values=" ".join(map(str, values[:_SHOWN])) + (" …" if len(values) > _SHOWN else ""),
        last=_last(each),
    )


@dataclass(slots=True)
class _Flow:
    """The changes of one queue since the rates were last computed."""

    depth: int
    size: int | None
    came: int = 0
    went: int = 0
    bytes_came: int = 0
    bytes_went: int = 0

    def sample(self, depth: int, size: int | None) -> None:
        """Add the change since the last sample."""
        self.came += max(0, depth - self.depth)
        self.went += max(0, self.depth - depth)
        if size is not None and self.size is not None:
            self.bytes_came += max(0, size - self.size)
            self.bytes_went += max(0, self.size - size)
        self.depth, self.size = depth, size


class Sampler:
    """Samples the queues, and computes the rows.

    Call `sample`, which is cheap, many times in each interval, and `rows` at its end. It keeps the
    POSIX queues open until `close`.

    Args:
        clock: returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._flows: dict[str, _Flow] = {}
        self._began = clock()
        self._posix: dict[str, PosixMessageQueue[bytes]] = {}
        self._published: dict[str, int] = {}
        self._follow(inventory.survey(["posix-queue"], holders=False).objects)
        self.sample()

    def close(self) -> None:
        """Close the queues."""
        for queue in self._posix.values():
            queue.close()
        self._posix.clear()

    def _follow(self, objects: Iterable[IpcObject]) -> None:
        """Open new POSIX queues, and close those that were unlinked."""
        names = {each.name for each in objects if each.kind == "posix-queue"}
        for name in set(self._posix) - names:
            self._posix.pop(name).close()
        for name in names - set(self._posix):
            with suppress(IpcError):
                self._posix[name] = PosixMessageQueue.open(name, readonly=True)

    def sample(self) -> None:
        """Sample the depth of each queue."""
        for address, depth, size in self._depths():
            flow = self._flows.get(address)
            if flow is None:
                self._flows[address] = _Flow(depth, size)
            else:
                flow.sample(depth, size)

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

    def _with_published(self, row: Row, each: IpcObject, elapsed: float) -> Row:
        """Return the row of a topic with the rate of what was published since the last call."""
        now = _count(each.details, "published") if each.kind == "topic" else None
        if now is None:
            return row
        before = self._published.get(each.address)
        self._published[each.address] = now
        if before is None or elapsed <= 0 or now < before:
            return row
        return replace(row, rate_in=(now - before) / elapsed)

    def rows(self) -> list[Row]:
        """Return the row of every object, with the rates since the last call."""
        objects = inventory.survey(_KINDS, holders=False).objects
        self._follow(objects)
        self.sample()
        now = self._clock()
        elapsed, self._began = now - self._began, now
        found = [
            self._with_published(self._rated(row_of(each), elapsed), each, elapsed)
            for each in objects
        ]
        known = {row.address for row in found}
        for address in set(self._flows) - known:
            del self._flows[address]  # a later queue with that id is another queue
        for address in set(self._published) - known:
            del self._published[address]
        return found


def _number(value: float | None) -> float:
    return -1.0 if value is None else float(value)


# The sort orders: the key to press, and the value of a row. All but names sort in descending order.
ORDERS: Final[dict[str, tuple[str, Callable[[Row], Any]]]] = {
    "name": ("n", lambda row: row.address),
    "messages": ("m", lambda row: _number(row.messages)),
    "bytes": ("b", lambda row: _number(row.bytes)),
    "rate": ("r", lambda row: _number(row.rate_in) + _number(row.rate_out)),
    "waiters": ("w", lambda row: _number(row.waiters)),
    "attached": ("a", lambda row: _number(row.attached)),
}


def arranged(rows: list[Row], order: str, wanted: str) -> list[Row]:
    """Return the rows that contain a text, sorted by an order of `ORDERS`."""
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
    """Return the cells of a row, in the order of `TITLES`."""
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
