"""Python.h comes first wherever it is included, because it sets macros that system headers read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "native"
SOURCES = sorted(NATIVE.rglob("*.c"))
PURE = {"channel/core.c"}  # the translation units without Python.h
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)


def system_headers(file: Path, seen: set[Path] | None = None) -> list[str]:
    """The headers outside of native/ that a file includes, in order, also through native/'s own."""
    seen = set() if seen is None else seen
    seen.add(file)
    found: list[str] = []
    for own, system in INCLUDE.findall(file.read_text()):
        path = NATIVE / own
        if system:
            found.append(system)
        elif path not in seen:  # each has an include guard
            found += system_headers(path, seen)
    return found


def test_a_late_python_h_is_seen(tmp_path: Path) -> None:
    source = tmp_path / "late.c"
    source.write_text('#include "ring/clock.h"\n# include "native.h"\n')
    found = system_headers(source)
    assert "Python.h" in found
    assert found[0] != "Python.h"


def test_only_the_core_of_a_channel_has_no_python_h() -> None:
    without = {path for path in SOURCES if "Python.h" not in system_headers(path)}
    assert {str(path.relative_to(NATIVE)) for path in without} == PURE


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(NATIVE)))
def test_python_h_comes_first(source: Path) -> None:
    assert "Python.h" not in system_headers(source)[1:]
