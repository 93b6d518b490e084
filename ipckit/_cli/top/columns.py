"""The table of ``ipckit top``: its columns, its order, and which rows it shows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ipckit._cli import words
from ipckit._cli.output import Column, shortened
from ipckit.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ipckit._cli.top.model import Row
    from ipckit.inventory import Kind

_PLAIN: Final = 100_000  # a number from here on is shortened on a terminal
_UNITS: Final = ("k", "M", "G", "T")
_THOUSAND: Final = 1000
_EXACT: Final = 10  # a rate below it has one decimal
_NUMBER: Final = re.compile(r"(\d+)")
_PROCESSES: Final = 3  # shown on a terminal
_COMMAND: Final = 60  # the cells of a command line there


def number(value: float | None, *, full: bool = False) -> str:
    """Return a count or a rate: ``0``, ``0.2``, ``12``; on a terminal ``250k`` for 250,000."""
    if value is None:
        return ""
    if value < _EXACT and round(value, 1) != round(value):
        return f"{value:.1f}"
    if full or value < _PLAIN:
        return f"{value:.0f}"
    power = min(len(_UNITS), (len(f"{value:.0f}") - 1) // 3)
    short = value / _THOUSAND**power
    return (
        f"{short:.0f}{_UNITS[power - 1]}" if short >= _EXACT else f"{short:.1f}{_UNITS[power - 1]}"
    )


def _messages(row: Row, *, full: bool) -> str:
    if row.messages is None:
        return ""
    of = "" if row.capacity is None else f"/{number(row.capacity, full=full)}"
    return number(row.messages, full=full) + of


def _bytes(row: Row, *, full: bool) -> str:
    return number(row.bytes, full=True) if full or row.bytes is None else words.human(row.bytes)


def _state(row: Row) -> str:
    """Return the state of an object; "" if its holders were not looked for yet."""
    asked = row.item is None or row.item.reason or row.state != "unknown"
    return row.state if asked else ""


def _bridge(row: Row, *, full: bool) -> str:
    """Return where bridges lead, how many messages a second they carry, and what is on the way."""
    if not row.bridge:
        return ""
    rate = "" if row.bridge_rate is None else f", {number(row.bridge_rate, full=full)}/s"
    on_way = row.unacknowledged or 0
    return row.bridge + rate + (f", {number(on_way, full=full)} on the way" if on_way else "")


def who(row: Row, *, full: bool = True) -> str:
    """Return the processes that use an object: its peers, its holders, or else its last users.

    Args:
        row: the row.
        full: all of them with their whole command lines; otherwise the first, shortened.
    """
    item = row.item
    if item is None:
        return ""
    last = [each for each in item.users if each.alive]
    found = {each.pid: each.command for each in (item.peers or item.holders or last)}
    if full:
        return "; ".join(f"{pid} {command}".rstrip() for pid, command in found.items())
    shown = [
        f"{pid} {shortened(one_line(words.without_path(command)), _COMMAND)}".rstrip()
        for pid, command in list(found.items())[:_PROCESSES]
    ]
    return "; ".join(
        shown + ([f"{len(found) - len(shown)} more"] if len(found) > len(shown) else [])
    )


# A narrow terminal leaves out the columns with the highest `drop` first.
_CELLS: Final[dict[Column, Callable[[Row, bool], str]]] = {
    Column("OBJECT"): lambda row, _: words.name(row.address),
    Column("MESSAGES", right=True, drop=1): lambda row, full: _messages(row, full=full),
    Column("BYTES", right=True, drop=6): lambda row, full: _bytes(row, full=full),
    Column("IN/s", right=True, drop=2): lambda row, full: number(row.rate_in, full=full),
    Column("OUT/s", right=True, drop=3): lambda row, full: number(row.rate_out, full=full),
    Column("DROP/s", right=True, drop=4): lambda row, full: number(row.dropped or None, full=full),
    Column("WAITERS", right=True): lambda row, _: number(row.waiters, full=True),
    Column("PEERS", right=True, drop=5): lambda row, _: number(row.peers, full=True),
    Column("TAKEN", right=True, drop=7): lambda row, full: number(row.taken or None, full=full),
    Column("VALUES", drop=8, cuts=True): lambda row, _: row.values,
    Column("STATE", drop=9): lambda row, _: _state(row),
    Column("OWNER", drop=11): lambda row, _: row.owner,
    Column("KEY", drop=12): lambda row, _: row.key,
    Column("IN-BYTES/s", right=True, drop=13): lambda row, full: number(row.bytes_in, full=full),
    Column("OUT-BYTES/s", right=True, drop=14): lambda row, full: number(row.bytes_out, full=full),
    Column("LAST", right=True, drop=15): lambda row, _: str(row.last) if row.last else "",
    Column("BRIDGE", drop=10, cuts=True): lambda row, full: _bridge(row, full=full),
    Column("WHO", drop=10, cuts=True): lambda row, full: who(row, full=full),
}
COLUMNS: Final = tuple(_CELLS)


def cells(row: Row, *, full: bool = True) -> list[str]:
    """Return the cells of a row, in the order of `COLUMNS`.

    Args:
        row: the row.
        full: write large numbers in full, as for a pipe.
    """
    return [cell(row, full) for cell in _CELLS.values()]


# -- order and filters -----------------------------------------------------------------------------


def _value(value: float | None) -> float:
    return -1.0 if value is None else float(value)


def _natural(address: str) -> list[Any]:
    """Return a key by which q:9 comes before q:10."""
    return [int(part) if part.isdecimal() else part for part in _NUMBER.split(address)]


@dataclass(frozen=True, slots=True)
class Order:
    """An order of the rows.

    Attributes:
        key: the key to press.
        title: the column to click on.
        value: the value of a row to sort by. All but names sort in descending order.
    """

    key: str
    title: str
    value: Callable[[Row], Any]


ORDERS: Final[dict[str, Order]] = {
    "name": Order("n", "OBJECT", lambda row: _natural(row.address)),
    "messages": Order("m", "MESSAGES", lambda row: _value(row.messages)),
    "bytes": Order("b", "BYTES", lambda row: _value(row.bytes)),
    "rate": Order("r", "IN/s", lambda row: _value(row.rate_in) + _value(row.rate_out)),
    "dropped": Order("d", "DROP/s", lambda row: _value(row.dropped)),
    "waiters": Order("w", "WAITERS", lambda row: _value(row.waiters)),
    "peers": Order("a", "PEERS", lambda row: _value(row.peers)),
}

KIND_GROUPS: Final[dict[str, tuple[Kind, ...]]] = {
    "queues": ("sysv-queue", "posix-queue"),
    "segments": ("sysv-segment", "posix-segment"),
    "semaphores": ("sysv-semaphores", "posix-semaphore"),
    "channels": ("channel",),
    "topics": ("topic",),
    "memfds": ("memfd",),
    "sockets": ("socket",),
}


@dataclass(frozen=True, slots=True)
class View:
    """Which rows are shown, and in which order.

    Attributes:
        order: the order, of `ORDERS`.
        reverse: the other way round.
        wanted: show only rows that contain this text: in the address, the key, the owner, or the
            processes that use the object.
        kinds: show only these kinds; all if empty.
        waiting: show only objects on which something waits.
    """

    order: str = "messages"
    reverse: bool = False
    wanted: str = ""
    kinds: tuple[Kind, ...] = ()
    waiting: bool = False

    @property
    def kinds_name(self) -> str:
        """The kinds in a word or two; "" for all."""
        names = [name for name, kinds in KIND_GROUPS.items() if kinds == self.kinds]
        return names[0] if names else " ".join(self.kinds)

    @property
    def filters(self) -> list[str]:
        """The filters in words."""
        found = [f"only {self.kinds_name}"] if self.kinds else []
        found += ["only with waiters"] if self.waiting else []
        return found + ([f"filter {one_line(self.wanted)!r}"] if self.wanted else [])


def _shows(view: View, row: Row) -> bool:
    if (view.kinds and row.kind not in view.kinds) or (view.waiting and not row.waiters):
        return False
    # The screen shows the escaped form of a name, which a user then types.
    wanted = one_line(view.wanted).lower()
    text = f"{row.address} {row.key} {row.owner} {who(row)}" if wanted else ""
    return wanted in one_line(text).lower()


def arranged(rows: Iterable[Row], view: View) -> list[Row]:
    """Return the rows that a view shows, in its order."""
    shown = [row for row in rows if _shows(view, row)]
    descending = (view.order != "name") != view.reverse
    return sorted(shown, key=ORDERS[view.order].value, reverse=descending)
