"""native/ring has atomics and system calls in machine.h alone, which the model replaces."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
# __atomic_always_lock_free is a question to the compiler.
DIRECT = re.compile(
    r"__atomic_(?!always_lock_free)\w+|__sync_\w+|\b_Atomic\b|\b(?:syscall|fcntl)\("
)


def test_only_one_header_has_atomics_and_system_calls(repository: Path) -> None:
    found = {
        header.name: DIRECT.findall(COMMENT.sub("", header.read_text()))
        for header in (repository / "native/ring").glob("*.h")
    }
    assert len(found.pop("machine.h")) > 10
    assert len(found) > 20
    assert {name: uses for name, uses in found.items() if uses} == {}
