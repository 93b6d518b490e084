"""Calls of a service in another process, beside multiprocessing's managers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import statistics
import time
from contextlib import contextmanager
from multiprocessing.managers import BaseManager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from harness import Row, compare

from ipckit.rpc import Client, Service

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

SHORT = bytes(64)
ARRAY = np.arange(1 << 17, dtype=np.float64)  # 1 MiB
PAUSE = 0.005  # so long between two calls that both sides sleep


class _Methods:
    def echo(self, data: bytes) -> bytes:
        return data

    def double(self, x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return x


class _Manager(BaseManager):
    """A manager that offers the same methods."""


_Manager.register("methods", _Methods)


@contextmanager
def _served() -> Generator[Client]:
    name = f"bench-{os.getpid()}"
    with Service.create(name) as service:
        service.method(_Methods().echo)
        service.method(_Methods().double, in_place=True)
        pid = os.fork()
        if pid == 0:
            try:
                service.serve()
            finally:
                os._exit(0)
        try:
            with Client.open(name) as client:
                client.echo(SHORT)
                yield client
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def rows() -> Iterator[Row]:
    """Yield the comparisons."""
    manager = _Manager(ctx=multiprocessing.get_context("fork"))
    manager.start()
    theirs: Any = getattr(manager, "methods")()  # noqa: B009 - registered by name
    try:
        with _served() as client:
            peer, call = "multiprocessing manager", client.call
            yield compare(
                "call of 64 B", peer, lambda: theirs.echo(SHORT), lambda: call("echo", SHORT), 0.2
            )
            yield compare(
                "1 MiB array there and back",
                peer,
                lambda: theirs.double(ARRAY),
                lambda: call("double", ARRAY),
                0.2,
            )
    finally:
        manager.shutdown()


def latencies() -> Iterator[tuple[str, float, float]]:
    """Yield the median and the 99th percentile of calls of 64 B, in microseconds."""
    with _served() as client:
        for what, count, pause in (("spinning", 50_000, 0.0), ("both asleep", 500, PAUSE)):
            times: list[int] = []
            for _ in range(count):
                if pause:
                    time.sleep(pause)
                start = time.perf_counter_ns()
                client.call("echo", SHORT)
                times.append(time.perf_counter_ns() - start)
            cuts = statistics.quantiles(times, n=100)
            yield f"call of 64 B, {what}", cuts[49] / 1000, cuts[98] / 1000
