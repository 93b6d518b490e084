"""Timeouts and deadlines, on the monotonic clock."""

from __future__ import annotations

import errno
import math
import time
from typing import TYPE_CHECKING, Final, SupportsFloat

from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator


def checked_timeout(timeout: float | None) -> float | None:
    """Check a timeout.

    Args:
        timeout: seconds, 0 or more; None or infinity waits for ever.

    Raises:
        TypeError: it is not a number.
        InvalidArgument: it is negative or NaN.

    Returns:
        The timeout as a float; None if it is infinite.
    """
    if timeout is None:
        return None
    # float and int come first, because the check for a protocol takes microseconds.
    if not isinstance(timeout, (float, int, SupportsFloat)):
        message = f"timeout must be a number of seconds or None, not {type(timeout).__name__}"
        raise TypeError(message)
    try:
        seconds = float(timeout)
    except OverflowError:
        seconds = math.inf if timeout > 0 else -math.inf
    except ValueError:
        seconds = math.nan  # such as Decimal's signalling NaN
    if math.isnan(seconds) or seconds < 0:
        message = f"timeout must be 0 or more seconds, or None to wait for ever, not {timeout!r}"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return None if math.isinf(seconds) else seconds


# The first and the longest pause between two polls of a condition, in seconds.
_SHORTEST_PAUSE: Final = 20e-6
_LONGEST_PAUSE: Final = 1e-3


class Deadline:
    """A moment on the monotonic clock, or never.

    Args:
        timeout: seconds from now; None for never.

    Attributes:
        waits: whether the timeout is not 0. A call that waits raises `Timeout`, also if the moment
            passes before its first attempt; another one raises `WouldBlock`.
    """

    __slots__ = ("_at", "waits")

    def __init__(self, timeout: float | None) -> None:
        seconds = checked_timeout(timeout)
        self.waits = seconds != 0
        self._at = None if seconds is None else time.monotonic() + seconds

    @property
    def remaining(self) -> float | None:
        """The seconds that remain, at least 0; None if the deadline is never."""
        return None if self._at is None else max(0.0, self._at - time.monotonic())

    @property
    def expired(self) -> bool:
        """Whether the moment has passed."""
        return self._at is not None and time.monotonic() >= self._at

    def looks(self) -> Iterator[None]:
        """Yield each time that a condition should be polled, at growing intervals.

        The first poll is now, and the last one is after the deadline.
        """
        pause = _SHORTEST_PAUSE
        yield
        while not self.expired:
            remaining = self.remaining
            time.sleep(pause if remaining is None else min(pause, remaining))
            pause = min(pause * 2, _LONGEST_PAUSE)
            yield
