"""Classes of a service that the client has to make from their descriptions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ipckit.rpc import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Child, Namespace

SERVER = """
from __future__ import annotations
import collections, enum, threading
from typing import NotRequired, TypedDict
import msgspec
from ipckit.rpc import Service
from ipckit.testing import step

Renamed = collections.namedtuple("Renamed", "a class b", rename=True)

class Hyphen(msgspec.Struct, rename={"x": "x-y"}):
    x: int

class Tagged(msgspec.Struct, tag="one", tag_field="kind"):
    x: int

class Other(msgspec.Struct, tag="two", tag_field="kind"):
    x: int

class Flags(enum.Flag):
    A = 1
    B = 2

class Keys(TypedDict):
    a: int
    b: NotRequired[str]

service = Service.create(args[0])

@service.method
def renamed() -> Renamed:
    return Renamed(1, 2, 3)

@service.method
def hyphen() -> Hyphen:
    return Hyphen(4)

@service.method
def tagged() -> Tagged | Other:
    return Other(5)

@service.method
def flags() -> Flags:
    return Flags.A | Flags.B

@service.method
def keys() -> Keys:
    return {"a": 6}

step.tell("ready")
thread = threading.Thread(target=service.serve)
thread.start()
step.hear()
service.close()
thread.join()
service.unlink()
"""


@pytest.fixture
def client(ns: Namespace, spawn: Callable[..., Child]) -> Iterator[Client]:
    name = ns.name()
    child = spawn(SERVER, name)
    child.expect("ready")
    with Client.open(name) as client:
        yield client
    child.tell("end")


def test_classes_of_unusual_names(client: Client) -> None:
    def call(method: str) -> Any:
        return client.call(method, timeout=10)

    assert call("renamed") == (1, 2, 3)
    assert call("hyphen").f0 == 4
    found = call("tagged")
    assert (type(found).__name__, found.x) == ("Other", 5)
    assert call("flags").value == 3
    assert call("keys") == {"a": 6}
