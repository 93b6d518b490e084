"""The rows of ``ipckit top``: each object, with message rates.

The kernel counts only the messages in a queue, not those that passed through it. `Sampler`
therefore samples the depth of each queue many times, and adds up the changes. A message that is
sent and received between two samples is missed, so the rates of queues are lower bounds. Channels
and topics count their messages themselves, so their rates are exact.
"""

from __future__ import annotations

import math
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final

from ipckit import inventory
from ipckit._cli import words
from ipckit._cli.top.bridges import BridgeRates
from ipckit._core.files import SHM
from ipckit.errors import IpcError
from ipckit.msgq import PosixMessageQueue, list_queues
from ipckit.sem import SysVSemaphoreSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ipckit.inventory import IpcObject, Kind

SAMPLES: Final = 20  # in each interval
_COUNTED: Final[tuple[Kind, ...]] = ("channel", "topic")
# Sockets are surveyed without a judgement: `survey` would connect to each socket file without a
# listener, and a process in another network namespace may listen there.
_JUDGED: Final[tuple[Kind, ...]] = tuple(kind for kind in inventory.KINDS if kind != "socket")
_QUICK: Final[tuple[Kind, ...]] = tuple(kind for kind in _JUDGED if kind != "memfd")
_SHOWN: Final = 8  # values of a set
# To find the holders, all of /proc is read. That takes at most one part in so many of a processor.
_SHARE: Final = 20
# A channel counts its messages modulo this, and none sends so many in `_COUNT_EVERY` seconds.
_MODULUS: Final = 1 << 24
_COUNT_EVERY: Final = 1.5
_LONGEST_PERIOD: Final = 0.5


# Two objects have the same address if one of them was unlinked.
_Key = tuple[str, tuple[int, ...]]


def _key(each: IpcObject) -> _Key:
    return each.address, each.identity


def _counts(each: IpcObject) -> bool:
    """Return whether an object counts its messages: a channel or topic, also without a name."""
    return "tail" in each.details or "published" in each.details


@dataclass(frozen=True, slots=True)
class Row:
    """One object now.

    Attributes:
        address: its address, such as ``"q:5"``.
        key: its key as text, or "".
        owner: the owner's name.
        messages: the number of queued messages; in a topic, those that the slowest subscriber has
            not read; None for other kinds.
        bytes: bytes of queued messages, or bytes of memory; None for semaphores and sockets.
        rate_in: sent or published messages a second; of a queue, at least.
        rate_out: received messages a second; of a queue, at least.
        bytes_in: bytes sent to a System V queue a second, at least; None for other kinds.
        bytes_out: bytes received from a System V queue a second, at least; None for other kinds.
        waiters: how many threads wait on its semaphores, how many processes in a call on a queue,
            how many peers of a channel or topic; None if it has none or can't be read.
        attached: the number of attaches to a segment, subscribers of a topic, or connections of a
            socket; None for other kinds.
        values: the values of its semaphores, as text.
        last: the pid of the process that used it last; 0 if none is recorded.
        kind: the kind of the object, of `ipckit.inventory.KINDS`.
        state: its state, such as ``"held"``; see `IpcObject.state`.
        capacity: how many messages fit into a channel, topic or POSIX queue; None for other kinds.
        dropped: messages that a full channel or slow subscribers lost a second; None if none can
            be lost.
        peers: how many processes or handles use it: the peers of a channel or topic, the attaches
            of a segment, the connections of a socket, otherwise the processes that hold it.
        taken: messages of a channel that were taken and not acknowledged; None for other kinds.
        bridge: where the bridges of a channel or topic lead; "" if it has none.
        bridge_rate: messages that its bridges have carried a second; None if it has none.
        unacknowledged: messages that its bridges have sent and that are not acknowledged; None if
            it has none.
        item: the object.
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
    kind: Kind = "sysv-queue"
    state: str = "unknown"
    capacity: int | None = None
    dropped: float | None = None
    peers: int | None = None
    taken: int | None = None
    bridge: str = ""
    bridge_rate: float | None = None
    unacknowledged: int | None = None
    item: IpcObject | None = field(default=None, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return all fields but the object as plain values, for JSON."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "item"}


def _waiters(each: IpcObject) -> int | None:
    """Return how many wait on an object; None for a kind that is not waited on, or if denied."""
    if each.kind == "posix-semaphore":
        return _detail(each, "waiting")
    if _counts(each):
        return sum(1 for peer in each.peers if peer.waits)
    if each.kind in {"sysv-queue", "posix-queue"}:
        waiting = sum(1 for process in each.holders if "waits in" in process.how)
        return waiting or (None if each.unseen else 0)
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


def _detail(each: IpcObject, name: str) -> int | None:
    """Return a number of an object's details; None if it has none of that name."""
    value = each.details.get(name)
    return value if isinstance(value, int) else None


def _bytes(each: IpcObject) -> int | None:
    if each.kind in {"sysv-segment", "posix-segment", "memfd"} and not _counts(each):
        return each.size
    return None if each.kind == "posix-semaphore" else each.used.bytes


def _peers(each: IpcObject) -> int | None:
    if _counts(each):
        return len(each.peers)
    if each.used.attached is not None:
        return each.used.attached
    holders = len({holder.pid for holder in each.holders})
    return holders or (None if each.unseen else 0)  # others may hold it, out of sight


def _unacknowledged(each: IpcObject) -> int | None:
    found = [peer.bridge.unacknowledged for peer in each.peers if peer.bridge]
    return sum(found) if found else None


def row_of(each: IpcObject) -> Row:
    """Return the row of an object, without rates."""
    values = each.used.values or ()
    topic = "published" in each.details
    capacity = next(
        (found for name in ("capacity", "maxmsg") if (found := _detail(each, name))), None
    )
    return Row(
        each.address,
        f"{each.key:#010x}" if each.key else "",
        each.owner,
        messages=_detail(each, "unread") if topic else each.used.messages,
        bytes=_bytes(each),
        waiters=_waiters(each),
        attached=_detail(each, "subscribers") if topic else each.used.attached,
        values=" ".join(map(str, values[:_SHOWN])) + (" …" if len(values) > _SHOWN else ""),
        last=_last(each),
        kind=each.kind,
        state=each.state,
        capacity=capacity,
        peers=_peers(each),
        taken=_detail(each, "taken"),
        bridge=", ".join(words.bridges(each)),
        unacknowledged=_unacknowledged(each),
        item=each,
    )


@dataclass(slots=True)
class _Flow:
    """The messages that passed through one queue since the rates were last computed."""

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

    def rated(self, row: Row, elapsed: float) -> Row:
        """Return a row with the rates of these seconds, and begin the next."""
        known = self.size is not None
        found = replace(
            row,
            rate_in=self.came / elapsed,
            rate_out=self.went / elapsed,
            bytes_in=self.bytes_came / elapsed if known else None,
            bytes_out=self.bytes_went / elapsed if known else None,
        )
        self.came = self.went = self.bytes_came = self.bytes_went = 0
        return found


@dataclass(slots=True)
class _Count:
    """The messages that passed through one channel or topic since the rates were last computed.

    Attributes:
        totals: what it counted when it was last read.
        read: the messages that each subscriber of a topic had received at `read_at`.
        at: when it was last read.
        read_at: when the subscribers were last seen. They are seen less often than the rest.
        began: when the rates were last computed.
        came: the messages that were sent or published since then.
        went: the messages that left a channel since then.
        dropped: the messages that were lost since then.
        taken: the messages that the subscribers received a second.
        rates: the rates in, out and dropped, that were last computed.
    """

    totals: dict[str, int]
    read: dict[tuple[int, float, int], int]
    at: float
    read_at: float
    began: float
    came: int = 0
    went: int = 0
    dropped: int = 0
    taken: float | None = None
    rates: tuple[float | None, float | None, float | None] = (None, None, None)

    @classmethod
    def of(cls, each: IpcObject, now: float) -> _Count:
        """Begin to count."""
        names = ("tail", "head", "dropped", "published", "lost")
        totals = {name: found for name in names if (found := _detail(each, name)) is not None}
        read: dict[tuple[int, float, int], int] = {}
        for peer in each.peers:
            same = sum(1 for pid, since, _ in read if (pid, since) == (peer.pid, peer.since))
            read[peer.pid, peer.since, same] = peer.received
        return cls(totals, read, now, now, now)

    def sample(self, each: IpcObject, now: float) -> None:
        """Add what the object counted since it was last read."""
        new = self.of(each, now)
        more = {name: new.totals.get(name, 0) - before for name, before in self.totals.items()}
        # The losses of a subscriber that left are no longer in the sum.
        dropped = max(0, more.get("dropped", 0)) + max(0, more.get("lost", 0))
        self.came += more.get("tail", 0) % _MODULUS + max(0, more.get("published", 0))
        # To drop a message, the sender takes it, as a receiver would.
        self.went += max(0, more.get("head", 0) % _MODULUS - dropped)
        self.dropped += dropped
        self.totals, self.at = new.totals, now
        if new.read:
            if self.read and now > self.read_at:
                received = sum(
                    max(0, count - self.read.get(peer, 0)) for peer, count in new.read.items()
                )
                self.taken = received / (now - self.read_at)
            self.read, self.read_at = new.read, now

    def rated(self, row: Row) -> Row:
        """Return a row with the rates since the last call, or those of then if nothing is new."""
        seconds = self.at - self.began
        if seconds > 0:
            out = self.taken if "published" in self.totals else self.went / seconds
            self.rates = (self.came / seconds, out, self.dropped / seconds)
            self.began = self.at
            self.came = self.went = self.dropped = 0
        rate_in, rate_out, dropped = self.rates
        return replace(row, rate_in=rate_in, rate_out=rate_out, dropped=dropped)


def memory_use() -> tuple[int, int] | None:
    """Return how many bytes of /dev/shm are used, and its size; None if it has no size."""
    try:
        found = os.statvfs(SHM)
    except OSError:
        return None
    size = found.f_blocks * found.f_frsize
    return ((found.f_blocks - found.f_bfree) * found.f_frsize, size) if size else None


class Sampler:
    """Samples the objects, and computes the rows.

    Call `sample`, which is cheap, every `period` seconds, and `rows` at the end of each interval.
    Two threads can call them. It keeps the POSIX queues open until `close`.

    Args:
        clock: returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._flows: dict[str, _Flow] = {}
        self._counts: dict[_Key, _Count] = {}
        self._began = clock()
        self._counted = clock()
        self._bridges = BridgeRates()
        self._posix: dict[str, PosixMessageQueue[bytes]] = {}
        # The last survey that found the holders: its objects, when it ended, and how long it took.
        self._judged: dict[_Key, IpcObject] = {}
        self._sockets: tuple[IpcObject, ...] = ()
        self._looked = -math.inf
        self._cost = 0.0
        objects = inventory.survey([*_COUNTED, "posix-queue"], holders=False).objects
        self._follow(objects)
        self._count(objects)
        self.sample()

    def close(self) -> None:
        """Close the queues."""
        with self._lock:
            self._close_queues()

    def _close_queues(self) -> None:
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
        """Sample the depth of each queue, and now and then the counts of channels and topics."""
        with self._lock:
            self._sample()
            if self._clock() - self._counted >= _COUNT_EVERY:
                self._count(inventory.survey(_COUNTED, holders=False).objects)

    def _sample(self) -> None:
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
            with suppress(IpcError):
                yield f"mq:{name}", posix.attributes().curmsgs, None

    def _count(self, objects: Iterable[IpcObject]) -> None:
        self._counted = self._clock()
        for each in objects:
            if not _counts(each):
                continue
            count = self._counts.get(_key(each))
            if count is None:
                self._counts[_key(each)] = _Count.of(each, self._counted)
            else:
                count.sample(each, self._counted)

    def _survey(self) -> list[IpcObject]:
        """Return all objects, with the holders that were found last."""
        if self._clock() - self._looked >= self._cost * _SHARE:
            return self._look()
        found = inventory.survey(_QUICK, holders=False).objects
        self._count(found)
        names = set(map(_key, found))
        # Memfds, and files that were unlinked but are still open.
        others = [
            each
            for key, each in self._judged.items()
            if key not in names and (each.kind == "memfd" or "unlinked" in each.details)
        ]
        objects = self._bridges.refreshed([*map(self._with_holders, found), *others])
        return [*objects, *self._sockets]

    def _look(self) -> list[IpcObject]:
        """Return all objects, with their holders."""
        began = time.monotonic()
        self._close_queues()  # this process would be a holder of them
        found = inventory.survey(_JUDGED, ignore_self=True).objects
        self._count(found)
        self._judged = {_key(each): each for each in found}
        self._sockets = inventory.survey(["socket"], holders=False).objects
        self._cost = time.monotonic() - began
        self._looked = self._clock()
        return [*found, *self._sockets]

    def _with_holders(self, each: IpcObject) -> IpcObject:
        known = self._judged.get(_key(each))
        if known is None:
            return each
        return replace(
            each,
            creator=known.creator,
            users=known.users,
            holders=known.holders,
            peers=known.peers,
            state=known.state,
            reason=known.reason,
            unseen=known.unseen,
            recognized=known.recognized,
        )

    def rows(self) -> list[Row]:
        """Return the row of every object, with the rates since the last call."""
        with self._lock:
            objects = self._survey()
            self._follow(objects)
            self._sample()
            now = self._clock()
            elapsed, self._began = now - self._began, now
            found = [self._rated(each, elapsed) for each in objects]
            self._bridges.forget(objects)
            # A later queue with that id is another queue.
            for address in self._flows.keys() - {each.address for each in objects}:
                del self._flows[address]
            for key in self._counts.keys() - set(map(_key, objects)):
                del self._counts[key]
            return found

    def _rated(self, each: IpcObject, elapsed: float) -> Row:
        row = row_of(each)
        if row.bridge:
            row = replace(row, bridge_rate=self._bridges.rate(each, self._began))
        count = self._counts.get(_key(each))
        if count is not None:
            return count.rated(row)
        flow = None if "unlinked" in each.details else self._flows.get(each.address)
        return row if flow is None or elapsed <= 0 else flow.rated(row, elapsed)

    def look(self) -> None:
        """Let the next call of `rows` find the holders and peers of all objects."""
        self._looked = -math.inf

    def memory_use(self) -> tuple[int, int] | None:
        """Return how many bytes of /dev/shm are used, and its size; None if it has no size."""
        return memory_use()


def judged_socket(item: IpcObject) -> IpcObject:
    """Return a socket with the processes that have it, and its state."""
    found = inventory.survey(["socket"], ignore_self=True).objects
    return next((each for each in found if _key(each) == _key(item)), item)


def period(interval: float) -> float:
    """Return the seconds between two samples."""
    return min(interval / SAMPLES, _LONGEST_PERIOD)
