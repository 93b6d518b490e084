"""``ipckit doctor`` in a sandbox, with and without problems."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from own_machine import OWN_MACHINE

from ipckit import SysVMessageQueue, inventory
from ipckit._cli.doctor import queues
from ipckit._cli.doctor.host import remove_ipc
from ipckit.inventory import IpcObject
from ipckit.testing import Child, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ipckit.testing import Namespace

pytestmark = pytest.mark.usefixtures("root")

PREAMBLE = (
    OWN_MACHINE
    + """
import io, json, os, signal, subprocess, sys
from ipckit import *
from ipckit import cli
from ipckit.testing import wait_blocked

def doctor(*words):
    sys.stdout = io.StringIO()
    try:
        status = cli.run(["doctor", "--json", *words])
        return status, json.loads(sys.stdout.getvalue())
    finally:
        sys.stdout = sys.__stdout__
"""
)
BIG = "128m"


def test_a_healthy_machine_has_no_problem(spawn: Callable[..., Child]) -> None:
    code = "with SysVMessageQueue.create() as q:\n    q.send(b'a')\n    result = doctor()"
    child = spawn(PREAMBLE + code, sandbox=Sandbox(shm_size=BIG))
    child.wait()
    status, found = child.result
    assert status == 0
    assert [each for each in found if each["severity"] != "note"] == []
    assert {each["level"] for each in found} <= {"note"}


def test_a_receiver_that_no_longer_waits_is_no_finding() -> None:
    with SysVMessageQueue.create() as queue:
        queue.send(b"a")
        [found] = [each for each in inventory.survey(["sysv-queue"]).objects if each.id == queue.id]
        # The survey read /proc before this message came; now the process does something else.
        gone = inventory.Process(os.getpid(), "receiver", "waits in msgrcv", alive=True)
        assert list(queues.check([replace(found, holders=(gone,))], 60.0)) == []
        # A process that uses a full queue is no finding either.
        for _ in range(2):
            queue.send(b"x" * ((queue.max_bytes - 10) // 2), timeout=1)
        queue.receive()
        [full] = [each for each in inventory.survey(["sysv-queue"]).objects if each.id == queue.id]
        assert list(queues.check([full], 60.0)) == []


ILL = """
import resource, socket
s = SysVSemaphoreSet.create(None, [1, 1, 1, 1])

def takes_and_dies(told):
    s[0].acquire()

def waits_for_the_dead(told):
    told()
    s[0].acquire()

def crosswise(mine, other):
    def act(told):
        s[mine].acquire()
        told()
        signal.sigwait([signal.SIGUSR1])
        s[other].acquire()
    return act

def holds(told):
    s[3].acquire()
    told()
    signal.pause()

def waits_for_the_living(told):
    told()
    s[3].acquire()

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
os.waitpid(start(takes_and_dies), 0)
pids = [start(waits_for_the_dead)]
left, right = start(crosswise(1, 2)), start(crosswise(2, 1))
os.kill(left, signal.SIGUSR1)
os.kill(right, signal.SIGUSR1)
holder, waiter = start(holds), start(waits_for_the_living)
pids += [left, right, waiter]

full = SysVMessageQueue.create(max_bytes=100)
full.send(b"x" * 95)
typed = SysVMessageQueue.create()
typed.send(b"x", mtype=5)
def sends(told):
    told()
    full.send(b"y" * 50)
def receives(told):
    told()
    typed.receive(9)
sender, receiver = start(sends), start(receives)
posix = PosixMessageQueue.create(max_messages=1)
posix.send(b"x")
clogged = PosixMessageQueue.create("/clogged; reboot", max_messages=1).disown()
clogged.send(b"x")
clogged.close()
def clogs(told):
    queue = PosixMessageQueue.open("/clogged; reboot", writeonly=True)
    told()
    queue.send(b"y", timeout=60)
clogger = start(clogs)

def many_files(told):
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    for _ in range(50):
        os.open("/", os.O_RDONLY)
    told()
    signal.pause()
hungry = start(many_files)

stale = socket.socket(socket.AF_UNIX)
stale.bind("/run/stale; reboot")
stale.close()
live = socket.socket(socket.AF_UNIX)
live.bind("/run/live")
live.listen()

def leaves_one(told):
    os.setuid(65534)  # what one user makes at one time may belong together
    queue = SysVMessageQueue.create().disown()
    queue.send(b"left")
    os._exit(0)
os.waitpid(start(leaves_one), 0)
for pid in pids:
    wait_blocked(pid, "semop")
wait_blocked(sender, "msgsnd")
wait_blocked(receiver, "msgrcv")
wait_blocked(clogger, "poll")
result = doctor("--stuck-after", "0")
for pid in [*pids, holder, sender, receiver, hungry, clogger]:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
names = {"s": f"s:{s.id}", "full": f"q:{full.id}", "typed": f"q:{typed.id}"}
result = (*result, names | {"left": left, "right": right, "holder": holder, "hungry": hungry})
live.close()
for each in (s, full, typed, posix):
    each.unlink()
    each.close()
with PosixMessageQueue.open("/clogged; reboot") as queue:
    queue.unlink()
"""


def test_doctor_reports_each_problem_with_a_cure(
    spawn: Callable[..., Child],
) -> None:
    sandbox = Sandbox(shm_size="64m", sysctls={"kernel.msgmni": 3})
    child = spawn(PREAMBLE + ILL, sandbox=sandbox)
    child.wait()
    status, listed, known = child.result
    assert status == 1
    found = {each["check"]: each for each in listed}
    assert [each["severity"] for each in listed] == sorted(
        (each["severity"] for each in listed), key=["critical", "warning", "note"].index
    )
    for each in listed:
        assert each["level"] == ("note" if each["severity"] == "note" else "problem")
        assert each["cure"] or each["check"] == "unseen"
        assert each["count"] == len(each["subjects"])
    # /dev/shm has 64 MiB, but it is not full.
    assert found["limit"]["subject"] == "kernel.msgmni"
    assert found["limit"]["severity"] == "critical"
    assert found["limit"]["cure"] == "ipckit gc --kind q --delete"
    assert "sysctl -w kernel.msgmni=6" in found["limit"]["advice"]
    assert "orphans" not in found  # that cure removes the only one
    dead = found["dead-holder"]
    assert (dead["subject"], dead["severity"]) == (known["s"], "critical")
    assert "semaphore 0" in dead["what"]
    assert dead["cure"] == f"ipckit sem post {known['s']} 0"
    circle = found["deadlock"]["what"]
    assert f"pid {known['left']} " in circle
    assert f"pid {known['right']} " in circle
    assert found["stuck-waiter"]["waits_for"] == [known["holder"]]
    stuck = {each["subject"]: each for each in listed if each["check"] == "stuck-sender"}
    assert set(stuck) == {known["full"], "mq:/clogged; reboot"}
    assert {each["severity"] for each in stuck.values()} == {"critical"}
    assert "no process has ever received" in stuck[known["full"]]["what"]
    cure = "ipckit recv 'mq:/clogged; reboot' --follow --json >> saved.json"
    assert stuck["mq:/clogged; reboot"]["cure"] == cure
    assert found["wrong-type"]["subject"] == known["typed"]
    assert found["wrong-type"]["level"] == "note"
    # A full queue with a sender that waits is one finding.
    [full] = [each["subject"] for each in listed if each["check"] == "queue-full"]
    assert full.startswith("mq:/")
    assert full not in stuck
    assert found["descriptors"]["subject"] == f"pid {known['hungry']}"
    assert "/" in found["descriptors"]["evidence"][0]
    assert found["stale-socket"]["subjects"] == ["socket:/run/stale; reboot"]
    assert found["stale-socket"]["cure"] == "ipckit rm 'socket:/run/stale; reboot'"
    assert len(listed) == len(found) + 1  # nothing twice, but two queues are full


STUCK = """
def holds(told):
    s[0].acquire()
    told()
    signal.pause()
def waits(told):
    told()
    s[0].acquire()
with SysVSemaphoreSet.create(None, [1]) as s:
    holder, waiter = start(holds), start(waits)
    wait_blocked(waiter, "semop")
    _, late = doctor()
    status, now = doctor("--stuck-after", "0")
    for pid in (waiter, holder):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
result = (status, now, [each["check"] for each in late], holder, waiter)
"""


def test_a_wait_for_a_live_process_is_reported_after_stuck_after(
    spawn: Callable[..., Child],
) -> None:
    child = spawn(PREAMBLE + STUCK, sandbox=Sandbox(shm_size=BIG))
    child.wait()
    status, listed, late, holder, waiter = child.result
    assert status == 4
    assert "stuck-waiter" not in late
    [found] = [each for each in listed if each["check"] == "stuck-waiter"]
    assert f"pid {waiter} " in found["what"]
    assert found["what"].endswith(f"waits for pid {holder}")
    assert (found["pids"], found["waits_for"]) == ([waiter], [holder])
    assert found["cure"] == f"ipckit ps {holder}"


CHAIN = """
s = SysVSemaphoreSet.create(None, [1, 1, 1])
def link(mine, other):
    def act(told):
        s[mine].acquire()
        told()
        s[other].acquire()
    return act
def end(told):
    s[1].acquire()
    told()
    signal.pause()
last = start(end)
first = start(link(0, 1))
wait_blocked(first, "semop")
second = start(link(2, 0))
wait_blocked(second, "semop")
third = start(lambda told: (told(), s[2].acquire()))
wait_blocked(third, "semop")
status, found = doctor("--stuck-after", "0")
result = (status, found, [first, second, third, last])
for pid in (first, second, third, last):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
s.unlink()
s.close()
"""


def test_a_chain_of_waits_in_one_set_is_not_a_deadlock(spawn: Callable[..., Child]) -> None:
    child = spawn(PREAMBLE + CHAIN, sandbox=Sandbox(shm_size=BIG))
    child.wait()
    _, listed, (first, second, third, last) = child.result
    assert [each for each in listed if each["check"] == "deadlock"] == []
    # Only the end of the chain is to blame.
    [found] = [each for each in listed if each["check"] == "stuck-waiter"]
    assert (found["pids"], found["waits_for"]) == ([first], [last])
    behind = [line for line in found["evidence"] if line.startswith("behind it: ")]
    for waiter, holder in ((second, first), (third, second)):
        assert [t for t in behind if f"pid {waiter} " in t and t.endswith(f"for pid {holder}")]
    assert len(behind) == 2


def test_a_peer_in_other_namespaces_is_reported(
    spawn: Callable[..., Child], commands: Callable[..., Any]
) -> None:
    code = "from ipckit.testing import step\nstep.tell('there')\nstep.expect('seen')"
    peer = spawn(code, sandbox=Sandbox(net=True))
    peer.expect("there")
    [(status, out, _), absent] = commands(
        ["doctor", "--json", "--peer", peer.pid], ["doctor", "--peer", 2**22]
    )
    assert status in {1, 4}  # the machine's own
    [told] = [each for each in json.loads(out) if each["check"] == "peer-namespace"]
    assert (told["subject"], told["severity"]) == (f"pid {peer.pid}", "warning")
    said = told["evidence"]
    assert "System V objects" in said[0]
    assert "abstract" in said[1]
    assert "another /dev/shm" in said[2]
    assert told["cure"] == f'nsenter --target {peer.pid} --ipc --net "$(command -v ipckit)" ls'
    assert "--ipc=container:NAME --network=container:NAME" in told["advice"]
    assert (absent[0], absent[1]) == (1, "")
    peer.tell("seen")


def owned(uid: int) -> IpcObject:
    return IpcObject("sysv-queue", "", 1, 1, uid, uid, f"user{uid}", "", 0o600, 1)


@pytest.mark.parametrize(
    ("files", "uid", "told"),
    [
        ({}, 1000, True),
        ({}, 999, False),
        ({"etc/systemd/logind.conf": "[Login]\n#RemoveIPC=no\n"}, 1000, True),
        ({"etc/systemd/logind.conf": "[Login]\nRemoveIPC=no\n"}, 1000, False),
        (
            {
                "etc/systemd/logind.conf": "[Login]\nRemoveIPC=no\n",
                "usr/lib/systemd/logind.conf.d/9.conf": "[Login]\nRemoveIPC = yes\n",
            },
            1000,
            True,
        ),
        (
            {
                "etc/systemd/logind.conf.d/9.conf": "[Login]\nRemoveIPC=no\n",
                "usr/lib/systemd/logind.conf.d/9.conf": "[Login]\nRemoveIPC=yes\n",
            },
            1000,
            False,
        ),
    ],
)
def test_removeipc_of_systemd_is_reported(
    ns: Namespace,
    files: dict[str, str],
    uid: int,
    told: bool,  # noqa: FBT001
) -> None:
    root: Path = ns.directory
    assert list(remove_ipc([owned(uid)], root)) == []  # no systemd runs
    (root / "run/systemd/system").mkdir(parents=True)
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = list(remove_ipc([owned(uid)], root))
    assert [each.check for each in found] == (["remove-ipc"] if told else [])


def test_doctor_prints_text_and_refuses_invalid_options(commands: Callable[..., Any]) -> None:
    wrong = commands(["doctor", "--peer", "x"], ["doctor", "--stuck-after", -1], ["doctor", "x"])
    assert [status for status, _, _ in wrong] == [2, 2, 2]


def test_another_user_sees_a_note_for_what_is_hidden(
    commands: Callable[..., Any], ns: Namespace
) -> None:
    from ipckit import SysVSemaphoreSet  # noqa: PLC0415

    with SysVSemaphoreSet.create(ns.key(), [0]):
        [(status, out, _)] = commands(["doctor"], user="nobody")
    assert status in {0, 1, 4}  # the machine's own
    assert "\nnote  unseen" in out
    assert 'cure: sudo "$(command -v ipckit)" doctor\n' in out
