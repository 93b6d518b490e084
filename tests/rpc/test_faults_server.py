"""Exceptions in methods, servers that run out of something, and messages of strangers."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import Channel, PosixSharedMemory, RemoteError
from ipckit._core.files import SHM
from ipckit.rpc import Client, Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Child, Namespace


class Serving:
    """A service that a thread of this process serves."""

    def __init__(self, name: str, workers: int = 1) -> None:
        self.service = Service.create(name)
        self.error: BaseException | None = None
        self._workers = workers
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        try:
            self.service.serve(workers=self._workers)
        except BaseException as exc:
            self.error = exc.with_traceback(None)

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()

    def close(self) -> None:
        self.service.close()
        self.join()
        self.service.unlink(missing_ok=True)


@pytest.fixture
def name(ns: Namespace) -> str:
    return ns.name()


@pytest.fixture
def serving(name: str) -> Iterator[Serving]:
    made = Serving(name)
    yield made
    made.close()


def one() -> int:
    return 1


@pytest.mark.parametrize("kind", [asyncio.CancelledError, GeneratorExit, MemoryError])
def test_exception_of_a_method_does_not_end_serve(
    name: str, serving: Serving, kind: type[BaseException]
) -> None:
    def fail() -> int:
        raise kind

    def fail_slowly(_: int = 0) -> int:
        raise kind

    for each in (one, fail, fail_slowly):
        serving.service.method(each)
    serving.start()
    with Client.open(name) as client:
        for method in ("fail", "fail_slowly"):
            with pytest.raises(RemoteError, match=kind.__name__):
                client.call(method, timeout=10)
        assert client.call("one", timeout=10) == 1


class Strange(Exception):  # noqa: N818 - not an error of a user
    """An exception whose attributes raise."""

    @property
    def __notes__(self) -> list[str]:
        raise SystemError


def test_exception_whose_attributes_raise(name: str, serving: Serving) -> None:
    @serving.service.method
    def fail() -> int:
        raise Strange

    serving.service.method(one)
    serving.start()
    with Client.open(name) as client:
        with pytest.raises(RemoteError, match="Strange"):
            client.call("fail", timeout=10)
        assert client.call("one", timeout=10) == 1


def test_system_exit_in_any_worker_ends_serve(name: str) -> None:
    serving = Serving(name, workers=3)
    together = threading.Barrier(3)

    @serving.service.method
    def leave(code: int) -> int:
        together.wait(30)  # each worker runs one call
        if code:
            raise SystemExit(code)
        return 0

    serving.start()
    with Client.open(name) as client:
        futures = [client.submit("leave", code, timeout=30) for code in (0, 0, 3)]
        assert [future.result(30) for future in futures[:2]] == [0, 0]
        with pytest.raises(RemoteError, match="SystemExit"):
            futures[2].result(30)
        serving.join()
    assert isinstance(serving.error, SystemExit)
    assert serving.error.code == 3
    serving.close()


def test_slots_out_of_range_are_ignored(name: str, serving: Serving) -> None:
    from ipckit._rpc.wire import CALL, CALL_KIND  # noqa: PLC0415

    serving.service.method(one)
    with Client.open(name) as client, Channel.open(f"rpc.{name.strip('/')}") as requests:
        serving.start()
        assert client.call("one", timeout=10) == 1
        link = client._link
        assert link is not None
        for slot in (256, 2**32 - 1):
            requests.send(CALL.pack(CALL_KIND, 0, 0, slot, 0, 0, link.token, 1))
        requests.send(b"")
        requests.send(b"\xc1")
        assert client.call("one", timeout=10) == 1


def test_a_message_elsewhere_unlinks_only_long_messages(name: str, serving: Serving) -> None:
    from ipckit._rpc.wire import CALL, CALL_KIND, ELSEWHERE  # noqa: PLC0415

    serving.service.method(one)
    service = f"rpc.{name.strip('/')}"
    serving.start()
    with (
        Client.open(name) as client,
        Channel.open(service) as requests,
        PosixSharedMemory.create(f"{service}2.c1", 64) as other,
        PosixSharedMemory.create(f"{service}.0123456789abcdef", 64) as table,
    ):
        assert client.call("one", timeout=10) == 1
        link, revision = client._link, client._methods["one"].revision
        assert link is not None
        for victim in (other, table):
            call = link.begin()
            head = CALL.pack(
                CALL_KIND, ELSEWHERE, 0, call.slot, revision, 0, link.token, call.number
            )
            requests.send(head + str(victim.name).strip("/").encode())
            assert link.wait(call, None)
            link.end(call)
        assert client.call("one", timeout=10) == 1
        assert Path(f"{SHM}{other.name}").exists()
        assert Path(f"{SHM}{table.name}").exists()


# Two servers that were forked from one process reply with long results at the same time.
FORKED = """
import os
from ipckit._core.files import SHM
from ipckit.rpc import Service
from ipckit.testing import step

service = Service.create(args[0])

@service.method
def long() -> bytes:
    return bytes(3_000_000)

children = []
for _ in range(2):
    if (pid := os.fork()) == 0:
        try:
            service.serve()
        finally:
            os._exit(0)
    children.append(pid)
step.tell("ready")
step.hear()
for pid in children:
    os.kill(pid, 9)
    os.waitpid(pid, 0)
service.close()
service.unlink()
"""


def test_forked_servers_send_long_results(name: str, spawn: Callable[..., Child]) -> None:
    child = spawn(FORKED, name)
    child.expect("ready")
    with Client.open(name) as client:
        for _ in range(5):
            # Nobody receives a result before the next one was sent.
            link_is_led = client._connect().leading
            with link_is_led:
                futures = [_submitted(client) for _ in range(2)]
            assert [len(future.result(30)) for future in futures] == [3_000_000] * 2
    child.tell("end")


def _submitted(client: Client) -> Any:
    client.find("long", None)
    return client.submit("long", timeout=30)
