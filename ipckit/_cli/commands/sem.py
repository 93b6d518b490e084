"""``ipckit sem``: change the value of a semaphore, or wait for it."""

from __future__ import annotations

from typing import Final

import click

import ipckit._native as native
from ipckit._cli.options import Seconds, chosen, object_argument, usage
from ipckit._cli.output import say
from ipckit._cli.words import counted
from ipckit._core.deadline import Deadline
from ipckit.errors import AccessDenied, Timeout, WouldBlock
from ipckit.sem import PosixSemaphore, SysVSemaphoreSet

_EXAMPLES: Final = """\b
Examples:
  ipckit sem post sem:/gate          add 1
  ipckit sem post sem:/gate 3        add 3
  ipckit sem take s:5 0 --timeout 2  take 1 of the first semaphore of a set
  ipckit sem take s:5 0 4            take 4 of it at once
  ipckit sem set s:5 1 7             the second semaphore
  ipckit sem set s:5 1,0,3           all of a set at once
"""
_MOST_DIGITS: Final = 20  # Python converts no more than 4300


def _wrong(message: str) -> click.UsageError:
    return click.UsageError(message, click.get_current_context())


def _number(word: str, what: str) -> int:
    if not (word.isascii() and word.isdecimal() and len(word) <= _MOST_DIGITS):
        message = f"{what} is {word!r}; it must be a number, 0 or more"
        raise _wrong(message)
    return int(word)


def _amount(words: tuple[str, ...]) -> int:
    """Return by how much a semaphore changes, which is 1 without a number."""
    if len(words) > 1:
        message = f"too many numbers: {' '.join(words)}"
        raise _wrong(message)
    amount = _number(words[0], "N") if words else 1
    if amount == 0:
        message = "N is 0; it must be 1 or more"
        raise _wrong(message)
    return amount


def _value(words: tuple[str, ...]) -> int:
    """Return the new value of one semaphore of a set."""
    if len(words) != 1:
        message = "give INDEX VALUE, or all values of the set with commas: 1,0,3"
        raise _wrong(message)
    return _number(words[0], "VALUE")


def _place(found: SysVSemaphoreSet, words: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
    """Return the index of a semaphore in a set, and the words after it."""
    if not words:
        if len(found) > 1:
            message = f"the set has {len(found)} semaphores; say which: an INDEX from 0"
            raise _wrong(message)
        return 0, ()
    index = _number(words[0], "INDEX")
    if index >= len(found):
        message = f"INDEX is {index}; the set has the semaphores 0 to {len(found) - 1}"
        raise _wrong(message)
    return index, words[1:]


def _too_low(amount: int, timeout: float | None) -> click.ClickException:
    waited = f"waited {timeout:g} s; " if timeout else ""
    message = f"the value is below {amount}; {waited}nothing was taken"
    return click.ClickException(message)


def _take_each(semaphore: PosixSemaphore, amount: int, timeout: float | None) -> None:
    """Take a POSIX semaphore several times; post what was taken if not all of it can be had."""
    deadline = Deadline(timeout)
    taken = 0
    try:
        while taken < amount:
            semaphore.acquire(timeout=deadline.remaining)
            taken += 1
    except BaseException:  # also Ctrl-C
        for _ in range(taken):
            semaphore.release()
        raise


def _bring_to(semaphore: PosixSemaphore, value: int) -> None:
    """Post or take until the value is reached. Linux has no call for it."""
    if value > native.SEM_VALUE_MAX:
        message = f"VALUE is {value}; the highest is {native.SEM_VALUE_MAX}"
        raise _wrong(message)
    change = value - semaphore.value
    for _ in range(change):
        semaphore.release()
    for _ in range(-change):
        try:
            semaphore.acquire(timeout=0)
        except WouldBlock:  # another process takes too
            break


def _change_posix(
    name: str, action: str, words: tuple[str, ...], timeout: float | None
) -> list[int]:
    """Change a POSIX semaphore; return its value."""
    with PosixSemaphore.open(name).lifetime() as semaphore:
        if action == "set":
            if len(words) != 1:
                message = "a POSIX semaphore has one value; usage: ipckit sem set OBJECT VALUE"
                raise _wrong(message)
            _bring_to(semaphore, _number(words[0], "VALUE"))
        elif action == "take":
            amount = _amount(words)
            try:
                _take_each(semaphore, amount, timeout)
            except (Timeout, WouldBlock):
                raise _too_low(amount, timeout) from None
        else:
            for _ in range(_amount(words)):
                semaphore.release()
        return [semaphore.value]


def _change_set(
    ident: int, action: str, words: tuple[str, ...], timeout: float | None
) -> list[int] | None:
    """Change a System V set; return the values to print, None if they can't be read."""
    with SysVSemaphoreSet.from_id(ident) as found:
        if action == "set" and len(words) < len(("INDEX", "VALUE")):
            values = [_number(each, "a value") for word in words for each in word.split(",")]
            if len(values) != len(found):
                count = counted(len(found), "semaphore")
                message = f"the set has {count}; give INDEX VALUE, or all values: 1,0,3"
                raise _wrong(message)
            found.values = values
            changed = range(len(found))
        else:
            index, rest = _place(found, words)
            changed = range(index, index + 1)
            if action == "set":
                found[index].value = _value(rest)
            elif action == "take":
                amount = _amount(rest)
                try:
                    found[index].acquire(amount, timeout=timeout)
                except (Timeout, WouldBlock):
                    raise _too_low(amount, timeout) from None
            else:
                found[index].release(_amount(rest))
        try:
            return [found[index].value for index in changed]
        except AccessDenied:  # write permission is enough for the change
            return None


@click.command(epilog=_EXAMPLES)
@click.argument("action", type=click.Choice(["post", "take", "set"]), metavar="post|take|set")
@object_argument("sysv-semaphores", "posix-semaphore")
@click.argument("numbers", nargs=-1, metavar="[INDEX] [N]")
@click.option(
    "--timeout",
    type=Seconds(min=0),
    metavar="SECONDS",
    help="How long take waits; by default forever. Then the exit status is 1.",
)
def command(action: str, text: str, numbers: tuple[str, ...], *, timeout: float | None) -> None:
    """Post to a semaphore, take from it or set it, and print its new value.

    post adds N, by default 1. take subtracts N, by default 1, and waits until the value is at least
    N. set takes the new value, or all values of a set with commas. INDEX is the semaphore of a
    System V set, from 0; it can be left out if the set has only one.

    The change stays when the command ends. For a System V set each change is one step, and set
    clears the undo counts of all processes. For a POSIX semaphore, N above 1 and set are several
    steps, between which other processes can change the value too.
    """
    if timeout is not None and action != "take":
        message = "--timeout is for take; post and set do not wait"
        raise _wrong(message)
    found = chosen(text, ("sysv-semaphores", "posix-semaphore"))
    with usage():
        if found.kind == "posix-semaphore":
            values: list[int] | None = _change_posix(found.name, action, numbers, timeout)
        else:
            values = _change_set(found.id, action, numbers, timeout)
    if values is None:
        say("ipckit: done; the new value can't be read: permission denied", error=True)
    else:
        say(" ".join(map(str, values)))
