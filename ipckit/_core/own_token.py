"""The token of this process, by which the extension tells its objects from those of its parent."""

from __future__ import annotations

import ipckit._native as native
from ipckit._core import processes
from ipckit._core.forks import at_fork


def keep_own_token() -> None:
    """Give the extension the token, now and in each forked child.

    Each module calls it whose objects the extension tells apart by process. Without the token, a
    child would release the locks of its parent.
    """
    _set_own_token()
    at_fork("tokens", after_in_child=_set_own_token)


def _set_own_token() -> None:
    native.set_writer_token(processes.token())
