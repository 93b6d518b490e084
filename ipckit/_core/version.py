"""The version of ipckit: pyproject.toml takes it from here, and ``ipckit --version`` prints it."""

from __future__ import annotations

from typing import Final

# The metadata of the installed distribution take 20 ms to read, and a checkout has none.
VERSION: Final = "0.1.0"
