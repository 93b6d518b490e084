"""``python -m ipckit`` and the command ``ipckit``.

Without the extra ``cli`` it says which packages to install.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Final, TextIO

_EXTRA: Final = ("click", "rich", "textual")


def _usable(stream: TextIO | None) -> TextIO:
    """Return a standard stream that can be written to, even if the caller closed it.

    The stream writes an escape for a character that the terminal's encoding lacks. If the caller
    closed its descriptor, /dev/null takes the number. Otherwise a file that is opened later would
    get the number, and the output.
    """
    if stream is None:
        # It stays open until the process ends.
        stream = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", closefd=False)
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:  # it is a text file, not the replacement of a test
        reconfigure(errors="backslashreplace")
    return stream


def main() -> int:
    """Run the command line and return the exit status.

    Raises:
        ModuleNotFoundError: a module of ipckit itself is missing.
    """
    # In this order, because a new descriptor gets the lowest free number.
    sys.stdin = sys.stdin or os.fdopen(os.open(os.devnull, os.O_RDONLY), closefd=False)
    sys.stdout = _usable(sys.stdout)
    sys.stderr = _usable(sys.stderr)
    try:
        from ipckit import cli  # noqa: PLC0415 - its dependencies may be missing
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in _EXTRA:
            raise
        sys.stderr.write(
            f"ipckit: the package {exc.name} is missing; run: pip install {' '.join(_EXTRA)}\n"
        )
        return 1
    # If the reader of the output closes the pipe, end silently, as other programs do.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    return cli.run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
