"""Print the findings of `ipckit doctor` for people."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Final

from ipckit._cli.doctor.model import EXAMPLES, SEVERITIES
from ipckit._cli.output import console, say
from ipckit.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ipckit._cli.doctor.model import Finding

_STYLES: Final = {"critical": "bold red", "warning": "bold yellow", "note": "bold cyan"}
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


def _cells(text: str) -> int:
    from rich.cells import cell_len  # noqa: PLC0415 - only needed on a terminal

    return cell_len(text)


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
        if not empty and _cells(line) + 1 + _cells(word) > width:
            yield line
            line, empty = rest, True
        line += word if empty else f" {word}"
        empty = False
    yield line


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


def _title(finding: Finding, width: int) -> Iterator[tuple[str, str]]:
    """Yield the lines of the title, each as the severity, in its style, and the rest."""
    severity = finding.severity
    text = f"{finding.check}  {one_line(finding.subject)}"
    for number, line in enumerate(wrapped(text, width, f"{severity}  ", _INDENT)):
        at = len(severity) if number == 0 else 0
        yield line[:at], line[at:]


def _to_terminal(found: Sequence[Finding]) -> None:
    from rich.text import Text  # noqa: PLC0415 - only needed on a terminal

    out = console()
    width = max(_LEAST_WIDTH, min(out.width, _WIDEST))
    out.print(Text(summary(found), style="bold"))
    for each in found:
        out.print()
        for marked, rest in _title(each, width):
            line = Text(marked, style=_STYLES[each.severity])
            out.print(line.append(rest, style="not bold default"), soft_wrap=True)
        for text in _body(each, width):
            out.print(Text(text), soft_wrap=True)


def _plain(found: Sequence[Finding], tell: Callable[[str], None]) -> None:
    tell(summary(found))
    for each in found:
        tell("")
        for marked, rest in _title(each, 0):
            tell(marked + rest)
        for text in _body(each, 0):
            tell(text)


def report(found: Sequence[Finding]) -> None:
    """Print the findings: wrapped on a terminal, in full lines elsewhere."""
    if sys.stdout.isatty():
        _to_terminal(found)
    else:
        _plain(found, say)
