"""The printed tables: the goals, and every peer's figures, separately for near and far cores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from channel.repetitions import PLACES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from channel.measure import Cell
    from channel.repetitions import Summary
    from channel.sections import Row, Unit
    from channel.verdicts import Verdict

_STEPS = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


def figure(value: float, unit: Unit) -> str:
    """Format a figure with three digits and its unit."""
    if unit == "ns":
        for size, name in ((1e6, "ms"), (1e3, "us")):
            if value >= size:
                return f"{value / size:.3g} {name}"
        return f"{value:.3g} ns"
    name = "B/s" if unit == "bytes/s" else "/s"
    for size, prefix in _STEPS:
        if value >= size:
            digits = f"{value / size:.3g}" if value < 999.5 * size else f"{value / size:.0f}"
            return f"{digits} {prefix}{name}"
    return f"{value:.3g} {name}"


def spread(summary: Summary) -> str:
    """Format half the distance between the quartiles, in percent of the median."""
    if summary.median == 0:
        return ""
    return f"\u00b1{(summary.high - summary.low) / 2 / summary.median:.0%}"


def _figures(named: tuple[str, Summary] | None, unit: Unit) -> str:
    if named is None:
        return "-"
    return f"{figure(named[1].median, unit)} {spread(named[1])}"


GOAL_HEADING = (
    f"{'what':<40} {'ipckit':>17}   {'best peer':<26} {'':>17}   {'ratio':>6}  {'goal':>6}"
)


def goal_line(verdict: Verdict) -> str:
    """Format a goal as a line of the table."""
    unit = verdict.row.unit
    less = verdict.row.less_is_better
    ratio = "-" if verdict.ratio is None else f"{verdict.ratio:.2f}"
    said = {True: "reached", False: "MISSED", None: "not measured"}[verdict.reached]
    if verdict.ours is None:
        said = "no figure for ipckit"
    elif verdict.peer is None:
        said = "no figure for a peer"
    peer = "-" if verdict.peer is None else verdict.peer[0]
    sign = "<=" if less else ">="
    return (
        f"{verdict.goal.what:<40} {_figures(verdict.ours, unit):>17}   {peer:<26} "
        f"{_figures(verdict.peer, unit):>17}   {ratio:>6}  {sign}{verdict.goal.ratio:<4g}  {said}"
    )


def goals(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Yield the table of goals, with a part for each place."""
    for place in PLACES:
        there = [verdict for verdict in verdicts if verdict.place == place]
        if there:
            yield ""
            yield f"cores {place} each other"
            yield GOAL_HEADING
            yield from map(goal_line, there)


def row_lines(row: Row, cells: Sequence[Cell]) -> Iterator[str]:
    """Yield the figures of one row for each place, the best first; then the failures."""
    yield f"{row.what}"
    for place in PLACES:
        found = [(cell, cell.summaries[place]) for cell in cells if place in cell.summaries]
        found.sort(key=lambda one: one[1].median, reverse=not row.less_is_better)
        for cell, summary in found:
            yield f"  {place:<5} {_line(row, cell, summary)}"
    for cell in cells:
        if cell.failure is not None:
            yield f"  {cell.name:<34} failed: {cell.failure}"
        elif not cell.summaries:
            yield f"  {cell.name:<34} nothing kept: the cores moved, or were busy"


def _line(row: Row, cell: Cell, summary: Summary) -> str:
    kept = f"{summary.kept} kept, {cell.dropped} dropped"
    text = f"{cell.name:<34} {figure(summary.median, row.unit):>10} {spread(summary):>6}   {kept}"
    if row.unit == "messages/s" and row.size >= 1024:
        text += f"   {figure(summary.median * row.size, 'bytes/s')}"
    if cell.touched:
        text += f"   touches {cell.touched / 2**20:.1f} MiB"
    if cell.lost:
        text += f"   LOST up to {cell.lost:.2%}"
    if cell.disturbed:
        text += "   DISTURBED"
    if cell.fairness:
        middle = sorted(cell.fairness)[len(cell.fairness) // 2]
        text += f"   lowest rate / highest {middle:.2f}"
    return text


def missing_lines(missing: Mapping[str, str]) -> Iterator[str]:
    """Yield the missing peers, a line for each reason."""
    for reason in dict.fromkeys(missing.values()):
        names = "; ".join(name for name, why in missing.items() if why == reason)
        yield f"missing: {names}: {reason}"
