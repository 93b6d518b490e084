"""Addresses of UNIX sockets: files, stale files, abstract names, and connecting to them."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from socket_pairs import KINDS

from ipckit import (
    Abstract,
    AlreadyExists,
    InvalidArgument,
    NotFound,
    PeerGone,
    Timeout,
    UnixSocket,
    WouldBlock,
    connect,
    listen,
)
from ipckit._sockets import listener as listener_module
from ipckit.testing import wait_blocked

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child, Namespace


def test_a_listener_owns_its_file(ns: Namespace, kind: Any) -> None:
    path = ns.path(".sock")
    with listen(path, kind) as listener:
        assert (listener.owner, listener.kind, listener.address) == (True, kind, str(path))
        assert "owner" in repr(listener)
        with connect(path, kind) as client, listener.accept(timeout=5) as server:
            client.send(b"hello")
            assert server.receive().data == b"hello"
    assert not path.exists()


def test_a_listener_leaves_another_ones_file_alone(ns: Namespace) -> None:
    path = ns.path()
    with listen(path) as first:
        path.unlink()
        with listen(path) as second:
            first.__exit__(None, None, None)
            assert path.exists()
            with connect(path), second.accept():
                pass


def test_somebody_listens_there_already(ns: Namespace, kind: Any) -> None:
    path = ns.path()
    with listen(path, kind):
        for other in KINDS:
            with pytest.raises(AlreadyExists, match="already listens"):
                listen(path, other)  # type: ignore[arg-type]


def test_a_stale_file_is_replaced(ns: Namespace) -> None:
    path = ns.path()
    for kind in KINDS:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
        with pytest.raises(PeerGone, match="stale"):
            connect(path)
        with listen(path, kind):  # type: ignore[call-overload]
            pass


def test_nobody_can_block_a_listener_by_a_lock_on_its_directory(
    ns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ns.path()
    probe, probes = listener_module._has_no_listener, 0

    def listen_at_the_second(where: Path, kind: Any) -> bool:
        nonlocal probes
        probes += 1
        if probes == 2:
            late.listen()
        return probe(where, kind)

    held = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        with socket.socket(socket.AF_UNIX) as late, monkeypatch.context() as patch:
            late.bind(str(path))
            patch.setattr(listener_module, "_has_no_listener", listen_at_the_second)
            # As without sock_diag(7), which tells that a process has bound the file.
            patch.setattr(listener_module, "is_bound", lambda _: None)
            with pytest.raises(AlreadyExists):  # it was made just now: its owner may be slow
                listen(path)
        os.utime(path, (0, 0))
        with listen(path) as listener, connect(path) as client, listener.accept(timeout=60) as sock:
            client.send(b"x")
            assert sock.receive().data == b"x"
    finally:
        os.close(held)
    assert probes == 2


def test_a_live_listener_sees_the_probe_as_a_connection_that_ends(ns: Namespace) -> None:
    path = ns.path()
    with listen(path) as listener:
        with pytest.raises(AlreadyExists):
            listen(path)
        with listener.accept(timeout=0) as probe:
            assert probe.receive(timeout=60).eof


def test_another_users_socket_is_left_alone(ns: Namespace, spawn: Callable[..., Child]) -> None:
    path = ns.path()
    path.parent.chmod(0o1777)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    path.chmod(0o600)
    code = """
        import os, pytest
        from ipckit import AlreadyExists, listen
        os.setgroups([])
        os.setresuid(65534, 65534, 65534)
        with pytest.raises(AlreadyExists, match="permission denied while checking for a listener"):
            listen(args[0])
    """
    spawn(code, str(path)).wait()
    path.unlink()


def test_a_file_that_is_no_socket_stays(ns: Namespace) -> None:
    path = ns.path()
    path.write_text("mine")
    with pytest.raises(AlreadyExists, match="not a socket: it is a regular file; use another path"):
        listen(path)
    with pytest.raises(InvalidArgument, match="not a socket: it is a regular file") as found:
        connect(path)
    assert found.value.errno == errno.ENOTSOCK
    with pytest.raises(InvalidArgument, match="it is a directory"):
        connect(ns.directory)
    assert path.read_text() == "mine"


def test_a_socket_that_refuses_connections_is_not_stale(ns: Namespace) -> None:
    path = ns.path()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        for _ in range(2):  # it does not listen yet, and then no more
            with pytest.raises(PeerGone, match="has bound the socket, but does not accept"):
                connect(path)
            with pytest.raises(AlreadyExists, match="already listens"):
                listen(path)
            sock.listen()
            sock.shutdown(socket.SHUT_RDWR)
    with pytest.raises(PeerGone, match="stale"):
        connect(path)
    with listen(path):
        pass


def test_only_one_of_many_replaces_a_stale_file(ns: Namespace, spawn: Callable[..., Child]) -> None:
    path = ns.path()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    code = """
        from ipckit import AlreadyExists, listen
        from ipckit.testing import step
        step.tell("ready")
        step.expect("go")
        try:
            listener = listen(args[0])
        except AlreadyExists:
            result = 0
            step.tell("tried")
            step.expect("end")
        else:
            with listener:
                step.tell("tried")
                result = 1
                step.expect("end")
    """
    children = [spawn(code, str(path)) for _ in range(4)]
    for child in children:
        child.expect("ready")
    for child in children:
        child.tell("go")
    for child in children:
        child.expect("tried")
    for child in children:
        child.tell("end")
    assert sum(child.result for child in children) == 1


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
@pytest.mark.parametrize("kind", KINDS)
def test_the_mode_is_what_was_asked_for(ns: Namespace, mode: int, kind: Any) -> None:
    before = os.umask(0o077)
    try:
        with listen(ns.path(), kind, mode=mode) as listener:
            assert stat.S_IMODE(Path(str(listener.address)).stat().st_mode) == mode
    finally:
        os.umask(before)


def test_a_path_of_any_length(ns: Namespace, kind: Any) -> None:
    deep = ns.directory.joinpath(*("d" * 40 for _ in range(6)))
    deep.mkdir(parents=True)
    path = deep / "server.sock"
    with listen(path, kind) as listener:
        with connect(path, kind) as client, listener.accept() as server:
            client.send(b"x")
            assert server.receive().data == b"x"
        with pytest.raises(AlreadyExists):
            listen(path, kind)
    assert not path.exists()
    with pytest.raises(InvalidArgument, match="in a path of 107 bytes"):
        listen(deep / ("n" * 100), kind)
    assert list(deep.iterdir()) == []


def test_abstract_names(ns: Namespace, kind: Any) -> None:
    name = Abstract(ns.name()[1:])
    with listen(name, kind) as listener:
        assert listener.address == name
        assert not listener.owner
        with connect(name, kind) as client, listener.accept() as server:
            server.send(b"x")
            assert client.receive().data == b"x"
        with pytest.raises(AlreadyExists):
            listen(name, kind)
    with pytest.raises(PeerGone, match="no process listens"):
        connect(name, kind)
    with pytest.raises(InvalidArgument):
        Abstract("")
    with pytest.raises(InvalidArgument):
        Abstract("x" * 108)


def test_what_connect_says(ns: Namespace) -> None:
    with pytest.raises(NotFound, match="no such socket file"):
        connect(ns.path())
    with listen(ns.path()) as listener, pytest.raises(InvalidArgument, match="another kind"):
        connect(str(listener.address), "seqpacket")
    with pytest.raises(InvalidArgument, match="kind must be"):
        connect(ns.path(), "raw")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        connect(3)  # type: ignore[arg-type]


def test_a_full_backlog(ns: Namespace, kind: Any) -> None:
    path = ns.path()
    waiting: list[UnixSocket] = []
    with listen(path, kind, backlog=0) as listener:
        with pytest.raises(WouldBlock, match="backlog"):  # noqa: PT012 - as often as it takes
            for _ in range(10):
                waiting.append(connect(path, kind, timeout=0))  # noqa: PERF401 - those before count
        with pytest.raises(Timeout, match="backlog"):
            connect(path, kind, timeout=0.02)
        later = threading.Thread(target=lambda: waiting.append(connect(path, kind)))
        later.start()
        wait_blocked(os.getpid(), "connect")
        listener.accept().close()
        later.join()
        for sock in waiting:
            sock.close()


def test_a_signal_does_not_end_the_wait_for_a_backlog(ns: Namespace) -> None:
    path, seen = ns.path(), list[int]()
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
    try:
        with listen(path, backlog=0) as listener, connect(path):

            def disturb() -> None:
                wait_blocked(os.getpid(), "connect")
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
                wait_blocked(os.getpid(), "connect", "poll")
                listener.accept().close()

            helper = threading.Thread(target=disturb)
            helper.start()
            with connect(path) as sock:
                helper.join()
                assert seen == [1]
                with listener.accept() as server:
                    sock.send(b"x")
                    assert server.receive().data == b"x"
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_datagrams_to_and_from_addresses(ns: Namespace) -> None:
    here, there = ns.path(), ns.path()
    with listen(here, "dgram") as server, listen(there, "dgram") as client:
        client.send(b"question", to=here)
        packet = server.receive()
        assert (packet.data, packet.address) == (b"question", str(there))
        server.send(b"answer", to=packet.address)
        assert client.receive(timeout=5).data == b"answer"
        with pytest.raises(WouldBlock, match="max_dgram_qlen"):  # noqa: PT012 - as often as it takes
            for _ in range(10000):
                client.send(b"x", to=here, timeout=0)
        with pytest.raises(Timeout):
            client.send(b"x", to=here, timeout=0.01)
        with pytest.raises(NotFound):
            client.send(b"x", to=ns.path())
