"""A table for five philosophers, how one of them eats, and how a circle of them is found."""

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
    """What a philosopher says of himself: the fork that he holds, and the one he waits for."""

    holds: Int
    waits: Int


_STATE: Final = SharedStruct.bytes_for(State)


@dataclass
class Table:
    """What the five share; it pickles, as its handles do."""

    forks: SysVSemaphoreSet
    everybody: Barrier
    memory: SysVSharedMemory

    @classmethod
    def laid(cls, stack: ExitStack) -> Table:
        """A new table, which goes with the stack."""
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
        """The place where one philosopher says what he does."""
        return self.memory.shared(State, offset=number * _STATE)


def eat(table: Table, number: int, mode: str, rounds: int, seconds: float) -> None:
    """Be one philosopher, for some rounds; this is a process of its own."""
    # The watcher hears of Ctrl-C, and ends us all.
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
                table.everybody.wait()  # so that each has his left fork, by no chance
            state.store(State(first, second))
            with fork(second):
                state.store(State(first, NONE))
                time.sleep(seconds)
                state.store(State(NONE, NONE))  # before the forks are given back


def find_circle(table: Table) -> list[State]:
    """What each says, if each waits for a fork that the next one holds; else nothing.

    Each says that he holds a fork only while he does. So where nobody has said anything new
    between two looks, all of it was true at once; and who waits in a circle waits for ever.
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
    # In this house a circle has all five: who is behind waits for a fork of his neighbour's.
    return said if before == [state.count for state in states] and len(seen) == COUNT else []
