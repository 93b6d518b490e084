"""Run the suites of the kernel mechanisms, beside other packages and the standard library."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from harness import HEADING
from machine import machine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

SUITES = ("msgq", "shm", "sem", "unixsock", "echo", "aio", "rpc", "pool")
_WAITING = ("msgq", "aio")


def run(suites: Sequence[str]) -> None:
    """Run some suites, print each row at once, and write bench/results/latest.json.

    Args:
        suites: names from SUITES.
    """
    print(HEADING, flush=True)
    rows: list[dict[str, object]] = []
    for suite in suites:
        for row in _module(suite).rows():
            print(row.text(), flush=True)
            rows.append(row.as_json())
    figures: dict[str, object] = {"machine": machine(), "rows": rows}
    if waiting := [suite for suite in suites if suite in _WAITING]:
        figures["waiting"] = _waiting(waiting)
    if "shm" in suites:
        figures["memory_kib"] = _memory()
    if "rpc" in suites:
        figures["calls_us"] = _calls()
    if "pool" in suites:
        figures["deaths_ms"] = _deaths()
    results = Path(__file__).parent / "results" / "latest.json"
    results.parent.mkdir(exist_ok=True)
    results.write_text(json.dumps(figures, indent=1) + "\n")


def _module(suite: str) -> ModuleType:
    """Return the module of a suite. The name `msgq` is that of a package, a peer of the topic."""
    return importlib.import_module("message_queues" if suite == "msgq" else suite)


def _waiting(suites: Sequence[str]) -> dict[str, float]:
    print("share of one core while idle:", flush=True)
    waits: dict[str, float] = {}
    for suite in suites:
        for what, share in _module(suite).waiting_costs():
            print(f"  {what:<34} {share:8.3%}", flush=True)
            waits[what] = share
    return waits


def _calls() -> dict[str, dict[str, float]]:
    print("calls of a service, in microseconds:", flush=True)
    found: dict[str, dict[str, float]] = {}
    for what, middle, high in importlib.import_module("rpc").latencies():
        print(f"  {what:<34} p50 {middle:>7.2f}, p99 {high:>7.2f}", flush=True)
        found[what] = {"p50": middle, "p99": high}
    return found


def _deaths() -> dict[str, dict[str, float]]:
    print("a killed worker of a pool, in milliseconds:", flush=True)
    found: dict[str, dict[str, float]] = {}
    for what, noticed, replaced in importlib.import_module("pool").deaths():
        print(f"  {what:<34} noticed {noticed:>7.2f}, replaced {replaced:>7.2f}", flush=True)
        found[what] = {"noticed": noticed, "replaced": replaced}
    return found


def _memory() -> dict[str, dict[str, int]]:
    print("growth of a second process's memory, in KiB:", flush=True)
    grown: dict[str, dict[str, int]] = {}
    for what, touched, resident, own in importlib.import_module("shm").memory_costs():
        print(f"  {what:<46} touched {touched:>6}, mapped {resident:>6}, own {own:>4}", flush=True)
        grown[what] = {"touched": touched, "mapped": resident, "own": own}
    return grown
