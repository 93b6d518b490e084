"""Making, finding, closing and unlinking memory: the same for every kind."""

from __future__ import annotations

import os
import pickle
from typing import Any

import pytest

from ipckit import (
    AlreadyExists,
    ClosedHandle,
    InvalidArgument,
    NotFound,
)
from ipckit._core.handle import Capabilities
from ipckit.structs import Char, Int, Struct

SIZE = 5000


class Stu(Struct):
    name: Char[32]
    age: Int


def test_capabilities_are_said(kind: Any) -> None:
    caps = kind.cls.caps
    assert caps == Capabilities(
        pollable=False,
        timed=False,
        priorities=False,
        typed_receive=False,
        unlink_destroys_now=False,
    )


def test_create_makes_zeroed_memory_of_exactly_that_size(kind: Any) -> None:
    for size in (1, 4095, 4096, 4097, SIZE):
        with kind.create(size) as memory:
            assert memory.size == len(memory.buf) == len(memory.array("u1")) == size
            assert memory.read() == bytes(size)
            assert not memory.readonly
            assert not memory.closed


def test_a_size_out_of_range_is_refused(kind: Any) -> None:
    cases: list[Any] = [0, -1, 2**63, 2**70]
    for size in cases:
        with pytest.raises(InvalidArgument):
            kind.create(size)


def test_a_size_is_an_integer(kind: Any) -> None:
    cases: list[Any] = [None, 1.5, "4096", True, b"1"]
    for size in cases:
        with pytest.raises(TypeError):
            kind.create(size)


def test_create_needs_a_size(named: Any) -> None:
    with pytest.raises(TypeError):
        named.cls.create(named.address())


def test_create_fails_where_it_exists(named: Any) -> None:
    at = named.address()
    with named.create(at=at) as first:
        first.write(b"kept")
        with pytest.raises(AlreadyExists) as caught:
            named.create(9000, at)
        assert isinstance(caught.value, FileExistsError)
        assert first.read(4) == b"kept"
        with named.open(at) as again:
            assert again.size == SIZE


def test_open_never_makes(named: Any) -> None:
    at = named.address()
    for _ in range(2):
        with pytest.raises(NotFound):
            named.open(at)


def test_open_shares_the_bytes_and_does_not_own(shared: Any) -> None:
    with shared.create() as memory:
        assert memory.owner == shared.named
        with shared.again(memory) as other:
            assert not other.owner
            assert other.size == SIZE
            other.write(b"hello", 4990)
            assert memory.read(5, 4990) == b"hello"
            assert memory.address != other.address
        assert memory.read(5, 4990) == b"hello"
        shared.again(memory).close()


@pytest.mark.parametrize("cls", ["sysv", "posix"])
def test_open_or_create_owns_only_what_it_made(cls: str, kinds: Any) -> None:
    kind = kinds(cls)
    at = kind.address()
    with kind.cls.open_or_create(at, 100) as first, kind.cls.open_or_create(at, 100) as second:
        assert (first.owner, second.owner) == (True, False)
        assert first.size == second.size == 100
        with pytest.raises(InvalidArgument, match="100 bytes, and 101 were requested"):
            kind.cls.open_or_create(at, 101)
        with kind.cls.open_or_create(at, 50) as third:
            assert third.size == 100
    with pytest.raises(NotFound):
        kind.open(at)


def test_leaving_with_unlinks_for_the_owner_alone(named: Any) -> None:
    at = named.address()
    with named.create(at=at):
        with named.open(at):
            pass
        named.open(at).close()
    with pytest.raises(NotFound):
        named.open(at)
    with named.create(at=at) as memory:
        memory.disown()
    with named.open(at) as memory:
        memory.adopt()
    with pytest.raises(NotFound):
        named.open(at)


def test_unlink_leaves_the_memory_to_who_has_it(named: Any) -> None:
    at = named.address()
    memory = named.create(at=at)
    memory.write(b"hello")
    memory.unlink()
    assert not memory.owner
    with pytest.raises(NotFound):
        named.open(at)
    memory.close()
    with pytest.raises(NotFound):
        memory.unlink()
    memory.unlink(missing_ok=True)


def test_the_bytes_stay_after_unlink(named: Any) -> None:
    with named.create() as memory:
        memory.unlink()
        memory.write(b"hello")
        assert memory.read(5) == b"hello"


def test_memory_without_a_name_can_not_be_unlinked(kinds: Any) -> None:
    for kind in (kinds("memfd"), kinds("anonymous")):
        with kind.create() as memory:
            with pytest.raises(NotFound):
                memory.unlink()
            memory.unlink(missing_ok=True)


def test_close_ends_all_but_what_was_taken(kind: Any) -> None:
    memory = kind.create()
    array, view, stu = memory.array("u1"), memory.buf, memory.view(Stu)
    if kind.named:
        memory.unlink()
    memory.close()
    memory.close()
    assert memory.closed
    array[0], view[1], stu.age = 1, 2, 20
    assert bytes(view[:2]) == b"\1\2"
    for call in (
        lambda: memory.buf,
        lambda: memory.address,
        lambda: memory.array("u1"),
        lambda: memory.view(Stu),
        lambda: memory.shared(Stu),
        memory.read,
        lambda: memory.write(b""),
        memory.__enter__,
        lambda: pickle.dumps(memory),
    ):
        with pytest.raises(ClosedHandle):
            call()
    assert "closed" in repr(memory)
    assert memory.size == SIZE


def test_a_dropped_handle_warns_and_closes_and_does_not_unlink(named: Any) -> None:
    at = named.address()
    memory = named.create(at=at)
    mapping = memory._mapping
    with pytest.warns(ResourceWarning, match="unclosed"):
        del memory
    assert mapping.closed
    with named.open(at) as found:
        found.adopt()


def test_repr_tells_what_and_how_large(kind: Any) -> None:
    with kind.create() as memory:
        text = repr(memory)
        assert text.startswith(f"<{kind.cls.__name__} ")
        assert "5000 bytes, open" in text
        assert ("owner" in text) == kind.named
    assert repr(memory).endswith("closed>")


def test_no_descriptor_is_needed_but_for_those_that_have_one(kind: Any) -> None:
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    with kind.create() as memory:
        more = len(os.listdir("/proc/self/fd")) - len(before)  # noqa: PTH208
        assert more == kind.has_fd
        if kind.has_fd:
            assert not os.get_inheritable(memory.fileno())
    if kind.has_fd:
        with pytest.raises(ClosedHandle):
            memory.fileno()


def test_close_is_quiet_where_the_descriptor_is_gone(shared: Any) -> None:
    memory = shared.create()
    if shared.named:
        memory.unlink()
    if shared.has_fd:
        os.close(memory.fileno())
    memory.close()
    assert memory.closed


def test_the_umask_has_no_say(named: Any) -> None:
    cases: list[Any] = [0o600, 0o666, 0o640, 0o400, 0o000]
    for mode in cases:
        old = os.umask(0o077)
        try:
            with named.create(mode=mode) as memory:
                assert named.mode_of(memory) == mode
                memory.write(b"x")
        finally:
            os.umask(old)


def test_the_default_mode_is_private(named: Any) -> None:
    old = os.umask(0)
    try:
        with named.create() as memory:
            assert named.mode_of(memory) == 0o600
    finally:
        os.umask(old)


def test_a_mode_out_of_range_is_refused(named: Any) -> None:
    cases: list[Any] = [-1, 0o1000, 0o1777]
    for mode in cases:
        with pytest.raises(InvalidArgument):
            named.create(mode=mode)
        with pytest.raises(TypeError):
            named.create(mode="600")
