"""Installing: from a clean clone, by pip, as one abi3 wheel for every Python at hand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pythons import new_environment, pythons, run

# Each builds a C extension and fetches numpy.
pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

SEND_AND_RECEIVE = """
import sys, ipckit
assert "site-packages" in ipckit.__file__, ipckit.__file__
class Stu(ipckit.Struct):
    name: ipckit.Char[32]
    age: ipckit.Int
for cls in (ipckit.SysVMessageQueue, ipckit.PosixMessageQueue):
    with cls.create(None, Stu) as queue:
        queue.send(Stu("amy", 20), timeout=0)
        assert queue.receive(timeout=0).value == Stu("amy", 20)
print("%d.%d" % sys.version_info[:2], "abi3" in ipckit._native.__file__)
"""


@pytest.fixture
def clone(repository: Path, tmp_path: Path) -> Path:
    """The last commit, as a stranger gets it."""
    run("git", "clone", "--quiet", "--local", repository, tmp_path / "clone", cwd=tmp_path)
    return tmp_path / "clone"


def test_pip_install_from_a_clean_clone(clone: Path, tmp_path: Path) -> None:
    python = new_environment(Path(sys.executable).resolve(), tmp_path / "env")
    run(python, "-m", "pip", "install", "--quiet", ".", cwd=clone)
    version = "{}.{}".format(*sys.version_info)
    assert run(python, "-W", "error", "-c", SEND_AND_RECEIVE, cwd=tmp_path).split() == [
        version,
        "True",
    ]
    # Not libclang, which is an extra, nor anything of the tests.
    listed = run(python, "-m", "pip", "list", "--format=freeze", cwd=tmp_path)
    names = {line.partition("==")[0].lower().replace("-", "_") for line in listed.split()}
    needed = {"ipckit_linux", "numpy", "sysv_ipc", "posix_ipc", "msgspec"}
    assert names <= {*needed, "pip", "setuptools"}
    assert "ipckit_linux" in names
    # The command is there, and names its extra's packages, which are on the public index.
    command = python.parent / "ipckit"
    done = subprocess.run([command, "ls"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert (
        done.stderr == "ipckit: the package click is missing; run: pip install click rich textual\n"
    )


def test_one_wheel_serves_every_python_at_hand(clone: Path, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    builder = new_environment(Path(sys.executable).resolve(), tmp_path / "build")
    run(builder, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", wheels, clone, cwd=tmp_path)
    (wheel,) = wheels.iterdir()
    assert re.fullmatch(r"ipckit_linux-[\d.]+-cp311-abi3-linux_\w+\.whl", wheel.name)
    served = []
    for version, python in sorted(pythons().items()):
        env = new_environment(python, tmp_path / f"env-{version}")
        run(env, "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path)
        told = run(env, "-W", "error", "-c", SEND_AND_RECEIVE, cwd=tmp_path)
        assert told.split() == [version, "True"]
        served.append(version)
    assert "{}.{}".format(*sys.version_info) in served


def test_make_demo_in_a_clean_clone(clone: Path) -> None:
    python = Path(sys.executable).resolve()
    shown = run("make", "demo", f"PYTHON={python}", cwd=clone)
    assert "COMMAND" in shown
    assert re.search(r"received (\d+) of \1 records", shown)
    # A second time it only runs.
    assert "received" in run("make", "demo", f"PYTHON={python}", cwd=clone)
    # What it made is not for git.
    assert run("git", "status", "--porcelain", cwd=clone) == ""


def test_an_environment_of_the_old_name_goes_on_working(clone: Path) -> None:
    """The distribution was called ipckit; its editable install and the new one share a command."""
    python = new_environment(Path(sys.executable).resolve(), clone / ".venv")
    project = clone / "pyproject.toml"
    now = project.read_text()
    project.write_text(
        re.sub(r'^name = "ipckit-linux"', 'name = "ipckit"', now, flags=re.MULTILINE)
    )
    run(python, "-m", "pip", "install", "--quiet", "--editable", ".[cli]", cwd=clone)
    project.write_text(now)
    shown = run("make", "demo", cwd=clone)
    assert re.search(r"received (\d+) of \1 records", shown)
    listed = run(python, "-m", "pip", "list", "--format=freeze", cwd=clone)
    assert re.findall(r"^ipckit[^= ]*", listed, re.MULTILINE) == ["ipckit-linux"]
    version = run(python.parent / "ipckit", "--version", cwd=clone)
    assert version.startswith("ipckit, version ")
