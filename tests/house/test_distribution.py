"""The distribution: its name, its version, and how setup.py builds the extension."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import sysconfig
import tomllib
from dataclasses import dataclass, field
from importlib import metadata
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import pytest

import ipckit
from ipckit import cli
from ipckit._core.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

# `pip install ipckit` gets an unrelated project from the public index.
FOREIGN = re.compile(r"""pip3?\s+install\s[^\n`]*["']?\bipckit(?!-linux)\b|\bipckit\[[a-z]""")


@dataclass
class Setup:
    """What setup.py passes to setuptools."""

    extension: dict[str, Any] = field(default_factory=dict)
    options: dict[str, dict[str, str]] = field(default_factory=dict)

    def note(self, ext_modules: list[dict[str, Any]], options: dict[str, dict[str, str]]) -> None:
        (self.extension,) = ext_modules
        self.options = options


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


def setup(repository: Path, monkeypatch: pytest.MonkeyPatch, *, free_threaded: bool) -> Setup:
    """Run setup.py as a Python of that kind would; its setuptools only notes what it is told."""
    found = Setup()
    setuptools = ModuleType("setuptools")
    vars(setuptools).update(setup=found.note, Extension=lambda name, **more: {"name": name, **more})
    monkeypatch.setitem(sys.modules, "setuptools", setuptools)
    monkeypatch.setattr(
        sysconfig, "get_config_var", {"Py_GIL_DISABLED": int(free_threaded)}.__getitem__
    )
    monkeypatch.chdir(repository)
    runpy.run_path("setup.py")
    return found


def test_the_checks_alone_make_warnings_errors(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IPCKIT_WERROR", raising=False)
    flags = setup(repository, monkeypatch, free_threaded=False).extension["extra_compile_args"]
    assert "-Wall" in flags
    assert "-Werror" not in flags
    monkeypatch.setenv("IPCKIT_WERROR", "1")
    flags = setup(repository, monkeypatch, free_threaded=False).extension["extra_compile_args"]
    assert "-Werror" in flags
    made = (repository / "Makefile").read_text()
    assert set(re.findall(r"(.*)\$\(PIP\) install --editable '\.\[(?:test|dev)\]'", made)) == {
        "\tIPCKIT_WERROR=1 "
    }


@pytest.mark.parametrize("free_threaded", [False, True])
def test_a_free_threaded_python_gets_no_limited_api(
    repository: Path, monkeypatch: pytest.MonkeyPatch, *, free_threaded: bool
) -> None:
    found = setup(repository, monkeypatch, free_threaded=free_threaded)
    macros = dict(found.extension["define_macros"])
    assert found.extension["py_limited_api"] is not free_threaded
    assert ("Py_LIMITED_API" in macros) is not free_threaded
    assert ("bdist_wheel" in found.options) is not free_threaded
    assert "native/module.c" in found.extension["sources"]


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
