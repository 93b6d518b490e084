"""Check channels and topics: who waits for whom, who holds the memory or a lock, what was lost."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ipckit._cli import words
from ipckit._cli.doctor.circles import Wait
from ipckit._cli.doctor.model import Finding, ago, all_named, named, shell, some
from ipckit._cli.doctor.queues import FULL, START, saving
from ipckit._core.processes import process_stat

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ipckit._cli.doctor.model import Severity
    from ipckit.inventory import IpcObject, Peer

# The survey does not see all processes at the same moment. Waits that last this long, in seconds,
# are taken to have existed together.
_SETTLED: Final = 1.0
# Servers of ipckit.rpc wait for the next client as long as they live.
_OF_SERVICES: Final = "rpc."
# The label of the memfd of Topic.anonymous. Another memfd with peers is a channel.
_ANONYMOUS_TOPIC: Final = "ipckit-topic"


def _is_topic(each: IpcObject) -> bool:
    return each.kind == "topic" or each.name == _ANONYMOUS_TOPIC


def _waiters(each: IpcObject, side: str) -> list[Peer]:
    return [peer for peer in each.peers if peer.waits == side]


def _with_role(each: IpcObject, role: str) -> list[Peer]:
    """Return the peers with a role. A peer that waits for a message has not received one yet."""
    waits = {"receiver": "message", "sender": "room"}.get(role)
    return [peer for peer in each.peers if role in peer.roles or (waits and peer.waits == waits)]


def _without_role(each: IpcObject) -> list[Peer]:
    """Return the peers that have it open and may still become a sender or a receiver."""
    return [peer for peer in each.peers if not set(peer.roles) - {"creator"} and not peer.waits]


def _longest(peers: Iterable[Peer]) -> float:
    return max((peer.waiting or 0.0 for peer in peers), default=0.0)


def _pids(peers: Iterable[Peer]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(peer.pid for peer in peers))


def _each_wait(peers: Iterable[Peer]) -> tuple[str, ...]:
    return tuple(f"pid {peer.pid} has waited for {ago(peer.waiting or 0.0)}" for peer in peers)


def _look_at(peer: Peer, each: IpcObject) -> str:
    """Return the command that shows what a peer does, or continues it if it is stopped."""
    if peer.stopped:
        return f"kill -CONT {peer.pid}"
    # A process that can't be seen has its pid in another namespace.
    return f"ipckit ps {peer.pid}" if peer.command else f"ipckit stat {shell(each.address)}"


def _content(each: IpcObject) -> str:
    text = f"{each.used.messages or 0:,} of {each.details.get('capacity', 0):,} messages wait"
    size = each.details.get("bytes")
    if each.used.bytes is not None and isinstance(size, int) and size:
        text += f"; {words.human(each.used.bytes)} of {words.human(size)} bytes are used"
    return text


# -- who waits for whom ----------------------------------------------------------------------------


def _has_one_thread(pid: int) -> bool:
    with suppress(OSError, ValueError):
        return process_stat(Path(f"/proc/{pid}/stat").read_bytes()).threads == 1
    return False


def waits(objects: Iterable[IpcObject], stuck_after: float) -> Iterator[Wait]:
    """Yield the waits of processes for the peers on the other side of a channel.

    A process with several threads may send in one and receive in another, and a peer that has done
    neither may begin to. Then waits count only after `stuck_after` seconds.
    """
    for each in objects:
        # A user who can write to the channel can enter any pid as a peer, and the cure of a
        # deadlock ends a process. In another pid namespace the same pid is another process.
        holders = {holder.pid for holder in each.holders}
        for peer in each.peers if not _is_topic(each) else ():
            if not peer.waits:
                continue
            sure = not _without_role(each) and _has_one_thread(peer.pid)
            least = min(_SETTLED, stuck_after) if sure else stuck_after
            idle = peer.waits == "message"
            others = _with_role(each, "sender" if idle else "receiver")
            known = all(other.command and other.pid in holders for other in [peer, *others])
            if known and (peer.waiting or 0.0) >= least:
                what = "a message from" if idle else "room in"
                pids = frozenset(_pids(others))
                yield Wait(peer, f"{what} {each.address}", each.address, pids, idle)


# -- one channel or topic --------------------------------------------------------------------------


def _stopped_holders(each: IpcObject) -> Iterator[Finding]:
    for peer in each.peers:
        if not (peer.stopped and peer.locks):
            continue
        locks = " and ".join(peer.locks)
        noun = "lock" if len(peer.locks) == 1 else "locks"
        blocked = [other for other in each.peers if other.waits]
        yield Finding(
            "stopped-holder",
            (each.address,),
            f"{named(peer)} is stopped while it holds the {locks} {noun} of {each.address}",
            f"kill -CONT {peer.pid}",
            "warning",
            _each_wait(blocked),
            "A signal (SIGSTOP, Ctrl-Z) or a debugger stopped it. Others wait for the lock until "
            "it goes on or is killed.",
            pids=_pids(blocked),
        )


def _held(each: IpcObject, senders: list[Peer], messages: int) -> Finding | None:
    """Report that peers hold the memory, so that senders wait although few messages wait."""
    holders = sorted(
        (peer for peer in each.peers if peer.blocks), key=lambda peer: peer.blocks, reverse=True
    )
    blocks = sum(peer.blocks for peer in holders)
    if not blocks or blocks < messages or messages >= int(each.details.get("capacity", 0)):
        return None
    first = holders[0]
    parts = f"{words.counted(first.blocks, 'block')} of its memory"
    return Finding(
        "blocks-held",
        (each.address,),
        f"{each.address} has no room although {words.counted(messages, 'message')} "
        f"{'waits' if messages == 1 else 'wait'}: {named(first)} holds {parts}",
        _look_at(first, each),
        "warning",
        (
            *(
                f"pid {peer.pid} holds {words.counted(peer.blocks, 'block')}, "
                f"{peer.taken} of them taken and not acknowledged"
                f"{'; it is stopped' if peer.stopped else ''}"
                for peer in holders
            ),
            *_each_wait(senders),
        ),
        "Loans, views and messages that were taken hold memory. Release or acknowledge them, or "
        "create the object with a larger size.",
        pids=_pids(senders),
        waits_for=_pids(holders),
    )


def _blocked_senders(each: IpcObject, senders: list[Peer], stuck_after: float) -> Iterator[Finding]:
    """Report senders that wait for room in a channel."""
    receivers, late = _with_role(each, "receiver"), _longest(senders) >= stuck_after
    held = _held(each, senders, each.used.messages or 0)
    if held is not None and (late or not each.used.messages):
        yield held
        return
    full = f"{each.address} is full and {all_named(senders)} {_verb(senders)} to send"
    evidence = (_content(each), *_each_wait(senders))
    idle = _without_role(each)
    severity: Severity = "warning"
    first = (receivers or senders)[0]
    cure, advice = _look_at(first, each), f"Find out what pid {first.pid} does."
    if not receivers and (late or not idle):
        what, severity = f"{full}, but no live process has received from it", "critical"
        advice = "Start the receiver."
        if each.removable:  # another process can open it
            cure, advice = saving(each.address), START
        if idle:
            evidence += (f"{all_named(idle)} {_verb(idle, 'has', 'have')} it open",)
    elif receivers and all(peer.stopped for peer in receivers):
        what = f"{full}; {all_named(receivers)}, which receives, is stopped"
        cure = f"kill -CONT {' '.join(map(str, _pids(receivers)))}"
        advice = "A signal (SIGSTOP, Ctrl-Z) or a debugger stopped it."
    elif receivers and late:
        makes = _verb(receivers, "receives, makes", "receive, make")
        what = f"{full}; {all_named(receivers)}, which {makes} no room"
        evidence += tuple(
            f"pid {peer.pid} has received {words.counted(peer.received, 'message')}"
            for peer in receivers
        )
    else:
        return  # it waits for a receiver that is at work
    yield Finding(
        "stuck-sender",
        (each.address,),
        what,
        cure,
        severity,
        evidence,
        advice,
        pids=_pids(senders),
        waits_for=_pids(receivers),
    )


def _verb(peers: list[Peer], one: str = "waits", many: str = "wait") -> str:
    return one if len(set(_pids(peers))) == 1 else many


def _idle_receivers(each: IpcObject, stuck_after: float) -> Iterator[Finding]:
    """Report receivers that wait although no live process sends.

    It is a note: a receiver waits without a sender only if its program asked for that
    (``peer_gone="wait"``), or if no process has sent yet.
    """
    waiting = [peer for peer in _waiters(each, "message") if (peer.waiting or 0.0) >= stuck_after]
    others = [*_with_role(each, "sender"), *_without_role(each)]
    if not waiting or others or each.name.startswith(_OF_SERVICES):
        return
    yield Finding(
        "idle-receiver",
        (each.address,),
        f"{all_named(waiting)} {_verb(waiting)} for a message from {each.address}, to which no "
        "live process sends",
        f"ipckit stat {shell(each.address)}",
        "note",
        _each_wait(waiting),
        "If messages are missing, start the sender.",
        pids=_pids(waiting),
    )


def _nearly_full(each: IpcObject) -> Iterator[Finding]:
    """Report a channel that is nearly full, unless a receiver is there, or nobody is."""
    capacity, messages = int(each.details.get("capacity", 0)), each.used.messages or 0
    if each.details.get("overwrite") or not each.peers or not 0 < capacity * FULL <= messages:
        return
    if _with_role(each, "receiver"):
        return  # it keeps up, or a sender would wait
    yield Finding(
        "queue-full",
        (each.address,),
        f"{messages:,} of {capacity:,} messages wait, and no live process receives them",
        f"ipckit stat {shell(each.address)}",
        "warning",
        (_content(each), f"open in {all_named(each.peers)}"),
        "Start the receiver.",
    )


def _channel(each: IpcObject, stuck_after: float) -> Iterator[Finding]:
    stopped = list(_stopped_holders(each))
    senders = _waiters(each, "room")
    if stopped:
        yield from stopped
    elif senders:
        yield from _blocked_senders(each, senders, stuck_after)
    else:
        yield from _idle_receivers(each, stuck_after)
        yield from _nearly_full(each)


def _topic(each: IpcObject, stuck_after: float) -> Iterator[Finding]:
    stopped = list(_stopped_holders(each))
    yield from stopped
    publishers = _waiters(each, "room")
    if stopped or not publishers:
        return
    slow = [peer for peer in each.peers if peer.policy == "wait" and peer.unread]
    if not slow:
        held = _held(each, publishers, 0)
        if held is not None:
            yield held
        return
    # Long messages can fill the memory before a subscriber has as many unread ones as its depth.
    at_depth = [peer for peer in slow if (peer.unread or 0) >= (peer.depth or 1)]
    first = max(at_depth or slow, key=lambda peer: peer.unread or 0)
    if not first.stopped and _longest(publishers) < stuck_after:
        return
    state = "is stopped" if first.stopped else "is slow"
    yield Finding(
        "slow-subscriber",
        (each.address,),
        f"{all_named(publishers)} {_verb(publishers)} to publish to {each.address}, because "
        f"{named(first)}, which subscribes, {state}",
        _look_at(first, each),
        "warning",
        (
            f"pid {first.pid} has {first.unread:,} unread of at most {first.depth or 0:,} messages",
            *_each_wait(publishers),
        ),
        'With when_full="drop_oldest" the subscriber loses messages instead.',
        pids=_pids(publishers),
        waits_for=(first.pid,),
    )


# -- all -------------------------------------------------------------------------------------------


def _losses(objects: Iterable[IpcObject]) -> Iterator[Finding]:
    """Report all messages that were dropped, as one note: the programs asked for it."""
    lines: dict[str, list[str]] = {}
    for each in objects:
        dropped = each.details.get("dropped", 0)
        if each.peers and dropped:
            text = f"{each.address} has dropped {words.counted(int(dropped), 'message')}"
            lines.setdefault(each.address, []).append(text)
        for peer in each.peers:
            if peer.lost:
                text = f"{named(peer)} has lost {words.counted(peer.lost, 'message')}"
                lines.setdefault(each.address, []).append(f"{text} of {each.address}")
    if lines:
        yield Finding(
            "lost-messages",
            tuple(lines),
            f"messages were lost because a receiver was slow: {some(list(lines))}",
            f"ipckit stat {shell(next(iter(lines)))}",
            "note",
            tuple(line for each in lines.values() for line in each),
            'Channels with overwrite=True and subscribers with when_full="drop_oldest" lose the '
            "oldest messages.",
        )


def check(objects: Iterable[IpcObject], stuck_after: float) -> Iterator[Finding]:
    """Check channels and topics for waits without end, held memory, locks and losses."""
    rings = [each for each in objects if each.kind in {"channel", "topic"} or each.peers]
    for each in rings:
        yield from (_topic if _is_topic(each) else _channel)(each, stuck_after)
    yield from _losses(rings)
