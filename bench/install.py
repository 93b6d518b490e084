"""Install the packages of the extra `bench`. A missing package costs only its own rows.

$ python bench/install.py
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parent.parent / "pyproject.toml"
PIP = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")


def main() -> None:
    """Install all packages at once; if that fails, install them one by one."""
    extras = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    peers = [each for each in extras["bench"] if not each.startswith("ipckit")]
    if subprocess.run([*PIP, *peers], check=False, capture_output=True).returncode == 0:
        return
    for peer in peers:
        if subprocess.run([*PIP, peer], check=False).returncode != 0:
            print(f"not installed, so its rows will be missing: {peer}", flush=True)


if __name__ == "__main__":
    main()
