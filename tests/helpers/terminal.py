"""Run ipckit in a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios


def on_terminal(
    environment: dict[str, str], *words: str, columns: int = 80, status: int | None = None
) -> bytes:
    """Return what a command writes to a terminal.

    Args:
        environment: variables, besides those of this process without NO_COLOR.
        words: the command line.
        columns: the width of the terminal.
        status: the exit status that is expected; None for any.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {name: text for name, text in os.environ.items() if name not in {"NO_COLOR", "COLUMNS"}}
    with subprocess.Popen(
        [sys.executable, "-m", "ipckit", *words],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**env, "TERM": "xterm-256color", **environment},
    ) as process:
        os.close(theirs)
        seen = b""
        try:
            while part := os.read(ours, 65536):
                seen += part
        except OSError:
            pass  # the other end is closed
    os.close(ours)
    assert status in {None, process.returncode}, seen
    return seen
