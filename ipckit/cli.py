"""``ipckit``: what IPC objects exist, who holds them, what is in them, and what may go.

Each command lives in a module ``_cli_NAME`` of its own, as ``command``, and is loaded when it
is called for.
"""

from ipckit._cli.main import COMMANDS, main, run

__all__ = [
    "COMMANDS",
    "main",
    "run",
]
