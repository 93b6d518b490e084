"""Which files of /dev/shm are recognized as IPC objects, and which are a person's data."""

from __future__ import annotations

import os
import shutil
import struct
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from ipckit import PosixSemaphore, inventory
from ipckit._core.creator_mark import is_marked, mark
from ipckit._inventory.model import IpcObject, Process
from ipckit._inventory.recognize import is_object
from ipckit.errors import InvalidArgument

if TYPE_CHECKING:
    from pathlib import Path

    from ipckit.testing import Namespace

SEM = struct.pack("=IIII16x", 3, 0, 128, 0)
CHANNEL = b"\0IPCHNL1" + bytes(56)
TOPIC = b"\0IPTOPC1" + bytes(56)


def known(tmp_path: Path, name: str, content: bytes) -> bool:
    path = tmp_path / name
    path.write_bytes(content)
    fd = os.open(path, os.O_RDONLY)
    try:
        return is_object(name, fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ipckit.frames", CHANNEL),
        ("ipckit.frames", CHANNEL.replace(b"1", b"2")),
        ("ipckit-topic.frames", TOPIC),
        ("ipckit-topic.frames", TOPIC.replace(b"1", b"2")),
        ("ipckit-0123456789abcdef", b"x"),
        ("ipckit-test-17-0123456789ab", b""),
        ("psm_0a1b2c3d", b"any"),
        ("torch_4711_3141592653_0", b"any"),
        ("sem.mp-ab_c1d2e", SEM),
        ("sem.loky-4711-x8a", SEM),
        ("sem.anything", struct.pack("=IIII16x", 0x7FFFFFFF, 2, 128, 0)),
        ("PostgreSQL.1804289383", struct.pack("=III", 0x9A503D32, 0, 64) + bytes(100)),
        ("PostgreSQL.121714832", struct.pack("=IIQQ", 0x0CE26609, 0, 0xFF, 4096) + bytes(4072)),
    ],
)
def test_an_object_of_ipc(tmp_path: Path, name: str, content: bytes) -> None:
    assert known(tmp_path, name, content)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("results.csv", b"a,b\n1,2\n"),
        ("model.npy", b"\x93NUMPY"),
        ("my-lockfile", b""),
        ("pip-build.tar.gz", b"\x1f\x8b"),
        ("ipckit.toml", b"[ipckit]\n"),
        ("ipckit.", b""),
        ("ipckit.notes", b"\0IPC"),
        ("ipckit-notes", b""),
        ("ipckit-topic.notes", b"\0IPT"),
        ("ipckit-topic.frames", CHANNEL),
        ("ipckit.frames", TOPIC),
        ("ipckit-0123456789abcdef.bak", b""),
        ("psm_results", b""),
        ("psm_0a1b2c3d.csv", b""),
        ("torch_1_2", b"x"),
        ("torch_weights_1_2", b"x"),
        ("torch_1_2_3.pt", b"x"),
        ("sem.txt", b"thirty-two bytes of a text file."),
        ("sem.empty", b""),
        ("sem.zeros", bytes(32)),
        ("sem.longer", SEM + b"\0"),
        ("sem.shorter", SEM[:-1]),
        ("sem.tail", SEM[:-1] + b"x"),
        ("sem.below", struct.pack("=IIII16x", 0x80000000, 0, 128, 0)),
        ("PostgreSQL.123", b"x"),
        ("PostgreSQL.124", bytes(4096)),
        ("PostgreSQL.conf", struct.pack("=III", 0x9A503D32, 0, 64) + bytes(100)),
    ],
)
def test_a_person_s_file(tmp_path: Path, name: str, content: bytes) -> None:
    assert not known(tmp_path, name, content)


def test_what_can_not_be_read_counts_by_its_name_only() -> None:
    assert is_object("psm_0a1b2c3d", None)
    assert not is_object("sem.mp-ab_c1d2e", None)
    assert not is_object("frames", None)


def test_a_semaphore_of_this_c_library(ns: Namespace) -> None:
    name = ns.name()
    with closing(PosixSemaphore.create(name, 7)) as semaphore:
        fd = os.open(f"/dev/shm/sem.{name[1:]}", os.O_RDONLY)  # noqa: S108
        assert is_object(f"sem.{name[1:]}", fd)
        os.close(fd)
        semaphore.unlink()


def test_a_mark_is_of_one_file_and_one_name(tmp_path: Path) -> None:
    path = tmp_path / "frames"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        assert not is_marked(fd, "frames")
        mark(fd, "frames")
        try:
            os.getxattr(fd, "user.ipckit.memory")
        except OSError:
            assert not is_object("frames", fd)  # and nothing was raised
            pytest.skip("the file system keeps no extended attributes")
        assert is_object("frames", fd)
        assert not is_object("kept", fd)
    finally:
        os.close(fd)
    shutil.copy2(path, tmp_path / "copy")
    (tmp_path / "copy").replace(path)
    fd = os.open(path, os.O_RDONLY)
    assert not is_marked(fd, "frames")
    os.close(fd)


# -- select ----------------------------------------------------------------------------------------


def item(ident: int, state: inventory.State, age: float, **more: object) -> IpcObject:
    facts = ("sysv-queue", "", ident, ident, 0, 0, "root", "root", 0o600, 1)
    return IpcObject(*facts, age=age, state=state, **more)  # type: ignore[arg-type]


DEAD = Process(17, "", "sent", alive=False)
MAKER = Process(18, "", "created", alive=False)
ITEMS = [
    item(0, "orphaned", 10, users=(DEAD,)),
    item(1, "unknown", 100, users=(DEAD,)),
    item(2, "unknown", 1000),
    item(3, "used", 1000, users=(DEAD,)),
    item(4, "held", 1000),
    item(5, "unknown", 1000, recognized=False, users=(DEAD,)),
    item(6, "unknown", 1000, creator=MAKER, users=(DEAD,)),
]


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ({}, [0]),
        ({"older_than": 11}, []),
        ({"creator_pid": 17}, [0]),
        ({"unknown": True, "creator_pid": 17}, [0, 1]),
        ({"unknown": True, "creator_pid": 18}, [6]),
        ({"unknown": True, "older_than": 100}, [1, 2, 6]),
        ({"unknown": True, "older_than": 0.5}, [0, 1, 2, 6]),
        ({"unknown": True, "creator_pid": 17, "older_than": 100}, [1]),
    ],
)
def test_what_is_chosen(asked: dict[str, float], chosen: list[int]) -> None:
    assert [each.id for each in inventory.select(ITEMS, **asked)] == chosen  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"unknown": True}, InvalidArgument),
        ({"unknown": True, "older_than": 0}, InvalidArgument),
        ({"older_than": -1}, InvalidArgument),
        ({"older_than": float("nan")}, InvalidArgument),
        ({"older_than": float("inf")}, InvalidArgument),
        ({"older_than": "1h"}, TypeError),
        ({"older_than": True}, TypeError),
        ({"creator_pid": 0}, InvalidArgument),
        ({"creator_pid": True}, TypeError),
        ({"creator_pid": "17"}, TypeError),
    ],
)
def test_what_is_refused(asked: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        inventory.select(ITEMS, **asked)  # type: ignore[arg-type]
