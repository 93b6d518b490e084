"""Options of a socket that bring control messages: none costs another one, or a descriptor."""

from __future__ import annotations

import os
import socket
import threading
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import LimitReached, MessageTooLong, Timeout, UnixSocket, connect, listen, pair
from ipckit._sockets.control import check_fds
from ipckit._sockets.packet import Descriptors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipckit.testing import Namespace

# SO_TIMESTAMP and SO_TIMESTAMPNS with times of 32 and of 64 bits, SO_TIMESTAMPING with a software
# stamp of what is received, SO_PASSSEC, SO_PASSPIDFD, SO_RXQ_OVFL, and SO_INQ of Linux 6.17, which
# stands for a control message that ipckit knows nothing of.
OPTIONS: dict[str, tuple[int, int]] = {
    "timestamp": (29, 1),
    "timestampns": (35, 1),
    "timestamping": (37, 0x18),
    "timestamp_new": (63, 1),
    "timestampns_new": (64, 1),
    "timestamping_new": (65, 0x18),
    "passsec": (34, 1),
    "passpidfd": (76, 1),
    "rxq_ovfl": (40, 1),
    "inq": (84, 1),
}
SETS = [(), *((name,) for name in OPTIONS), *combinations(("timestamping", "passpidfd", "inq"), 2)]
SETS.append(tuple(OPTIONS))


@pytest.fixture(params=["stream", "dgram", "seqpacket"])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def null() -> Iterator[int]:
    fd = os.open(os.devnull, os.O_RDWR)
    yield fd
    os.close(fd)


def switch_on(sock: socket.socket, names: tuple[str, ...]) -> None:
    for name in names:
        option, value = OPTIONS[name]
        try:
            sock.setsockopt(socket.SOL_SOCKET, option, value)
        except OSError:
            continue  # an older kernel, or one without a security module


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


@pytest.mark.parametrize("names", SETS, ids="+".join)
def test_credentials_and_descriptors_come_with_all_of_them(
    kind: Any, names: tuple[str, ...], null: int
) -> None:
    first, second = pair(kind)
    with first, second:
        before = descriptors()
        switch_on(second.socket, names)
        second.pass_credentials = True
        for timeout in (None, 5):
            for count in (0, 1, 253):
                first.send(b"x", fds=[null] * count)
                with second.receive(max_fds=count, timeout=timeout) as packet:
                    assert packet.data == b"x"
                    assert packet.credentials == (os.getpid(), os.getuid(), os.getgid())
                    assert len(packet.fds) == count
            first.send(b"x", fds=[null] * 253)
            with second.receive(timeout=timeout) as packet:
                assert (packet.credentials is not None, len(packet.fds)) == (True, 0)
        assert descriptors() == before


@pytest.mark.parametrize("names", SETS, ids="+".join)
def test_descriptors_come_without_credentials_too(
    kind: Any, names: tuple[str, ...], null: int
) -> None:
    first, second = pair(kind)
    with first, second:
        switch_on(second.socket, names)
        for count in (1, 2, 253):
            first.send(b"x", fds=[null] * count)
            with second.receive(max_fds=count, timeout=5) as packet:
                assert len(packet.fds) == count
            first.send(b"x", fds=[null] * count)
            if count > 1:
                with pytest.raises(MessageTooLong):
                    second.receive(max_fds=count - 1, timeout=5)
            else:
                second.receive(timeout=5)


def test_options_that_are_set_by_hand_after_the_first_message(kind: Any, null: int) -> None:
    first, second = pair(kind)
    with first, second:
        first.send(b"x")
        assert second.receive().credentials is None
        second.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        for names in ((), ("timestamp",), tuple(OPTIONS)):
            switch_on(second.socket, names)
            first.send(b"x")
            assert second.receive().credentials is not None
            first.send(b"x", fds=[null])
            with second.receive(max_fds=1, timeout=5) as packet:
                assert packet.credentials is not None
                assert len(packet.fds) == 1
        second.pass_credentials = False
        first.send(b"x")
        assert second.receive().credentials is None


def test_a_socket_as_systemd_hands_it_over(kind: Any) -> None:
    first, second = socket.socketpair(socket.AF_UNIX, getattr(socket, f"SOCK_{kind.upper()}"))
    second.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    switch_on(second, ("timestamp",))
    with first, UnixSocket.from_fd(second.detach()) as receiver:
        assert receiver.pass_credentials
        first.send(b"x")
        assert receiver.receive(timeout=5).credentials is not None


def test_allowed_users_get_through_whatever_the_options(ns: Namespace) -> None:
    path = ns.path()
    with (
        listen(path, "dgram", allow_uids=[os.getuid()]) as receiver,
        connect(path, "dgram") as sender,
    ):
        sender.send(b"one")
        assert receiver.receive(timeout=5).data == b"one"
        for names in SETS:
            switch_on(receiver.socket, names)
            sender.send(b"two")
            assert receiver.receive(timeout=5).data == b"two"


def test_an_end_and_an_empty_message_are_told_apart() -> None:
    for names in SETS:
        first, second = pair("seqpacket")
        with first, second:
            switch_on(second.socket, names)
            first.send(b"")
            assert not second.receive(timeout=5).eof
            first.close()
            assert second.receive(timeout=5).eof


def test_the_cause_of_what_was_cut_off_is_named(null: int) -> None:
    def check(count: int, *, crowded: bool) -> None:
        fds = Descriptors([os.dup(null) for _ in range(count)])
        check_fds(fds, max_fds=4, cut=True, crowded=crowded, target="x")

    before = descriptors()
    with pytest.raises(LimitReached, match="options of the socket request") as caught:
        check(1, crowded=True)
    assert "RLIMIT_NOFILE" not in str(caught.value)
    for count in (0, 4):
        with pytest.raises(LimitReached, match="security module") as caught:
            check(count, crowded=False)
        assert "RLIMIT_NOFILE" not in str(caught.value)
    with pytest.raises(MessageTooLong):
        check(5, crowded=False)
    assert descriptors() == before


def test_a_wait_that_an_option_does_not_disturb(kind: Any) -> None:
    first, second = pair(kind)
    with first, second:
        switch_on(second.socket, tuple(OPTIONS))
        with pytest.raises(Timeout):
            second.receive(max_fds=1, timeout=0.001)
        sender = threading.Timer(0.01, first.send, [b"late"])
        sender.start()
        assert second.receive(max_fds=1).data == b"late"
        sender.join()
