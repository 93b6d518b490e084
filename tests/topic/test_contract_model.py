"""A topic against a model: a list of messages, and a cursor for each subscriber."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ipckit import Int, MessageTooLong, Struct, Timeout, Topic, UInt64, WouldBlock
from ipckit._native import INLINE_MAX

SETTINGS = settings(
    max_examples=15,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
either = st.integers(0, 1)
timeouts = st.sampled_from([0, 0, 0, 1e-6])
which = st.integers(0, 10)


@dataclass
class Reader:
    """A subscription, and what it must give: the messages from `cursor` on."""

    handle: Any
    drops: bool
    depth: int
    cursor: int
    lost: int = 0
    received: int = 0
    views: list[tuple[Any, Any]] = field(default_factory=list)  # each with what to expect


class Model(RuleBasedStateMachine):
    """Two handles of one topic, and up to four subscriptions that come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.handles: list[Any] = []
        self.readers: list[Reader] = []
        self.gone: list[Reader] = []  # closed, but with views
        self.published: list[Any] = []
        self.loans: list[tuple[Any, Any]] = []  # each with the value that was written
        self.capacity = self.history = 0
        # Whether there is memory for all that the model can hold at a time.
        self.roomy = True

    def make(self, payload: Any, capacity: int, history: int, **options: Any) -> None:
        history = min(history, capacity)
        made = Topic.create(type=payload, capacity=capacity, history=history, **options)
        assert made.name is not None
        self.handles = [made, Topic.open(made.name, payload)]
        self.capacity, self.history = capacity, history

    def teardown(self) -> None:
        if not self.handles:
            return
        for loan, _ in self.loans:
            loan.cancel()
        self.loans = []
        for reader in [*self.readers, *self.gone]:
            for view, value in reader.views:
                self.check_view(view, value)
                view.release()
            reader.views = []
        for reader in self.readers:
            while self.unread(reader):
                assert self.plain(reader.handle.receive(timeout=0)) == self.take_next(reader)
            with pytest.raises(WouldBlock, match="no message waits"):
                reader.handle.receive(timeout=0)
            reader.handle.close()
        for number in range(2 * self.capacity):
            self.handles[number % 2].publish(self.value(), timeout=0)
        self.handles[0].unlink()
        for each in self.handles:
            each.close()

    # -- the model ---------------------------------------------------------------------------------

    def unread(self, reader: Reader) -> int:
        """How many messages a reader can still receive. Counts those that it has lost by now."""
        waiting = len(self.published) - reader.cursor
        if not reader.drops:
            return waiting
        kept = min(waiting, reader.depth)
        if not self.roomy:
            kept = min(kept, len(reader.handle))
        reader.lost += waiting - kept
        reader.cursor += waiting - kept
        return kept

    def take_next(self, reader: Reader) -> Any:
        value = self.published[reader.cursor]
        reader.cursor += 1
        reader.received += 1
        return value

    def blocking(self) -> int:
        """The most unread messages of a reader that the publishers wait for; 0 if there is none."""
        full = [
            len(self.published) - each.cursor
            for each in self.readers
            if not each.drops and len(self.published) - each.cursor >= each.depth
        ]
        return max(full, default=0)

    def may_be_full(self) -> bool:
        """Whether a call is allowed to find no room, besides because of a reader's depth."""
        if self.roomy:
            return False
        unread = any(not each.drops and self.unread(each) for each in self.readers)
        views = any(each.views for each in [*self.readers, *self.gone])
        return unread or views or bool(self.loans)

    def check_full(self, exc: Exception) -> None:
        """Check that a call may have found no room, and what the error says."""
        most = self.blocking()
        if most:
            found = re.search(r"subscriber pid (\d+) \(.+\) has (\d+) unread", str(exc))
            assert found is not None, exc
            assert (int(found[1]), int(found[2])) == (os.getpid(), most)
        else:
            assert self.may_be_full(), exc

    def value(self) -> Any:
        """A new message."""
        raise NotImplementedError

    def plain(self, value: Any) -> Any:
        return value

    def check_view(self, view: Any, value: Any) -> None:
        raise NotImplementedError

    def fits(self, value: Any) -> bool:  # noqa: ARG002 - for subclasses
        return True

    # -- rules for all machines --------------------------------------------------------------------

    @rule(by=either, timeout=timeouts, data=st.data())
    def publish(self, by: int, timeout: float, data: st.DataObject) -> None:
        value = self.drawn(data)
        try:
            self.handles[by].publish(value, timeout=timeout)
        except MessageTooLong:
            assert not self.fits(value)
        except (WouldBlock, Timeout) as exc:
            self.check_full(exc)
        else:
            assert not self.blocking()
            assert self.fits(value)
            self.published.append(self.plain(value))

    def drawn(self, data: st.DataObject) -> Any:  # noqa: ARG002 - for subclasses
        return self.value()

    @rule(by=either, count=st.integers(0, 9), data=st.data())
    def publish_many(self, by: int, count: int, data: st.DataObject) -> None:
        values = [self.drawn(data) for _ in range(count)]
        sent = count
        before = len(self.published)
        plain = [self.plain(value) for value in values]
        try:
            self.handles[by].publish_many(self.batch(values), timeout=0)
        except WouldBlock as exc:
            sent = exc.sent  # type: ignore[attr-defined]
            self.published.extend(plain[:sent])
            self.check_full(exc)
            assert sent < count
        except MessageTooLong as exc:
            sent = exc.sent  # type: ignore[attr-defined]
            self.published.extend(plain[:sent])
            assert not self.fits(values[sent])
        else:
            self.published.extend(plain)
        assert len(self.published) == before + sent

    def batch(self, values: list[Any]) -> Any:
        return values

    @rule(
        by=either,
        drops=st.booleans(),
        depth=st.one_of(st.none(), st.integers(1, 6)),
        history=st.one_of(st.none(), st.integers(0, 6)),
    )
    def subscribe(self, by: int, drops: bool, depth: int | None, history: int | None) -> None:  # noqa: FBT001
        if len(self.readers) == 4:
            return
        depth = None if depth is None else min(depth, self.capacity)
        history = None if history is None else min(history, self.history)
        handle = self.handles[by].subscribe(
            when_full="drop_oldest" if drops else "wait", depth=depth, history=history
        )
        depth = self.capacity if depth is None else depth
        assert (handle.depth, handle.lost, bool(handle)) == (depth, 0, True)
        history = self.history if history is None else history
        old = min(history, depth, len(self.published))
        if self.roomy:
            assert len(handle) == old
        else:
            assert len(handle) <= old
        self.readers.append(Reader(handle, drops, depth, len(self.published) - len(handle)))

    @precondition(lambda self: self.readers)
    @rule(who=which)
    def leave(self, who: int) -> None:
        reader = self.readers.pop(who % len(self.readers))
        reader.handle.close()
        reader.handle.close()
        if reader.views:
            self.gone.append(reader)

    @precondition(lambda self: self.readers)
    @rule(who=which, timeout=timeouts)
    def receive(self, who: int, timeout: float) -> None:
        reader = self.readers[who % len(self.readers)]
        if not self.unread(reader):
            with pytest.raises((WouldBlock, Timeout)):
                reader.handle.receive(timeout=timeout)
            return
        assert self.plain(reader.handle.receive(timeout=timeout)) == self.take_next(reader)

    @precondition(lambda self: self.readers)
    @rule(who=which, most=st.one_of(st.none(), st.integers(1, 4)))
    def receive_many(self, who: int, most: int | None) -> None:
        reader = self.readers[who % len(self.readers)]
        waiting = self.unread(reader)
        if not waiting:
            with pytest.raises(WouldBlock):
                reader.handle.receive_many(most, timeout=0)
            return
        found = reader.handle.receive_many(most, timeout=0)
        assert len(found) == min(waiting, most or waiting)
        assert self.plain_batch(found) == [self.take_next(reader) for _ in found]

    def plain_batch(self, found: Any) -> Any:
        return [self.plain(each) for each in found]

    @precondition(lambda self: self.readers)
    @rule(who=which, timeout=timeouts)
    def receive_view(self, who: int, timeout: float) -> None:
        reader = self.readers[who % len(self.readers)]
        if not self.unread(reader):
            with pytest.raises((WouldBlock, Timeout)):
                reader.handle.receive_view(timeout=timeout)
            return
        view = reader.handle.receive_view(timeout=timeout)
        reader.views.append((view, self.take_next(reader)))
        self.check_view(*reader.views[-1])

    @precondition(lambda self: any(each.views for each in [*self.readers, *self.gone]))
    @rule(who=which, view=which)
    def release(self, who: int, view: int) -> None:
        having = [each for each in [*self.readers, *self.gone] if each.views]
        reader = having[who % len(having)]
        held, value = reader.views.pop(view % len(reader.views))
        self.check_view(held, value)
        held.release()

    @rule(by=either, data=st.data())
    def lend(self, by: int, data: st.DataObject) -> None:
        value = self.drawn(data)
        try:
            loan = self.lent(self.handles[by], value)
        except MessageTooLong:
            assert not self.fits(value)
        except WouldBlock as exc:
            self.check_full(exc)
        else:
            assert not self.blocking()
            self.loans.append((loan, self.plain(value)))

    def lent(self, handle: Any, value: Any) -> Any:
        raise NotImplementedError

    @precondition(lambda self: self.loans)
    @rule(which=which, timeout=timeouts)
    def send_loan(self, which: int, timeout: float) -> None:
        loan, value = self.loans[which % len(self.loans)]
        try:
            loan.send(timeout=timeout)
        except (WouldBlock, Timeout) as exc:
            self.check_full(exc)  # and the loan can be sent later
        else:
            assert not self.blocking()
            self.loans.remove((loan, value))
            self.published.append(value)

    @precondition(lambda self: self.loans)
    @rule(which=which)
    def cancel(self, which: int) -> None:
        self.loans.pop(which % len(self.loans))[0].cancel()

    @invariant()
    def the_numbers_are_exact(self) -> None:
        rows = []
        for reader in self.readers:
            unread = self.unread(reader)
            assert (len(reader.handle), reader.handle.lost) == (unread, reader.lost)
            policy = "drop_oldest" if reader.drops else "wait"
            rows.append((policy, reader.depth, unread, reader.lost, reader.received))
        for handle in self.handles:
            found = [
                (each.policy, each.depth, each.unread, each.lost, each.received)
                for each in handle.subscribers()
            ]
            assert sorted(found) == sorted(rows)
            assert handle.stats().published == len(self.published)


def data_of(number: int, length: int) -> bytes:
    cycle = bytes((number + i) % 251 for i in range(251))
    return (cycle * (length // 251 + 1))[:length]


class Bytes(Model):
    """Messages of any length."""

    number = 0

    @initialize(
        capacity=st.integers(1, 6),
        history=st.integers(0, 6),
        size=st.sampled_from([300, 20_000, 100_000, 1 << 23]),
    )
    def begin(self, capacity: int, history: int, size: int) -> None:
        self.roomy = size == 1 << 23
        self.make(bytes, capacity, history, size=size)
        self.longest = self.handles[0].longest

    lengths = st.one_of(
        st.integers(0, 40),
        st.integers(0, 700),
        st.integers(INLINE_MAX - 1, INLINE_MAX + 1),
        st.integers(0, 20_000),
        st.just(1 << 16),
    )

    def value(self) -> bytes:
        return data_of(0, min(100, self.longest))

    def drawn(self, data: st.DataObject) -> bytes:
        self.number += 1
        return data_of(self.number, data.draw(self.lengths))

    def fits(self, value: bytes) -> bool:
        return len(value) <= self.longest

    def check_view(self, view: Any, value: Any) -> None:
        assert bytes(view) == value

    def lent(self, handle: Any, value: bytes) -> Any:
        loan = handle.loan(len(value), timeout=0)
        loan.buf[:] = value
        return loan


class Pair(Struct):
    """A record of 16 bytes with its padding."""

    number: UInt64
    half: Int


class Records(Model):
    """Messages of one size, in batches too."""

    number = 0

    @initialize(capacity=st.integers(1, 20), history=st.integers(0, 20))
    def begin(self, capacity: int, history: int) -> None:
        self.make(Pair, capacity, history)

    def value(self) -> Pair:
        self.number += 1
        return Pair(self.number, -self.number % 1000)

    def plain(self, value: Any) -> Any:
        return (value.number, value.half)

    def batch(self, values: list[Any]) -> Any:
        return np.array([self.plain(value) for value in values], Pair.dtype)

    def plain_batch(self, found: Any) -> Any:
        return found.tolist()

    def check_view(self, view: Any, value: Any) -> None:
        assert self.plain(view.value) == value

    def lent(self, handle: Any, value: Pair) -> Any:
        loan = handle.loan(timeout=0)
        loan.value.number, loan.value.half = value.number, value.half
        return loan


FRAME = np.dtype((np.uint8, (INLINE_MAX + 1,)))


class Frames(Model):
    """Long messages of one size, each in a block, of which there are two more than the capacity."""

    number = 0

    @initialize(capacity=st.integers(1, 6), history=st.integers(0, 6))
    def begin(self, capacity: int, history: int) -> None:
        self.roomy = False
        self.make(FRAME, capacity, history)

    def value(self) -> Any:
        self.number = (self.number + 1) % 256
        return np.full(FRAME.shape, self.number, np.uint8)

    def plain(self, value: Any) -> Any:
        assert value.min() == value.max()
        return int(value[0])

    def batch(self, values: list[Any]) -> Any:
        return np.array(values, np.uint8).reshape(len(values), *FRAME.shape)

    def check_view(self, view: Any, value: Any) -> None:
        assert self.plain(view.array) == value

    def lent(self, handle: Any, value: Any) -> Any:
        loan = handle.loan(timeout=0)
        loan.array[...] = value
        return loan


MACHINES = [Bytes, Records, Frames]


@pytest.mark.parametrize("machine", MACHINES)
def test_a_topic_is_a_list_with_cursors(machine: type[Model]) -> None:
    run_state_machine_as_test(machine, settings=SETTINGS)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("machine", MACHINES)
def test_a_topic_is_a_list_with_cursors_for_long(machine: type[Model]) -> None:
    long = settings(SETTINGS, max_examples=3000, stateful_step_count=100)
    run_state_machine_as_test(machine, settings=long)
