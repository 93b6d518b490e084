"""Plot throughput and latency over the message size, one line for each peer, as SVG files.

$ python bench/channel/plots.py bench/results/channel.json docs
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# Imports are late: without matplotlib the bench does everything except the plots.
# ruff: noqa: PLC0415

THROUGHPUT, LATENCY = "channel-throughput.svg", "channel-latency.svg"
_GREY = "#7d8590"  # readable on white and on black
_OURS = "#e5534b"
_OTHERS = ("#4184e4", "#57ab5a", "#c69026", "#b083f0", "#39c5cf", "#768390")
_DASHES = ("-", "--", ":", "-.")
_SIZES = ((2**20, "MiB"), (2**10, "KiB"), (1, "B"))


def lines(
    results: Mapping[str, Any], section: str, place: str
) -> dict[str, tuple[list[int], list[float]]]:
    """Return each peer's sizes and medians in a section, for peers with more than one size."""
    found: dict[str, tuple[list[int], list[float]]] = {}
    for row in results["rows"]:
        if row["section"] != section:
            continue
        for cell in row["cells"]:
            if place in cell and cell["failure"] is None:
                sizes, values = found.setdefault(cell["name"], ([], []))
                sizes.append(row["size"])
                values.append(cell[place]["median"])
    return {name: line for name, line in found.items() if len(line[0]) > 1}


def place_of(results: Mapping[str, Any]) -> str:
    """Return the place with most kept repetitions: a plot shows one place."""
    kept = {"near": 0, "far": 0}
    for row in results["rows"]:
        for cell in row["cells"]:
            for place in kept:
                kept[place] += cell.get(place, {}).get("kept", 0)
    return max(kept, key=lambda place: kept[place])


def styles(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each peer's line style, the same in every plot; ipckit's lines stand out."""
    names = sorted({cell["name"] for row in results["rows"] for cell in row["cells"]})
    ours = [name for name in names if name.startswith("ipckit")]
    others = [name for name in names if not name.startswith("ipckit")]
    looks: dict[str, dict[str, Any]] = {}
    for at, name in enumerate(ours):
        dash = _DASHES[at % len(_DASHES)]
        looks[name] = {"color": _OURS, "linestyle": dash, "linewidth": 3, "zorder": 3}
    for at, name in enumerate(others):
        colour = _OTHERS[at % len(_OTHERS)]
        dash = _DASHES[at // len(_OTHERS) % len(_DASHES)]
        looks[name] = {"color": colour, "linestyle": dash, "linewidth": 1.4}
    return looks


def _by_their_ends(
    found: Mapping[str, tuple[list[int], list[float]]],
) -> list[tuple[str, tuple[list[int], list[float]]]]:
    """Sort the lines by their right ends, from the top, so that the legend matches them."""
    return sorted(found.items(), key=lambda one: (-one[1][0][-1], -one[1][1][-1]))


def _size(value: float, _: object = None) -> str:
    for unit, name in _SIZES:
        if value >= unit:
            return f"{value / unit:g} {name}"
    return ""


def _draw(
    results: Mapping[str, Any], section: str, title: str, unit: tuple[float, str], path: Path
) -> bool:
    import matplotlib as mpl
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter, NullLocator

    place = place_of(results)
    found = lines(results, section, place)
    if not found:
        return False
    style = {"svg.fonttype": "none", "svg.hashsalt": path.name, "font.size": 11}
    style |= dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), _GREY)
    with mpl.rc_context(style):
        figure, axes = plt.subplots(figsize=(9, 5))
        looks = styles(results)
        for name, (sizes, values) in _by_their_ends(found):
            axes.plot(sizes, [value / unit[0] for value in values], label=name, **looks[name])
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(sorted({size for sizes, _ in found.values() for size in sizes}))
        axes.xaxis.set_major_formatter(FuncFormatter(_size))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel("size of a message")
        axes.set_ylabel(unit[1])
        axes.set_title(f"{title}; cores {place} each other, Python {results['python']}", loc="left")
        axes.grid(color=_GREY, alpha=0.25, linewidth=0.6)
        for side in axes.spines.values():
            side.set_color(_GREY)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=10)
        figure.savefig(path, transparent=True, bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
    return True


def draw(results: Mapping[str, Any], directory: Path) -> list[Path]:
    """Write the plots for which there are figures.

    Args:
        results: the dict from `report`.
        directory: the directory for the files, whose names never change.

    Returns:
        The files written.

    Raises:
        ImportError: matplotlib is not installed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    plots = (
        ("one-way", "One way (more is better)", (1e3, "thousand messages a second"), THROUGHPUT),
        ("round-trip", "There and back (less is better)", (1e3, "microseconds, median"), LATENCY),
    )
    return [
        directory / name
        for section, title, unit, name in plots
        if _draw(results, section, title, unit, directory / name)
    ]


if __name__ == "__main__":
    for written in draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])):
        print(written)
