"""Structs that begin with the message type, as C's ``struct { long mtype; … }``."""

from __future__ import annotations

import errno
import pickle
import sys
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import pytest

from ipckit import (
    Array,
    Char,
    Double,
    Int,
    InvalidArgument,
    LayoutMismatch,
    Long,
    LongLong,
    MessageTooLong,
    PosixMessageQueue,
    Short,
    Struct,
    SysVMessageQueue,
    WouldBlock,
    aio,
)
from ipckit._msgq.message_form import is_message_struct
from ipckit._native import MessageForm, msgrcv, msgsnd
from ipckit.codec import Codec, codec_for
from ipckit.msgq import Message, decode_message
from ipckit.structs import Anonymous, Bits, Union

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Namespace


class Point(Struct):
    x: Double
    n: Short


class Text(Struct):
    name: Char[10]


class Empty(Struct):
    mtype: Long


class Values(Struct):
    n: Int
    v: Array[Short, ...]


class MValues(Struct):
    mtype: Long
    n: Int
    v: Array[Short, ...]


class Int1(Struct):
    sum: Int


class MInt1(Struct):
    mtype: Long
    sum: Int


@pytest.fixture
def queue(ns: Namespace) -> Iterator[SysVMessageQueue[MInt1]]:
    with SysVMessageQueue.create(ns.key(), MInt1) as made:
        yield made


@pytest.fixture
def raw(queue: SysVMessageQueue[Any]) -> Iterator[SysVMessageQueue[bytes]]:
    """The same queue as one of bytes."""
    with SysVMessageQueue.open(queue.key or 0) as opened:
        yield opened


# -- the message type ------------------------------------------------------------------------------


def test_an_equal_mtype_may_be_passed_too(queue: SysVMessageQueue[MInt1]) -> None:
    class Number(IntEnum):
        REPLY = 7

    for number in (7, Number.REPLY, None):
        queue.send(MInt1(7, 1), number)
        assert queue.receive(timeout=0) == Message(MInt1(7, 1), 7)


@pytest.mark.parametrize("number", [1, 8, 0, -7, 2**63, 2**70])
def test_another_mtype_is_refused(queue: SysVMessageQueue[MInt1], number: int) -> None:
    with pytest.raises(InvalidArgument, match=r"mtype is -?\d+, but MInt1.mtype is 7") as caught:
        queue.send(MInt1(7, 1), number)
    assert (caught.value.op, caught.value.errno) == ("msgsnd", errno.EINVAL)
    assert "leave the argument out" in caught.value.hint
    assert len(queue) == 0


@pytest.mark.parametrize("number", ["7", 7.0, True, b"\7"])
def test_an_mtype_of_another_type_is_refused(queue: SysVMessageQueue[MInt1], number: Any) -> None:
    with pytest.raises(TypeError, match="mtype must be an int"):
        queue.send(MInt1(7, 1), number)
    assert len(queue) == 0


@pytest.mark.parametrize("number", [0, -1, -(2**63)])
@pytest.mark.parametrize("timeout", [None, 0, 0.01])
def test_the_field_must_be_a_message_type(
    queue: SysVMessageQueue[MInt1], number: int, timeout: float | None
) -> None:
    match = f"field mtype of MInt1 must be 1 to {2**63 - 1}, not {number}"
    for argument in (None, number):
        with pytest.raises(InvalidArgument, match=match) as caught:
            queue.send(MInt1(number, 1), argument, timeout=timeout)
        assert (caught.value.op, caught.value.errno) == ("msgsnd", errno.EINVAL)
    assert len(queue) == 0


def test_the_struct_that_was_sent_is_not_changed(queue: SysVMessageQueue[MInt1]) -> None:
    value = MInt1(7, 1)
    queue.send(value)
    received = queue.receive(timeout=0).value
    received.mtype = 9
    assert value == MInt1(7, 1)
    queue.send(received)
    assert queue.receive(9, timeout=0).mtype == 9


def test_a_view_of_a_buffer_is_sent(queue: SysVMessageQueue[MInt1]) -> None:
    memory = bytearray(MInt1(7, 5))
    queue.send(MInt1.from_buffer(memory))
    queue.send(MInt1.from_buffer(bytes(memory)))
    assert [message.value for message in queue.drain()] == [MInt1(7, 5)] * 2


def test_receive_selects_by_mtype(queue: SysVMessageQueue[MInt1]) -> None:
    for number in (5, 3, 9, 3):
        queue.send(MInt1(number, len(queue)))
    assert queue.receive(9).value == MInt1(9, 2)
    assert queue.receive(-5).value == MInt1(3, 1)
    assert queue.receive(3, exclude=True).value == MInt1(5, 0)
    with pytest.raises(WouldBlock):
        queue.receive(5, timeout=0)
    with pytest.raises(TypeError, match="mapping"):
        queue.receive(MInt1)
    assert queue.receive(0).value == MInt1(3, 3)


def test_iteration_and_drain(queue: SysVMessageQueue[MInt1]) -> None:
    for number in (5, 3):
        queue.send(MInt1(number, 0))
    assert [message.value.mtype for message in queue.drain()] == [5, 3]
    queue.send(MInt1(4, 0))
    for message in queue:
        assert message == Message(MInt1(4, 0), 4)
        queue.unlink()
    queue.disown()


def test_a_class_with_the_same_fields_or_only_more_methods(queue: SysVMessageQueue[Any]) -> None:
    class More(MInt1):
        def twice(self) -> int:
            return self.sum * 2

    class Same(Struct):
        mtype: Long
        sum: Int

    class Other(Struct):
        mtype: Long
        total: Int

    for value in (More(3, 1), Same(3, 1)):
        queue.send(value)
        queue.send(value, 3)
        with pytest.raises(InvalidArgument, match=f"{type(value).__name__}.mtype is 3"):
            queue.send(value, 4)
        with pytest.raises(InvalidArgument, match=f"field mtype of {type(value).__name__}"):
            queue.send(type(value)(0, 1))
        assert {type(message.value) for message in queue.drain()} == {MInt1}
    for value in (Other(3, 1), Int1(3), b"text"):
        with pytest.raises(TypeError):
            queue.send(value)
    assert len(queue) == 0


# -- which structs they are ------------------------------------------------------------------------


def test_message_structs_begin_with_a_native_long_of_that_name() -> None:
    class Wide(Struct):
        mtype: LongLong

    class Annotation(Struct):
        mtype: Annotated[int, Long]

    class Packed(Struct, packed=True):
        mtype: Long
        n: Int

    class Kind(IntEnum):
        ASK = 5

    class Named(Struct):
        mtype: Annotated[Kind, Long]

    class Head(Struct):
        mtype: Long

    class Inside(Struct):
        head: Anonymous[Head]
        n: Int

    for cls in (Wide, Annotation, Packed, Empty, MInt1, Named, Inside):
        assert is_message_struct(cls)


def test_other_structs_are_not_message_structs(ns: Namespace) -> None:
    class Named(Struct):
        type: Long
        n: Int

    class Narrow(Struct):
        mtype: Int
        n: Int

    class Later(Struct):
        n: Long
        mtype: Long

    class Swapped(Struct, endian="big"):
        mtype: Long

    class Several(Struct):
        mtype: Array[Long, 1]

    class Inner(Struct):
        mtype: MInt1

    class Shared(Union):
        mtype: Long
        n: Int

    class Bit(Struct):
        mtype: Bits[Long, 64]

    values: list[Struct] = [Named(3, 1), Narrow(3, 1), Later(3, 1), Swapped(3)]
    values += [Several([3]), Inner(MInt1(3, 1)), Shared(mtype=3), Bit(3)]
    for value in values:
        cls = type(value)
        assert not is_message_struct(cls)
        with SysVMessageQueue.create(ns.key(), cls) as queue:
            queue.send(value, 9)
            queue.send(value)
            assert queue.stat().cbytes == 2 * cls.size
            assert queue.receive() == Message(value, 9)
            assert queue.receive() == Message(value, 1)


def test_a_packed_message_struct_has_no_padding(ns: Namespace) -> None:
    class Packed(Struct, packed=True):
        mtype: Long
        n: Short

    with SysVMessageQueue.create(ns.key(), Packed) as queue:
        queue.send(Packed(3, 1))
        assert queue.stat().cbytes == 2
        with SysVMessageQueue.open(queue.key or 0) as raw:
            raw.send(bytes(8))
        assert queue.receive().value == Packed(3, 1)
        with pytest.raises(LayoutMismatch, match="expected 2 bytes for Packed after its mtype"):
            queue.receive()


def test_the_struct_codec_is_the_struct(queue: SysVMessageQueue[MInt1]) -> None:
    with SysVMessageQueue.open(queue.key or 0, codec_for(MInt1)) as other:
        other.send(MInt1(5, 1))
        assert queue.receive(timeout=0) == Message(MInt1(5, 1), 5)
        queue.send(MInt1(6, 1))
        assert other.receive(timeout=0) == Message(MInt1(6, 1), 6)


def test_a_codec_of_ones_own_decides_the_bytes(raw: SysVMessageQueue[bytes]) -> None:
    class Own(Codec[MInt1]):
        size = MInt1.size
        accepts = MInt1
        fingerprint = "own"
        name = "own"

        def encode(self, value: MInt1) -> bytes:
            return bytes(value)

        def decode(self, data: bytes) -> MInt1:
            return MInt1.from_bytes(data)

    with SysVMessageQueue.open(raw.key or 0, Own()) as own:
        own.send(MInt1(5, 1), 9)
        assert raw.peek() == Message(bytes(MInt1(5, 1)), 9)
        assert own.receive() == Message(MInt1(5, 1), 9)


def test_a_posix_queue_carries_all_of_the_struct(ns: Namespace) -> None:
    with PosixMessageQueue.create(ns.name(), MInt1) as queue:
        queue.send(MInt1(0, 1))
        assert queue.receive().value == MInt1(0, 1)


# -- sizes -----------------------------------------------------------------------------------------


def test_a_text_that_does_not_fit_is_kept(
    queue: SysVMessageQueue[MInt1], raw: SysVMessageQueue[bytes]
) -> None:
    for text in (b"", b"abc", b"x" * 9, b"x" * 16, b"x" * 8192):
        raw.send(text, 5)
        for call in (queue.peek, queue.receive):
            with pytest.raises(LayoutMismatch) as caught:
                call()
            assert "expected 4 to 8 bytes for MInt1 after its mtype" in str(caught.value)
            assert f"got {len(text)}" in str(caught.value)
            assert (caught.value.raw, caught.value.mtype) == (text, 5)
        assert len(queue) == 0
    raw.send(b"abc", 5)
    raw.send(bytes(8), 6)
    with pytest.raises(LayoutMismatch):
        queue.drain()
    assert queue.drain() == [Message(MInt1(6, 0), 6)]


def test_padding_may_be_missing_in_part(
    queue: SysVMessageQueue[MInt1], raw: SysVMessageQueue[bytes]
) -> None:
    for size in range(4, 9):
        raw.send(b"\1\0\0\0abcd"[:size], 5)
        value = queue.receive(timeout=0).value
        assert value == MInt1(5, 1)
        assert bytes(value)[12:] == b"abcd"[: size - 4].ljust(4, b"\0")


def test_a_struct_without_mtype_takes_two_sizes(raw: SysVMessageQueue[bytes]) -> None:
    class Pair(Struct):
        a: Short
        b: Int

    class Odd(Struct):
        name: Char[9]

    for cls, sizes in ((Int1, {4, 8}), (Pair, {8}), (Odd, {9, 16}), (Point, {16})):
        with SysVMessageQueue.open(raw.key or 0, cls) as queue:
            for size in range(20):
                raw.send(bytes(size), 3)
                if size in sizes:
                    assert queue.receive(timeout=0) == Message(cls.from_bytes(bytes(cls.size)), 3)
                    continue
                match = f"expected {cls.size} bytes for {cls.__name__}, got {size}"
                with pytest.raises(LayoutMismatch, match=match) as caught:
                    queue.receive(timeout=0)
                assert (caught.value.raw, caught.value.mtype) == (bytes(size), 3)


def test_the_most_bytes_are_those_of_the_text(
    queue: SysVMessageQueue[MInt1], raw: SysVMessageQueue[bytes]
) -> None:
    queue.send(MInt1(5, 1))
    with pytest.raises(MessageTooLong):
        queue.receive(max_size=7)
    assert queue.receive(max_size=8).value == MInt1(5, 1)
    raw.send(b"\1\0\0\0abcdefgh", 5)
    assert queue.receive(truncate=True) == Message(MInt1(5, 1), 5, truncated=True)
    raw.send(b"\1\0\0\0abcd", 5)
    assert queue.receive(truncate=True) == Message(MInt1(5, 1), 5)
    raw.send(b"\1\0\0\0abcd", 5)
    assert queue.receive(truncate=True, max_size=4) == Message(MInt1(5, 1), 5, truncated=True)
    raw.send(b"\1\0\0\0abcd", 5)
    with pytest.raises(LayoutMismatch, match="got 3") as caught:
        queue.receive(truncate=True, max_size=3)
    assert (caught.value.raw, caught.value.mtype) == (b"\1\0\0", 5)


def test_cs_padding_is_not_truncated(raw: SysVMessageQueue[bytes]) -> None:
    with SysVMessageQueue.open(raw.key or 0, Int1) as queue:
        for text, cut in ((b"\1\0\0\0", False), (b"\1\0\0\0abcd", False), (b"\1\0\0\0abcde", True)):
            raw.send(text)
            assert queue.receive(truncate=True) == Message(Int1(1), 1, truncated=cut)


def test_the_size_in_an_error_is_that_of_the_text(ns: Namespace) -> None:
    class Long9000(Struct):
        mtype: Long
        text: Char[9000]

    class Long100(Struct):
        mtype: Long
        text: Char[96]

    with (
        SysVMessageQueue.create(ns.key(), Long9000) as queue,
        pytest.raises(MessageTooLong, match=r"9,000 bytes exceeds kernel\.msgmax"),
    ):
        queue.send(Long9000(1, ""))
    with SysVMessageQueue.create(ns.key(), Long100, max_bytes=96) as queue:
        queue.send(Long100(1, "x" * 96))
        with pytest.raises(WouldBlock):
            queue.send(Long100(1, ""), timeout=0)
        assert queue.receive().value == Long100(1, "x" * 96)
        queue.max_bytes = 95
        with pytest.raises(MessageTooLong, match="96 bytes exceeds the queue's max_bytes"):
            queue.send(Long100(1, ""))


@pytest.mark.parametrize("cls", [MValues, Values])
def test_a_flexible_array_takes_any_length_that_has_all_fields(
    raw: SysVMessageQueue[bytes], cls: type[Any]
) -> None:
    after = " after its mtype" if cls is MValues else ""
    with SysVMessageQueue.open(raw.key or 0, cls) as queue:
        for size in (4, 5, 6, 8, 4000):
            raw.send(b"abcd".ljust(size, b"x"), 7)
            value = queue.receive(timeout=0).value
            assert bytes(value)[-size:] == b"abcd".ljust(size, b"x")
            assert (len(value.v), value.n) == (
                (size - 4) // 2,
                int.from_bytes(b"abcd", sys.byteorder),
            )
        for size in (0, 3):
            raw.send(bytes(size), 7)
            match = f"expected at least 4 bytes for {cls.__name__}{after}, got {size}"
            with pytest.raises(LayoutMismatch, match=match):
                queue.receive(timeout=0)
        raw.send(bytes(100), 7)
        message = queue.receive(truncate=True, max_size=10)
        assert (len(message.value.v), message.truncated) == (3, True)


# -- mappings --------------------------------------------------------------------------------------


class Ask(Struct):
    mtype: Long
    what: Char[8]


@pytest.fixture
def several() -> Iterator[SysVMessageQueue[Any]]:
    types: dict[int, Any] = {1: Ask, 2: Ask, 5: MInt1, 6: Int1, 7: bytes}
    with SysVMessageQueue.create(None, types) as made:
        yield made


def test_a_mapping_sends_a_message_struct_under_its_own_type(
    several: SysVMessageQueue[Any],
) -> None:
    values = [Ask(2, "two"), Ask(1, "one"), MInt1(5, 1), Int1(9), b"text"]
    for value in values:
        several.send(value)
    several.send(Ask(2, "two"), 2)
    found = several.drain()
    assert [message.value for message in found] == [*values, Ask(2, "two")]
    assert [message.mtype for message in found] == [2, 1, 5, 6, 7, 2]


@pytest.mark.parametrize("value", [Ask(5, ""), Ask(0, ""), Ask(-1, ""), MInt1(1, 0)])
def test_a_mapping_refuses_a_type_of_another_payload(
    several: SysVMessageQueue[Any], value: Any
) -> None:
    name = type(value).__name__
    with pytest.raises(InvalidArgument, match=f"{name}.mtype is {value.mtype}, but the queue has"):
        several.send(value)
    assert len(several) == 0


def test_a_mapping_refuses_a_number_that_differs(several: SysVMessageQueue[Any]) -> None:
    with pytest.raises(InvalidArgument, match=r"mtype is 1, but Ask\.mtype is 2"):
        several.send(Ask(2, ""), 1)
    with pytest.raises(TypeError, match="MInt1"):
        several.send(Ask(5, ""), 5)
    with pytest.raises(InvalidArgument, match="no message type 3"):
        several.send(Ask(3, ""), 3)
    assert len(several) == 0


def test_a_mapping_selects_by_class_and_keeps_what_does_not_fit(
    several: SysVMessageQueue[Any],
) -> None:
    with SysVMessageQueue.open(several.key or 0) as raw:
        raw.send(b"abc", 5)
        raw.send(b"\1\0\0\0....", 6)
        raw.send(b"\1\0\0\0...", 6)
    with pytest.raises(LayoutMismatch, match="4 to 8 bytes for MInt1") as caught:
        several.receive(MInt1)
    assert (caught.value.raw, caught.value.mtype) == (b"abc", 5)
    assert several.receive(Int1).value == Int1(1)
    with pytest.raises(LayoutMismatch, match="expected 4 bytes for Int1, got 7"):
        several.receive(Int1)


# -- elsewhere -------------------------------------------------------------------------------------


def test_a_queue_of_message_structs_is_pickled(queue: SysVMessageQueue[MInt1]) -> None:
    with pickle.loads(pickle.dumps(queue)) as other:  # noqa: S301 - our own
        other.send(MInt1(5, 1))
        assert queue.receive(timeout=0) == Message(MInt1(5, 1), 5)
        queue.send(MInt1(6, 1))
        assert other.receive(timeout=0) == Message(MInt1(6, 1), 6)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_in_an_event_loop(ns: Namespace, backend: str) -> None:
    async def main(queue: SysVMessageQueue[MInt1]) -> None:
        face = aio.wrap(queue)
        await face.send(MInt1(5, 0), 5)
        with pytest.raises(InvalidArgument, match=r"MInt1\.mtype is 5"):
            await face.send(MInt1(5, 0), 6)
        for number in (0, -1):
            with pytest.raises(InvalidArgument, match="field mtype of MInt1"):
                await face.send(MInt1(number, 0))
        async with anyio.create_task_group() as group:
            for number in range(1, 9):  # it has room for two
                group.start_soon(face.send, MInt1(number, number))
            assert await face.receive() == Message(MInt1(5, 0), 5)
            seen = [(await face.receive(-8, timeout=10)).value.mtype for _ in range(8)]
        assert sorted(seen) == list(range(1, 9))
        await face.send(MInt1(3, 0))
        async for message in face:
            assert message.value == MInt1(3, 0)
            queue.unlink()
        queue.disown()

    with SysVMessageQueue.create(ns.key(), MInt1, max_bytes=16) as queue:
        anyio.run(main, queue, backend=backend)


def test_a_waiting_receiver_gets_the_struct(
    queue: SysVMessageQueue[MInt1], meanwhile: Callable[..., Any]
) -> None:
    for timeout, call in ((None, "msgrcv"), (10.0, "clock_nanosleep")):
        with meanwhile((call,), lambda: queue.send(MInt1(5, 2))):
            assert queue.receive(timeout=timeout) == Message(MInt1(5, 2), 5)


def test_decode_message(raw: SysVMessageQueue[bytes]) -> None:
    raw.send(b"\1\0\0\0....", 7)
    message = raw.receive()
    assert decode_message(message, MInt1) == MInt1(7, 1)
    assert decode_message(message, Int1) == Int1(1)
    with pytest.raises(LayoutMismatch, match="expected 10 bytes for Text, got 8") as caught:
        decode_message(message, Text)
    assert (caught.value.raw, caught.value.mtype) == (message.value, 7)
    for wrong in (Struct, int, bytes, 5):
        with pytest.raises(TypeError):
            decode_message(message, wrong)  # type: ignore[type-var, arg-type]


# -- the native calls ------------------------------------------------------------------------------


def test_a_form_checks_its_arguments() -> None:
    for args in ((), (MInt1,), (MInt1, True), (MInt1, True, 16, 0), (MInt1, True, "16")):
        with pytest.raises(TypeError):
            MessageForm(*args)  # type: ignore[arg-type]
    for cls in (None, int, 5, Struct):
        with pytest.raises(TypeError):
            MessageForm(cls, True, 16)  # type: ignore[arg-type] # noqa: FBT003
    for typed, end in ((True, 17), (True, 7), (True, -1), (False, 17), (False, -1), (True, 2**62)):
        with pytest.raises(ValueError, match="last field"):
            MessageForm(MInt1, typed, end)
    for end in (11, 13, 16):
        with pytest.raises(ValueError, match="last field"):
            MessageForm(MValues, True, end)  # noqa: FBT003
    form = MessageForm(MInt1, True, 12)  # noqa: FBT003
    assert (form.head, form.longest) == (8, 8)
    for wrong in ((), (5,), (5, "text"), (2**63, b""), ("5", b""), (5, b"", 1)):
        with pytest.raises((TypeError, ValueError)):
            form.decode(*wrong)  # type: ignore[arg-type]
    assert form.decode(5, bytearray(8)) == MInt1(5, 0)


def test_msgsnd_and_msgrcv_check_what_they_are_given(queue: SysVMessageQueue[MInt1]) -> None:
    for data in (b"", b"1234567"):
        with pytest.raises(ValueError, match="too short"):
            msgsnd(queue.id, None, data, 0)
    for form in (MInt1, 5, "form"):
        with pytest.raises(TypeError, match="MessageForm"):
            msgrcv(queue.id, 0, 0, 100, 0, form)  # type: ignore[arg-type]
    assert len(queue) == 0
