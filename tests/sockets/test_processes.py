"""A listener's lock on its directory, and a fork while it is held."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ipckit import _unix_listener

if TYPE_CHECKING:
    from pathlib import Path


def test_a_child_that_is_forked_under_the_lock_does_not_keep_it(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with _unix_listener._locked(tmp_path / "socket") as locked:
        assert locked
        pid = os.fork()
        if pid == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
    with _unix_listener._locked(tmp_path / "socket") as again:
        assert again
    os.close(writer)
    os.close(reader)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
