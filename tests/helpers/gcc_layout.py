"""Compare the layout of a Struct class with gcc's."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

from ipckit._payload.c_types import BitField, Enumeration, Scalar

if TYPE_CHECKING:
    from pathlib import Path


def asserted(struct: Any, c_name: str = "") -> list[str]:
    """Statements that hold if gcc lays the struct out as ipckit does."""
    c_name = c_name or f"struct {struct.__name__}"
    facts = [(f"sizeof({c_name})", struct.size)]
    facts.append((f"_Alignof({c_name})", struct.alignment))
    for entry in struct.__plan__.entries:
        name, ctype = entry.name, entry.ctype
        member = f"(({c_name} *)0)->{name}"
        if isinstance(ctype, BitField):
            continue  # C can't say where it is; test_interop_structs.py compares its values
        facts.append((f"(unsigned long)&{member}", entry.bit // 8))
        if not ctype.flexible:
            facts.append((f"sizeof({member})", ctype.size))
        integer = ctype.integer if isinstance(ctype, Enumeration) else ctype
        if isinstance(integer, Scalar) and integer.code in "iu" and integer.size >= 4:
            facts.append((f"((__typeof__({member}))-1 > 0)", int(integer.code == "u")))
    return [f'_Static_assert({fact} == {value}, "{fact}");' for fact, value in facts]


def compile_all(sources: list[Path]) -> None:
    command = ["gcc", "-std=gnu17", "-w", "-fsyntax-only", *map(str, sources)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
