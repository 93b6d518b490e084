"""Both classes of message queue: creating and opening, and the modes of what is created."""

from __future__ import annotations

import errno
import math
import os
import queue as queues
import threading
from typing import TYPE_CHECKING, Any

import pytest

from ipckit import AlreadyExists, InvalidArgument, NotFound, Timeout

if TYPE_CHECKING:
    from queue_kinds import Kind


# -- creating and opening --------------------------------------------------------------------------


def test_create_creates_and_owns(kind: Kind) -> None:
    address = kind.address()
    with kind.cls.create(address) as queue:
        assert queue.owner
        assert not queue.closed
        assert kind.address_of(queue) == address
        assert kind.exists(address)
    assert queue.closed
    assert not kind.exists(address)


def test_create_fails_and_changes_nothing_if_the_queue_exists(kind: Kind) -> None:
    with kind.create() as queue:
        queue.send(b"kept")
        with pytest.raises(AlreadyExists) as caught:
            kind.cls.create(kind.address_of(queue))
        assert isinstance(caught.value, FileExistsError)
        assert caught.value.errno == errno.EEXIST
        assert "open" in caught.value.hint
        assert queue.receive(timeout=0).value == b"kept"


def test_create_picks_a_free_address(kind: Kind) -> None:
    with kind.cls.create() as first, kind.cls.create(None) as second:
        assert kind.address_of(first) != kind.address_of(second)
        with kind.again(first) as found:
            found.send(b"x")
        assert first.receive(timeout=0).value == b"x"
        assert len(second) == 0


def test_open_neither_creates_nor_owns(kind: Kind) -> None:
    address = kind.address()
    with pytest.raises(NotFound) as caught:
        kind.cls.open(address)
    assert isinstance(caught.value, FileNotFoundError)
    assert "create" in caught.value.hint
    assert not kind.exists(address)
    with kind.cls.create(address):
        with kind.cls.open(address) as found:
            assert not found.owner
        assert kind.exists(address)


def test_a_failed_open_removes_nothing(kind: Kind) -> None:
    with kind.create() as queue:
        with pytest.raises(TypeError):
            kind.cls.open(kind.address_of(queue), int)
        assert kind.exists(kind.address_of(queue))


@pytest.mark.parametrize("payload", [int, dict, "bytes", None, bytearray, list[bytes], object()])
def test_an_invalid_payload_type_creates_no_queue(kind: Kind, payload: Any) -> None:
    address = kind.address()
    for verb in (kind.cls.create, kind.cls.open, kind.cls.open_or_create):
        with pytest.raises(TypeError, match="payload type"):
            verb(address, payload)
    assert not kind.exists(address)


def test_open_or_create_owns_only_what_it_created(kind: Kind) -> None:
    address = kind.address()
    with kind.cls.open_or_create(address) as first:
        assert first.owner
        with kind.cls.open_or_create(address, timeout=0) as second:
            assert not second.owner
            second.send(b"there")
        assert first.receive(timeout=0).value == b"there"
    assert not kind.exists(address)


def test_open_or_create_retries_while_others_create_and_remove(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = kind.address()
    real = kind.cls.open
    missing = kind.address()
    with kind.cls.create(address) as other:
        monkeypatch.setattr(kind.cls, "open", lambda _, payload: real(missing, payload))
        with pytest.raises(Timeout) as caught:
            kind.cls.open_or_create(address, timeout=0)
        assert caught.value.errno == errno.ETIMEDOUT

        def open_too_late(_: Any, payload: Any) -> Any:
            other.unlink()
            return real(address, payload)

        monkeypatch.setattr(kind.cls, "open", open_too_late)
        with kind.cls.open_or_create(address) as made:
            assert made.owner


@pytest.mark.parametrize("timeout", [-1, math.nan])
def test_open_or_create_checks_its_timeout_first(kind: Kind, timeout: float) -> None:
    address = kind.address()
    with pytest.raises(InvalidArgument):
        kind.cls.open_or_create(address, timeout=timeout)
    assert not kind.exists(address)


def test_one_of_many_creators_owns(kind: Kind) -> None:
    address = kind.address()
    start = threading.Barrier(8)
    made: queues.SimpleQueue[Any] = queues.SimpleQueue()

    def run() -> None:
        start.wait()
        made.put(kind.cls.open_or_create(address))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    handles = [made.get_nowait() for _ in threads]
    assert [handle.owner for handle in handles].count(True) == 1
    for handle in handles:
        handle.send(b"x", timeout=0)
    assert len(handles[0]) == 8
    for handle in handles:
        with handle:
            pass
    assert not kind.exists(address)


# -- modes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0, 0o22, 0o77, 0o777])
@pytest.mark.parametrize("mode", [None, 0, 0o600, 0o640, 0o666, 0o777, 0o400, 0o222])
def test_modes_are_what_was_asked_whatever_the_umask(
    kind: Kind, umask: int, mode: int | None
) -> None:
    options = {} if mode is None else {"mode": mode}
    before = os.umask(umask)
    try:
        made = [kind.create(**options), kind.cls.open_or_create(kind.address(), **options)]
    finally:
        os.umask(before)
    for queue in made:
        with queue:
            assert kind.mode(queue) == (0o600 if mode is None else mode)


@pytest.mark.parametrize("mode", [-1, 0o1000, 0o4600, 2**40])
def test_modes_out_of_range(kind: Kind, mode: int) -> None:
    address = kind.address()
    for verb in (kind.cls.create, kind.cls.open_or_create):
        with pytest.raises(InvalidArgument, match="0o777"):
            verb(address, mode=mode)
    assert not kind.exists(address)


@pytest.mark.parametrize("mode", ["0600", 6.0, None, True])
def test_modes_of_a_wrong_type(kind: Kind, mode: Any) -> None:
    with pytest.raises(TypeError):
        kind.create(mode=mode)
