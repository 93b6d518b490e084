"""One kind of deadline: seconds from now, on the monotonic clock."""

from __future__ import annotations

import errno
import math
import time
from typing import TYPE_CHECKING, Final, SupportsFloat

from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterator


def checked_timeout(timeout: float | None) -> float | None:
    """The timeout as a float, or None where it has no end.

    Args:
        timeout: seconds, 0 or more; None or infinity waits for ever.

    Raises:
        TypeError: not a number.
        InvalidArgument: negative, or not a number in the sense of IEEE 754.
    """
    if timeout is None:
        return None
    # Numbers first: asking after a protocol takes microseconds.
    if not isinstance(timeout, (float, int, SupportsFloat)):
        message = f"timeout is a number of seconds or None, not {type(timeout).__name__}"
        raise TypeError(message)
    try:
        seconds = float(timeout)
    except OverflowError:
        seconds = math.inf if timeout > 0 else -math.inf
    except ValueError:
        seconds = math.nan  # such as Decimal's signalling NaN
    if math.isnan(seconds) or seconds < 0:
        message = f"timeout is {timeout!r}; it takes 0 or more seconds, or None to wait for ever"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return None if math.isinf(seconds) else seconds


# For what the kernel tells nobody of: seconds between two looks, at first and at most.
_SHORTEST_PAUSE: Final = 20e-6
_LONGEST_PAUSE: Final = 1e-3


class Deadline:
    """A moment on the monotonic clock, or never.

    Args:
        timeout: seconds from now; None for never.
    """

    __slots__ = ("_at",)

    def __init__(self, timeout: float | None) -> None:
        seconds = checked_timeout(timeout)
        self._at = None if seconds is None else time.monotonic() + seconds

    @property
    def remaining(self) -> float | None:
        """Seconds that are left, never below 0; None where there is no end."""
        return None if self._at is None else max(0.0, self._at - time.monotonic())

    @property
    def expired(self) -> bool:
        """Whether the moment has passed."""
        return self._at is not None and time.monotonic() >= self._at

    def looks(self) -> Iterator[None]:
        """Time to look at something again and again, further and further apart, until the deadline.

        The first look is now, and one comes after the deadline has passed.
        """
        pause = _SHORTEST_PAUSE
        yield
        while not self.expired:
            remaining = self.remaining
            time.sleep(pause if remaining is None else min(pause, remaining))
            pause = min(pause * 2, _LONGEST_PAUSE)
            yield
