"""Sockets that are closed, dropped or left open for this process, and invalid arguments."""

from __future__ import annotations

import os
import pickle
import socket
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ipckit import ClosedHandle, Corrupt, InvalidArgument, UnixListener, UnixSocket, inherited, pair

if TYPE_CHECKING:
    from collections.abc import Callable

    from socket_pairs import Pair

    from ipckit.testing import Child, Namespace


# -- lifecycle -------------------------------------------------------------------------------------


def test_a_closed_handle(both: Pair) -> None:
    sock = both[0]
    sock.close()
    sock.close()
    calls: list[Callable[[], object]] = [
        lambda: sock.send(b"x"),
        lambda: sock.send(b"x", timeout=1),
        sock.receive,
        lambda: sock.receive(max_fds=1),
        lambda: sock.receive(timeout=1),
        sock.fileno,
        lambda: sock.peer,
        lambda: sock.socket,
        sock.shutdown,
        lambda: sock.send_array([1]),
        lambda: pickle.dumps(sock),
    ]
    for call in calls:
        with pytest.raises(ClosedHandle):
            call()
    assert "closed" in repr(sock)


def test_a_dropped_socket_warns(kind: Any) -> None:
    first, second = pair(kind)
    second.close()
    with pytest.warns(ResourceWarning, match="unclosed <UnixSocket"):
        del first


def test_descriptors_of_something_else() -> None:
    with open(os.devnull) as file:  # noqa: PTH123
        for cls in (UnixSocket, UnixListener):
            with pytest.raises(InvalidArgument, match="not a socket"):
                cls.from_fd(file.fileno())
    with socket.socket() as tcp, pytest.raises(InvalidArgument, match="not a UNIX socket"):
        UnixSocket.from_fd(tcp.fileno())
    first, second = pair()
    with first, second, pytest.raises(InvalidArgument, match="not a listening socket"):
        UnixListener.from_fd(first.fileno())


def test_arguments_out_of_range(both: Pair) -> None:
    wrong: list[dict[str, Any]] = [{"max_bytes": -2}, {"max_fds": 254}, {"max_fds": -1}]
    for options in wrong:
        with pytest.raises(InvalidArgument):
            both[0].receive(**options)
        with pytest.raises(InvalidArgument):
            both[0].receive(timeout=0, **options)
    with pytest.raises(TypeError):
        both[0].send("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        both[0].send(b"x", fds=["3"])
    with pytest.raises(InvalidArgument):
        both[0].shutdown("all")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument):
        both[0].send(np.arange(10)[::2])


def test_what_is_no_record(both: Pair) -> None:
    both[0].send(b"x" * 100)
    with pytest.raises(Corrupt):
        both[1].receive_array()


# -- descriptors that were left open for this process ----------------------------------------------


def test_inherited_descriptors(ns: Namespace, spawn: Callable[..., Child]) -> None:
    code = """
        import os, socket, sys
        listener, connected, file = args
        import ipckit
        from ipckit.testing import step
        with ipckit.listen(listener) as one:
            path = one.address
            first, second = ipckit.pair("seqpacket")
            reader, writer = os.pipe()
            sources = [os.dup(one.fileno()), os.dup(first.fileno()), reader]
            for place, source in enumerate(sources):
                os.dup2(source, 3 + place)
            os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="3", LISTEN_FDNAMES="web::")
            found = ipckit.inherited()
            result = [(each.name, type(each.handle).__name__) for each in found]
            assert not any(os.get_inheritable(n) for n in range(3, 6))
            assert ipckit.inherited() == []
            sys.stdout.flush()
            os._exit(0 if result == [("web", "UnixListener"), ("unknown", "UnixSocket"),
                                     ("unknown", "FileIO")] else 1)
    """
    child = spawn(code, str(ns.path()), "", "")
    child.wait()


@pytest.mark.parametrize("pid", ["1", None])
def test_what_was_left_open_for_another_process(
    monkeypatch: pytest.MonkeyPatch, pid: str | None
) -> None:
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.delenv("LISTEN_PID", raising=False)
    if pid:
        monkeypatch.setenv("LISTEN_PID", pid)
    assert inherited() == []


def test_an_environment_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    for wrong in ("many", "100000"):
        monkeypatch.setenv("LISTEN_FDS", wrong)
        with pytest.raises(InvalidArgument):
            inherited()
