"""A finding of `ipckit doctor`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["problem", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem or note.

    Attributes:
        check: the name of the check, such as ``"dead-holder"``.
        subject: an object's address, a path, the name of a limit, or ``"pid 5"``.
        what: what is wrong.
        cure: a command, or what to do.
        level: ``"problem"``; or ``"note"``, for what could not be seen or may be intended.
    """

    check: str
    subject: str
    what: str
    cure: str
    level: Level = "problem"

    def as_dict(self) -> dict[str, Any]:
        """Return all fields as plain values, for JSON."""
        return asdict(self)
