"""Values that must arrive as they were sent, or raise an error."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ipckit import RemoteError
from ipckit.rpc import Client, Service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ipckit.testing import Namespace

INF = float("inf")


def plain_int(x: int) -> int:
    return x


def plain_str(x: str) -> str:
    return x


def narrow(x: np.float32) -> float:
    return float(x)


def short(x: np.int32) -> int:
    return int(x)


def truth(x: np.bool_) -> bool:
    return bool(x)


def array(x: np.ndarray) -> np.ndarray:
    return x


def anything(x: Any) -> Any:
    return x


def surrogate() -> str:
    return "\udc80"


def long_int() -> int:
    return 1 << 70


METHODS = [
    plain_int,
    plain_str,
    narrow,
    short,
    truth,
    array,
    anything,
    surrogate,
    long_int,
]


@pytest.fixture
def client(ns: Namespace) -> Iterator[Client]:
    name = ns.name()
    with Service.create(name) as service:
        for each in METHODS:
            service.method(each)
        thread = threading.Thread(target=service.serve)
        thread.start()
        try:
            with Client.open(name) as client:
                yield client
        finally:
            service.close()
            thread.join()
            service.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("method", "value"),
    [
        ("plain_int", 1 << 64),
        ("plain_str", "\udc80"),
        ("short", 1.5),
        ("short", True),
        ("short", 1 << 31),
        ("short", float("nan")),
        ("narrow", 1e300),
        ("narrow", (1 << 24) + 1),
        ("narrow", True),
        ("truth", 1),
        ("anything", np.datetime64(5, "ns")),
        ("anything", np.timedelta64(5, "ns")),
        ("anything", {"a": "\udc80"}),
        (
            "array",
            np.zeros(1, {"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [4, 0]}),
        ),
    ],
)
def test_refused(client: Client, method: str, value: object) -> None:
    client.call("plain_int", 1, timeout=10)
    for submit in (False, True):
        call = client.submit if submit else client.call
        with pytest.raises(TypeError, match=method):
            call(method, value, timeout=10)


@pytest.mark.parametrize(
    ("method", "value", "expected"),
    [
        ("short", -(1 << 31), -(1 << 31)),
        ("short", np.int64(7), 7),
        ("narrow", 0.1, float(np.float32(0.1))),
        ("narrow", INF, INF),
        ("narrow", 1 << 24, float(1 << 24)),
        ("truth", np.bool_(1), True),
        ("plain_int", (1 << 64) - 1, (1 << 64) - 1),
    ],
)
def test_carried(client: Client, method: str, value: object, expected: object) -> None:
    assert client.call(method, value, timeout=10) == expected


@pytest.mark.parametrize("method", ["surrogate", "long_int"])
def test_result_that_cannot_be_encoded_does_not_end_serve(client: Client, method: str) -> None:
    with pytest.raises(RemoteError, match=method):
        client.call(method, timeout=10)
    assert client.call("plain_int", 3, timeout=10) == 3


@pytest.mark.parametrize(
    "kind",
    [np.complex64, np.longdouble, np.str_, np.datetime64, np.timedelta64, np.floating, np.void],
)
def test_numbers_that_cannot_be_carried_are_refused(ns: Namespace, kind: type) -> None:
    def method(x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        return x

    method.__annotations__ = {"x": kind, "return": int}
    with Service.create(ns.name()) as service, pytest.raises(TypeError, match="can't be carried"):
        service.method(method)
