"""Calls in one process: arguments, errors, timeouts, cancellation, Futures, threads, closing."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import threading
import time
import warnings
from concurrent.futures import CancelledError, Future, wait
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

from ipckit import (
    AlreadyExists,
    ClosedHandle,
    InvalidArgument,
    NotFound,
    PeerGone,
    RemoteError,
    Timeout,
    WouldBlock,
)
from ipckit.rpc import Client, CurrentCall, Service, current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Serve = Callable[..., Client]
    Begin = Callable[..., Any]


def add(a: int, b: int) -> int:
    return a + b


def greet(name: str, greeting: str = "hello", *, times: int = 1, end: str = ".") -> str:
    return f"{greeting} {name}" * times + end


def only_named(*, x: int) -> int:
    return x


def only_placed(x: int, /, y: int = 2) -> list[int]:
    return [x, y]


def nothing() -> None:
    pass


class FailedError(Exception):
    """An exception of this module."""


def fork() -> int:
    """Fork beside the threads of the service, on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


class Gate:
    """Methods that wait until the test lets them go on."""

    def __init__(self) -> None:
        self.begun: SimpleQueue[CurrentCall] = SimpleQueue()
        self.go = threading.Event()
        self.ended: SimpleQueue[bool] = SimpleQueue()

    def hold(self, x: int) -> int:
        """Wait for the test, and then tell whether the call was cancelled."""
        call = current()
        self.begun.put(call)
        assert self.go.wait(60)
        self.ended.put(call.cancelled)
        return x

    def until_cancelled(self) -> None:
        """Wait until the call is cancelled."""
        call = current()
        self.begun.put(call)
        while not call.cancelled:
            time.sleep(0.001)
        self.ended.put(call.cancelled)


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.go.set()


# -- arguments -------------------------------------------------------------------------------------


def test_arguments_by_position_and_by_name(serve: Serve) -> None:
    client = serve(add, greet, only_named, only_placed, nothing)
    assert client.call("add", 1, 2, timeout=60) == 3
    assert client.call("add", 1, b=2) == client.call("add", b=2, a=1) == client.add(1, 2) == 3
    assert client.call("greet", "amy") == "hello amy."
    assert client.call("greet", "amy", "bye") == "bye amy."
    assert client.call("greet", "amy", times=2) == "hello amyhello amy."
    assert client.call("greet", name="amy", end="!") == "hello amy!"
    assert client.call("greet", "amy", end="!", greeting="bye", times=1) == "bye amy!"
    assert client.call("only_named", x=3) == client.only_named(x=3) == 3
    assert client.call("only_placed", 1) == [1, 2]
    assert client.call("only_placed", 1, 3) == client.call("only_placed", 1, y=3) == [1, 3]
    assert client.call("nothing") is None


@pytest.mark.parametrize(
    ("method", "args", "named", "text"),
    [
        ("add", (1,), {}, "needs b"),
        ("add", (), {}, "needs a, b"),
        ("add", (1, 2, 3), {}, "takes 2 arguments, not 3"),
        ("add", (1, 2), {"b": 2}, "got two values for b"),
        ("add", (1,), {"c": 2}, "has no parameter c"),
        ("add", ("x", 2), {}, "a: Expected `int`, got `str`"),
        ("add", (1,), {"b": "x"}, "b: Expected `int`, got `str`"),
        ("greet", ("amy",), {"end": 5}, "end: Expected `str`, got `int`"),
        ("only_named", (5,), {}, "takes 0 arguments by position, not 1"),
        ("greet", ("amy", "bye", 2), {}, "takes 2 arguments by position, not 3"),
    ],
)
def test_arguments_that_do_not_fit(
    serve: Serve, method: str, args: tuple[Any, ...], named: dict[str, Any], text: str
) -> None:
    """The call is not sent: no method runs."""
    client = serve(add, greet, only_named)
    with pytest.raises(TypeError, match=text) as caught:
        client.call(method, *args, timeout=60, **named)
    assert f"{client.name}.{method}" in str(caught.value)
    with pytest.raises(TypeError, match=text):
        client.submit(method, *args, timeout=60, **named)
    assert client.call("add", 1, 2, timeout=60) == 3


def test_a_parameter_of_the_name_of_an_option(serve: Serve) -> None:
    def slow(timeout: float, method: str = "m") -> list[Any]:
        return [timeout, method]

    slow.__annotations__["return"] = list
    client = serve(slow)
    assert client.call("slow", 5.0, timeout=60) == [5.0, "m"]
    assert client.call("slow", 5.0, method="x", timeout=60) == [5.0, "x"]


# -- methods ---------------------------------------------------------------------------------------


def test_an_unknown_method(serve: Serve) -> None:
    client = serve(add, nothing)
    with pytest.raises(NotFound, match=r"no method 'sub'.*it has: add, nothing") as caught:
        client.call("sub", 1, 2, timeout=60)
    assert client.name in str(caught.value)
    with pytest.raises(NotFound):
        client.sub(1, 2, timeout=60)
    with pytest.raises(NotFound):
        client.submit("sub")
    with pytest.raises(AttributeError):
        client._sub  # noqa: B018


def test_ways_to_register(service: Service, serve: Serve) -> None:
    class Counter:
        count = 0

        def step(self, by: int = 1) -> int:
            self.count += by
            return self.count

        @staticmethod
        def fixed() -> int:
            return 7

        @classmethod
        def label(cls) -> str:
            return cls.__name__

    class Adder:
        def __call__(self, a: int, b: int) -> int:
            return a + b

    @service.method
    def plain() -> int:
        return 1

    @service.method(name="renamed")
    def other() -> int:
        return 2

    counter = Counter()
    service.method(counter.step)
    service.method(Counter.fixed)
    service.method(Counter.label)
    service.method(Adder(), name="adder")
    assert plain() == 1
    assert other() == 2
    client = serve()
    assert client.plain(timeout=60) == 1
    assert client.renamed() == 2
    assert [client.step(), client.step(by=5)] == [1, 6]
    assert (client.fixed(), client.label(), client.adder(1, 2)) == (7, "Counter", 3)
    assert counter.count == 6


def test_methods_that_can_not_be_registered(service: Service) -> None:
    service.method(add)
    with pytest.raises(AlreadyExists, match="a method 'add' already"):
        service.method(add)
    with pytest.raises(TypeError, match="a method must be a function, not int"):
        service.method(5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="name must be a str, not int"):
        service.method(nothing, name=5)  # type: ignore[call-overload]
    with pytest.raises(InvalidArgument, match="needs a name"):
        service.method(nothing, name="")
    service.close()
    with pytest.raises(ClosedHandle):
        service.method(nothing)


@pytest.mark.parametrize("known", [True, False])
def test_a_method_that_is_added_while_clients_are_connected(
    service: Service, serve: Serve, *, known: bool
) -> None:
    client = serve(add, nothing)
    if known:
        assert client.call("add", 1, 2, timeout=60) == 3
    service.method(greet)
    assert client.call("add", 1, 2, timeout=60) == 3  # the client's knowledge was stale
    assert client.call("greet", "amy", timeout=60) == "hello amy."
    service.method(only_named)
    assert client.submit("nothing").result(60) is None
    assert client.submit("only_named", x=4).result(60) == 4
    service.method(only_placed)
    assert client.call("greet", "amy", end="!", timeout=60) == "hello amy!"


def test_a_service_that_was_made_again(name: str) -> None:
    """The channel is another one, so a client of the first does not reach it."""
    with Service.create(name) as first:
        first.method(add)
        thread = threading.Thread(target=first.serve)
        thread.start()
        client = Client.open(name)
        assert client.add(1, 2, timeout=60) == 3
        first.close()
        thread.join()
        first.unlink()
    with client, Service.create(name), pytest.raises(PeerGone):
        client.add(1, 2, timeout=60)


# -- errors ----------------------------------------------------------------------------------------


def test_an_exception_of_a_method(serve: Serve) -> None:
    def fail(text: str) -> None:
        raise FailedError(text)

    def cause() -> None:
        try:
            fail("inner")
        except FailedError as exc:
            message = "outer"
            raise ValueError(message) from exc

    client = serve(fail, cause, add)
    with pytest.raises(RemoteError, match="FailedError: too bad") as caught:
        client.call("fail", "too bad", timeout=60)
    error = caught.value
    assert error.type_name == f"{__name__}.FailedError"
    assert error.message == "too bad"
    assert error.traceback.startswith("Traceback (most recent call last):")
    assert "raise FailedError(text)" in error.traceback
    assert "_rpc" not in error.traceback
    assert error.traceback.rstrip() in "".join(error.__notes__)
    assert client.name in str(error)
    assert "call fail" in str(error)
    with pytest.raises(RemoteError) as caught:
        client.call("cause", timeout=60)
    assert caught.value.type_name == "ValueError"
    assert "FailedError: inner" in caught.value.traceback
    with pytest.raises(RemoteError, match="FailedError: later"):
        client.submit("fail", "later").result(60)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (copy.type_name, copy.message, copy.traceback) == (
        error.type_name,
        error.message,
        error.traceback,
    )
    assert client.call("add", 1, 2, timeout=60) == 3


def test_exceptions_whose_text_fails(serve: Serve) -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise OSError

    def mute() -> None:
        raise MuteError

    def surrogate() -> None:
        message = "\ud800"
        raise ValueError(message)

    client = serve(mute, surrogate)
    with pytest.raises(RemoteError, match="its text raised OSError"):
        client.call("mute", timeout=60)
    with pytest.raises(RemoteError, match=r"\\ud800"):
        client.call("surrogate", timeout=60)


def test_an_exception_that_ends_serve_too(service: Service) -> None:
    def leave() -> None:
        raise SystemExit(3)

    service.method(leave)
    codes: list[Any] = []

    def run() -> None:
        try:
            service.serve()
        except SystemExit as exc:
            codes.append(exc.code)

    thread = threading.Thread(target=run)
    thread.start()
    with Client.open(service.name) as client:
        with pytest.raises(RemoteError, match="SystemExit: 3"):
            client.call("leave", timeout=60)
        thread.join()
        with pytest.raises(PeerGone):
            client.call("leave", timeout=60)
    assert codes == [3]


# -- timeouts and cancellation ---------------------------------------------------------------------


def test_a_timeout_names_the_method_and_the_service(serve: Serve, gate: Gate) -> None:
    client = serve(gate.hold, nothing)
    client.call("nothing", timeout=60)
    while gate.begun.empty():  # a call that has not begun is not run at all
        with pytest.raises(Timeout, match=r"no result within 0\.05 s") as caught:
            client.call("hold", 1, timeout=0.05)
        assert "hold" in str(caught.value)
        assert client.name in str(caught.value)
    call = gate.begun.get(timeout=60)
    assert call.cancelled
    assert call.method == "hold"
    gate.go.set()
    assert gate.ended.get(timeout=60)
    assert client.call("hold", 2, timeout=60) == 2


@pytest.mark.parametrize(("timeout", "error"), [(0, WouldBlock), (0.01, Timeout)])
def test_a_timeout_while_nothing_serves(
    service: Service, timeout: float, error: type[Exception]
) -> None:
    service.method(add)
    with Client.open(service.name) as client:
        with pytest.raises(error):
            client.call("add", 1, 2, timeout=timeout)
        with pytest.raises(error):
            client.submit("add", 1, 2, timeout=timeout).result(60)


@pytest.mark.parametrize("timeout", ["1", -1, float("nan")])
def test_timeouts_that_are_invalid(serve: Serve, timeout: Any) -> None:
    client = serve(add)
    client.call("add", 1, 2, timeout=60)
    for call in (client.call, client.submit):
        with pytest.raises((TypeError, ValueError)):
            call("add", 1, 2, timeout=timeout)


def test_a_call_that_nobody_waits_for_is_not_run(service: Service, gate: Gate) -> None:
    service.method(gate.hold)
    thread = threading.Thread(target=service.serve)
    with Client.open(service.name) as client:
        thread.start()
        first = client.submit("hold", 1)
        gate.begun.get(timeout=60)
        with pytest.raises(Timeout):
            client.call("hold", 2, timeout=0.01)
        gate.go.set()
        assert first.result(60) == 1
        assert client.call("hold", 3, timeout=60) == 3
        service.close()
        thread.join()
    assert gate.begun.qsize() == 1  # of the third call


def test_current(serve: Serve) -> None:
    def who() -> str:
        call = current()
        assert not call.cancelled
        return f"{call.method} {call!r}"

    client = serve(who)
    assert client.call("who", timeout=60) == "who <CurrentCall of who>"
    with pytest.raises(RuntimeError, match="no method of a service is running here"):
        current()


def test_a_signal_handler_that_raises_ends_the_call(serve: Serve, gate: Gate) -> None:
    client = serve(gate.until_cancelled)

    def interrupt(*_: object) -> None:
        raise FailedError

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        main = threading.main_thread().ident
        assert main is not None

        def send() -> None:
            gate.begun.get(timeout=60)
            signal.pthread_kill(main, signal.SIGUSR1)

        sender = threading.Thread(target=send)
        sender.start()
        with pytest.raises(FailedError):
            client.call("until_cancelled", timeout=60)
        sender.join()
        assert gate.ended.get(timeout=60)
    finally:
        signal.signal(signal.SIGUSR1, before)


# -- Futures ---------------------------------------------------------------------------------------


def test_futures(serve: Serve) -> None:
    client = serve(add, workers=2)
    futures = [client.submit("add", each, 1) for each in range(1000)]
    assert [each.result(60) for each in futures] == list(range(1, 1001))
    assert not wait(futures, timeout=60).not_done


def test_more_futures_than_the_table_has_places(serve: Serve, gate: Gate) -> None:
    client = serve(gate.hold)
    futures = [client.submit("hold", each) for each in range(255)]
    more: list[Future[Any]] = []
    thread = threading.Thread(
        target=lambda: more.extend(client.submit("hold", each) for each in range(255, 300))
    )
    thread.start()
    gate.go.set()
    thread.join()
    assert [each.result(60) for each in [*futures, *more]] == list(range(300))


def test_a_future_that_is_cancelled(serve: Serve, gate: Gate) -> None:
    client = serve(gate.until_cancelled, add)
    future = client.submit("until_cancelled")
    gate.begun.get(timeout=60)
    assert future.cancel()
    assert gate.ended.get(timeout=60)
    with pytest.raises(CancelledError):
        future.result(60)
    assert client.submit("add", 1, 2).result(60) == 3


def test_a_future_whose_deadline_passes(serve: Serve, gate: Gate) -> None:
    client = serve(gate.until_cancelled, nothing)
    client.call("nothing", timeout=60)
    while gate.begun.empty():  # a call that has not begun is not run at all
        future = client.submit("until_cancelled", timeout=0.05)
        with pytest.raises(Timeout, match=r"no result within 0\.05 s"):
            future.result(60)
    assert gate.ended.get(timeout=60)


def test_a_callback_that_calls(serve: Serve) -> None:
    client = serve(add)
    found: SimpleQueue[int] = SimpleQueue()
    client.submit("add", 1, 2).add_done_callback(
        lambda future: found.put(client.call("add", future.result(), 10, timeout=60))
    )
    assert found.get(timeout=60) == 13


def test_calls_beside_futures(serve: Serve, gate: Gate) -> None:
    """The thread of the Futures and the calls of this thread take turns to receive."""
    client = serve(gate.hold, add, workers=2)
    held = client.submit("hold", 1)
    gate.begun.get(timeout=60)
    for each in range(500):
        assert client.call("add", each, 1, timeout=60) == each + 1
    gate.go.set()
    assert held.result(60) == 1


# -- threads and servers ---------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_that_share_a_client(serve: Serve, workers: int) -> None:
    def echo(x: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return x

    client = serve(add, echo, workers=workers)
    wrong: list[Any] = []

    def call_on(seed: int) -> None:
        for each in range(100):
            if client.call("add", seed, each, timeout=60) != seed + each:
                wrong.append((seed, each))
            got = client.call("echo", np.full(each * 10, seed), timeout=60)
            if not np.array_equal(got, np.full(each * 10, seed)):
                wrong.append((seed, each, "array"))

    threads = [threading.Thread(target=call_on, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_workers_run_at_the_same_time(serve: Serve) -> None:
    barrier = threading.Barrier(3)

    def meet() -> int:
        return barrier.wait(60) * 0

    client = serve(meet, workers=3)
    futures = [client.submit("meet") for _ in range(3)]
    assert [each.result(60) for each in futures] == [0, 0, 0]


def test_one_worker_runs_one_call_at_a_time(serve: Serve) -> None:
    inside: list[int] = []

    def alone(x: int) -> int:
        inside.append(x)
        time.sleep(0)
        assert inside == [x]
        inside.clear()
        return x

    client = serve(alone)
    futures = [client.submit("alone", each) for each in range(200)]
    assert [each.result(60) for each in futures] == list(range(200))


def test_two_clients_and_two_services_of_one_name(service: Service, serve: Serve) -> None:
    ran: list[str] = []

    def first() -> None:
        ran.append("first")

    def second() -> None:
        ran.append("second")

    barrier = threading.Barrier(2)

    def both() -> int:
        return barrier.wait(60) * 0

    client = serve(both)
    with Service.open(service.name) as other, Client.open(service.name) as another:
        assert not other.owner
        other.method(both)
        thread = threading.Thread(target=other.serve)
        thread.start()
        futures = [each.submit("both") for each in (client, another)]
        assert [each.result(60) for each in futures] == [0, 0]
        other.close()
        thread.join()
        service.method(nothing)
        assert another.call("nothing", timeout=60) is None


def test_servers_of_other_methods(service: Service, serve: Serve) -> None:
    """A client that meets the other server asks again for the methods."""
    client = serve(add)
    assert client.call("add", 1, 2, timeout=60) == 3
    with Service.open(service.name) as other:
        other.method(greet)
        thread = threading.Thread(target=other.serve)
        thread.start()
        service.close()  # only the other one is left
        with pytest.raises(NotFound, match="it has: greet"):
            client.call("add", 1, 2, timeout=60)
        assert client.call("greet", "amy", timeout=60) == "hello amy."
        other.close()
        thread.join()


def test_a_method_that_calls_its_own_service(serve: Serve) -> None:
    def outer(x: int) -> int:
        return int(client.call("add", x, 1, timeout=60))

    client = serve(outer, add, workers=2)
    assert client.call("outer", 1, timeout=60) == 2


# -- close -----------------------------------------------------------------------------------------


def test_a_client_that_is_closed(serve: Serve) -> None:
    client = serve(add)
    assert client.call("add", 1, 2, timeout=60) == 3
    assert "open" in repr(client)
    client.close()
    client.close()
    assert client.closed
    assert "closed" in repr(client)
    for act in (
        lambda: client.call("add", 1, 2),
        lambda: client.call("add", 1, 2, timeout=1),
        lambda: client.submit("add", 1, 2),
        lambda: client.add(1, 2),
        lambda: pickle.dumps(client),
    ):
        with pytest.raises(ClosedHandle):
            act()


def test_a_client_that_is_closed_while_calls_wait(serve: Serve, gate: Gate, begin: Begin) -> None:
    client = serve(gate.hold, workers=3)
    client_2 = Client.open(client.name)
    calls = [begin(client_2.call, "hold", 1), begin(client_2.call, "hold", 2)]
    future = client_2.submit("hold", 3)
    told = [gate.begun.get(timeout=60) for _ in range(3)]
    client_2.close()
    for call in calls:
        with pytest.raises(ClosedHandle):
            call.result()
    with pytest.raises(ClosedHandle):
        future.result(60)
    assert all(each.cancelled for each in told)
    gate.go.set()
    assert [gate.ended.get(timeout=60) for _ in range(3)] == [True] * 3
    assert client.call("hold", 4, timeout=60) == 4


def test_a_service_that_is_closed_while_a_call_runs(
    service: Service, serve: Serve, gate: Gate, begin: Begin
) -> None:
    """The call is ended first; one that waits for a server fails."""
    client = serve(gate.hold)
    running = begin(client.call, "hold", 1)
    gate.begun.get(timeout=60)
    waiting = client.submit("hold", 2)
    service.close()
    gate.go.set()
    assert running.result() == 1
    with pytest.raises(PeerGone):
        waiting.result(60)
    with pytest.raises(PeerGone):
        client.call("hold", 3, timeout=60)


def test_a_method_that_closes_its_service(service: Service, name: str) -> None:
    def stop() -> str:
        service.close()
        return "stopped"

    service.method(stop)
    thread = threading.Thread(target=service.serve)
    thread.start()
    with Client.open(name) as client:
        assert client.call("stop", timeout=60) == "stopped"
        thread.join()
        with pytest.raises(PeerGone):
            client.call("stop", timeout=60)
    with pytest.raises(ClosedHandle):
        service.serve()


def test_serve_again_after_it_was_interrupted(service: Service) -> None:
    stop = [True]

    def leave() -> None:
        if stop.pop() if stop else False:
            raise KeyboardInterrupt

    service.method(leave)

    def run() -> None:
        with pytest.raises(KeyboardInterrupt):
            service.serve()
        service.serve()

    thread = threading.Thread(target=run)
    thread.start()
    with Client.open(service.name) as client:
        with pytest.raises(RemoteError, match="KeyboardInterrupt"):
            client.call("leave", timeout=60)
        while True:
            try:
                assert client.call("leave", timeout=60) is None
            except PeerGone:  # nothing serves it for a moment
                continue
            break
    service.close()
    thread.join()


@pytest.mark.parametrize("workers", [0, -1])
def test_workers_out_of_range(service: Service, workers: int) -> None:
    with pytest.raises(InvalidArgument, match="workers must be 1 or more"):
        service.serve(workers=workers)


@pytest.mark.parametrize("workers", ["1", 1.5, True, None])
def test_workers_of_other_types(service: Service, workers: Any) -> None:
    with pytest.raises(TypeError):
        service.serve(workers=workers)


# -- open ------------------------------------------------------------------------------------------


def test_open(name: str) -> None:
    with pytest.raises(NotFound, match="open_or_wait"):
        Client.open(name)
    with pytest.raises(Timeout):
        Client.open_or_wait(name, timeout=0.02)
    with pytest.raises(NotFound):
        Service.open(name)
    with Service.create(name) as service:
        with pytest.raises(AlreadyExists):
            Service.create(name)
        with Service.open_or_create(name) as again:
            assert (service.owner, again.owner) == (True, False)
        Client.open(name).close()
        Client.open_or_wait(name, timeout=0).close()
    with Service.open_or_create(name) as service:
        assert service.owner
        assert service.name == name


def test_open_or_wait_until_there_is_a_service(name: str, begin: Begin) -> None:
    opening = begin(Client.open_or_wait, name, timeout=60)
    with Service.create(name), opening.result() as client:
        assert client.name == name


@pytest.mark.parametrize("wrong", ["", "a/b", "x" * 191, "a\0b"])
def test_names_that_are_invalid(wrong: str) -> None:
    for make in (Service.create, Service.open, Client.open, Client.open_or_wait):
        with pytest.raises(InvalidArgument):
            make(wrong)


@pytest.mark.parametrize("wrong", [5, None, b"name"])
def test_names_of_other_types(wrong: Any) -> None:
    for make in (Service.create, Service.open, Client.open, Client.open_or_wait):
        with pytest.raises(TypeError):
            make(wrong)


def test_the_mode_of_the_objects(serve: Serve) -> None:
    """Only processes of the same user, and root, can call the service."""
    client = serve(add)
    client.call("add", 1, 2, timeout=60)
    modes = {
        each.name: each.stat().st_mode & 0o777
        for each in os.scandir("/dev/shm")  # noqa: S108
        if client.name in each.name
    }
    assert len(modes) == 3
    assert set(modes.values()) == {0o600}


# -- pickles and forks -----------------------------------------------------------------------------


def test_a_pickled_client_and_a_pickled_service(service: Service, serve: Serve) -> None:
    client = serve(add)
    with pickle.loads(pickle.dumps(client)) as other:  # noqa: S301 - our own
        assert other.call("add", 1, 2, timeout=60) == 3
    assert client.call("add", 1, 2, timeout=60) == 3
    with pickle.loads(pickle.dumps(service)) as again:  # noqa: S301 - our own
        assert (again.name, again.owner) == (service.name, False)


@pytest.mark.parametrize("used", [True, False])
def test_a_forked_child_that_calls(serve: Serve, *, used: bool) -> None:
    client = serve(add)
    if used:
        assert client.call("add", 1, 2, timeout=60) == 3
    pid = fork()
    if pid == 0:
        code = 1
        try:
            results = [client.call("add", each, 1, timeout=60) for each in range(20)]
            future = client.submit("add", 5, 6)
            code = 0 if results == list(range(1, 21)) and future.result(60) == 11 else 2
            client.close()
        finally:
            os._exit(code)
    for each in range(20):
        assert client.call("add", each, 1, timeout=60) == each + 1
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert client.submit("add", 1, 2).result(60) == 3


def test_a_fork_while_other_threads_call(serve: Serve) -> None:
    client = serve(add)
    stop = threading.Event()
    wrong: list[int] = []

    def call_on() -> None:
        while not stop.is_set():
            if client.call("add", 1, 2, timeout=60) != 3:
                wrong.append(1)

    threads = [threading.Thread(target=call_on) for _ in range(2)]
    for thread in threads:
        thread.start()
    codes: list[int] = []
    for _ in range(10):
        pid = fork()
        if pid == 0:
            code = 1
            try:
                code = 0 if client.call("add", 2, 3, timeout=60) == 5 else 2
                client.close()
            finally:
                os._exit(code)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    stop.set()
    for thread in threads:
        thread.join()
    assert (codes, wrong) == ([0] * 10, [])


def test_a_client_that_is_dropped(serve: Serve) -> None:
    """Its channel goes with it; the fixtures look for leftovers."""
    client = serve(add)
    dropped = Client.open(client.name)
    assert dropped.call("add", 1, 2, timeout=60) == 3
    with pytest.warns(ResourceWarning):  # noqa: PT031 - it may be in a cycle
        del dropped
        gc.collect()
    assert client.call("add", 1, 2, timeout=60) == 3
