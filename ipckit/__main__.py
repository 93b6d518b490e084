"""``python -m ipckit`` and the command ``ipckit``, also where their extra is not installed."""

from __future__ import annotations

import signal
import sys
from typing import Final

_EXTRA: Final = frozenset({"click", "rich", "textual"})


def main() -> int:
    """Run the command line; gives the exit status.

    Raises:
        ModuleNotFoundError: ipckit itself is not whole.
    """
    try:
        from ipckit import cli  # noqa: PLC0415 - it may be missing what it stands on
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in _EXTRA:
            raise
        sys.stderr.write(f"ipckit: {exc.name} is missing; pip install 'ipckit[cli]'\n")
        return 1
    # Whoever reads this may have seen enough: end then as other programs in a pipe do.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    return cli.run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
