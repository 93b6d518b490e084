"""ipckit._core.deadline: which timeouts are valid, and how much time remains."""

from __future__ import annotations

import errno
import math
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipckit._core.deadline import Deadline, checked_timeout
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    """A clock that goes only when it is told."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("ipckit._core.deadline.time.monotonic", clock)
    return clock


@pytest.mark.parametrize("value", [0, 1, 0.0, -0.0, 2.5, True, Fraction(1, 2), Decimal("0.5")])
def test_a_number_of_seconds_stays(value: float) -> None:
    seconds = checked_timeout(value)
    assert isinstance(seconds, float)
    assert seconds == float(value)


def test_numpy_numbers_are_numbers() -> None:
    assert checked_timeout(np.float32(0.5)) == 0.5  # type: ignore[arg-type]
    assert checked_timeout(np.int64(2)) == 2.0  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [None, math.inf, 10**400, Decimal("Infinity"), Fraction(10**400)])
def test_none_waits_forever(value: float | None) -> None:
    assert checked_timeout(value) is None


@pytest.mark.parametrize("value", [-1, -1e-300, -math.inf, math.nan, -(10**400), Decimal("NaN")])
def test_out_of_range(value: float) -> None:
    with pytest.raises(InvalidArgument, match="0 or more seconds") as info:
        checked_timeout(value)
    assert info.value.errno == errno.EINVAL


@pytest.mark.parametrize("value", ["1", b"1", [1], object(), 1j, {}, lambda: 1])
@pytest.mark.parametrize("call", [checked_timeout, Deadline])
def test_not_a_number(value: float, call: Callable[[float], object]) -> None:
    with pytest.raises(TypeError, match=f"not {type(value).__name__}"):
        call(value)


@given(st.floats(min_value=0, allow_nan=False, allow_infinity=False))
def test_every_finite_number_from_zero_up_is_taken(value: float) -> None:
    assert checked_timeout(value) == value


@pytest.mark.parametrize("value", [None, math.inf])
def test_a_deadline_without_end_never_expires(value: float | None, clock: Clock) -> None:
    deadline = Deadline(value)
    clock.now += 1e12
    assert deadline.remaining is None
    assert not deadline.expired


def test_what_is_left_shrinks_to_nothing_and_no_further(clock: Clock) -> None:
    deadline = Deadline(2.5)
    assert (deadline.remaining, deadline.expired) == (2.5, False)
    clock.now += 2
    assert (deadline.remaining, deadline.expired) == (0.5, False)
    clock.now += 0.5
    assert (deadline.remaining, deadline.expired) == (0.0, True)
    clock.now += 100
    assert (deadline.remaining, deadline.expired) == (0.0, True)


@pytest.mark.usefixtures("clock")
def test_zero_has_passed_at_once() -> None:
    deadline = Deadline(0)
    assert (deadline.remaining, deadline.expired) == (0.0, True)


@pytest.mark.parametrize("value", [-1, math.nan])
def test_a_deadline_takes_no_wrong_timeout(value: float) -> None:
    with pytest.raises(InvalidArgument):
        Deadline(value)
