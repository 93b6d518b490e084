"""Both classes of message queue: how long calls wait, what wakes them, and their errors."""

from __future__ import annotations

import errno
import math
import pickle
import time
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ipckit import InvalidArgument, Timeout, WouldBlock

if TYPE_CHECKING:
    from collections.abc import Callable

    from queue_kinds import Kind


WRONG_TIMES = [-1, -0.001, -math.inf, math.nan, Decimal("sNaN"), -(10**400)]


@pytest.mark.parametrize("timeout", WRONG_TIMES, ids=[str(each)[:8] for each in WRONG_TIMES])
def test_timeouts_out_of_range(kind: Kind, timeout: Any) -> None:
    """Even if the call would not have to wait."""
    with kind.create(**kind.room(1, 8)) as queue:
        with pytest.raises(InvalidArgument, match="timeout"):
            queue.receive(timeout=timeout)
        with pytest.raises(InvalidArgument, match="timeout"):
            queue.send(b"8 bytes.", timeout=timeout)
        assert len(queue) == 0
        queue.send(b"8 bytes.")
        with pytest.raises(InvalidArgument, match="timeout"):
            queue.send(b"8 bytes.", timeout=timeout)
        with pytest.raises(InvalidArgument, match="timeout"):
            queue.receive(timeout=timeout)
        assert len(queue) == 1


@pytest.mark.parametrize("timeout", ["1", b"1", [1], object(), 1j])
def test_timeouts_of_a_wrong_type(queue: Any, timeout: Any) -> None:
    with pytest.raises(TypeError):
        queue.send(b"x", timeout=timeout)
    assert len(queue) == 0
    queue.send(b"x")
    with pytest.raises(TypeError):
        queue.receive(timeout=timeout)
    assert len(queue) == 1


@pytest.mark.parametrize("zero", [0, 0.0, -0.0, False, Decimal(0), Fraction(0), np.float32(0)])
def test_a_timeout_of_zero_would_block(kind: Kind, zero: Any) -> None:
    with kind.create(**kind.room(1, 8)) as queue:
        with pytest.raises(WouldBlock) as caught:
            queue.receive(timeout=zero)
        assert isinstance(caught.value, BlockingIOError)
        assert not isinstance(caught.value, TimeoutError)
        # Linux has one errno for a full and another for an empty System V queue.
        assert caught.value.errno == (errno.ENOMSG if kind.sysv else errno.EAGAIN)
        queue.send(b"8 bytes.", timeout=zero)
        with pytest.raises(WouldBlock, match="full") as caught:
            queue.send(b"8 bytes.", timeout=zero)
        assert caught.value.errno == errno.EAGAIN


@pytest.mark.parametrize(
    "timeout", [1e-300, 1e-9, 0.02, Decimal("0.02"), Fraction(1, 50), np.float64(0.02)]
)
def test_a_short_timeout_ends_no_sooner(kind: Kind, timeout: Any) -> None:
    with kind.create(**kind.room(1, 8)) as queue:
        started = time.monotonic()
        with pytest.raises(Timeout) as caught:
            queue.receive(timeout=timeout)
        assert time.monotonic() - started >= timeout
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.errno == errno.ETIMEDOUT
        assert "no message came" in str(caught.value)
        queue.send(b"8 bytes.")
        started = time.monotonic()
        with pytest.raises(Timeout, match="full"):
            queue.send(b"8 bytes.", timeout=timeout)
        assert time.monotonic() - started >= timeout
        assert len(queue) == 1


ENDLESS = [None, math.inf, 1e300, 10**400, 2**63, 9.3e9, Decimal("1e30")]


@pytest.mark.parametrize("timeout", ENDLESS, ids=[str(each)[:8] for each in ENDLESS])
def test_a_timeout_beyond_the_clock_waits_until_it_is_done(
    kind: Kind, timeout: Any, meanwhile: Callable[..., Any]
) -> None:
    every = ("msgrcv", "msgsnd", "clock_nanosleep", "mq_timedreceive", "mq_timedsend", "poll")
    with kind.create(**kind.room(1, 8)) as queue, kind.again(queue) as other:
        with meanwhile(every, lambda: other.send(b"came.   ")):
            assert queue.receive(timeout=timeout).value == b"came.   "
        queue.send(b"first...")
        with meanwhile(every, other.receive):
            queue.send(b"second..", timeout=timeout)
        assert other.receive(timeout=0).value == b"second.."


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_a_waiting_call_is_woken(
    kind: Kind, timeout: float | None, meanwhile: Callable[..., Any]
) -> None:
    with kind.create(**kind.room(1, 8)) as queue, kind.again(queue) as other:
        asleep = kind.sleeps_in(receive=True, timeout=timeout)
        with meanwhile(asleep, lambda: other.send(b"came.   ")):
            assert queue.receive(timeout=timeout).value == b"came.   "
        queue.send(b"first...")
        asleep = kind.sleeps_in(receive=False, timeout=timeout)
        with meanwhile(asleep, other.receive):
            queue.send(b"second..", timeout=timeout)
        assert other.receive(timeout=0).value == b"second.."


def test_exceptions_of_an_argument_are_not_translated(queue: Any) -> None:
    """Only errors of the kernel are."""

    class MyError(TimeoutError):
        pass

    class Odd:
        def __float__(self) -> float:
            raise MyError

        def __index__(self) -> int:
            raise MyError

    queue.send(b"x")
    with pytest.raises(MyError):
        queue.receive(timeout=Odd())
    with pytest.raises(MyError):
        queue.send(b"x", Odd())
    with pytest.raises(MyError):
        queue.send(b"x", Odd(), timeout=5)
    assert len(queue) == 1


def test_errors_name_the_call_and_the_queue_and_can_be_pickled(kind: Kind, queue: Any) -> None:
    with pytest.raises(WouldBlock) as caught:
        queue.receive(timeout=0)
    error = caught.value
    assert error.op == ("msgrcv" if kind.sysv else "mq_receive")
    assert (f"{queue.key:#010x}" if kind.sysv else queue.name) in error.target
    assert error.target in str(error)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(copy) is WouldBlock
    assert (str(copy), copy.errno, copy.op) == (str(error), error.errno, error.op)
