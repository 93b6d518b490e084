"""Both classes of message queue against simple models, in random calls of hypothesis."""

from __future__ import annotations

from collections import deque
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from ipckit import PosixMessageQueue, SysVMessageQueue, WouldBlock

SETTINGS = settings(
    max_examples=30,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
LONGEST = 8
MOST = 6
payloads = st.binary(max_size=LONGEST)


class Model(RuleBasedStateMachine):
    """The part that both share: a queue in the order of arrival, used through two handles."""

    cls: type[Any]
    options: dict[str, int]

    def __init__(self) -> None:
        super().__init__()
        self.queue: Any = self.cls.create(**self.options)
        self.other: Any = self.cls.open(
            self.queue.name if self.cls is PosixMessageQueue else self.queue.key
        )
        self.waiting: deque[tuple[int, bytes]] = deque()  # (type or priority, payload)

    def teardown(self) -> None:
        self.queue.unlink()
        self.queue.close()
        self.other.close()

    def full(self, data: bytes) -> bool:
        raise NotImplementedError

    def choose(self, **_: Any) -> int | None:
        """The position of the message that a receive must return."""
        return 0 if self.waiting else None

    def level(self, message: Any) -> int:
        number: int = message.mtype if self.cls is SysVMessageQueue else message.priority
        return number

    def send_to(self, handle: Any, data: bytes, level: int) -> None:
        try:
            handle.send(data, level, timeout=0)
        except WouldBlock:
            assert self.full(data)
        else:
            assert not self.full(data)
            self.waiting.append((level, data))

    def receive_from(self, handle: Any, *args: int, **options: Any) -> None:
        place = self.choose(*args, **options)
        try:
            message = handle.receive(*args, timeout=0, **options)
        except WouldBlock:
            assert place is None
        else:
            assert place is not None
            assert (self.level(message), message.value) == self.waiting[place]
            del self.waiting[place]

    @rule()
    def drain(self) -> None:
        for message in self.other.drain():
            place = self.choose()
            assert place is not None
            assert (self.level(message), message.value) == self.waiting[place]
            del self.waiting[place]
        assert not self.waiting

    @invariant()
    def as_many_as_the_model(self) -> None:
        assert len(self.queue) == len(self.other) == len(self.waiting)


class SysVModel(Model):
    cls = SysVMessageQueue
    options = {"max_bytes": MOST * LONGEST}  # noqa: RUF012 - never changed
    types = st.sampled_from([1, 2, 3, 4, 2**31, 2**63 - 1])
    selects = st.sampled_from([0, 1, 2, 3, 2**31, 2**63 - 1, -1, -2, -3, -(2**31), -(2**63)])

    @initialize(most=st.integers(LONGEST, MOST * LONGEST))
    def resize(self, most: int) -> None:
        self.most = most
        self.queue.max_bytes = most

    def full(self, data: bytes) -> bool:
        # The kernel also limits the number of messages to the bytes, so empty ones fill the queue.
        used = sum(len(each) for _, each in self.waiting)
        return used + len(data) > self.most or len(self.waiting) + 1 > self.most

    def choose(self, select: int = 0, *, exclude: bool = False) -> int | None:
        types = [number for number, _ in self.waiting]
        if select > 0 and exclude:
            fitting = [number for number in types if number != select]
        elif select > 0:
            fitting = [number for number in types if number == select]
        elif select < 0:
            fitting = sorted(number for number in types if number <= -select)
        else:
            fitting = types
        return types.index(fitting[0]) if fitting else None

    @rule(data=payloads, number=types)
    def send(self, data: bytes, number: int) -> None:
        self.send_to(self.queue, data, number)

    @rule(data=payloads, number=types)
    def send_elsewhere(self, data: bytes, number: int) -> None:
        self.send_to(self.other, data, number)

    @rule(select=selects)
    def receive(self, select: int) -> None:
        self.receive_from(self.other, select)

    @rule(select=selects.filter(lambda number: number > 0))
    def receive_any_other(self, select: int) -> None:
        self.receive_from(self.queue, select, exclude=True)

    @rule(index=st.integers(0, 3))
    def peek(self, index: int) -> None:
        try:
            message = self.other.peek(index)
        except WouldBlock:
            assert index >= len(self.waiting)
        else:
            assert (message.mtype, message.value) == self.waiting[index]

    @rule(select=selects, most=st.integers(0, LONGEST))
    def receive_cut(self, select: int, most: int) -> None:
        place = self.choose(select)
        if place is None:
            return
        number, data = self.waiting[place]
        message = self.queue.receive(select, truncate=True, max_size=most, timeout=0)
        assert (message.mtype, message.value) == (number, data[:most])
        assert message.truncated is (len(data) > most)
        del self.waiting[place]

    @invariant()
    def as_many_bytes_as_the_model(self) -> None:
        assert self.queue.stat().cbytes == sum(len(data) for _, data in self.waiting)


class PosixModel(Model):
    cls = PosixMessageQueue
    options = {"max_messages": MOST, "max_size": LONGEST}  # noqa: RUF012
    priorities = st.sampled_from([0, 1, 2, 3, 32766, 32767])

    def full(self, data: bytes) -> bool:
        assert len(data) <= LONGEST
        return len(self.waiting) == MOST

    def choose(self, **_: Any) -> int | None:
        priorities = [priority for priority, _ in self.waiting]
        return priorities.index(max(priorities)) if priorities else None

    @rule(data=payloads, priority=priorities)
    def send(self, data: bytes, priority: int) -> None:
        self.send_to(self.queue, data, priority)

    @rule(data=payloads, priority=priorities)
    def send_elsewhere(self, data: bytes, priority: int) -> None:
        self.send_to(self.other, data, priority)

    @rule()
    def receive(self) -> None:
        self.receive_from(self.other)


class Fifo(Model):
    """Without types and priorities, both behave like a deque."""

    @rule(data=payloads)
    def send(self, data: bytes) -> None:
        self.send_to(self.queue, data, 1)

    @rule()
    def receive(self) -> None:
        self.receive_from(self.other)

    def full(self, data: bytes) -> bool:
        if self.cls is PosixMessageQueue:
            return len(self.waiting) == MOST
        return sum(len(each) for _, each in self.waiting) + len(data) > MOST * LONGEST or (
            len(self.waiting) == MOST * LONGEST
        )


def test_system_v_queues_follow_the_typed_model() -> None:
    run_state_machine_as_test(SysVModel, settings=SETTINGS)  # type: ignore[no-untyped-call]


def test_posix_queues_follow_the_priority_model() -> None:
    run_state_machine_as_test(PosixModel, settings=SETTINGS)  # type: ignore[no-untyped-call]


def test_without_types_and_priorities_they_are_a_deque(kind: Any) -> None:
    machine = type("OneKind", (Fifo,), {"cls": kind.cls, "options": kind.room(MOST, LONGEST)})
    run_state_machine_as_test(machine, settings=SETTINGS)  # type: ignore[no-untyped-call]
