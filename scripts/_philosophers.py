"""A table for five philosophers, the work of one philosopher, and deadlock detection."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ipckit import Int, SemOp, Struct, SysVSemaphoreSet, SysVSharedMemory
from ipckit.sem import Barrier, LockOrder
from ipckit.shm import SharedStruct

if TYPE_CHECKING:
    from contextlib import AbstractContextManager, ExitStack

COUNT: Final = 5
MODES: Final = ("circle", "order", "atomic")
NONE: Final = -1


class State(Struct):
    """A philosopher's published state: the fork that it holds, and the fork that it waits for."""

    holds: Int
    waits: Int


_STATE: Final = SharedStruct.bytes_for(State)


@dataclass
class Table:
    """The objects that the five share. It can be pickled, like its handles."""

    forks: SysVSemaphoreSet
    everybody: Barrier
    memory: SysVSharedMemory

    @classmethod
    def laid(cls, stack: ExitStack) -> Table:
        """Create a table that the stack removes."""
        memory = SysVSharedMemory.create(size=COUNT * _STATE, unlink_after_attach=True)
        stack.enter_context(memory)
        forks = stack.enter_context(SysVSemaphoreSet.create(values=[1] * COUNT))
        everybody = Barrier.create(parties=COUNT)
        stack.enter_context(everybody.lifetime())
        table = cls(forks, everybody, memory)
        for number in range(COUNT):
            table.state(number).store(State(NONE, NONE))
        return table

    def state(self, number: int) -> SharedStruct[State]:
        """Return the shared struct with one philosopher's state."""
        return self.memory.shared(State, offset=number * _STATE)


def eat(table: Table, number: int, mode: str, rounds: int, seconds: float) -> None:
    """Run one philosopher for some rounds, in its own process."""
    # The parent handles Ctrl-C, and ends all philosophers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    with table.memory, table.forks, table.everybody.lifetime():
        _eat(table, number, mode, rounds, seconds)


def _eat(table: Table, number: int, mode: str, rounds: int, seconds: float) -> None:
    state = table.state(number)
    left, right = number, (number + 1) % COUNT
    order = LockOrder({f"fork {fork.index}": fork for fork in table.forks})

    def fork(index: int) -> AbstractContextManager[object]:
        return order.hold(f"fork {index}", undo=True) if mode == "order" else table.forks[index]

    for _ in range(rounds):
        if mode == "atomic":
            both = [SemOp(left, -1, undo=True), SemOp(right, -1, undo=True)]
            table.forks.op(both)
            time.sleep(seconds)
            table.forks.op([SemOp(op.index, +1, undo=True) for op in both])
            continue
        first, second = (left, right) if mode == "circle" else sorted((left, right))
        with fork(first):
            state.store(State(first, NONE))
            if mode == "circle":
                table.everybody.wait()  # so that each certainly holds its left fork
            state.store(State(first, second))
            with fork(second):
                state.store(State(first, NONE))
                time.sleep(seconds)
                state.store(State(NONE, NONE))  # before the forks are released


def find_circle(table: Table) -> list[State]:
    """Return all states if each philosopher waits for a fork that the next one holds, else [].

    Each publishes that it holds a fork only while it does. If no state changes between two reads,
    all states were therefore true at the same time, and a circle of waiters never ends.
    """
    states = [table.state(number) for number in range(COUNT)]
    before = [state.count for state in states]
    said = [state.load() for state in states]
    holder = {each.holds: number for number, each in enumerate(said) if each.holds != NONE}
    at, seen = 0, list[int]()
    while at not in seen:
        seen.append(at)
        if said[at].waits not in holder:
            return []
        at = holder[said[at].waits]
    # A circle always has all five, because each waits only for its neighbour's fork.
    return said if before == [state.count for state in states] and len(seen) == COUNT else []
