"""What ``ipckit stat`` shows of an object: fields, and tables of its peers and processes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from ipckit._cli import words
from ipckit._cli.output import Column

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipckit.inventory import IpcObject, Peer, PeerBridge

    Field = tuple[str, str]
    Table = tuple[list[Column], list[list[str]]]

_RINGS: Final = frozenset({"channel", "topic"})
# The counts of a channel wrap around at this number; see docs/layout.md.
_COUNTED_TO: Final = 2**24
_PIDS_SHOWN: Final = 3  # in one row
# Details that another field shows.
_SHOWN: Final = frozenset(
    {
        *("id", "key", "uid", "gid", "mode", "inode"),
        *("stime", "rtime", "ctime", "otime", "atime", "dtime"),
        *("cbytes", "qnum", "qbytes", "lspid", "lrpid"),
        *("segsz", "cpid", "lpid", "nattch", "nsems"),
        *("maxmsg", "msgsize", "signo", "listening", "connections"),
    }
)
_SHOWN_OF_RINGS: Final = frozenset(
    {
        *("capacity", "longest", "item_size", "bytes", "dropped", "taken", "created", "overwrite"),
        *("tail", "head", "history", "published", "subscribers", "unread", "lost"),
    }
)
_POLICIES: Final = {"wait": "publisher waits", "drop_oldest": "loses the oldest"}


def fields(item: IpcObject) -> Iterator[Field]:
    """Yield all that is known about an object but its processes; a text can be empty."""
    yield "object", words.address(item)
    yield "kind", item.kind
    yield "name", words.name(item.name)
    if item.key is None:
        yield "inode", str(item.id)
    else:
        yield "key", f"{words.key(item)} ({item.key})" if item.key else "private"
        yield "id", str(item.id)
    yield "owner", f"{item.owner} (uid {item.uid})" if item.owner else ""
    yield "group", f"{item.group} (gid {item.gid})" if item.group else ""
    yield "mode", "" if item.mode is None else f"{item.mode:04o} ({words.rights(item.mode)})"
    yield "size", _size(item)
    if "capacity" in item.details and item.kind in _RINGS:
        yield from _ring(item)
    else:
        yield "used", words.used(item)
    if item.used.values is not None and len(item.used.values) > words.VALUES_SHOWN:
        yield "values", " ".join(map(str, item.used.values))
    for name, when in item.times.items():
        yield f"last {name}", _moment(when)
    yield "state", item.state
    yield "why", item.reason
    for line in item.unseen:
        yield "could not see", line
    yield from _rest(item)


def _moment(when: float) -> str:
    return f"{words.clock(when)} ({words.ago(time.time() - when)})"


def _size(item: IpcObject) -> str:
    if item.size is None:
        return ""
    if item.kind == "sysv-semaphores":
        return words.counted(item.size, "semaphore")
    if "maxmsg" in item.details:
        most, longest = (int(item.details[name]) for name in ("maxmsg", "msgsize"))
        return f"{words.counted(most, 'message')} of at most {words.exact(longest)}"
    text = words.exact(item.size)
    return f"{text} of messages at most" if item.kind == "sysv-queue" else text


def _ring(item: IpcObject) -> Iterator[Field]:
    """Yield what the memory of a channel or topic tells, but its peers."""
    details = {name: int(value) for name, value in item.details.items() if name in _SHOWN_OF_RINGS}
    topic = item.kind == "topic"
    yield "payload", item.payload
    messages, capacity = item.used.messages or 0, details["capacity"]
    if topic:
        yield "unread", f"{details['unread']:,} of {capacity:,} messages, by the slowest subscriber"
        yield "in memory", words.counted(messages, "message")
        yield "history", f"{words.counted(details['history'], 'message')} for a new subscriber"
    else:
        full = " (full)" if messages >= capacity else ""
        yield "waiting", f"{messages:,} of {capacity:,} messages{full}"
    used = words.exact(item.used.bytes or 0)
    yield "memory", f"{used} used of {words.exact(details['bytes'])}"
    longest, size = details["longest"], details["item_size"]
    yield "each message", words.exact(size) if size else f"at most {words.exact(longest)}"
    if topic:
        yield "published", words.counted(details["published"], "message")
        yield "subscribers", f"{details['subscribers']:,}"
        yield "lost", f"{words.counted(details['lost'], 'message')}, by the subscribers now"
    else:
        yield "sent", _counter(details["tail"])
        yield "received", _counter(details["head"])
        yield "dropped", words.counted(details["dropped"], "message")
        taken = words.counted(details["taken"], "message")
        yield "taken", f"{taken}, not acknowledged yet" if details["taken"] else ""
        yield "if full", "senders drop the oldest" if details["overwrite"] else "senders wait"
    yield "created", _moment(details["created"])
    for peer in item.peers:
        if peer.bridge:
            yield "bridge", f"{words.bridge_end(peer.bridge)}, pid {peer.pid}"
            yield "bridge state", _bridge_state(peer.bridge)
            yield "carried", _carried(peer.bridge)


def _bridge_state(bridge: PeerBridge) -> str:
    lasts = words.duration(max(0.0, time.time() - bridge.changed))
    reason = f": {bridge.reason}" if bridge.reason else ""
    return f"{bridge.state} for {lasts}{reason}"


def _carried(bridge: PeerBridge) -> str:
    """Return what a bridge has done since it was started."""
    packets = words.counted(bridge.batches, "packet")
    parts = [
        words.counted(bridge.messages, "message"),
        f"{words.in_bytes(bridge.bytes)} in {packets}",
        f"{bridge.unacknowledged:,} unacknowledged",
    ]
    counts = {
        "repeated, left out": bridge.repeated,
        "delivered twice, perhaps": bridge.uncertain,
        "lost": bridge.lost,
    }
    parts += [f"{count:,} {what}" for what, count in counts.items() if count]
    parts += [words.counted(bridge.reconnects, "reconnect")] if bridge.reconnects else []
    return ", ".join(parts)


def _counter(count: int) -> str:
    return f"{words.counted(count, 'message')}, counted modulo {_COUNTED_TO:,}"


def _rest(item: IpcObject) -> Iterator[Field]:
    """Yield the details that no other field shows, in plain words as far as they are known."""
    shown = _SHOWN | _SHOWN_OF_RINGS if item.kind in _RINGS else _SHOWN
    known = {"cuid", "cgid", "seq", "destroyed", "locked", "unlinked", "waiting"}
    known |= {"notify", "notify_pid", "type", "file"}
    details = item.details
    if "cuid" in details and (details["cuid"], details["cgid"]) != (item.uid, item.gid):
        yield "created by", f"uid {details['cuid']}, gid {details['cgid']}"
    if details.get("destroyed"):
        yield "removed", "yes; the kernel frees it when the last process detaches it"
    if details.get("unlinked"):
        yield "removed", "yes; the kernel frees it when the last process closes it"
    if details.get("locked"):
        yield "locked", "in memory, by SHM_LOCK"
    if "waiting" in details:
        yield "waiting", words.counted(int(details["waiting"]), "thread")
    if details.get("notify_pid"):
        yield "notifies", f"pid {details['notify_pid']} of the next message (mq_notify)"
    if "type" in details:
        listens = ", listens for connections" if details.get("listening") else ""
        yield "type", f"{details['type']}{listens}"
    if "file" in details:
        yield "file", str(details["file"])
    if "seq" in details:
        yield "sequence", f"{details['seq']} (the kernel makes the id of it)"
    for name, value in details.items():
        if name not in shown and name not in known:
            yield name, str(value)


def processes(item: IpcObject, *, grouped: bool = False) -> Table:
    """Return a table of the processes that created, used or hold an object.

    Args:
        item: the object.
        grouped: give processes with the same command that do the same one row.
    """
    found: dict[tuple[str, ...], list[int]] = {}
    did = [(item.creator, "created it")] if item.creator else []
    did += [(each, f"last {each.how}") for each in item.users]
    did += [(each, each.how) for each in item.holders]
    for number, (each, how) in enumerate(did):
        text = how if each.alive else f"{how}, exited"
        key = (text, each.command) if grouped else (text, each.command, str(number))
        found.setdefault(key, []).append(each.pid)
    columns = [Column("PROCESS"), Column("HOW"), Column("COMMAND", cuts=True)]
    return columns, [[_pids(pids), *key[:2]] for key, pids in found.items()]


def _pids(pids: list[int]) -> str:
    if len(pids) > _PIDS_SHOWN:
        return f"{pids[0]} and {len(pids) - 1:,} more"
    return " ".join(map(str, pids))


def peers(item: IpcObject) -> Table:
    """Return a table of the open handles of a channel or topic."""
    topic = item.kind == "topic"
    columns = [
        Column("PEER"),
        Column("ROLE"),
        Column("WAITS FOR"),
        *([Column("UNREAD", right=True), Column("LOST", right=True)] if topic else []),
        Column("SENT" if not topic else "PUBLISHED", right=True, drop=2),
        Column("RECEIVED", right=True, drop=2),
        Column("HOLDS", drop=1),
        *([Column("IF SLOW", drop=3)] if topic else []),
        Column("SINCE", right=True, drop=4),
        Column("COMMAND", drop=3, cuts=True),
    ]
    return columns, [_peer(each, topic=topic) for each in item.peers]


def _peer(each: Peer, *, topic: bool) -> list[str]:
    waits = f"{words.WAITS.get(each.waits, each.waits)}, {words.duration(each.waiting)}"
    state = ["stopped"] if each.stopped else []
    counts = ["" if n is None else f"{n:,}" for n in (each.unread, each.lost)]
    return [
        str(each.pid),
        _role(each.roles),
        ", ".join([*state, *([waits] if each.waits else [])]),
        *(counts if topic else []),
        f"{each.sent:,}",
        f"{each.received:,}",
        _held(each),
        *([_POLICIES.get(each.policy, each.policy)] if topic else []),
        words.ago(time.time() - each.since),
        words.without_path(each.command),
    ]


def _role(roles: tuple[str, ...]) -> str:
    return ", ".join(roles) or "opened it"


def _held(each: Peer) -> str:
    """Return the locks, messages and memory that a peer holds."""
    parts = [f"{lock} lock" for lock in each.locks]
    if each.taken:
        parts.append(f"{each.taken:,} taken")
    if each.blocks:
        parts.append(words.counted(each.blocks, "block"))
    return ", ".join(parts)
