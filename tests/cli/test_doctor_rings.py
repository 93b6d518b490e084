"""What ``ipckit doctor`` says of channels and topics, and how it groups and prints findings."""

from __future__ import annotations

import dataclasses
import os
import shlex
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import Channel, inventory
from ipckit._cli.commands.doctor import exit_status
from ipckit._cli.doctor import circles, group, host, leftovers, rings
from ipckit._cli.doctor.circles import Wait
from ipckit._cli.doctor.model import Finding, ago, named, shell
from ipckit._cli.doctor.report import report, summary, wrapped
from ipckit._cli.limits_table import Limit
from ipckit.inventory import IpcObject, Peer, Process, Use

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ipckit.inventory import Kind
    from ipckit.testing import Child, Namespace

# pids that no process has: above the kernel's maximum.
SENDER, RECEIVER, OTHER = 2**22 + 1, 2**22 + 2, 2**22 + 3
LATE = 100.0


def peer(pid: int, *roles: str, **facts: Any) -> Peer:
    given = {"waits": "", "waiting": None, "since": 0.0, "sent": 1, "received": 1, **facts}
    return Peer(pid, given.pop("command", f"/usr/bin/program {pid}"), roles, **given)


def sender(pid: int = SENDER, waiting: float = LATE, **facts: Any) -> Peer:
    return peer(pid, "sender", waits="room", waiting=waiting, **facts)


def ring(
    *peers: Peer, messages: int = 8, kind: Kind = "channel", name: str = "orders", **details: int
) -> IpcObject:
    return IpcObject(
        kind,
        name,
        None,
        1,
        0,
        0,
        "root",
        "root",
        0o600,
        4096,
        used=Use(messages=messages, bytes=100),
        holders=tuple(Process(each.pid, each.command, "mapped", alive=True) for each in peers),
        state="held" if peers else "orphaned",
        peers=peers,
        details={"capacity": 8, "bytes": 1000, **details},
    )


def found(*objects: IpcObject) -> list[Finding]:
    return list(rings.check(objects, stuck_after=60.0))


FULL_CASES: dict[str, tuple[list[Peer], str | None, str, str]] = {
    # peers besides the sender; severity or None; part of what is said; the cure
    "nobody receives": (
        [],
        "critical",
        "no live process has received",
        "ipckit recv channel:orders --follow --json >> saved.json",
    ),
    "a process has it open": (
        [peer(OTHER, "creator")],
        "critical",
        "no live process has received",
        "ipckit recv channel:orders --follow --json >> saved.json",
    ),
    "the receiver is stopped": (
        [peer(RECEIVER, "receiver", stopped=True)],
        "warning",
        f"pid {RECEIVER} (program {RECEIVER}), which receives, is stopped",
        f"kill -CONT {RECEIVER}",
    ),
    "the receiver is slow": (
        [peer(RECEIVER, "receiver")],
        "warning",
        ", which receives, makes no room",
        f"ipckit ps {RECEIVER}",
    ),
    "the receiver is in another pid namespace": (
        [peer(RECEIVER, "receiver", command="")],
        "warning",
        f"pid {RECEIVER} (not visible here), which receives, makes no room",
        "ipckit stat channel:orders",
    ),
}


@pytest.mark.parametrize("case", FULL_CASES)
def test_a_sender_that_waits_for_room(case: str) -> None:
    others, severity, said, cure = FULL_CASES[case]
    [one] = found(ring(sender(), *others))
    assert (one.check, one.severity, one.cure) == ("stuck-sender", severity, cure)
    assert said in one.what
    assert one.what.startswith(f"channel:orders is full and pid {SENDER} ")
    assert one.pids == (SENDER,)
    assert "8 of 8 messages wait; 100 of 1000 bytes are used" in one.evidence
    assert f"pid {SENDER} has waited for 100 s" in one.evidence


def test_a_short_wait_is_no_problem_if_a_receiver_may_be_there() -> None:
    soon = sender(waiting=1.0)
    assert found(ring(soon, peer(RECEIVER, "receiver"))) == []
    assert found(ring(soon, peer(OTHER))) == []
    assert [each.severity for each in found(ring(soon))] == ["critical"]


def test_memory_that_a_peer_holds() -> None:
    holder = peer(RECEIVER, "receiver", blocks=3, taken=2)
    [one] = found(ring(sender(waiting=1.0), holder, messages=0))
    assert (one.check, one.severity, one.cure) == (
        "blocks-held",
        "warning",
        f"ipckit ps {RECEIVER}",
    )
    assert f"pid {RECEIVER} (program {RECEIVER}) holds 3 blocks" in one.what
    assert f"pid {RECEIVER} holds 3 blocks, 2 of them taken and not acknowledged" in one.evidence
    assert one.waits_for == (RECEIVER,)
    assert found(ring(sender(waiting=1.0), holder, messages=2)) == []
    [one] = found(ring(sender(), holder, messages=2))
    assert one.check == "blocks-held"
    [one] = found(ring(sender(), holder, messages=8))
    assert one.check == "stuck-sender"


def test_a_stopped_process_that_holds_a_lock() -> None:
    holder = peer(RECEIVER, "receiver", locks=("send", "pool"), stopped=True)
    for kind in ("channel", "topic"):
        [one] = found(ring(sender(), holder, kind=kind))
        assert (one.check, one.cure) == ("stopped-holder", f"kill -CONT {RECEIVER}")
        assert f"holds the send and pool locks of {kind}:orders" in one.what
        assert one.severity == "warning"
    assert found(ring(peer(RECEIVER, "receiver", stopped=True), messages=0)) == []


def test_a_receiver_without_a_sender_is_a_note() -> None:
    waits = peer(RECEIVER, "receiver", waits="message", waiting=LATE)
    [one] = found(ring(waits, messages=0))
    assert (one.check, one.severity) == ("idle-receiver", "note")
    for calm in (
        ring(waits, peer(SENDER, "sender"), messages=0),
        ring(waits, peer(OTHER), messages=0),
        ring(dataclasses.replace(waits, waiting=1.0), messages=0),
        ring(waits, messages=0, name="rpc.calculator"),
    ):
        assert found(calm) == []


def test_a_slow_subscriber_is_named() -> None:
    publisher = peer(SENDER, "publisher", waits="room", waiting=LATE)
    slow = peer(RECEIVER, "subscriber", policy="wait", unread=4, depth=4)
    quick = peer(OTHER, "subscriber", policy="wait", unread=5, depth=8)
    lossy = peer(OTHER, "subscriber", policy="drop_oldest", unread=8, lost=5)
    [one, lost] = found(ring(publisher, quick, slow, lossy, kind="topic"))
    assert (one.check, one.cure, one.waits_for) == (
        "slow-subscriber",
        f"ipckit ps {RECEIVER}",
        (RECEIVER,),
    )
    assert f"pid {RECEIVER} has 4 unread of at most 4 messages" in one.evidence
    assert (lost.check, lost.severity) == ("lost-messages", "note")
    assert lost.evidence == (f"pid {OTHER} (program {OTHER}) has lost 5 messages of topic:orders",)
    soon = dataclasses.replace(publisher, waiting=1.0)
    assert found(ring(soon, slow, kind="topic")) == []
    [one] = found(ring(soon, dataclasses.replace(slow, stopped=True), kind="topic"))
    assert one.cure == f"kill -CONT {RECEIVER}"


def test_a_full_channel_is_normal_if_it_is_received_from_or_overwrites() -> None:
    idle = peer(SENDER, "sender")
    [one] = found(ring(idle))
    assert (one.check, one.severity) == ("queue-full", "warning")
    assert found(ring(idle, messages=7)) == []
    assert found(ring(idle, peer(RECEIVER, "receiver"))) == []
    assert found(ring(idle, overwrite=1)) == []
    assert found(ring()) == []  # an orphan
    notes = found(ring(idle, overwrite=1, dropped=3), ring(idle, name="b", overwrite=1, dropped=1))
    assert [(each.check, each.subjects) for each in notes] == [
        ("lost-messages", ("channel:orders", "channel:b"))
    ]
    assert notes[0].evidence[1] == "channel:b has dropped 1 message"


def crosswise(waiting: float) -> list[IpcObject]:
    left, right = sender(SENDER, waiting), sender(RECEIVER, waiting)
    return [
        ring(left, peer(RECEIVER, "receiver"), name="there"),
        ring(right, peer(SENDER, "receiver"), name="back"),
    ]


def test_senders_that_only_receive_from_each_other_are_a_deadlock() -> None:
    objects = crosswise(LATE)
    [deadlock] = circles.deadlocks(rings.waits(objects, 60.0))
    assert deadlock.subjects == ("channel:back", "channel:there")
    assert deadlock.evidence == (
        f"pid {SENDER} waits for room in channel:there",
        f"pid {RECEIVER} waits for room in channel:back",
    )
    # It explains why both channels are full.
    assert group.explained([deadlock, *found(*objects)]) == [deadlock]
    # A peer without a role could have ended it by now.
    idle = [dataclasses.replace(each, peers=(*each.peers, peer(OTHER))) for each in objects]
    assert len(list(circles.deadlocks(rings.waits(idle, 60.0)))) == 1
    # Another receiver can end it.
    objects[0] = dataclasses.replace(objects[0], peers=(*objects[0].peers, peer(OTHER, "receiver")))
    assert list(circles.deadlocks(rings.waits(objects, 60.0))) == []
    # A peer that does not have the channel open was forged.
    forged = [dataclasses.replace(each, holders=each.holders[1:]) for each in crosswise(LATE)]
    assert list(circles.deadlocks(rings.waits(forged, 60.0))) == []
    # Processes of more than one thread, or that can't be seen, may receive in another thread.
    assert list(circles.deadlocks(rings.waits(crosswise(1.0), 60.0))) == []


def wait(pid: int, *others: int, idle: bool = False) -> Wait:
    return Wait(
        Process(pid, f"p{pid}", "", alive=True), f"x{pid}", f"s:{pid}", frozenset(others), idle
    )


def test_circles() -> None:
    def pids(*waits: Wait) -> list[tuple[int, ...]]:
        return [each.pids for each in circles.deadlocks(waits)]

    assert pids(wait(1, 2), wait(2, 3), wait(3, 1), wait(4, 1)) == [(1, 2, 3)]
    assert pids(wait(1, 2), wait(2, 1), wait(3, 4), wait(4, 3)) == [(1, 2), (3, 4)]
    assert pids(wait(1, 1)) == [(1,)]
    assert pids(wait(1, 2), wait(2, 3)) == []
    assert pids(wait(1, 2, 3), wait(2, 1)) == []  # 3 can end it
    assert pids(wait(1, 2, idle=True), wait(2, 1, idle=True)) == []  # both are without work
    assert pids(wait(1, 2), wait(2, 1, idle=True)) == [(1, 2)]
    [alone] = circles.deadlocks([wait(1, 1)])
    assert alone.advice.startswith("End it. In the programs, acquire")
    # Processes that wait for the same, which each of them could end, are one finding.
    room = [
        dataclasses.replace(wait(pid, 1, 2, 3), on="room in memfd:9", address="memfd:9")
        for pid in (1, 2, 3)
    ]
    [together] = circles.deadlocks(room)
    assert (together.pids, together.subjects) == ((1, 2, 3), ("memfd:9",))
    assert together.what == (
        "pid 1 (p1), pid 2 (p2), pid 3 (p3) wait for room in memfd:9, and only they can end "
        "these waits"
    )
    assert together.advice.startswith("End one of them. In the programs, receive")
    assert pids(*room, wait(4, 1)) == [(1, 2, 3)]
    assert pids(*room[:2]) == []  # 3 can end them
    # A long circle does not take long, and is not written out.
    waits = [*(wait(pid, pid + 1) for pid in range(1, 2000)), wait(2000, 1)]
    assert pids(*waits) == [tuple(range(1, 2001))]
    [long] = circles.deadlocks(waits)
    assert long.what.endswith(
        " waits for pid 6 (p6) waits for 1994 more, the last of which waits for pid 1"
    )
    assert long.advice.startswith("End one of them. In the programs, acquire")


def finding(check: str = "stuck-waiter", severity: Any = "warning", **facts: Any) -> Finding:
    given = {"subjects": ("s:1",), "what": "it waits", "cure": "kill 1", **facts}
    return Finding(check, severity=severity, **given)


def test_what_another_finding_explains_is_its_evidence() -> None:
    dead = finding("dead-holder", "critical", pids=(1, 2))
    behind = finding(what="a waits for 1", pids=(3,), waits_for=(1,))
    further = finding(what="b waits for 3", pids=(4,), waits_for=(3,))
    apart = finding(pids=(6,), waits_for=(7,))
    kept = group.explained([further, dead, behind, apart])
    assert kept == [
        dataclasses.replace(
            dead, evidence=("behind it: b waits for 3", "behind it: a waits for 1")
        ),
        apart,
    ]
    # What explains each other stays.
    both = [finding(pids=(1,), waits_for=(2,)), finding(pids=(2,), waits_for=(1,))]
    assert group.explained(both) == both


def test_many_findings_of_a_check_are_one() -> None:
    many = [finding(subjects=(f"s:{at}",), cure=f"kill {at}") for at in range(45)]
    note, critical = finding("unseen", "note"), finding("deadlock", "critical")
    first, second, third = group.grouped([note, *many, critical])
    assert (first, third) == (critical, note)
    told = second.as_dict()
    assert told["count"] == 45
    assert told["subject"] == "s:0, s:1, s:2 and 42 more"
    assert told["cures"] == tuple(f"kill {at}" for at in range(45))
    assert len(told["evidence"]) == 45
    assert group.grouped(many[:3]) == many[:3]


def test_the_exit_status_is_that_of_the_most_severe_finding() -> None:
    note, warning, critical = (finding("x", each) for each in ("note", "warning", "critical"))
    assert [exit_status(each) for each in ([], [note], [note, warning], [warning, critical])] == [
        0,
        0,
        4,
        1,
    ]
    assert summary([]) == "no problems found"
    assert summary([critical, critical, warning, note, note]) == "2 critical, 1 warning, 2 notes"


def test_many_leftovers_are_one_note_with_one_cure() -> None:
    sockets = [dataclasses.replace(ring(kind="socket"), name=f"/run/{at}") for at in range(45)]
    orphans = [ring(name=str(at)) for at in range(5)]
    [stale] = leftovers.check_sockets([*orphans, *sockets])
    assert (stale.severity, len(stale.subjects)) == ("note", 45)
    assert stale.cure == "ipckit gc --kind socket --delete"
    [one] = leftovers.check_sockets(sockets[:1])
    assert one.cure == "ipckit rm socket:/run/0"
    found = leftovers.orphans([*orphans, *sockets])
    [left] = leftovers.check_orphans(found)
    assert (left.severity, left.cure, len(left.subjects)) == ("note", "ipckit gc --delete", 5)
    assert list(leftovers.check_orphans(found, {"channel"})) == []
    large = [dataclasses.replace(found[0], size=2**40)]
    assert [each.severity for each in leftovers.check_orphans(large)] == ["warning"]


HOSTILE = "a\x1b[31m\n; 'reboot' \udcff"


def test_hostile_names_stay_in_one_line_and_in_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    each = ring(sender(command=HOSTILE), name=HOSTILE)
    report(found(each))
    out = capsys.readouterr().out
    assert out.isascii()
    assert out.replace("\n", "").isprintable()
    [cure] = [line for line in out.splitlines() if "cure: " in line]
    words = shlex.split(cure.partition("cure: ")[2])
    assert words[:2] == ["ipckit", "recv"]
    assert words[2] == "channel:a\\x1b[31m\\n; 'reboot' \\udcff"
    assert words[3:] == ["--follow", "--json", ">>", "saved.json"]
    assert shell("q:5") == "q:5"


def test_lines_are_wrapped_between_words() -> None:
    text = "one two three-four " + "x" * 30 + " 漢字漢字 five"
    assert list(wrapped(text, 20, "- ", "  ")) == [
        "- one two three-four",
        "  " + "x" * 30,
        "  漢字漢字 five",
    ]
    assert list(wrapped(text, 0, "- ", "  ")) == [f"- {text}"]


def test_a_terminal_gets_short_lines_and_coloured_severities(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((60, 24)))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    told = found(ring(sender(), name="n" * 70))
    report(told)
    first, empty, title, *lines = capsys.readouterr().out.splitlines()
    assert (first, empty) == ("1 critical", "")
    assert title == "\x1b[1;31mcritical\x1b[0m  stuck-sender"
    assert f"    cure: {told[0].cure}" in lines
    for line in lines:
        assert len(line) <= 60 or line.strip().startswith(("cure: ", f"channel:{'n' * 70}"))
    monkeypatch.setenv("NO_COLOR", "1")
    report(told)
    assert "\x1b" not in capsys.readouterr().out


def test_words() -> None:
    assert [ago(each) for each in (0.2, 5, 119, 120, 7200, 200_000)] == [
        "less than 1 s",
        "5 s",
        "119 s",
        "2 min",
        "2 h",
        "2 days",
    ]
    assert named(peer(5, command="/opt/a/python -m jobs")) == "pid 5 (python -m jobs)"
    assert named(peer(5, command="x" * 50)) == f"pid 5 ({'x' * 37}...)"
    assert named(Process(5, "", "sent", alive=False)) == "pid 5"


def test_a_container_is_recognized(ns: Namespace) -> None:
    root = ns.directory
    assert not host.in_container(root)
    (root / "proc/self").mkdir(parents=True)
    cgroup = root / "proc/self/cgroup"
    cgroup.write_text("0::/user.slice\n")
    assert not host.in_container(root)
    cgroup.write_text("0::/kubepods.slice/a\n")
    assert host.in_container(root)
    cgroup.unlink()
    (root / ".dockerenv").touch()
    assert host.in_container(root)


def limits_of(
    monkeypatch: pytest.MonkeyPatch, ns: Namespace, objects: Sequence[IpcObject], *rows: Any
) -> list[tuple[Finding, tuple[Kind, ...]]]:
    monkeypatch.setattr(host, "table", lambda: list(rows))
    lost = leftovers.orphans(objects)
    return list(host.limits(objects, lost, ns.directory))


def test_limits_name_what_uses_them_up(monkeypatch: pytest.MonkeyPatch, ns: Namespace) -> None:
    mib = 2**20
    size = Limit("/dev/shm size", 64 * mib, 0, "bytes", "POSIX segments", "mount x")  # noqa: S108
    used = dataclasses.replace

    def say(limit: Limit, *objects: IpcObject) -> list[tuple[Finding, tuple[Kind, ...]]]:
        return limits_of(monkeypatch, ns, objects, limit)

    assert say(size) == []  # not full, and not in a container
    held = used(ring(peer(OTHER)), size=58 * mib, reason="held by a")
    [(one, kinds)] = say(used(size, used=58 * mib), held)
    assert (one.check, one.severity, one.cure, kinds) == ("shm-full", "warning", "mount x", ())
    assert one.evidence == ("channel:orders takes 58M bytes: held by a",)
    [(one, _)] = say(used(size, used=62 * mib), held)
    assert one.severity == "critical"
    left = used(ring(), size=30 * mib)
    [(one, kinds)] = say(used(size, used=62 * mib), left)
    assert (one.cure, kinds) == ("ipckit gc --kind channel --delete", ("channel",))
    assert "mount x" in one.advice
    # The largest object of a kind uses up no limit.
    assert say(Limit("kernel.msgmnb", 100, 100, "bytes", "", "")) == []
    queues = Limit("kernel.msgmni", 10, 10, "queues", "System V queues", "sysctl x")
    queue = IpcObject("sysv-queue", "", 1, 1, 0, 0, "amy", "", 0o600, 1, state="held")
    [(one, _)] = say(queues, queue, queue)
    assert (one.severity, one.cure) == ("critical", "sysctl x")
    assert one.evidence == ("2 of 2 belong to amy",)
    (ns.directory / ".dockerenv").touch()
    [(one, _)] = say(size)
    assert (one.check, one.severity) == ("shm-small", "note")


SCENE = """
from ipckit import Channel
channel = Channel.open(args[0], peer_gone="wait")
for _ in range(3):
    channel.send(b"x")
"""


def test_a_real_sender_without_a_receiver(
    spawn: Callable[..., Child], ns: Namespace, commands: Callable[..., Any]
) -> None:
    name = ns.name()[1:]
    with Channel.create(name, capacity=2):
        child = spawn(SCENE, name)
        end = time.monotonic() + 30
        # A call notes that it waits once it has slept for a moment.
        while not any(
            peer.waits for each in inventory.survey(["channel"]).objects for peer in each.peers
        ):
            assert time.monotonic() < end
            time.sleep(0.01)
        [(status, out, _)] = commands(["doctor", "--stuck-after", "0"])
        assert status == 1
        text = out.partition(f"\ncritical  stuck-sender  channel:{name}\n")[2]
        what, *others = text.partition("\n\n")[0].splitlines()
        assert what.startswith(f"    channel:{name} is full and pid {child.pid} (")
        assert f"    cure: ipckit recv channel:{name} --follow --json >> saved.json" in others
        child.kill()
