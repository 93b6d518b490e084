"""The chat, and the scripts that pass descriptors, as a user runs them."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest
from script_runs import fails

from ipckit import unixsock
from ipckit.testing import as_user

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Namespace


def well(process: Any) -> list[str]:
    """It ended well; what it printed since."""
    done = process.end()
    assert (done.returncode, done.stderr) == (0, b""), done
    lines: list[str] = done.stdout.decode().splitlines()
    return lines


def reach(address: Any) -> socket.socket:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    sock = socket.socket(family)
    sock.settimeout(60)
    try:
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


def ping(sock: socket.socket, data: bytes = b"ping") -> None:
    sock.sendall(data)
    got = b""
    while len(got) < len(data) and (piece := sock.recv(65536)):
        got += piece
    assert got == data


# -- chat ------------------------------------------------------------------------------------------


@pytest.fixture
def enter(sockets: Any) -> Callable[..., Any]:
    """Somebody enters a room, and has seen who is there."""

    def enter(server: Any, name: str, *here: str) -> Any:
        client = sockets.start(
            "chat_client.py", *server.options, "--name", name, stdin=subprocess.PIPE
        )
        if here:
            assert client.line() == f"* here: {', '.join(here)}\n"
        return client

    return enter


@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_two_people_type_at_the_same_time(sockets: Any, enter: Any, transport: str) -> None:
    server = sockets.server(
        "chat_server.py", *sockets.address(transport), "--name", "ann", stdin=subprocess.PIPE
    )
    bob = enter(server, "bob", "ann", "bob")
    assert server.line() == "* bob is here\n"
    # Each says much before it reads anything.
    count = 200
    bob.type(b"".join(b"to ann %d\n" % n for n in range(count)))
    server.type(b"".join(b"to bob %d\n" % n for n in range(count)))
    assert [server.line() for _ in range(count)] == [f"bob: to ann {n}\n" for n in range(count)]
    assert [bob.line() for _ in range(count)] == [f"ann: to bob {n}\n" for n in range(count)]
    bob.stdin.close()
    bob.stdin = None
    assert well(bob) == []
    assert server.line() == "* bob has left\n"
    carl = enter(server, "carl", "ann", "carl")
    assert server.line() == "* carl is here\n"
    server.stdin.close()
    server.stdin = None
    assert well(server) == []
    assert well(carl) == ["* the room is closed"]


def test_a_room_of_many(sockets: Any, enter: Any) -> None:
    server = sockets.server("chat_server.py", *sockets.address("tcp"))
    # Nobody is there to be told of.
    ann = enter(server, "ann")
    bob = enter(server, "bob")
    first = {ann: ann.line(), bob: None}
    # Which of the two came first is not said.
    early, late = (ann, bob) if first[ann] == "* bob is here\n" else (bob, ann)
    if early is bob:
        assert first[ann] == "* here: ann, bob\n"
        assert bob.line() == "* ann is here\n"
    else:
        assert bob.line() == "* here: ann, bob\n"
    carl = enter(server, "carl", "ann", "bob", "carl")
    for other in (early, late):
        assert other.line() == "* carl is here\n"
    ann.type(b"hello \x1b[2J\n")
    for other in (bob, carl):
        assert other.line() == "ann: hello \N{REPLACEMENT CHARACTER}[2J\n"
    # One without a line break at the end, and one that is killed.
    bob.type(b"bye")
    bob.stdin.close()
    bob.stdin = None
    assert well(bob) == []
    for other in (ann, carl):
        assert [other.line(), other.line()] == ["bob: bye\n", "* bob has left\n"]
    carl.kill()
    assert ann.line() == "* carl has left\n"
    again = enter(server, "ann")
    fails(again.end(), "the name ann is already taken")
    server.ctrl_c()
    assert well(ann) == ["* the room is closed"]


def test_ctrl_c_of_a_client_is_quiet_and_told(sockets: Any, enter: Any) -> None:
    server = sockets.server("chat_server.py", *sockets.address("unix"), "--name", "ann",
                            stdin=subprocess.PIPE)  # fmt: skip
    bob = enter(server, "bob", "ann", "bob")
    bob.ctrl_c()
    assert [server.line(), server.line()] == ["* bob is here\n", "* bob has left\n"]
    server.ctrl_c()


def test_a_slow_member_is_put_out_and_not_the_room(sockets: Any, enter: Any) -> None:
    server = sockets.server("chat_server.py", *sockets.address("unix"))
    with reach(server.address) as slow, reach(server.address) as loud:
        slow.sendall(b"slow\n")
        watcher = enter(server, "watcher")
        assert watcher.line() == "* here: slow, watcher\n"
        loud.sendall(b"loud\n")
        assert watcher.line() == "* loud is here\n"
        # Slow reads nothing, and the watcher everything.
        text = "x" * 4000
        while True:
            loud.sendall(text.encode() + b"\n")
            heard = watcher.line()
            if heard == "* slow does not read, and is removed\n":
                break
            assert heard == f"loud: {text}\n"
        loud.sendall(b"still here\n")
        assert [watcher.line(), watcher.line()] == [f"loud: {text}\n", "loud: still here\n"]
    server.ctrl_c()


def test_a_line_without_an_end_is_refused(sockets: Any, enter: Any) -> None:
    server = sockets.server("chat_server.py", *sockets.address("unix"))
    with reach(server.address) as rude:
        rude.sendall(b"rude\n")
        bob = enter(server, "bob", "bob", "rude")
        rude.sendall(bytes(10_000))
        assert bob.line() == "* rude sent too long a line, and is removed\n"
    server.ctrl_c()


# -- descriptors of files --------------------------------------------------------------------------


def test_files_are_read_through_their_descriptors(sockets: Any, ns: Namespace) -> None:
    path, one, two = ns.path(), Path(ns.path(".txt")), Path(ns.path(".txt"))
    one.write_bytes(b"first\n")
    two.write_bytes(bytes(range(256)) * 1000)
    receiver = sockets.server("fd_recv.py", "--socket", path, "--count", 2)
    done = sockets.run("fd_send.py", "--socket", path, one, two)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    got = receiver.end()
    assert (got.returncode, got.stderr) == (0, b"")
    want = b"== %s\nfirst\n== %s\n" % (os.fsencode(one), os.fsencode(two)) + two.read_bytes()
    assert got.stdout == want
    assert not Path(path).exists()


AS_NOBODY = """
import pathlib, sys
script = pathlib.Path(sys.argv[1])
sys.path[0:0] = [str(script.parent)]
# What it imports may lie where nobody may not read.
import argparse, _common, _net
from ipckit.testing import drop_privileges
from ipckit import unixsock
sys.argv[0:1] = []
code = compile(script.read_text(), script, "exec")
drop_privileges("nobody")
exec(code)
"""


@pytest.mark.usefixtures("root")
def test_a_process_without_permission_reads_through_the_descriptor(
    sockets: Any, ns: Namespace
) -> None:
    secret = Path(ns.path(".txt"))
    secret.write_text("secret\n")
    secret.chmod(0o600)
    open_to_all = Path(ns.path())
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    Path(ns.directory).chmod(0o755)
    path = open_to_all / "socket"
    denied = subprocess.run(
        as_user("nobody", ["cat", str(secret)]), capture_output=True, check=False
    )
    assert denied.returncode != 0
    assert b"Permission denied" in denied.stderr
    python, script, *rest = sockets.command("fd_recv.py", "--socket", path)
    receiver = sockets.server("", command=[python, "-c", AS_NOBODY, script, *rest])
    done = sockets.run("fd_send.py", "--socket", path, secret)
    assert (done.returncode, done.stderr) == (0, b"")
    assert well(receiver) == [f"== {secret}", "secret"]


def test_errors_of_the_file_scripts(sockets: Any, ns: Namespace) -> None:
    path = ns.path()
    fails(sockets.run("fd_send.py", "--socket", path, "/dev/null"), path)
    receiver = sockets.server("fd_recv.py", "--socket", path)
    fails(sockets.run("fd_recv.py", "--socket", path), path)
    fails(sockets.run("fd_send.py", "--socket", path, "/nonexistent"), "/nonexistent")
    with unixsock.connect(path, "seqpacket") as sender:
        sender.send(b"no descriptor")
        fails(receiver.end(), "without a descriptor")
    garbage = [
        ["fd_send.py", "--socket", path],
        ["fd_send.py", "/dev/null"],
        ["fd_recv.py", "--socket", path, "--count", 0],
        ["socketpair_demo.py"],
        ["handover_server.py"],
        ["handover_server.py", "--take-over", "--control", path, "--port", 1],
        ["broker_server.py", "--path", path, "--workers", 0],
    ]
    for process in [sockets.start(*each) for each in garbage]:
        done = process.end()
        assert done.returncode == 2, done
        assert done.stderr.startswith(b"usage: ")


def test_the_pair_demonstration(sockets: Any) -> None:
    assert well(sockets.start("socketpair_demo.py", "hello", "world")) == [
        "parent sent hello",
        "parent sent world",
        "parent has shut down its writing",
        "child answered HELLO",
        "child answered WORLD",
        "child saw the end after 2 messages",
        "parent saw the end",
    ]


# -- listeners handed over -------------------------------------------------------------------------


class Load:
    """Threads that connect, ask, and leave, again and again, and count what they lose."""

    def __init__(self, address: Any, threads: int = 3) -> None:
        self.address = address
        self.served = 0
        self.lost: list[BaseException] = []
        self._stop = threading.Event()
        self._grown = threading.Condition()
        self._threads = [threading.Thread(target=self._work) for _ in range(threads)]

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                with reach(self.address) as sock:
                    ping(sock, b"one")
                    ping(sock, bytes(10_000))
                with self._grown:
                    self.served += 1
                    self._grown.notify_all()
        except BaseException as exc:
            with self._grown:
                self.lost.append(exc)
                self._grown.notify_all()

    def more(self, count: int) -> None:
        """Wait until so many more have been served."""
        with self._grown:
            goal = self.served + count
            assert self._grown.wait_for(lambda: self.served >= goal or self.lost, timeout=60)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_a_listener_is_handed_over_under_load(sockets: Any, ns: Namespace) -> None:
    control = ns.path()
    server = sockets.server("handover_server.py", "--port", 0, "--control", control)
    address = server.address
    with Load(address) as load, ExitStack() as stack:
        load.more(20)
        for generation in range(4):
            # It stays over the change, and keeps the old server.
            staying = stack.enter_context(reach(address))
            ping(staying)
            after = sockets.server("handover_server.py", "--take-over", "--control", control)
            assert after.where == server.where, generation
            assert server.line() == "handed over\n"
            load.more(20)
            ping(staying)
            assert server.poll() is None
            staying.close()
            # With its last client the old one goes, and well.
            assert well(server) == []
            server = after
        load.more(20)
    assert load.lost == []
    assert load.served >= 120
    server.ctrl_c()
    assert not Path(control).exists()
    with pytest.raises(ConnectionRefusedError):
        reach(address)


def test_a_successor_that_dies_changes_nothing(sockets: Any, ns: Namespace) -> None:
    control = ns.path()
    server = sockets.server("handover_server.py", "--port", 0, "--control", control)
    # It goes without having said that it serves.
    with (
        unixsock.connect(control, "seqpacket") as successor,
        successor.receive(64, max_fds=2, timeout=60) as packet,
    ):
        assert len(packet.fds) == 2
    with reach(server.address) as client:
        ping(client)
    after = sockets.server("handover_server.py", "--take-over", "--control", control)
    assert well(server) == ["handed over"]
    with reach(after.address) as client:
        ping(client)
    after.ctrl_c()
    fails(sockets.run("handover_server.py", "--take-over", "--control", control), control)


@pytest.fixture
def broker(sockets: Any, ns: Namespace) -> Any:
    server = sockets.server("broker_server.py", "--port", 0, "--path", ns.path(), "--workers", 3)
    assert server.line().startswith("listening on unix ")
    word, *pids = server.line().split()
    assert word == "workers"
    server.workers = [int(pid) for pid in pids]
    server.path = server.args[server.args.index("--path") + 1]
    return server


def connections(pid: int) -> int:
    """How many sockets a process has."""
    targets = [str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()]
    return sum(target.startswith("socket:") for target in targets)


def test_a_broker_gives_each_worker_its_clients(broker: Any) -> None:
    assert sorted(broker.children()) == sorted(broker.workers)
    with ExitStack() as stack:
        for number in range(12):
            address = broker.address if number % 2 else broker.path
            ping(stack.enter_context(reach(address)))
        # Its own socket, and a third of the clients; the broker keeps none.
        assert [connections(pid) for pid in broker.workers] == [5, 5, 5]
        while connections(broker.pid) != 8:  # two listeners, and both ends of each worker's
            time.sleep(0.01)  # it closes its copy after the worker may have answered
    with Load(broker.address) as inet, Load(broker.path) as unix:
        inet.more(100)
        unix.more(100)
    assert inet.lost == unix.lost == []
    broker.ctrl_c()
    assert not Path(broker.path).exists()
    for pid in broker.workers:
        assert not Path(f"/proc/{pid}").exists()


def test_a_worker_that_dies_is_replaced(broker: Any) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(reach(broker.path)) for _ in range(3)]
        for client in clients:
            ping(client)
        os.kill(broker.workers[0], signal.SIGKILL)
        ended = 0
        for client in clients:
            try:
                ping(client)
            except (AssertionError, OSError):
                ended += 1
        assert ended == 1
        for _ in range(6):
            ping(stack.enter_context(reach(broker.address)))
        now = broker.children()
        assert len(now) == 3
        assert broker.workers[0] not in now
    broker.ctrl_c()


def test_clients_that_a_worker_had_not_taken_go_to_others(broker: Any) -> None:
    with ExitStack() as stack:
        for _ in broker.workers:  # each has started, and has one
            ping(stack.enter_context(reach(broker.path)))
        for pid in broker.workers[:2]:
            os.kill(pid, signal.SIGSTOP)
        clients = [stack.enter_context(reach(broker.path)) for _ in range(6)]
        for client in clients:
            client.sendall(b"x")
        # Of any three in a row, two wait at a worker that is stopped.
        while len(select.select(clients, [], [])[0]) < 2:
            time.sleep(0.01)
        for pid in broker.workers[:2]:
            os.kill(pid, signal.SIGKILL)
        assert [client.recv(1) for client in clients] == [b"x"] * 6
    broker.ctrl_c()


def test_workers_outlive_a_broker_that_is_killed_until_their_clients_leave(broker: Any) -> None:
    with reach(broker.path) as client:
        ping(client)
        broker.kill()
        broker.wait()
        ping(client)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    # Its output ends when nobody has it open any more: the workers have gone.
    assert broker.stdout.read() == b""


def test_an_activated_server_is_started_by_its_first_client(sockets: Any, ns: Namespace) -> None:
    path = ns.path()
    activate = ["systemd-socket-activate", "--listen", str(path), "--fdname", "web"]
    command = [*activate, *sockets.command("activated_server.py", "--idle", 0.1)]
    server = sockets.start("", command=command)
    assert server.stderr.readline().startswith(b"Listening on ")
    with reach(str(path)) as client:
        ping(client)
        listens, ends = server.line(), server.stdout
        ping(client)  # as long as somebody is there it stays
    assert listens.startswith(f"serving web: <UnixListener UNIX socket {path}")
    assert ends.readline() == b"no client for 0.1 s\n"
    assert server.end().returncode == 0
    path.unlink()  # which systemd made
    fails(sockets.run("activated_server.py"), "nothing was inherited")
