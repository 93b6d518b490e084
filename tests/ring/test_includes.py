"""native/ring stands alone: no Python.h, and no header of the extension outside of it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from ipckit.testing import require

NATIVE = Path(__file__).parents[2] / "native"
HEADERS = sorted((NATIVE / "ring").glob("*.h"))
MODELS = {"sleep.pml"}  # of the protocol, for Spin
INCLUDE = re.compile(r"^[ \t]*#[ \t]*include\b[ \t]*(.*)", re.MULTILINE)
PYTHON = re.compile(r"Python\.h|structmember\.h|\bPy[A-Z_]")


def foreign(text: str) -> list[str]:
    """The includes of a file in native/ring that the rule forbids."""
    found = [match[1].strip() for match in INCLUDE.finditer(text)]
    return [each for each in found if not re.match(r'<(?!Python\.h|structmember)|"ring/', each)]


@pytest.mark.parametrize(
    "line",
    [
        *("#include <Python.h>", '#include "Python.h"', "# include <structmember.h>"),
        *('#include "native.h"', '#include "channel/channel.h"', '#include "../native.h"'),
    ],
)
def test_a_foreign_include_is_seen(line: str) -> None:
    assert foreign(f'#include "ring/ring.h"\n{line}\n#include <poll.h>\n') != []


def test_the_folder_holds_headers_and_models_only() -> None:
    assert len(HEADERS) >= 17
    assert {path.name for path in (NATIVE / "ring").iterdir()} - {
        path.name for path in HEADERS
    } == MODELS


@pytest.mark.parametrize("header", HEADERS, ids=lambda path: path.name)
def test_a_header_includes_only_the_system_and_native_ring(header: Path) -> None:
    text = header.read_text()
    assert foreign(text) == []
    code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    assert PYTHON.search(code) is None


@pytest.mark.parametrize("header", HEADERS, ids=lambda path: path.name)
def test_a_header_compiles_alone(header: Path, tmp_path: Path) -> None:
    require("cc", package="gcc")
    source = tmp_path / "alone.c"
    # Twice: it has an include guard.
    source.write_text(f'#include "ring/{header.name}"\n' * 2)
    # No warnings: some headers declare inline functions that a later header defines.
    done = subprocess.run(
        ["cc", "-std=c17", "-D_GNU_SOURCE", "-w", f"-I{NATIVE}", "-fsyntax-only", source],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_core_of_a_channel_knows_no_python() -> None:
    for name in ("core.h", "core.c"):
        text = (NATIVE / "channel" / name).read_text()
        code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
        assert set(foreign(text)) <= {'"channel/core.h"'}
        assert PYTHON.search(code) is None
