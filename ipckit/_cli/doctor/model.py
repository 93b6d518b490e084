"""A finding of `ipckit doctor`, and the words that findings share."""

from __future__ import annotations

from dataclasses import dataclass, fields
from shlex import quote
from typing import TYPE_CHECKING, Any, Final, Literal

from ipckit.errors import one_line
from ipckit.inventory import Peer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ipckit.inventory import Process

Severity = Literal["critical", "warning", "note"]
SEVERITIES: Final[tuple[Severity, ...]] = ("critical", "warning", "note")
EXAMPLES: Final = 3
# sudo has another PATH, which may lack the command.
AS_ROOT: Final = 'sudo "$(command -v ipckit)" doctor'
_COMMAND_SHOWN: Final = 40


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem or note.

    Attributes:
        check: the name of the check, such as ``"dead-holder"``.
        subjects: what it is about: addresses of objects, paths, names of limits, ``"pid 5"``.
        what: what is wrong, in one sentence.
        cure: one command for a shell; "" if no command helps.
        severity: ``"critical"``: processes are blocked without end, or calls fail now.
            ``"warning"``: this is near, or it lasts long. ``"note"``: it may be intended, or
            `doctor` could not see something.
        evidence: facts that show it, one sentence or phrase each.
        advice: what to know before the cure is used, or what else helps; "" if nothing.
        cures: the commands for all that a group contains.
        pids: the processes that it blocks.
        waits_for: the processes that could end the wait of `pids`.
    """

    check: str
    subjects: tuple[str, ...]
    what: str
    cure: str
    severity: Severity
    evidence: tuple[str, ...] = ()
    advice: str = ""
    cures: tuple[str, ...] = ()
    pids: tuple[int, ...] = ()
    waits_for: tuple[int, ...] = ()

    @property
    def subject(self) -> str:
        """The first subjects, in one line."""
        return some(self.subjects)

    @property
    def level(self) -> str:
        """``"problem"`` or ``"note"``; releases before the severities knew only these."""
        return "note" if self.severity == "note" else "problem"

    def as_dict(self) -> dict[str, Any]:
        """Return all fields as plain values, for JSON."""
        first = ("check", "subject", "what", "cure", "level")
        found = {name: getattr(self, name) for name in first}
        found |= {each.name: getattr(self, each.name) for each in fields(self)}
        return {**found, "count": len(self.subjects), "cures": self.cures or (self.cure,)}


def some(texts: Sequence[str], most: int = EXAMPLES) -> str:
    """Return the first of some texts: ``a, b, c and 42 more``."""
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def shell(text: str) -> str:
    """Return an address for a command that a user copies to a shell.

    Other users choose names. The commands accept the escaped form of a name, which has no line end
    and survives a terminal.
    """
    return quote(one_line(text))


def named(process: Process | Peer) -> str:
    """Return a process for a sentence: ``pid 5 (python worker.py)``."""
    program, blank, arguments = process.command.partition(" ")
    command = program.rpartition("/")[2] + blank + arguments
    if len(command) > _COMMAND_SHOWN:
        command = f"{command[: _COMMAND_SHOWN - 3]}..."
    if not command and isinstance(process, Peer):
        command = "not visible here"
    return f"pid {process.pid} ({command})" if command else f"pid {process.pid}"


def all_named(processes: Iterable[Process | Peer]) -> str:
    """Return some processes for a sentence: ``pid 5 (a), pid 6 (b) and 3 more``."""
    return some(list(dict.fromkeys(map(named, processes))))


def ago(seconds: float) -> str:
    """Return how long a wait lasts: ``12 s``, ``5 min``, ``3 h``, ``2 days``."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size * 2:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else "less than 1 s"
