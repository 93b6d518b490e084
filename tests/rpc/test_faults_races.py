"""Threads, signal handlers and servers that meet at the worst moment, which each test forces."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import threading
import time
from queue import Empty
from typing import TYPE_CHECKING, Any

import pytest

from ipckit._rpc import methods
from ipckit._rpc.link import Link
from ipckit._rpc.remote_method import RemoteMethod
from ipckit._rpc.server import Server
from ipckit._rpc.wire import SLOTS
from ipckit.errors import ClosedHandle, IpcError, NotFound, Timeout
from ipckit.rpc import Client, Service

if TYPE_CHECKING:
    from collections.abc import Callable

    Serve = Callable[..., Client]


def _one() -> int:
    return 1


def _in_thread(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function)
    thread.start()
    return thread


# -- threads that wait for replies -----------------------------------------------------------------


def test_a_call_that_timed_out_is_not_woken_in_the_place_of_another(serve: Serve) -> None:
    """Such a call had followed the leader twice, so its second place stayed in the queue."""
    released = threading.Event()

    def wait() -> int:
        released.wait(30)
        return 1

    client = serve(wait, _one, workers=2)
    client.call("_one", timeout=30)
    link = client._link
    assert link is not None
    assert link.leading.acquire()  # this thread leads
    try:
        late: list[type[Exception]] = []

        def too_late() -> None:
            try:
                client.call("wait", timeout=0.05)
            except Timeout as exc:
                late.append(type(exc))

        _in_thread(too_late).join()
        assert late == [Timeout]
        assert not link._followers
    finally:
        released.set()
        link.stop_leading()


def test_long_timeouts_while_another_thread_leads(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OverflowError came only if another thread received the replies, or all slots were taken."""
    client = serve(_one)
    client.call("_one", timeout=30)
    link = client._link
    assert link is not None
    slots = link._slots

    class Slots:
        """The slots, of which none is free at first."""

        get, put = slots.get, slots.put

        @staticmethod
        def get_nowait() -> int:
            raise Empty

    monkeypatch.setattr(link, "_slots", Slots)
    results: list[object] = []

    def call() -> None:
        try:
            results.append(client.call("_one", timeout=1e10))
        except OverflowError as exc:
            results.append(exc)

    assert link.leading.acquire()  # this thread leads
    try:
        thread = _in_thread(call)
        while not link._followers and thread.is_alive():
            time.sleep(0.001)
        while thread.is_alive():
            link.receive(0.01)
    finally:
        link.stop_leading()
    thread.join()
    assert results == [1]


# -- the methods of the service change -------------------------------------------------------------


def test_methods_change_while_a_call_is_encoded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of the method was of one revision, and the revision in the call of another."""

    def first(x: list[int]) -> str:
        return f"first {x}"

    def second(x: list[int]) -> str:
        return f"second {x}"

    with Service.create(name).disown() as old, Client.open(name) as client:
        old.method(first)
        old.method(second)
        old_thread = _in_thread(old.serve)
        assert client.first([1], timeout=30) == "first [1]"
        with Service.open(name) as new:
            new.method(second)
            new.method(first)
            old.close()
            old_thread.join()
            new_thread = _in_thread(new.serve)
            encode = RemoteMethod.encode

            def encode_and_learn(*args: Any) -> Any:
                """Encode a call, while another thread learns the methods of the new server."""
                monkeypatch.setattr(RemoteMethod, "encode", encode)
                client.methods(timeout=30)
                return encode(*args)

            monkeypatch.setattr(RemoteMethod, "encode", encode_and_learn)
            try:
                assert client.first([2], timeout=30) == "first [2]"
            finally:
                new.close()
                new_thread.join()
                old.unlink(missing_ok=True)


def test_methods_are_forgotten_while_a_method_is_found(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(_one)
    learn = Client.learn

    def learn_and_forget(self: Client, reply: Any) -> Any:
        """Learn the methods; then another thread sees that those that it knew are stale."""
        found = learn(self, reply)
        self.forget_methods()
        return found

    monkeypatch.setattr(Client, "learn", learn_and_forget)
    assert client.call("_one", timeout=30) == 1
    assert client.methods(timeout=30) == {"_one": "_one() -> int"}
    with pytest.raises(NotFound, match=r"no method 'two'.*it has: _one"):
        client.call("two", timeout=30)


def test_stale_calls_with_all_slots_taken(
    serve: Serve, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that completes Futures must not wait for a slot: it frees the slots."""
    released, begun = threading.Event(), threading.Event()

    def wait() -> int:
        begun.set()
        released.wait(30)
        return 1

    client = serve(wait, _one)
    client.call("_one", timeout=30)
    futures = [client.submit("wait")]
    assert begun.wait(30)
    futures += [client.submit("_one") for _ in range(SLOTS - 2)]

    def two() -> int:
        return 2

    service.method(two)  # so all but the first are stale
    link = client._link
    assert link is not None
    put = link._slots.put
    taken: list[int] = []

    class Slots:
        """The slots, of which another thread takes the first two that become free."""

        get, get_nowait = link._slots.get, link._slots.get_nowait

        @staticmethod
        def put(slot: int) -> None:
            if len(taken) == 2:
                put(slot)
            else:
                taken.append(slot)

    monkeypatch.setattr(link, "_slots", Slots)
    released.set()
    done = concurrent.futures.wait(futures, timeout=30).done
    assert len(done) == len(futures)
    assert {future.result() for future in futures} == {1}


def test_two_threads_add_methods(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them lost its method."""

    def two() -> int:
        return 2

    met = threading.Event()
    lock = service._changing

    class Changing:
        """The lock of the service; tells that the other thread waits for it."""

        def __enter__(self) -> None:
            if threading.current_thread() is adding:
                met.set()
            lock.__enter__()

        def __exit__(self, *_: object) -> None:
            lock.__exit__(None, None, None)

    def add() -> None:
        service.method(two)
        met.set()

    adding = threading.Thread(target=add)
    service._changing = Changing()  # type: ignore[assignment]
    encode = methods.encode

    def encode_interrupted(value: Any) -> bytes:
        """Encode the methods, while another thread adds one."""
        monkeypatch.setattr(methods, "encode", encode)
        adding.start()
        assert met.wait(30)
        return encode(value)

    monkeypatch.setattr(methods, "encode", encode_interrupted)
    service.method(_one)
    adding.join()
    service._changing = lock
    assert [each.name for each in service._methods.by_number] == ["_one", "two"]


# -- threads that can't be started -----------------------------------------------------------------


def _refuse_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        message = "can't start new thread"
        raise RuntimeError(message)

    monkeypatch.setattr(threading.Thread, "start", start)


def test_futures_after_a_thread_could_not_be_started(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(_one)
    client.call("_one", timeout=30)
    with monkeypatch.context() as patch:
        _refuse_threads(patch)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            client.submit("_one")
    link = client._link
    assert link is not None
    assert not link._used  # the call was ended
    assert client.submit("_one").result(30) == 1


def test_a_stale_call_whose_thread_could_not_be_started(
    serve: Serve, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(_one)
    assert client.submit("_one").result(30) == 1  # its thread runs

    def two() -> int:
        return 2

    service.method(two)
    with monkeypatch.context() as patch:
        _refuse_threads(patch)
        error = client.submit("_one").exception(30)
    assert isinstance(error, RuntimeError)
    assert client.submit("_one").result(30) == 1


# -- callbacks of Futures --------------------------------------------------------------------------


def test_a_callback_that_submits_while_all_slots_are_taken(serve: Serve) -> None:
    released = threading.Event()

    def wait() -> int:
        released.wait(30)
        return 1

    client = serve(wait, _one)
    client.call("_one", timeout=30)
    first = client.submit("wait")
    more: list[concurrent.futures.Future[int]] = []
    link = client._link
    assert link is not None

    def submit(_: object) -> None:
        # As if other threads had taken the slot that has just become free.
        while not link._slots.empty():
            more.append(client.submit("_one"))
        more.append(client.submit("_one"))

    first.add_done_callback(submit)
    released.set()
    assert first.result(30) == 1
    deadline = time.monotonic() + 30
    while len(more) < SLOTS and time.monotonic() < deadline:
        time.sleep(0.001)
    assert [future.result(30) for future in more] == [1] * SLOTS


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_callback_that_raises_system_exit(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    released = threading.Event()

    def wait() -> int:
        released.wait(30)
        return 1

    client = serve(wait, workers=2)

    def leave(_: object) -> None:
        raise SystemExit

    futures = [client.submit("wait") for _ in range(2)]
    for future in futures:
        future.add_done_callback(leave)
    released.set()
    assert [future.result(30) for future in futures] == [1, 1]
    assert client.submit("wait").result(30) == 1
    assert "exception calling callback" in caplog.text


# -- signal handlers -------------------------------------------------------------------------------


def test_a_signal_handler_calls_while_the_client_connects(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(_one)
    results: list[int] = []
    make = Link.__init__

    def make_interrupted(self: Link, *args: Any) -> None:
        monkeypatch.setattr(Link, "__init__", make)
        signal.raise_signal(signal.SIGUSR1)
        make(self, *args)

    before = signal.signal(
        signal.SIGUSR1, lambda *_: results.append(client.call("_one", timeout=5))
    )
    monkeypatch.setattr(Link, "__init__", make_interrupted)
    try:
        assert client.call("_one", timeout=30) == 1
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert results == [1]


def test_a_signal_handler_closes_the_client_while_it_connects(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(_one)
    make = Link.__init__

    def make_interrupted(self: Link, *args: Any) -> None:
        make(self, *args)
        signal.raise_signal(signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, lambda *_: client.close())
    monkeypatch.setattr(Link, "__init__", make_interrupted)
    try:
        with pytest.raises(ClosedHandle):
            client.call("_one", timeout=30)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert client._link is None


def test_a_signal_handler_submits_while_a_call_is_submitted(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(_one)
    futures: list[concurrent.futures.Future[int]] = []
    start = threading.Thread.start

    def start_interrupted(self: threading.Thread) -> None:
        monkeypatch.setattr(threading.Thread, "start", start)
        signal.raise_signal(signal.SIGUSR1)
        start(self)

    before = signal.signal(signal.SIGUSR1, lambda *_: futures.append(client.submit("_one")))
    client.call("_one", timeout=30)
    monkeypatch.setattr(threading.Thread, "start", start_interrupted)
    try:
        futures.append(client.submit("_one"))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert [future.result(30) for future in futures] == [1, 1]


# -- forks -----------------------------------------------------------------------------------------


def test_a_fork_while_a_server_opens_a_client(service: Service) -> None:
    """The child could not serve: another thread of its parent had held the locks."""
    held, forked = threading.Event(), threading.Event()

    def hold() -> None:
        with service._changing, service._callers._opening:
            held.set()
            forked.wait(30)

    def pid() -> int:
        return os.getpid()

    service.method(pid)
    thread = _in_thread(hold)
    assert held.wait(30)
    child = os.fork()
    if child == 0:
        try:
            service.serve()
        finally:
            os._exit(0)
    try:
        forked.set()
        thread.join()
        with Client.open_or_wait(service.name, timeout=30) as client:
            assert client.call("pid", timeout=30) == child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


class _InterruptedError(Exception):
    """What a signal handler raises."""


class _Lock:
    """A lock; a signal handler raises an exception just after it is acquired, or before its end."""

    def __init__(self, link: Link, at: str) -> None:
        self._lock, self._at = link.leading, at
        self._is_owned = link.leads

    def acquire(self, *args: Any, **named: Any) -> bool:
        found = self._lock.acquire(*args, **named)
        if found and self._at == "acquire":
            self._at = ""
            raise _InterruptedError
        return found

    def release(self) -> None:
        if self._at == "release":
            self._at = ""
            raise _InterruptedError
        self._lock.release()


@pytest.mark.parametrize("at", ["acquire", "release"])
@pytest.mark.parametrize("method", ["_one", "first"])
def test_a_signal_handler_raises_while_a_thread_takes_its_turn(
    serve: Serve, at: str, method: str
) -> None:
    """The other threads of the client could never receive a reply again."""

    def first(x: list[int]) -> int:
        return x[0]

    client = serve(_one, first)
    args = () if method == "_one" else ([1],)
    assert client.call(method, *args, timeout=30) == 1
    link = client._link
    assert link is not None
    link.leading = _Lock(link, at)  # type: ignore[assignment]
    with pytest.raises(_InterruptedError):
        client.call(method, *args, timeout=30)
    results: list[object] = []

    def call() -> None:
        try:
            results.append(client.call(method, *args, timeout=5))
        except Timeout as exc:
            results.append(exc)

    _in_thread(call).join()
    assert results == [1]


def test_a_signal_handler_raises_before_the_next_thread_is_woken(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(_one)
    assert client.call("_one", timeout=30) == 1
    link = client._link
    assert link is not None
    results: list[object] = []

    def call() -> None:
        try:
            results.append(client.call("_one", timeout=10))
        except Timeout as exc:
            results.append(exc)

    assert link.leading.acquire()  # this thread leads
    thread = _in_thread(call)
    while not link._followers:
        time.sleep(0.001)
    monkeypatch.setattr(link, "_wake_follower", lambda: None)
    link.stop_leading()
    thread.join()
    assert results == [1]


# -- the end of a server ---------------------------------------------------------------------------


def test_a_call_that_begins_while_the_service_is_closed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`close` had found the server idle, and closed its handle when the method ran already."""
    begun, ended = threading.Event(), threading.Event()
    ran: list[bool] = []

    def method() -> int:
        ran.append(True)
        begun.set()
        ended.wait(30)
        return 1

    class Ending:
        """The lock of the end of a server; tells that the server waits for it."""

        def __init__(self) -> None:
            self._lock = threading.RLock()

        def __enter__(self) -> None:
            if threading.current_thread() is serving:
                begun.set()
            self._lock.acquire()

        def __exit__(self, *_: object) -> None:
            self._lock.release()

    def busy(self: Server) -> int:
        """Return whether the server runs a call. In between, it takes one."""
        found: int = self.__dict__["busy"]
        if threading.current_thread() is closing:
            calling.start()
            assert begun.wait(30)
        return found

    monkeypatch.setattr(
        Server,
        "busy",
        property(busy, lambda self, value: self.__dict__.update(busy=value)),
        raising=False,
    )
    result: list[object] = []

    def call() -> None:
        try:
            result.append(client.call("method", timeout=30))
        except IpcError as exc:
            result.append(exc)
        finally:
            ended.set()

    with Service.create(name) as service, Client.open(name) as client:
        service.method(method)
        serving = _in_thread(service.serve)
        client.methods(timeout=30)
        (server,) = service._servers
        server._ending = Ending()  # type: ignore[assignment]
        calling = threading.Thread(target=call)
        closing = threading.Thread(target=service.close)
        closing.start()
        for thread in (closing, serving, calling):
            thread.join()
    # Either it ran to its end, or not at all.
    assert (result == [1]) is bool(ran)
