"""The list of UNIX sockets from the kernel, with names that look like other text."""

from __future__ import annotations

import errno
import os
import secrets
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from ipckit import inventory
from ipckit._inventory import sock_diag as diag
from ipckit._inventory import sockets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ipckit.testing import Child, Namespace

LINE = b"\n0000000000000000: 00000002 00000000 00010000 0001 01 4294967290 /run/forged.sock"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listening(stack: ExitStack, address: bytes | str) -> socket.socket:
    found = stack.enter_context(socket.socket(socket.AF_UNIX))
    found.bind(address)
    found.listen()
    return found


def inode(found: socket.socket) -> int:
    return os.fstat(found.fileno()).st_ino


def test_no_name_hides_a_socket_or_forges_one(stack: ExitStack) -> None:
    names = [os.urandom(4).hex().encode() + each for each in (LINE, b"\0\xff ", b"\n00: 1 zz", b"")]
    bound = [listening(stack, b"\0" + name) for name in names]
    unseen: list[str] = []
    found = {row.inode: row for row in sockets.rows(unseen)}
    assert unseen == []
    for name, each in zip(names, bound, strict=True):
        assert os.fsencode(found[inode(each)].name) == b"@" + name
        assert found[inode(each)].listening
    assert "/run/forged.sock" not in {row.name for row in found.values()}


def test_without_sock_diag_proc_is_read_and_that_is_said(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> list[object]:
        raise OSError(errno.ENOENT, "no unix_diag")

    name = os.urandom(4).hex().encode()
    bound = [
        listening(stack, b"\0" + name + each) for each in (b"", b"\n0000000000000000: 00000002 zz")
    ]
    monkeypatch.setattr(sockets, "unix_sockets", refuse)
    found = {row.inode: row.name for row in sockets.rows()}
    assert found[inode(bound[0])] == f"@{name.decode()}"
    assert found[inode(bound[1])] == f"@{name.decode()}\n0000000000000000: 00000002 zz"
    survey = inventory.survey(["socket"], holders=False)
    assert any("sock_diag" in line for line in survey.unseen)
    assert inode(bound[0]) in {each.id for each in survey.objects}

    def gone(path: str) -> bytes:
        raise FileNotFoundError(errno.ENOENT, "gone", path)

    monkeypatch.setattr(sockets, "read", gone)
    survey = inventory.survey(["socket"], holders=False)
    assert any("/proc/net/unix" in line for line in survey.unseen)


def test_sock_diag_and_proc_agree(stack: ExitStack, tmp_path: Path) -> None:
    name = b"\0" + secrets.token_hex(4).encode()
    path = f"{tmp_path}/{secrets.token_hex(4)}.sock"
    bound = [listening(stack, name), listening(stack, path)]
    for kind in (socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        each = stack.enter_context(socket.socket(socket.AF_UNIX, kind))
        each.bind(name + b"%d" % kind)
        bound.append(each)
    client = stack.enter_context(socket.socket(socket.AF_UNIX))
    client.connect(name)
    accepted = stack.enter_context(bound[0].accept()[0])
    ours = {inode(each) for each in (*bound, client, accepted)}
    from_proc = {
        row for row in sockets.unix_rows(sockets.read("/proc/net/unix")) if row.inode in ours
    }
    assert {row for row in diag.unix_sockets() if row.inode in ours} == from_proc
    assert len(from_proc) == 6


def test_an_unaccepted_connection_is_not_listed_as_a_socket(stack: ExitStack) -> None:
    name = b"\0" + secrets.token_hex(4).encode()
    server = listening(stack, name)
    with socket.socket(socket.AF_UNIX) as ended, socket.socket(socket.AF_UNIX) as waits:
        ended.connect(name)
        ended.close()
        waits.connect(name)
        found = inventory.survey(["socket"], holders=False).objects
        assert [each.id for each in found if each.name == f"@{name[1:].decode()}"] == [
            inode(server)
        ]


def test_a_relative_path_is_not_looked_for_here(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [secrets.token_hex(4), f"@{secrets.token_hex(4)}"]
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    bound = [listening(stack, name) for name in names]
    monkeypatch.chdir(tmp_path)
    for name in names:  # other files of the same names
        listening(stack, name)
    found = {each.id: each for each in inventory.survey(["socket"], holders=False).objects}
    plain, at = (found[inode(each)] for each in bound)
    assert (plain.name, plain.mode, plain.removable) == (names[0], None, False)
    # Without the dot it would be taken for an abstract name.
    assert (at.name, at.mode, at.removable) == (f"./{names[1]}", None, False)


def test_a_flood_of_files_hides_nothing_above_it_and_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flood, beside = tmp_path / "flood", tmp_path / "beside"
    for directory in (flood, beside):
        directory.mkdir()
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(f"{directory}/s")
    for number in range(20):
        (flood / str(number)).mkdir()
    monkeypatch.setattr(sockets, "_DIRECTORIES", (str(tmp_path),))
    monkeypatch.setattr(sockets, "_MOST_IN_DIRECTORY", 10)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    found = inventory.survey(["socket"])
    stale = {each.name: each for each in found.objects if each.details.get("file") == "only"}
    assert f"{beside}/s" in stale
    assert [line for line in found.unseen if line.endswith(f"too many files to look at in {flood}")]
    monkeypatch.setattr(sockets, "_MOST_IN_DIRECTORY", 100)
    found = inventory.survey(["socket"])
    assert {f"{beside}/s", f"{flood}/s"} <= {each.name for each in found.objects}
    assert not [line for line in found.unseen if "too many" in line]


def test_a_socket_that_does_not_listen_is_seen_in_another_network_namespace(
    tmp_path: Path, spawn: Callable[..., Child]
) -> None:
    if os.geteuid() != 0:
        pytest.skip("it takes root to make a network namespace")
    path = tmp_path / f"client-{os.getpid()}.sock"
    holder = spawn(
        """
        import ctypes, socket
        from ipckit.testing import step
        if ctypes.CDLL(None).unshare(0x40000000):  # CLONE_NEWNET
            step.tell("denied")
        else:
            bound = socket.socket(socket.AF_UNIX)
            bound.bind(args[0])
            step.tell("bound")
        step.hear()
        """,
        str(path),
    )
    if holder.hear() == "denied":
        pytest.skip("no network namespace can be made here")
    assert sockets.answers(path) is True
    holder.kill()
    assert sockets.answers(path) is False


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM])
def test_a_bound_socket_does_not_notice_the_question(ns: Namespace, kind: int) -> None:
    path = ns.directory / "x.sock"
    with socket.socket(socket.AF_UNIX, kind) as bound:
        bound.bind(os.fspath(path))
        assert sockets.answers(path)
        if kind != socket.SOCK_DGRAM:
            bound.listen()
        bound.settimeout(0)
        assert sockets.answers(path)
        with pytest.raises(BlockingIOError):
            bound.recv(1) if kind == socket.SOCK_DGRAM else bound.accept()
        if kind == socket.SOCK_DGRAM:
            with socket.socket(socket.AF_UNIX, kind) as other:
                other.bind(os.fspath(ns.directory / "y.sock"))
                bound.connect(os.fspath(ns.directory / "y.sock"))
                assert sockets.answers(path)
    assert sockets.answers(path) is False
    path.unlink()
    assert sockets.answers(path) is None
