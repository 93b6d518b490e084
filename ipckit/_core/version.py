"""The version of ipckit. The build copies it from here into the metadata of the distribution."""

from __future__ import annotations

from typing import Final

# A constant, because the metadata take 20 ms to read, and a checkout that was never installed has
# none.
__version__: Final[str] = "0.1.0"
