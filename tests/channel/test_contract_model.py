"""A channel with little memory against a model, a deque; hypothesis chooses the calls."""

from __future__ import annotations

from collections import deque
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

from ipckit import Channel, Int, MessageTooLong, Struct, Timeout, UInt64, WouldBlock
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


class Model(RuleBasedStateMachine):
    """Two handles of one channel; each message, loan and view is in the model too."""

    def __init__(self) -> None:
        super().__init__()
        self.handles: list[Any] = []
        self.waiting: deque[Any] = deque()
        self.loans: list[tuple[Any, Any]] = []  # each with the bytes that were written
        self.views: list[tuple[Any, Any]] = []  # each with the bytes to expect
        self.capacity = 0
        self.roomy = True

    def make(self, payload: Any, capacity: int, **options: Any) -> None:
        made = Channel.create(type=payload, capacity=capacity, **options)
        assert made.name is not None
        self.handles = [made, Channel.open(made.name, payload)]
        self.capacity = capacity

    def teardown(self) -> None:
        if not self.handles:
            return
        for loan, _ in self.loans:
            loan.cancel()
        for view, value in self.views:
            self.check_view(view, value)
            view.release()
        self.loans, self.views = [], []
        while self.waiting:
            assert self.plain(self.handles[1].receive(timeout=0)) == self.waiting.popleft()
        with pytest.raises(WouldBlock):
            self.handles[0].receive(timeout=0)
        assert self.handles[0].stats().bytes_used == 0
        self.fill_up()
        self.handles[0].unlink()
        for each in self.handles:
            each.close()

    def fill_up(self) -> None:
        raise NotImplementedError

    def plain(self, value: Any) -> Any:
        return value

    def check_view(self, view: Any, value: Any) -> None:
        raise NotImplementedError

    def may_be_full(self) -> bool:
        """Whether a send is allowed to find no room."""
        if self.roomy:
            return self.must_be_full()
        return bool(self.waiting or self.loans or self.views)

    def must_be_full(self) -> bool:
        return len(self.waiting) >= self.capacity

    def try_it(self, call: Any, timeout: float) -> Any:
        """The result of the call; None if it would have to wait."""
        try:
            return call(timeout=timeout)
        except WouldBlock:
            assert timeout == 0
        except Timeout:
            assert timeout != 0
        return None

    # -- rules for all machines ------------------------------------------------------------------

    @rule(by=either, timeout=timeouts)
    def receive(self, by: int, timeout: float) -> None:
        found = self.try_it(self.handles[by].receive, timeout)
        if self.waiting:
            assert self.plain(found) == self.waiting.popleft()
        else:
            assert found is None

    @rule(by=either, timeout=timeouts)
    def receive_view(self, by: int, timeout: float) -> None:
        view = self.try_it(self.handles[by].receive_view, timeout)
        if not self.waiting:
            assert view is None
            return
        self.views.append((view, self.waiting.popleft()))
        self.check_view(*self.views[-1])

    @precondition(lambda self: self.views)
    @rule(which=which)
    def release(self, which: int) -> None:
        view, value = self.views.pop(which % len(self.views))
        self.check_view(view, value)
        view.release()

    @precondition(lambda self: self.loans)
    @rule(which=which, timeout=timeouts)
    def send_loan(self, which: int, timeout: float) -> None:
        loan, value = self.loans[which % len(self.loans)]
        try:
            loan.send(timeout=timeout)
        except (WouldBlock, Timeout):
            assert self.waiting  # and the loan can be sent later
        else:
            assert len(self.waiting) < self.capacity
            self.loans.remove((loan, value))
            self.waiting.append(value)

    @precondition(lambda self: self.loans)
    @rule(which=which)
    def cancel(self, which: int) -> None:
        self.loans.pop(which % len(self.loans))[0].cancel()

    @invariant()
    def its_length(self) -> None:
        for each in self.handles:
            assert len(each) == len(self.waiting)


class Bytes(Model):
    """Messages of any length."""

    @initialize(capacity=st.integers(1, 6), size=st.sampled_from([300, 20_000, 100_000, 1 << 23]))
    def begin(self, capacity: int, size: int) -> None:
        self.roomy = size == 1 << 23
        self.make(bytes, capacity, size=size)
        self.longest = self.handles[0].longest

    def fill_up(self) -> None:
        whole = b"x" * self.longest
        for _ in range(2):
            self.handles[0].send(whole, timeout=0)
            assert self.handles[1].receive(timeout=0) == whole
        for _ in range(self.capacity):
            self.handles[0].send(b"", timeout=0)
        with pytest.raises(WouldBlock):
            self.handles[0].send(b"", timeout=0)

    def check_view(self, view: Any, value: Any) -> None:
        assert bytes(view) == value

    def data(self, length: int) -> bytes:
        cycle = bytes((length + i) % 251 for i in range(251))
        return (cycle * (length // 251 + 1))[:length]

    lengths = st.one_of(
        st.integers(0, 40),
        st.integers(0, 700),
        st.integers(INLINE_MAX - 1, INLINE_MAX + 1),
        st.integers(0, 20_000),
        st.just(1 << 16),
    )

    @rule(by=either, length=lengths, timeout=timeouts)
    def send(self, by: int, length: int, timeout: float) -> None:
        value = self.data(length)
        try:
            self.handles[by].send(value, timeout=timeout)
        except MessageTooLong:
            assert length > self.longest
        except (WouldBlock, Timeout):
            assert self.may_be_full()
        else:
            assert not self.must_be_full()
            assert length <= self.longest
            self.waiting.append(value)

    @rule(by=either, lengths=st.lists(st.integers(0, 90), max_size=5))
    def send_many(self, by: int, lengths: list[int]) -> None:
        values = [self.data(length) for length in lengths]
        sent = len(values)
        try:
            self.handles[by].send_many(values, timeout=0)
        except WouldBlock as exc:
            sent = exc.sent  # type: ignore[attr-defined]
            assert sent < len(values)
        self.waiting.extend(values[:sent])
        assert sent == len(values) or self.may_be_full()

    @rule(by=either, most=st.one_of(st.none(), st.integers(1, 4)))
    def receive_many(self, by: int, most: int | None) -> None:
        if not self.waiting:
            with pytest.raises(WouldBlock):
                self.handles[by].receive_many(most, timeout=0)
            return
        found = self.handles[by].receive_many(most, timeout=0)
        assert len(found) == min(len(self.waiting), most or len(self.waiting))
        assert found == [self.waiting.popleft() for _ in found]

    @rule(by=either, length=lengths, timeout=timeouts)
    def lend(self, by: int, length: int, timeout: float) -> None:
        try:
            loan = self.handles[by].loan(length, timeout=timeout)
        except MessageTooLong:
            assert length > self.longest
        except (WouldBlock, Timeout):
            assert self.may_be_full()
        else:
            assert not self.must_be_full()
            value = self.data(length)
            loan.buf[:] = value
            self.loans.append((loan, value))


class Pair(Struct):
    """A record of 16 bytes with its padding."""

    number: UInt64
    half: Int


class Records(Model):
    """Messages of one size, in batches too."""

    sent = 0

    @initialize(capacity=st.integers(1, 20))
    def begin(self, capacity: int) -> None:
        self.make(Pair, capacity)

    def fill_up(self) -> None:
        for _ in range(3):
            self.handles[0].send_many(np.zeros(self.capacity, Pair.dtype), timeout=0)
            with pytest.raises(WouldBlock):
                self.handles[0].send(Pair(1, 2), timeout=0)
            assert len(self.handles[1].receive_many(timeout=0)) == self.capacity

    def plain(self, value: Any) -> Any:
        return None if value is None else (value.number, value.half)

    def check_view(self, view: Any, value: Any) -> None:
        assert self.plain(view.value) == value

    def fresh(self, count: int) -> list[tuple[int, int]]:
        self.sent += count
        return [(n, -n % 1000) for n in range(self.sent - count, self.sent)]

    @rule(by=either, timeout=timeouts)
    def send(self, by: int, timeout: float) -> None:
        (value,) = self.fresh(1)
        try:
            self.handles[by].send(Pair(*value), timeout=timeout)
        except (WouldBlock, Timeout):
            assert self.may_be_full()
        else:
            assert not self.must_be_full()
            self.waiting.append(value)

    @rule(by=either, count=st.integers(0, 25))
    def send_many(self, by: int, count: int) -> None:
        values = self.fresh(count)
        sent = count
        try:
            self.handles[by].send_many(np.array(values, Pair.dtype), timeout=0)
        except WouldBlock as exc:
            sent = exc.sent  # type: ignore[attr-defined]
        self.waiting.extend(values[:sent])
        assert sent == count or self.may_be_full()

    @rule(by=either, most=st.one_of(st.none(), st.integers(1, 12)))
    def receive_many(self, by: int, most: int | None) -> None:
        if not self.waiting:
            with pytest.raises(WouldBlock):
                self.handles[by].receive_many(most, timeout=0)
            return
        found = self.handles[by].receive_many(most, timeout=0)
        assert len(found) == min(len(self.waiting), most or len(self.waiting))
        assert found.tolist() == [self.waiting.popleft() for _ in found]

    @rule(by=either)
    def lend(self, by: int) -> None:
        try:
            loan = self.handles[by].loan(timeout=0)
        except WouldBlock:
            assert self.may_be_full()
            return
        assert not self.must_be_full()
        (value,) = self.fresh(1)
        loan.value.number, loan.value.half = value
        self.loans.append((loan, value))

    def may_be_full(self) -> bool:
        # Padding takes memory too, and so does a batch until its last record was received. A short
        # loan or view does not.
        return bool(self.waiting)


FRAME = np.dtype((np.uint8, (INLINE_MAX + 1,)))


class Frames(Model):
    """Long messages of one size: a channel of n messages has n + 1 blocks."""

    sent = 0

    @initialize(capacity=st.integers(1, 6))
    def begin(self, capacity: int) -> None:
        self.make(FRAME, capacity)

    def must_be_full(self) -> bool:
        blocks = len(self.waiting) + len(self.loans) + len(self.views)
        return len(self.waiting) >= self.capacity or blocks > self.capacity

    def fill_up(self) -> None:
        loans = [self.handles[0].loan(timeout=0) for _ in range(self.capacity + 1)]
        with pytest.raises(WouldBlock):
            self.handles[1].loan(timeout=0)
        for loan in loans[1:]:
            loan.send(timeout=0)
        with pytest.raises(WouldBlock):
            loans[0].send(timeout=0)
        assert len(self.handles[1].receive_many(timeout=0)) == self.capacity
        loans[0].cancel()
        assert self.handles[0].stats().bytes_used == 0

    def plain(self, value: Any) -> Any:
        if value is None:
            return None
        assert value.min() == value.max()
        return int(value[0])

    def check_view(self, view: Any, value: Any) -> None:
        assert self.plain(view.array) == value

    def fresh(self) -> int:
        self.sent = (self.sent + 1) % 256
        return self.sent

    @rule(by=either, timeout=timeouts)
    def send(self, by: int, timeout: float) -> None:
        value = self.fresh()
        try:
            self.handles[by].send(np.full(FRAME.shape, value, np.uint8), timeout=timeout)
        except (WouldBlock, Timeout):
            assert self.must_be_full()
        else:
            assert not self.must_be_full()
            self.waiting.append(value)

    @rule(by=either, count=st.integers(0, 8))
    def send_many(self, by: int, count: int) -> None:
        values = [self.fresh() for _ in range(count)]
        array = np.repeat(np.array(values, np.uint8), FRAME.itemsize)
        sent = count
        try:
            self.handles[by].send_many(array.reshape(count, *FRAME.shape), timeout=0)
        except WouldBlock as exc:
            sent = exc.sent  # type: ignore[attr-defined]
        self.waiting.extend(values[:sent])
        assert sent == count or self.must_be_full()

    @rule(by=either, most=st.one_of(st.none(), st.integers(1, 4)))
    def receive_many(self, by: int, most: int | None) -> None:
        if not self.waiting:
            with pytest.raises(WouldBlock):
                self.handles[by].receive_many(most, timeout=0)
            return
        found = self.handles[by].receive_many(most, timeout=0)
        assert len(found) == min(len(self.waiting), most or len(self.waiting))
        assert list(map(self.plain, found)) == [self.waiting.popleft() for _ in found]

    @rule(by=either)
    def lend(self, by: int) -> None:
        try:
            loan = self.handles[by].loan(timeout=0)
        except WouldBlock:
            assert self.must_be_full()
            return
        assert not self.must_be_full()
        value = self.fresh()
        loan.array[...] = value
        self.loans.append((loan, value))


@pytest.mark.parametrize("machine", [Bytes, Records, Frames])
def test_a_channel_is_a_deque(machine: type[Model]) -> None:
    run_state_machine_as_test(machine, settings=SETTINGS)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("machine", [Bytes, Records, Frames])
def test_a_channel_is_a_deque_for_long(machine: type[Model]) -> None:
    long = settings(SETTINGS, max_examples=3000, stateful_step_count=100)
    run_state_machine_as_test(machine, settings=long)
