"""The source distribution has each file that git has, and nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

BUILD = "from setuptools import build_meta; print(build_meta.build_sdist('dist'))"
# What setuptools writes: the metadata.
WRITTEN = re.compile(r"PKG-INFO|setup\.cfg|ipckit_linux\.egg-info/[\w.-]+")
UNWANTED = ("ipckit/_native.abi3.so", "tests/__pycache__/conftest.cpython-311.pyc", ".venv/pip")


@pytest.fixture
def tracked(repository: Path) -> set[str]:
    """The files that git has."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=repository, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("no git checkout")
    return {name for name in listed.stdout.split("\0") if name and (repository / name).is_file()}


def test_the_source_distribution_has_what_git_has(
    repository: Path, tracked: set[str], tmp_path: Path
) -> None:
    for name in [*tracked, *UNWANTED]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if name in tracked:
            shutil.copy(repository / name, tmp_path / name)
        else:
            (tmp_path / name).touch()
    done = subprocess.run(
        [sys.executable, "-c", BUILD], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (tmp_path / "dist").iterdir()
    with tarfile.open(built) as archive:
        found = {Path(*Path(each.name).parts[1:]).as_posix() for each in archive if each.isfile()}
    written = {name for name in found - tracked if WRITTEN.fullmatch(name)}
    assert "PKG-INFO" in written
    assert found - written == tracked
