"""What the doctor finds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["problem", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is likely to bite.

    Attributes:
        check: what was looked for, such as ``"dead-holder"``.
        subject: where it is: an object's address, a path, a limit's name, ``"pid 5"``.
        what: what is wrong, in a sentence.
        cure: a command, or what to do.
        level: a problem, or a note: something that could not be seen, or that may be meant so.
    """

    check: str
    subject: str
    what: str
    cure: str
    level: Level = "problem"

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return asdict(self)
