"""Print the findings of `ipckit doctor` for people."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from typing import TYPE_CHECKING, Final

import click

from ipckit import inventory
from ipckit._cli import words
from ipckit._cli.doctor.model import EXAMPLES, SEVERITIES, some
from ipckit._cli.output import coloured, paint, say, width_of
from ipckit.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ipckit._cli.doctor.model import Finding

# ANSI codes: bold, in red, yellow and cyan.
_STYLES: Final = {"critical": "1;31", "warning": "1;33", "note": "1;36"}
_INDENT: Final = "    "
_LEAST_WIDTH: Final = 40
_WIDEST: Final = 100  # longer lines are hard to read


def summary(found: Sequence[Finding]) -> str:
    """Return how many findings there are: ``2 critical, 1 warning, 3 notes``."""
    counts = Counter(each.severity for each in found)
    parts = [
        f"{counts[each]} {each}{'s' if each != 'critical' and counts[each] > 1 else ''}"
        for each in SEVERITIES
        if counts[each]
    ]
    return ", ".join(parts) or "no problems found"


def wrapped(text: str, width: int, first: str = "", rest: str = "") -> Iterator[str]:
    """Yield a text in lines of a width, in cells of a terminal. A word is never cut in two.

    Args:
        text: the text, as `one_line` returns it.
        width: the width; 0 for one line of any width.
        first: what the first line begins with.
        rest: what the others begin with.
    """
    line, empty = first, True
    for word in text.split(" ") if width else [text]:
        if not empty and width_of(line) + 1 + width_of(word) > width:
            yield line.rstrip()
            line, empty = rest, True
        line += word if empty else f" {word}"
        empty = False
    yield line.rstrip()


def _body(finding: Finding, width: int) -> Iterator[str]:
    """Yield the lines about a finding. The cure is one line, so that it can be copied."""
    yield from wrapped(one_line(finding.what), width, _INDENT, _INDENT)
    shown = finding.evidence[:EXAMPLES]
    for each in shown:
        yield from wrapped(one_line(each), width, f"{_INDENT}- ", f"{_INDENT}  ")
    if len(finding.evidence) > len(shown):
        yield f"{_INDENT}- and {len(finding.evidence) - len(shown)} more"
    if finding.advice:
        yield from wrapped(one_line(finding.advice), width, _INDENT, _INDENT)
    if finding.cure:
        yield f"{_INDENT}cure: {one_line(finding.cure)}"


def _subject(finding: Finding) -> str:
    """Return the first subjects in one line. An address is one word, as `ls` shows it."""
    prefixes = inventory.PREFIXES.values()
    return some(
        [
            words.name(each) if each.partition(":")[0] in prefixes else one_line(each)
            for each in finding.subjects
        ]
    )


def _title(finding: Finding, width: int) -> Iterator[tuple[str, str]]:
    """Yield the lines of the title, each as the severity, in its style, and the rest."""
    severity = finding.severity
    text = f"{finding.check}  {_subject(finding)}"
    for number, line in enumerate(wrapped(text, width, f"{severity}  ", _INDENT)):
        at = len(severity) if number == 0 else 0
        yield line[:at], line[at:]


def report(found: Sequence[Finding]) -> None:
    """Print the findings: wrapped on a terminal, in full lines elsewhere."""
    width = 0
    if sys.stdout.isatty():
        width = max(_LEAST_WIDTH, min(shutil.get_terminal_size().columns, _WIDEST))
    colours = coloured()
    say(summary(found))
    for each in found:
        say("")
        for marked, rest in _title(each, width):
            # `rest` comes from `one_line`; `say` would escape the colour.
            click.echo(paint(marked, _STYLES[each.severity] if colours and marked else "") + rest)
        for text in _body(each, width):
            say(text)
