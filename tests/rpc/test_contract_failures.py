"""Calls that fail: exceptions of methods, timeouts, and cancellation."""

from __future__ import annotations

import pickle
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
from rpc_methods import Gate, add, nothing

from ipckit import PeerGone, RemoteError, Timeout, WouldBlock
from ipckit.rpc import Client, Service, current

if TYPE_CHECKING:
    from collections.abc import Callable

    Serve = Callable[..., Client]


class FailedError(Exception):
    """An exception of this module."""


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
