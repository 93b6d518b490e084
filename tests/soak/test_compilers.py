"""Each installed compiler that ipckit supports compiles native/ without a warning.

The skipped tests name the compilers that are missing. gcc 13 and 14 and clang 17 and 18 are not in
Debian 12; they are in Debian 13.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sys
from pathlib import Path

import build_wheels
import pytest

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

SCRIPT = Path(__file__).with_name("compile.sh")
COMPILERS = [
    *(f"gcc-{version}" for version in range(12, 15)),
    *(f"clang-{version}" for version in range(14, 20)),
    *("aarch64-linux-gnu-gcc", "musl-gcc"),
]


def compile_all(*compiler: str) -> None:
    done = subprocess.run(
        [SCRIPT, *compiler],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-5000:]
    assert done.stdout == f"{shlex.join(compiler)}: ok\n"


@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_compiler_has_no_warning(compiler: str) -> None:
    compile_all(compiler)


@pytest.mark.parametrize("platform", build_wheels.PLATFORMS, ids=lambda each: each.tag)
def test_the_compiler_of_the_wheels_has_no_warning(platform: build_wheels.Platform) -> None:
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("ziglang: not installed; it is in the extra ipckit-linux[wheels]")
    compile_all(*build_wheels.zig(platform))
