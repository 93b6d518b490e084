"""The results as JSON: all data of the tables and plots."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from channel.measure import Cell
    from channel.repetitions import Summary
    from channel.sections import Row
    from channel.verdicts import Verdict

    Measured = Iterable[tuple[str, Row, Sequence[Cell]]]


def cell_as_json(cell: Cell) -> dict[str, Any]:
    """Return a cell as plain values for JSON."""
    made: dict[str, Any] = {
        "name": cell.name,
        "failure": cell.failure,
        "dropped": cell.dropped,
        "disturbed": cell.disturbed,
        **{place: asdict(summary) for place, summary in cell.summaries.items()},
    }
    if cell.touched is not None:
        made["touched"] = cell.touched
    if cell.lost:
        made["lost"] = cell.lost
    if cell.fairness:
        made["fairness"] = sorted(cell.fairness)[len(cell.fairness) // 2]
    return made


def _figure(named: tuple[str, Summary] | None) -> dict[str, Any] | None:
    return None if named is None else {"name": named[0], **asdict(named[1])}


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "what": verdict.goal.what,
        "place": verdict.place,
        "unit": verdict.row.unit,
        "ours": _figure(verdict.ours),
        "peer": _figure(verdict.peer),
        "ratio": verdict.ratio,
        "goal": verdict.goal.ratio,
        "at_most": verdict.row.less_is_better,
        "reached": verdict.reached,
    }


def report(
    header: Mapping[str, Any], measured: Measured, verdicts: Iterable[Verdict]
) -> dict[str, Any]:
    """Return all results as plain values for JSON.

    Args:
        header: the machine, the mode, the versions, and the missing peers.
        measured: each row with the key of its section, and its cells.
        verdicts: the goals.
    """
    rows = [
        {
            "section": key,
            "what": row.what,
            "size": row.size,
            "unit": row.unit,
            "cells": [cell_as_json(cell) for cell in cells],
        }
        for key, row, cells in measured
    ]
    return {**header, "rows": rows, "goals": [_verdict(verdict) for verdict in verdicts]}
