"""Clients and services in other processes: pickles and forks."""

from __future__ import annotations

import os
import pickle
import threading
import warnings
from typing import TYPE_CHECKING

import pytest
from rpc_methods import add

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.rpc import Client, Service

    Serve = Callable[..., Client]


def fork() -> int:
    """Fork beside the threads of the service, on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


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
