"""Calls in one process: the arguments of a method, and the ways to register methods."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from rpc_methods import add, greet, nothing, only_named, only_placed

from ipckit import AlreadyExists, ClosedHandle, InvalidArgument, NotFound, PeerGone
from ipckit.rpc import Client, Service

if TYPE_CHECKING:
    from collections.abc import Callable

    Serve = Callable[..., Client]


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
