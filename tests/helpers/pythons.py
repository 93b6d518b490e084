"""The Pythons of this machine, and new environments for them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path


def run(*command: str | Path, cwd: Path) -> str:
    """The standard output of a command that must succeed."""
    # Neither the working copy's environment nor its path: a user has neither.
    env = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "VIRTUAL_ENV", "PYTHON"}}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def pythons() -> dict[str, Path]:
    """An interpreter of each version from 3.11 on that this machine has, by version."""
    found = {"{}.{}".format(*sys.version_info): Path(sys.executable).resolve()}
    roots = [Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"]
    names = [f"python3.{minor}" for minor in range(11, 20)]
    candidates = [path for root in roots for path in sorted(root.glob("*/bin/python3.*"))]
    candidates += [Path(path) for name in names if (path := shutil.which(name))]
    ask = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    for path in candidates:
        if path.name not in names:
            continue
        # One of pyenv's stand-ins may stand for a version that is not chosen here.
        done = subprocess.run([path, "-c", ask], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            found.setdefault(done.stdout.strip(), path.resolve())
    return found


def new_environment(python: Path, where: Path) -> Path:
    """The interpreter of a fresh virtual environment."""
    run(python, "-m", "venv", where, cwd=where.parent)
    return where / "bin" / "python"
