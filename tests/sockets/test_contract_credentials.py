"""The process, user and group of a peer, and users that are not allowed."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import Credentials, WouldBlock, connect, listen

if TYPE_CHECKING:
    from collections.abc import Callable

    from socket_pairs import Pair

    from ipckit.testing import Child, Namespace


def test_each_message_says_who_sent_it(both: Pair) -> None:
    first, second = both
    second.pass_credentials = True
    assert second.pass_credentials
    own = Credentials(os.getpid(), os.getuid(), os.getgid())
    first.send(b"x")
    assert second.receive().credentials == own
    first.send(b"x", credentials=True)
    assert second.receive(timeout=1).credentials == own
    second.pass_credentials = False
    first.send(b"x")
    assert second.receive().credentials is None


def test_the_peer(both: Pair) -> None:
    peer = both[0].peer
    assert peer[:3] == (os.getpid(), os.geteuid(), os.getegid())
    if peer.pidfd is not None:
        signal.pidfd_send_signal(peer.pidfd, 0)
        assert not os.get_inheritable(peer.pidfd)
        assert both[0].peer.pidfd == peer.pidfd


def test_the_peer_is_another_process(ns: Namespace, spawn: Callable[..., Child]) -> None:
    path = ns.path(".sock")
    code = """
        from ipckit import connect
        from ipckit.testing import step
        with connect(args[0]) as sock:
            step.expect("done")
    """
    with listen(path) as listener:
        child = spawn(code, str(path))
        with listener.accept() as sock:
            assert sock.peer.pid == child.pid
        child.tell("done")


def test_users_that_are_not_allowed(ns: Namespace, kind: Any) -> None:
    with listen(ns.path(), kind, allow_uids=[os.getuid() + 1]) as listener:
        with connect(str(listener.address), kind) as sock:
            with pytest.raises(WouldBlock):
                listener.accept(timeout=0)
            assert sock.receive().eof
        listener.allow_uids = [os.getuid()]
        with connect(str(listener.address), kind), listener.accept() as sock:
            assert sock.peer.uid == os.getuid()


def test_datagrams_of_users_that_are_not_allowed(ns: Namespace) -> None:
    path = ns.path()
    with listen(path, "dgram", allow_uids=[os.getuid() + 1]) as server:
        with connect(path, "dgram") as sock:
            sock.send(b"x")
        with pytest.raises(WouldBlock):
            server.receive(timeout=0)
    with listen(path, "dgram", allow_uids=[os.getuid()]) as server:
        with connect(path, "dgram") as sock:
            sock.send(b"x")
        assert server.receive().data == b"x"
