"""`make wheels` builds a wheel for each platform, and that of this machine passes tests."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import build_wheels
import pytest
from pythons import new_environment, pythons, run

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

FOLDERS = ["tests/msgq", "tests/sem", "tests/shm"]
# The other requirements of the tests are large, and other folders need them.
NEEDED = ("anyio", "click", "hypothesis", "libclang", "pytest", "rich", "textual", "trio")


def requirements(repository: Path, extra: str) -> list[str]:
    text = (repository / "pyproject.toml").read_text()
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    found: list[str] = extras[extra]
    return found


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what `make wheels` builds."""
    repository = Path(build_wheels.__file__).parents[1]
    out = tmp_path_factory.mktemp("wheels")
    python = new_environment(Path(sys.executable).resolve(), out / "env")
    run(python, "-m", "pip", "install", "--quiet", *requirements(repository, "wheels"), cwd=out)
    run(python, repository / "tools/build_wheels.py", "--out", out / "dist", cwd=out)
    return out / "dist"


def test_each_platform_gets_a_wheel(dist: Path) -> None:
    names = {path.name for path in dist.glob("*.whl")}
    assert len(names) == len(build_wheels.PLATFORMS)
    for each in build_wheels.PLATFORMS:
        assert any(name.endswith(f"-cp311-abi3-{each.tag}.whl") for name in names)


def test_the_wheel_of_this_machine_passes_tests(
    dist: Path, repository: Path, tmp_path: Path
) -> None:
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("this Python does not use glibc")
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (tree,) = tmp_path.glob("ipckit_linux-*/")
    shutil.rmtree(tree / "ipckit")  # the tests use the installed package
    (wheel,) = dist.glob(f"*-manylinux_*_{platform.machine()}.whl")
    every = [each for extra in ("test", "cli", "c") for each in requirements(repository, extra)]
    wanted = [each for each in every if each.startswith(NEEDED)]
    for version, python in sorted(pythons().items()):
        env = new_environment(python, tmp_path / version)
        run(env, "-m", "pip", "install", "--quiet", wheel, *wanted, cwd=tmp_path)
        run_tests(tree, env)


def run_tests(tree: Path, python: Path) -> None:
    """Run tests as in a new shell: without what pytest and make set for this run."""
    own = ("PYTEST_", "IPCKIT_", "PYTHONPATH")
    done = subprocess.run(
        ["sh", "tests/run.sh", "-q", "-m", "not soak", *FOLDERS],
        cwd=tree,
        env={
            **{name: text for name, text in os.environ.items() if not name.startswith(own)},
            "PYTHON": str(python),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
