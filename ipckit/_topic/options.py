"""The keyword arguments of the methods that create a `Topic` or a `Subscription`."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ipckit._channel.options import HandleOptions, OpenOptions
from ipckit._core.arguments import int_argument
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from ipckit._topic.facts import FullPolicy


class AnonymousOptions(HandleOptions, total=False):
    """The keyword arguments of `Topic.anonymous`."""

    capacity: int | None
    history: int
    size: int | None


class CreateOptions(AnonymousOptions, total=False):
    """The keyword arguments of `Topic.create`."""

    mode: int


class OpenOrCreateOptions(CreateOptions, OpenOptions, total=False):
    """The keyword arguments of `Topic.open_or_create`."""

    timeout: float | None


def checked_number(name: str, number: int, first: int, last: int) -> int:
    """Check an integer argument and return it.

    Raises:
        TypeError: it is not an integer.
        InvalidArgument: it is not `first` to `last`.
    """
    if not first <= (found := int_argument(name, number)) <= last:
        message = f"{name} must be {first} to {last}, not {number}"
        raise InvalidArgument(message, errno=errno.EINVAL)
    return found


def check_full_policy(when_full: FullPolicy) -> None:
    """Check the argument `when_full`.

    Raises:
        InvalidArgument: it is not a policy.
    """
    given: object = when_full  # may be unhashable, or an array
    if not isinstance(given, str) or given not in {"wait", "drop_oldest"}:
        message = f'when_full must be "wait" or "drop_oldest", not {when_full!r}'
        raise InvalidArgument(message, errno=errno.EINVAL)
