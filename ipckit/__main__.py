"""``python -m ipckit`` and the command ``ipckit``, which say if their extra is not installed."""

from __future__ import annotations

import os
import signal
import sys
from typing import Final, TextIO

_EXTRA: Final = ("click", "rich", "textual")


def _usable(stream: TextIO | None) -> TextIO:
    """A standard stream that works, also if the caller closed it.

    The stream writes an escape for a character that the terminal's encoding lacks. If the caller
    closed its descriptor, /dev/null takes the number: otherwise a file that is opened later gets
    the number, and the output.
    """
    if stream is None:
        stream = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:  # a test may put another object there
        reconfigure(errors="backslashreplace")
    return stream


def main() -> int:
    """Run the command line.

    Returns:
        The exit status.

    Raises:
        ModuleNotFoundError: a module of ipckit itself is missing.
    """
    # In this order, because a new descriptor gets the lowest number that is free.
    sys.stdin = sys.stdin or os.fdopen(os.open(os.devnull, os.O_RDONLY))
    sys.stdout = _usable(sys.stdout)
    sys.stderr = _usable(sys.stderr)
    try:
        from ipckit import cli  # noqa: PLC0415 - it may be missing what it stands on
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in _EXTRA:
            raise
        sys.stderr.write(f"ipckit: {exc.name} is missing; pip install {' '.join(_EXTRA)}\n")
        return 1
    # If the reader of a pipe exits, end as other programs do.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    return cli.run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
