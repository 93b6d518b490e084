"""Threads that use state which the extension has once for a process or an interpreter."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from ipckit import Channel, Int32, Struct, SysVSemaphoreSet, pair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 25


class Point(Struct):
    x: Int32
    y: Int32


@pytest.fixture(autouse=True)
def frequent_switches() -> Iterator[None]:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def run_at_once(works: list[Callable[[], None]]) -> None:
    failed: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            for _ in range(ROUNDS):
                work()
        except BaseException as exc:
            failed.append(exc)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_threads_share_the_state_of_the_extension() -> None:
    """The undo counts, a spare object, the list of channels, the stage of sockets, and types."""
    count = 0

    def add_one(semaphores: SysVSemaphoreSet) -> Callable[[], None]:
        def work() -> None:
            nonlocal count
            with semaphores[0]:
                count, _ = count + 1, semaphores[1].value
            with semaphores[2]:
                pass

        return work

    def open_and_close() -> None:
        with Channel.anonymous(Point) as channel:
            channel.fileno()
            channel.send(Point(x=1, y=2))
            assert channel.receive() == Point(x=1, y=2)

    def define() -> None:
        class Other(Struct):
            number: Int32

        assert Other.from_bytes(bytes(Other(number=3))).number == 3

    def exchange() -> None:
        here, there = pair("seqpacket")
        with here, there:
            here.send(b"x" * 100)
            assert there.receive().data == b"x" * 100

    with SysVSemaphoreSet.create(values=[1, 5, 2]) as semaphores:
        adding = [add_one(semaphores) for _ in range(3)]
        run_at_once([*adding, open_and_close, open_and_close, define, exchange, exchange])
        assert (count, semaphores.values) == (3 * ROUNDS, [1, 5, 2])


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_forked_children_use_what_threads_were_using() -> None:
    """Each fork finds the threads at another step of their first use of a type."""
    with SysVSemaphoreSet.create(values=[9]) as semaphores:

        def use(kind: type[Struct]) -> None:
            with semaphores[0], Channel.anonymous(kind) as channel:
                channel.send(kind.from_bytes(b"12345678"))
                assert bytes(channel.receive()) == b"12345678"

        def fork_during_use() -> None:
            class Other(Struct):
                x: Int32
                y: Int32

            threads = [threading.Thread(target=use, args=(Other,)) for _ in range(2)]
            for thread in threads:
                thread.start()
            pid = os.fork()
            if pid == 0:
                signal.alarm(10)  # kills a child that hangs
                try:
                    use(Other)
                    os._exit(0)
                finally:
                    os._exit(1)
            for thread in threads:
                thread.join()
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

        use(Point)  # imports modules: a child cannot end an import of its parent's thread
        run_at_once([fork_during_use])
