"""An import of a checkout whose extension module was never built says how to build it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

MESSAGE = "ipckit's extension module is not built; run `make demo` or `pip install .`"


@pytest.fixture
def checkout(repository: Path, tmp_path: Path) -> Path:
    """The package as a fresh clone has it."""
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(repository / "ipckit", tmp_path / "ipckit", ignore=ignored)
    return tmp_path


def error_of_import(checkout: Path, module: str) -> str:
    """The last line that Python writes."""
    command = [sys.executable, "-ES", "-c", f"import {module}"]  # no package but this one
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stderr.splitlines()[-1]


@pytest.mark.usefixtures("exec_only")
@pytest.mark.parametrize("module", ["ipckit", "ipckit.msgq", "ipckit.cli"])
def test_a_checkout_without_the_extension_says_how_to_build_it(checkout: Path, module: str) -> None:
    assert error_of_import(checkout, module) == f"ImportError: {MESSAGE}"


@pytest.mark.usefixtures("exec_only")
def test_an_extension_that_fails_to_load_keeps_its_own_error(checkout: Path) -> None:
    broken = checkout / "ipckit/_native.abi3.so"
    broken.write_bytes(b"not a shared object")
    assert str(broken) in error_of_import(checkout, "ipckit")
