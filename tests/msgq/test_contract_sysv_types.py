"""The types of System V messages: sending, selecting and peeking by a number or a class."""

from __future__ import annotations

import errno
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ipckit import (
    Char,
    Int,
    InvalidArgument,
    LayoutMismatch,
    MessageTooLong,
    Struct,
    SysVMessageQueue,
    WouldBlock,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Namespace


class Login(Struct):
    user: Char[16]


class Logout(Struct):
    user: Char[16]
    after: Int


class Admin(Login):
    """The same bytes under another name."""


LOGINS = {1: Login, 2: Logout, 2**63 - 1: str}


@pytest.fixture
def queue(sysv_queue: SysVMessageQueue[bytes]) -> SysVMessageQueue[bytes]:
    return sysv_queue


@pytest.fixture
def logins() -> Iterator[Any]:
    with SysVMessageQueue.create(None, LOGINS) as made:
        yield made


# -- message types ---------------------------------------------------------------------------------


NUMBERS = [1, 2, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**62, 2**63 - 1]


@pytest.mark.parametrize("number", NUMBERS)
def test_types_are_a_full_long(queue: SysVMessageQueue[bytes], number: int) -> None:
    for timeout in (None, 0, 5.0):
        queue.send(b"other", 3)
        queue.send(b"this", number, timeout=timeout)
        message = queue.receive(number, timeout=timeout)
        assert (message.mtype, message.value, message.priority) == (number, b"this", 0)
        assert queue.receive(number, exclude=True).mtype == 3


@pytest.mark.parametrize("number", [0, -1, 2**63, -(2**63), 2**64 + 1])
def test_types_out_of_range_send_nothing(queue: SysVMessageQueue[bytes], number: int) -> None:
    with pytest.raises(InvalidArgument, match=f"mtype must be 1 to {2**63 - 1}, not {number}"):
        queue.send(b"x", number)
    assert len(queue) == 0


@pytest.mark.parametrize("number", ["1", 1.0, b"1", [1]])
def test_types_that_are_not_numbers(queue: SysVMessageQueue[bytes], number: Any) -> None:
    with pytest.raises(TypeError):
        queue.send(b"x", number)
    with pytest.raises(TypeError):
        queue.receive(number, timeout=0)
    assert len(queue) == 0


def test_a_type_may_be_any_integer(queue: SysVMessageQueue[bytes]) -> None:
    class Kind(IntEnum):
        NEWS = 7

    queue.send(b"x", Kind.NEWS)
    queue.send(b"y", np.int64(7))  # type: ignore[arg-type]
    assert queue.receive(Kind.NEWS, timeout=0).mtype == 7
    assert queue.receive(-Kind.NEWS, timeout=0).mtype == 7


def test_the_default_type_is_1(queue: SysVMessageQueue[bytes]) -> None:
    queue.send(b"x")
    assert queue.receive().mtype == 1


# -- selecting -------------------------------------------------------------------------------------


@pytest.fixture
def mixed(queue: SysVMessageQueue[bytes]) -> SysVMessageQueue[bytes]:
    for number in (4, 3, 2, 3, 4, 9):
        queue.send(b"%d at %d" % (number, len(queue)), number)
    return queue


@pytest.mark.parametrize(
    ("select", "exclude", "found"),
    [
        (0, False, b"4 at 0"),
        (3, False, b"3 at 1"),
        (9, False, b"9 at 5"),
        (4, True, b"3 at 1"),
        (3, True, b"4 at 0"),
        (5, True, b"4 at 0"),
        (-2, False, b"2 at 2"),
        (-3, False, b"2 at 2"),  # the lowest type, not the first that fits
        (-(2**63), False, b"2 at 2"),
        (-(2**63) + 1, False, b"2 at 2"),
    ],
)
def test_select(
    mixed: SysVMessageQueue[bytes],
    select: int,
    exclude: bool,  # noqa: FBT001 - a column of the table
    found: bytes,
) -> None:
    assert mixed.receive(select, exclude=exclude, timeout=0).value == found
    assert len(mixed) == 5


@pytest.mark.parametrize("select", [1, 5, 2**63 - 1, -1])
def test_select_finds_nothing(mixed: SysVMessageQueue[bytes], select: int) -> None:
    with pytest.raises(WouldBlock, match=f"select={select}") as caught:
        mixed.receive(select, timeout=0)
    assert caught.value.errno == errno.ENOMSG
    assert len(mixed) == 6


def test_exclude_finds_nothing(queue: SysVMessageQueue[bytes]) -> None:
    queue.send(b"x", 3)
    with pytest.raises(WouldBlock):
        queue.receive(3, exclude=True, timeout=0)
    assert len(queue) == 1


@pytest.mark.parametrize("select", [2**63, -(2**63) - 1, 10**30])
def test_selects_out_of_range(queue: SysVMessageQueue[bytes], select: int) -> None:
    queue.send(b"x")
    for options in ({}, {"exclude": True}, {"truncate": True, "max_size": 3}):
        with pytest.raises(InvalidArgument, match="select"):
            queue.receive(select, timeout=0, **options)  # type: ignore[arg-type]
    assert len(queue) == 1


@pytest.mark.parametrize("select", [True, "1", 1.0, None, Login])
def test_selects_of_a_wrong_type(queue: SysVMessageQueue[bytes], select: Any) -> None:
    queue.send(b"x")
    with pytest.raises(TypeError):
        queue.receive(select, timeout=0)
    assert len(queue) == 1


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_a_waiting_receiver_takes_only_its_type(
    queue: SysVMessageQueue[bytes], timeout: float | None, meanwhile: Callable[..., Any]
) -> None:
    def act() -> None:
        queue.send(b"not for you", 1)
        queue.send(b"for you", 2)

    with meanwhile(("msgrcv", "clock_nanosleep"), act):
        assert queue.receive(2, timeout=timeout).value == b"for you"
    assert queue.receive(timeout=0).value == b"not for you"


# -- peeking and cutting ---------------------------------------------------------------------------


def test_peek_leaves_the_message(mixed: SysVMessageQueue[bytes]) -> None:
    assert [mixed.peek(index).mtype for index in range(6)] == [4, 3, 2, 3, 4, 9]
    assert mixed.peek().value == b"4 at 0"
    assert len(mixed) == 6
    assert mixed.stat().rtime == 0


@pytest.mark.parametrize("index", [6, 100, 2**63 - 1])
def test_peek_beyond_the_end(mixed: SysVMessageQueue[bytes], index: int) -> None:
    with pytest.raises(WouldBlock) as caught:
        mixed.peek(index)
    assert caught.value.errno == errno.ENOMSG


@pytest.mark.parametrize("index", [-1, 2**63, -(2**70)])
def test_peek_at_a_negative_index(queue: SysVMessageQueue[bytes], index: int) -> None:
    with pytest.raises(InvalidArgument):
        queue.peek(index)


@pytest.mark.parametrize("index", ["0", 0.0, None])
def test_peek_at_an_index_that_is_not_a_number(queue: SysVMessageQueue[bytes], index: Any) -> None:
    with pytest.raises(TypeError):
        queue.peek(index)


def test_peek_decodes(logins: Any) -> None:
    logins.send(Logout("amy", 5))
    assert logins.peek().value == Logout("amy", 5)
    with SysVMessageQueue.open(logins.key) as raw:
        raw.send(b"short", 1)
    with pytest.raises(LayoutMismatch):
        logins.peek(1)
    assert len(logins) == 2


@pytest.mark.parametrize(
    ("most", "value", "cut"),
    [(0, b"", True), (1, b"a", True), (5, b"abcde", True), (6, b"abcdef", False)],
)
@pytest.mark.parametrize("timeout", [None, 0, 5.0])
def test_truncate_cuts_and_sets_truncated(
    queue: SysVMessageQueue[bytes],
    most: int,
    value: bytes,
    cut: bool,  # noqa: FBT001 - a column of the table
    timeout: float | None,
) -> None:
    queue.send(b"abcdef", 7)
    message = queue.receive(truncate=True, max_size=most, timeout=timeout)
    assert (message.value, message.truncated, message.mtype) == (value, cut, 7)
    assert len(queue) == 0


def test_truncate_without_a_size_uses_the_payload_types(queue: SysVMessageQueue[bytes]) -> None:
    queue.send(b"x" * 8192)
    assert queue.receive(truncate=True).truncated is False
    with SysVMessageQueue.open(queue.key or 0, Login) as typed:
        queue.send(bytes(Login("amy")) + b"and more")
        message = typed.receive(truncate=True, timeout=0)
        assert (message.value, message.truncated) == (Login("amy"), True)
        queue.send(bytes(Login("bob")))
        message = typed.receive(truncate=True, timeout=0)
        assert (message.value, message.truncated) == (Login("bob"), False)


def test_a_struct_that_max_size_cuts_is_not_a_whole_one(queue: SysVMessageQueue[bytes]) -> None:
    """Receive reads one byte more than `max_size`; it must not complete the struct."""
    with SysVMessageQueue.open(queue.key or 0, Login) as typed:
        queue.send(bytes(Login("amy")) + b"and more", 5)
        with pytest.raises(LayoutMismatch, match="expected 16 bytes for Login, got 15") as caught:
            typed.receive(truncate=True, max_size=15, timeout=0)
        assert (caught.value.raw, caught.value.mtype) == (b"amy".ljust(15, b"\0"), 5)


@pytest.mark.parametrize("timeout", [0, None, 5.0])
def test_a_message_too_long_stays(queue: SysVMessageQueue[bytes], timeout: float | None) -> None:
    queue.send(b"abcdef")
    with pytest.raises(MessageTooLong, match="max_size") as caught:
        queue.receive(max_size=5, timeout=timeout)
    assert caught.value.errno == errno.E2BIG
    assert "truncate" in caught.value.hint
    assert queue.receive(max_size=6, timeout=timeout).value == b"abcdef"


def test_a_waiting_receiver_with_a_small_buffer_loses_nothing(
    queue: SysVMessageQueue[bytes], meanwhile: Callable[..., Any]
) -> None:
    """The kernel wakes such a receiver with E2BIG, and keeps the message."""
    with meanwhile(("msgrcv",), lambda: queue.send(b"abcdef")), pytest.raises(MessageTooLong):
        queue.receive(max_size=5)
    assert queue.receive(timeout=0).value == b"abcdef"


@pytest.mark.parametrize("size", [-1, 2**31, 2**62, 2**63, 10**30])
def test_sizes_out_of_range(queue: SysVMessageQueue[bytes], size: int) -> None:
    queue.send(b"x")
    for truncate in (False, True):
        with pytest.raises(InvalidArgument, match="max_size"):
            queue.receive(max_size=size, truncate=truncate, timeout=0)
    assert len(queue) == 1


@pytest.mark.parametrize("size", ["5", 5.0, [5]])
def test_sizes_of_a_wrong_type(queue: SysVMessageQueue[bytes], size: Any) -> None:
    queue.send(b"x")
    with pytest.raises(TypeError):
        queue.receive(max_size=size, timeout=0)
    assert len(queue) == 1


# -- mappings --------------------------------------------------------------------------------------


def test_a_value_is_sent_under_its_class_and_decoded_by_its_number(logins: Any) -> None:
    logins.send(Logout("amy", 5))
    logins.send(Login("bob"))
    logins.send("text")
    messages = logins.drain()
    assert [message.value for message in messages] == [Logout("amy", 5), Login("bob"), "text"]
    assert [message.mtype for message in messages] == [2, 1, 2**63 - 1]


def test_receive_selects_by_class(logins: Any) -> None:
    logins.send(Logout("amy", 5))
    logins.send(Login("bob"))
    assert logins.receive(Login, timeout=0).value == Login("bob")
    with pytest.raises(WouldBlock):
        logins.receive(Login, timeout=0)
    with pytest.raises(WouldBlock):
        logins.receive(Logout, exclude=True, timeout=0)
    assert logins.receive(Login, exclude=True, timeout=0).value == Logout("amy", 5)


def test_a_value_of_an_unknown_class_is_not_sent(logins: Any) -> None:
    for value in (b"bytes", 5, None, object()):
        with pytest.raises(TypeError, match="no message type accepts"):
            logins.send(value)
    assert len(logins) == 0


def test_an_unknown_class_selects_nothing(logins: Any) -> None:
    for wanted in (bytes, Struct, int):
        with pytest.raises(TypeError, match="no message type accepts"):
            logins.receive(wanted, timeout=0)


def test_a_subclass_is_sent_under_its_own_number_or_its_base_class() -> None:
    with SysVMessageQueue.create(None, {1: Login, 2: Admin}) as queue:
        queue.send(Admin("amy"))
        assert queue.receive(timeout=0).mtype == 2


def test_a_number_can_be_given(logins: Any) -> None:
    logins.send(Login("amy"), 1)
    assert logins.receive(1).value == Login("amy")
    with pytest.raises(TypeError, match="Login"):
        logins.send(Login("amy"), 2)
    for number in (3, 0, -1):
        with pytest.raises(InvalidArgument, match="the queue has no message type"):
            logins.send(Login("amy"), number)
    assert len(logins) == 0


def test_one_class_under_two_numbers_needs_a_number() -> None:
    with SysVMessageQueue.create(None, {1: str, 2: str}) as queue:
        with pytest.raises(TypeError, match="several message types"):
            queue.send("which?")
        with pytest.raises(TypeError, match="several message types"):
            queue.receive(str, timeout=0)
        queue.send("this one", 2)
        assert queue.receive(2, timeout=0).value == "this one"


def test_an_unknown_number_is_a_mismatch_with_its_bytes(logins: Any) -> None:
    with SysVMessageQueue.open(logins.key) as raw:
        raw.send(b"whatever", 77)
    with pytest.raises(LayoutMismatch, match="no payload type for message type 77") as caught:
        logins.receive(timeout=0)
    assert (caught.value.raw, caught.value.mtype) == (b"whatever", 77)
    assert "1: Login" in str(caught.value)


def test_truncate_on_a_queue_of_several_types_needs_a_size(logins: Any) -> None:
    logins.send("four")
    assert logins.receive(truncate=True).value == "four"
    logins.send("four")
    message = logins.receive(str, truncate=True, max_size=2)
    assert (message.value, message.truncated) == ("fo", True)


@pytest.mark.parametrize("numbers", [{0: str}, {-1: str}, {2**63: str}, {}])
def test_mappings_out_of_range(ns: Namespace, numbers: Any) -> None:
    key = ns.key()
    for verb in (SysVMessageQueue.create, SysVMessageQueue.open_or_create):
        with pytest.raises(InvalidArgument):
            verb(key, numbers)


@pytest.mark.parametrize("numbers", [{"1": str}, {True: str}, {1: int}, {1.0: str}, {1: {2: str}}])
def test_mappings_of_wrong_types(ns: Namespace, numbers: Any) -> None:
    key = ns.key()
    for verb in (SysVMessageQueue.create, SysVMessageQueue.open_or_create):
        with pytest.raises(TypeError):
            verb(key, numbers)
