"""The command line as a function: ``run(["ls", "--json"])`` is ``ipckit ls --json``.

`main` is the click group that has all commands, and `COMMANDS` their names with a summary of each.
"""

from ipckit._cli.main import COMMANDS, main, run

__all__ = [
    "COMMANDS",
    "main",
    "run",
]
