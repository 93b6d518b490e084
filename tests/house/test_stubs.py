"""The stub ipckit/_native.pyi agrees with the extension ipckit._native."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest


@pytest.mark.analysis
def test_the_stub_is_the_module() -> None:
    if importlib.util.find_spec("ipckit._native") is None:
        reason = "ipckit._native is not built: pip install -e ."
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "ipckit._native"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
