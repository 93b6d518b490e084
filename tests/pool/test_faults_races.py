"""Threads and signal handlers that meet at the worst moment, which each test forces."""

from __future__ import annotations

import signal
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from ipckit._pool import pool as pool_module
from ipckit._pool.batch import MapRun
from ipckit._pool.manager import Manager
from ipckit._pool.task import Pace
from ipckit.pool import ProcessPool

if TYPE_CHECKING:
    from concurrent.futures import Future

    import pytest


def test_the_length_of_a_map_to_which_a_worker_sends_calls_back() -> None:
    """`stats` counts them under the manager's lock, which `MapRun.end` does not need."""
    run = MapRun(abs, Pace(), None)

    class Calls(list[tuple[Any, ...]]):
        def __len__(self) -> int:
            run._rest.append((7, [(3,)]))  # as the manager's thread would
            return super().__len__()

    run._rest.append((0, Calls([(1,), (2,)])))
    assert len(run) == 2


def test_calls_that_are_added_while_a_map_fails() -> None:
    """They were dropped, and the consumer of the map waited for their results."""
    run = MapRun(abs, Pace(), None)
    adding = threading.Thread(target=run.add, args=(iter([(-1,)]), 1))
    met = threading.Event()
    lock = run._arrived

    class Arrived:
        """The lock of the map; tells that another thread waits for it."""

        def __enter__(self) -> None:
            if threading.current_thread() is adding:
                met.set()
            lock.__enter__()

        def __exit__(self, *_: object) -> None:
            lock.__exit__()

        notify_all = lock.notify_all

    class Calls(deque[tuple[Any, ...]]):
        """The calls; while `fail` looks whether there are some, another thread adds one."""

        def __len__(self) -> int:
            found = super().__len__()
            if threading.current_thread() is not adding and not met.is_set():
                adding.start()
                assert met.wait(30)
            return found

        def extend(self, calls: Any) -> None:
            super().extend(calls)
            met.set()

    run._arrived, run._calls = Arrived(), Calls()  # type: ignore[assignment]
    run.fail(RuntimeError())
    adding.join()
    # Either it failed, or it is still to be handed out, which the pool refuses.
    assert 0 in run._found or run


def test_a_signal_handler_submits_while_the_pool_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    managers: list[Manager] = []
    futures: list[Future[int]] = []
    start, plan = Manager.start, pool_module.Plan

    def noted(self: Manager) -> None:
        managers.append(self)
        start(self)

    def interrupted(*args: Any) -> Any:
        monkeypatch.setattr(pool_module, "Plan", plan)
        signal.raise_signal(signal.SIGUSR1)
        return plan(*args)

    monkeypatch.setattr(Manager, "start", noted)
    monkeypatch.setattr(pool_module, "Plan", interrupted)
    pool = ProcessPool(1, "fork")
    before = signal.signal(signal.SIGUSR1, lambda *_: futures.append(pool.submit(abs, -2)))
    try:
        futures.append(pool.submit(abs, -1))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert [future.result(60) for future in futures] == [2, 1]
    pool.shutdown()
    assert len(managers) == 2
    for manager in managers:
        manager.thread.join(30)
        assert not manager.thread.is_alive()
