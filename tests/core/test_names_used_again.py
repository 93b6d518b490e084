"""`unlink` removes the object of the handle, and never a later one that has its name."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import (
    Channel,
    MappedFile,
    NotFound,
    PosixMessageQueue,
    PosixSemaphore,
    PosixSharedMemory,
    Topic,
    listen,
)
from ipckit._sockets import listener as unix_listener

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ipckit.testing import Namespace

KINDS: dict[str, Callable[[str], Any]] = {
    "memory": lambda name: PosixSharedMemory.create(name, 100),
    "queue": lambda name: PosixMessageQueue.create(name, max_messages=1, max_size=10),
    "semaphore": PosixSemaphore.create,
    "channel": lambda name: Channel.create(name, capacity=2, size=1000),
    "topic": lambda name: Topic.create(name, capacity=2, size=1000),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_later_object_of_the_name_stays(ns: Namespace, kind: str) -> None:
    name, make = ns.name(), KINDS[kind]
    # `with` would take a semaphore, and remove what is left.
    with closing(make(name).disown()) as first:
        with closing(type(first).open(name)) as other:
            other.unlink()
        with closing(make(name).disown()) as second:
            with pytest.raises(NotFound, match="another object has its name"):
                first.unlink()
            first.unlink(missing_ok=True)
            second.unlink()


def test_a_later_file_of_the_path_stays(ns: Namespace) -> None:
    path = ns.path()
    with MappedFile.create(path, 100) as first:
        path.rename(ns.path())
        path.write_text("another")
        with pytest.raises(NotFound):
            first.unlink()
        first.unlink(missing_ok=True)
    assert path.read_text() == "another"


def test_a_link_through_which_a_file_was_opened_goes(ns: Namespace) -> None:
    path, link = ns.path(), ns.path()
    path.write_bytes(bytes(100))
    link.symlink_to(path)
    with MappedFile.open(link) as mapped:
        mapped.unlink()
    assert path.exists()
    assert not link.is_symlink()


def test_a_listener_changes_the_mode_of_no_other_file(
    ns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, victim = ns.path(".sock"), ns.path()
    victim.write_text("another user's")
    victim.chmod(0o640)
    file_at = unix_listener.file_at

    def swap(where: Path) -> Any:
        found = file_at(where)
        where.rename(ns.path())
        where.symlink_to(victim)
        return found

    monkeypatch.setattr(unix_listener, "file_at", swap)
    before = os.umask(0o777)  # so that the mode must be set
    try:
        with listen(path) as listener:
            listener.disown()
    finally:
        os.umask(before)
    assert victim.stat().st_mode & 0o777 == 0o640
    assert path.is_symlink()
