"""The status line of ``ipckit top``: counts, order, filters, and a gauge of /dev/shm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipckit._cli import words
from ipckit._cli.output import shortened, width_of
from ipckit._core.files import SHM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ipckit._cli.top.columns import View
    from ipckit._cli.top.model import Row

NEARLY_FULL: Final = 0.8  # `ipckit doctor` reports /dev/shm from here on
FULL: Final = 0.95
_BAR: Final = 10
_GAP: Final = 3
_LEAST: Final = 20


def gauge(use: tuple[int, int] | None, *, bar: int = _BAR) -> str:
    """Return how full /dev/shm is: ``/dev/shm [||        ] 12M of 64M, 19%``; "" if unknown."""
    if use is None:
        return ""
    used, size = use
    share = used / size
    # Anything in use is one mark, and all marks mean that it is full.
    marks = max(int(share * bar), 1 if used else 0)
    drawn = f"[{'|' * marks:<{bar}}] " if bar else ""
    return f"{SHM} {drawn}{words.human(used)} of {words.human(size)}, {share:.0%}"


def counts(shown: Sequence[Row], rows: Sequence[Row]) -> str:
    """Return how many objects there are, and how many are shown and waited on."""
    found = words.counted(len(rows), "object")
    if len(shown) != len(rows):
        found = f"{len(shown)} of {found}"
    waiters = sum(row.waiters or 0 for row in rows)
    return f"{found}, {words.counted(waiters, 'waiter')}" if waiters else found


def status(
    room: int,
    shown: Sequence[Row],
    rows: Sequence[Row],
    view: View,
    use: tuple[int, int] | None,
    *,
    paused: bool,
    error: str = "",
) -> tuple[str, str]:
    """Return the left and the right part of the status line.

    Args:
        room: the cells of the line.
        shown: the rows that are shown.
        rows: all rows.
        view: the order and the filters.
        use: the used bytes of /dev/shm, and its size.
        paused: nothing is refreshed.
        error: why the last refresh failed.
    """
    order = f"by {view.order}{', reversed' if view.reverse else ''}"
    parts = ["PAUSED"] if paused else []
    parts += [error] if error else []
    parts += [counts(shown, rows), *view.filters, order]
    left = "  ".join(parts)
    share = "" if use is None else f"{use[0] / use[1]:.0%}"
    for right in (gauge(use), gauge(use, bar=0), f"{SHM} {share}" if share else "", share):
        if width_of(left) + _GAP + width_of(right) <= room:
            return left, right
    return shortened(left, max(_LEAST, room - _GAP - width_of(share))), share
