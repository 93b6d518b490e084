"""The name of the distribution: no text tells users to install another project."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib import metadata
from typing import TYPE_CHECKING, cast

import pytest

import ipckit
from ipckit import cli
from ipckit._core.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

# `pip install ipckit` gets an unrelated project from the public index.
FOREIGN = re.compile(r"""pip3?\s+install\s[^\n`]*["']?\bipckit(?!-linux)\b|\bipckit\[[a-z]""")


def project(repository: Path) -> dict[str, object]:
    found: dict[str, object] = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    return found


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        *(("pip install 'ipckit[cli]'", True), ("pip install ipckit", True)),
        *(("pip install -U ipckit", True), ("see ipckit[c]", True)),
        *(("pip install '.[cli]'", False), ("pip install ipckit-linux", False)),
        *(("pip install libclang", False), ("ipckit-linux[test]", False)),
    ],
)
def test_a_wrong_hint_is_seen(text: str, *, wrong: bool) -> None:
    assert bool(FOREIGN.search(text)) is wrong


def test_nothing_says_to_install_another_project(repository: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=repository, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("no git checkout")
    own = {"tests/house/test_distribution.py", "CHANGELOG.md"}
    found = [
        f"{name}: {match[0]}"
        for name in listed.stdout.split("\0")
        if name and name not in own and (repository / name).is_file()
        for match in FOREIGN.finditer((repository / name).read_text(errors="replace"))
    ]
    assert found == []


def test_the_extras_name_this_project(repository: Path) -> None:
    name = project(repository)["name"]
    assert name == "ipckit-linux"
    extras = tomllib.loads((repository / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    own = [each for some in extras.values() for each in some if "ipckit" in each]
    assert own
    assert all(each.startswith(f"{name}[") for each in own)


def test_the_version_has_one_source(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "version" in cast("list[str]", project(repository)["dynamic"])
    tools = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]
    source = {"attr": "ipckit._core.version.__version__"}
    assert tools["setuptools"]["dynamic"]["version"] == source
    assert ipckit.__version__ == __version__
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"ipckit, version {__version__}\n"


def test_the_version_is_that_of_the_metadata() -> None:
    try:
        installed = metadata.version("ipckit-linux")
    except metadata.PackageNotFoundError:
        pytest.skip("ipckit is not installed here")
    assert ipckit.__version__ == installed
