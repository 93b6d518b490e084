"""``ipckit ps``, ``ls --pid`` and ``stat pid:N``: the way in from a process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from terminal import on_terminal

from ipckit import Channel, SysVMessageQueue, SysVSemaphoreSet, cli, inventory
from ipckit._cli import process_words
from ipckit._cli.commands import ps
from ipckit.inventory import Held, Process, ProcessSurvey, ProcessUse, Survey, Wait
from ipckit.testing import Child, wait_blocked

if TYPE_CHECKING:
    from collections.abc import Callable

    from command_line import Result

    from ipckit.testing import Namespace


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command line in this process: the exit status, standard output and error."""

    def run(*words: object) -> tuple[int, str, str]:
        status = cli.run(list(map(str, words)))
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


# -- real processes --------------------------------------------------------------------------------

WAITER = """
    import subprocess, sys
    from ipckit import SysVSemaphoreSet, Channel
    from ipckit.testing import step

    set_id, name = args
    channel = Channel.open(name)
    channel.receive()
    semaphores = SysVSemaphoreSet.from_id(set_id)
    with subprocess.Popen(["sleep", "1000"]) as sleeper:
        step.tell(sleeper.pid)
        semaphores[0].acquire()
"""


def test_what_a_process_waits_on(
    ns: Namespace,
    spawn: Callable[..., Child],
    run: Callable[..., tuple[int, str, str]],
    commands: Callable[..., list[Result]],
) -> None:
    name = ns.name()[1:]
    with (
        SysVSemaphoreSet.create(None, [1]) as semaphores,
        Channel.create(name) as channel,
    ):
        semaphores[0].acquire()
        channel.send(b"x")
        child = spawn(WAITER, semaphores.id, name)
        sleeper = child.hear()
        wait_blocked(child.pid, "semop")
        s, me = f"s:{semaphores.id}", os.getpid()
        try:
            status, detail, err = run("ps", child.pid)
            assert (status, "Traceback" in err) == (0, False)
            lines = detail.splitlines()
            assert lines[0].startswith(f"pid {child.pid}: {sys.executable}")
            assert f"  waits on {s} for semaphore 0" in detail
            assert f"    pid {me}, changed it last: " in detail
            assert f"  holds channel:{name}  " in detail
            assert f"  1 child without IPC objects: {sleeper} sleep" in lines
            again = run("stat", f"pid:{child.pid}")[1]
            assert re.sub(r"\d+ ?s", "", again) == re.sub(r"\d+ ?s", "", detail)

            [found] = json.loads(run("ps", child.pid, "--json")[1])["processes"]
            assert [each["address"] for each in found["waits"]] == [s]
            assert [each["pid"] for each in found["waits"][0]["blockers"]] == [me]
            assert [each["pid"] for each in found["children"]] == [sleeper]

            listed = run("ps")[1].splitlines()
            assert listed[0].split() == [
                *("PID", "USER", "COMMAND", "HOLDS", "WAITS", "ON", "FOR", "HELD", "BY")
            ]
            [row] = [line for line in listed if line.lstrip().startswith(f"{child.pid} ")]
            assert f"1 channel {s} for semaphore 0" in " ".join(row.split())  # columns vary
            assert row.split()[-1] == str(me)

            objects = json.loads(run("ls", "--pid", child.pid, "--json")[1])["objects"]
            assert [each["address"] for each in objects] == [s, f"channel:{name}"]

            # On a terminal, and as another user, who sees neither the memory nor the calls.
            text = on_terminal({"NO_COLOR": "1"}, "ps", str(child.pid), status=0).decode()
            assert f"waits on {s} for semaphore 0" in text
            assert max(map(len, text.splitlines())) <= 80
            if os.geteuid() == 0:
                lines_of = [["ps"], ["ps", child.pid], ["ls", "--pid", child.pid]]
                results = commands(*lines_of, user="nobody")
                assert [status for status, _, _ in results] == [0, 0, 0]
                assert all("could not see" in err for _, _, err in results)
                assert "permission denied; run as root to see it" in results[1][1]
        finally:
            child.kill()
            subprocess.run(["kill", str(sleeper)], check=False)
            semaphores.unlink()
            channel.unlink()


def test_objects_of_a_process_that_has_exited(run: Callable[..., tuple[int, str, str]]) -> None:
    with SysVMessageQueue.create(None) as queue:
        pid = os.fork()
        if pid == 0:
            queue.send(b"x")
            os._exit(0)
        os.waitpid(pid, 0)
        assert f"q:{queue.id} " in run("ls", "--pid", pid)[1]
        queue.unlink()
    for words in (["ls", "--pid", pid], ["ps", pid], ["stat", f"pid:{pid}"]):
        status, out, err = run(*words)
        assert (status, out) == (1, "")
        assert err.splitlines()[-1] == f"ipckit: pid {pid}: no such process"


def test_a_process_that_is_none_of_these(run: Callable[..., tuple[int, str, str]]) -> None:
    for name in ("no such name", ""):
        status, out, err = run("ps", name)
        assert (status, out) == (1, "")
        assert f"{name}: no process has this name" in err
    zombie = os.fork()
    if zombie == 0:
        os._exit(0)
    os.waitid(os.P_PID, zombie, os.WEXITED | os.WNOWAIT)
    assert f"it has exited, and its parent {os.getpid()}" in run("ps", zombie)[2]
    os.waitpid(zombie, 0)
    assert run("ps", "99999999999999999999")[0] == 1


# -- made-up processes -----------------------------------------------------------------------------


def use(pid: int, command: str, *waits: Wait, parent: int = 1, **fields: Any) -> ProcessUse:
    name = command.partition(" ")[0].rpartition("/")[2][:15]
    found = ProcessUse(pid, parent, 0, "root", name, command, "sleeping", 1, 0.0, seen=True)
    return replace(found, waits=waits, **fields)


def wait(pid: int, what: str, seconds: float | None, bound: str = "", *blockers: int) -> Wait:
    by = tuple(Process(each, f"p{each}", "receiver", alive=each < 90) for each in blockers)
    return Wait(pid, pid, "channel:a", "channel", what, "futex", None, seconds, bound, by)


def held(kind: Any, count: int = 1) -> tuple[Held, ...]:
    return tuple(Held(f"{kind}:{index}", kind, "mapped") for index in range(count))


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def made_up(*uses: ProcessUse) -> None:
        found = ProcessSurvey({each.pid: each for each in uses}, Survey((), (), 100.0))
        monkeypatch.setattr(inventory, "survey_processes", lambda **_: found)

    return made_up


def test_the_blocked_ones_come_first(
    made_up: Callable[..., None], run: Callable[..., tuple[int, str, str]]
) -> None:
    made_up(
        use(2, "idle", holds=held("memfd")),
        use(3, "server", wait(3, "connection", 900.0), holds=held("socket", 2)),
        use(4, "reader", wait(4, "message", 100.0, "about", 5)),
        use(5, "awaited"),
        use(6, "sender", wait(6, "room", 10.0, "at least", 91, 92, 93, 94)),
        use(7, "locker", wait(7, "lock", 20.0), wait(7, "data", None), holds=held("channel")),
        use(8, "bystander"),
        use(9, "unknown", wait(9, "message", None)),
    )
    lines = [line.split("  ") for line in run("ps")[1].splitlines()]
    rows = [[cell.strip() for cell in line if cell.strip()] for line in lines[1:]]
    assert [row[0] for row in rows] == ["7", "6", "5", "4", "9", "3", "2"]
    assert rows[0] == [
        "7",
        "root",
        "locker",
        "1 channel",
        "channel:a for a lock, 1 more",
        "20s",
        "-",
    ]
    assert rows[1][4:] == [
        "channel:a for room",
        ">10s",
        "91 (exited), 92 (exited), 93 (exited), 1 more",
    ]
    assert rows[3][4:] == ["channel:a for a message", "~1m", "5"]
    assert rows[4][5] == "-"
    assert rows[5][3] == "2 sockets"


def test_the_tree_of_children(
    made_up: Callable[..., None], run: Callable[..., tuple[int, str, str]]
) -> None:
    made_up(
        use(2, "/usr/bin/python3 /srv/jobs.py --all"),
        use(3, "worker", wait(3, "message", 5.0, "", 4), parent=2, state="stopped"),
        use(4, "sh -c x\x1b[31m\n", parent=2),
        use(5, "worker", parent=4, user="amy", holds=held("channel")),
        use(6, "sleep 5", parent=2),
        use(7, "worker", parent=1),
        use(8, "stuck", *(wait(8, "room", 60.0 - index) for index in range(3))),
    )
    assert run("ps", "2") == run("ps", "jobs.py")
    assert run("ps", "jobs")[1].splitlines() == [
        "pid 2: /usr/bin/python3 /srv/jobs.py --all",
        "  user root, sleeping, 1 thread, started 1 min ago, parent 1",
        "  holds no IPC object and waits on none",
        "  child 3 (stopped): worker",
        "    waits on channel:a for a message  5s  (futex)",
        "      pid 4, receiver: p4",
        "  child 4: sh -c x\\x1b[31m\\n",
        "    child 5 (amy): worker",
        "      holds channel:0  mapped",
        "  1 child without IPC objects: 6 sleep",
    ]
    assert run("ps", "stuck")[1].splitlines()[2:] == [
        "  waits on channel:a for room  1m  (futex, 3 threads)",
        "    no process is known that can end it",
    ]
    workers = run("ps", "work")[1].splitlines()
    assert [line for line in workers if line.startswith("pid")] == [
        "pid 3: worker",
        "pid 5: worker",
    ]
    assert workers[-1] == "1 process of this name without IPC objects: 7 worker"
    found = json.loads(run("ps", "2", "--json")[1])["processes"]
    assert [[each["pid"] for each in one["children"]] for one in found] == [[3, 4, 6]]


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("/usr/bin/python3.11 -u /srv/jobs.py --all", ["python3.11", "jobs.py"]),
        ("python3 -W error -m http.server 80", ["python3", "http.server"]),
        ("python3 -m http.server", ["python3", "http.server"]),
        ("python3 -c pass", ["python3"]),
        ("/usr/sbin/nginx: master", ["nginx:"]),
        ("[kworker]", ["[kworker]"]),
        ("", [""]),
    ],
)
def test_the_names_of_a_process(command: str, names: list[str]) -> None:
    process = replace(use(2, command), name="thename")
    assert list(process_words.base_names(process)) == ["thename", *names]


def test_words() -> None:
    mixed = [*held("sysv-queue"), *held("posix-queue"), *held("topic"), *held("sysv-semaphores")]
    assert process_words.holdings(mixed) == "1 topic, 2 queues, 1 semaphore set"
    assert process_words.holdings([]) == ""
    zero = replace(wait(1, "zero", 0.0), index=3)
    assert process_words.awaited(zero) == "channel:a for semaphore 3 to be 0"
    assert process_words.short_command("/a/b/python /x y") == "python /x y"
    assert process_words.short_command("[a/b]") == "[a/b]"


def test_300_processes_are_quick(
    made_up: Callable[..., None], run: Callable[..., tuple[int, str, str]]
) -> None:
    made_up(
        *(
            use(pid, f"worker {pid}", wait(pid, "room", 1.0, "", 2), parent=2)
            for pid in range(3, 300)
        ),
        use(2, "main"),
    )
    started = time.monotonic()
    assert len(run("ps")[1].splitlines()) == 299
    assert len(run("ps", "2")[1].splitlines()) > 297 * 3
    assert time.monotonic() - started < 1


def test_completion() -> None:
    pid = str(os.getpid())
    assert pid in [each.value for each in ps.completions(pid[:2])]
    assert f"pid:{pid}" in [each.value for each in ps.completions(pid[:2], ps.PID_PREFIX)]
