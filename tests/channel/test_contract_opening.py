"""How a channel is created and opened: names, options, files, rights, descriptors."""

from __future__ import annotations

import os
import pickle
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from message_types import Stu
from shm_files import file_of, shm

from ipckit import (
    AccessDenied,
    AlreadyExists,
    Capabilities,
    Channel,
    Corrupt,
    Handle,
    InvalidArgument,
    LayoutMismatch,
    LimitReached,
    NotFound,
)
from ipckit.testing import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child, Namespace


def test_two_handles_of_one_channel(ns: Namespace) -> None:
    name = ns.name()
    with Channel.create(name) as one, Channel.open(name) as two:
        assert (one.owner, two.owner) == (True, False)
        assert one.name == two.name == name
        one.send(b"to two")
        assert two.receive() == b"to two"
        two.send(b"to one")
        assert one.receive(timeout=5) == b"to one"
        assert isinstance(one, Handle)
        assert Channel.caps == Capabilities(
            pollable=True,
            timed=True,
            priorities=False,
            typed_receive=False,
            unlink_destroys_now=False,
        )
    assert not file_of("channel", name).exists()


def test_create_never_opens_and_open_never_creates(ns: Namespace) -> None:
    name = ns.name()
    with pytest.raises(NotFound, match=r"Channel\.create\("):
        Channel.open(name)
    with Channel.create(name) as channel:
        with pytest.raises(AlreadyExists, match=r"Channel\.open\("):
            Channel.create(name)
        channel.send(b"still there")
        assert channel.receive() == b"still there"


def test_open_or_create_owns_only_what_it_made(ns: Namespace) -> None:
    name = ns.name()
    with Channel.open_or_create(name, Stu) as one, Channel.open_or_create(name, Stu) as two:
        assert (one.owner, two.owner) == (True, False)
        with pytest.raises(LayoutMismatch):
            Channel.open_or_create(name, bytes)
        with pytest.raises(InvalidArgument):  # although the channel exists and `size` is ignored
            Channel.open_or_create(name, Stu, capacity=0)


def test_create_without_a_name_picks_an_unused_one() -> None:
    with Channel.create() as one, Channel.create() as two:
        assert one.name is not None
        assert one.name != two.name
        with Channel.open(one.name) as other:
            other.send(b"found")
        assert one.receive() == b"found"


def test_a_channel_is_one_file_of_mode_0600(ns: Namespace) -> None:
    before = shm()
    old = os.umask(0)
    try:
        with Channel.create(ns.name()) as channel:
            assert channel.name is not None
            assert shm() - before == {file_of("channel", channel.name).name}
            assert stat.S_IMODE(file_of("channel", channel.name).stat().st_mode) == 0o600
        os.umask(0o777)
        with Channel.create(ns.name(), mode=0o666) as channel:
            assert channel.name is not None
            assert stat.S_IMODE(file_of("channel", channel.name).stat().st_mode) == 0o666
    finally:
        os.umask(old)
    assert shm() == before


@pytest.mark.parametrize("name", ["", "/", "a/b", "a\0b", ".", "..", "x" * 249])
def test_invalid_names(name: str) -> None:
    for make in (Channel.create, Channel.open, Channel.open_or_create):
        with pytest.raises(InvalidArgument):
            make(name)


def test_the_longest_name_and_one_in_utf_8() -> None:
    for name in ("x" * 248, "/grüße"):
        with Channel.create(name) as channel:
            assert file_of("channel", name).exists()
            assert channel.name == "/" + name.removeprefix("/")


@pytest.mark.parametrize(
    "options",
    [
        {"capacity": 0},
        {"capacity": 2**23},
        {"size": 0},
        {"size": 2**40},
        {"type": Stu, "size": 40},
        {"mode": 0o1000},
        {"spin": -1},
        {"spin": 1_000_001},
        {"peer_gone": "ignore"},
        {"peer_gone": ["wait"]},
    ],
)
def test_an_option_out_of_range(options: dict[str, Any]) -> None:
    before = shm()
    with pytest.raises(InvalidArgument):
        Channel.create(**options)
    assert shm() == before


@pytest.mark.parametrize(
    "options",
    [{"capacity": 1.5}, {"capacity": True}, {"size": "1"}, {"mode": "600"}, {"spin": 1.0}],
)
def test_an_option_of_the_wrong_type(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        Channel.create(**options)


@pytest.mark.parametrize("payload", [int, object, 5, "bytes", np.dtype(object)])
def test_an_object_that_is_not_a_payload_type(payload: Any) -> None:
    for make in (Channel.create, Channel.anonymous):
        with pytest.raises(TypeError):
            make(type=payload)


def test_unlink_removes_the_name_and_open_handles_go_on(ns: Namespace) -> None:
    name = ns.name()
    with Channel.create(name) as old:
        old.unlink()
        with pytest.raises(NotFound):
            old.unlink()
        old.unlink(missing_ok=True)
        with pytest.raises(NotFound):
            Channel.open(name)
        with Channel.create(name) as new:
            old.send(b"old")
            assert len(new) == 0
            old.adopt()
            old.__exit__(None, None, None)  # must not unlink the new channel's name
            assert file_of("channel", name).exists()


def test_an_anonymous_channel_has_no_name() -> None:
    before = shm()
    with Channel.anonymous(Stu, capacity=3) as channel:
        assert channel.name is None
        assert shm() == before
        channel.send(Stu("amy", 20))
        with Channel.from_fd(os.dup(channel.memory_fd), Stu) as other:
            assert other.receive() == Stu("amy", 20)
            assert not other.owner
        with pytest.raises(NotFound, match="last user"):
            channel.unlink()
        with pytest.raises(InvalidArgument, match="multiprocessing"):
            pickle.dumps(channel)
        with pytest.raises(OSError):  # noqa: PT011 - it is sealed against truncation
            os.ftruncate(channel.memory_fd, 0)


def test_from_fd_takes_the_descriptor_only_if_it_succeeds(ns: Namespace) -> None:
    with Channel.create(ns.name(), Stu) as channel:
        fd = os.dup(channel.memory_fd)
        with pytest.raises(LayoutMismatch):
            Channel.from_fd(fd, bytes)
        with Channel.from_fd(fd, Stu) as other:
            assert other.name == channel.name
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)
    with pytest.raises(InvalidArgument):
        Channel.from_fd(fd)
    with pytest.raises(TypeError):
        Channel.from_fd("0")  # type: ignore[call-overload]
    with file_of("channel", "shorter").open("w+b") as file:
        Path(file.name).unlink()
        fd = os.dup(file.fileno())
        with pytest.raises(Corrupt, match="not a channel: it has only"):
            Channel.from_fd(fd)
        os.close(fd)


def test_a_file_that_is_not_a_channel(ns: Namespace) -> None:
    path = file_of("channel", ns.name())
    try:
        path.write_bytes(b"")
        with pytest.raises(Corrupt):
            Channel.open(path.name.removeprefix("ipckit."))
        path.write_bytes(bytes(100_000))
        with pytest.raises(Corrupt):
            Channel.open(path.name.removeprefix("ipckit."))
        path.unlink()
        path.symlink_to("/etc/passwd")
        with pytest.raises(Corrupt):
            Channel.open(path.name.removeprefix("ipckit."))
        path.unlink()
        path.mkdir()
        with pytest.raises(Corrupt):
            Channel.open(path.name.removeprefix("ipckit."))
        path.rmdir()
        os.mkfifo(path)
        with pytest.raises(Corrupt):
            Channel.open(path.name.removeprefix("ipckit."))
    finally:
        path.unlink()


@pytest.mark.usefixtures("root")
def test_a_channel_of_another_user_is_refused(ns: Namespace, spawn: Callable[..., Child]) -> None:
    code = """
        from ipckit import AccessDenied, Channel
        try:
            Channel.open(args[0])
            result = "opened"
        except AccessDenied as exc:
            result = str(exc)
        with Channel.open(args[1]) as channel:
            channel.send(b"from nobody")
        with Channel.create() as own:
            own.send(b"x")
            assert own.receive() == b"x"
    """
    with Channel.create(ns.name()) as mine, Channel.create(ns.name(), mode=0o666) as ours:
        child = spawn(code, mine.name, ours.name, user="nobody", imports=["ipckit"])
        assert "read and to write" in child.result
        assert ours.receive() == b"from nobody"
    assert issubclass(AccessDenied, PermissionError)


@pytest.mark.usefixtures("root")
def test_a_full_dev_shm_is_an_error_with_a_hint(spawn: Callable[..., Child]) -> None:
    code = """
        import os, subprocess
        from ipckit import Channel, LimitReached
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/dev/shm"], check=True)
        try:
            Channel.create("frames")
        except LimitReached as exc:
            result = str(exc)
        assert os.listdir("/dev/shm") == []
        with Channel.create("small", size=100_000, capacity=10) as channel:
            channel.send(bytes(50_000))
        with Channel.anonymous() as channel:
            channel.send(bytes(1 << 20))
    """
    found = spawn(code, sandbox=Sandbox(mount=True)).result
    assert "are free" in found
    assert "--shm-size" in found
    assert "Channel.anonymous" in found


def test_no_descriptors_left(spawn: Callable[..., Child]) -> None:
    code = """
        import os, resource
        from ipckit import Channel, LimitReached
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        taken = []
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            pass
        for make in (Channel.create, Channel.anonymous):
            try:
                make()
            except LimitReached as exc:
                assert "RLIMIT_NOFILE" in str(exc), exc
            else:
                raise AssertionError
        os.close(taken.pop())
        result = len(os.listdir("/dev/shm"))
    """
    assert spawn(code).result == len(shm())


def test_the_256_places_for_peers(ns: Namespace) -> None:
    name = ns.name()
    with Channel.create(name) as first:
        others = [Channel.open(name) for _ in range(255)]
        with pytest.raises(LimitReached, match="256"):
            Channel.open(name)
        assert len(first.peers()) == 256
        others.pop().close()
        Channel.open(name).close()
        for each in others:
            each.close()
        assert len(first.peers()) == 1
