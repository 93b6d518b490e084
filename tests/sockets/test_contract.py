"""What all kinds of UNIX socket promise, and what each does besides."""

from __future__ import annotations

import errno
import fcntl
import os
import pickle
import signal
import socket
import stat
import threading
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ipckit import (
    Abstract,
    AlreadyExists,
    ClosedHandle,
    Corrupt,
    Credentials,
    Handle,
    InvalidArgument,
    LayoutMismatch,
    MemFd,
    MessageTooLong,
    NotFound,
    PeerGone,
    PosixMessageQueue,
    PosixSharedMemory,
    Timeout,
    UnixListener,
    UnixSocket,
    WouldBlock,
    connect,
    inherited,
    listen,
    pair,
)
from ipckit._sockets import listener as listener_module
from ipckit.testing import wait_blocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Child, Namespace

Pair = tuple[UnixSocket, UnixSocket]
KINDS = ("stream", "dgram", "seqpacket")


@pytest.fixture(params=KINDS)
def both(request: pytest.FixtureRequest) -> Iterator[Pair]:
    first, second = pair(request.param)
    with first, second:
        yield first, second


@pytest.fixture(params=["stream", "seqpacket"])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


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


# -- credentials -----------------------------------------------------------------------------------


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


# -- addresses -------------------------------------------------------------------------------------


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


# -- arrays and handles ----------------------------------------------------------------------------

ARRAYS = {
    "plain": np.arange(10),
    "scalar": np.array(3.5),
    "strided": np.arange(24).reshape(4, 6)[::2, ::-3],
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "empty": np.zeros((0, 3), "<f4"),
    "big-endian": np.arange(5, dtype=">i4"),
    "bool": np.array([[True, False]]),
    "text": np.array(["a", "äöü"]),
    "time": np.array(["2026-01-01"], "M8[s]"),
    "complex": np.array([1 + 2j]),
    "structured": np.array(
        [(1, b"x", [[1, 2], [3, 4]], (5.0,))],
        np.dtype(
            [("a", "i1"), ("b", "S3"), ("c", "<u2", (2, 2)), ("d", [("e", "f8")])], align=True
        ),
    ),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=list(ARRAYS))
def test_arrays_cross_as_they_are(both: Pair, array: Any) -> None:
    both[0].send_array(array)
    found = both[1].receive_array(timeout=5)
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert (found == array).all()
    assert not found.flags.writeable
    both[0].close()
    assert (found == array).all()


def test_arrays_without_plain_bytes(both: Pair) -> None:
    with pytest.raises(TypeError, match="no bytes"):
        both[0].send_array(np.array([object()]))


def test_handles_cross(both: Pair, ns: Namespace) -> None:
    first, second = both
    with PosixMessageQueue.create(ns.name()) as queue:
        first.send_handle(queue)
        queue.send(b"through")
        with second.receive_handle(PosixMessageQueue) as other:
            assert other.receive().value == b"through"
            assert not other.owner
    with PosixSharedMemory.create(ns.name(), 10) as memory:
        first.send_handle(memory)
        memory.write(b"shared")
        with second.receive_handle(PosixSharedMemory) as view:
            assert view.read(6) == b"shared"
    with MemFd.create("label", 10) as sealed:
        first.send_handle(sealed)
        with second.receive_handle() as any_one:
            assert isinstance(any_one, MemFd)
        first.send_handle(sealed)
        with pytest.raises(LayoutMismatch, match="expected UnixSocket, but received MemFd"):
            second.receive_handle(UnixSocket)
    third, fourth = pair()
    with third, fourth:
        first.send_handle(third)
        third.send(b"early")
        with second.receive_handle(UnixSocket):
            assert fourth.receive().data == b"early"
    with pytest.raises(TypeError, match="no descriptor"):
        first.send_handle(_NoDescriptor())


class _NoDescriptor(Handle):
    def __init__(self) -> None:
        super().__init__(owner=False)
        self.close()

    def _release(self) -> None: ...
    def _remove(self) -> None: ...
    def _size_text(self) -> str:
        return ""

    def _reopen_args(self) -> tuple[Any, ...]:
        return ()

    @classmethod
    def _reopen(cls, *_: Any) -> Any:
        raise NotImplementedError

    @property
    def _target(self) -> str:
        return "nothing"


def test_a_listener_is_handed_over_with_its_file(ns: Namespace) -> None:
    path = ns.path()
    first, second = pair()
    with first, second, listen(path) as old, connect(path) as early:
        first.send_handle(old.disown())
        old.close()
        with second.receive_handle(UnixListener).adopt() as new:
            assert new.address == str(path)
            with connect(path) as late, new.accept() as one, new.accept() as two:
                early.send(b"early")
                late.send(b"late")
                assert (one.receive().data, two.receive().data) == (b"early", b"late")
        assert not path.exists()


def test_a_handle_goes_to_a_child_of_multiprocessing(both: Pair) -> None:
    context = get_context("spawn")
    child = context.Process(target=_send_from_child, args=(both[0],))
    child.start()
    child.join()
    assert child.exitcode == 0
    child.close()
    assert both[1].receive(timeout=5).data == b"from the child"
    from multiprocessing import resource_tracker  # noqa: PLC0415

    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


def _send_from_child(sock: UnixSocket) -> None:
    with sock:
        sock.send(b"from the child")


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
