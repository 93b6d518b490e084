"""``ipckit top`` without a screen: one table, or one line of JSON, after each interval."""

from __future__ import annotations

import select
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import click

from ipckit._cli import words
from ipckit._cli.output import ascii_output, json_of, print_json, print_table, say
from ipckit._cli.top.columns import COLUMNS, arranged, cells
from ipckit._cli.top.model import Sampler, period
from ipckit._cli.top.status import counts, gauge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipckit._cli.top.columns import View
    from ipckit._cli.top.model import Row

_READER_GONE: Final = 141  # the status of a program that SIGPIPE ended


class _ReaderGone(Exception):  # noqa: N818 - not an error
    """No process reads the output any more."""


class _Reader:
    """The reader of standard output, which may be gone long before the next line is written."""

    def __init__(self) -> None:
        self._poll = select.poll()
        with suppress(OSError, ValueError):  # a test's output is no file
            self._poll.register(sys.stdout.fileno(), 0)

    def sleep(self, until: float) -> None:
        """Sleep until a time of the monotonic clock.

        Raises:
            _ReaderGone: the reader closed the pipe, or the terminal was closed.
        """
        while (left := until - time.monotonic()) > 0:
            if self._poll.poll(left * 1000):
                raise _ReaderGone


def _wait(sampler: Sampler, reader: _Reader, interval: float, until: float) -> list[Row]:
    """Sample until a time, and return the rows."""
    step = period(interval)
    while (now := time.monotonic()) + step < until:
        reader.sleep(now + step)
        sampler.sample()
    reader.sleep(until)
    return sampler.rows()


def once(interval: float, view: View, *, as_json: bool) -> None:
    """Print one table, or one JSON array, after the interval."""
    sampler = Sampler()
    try:
        rows = _wait(sampler, _Reader(), interval, time.monotonic() + interval)
    finally:
        sampler.close()
    shown = arranged(rows, view)
    if as_json:
        print_json([row.as_dict() for row in shown])
    else:
        _print_table(shown)


def _print_table(rows: Sequence[Row]) -> None:
    full = not sys.stdout.isatty()
    print_table(COLUMNS, (cells(row, full=full) for row in rows))


def watch(interval: float, view: View, count: int | None, *, as_json: bool) -> int:
    """Print a table, or a JSON array on one line, after each interval.

    Args:
        interval: seconds between two tables.
        view: which rows are shown, and in which order.
        count: how many tables to print; None to go on until Ctrl-C.
        as_json: print JSON.

    Returns:
        The exit status: 0, or that of a program whose reader closed the pipe.
    """
    sampler, reader = Sampler(), _Reader()
    due, printed = time.monotonic(), 0
    try:
        while count is None or printed < count:
            due = max(due + interval, time.monotonic())
            rows = _wait(sampler, reader, interval, due)
            shown = arranged(rows, view)
            if as_json:
                found = [row.as_dict() for row in shown]
                click.echo(json_of(found, ascii_only=ascii_output()))
            else:
                stamp = words.clock(time.time())
                parts = [
                    stamp,
                    counts(shown, rows),
                    *view.filters,
                    gauge(sampler.memory_use(), bar=0),
                ]
                if printed:
                    say("")
                say("  ".join(filter(None, parts)))
                _print_table(shown)
            sys.stdout.flush()
            printed += 1
    except (_ReaderGone, BrokenPipeError):
        return _READER_GONE
    finally:
        sampler.close()
    return 0
