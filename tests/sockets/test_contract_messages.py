"""What crosses a pair of UNIX sockets: messages and streams, waits, and the end."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ipckit import MessageTooLong, PeerGone, Timeout, WouldBlock, pair
from ipckit.testing import wait_blocked

if TYPE_CHECKING:
    from collections.abc import Callable

    from socket_pairs import Pair

    from ipckit.testing import Child


def test_bytes_cross(both: Pair) -> None:
    first, second = both
    for data in (b"hello", bytearray(b"abc"), memoryview(b"abcdef")[::1], np.arange(3)):
        first.send(data)
        assert second.receive().data == bytes(data)
        first.send(data, timeout=1)
        packet = second.receive(timeout=1)
        assert packet.data == bytes(data)
        assert (list(packet.fds), packet.credentials) == ([], None)
        assert (packet.truncated, packet.eof) == (False, False)


def test_waiting_has_an_end(both: Pair) -> None:
    first, second = both
    with pytest.raises(WouldBlock):
        second.receive(timeout=0)
    with pytest.raises(Timeout):
        second.receive(timeout=0.01)
    with pytest.raises(WouldBlock):  # noqa: PT012 - as often as it takes
        for _ in range(1000):
            first.send(bytes(4096), timeout=0)
    with pytest.raises(Timeout):
        first.send(bytes(4096), timeout=0.01)


def test_a_wait_ends_with_what_comes(both: Pair) -> None:
    first, second = both

    def send() -> None:
        for call in ("recvfrom", "poll", "poll"):
            wait_blocked(os.getpid(), call)
            first.send(b"x")

    sender = threading.Thread(target=send)
    sender.start()
    assert second.receive().data == b"x"
    assert second.receive(timeout=30).data == b"x"
    assert second.receive(max_fds=1).data == b"x"
    sender.join()


def test_a_handler_that_raises_ends_a_wait(both: Pair) -> None:
    class Enough(Exception):  # noqa: N818 - no error
        pass

    def handler(*_: object) -> None:
        raise Enough

    def tell() -> None:
        wait_blocked(os.getpid(), "recvfrom", "poll")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        for timeout in (None, 30):
            teller = threading.Thread(target=tell)
            teller.start()
            with pytest.raises(Enough):
                both[1].receive(timeout=timeout)
            teller.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_the_end_and_a_peer_that_is_gone(kind: Any) -> None:
    first, second = pair(kind)
    with first, second:
        first.send(b"last")
        first.shutdown("write")
        assert second.receive().data == b"last"
        for options in ({}, {"timeout": 1}, {"max_fds": 1}):
            packet = second.receive(**options)
            assert (packet.data, packet.eof) == (b"", True)
        second.send(b"answer")  # half closed only
        assert first.receive().data == b"answer"
        second.close()
        for options in ({}, {"timeout": 1}):
            with pytest.raises(PeerGone):
                first.send(b"x", **options)


def test_sigpipe_never_kills(spawn: Callable[..., Child], kind: Any) -> None:
    code = """
        import signal
        from ipckit import PeerGone, pair
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        first, second = pair(args[0])
        second.close()
        result = 0
        for options in ({}, {"timeout": 1}, {"fds": [0]}):
            try:
                first.send(b"x", **options)
            except PeerGone:
                result += 1
        first.close()
    """
    assert spawn(code, kind).result == 3


@pytest.mark.parametrize("size", [1, 16_384, 16_385, 65_535, 65_536, 65_537, 100_000])
def test_sizes_at_which_the_way_changes(both: Pair, size: int) -> None:
    first, second = both
    data = os.urandom(size)
    for _ in range(3):  # the size of one is a guess at the next one's
        first.send(data)
        packet = second.receive(size)
        assert (packet.data, packet.truncated) == (data, False)
        first.send(data)
        assert second.receive(size + 1, timeout=0).data == data
        if second.kind == "stream":
            continue  # which gives no more than the kernel's piece with the descriptors
        first.send(data, fds=[0])
        packet = second.receive(size, max_fds=1)
        assert (packet.data, len(packet.fds)) == (data, 1)
        first.send(b"y" + data, fds=[0])
        packet = second.receive(size, max_fds=1)
        assert (packet.data, len(packet.fds)) == (b"y" + data[:-1], 1)
        assert packet.truncated


def test_descriptors_go_once_with_a_stream_that_is_sent_in_parts() -> None:
    first, second = pair("stream")
    with first, second:
        sender = threading.Thread(target=first.send, args=(bytes(2**22),), kwargs={"fds": [0]})
        sender.start()
        got = came = 0
        while got < 2**22:
            with second.receive(max_fds=8) as packet:
                got += len(packet.data)
                came += len(packet.fds)
        sender.join()
        assert (got, came) == (2**22, 1)


def test_messages_keep_their_bounds() -> None:
    for kind in ("dgram", "seqpacket"):
        first, second = pair(kind)  # type: ignore[arg-type]
        with first, second:
            first.send(b"one")
            first.send(b"")
            first.send(b"longer")
            assert second.receive().data == b"one"
            empty = second.receive()
            assert (empty.data, empty.eof) == (b"", False)
            cut = second.receive(3)
            assert (cut.data, cut.truncated) == (b"lon", True)
            first.send(b"longer")
            cut = second.receive(3, timeout=1)
            assert (cut.data, cut.truncated) == (b"lon", True)
            first.send(b"exact")
            assert not second.receive(5).truncated
            with pytest.raises(MessageTooLong, match="SO_SNDBUF"):
                first.send(bytes(2**24))


def test_an_empty_last_message_is_told_from_the_end_by_its_credentials() -> None:
    first, second = pair("seqpacket")
    with first, second:
        second.pass_credentials = True
        first.send(b"")
        first.close()
        assert not second.receive().eof
        assert second.receive().eof


def test_a_stream_gives_what_is_there_and_the_rest_later() -> None:
    first, second = pair()
    with first, second:
        first.send(b"abcdef")
        assert [second.receive(4).data, second.receive(4).data] == [b"abcd", b"ef"]


def test_a_partly_sent_stream_says_how_much() -> None:
    first, second = pair()
    with first, second, pytest.raises(Timeout, match="of 16,777,216 bytes"):
        first.send(bytes(2**24), timeout=0.01)


def test_a_socket_that_somebody_made_non_blocking(both: Pair) -> None:
    first, second = both
    os.set_blocking(second.fileno(), False)
    os.set_blocking(first.fileno(), False)
    reader = threading.Thread(target=lambda: found.append(second.receive().data))
    found: list[bytes] = []
    reader.start()
    wait_blocked(os.getpid(), "poll")
    first.send(b"late")
    reader.join()
    assert found == [b"late"]
