"""What both kinds of message queue promise: lifecycle, payloads, time."""

from __future__ import annotations

import ctypes
import errno
import math
import os
import pickle
import queue as queues
import threading
import time
from decimal import Decimal
from fractions import Fraction
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from ipckit import (
    AlreadyExists,
    Array,
    Char,
    ClosedHandle,
    Codec,
    Int,
    InvalidArgument,
    IpcError,
    LayoutMismatch,
    MessageTooLong,
    NotFound,
    Removed,
    Struct,
    Timeout,
    WouldBlock,
)
from ipckit.codec import Pickle
from ipckit.msgq import Message, limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Child

Kind = Any  # tests/msgq/conftest.py has it; conftest modules are not imported


class Stu(Struct):
    name: Char[32]
    age: Int


class Point(Struct):
    at: Array[Int, 2]


class Pair(ctypes.Structure):
    _fields_ = (("first", ctypes.c_short), ("second", ctypes.c_double))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pair) and bytes(self) == bytes(other)

    __hash__ = None  # type: ignore[assignment]


class Login(msgspec.Struct):
    user: str
    tries: int = 0


class Reversed(Codec[str]):
    """A user's codec, which raises an exception of the user's."""

    size = None
    accepts = str
    fingerprint = "reversed"
    name = "reversed text"

    def encode(self, value: str) -> bytes:
        if not isinstance(value, str):
            self._refuse(value)
        return value[::-1].encode()

    def decode(self, data: bytes) -> str:
        if data == b"!":
            message = "an exclamation mark"
            raise KeyError(message)
        return data.decode()[::-1]


def same(left: object, right: object) -> bool:
    if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
        return bool(np.array_equal(left, right)) and left.dtype == right.dtype  # type: ignore[attr-defined]
    return left == right and type(left) is type(right)


@pytest.fixture
def queue(kind: Kind) -> Iterator[Any]:
    with kind.create() as made:
        yield made


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


# -- ownership, closing, unlinking -----------------------------------------------------------------


def test_disown_and_adopt_move_the_duty_to_unlink(kind: Kind) -> None:
    address = kind.address()
    with kind.cls.create(address) as made:
        assert made.disown() is made
        assert not made.owner
    assert kind.exists(address)
    with kind.cls.open(address) as found:
        assert found.adopt() is found
        assert found.owner
    assert not kind.exists(address)


def test_with_unlinks_although_the_block_raised(kind: Kind) -> None:
    address = kind.address()
    with pytest.raises(ZeroDivisionError), kind.cls.create(address) as queue:
        _ = 1 / 0
    assert queue.closed
    assert not kind.exists(address)


def test_with_unlinks_although_the_block_closed(kind: Kind) -> None:
    address = kind.address()
    with kind.cls.create(address) as queue:
        queue.close()
    assert not kind.exists(address)


def test_with_accepts_that_the_queue_is_already_unlinked(kind: Kind) -> None:
    with kind.create() as queue:
        queue.unlink()
        assert not queue.owner
    with kind.create() as queue, kind.again(queue) as other:
        other.unlink()
        assert queue.owner


def test_close_is_idempotent_and_leaves_the_queue(kind: Kind) -> None:
    queue = kind.create()
    queue.send(b"stays")
    queue.close()
    queue.close()
    assert queue.closed
    with kind.again(queue) as other:
        assert other.receive(timeout=0).value == b"stays"
    queue.unlink()
    assert not kind.exists(kind.address_of(queue))


def test_unlink_works_once(queue: Any) -> None:
    queue.unlink()
    with pytest.raises(NotFound):
        queue.unlink()
    queue.unlink(missing_ok=True)
    queue.unlink(True)  # noqa: FBT003 - as pathlib has it


def test_a_dropped_handle_warns_closes_and_never_unlinks(kind: Kind) -> None:
    address = kind.address()
    queue = kind.cls.create(address)
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with pytest.warns(ResourceWarning, match=f"unclosed <{kind.cls.__name__}"):
        del queue
    assert len(os.listdir("/proc/self/fd")) == descriptors - (not kind.sysv)  # noqa: PTH208
    assert kind.exists(address)
    kind.ns.clear()


CALLS: dict[str, Callable[[Any], object]] = {
    "send": lambda queue: queue.send(b"x"),
    "send with timeout": lambda queue: queue.send(b"x", timeout=1),
    "send without waiting": lambda queue: queue.send(b"x", timeout=0),
    "send too much": lambda queue: queue.send(bytes(100_000)),
    "receive": lambda queue: queue.receive(),
    "receive with timeout": lambda queue: queue.receive(timeout=1),
    "receive without waiting": lambda queue: queue.receive(timeout=0),
    "drain": lambda queue: queue.drain(),
    "len": len,
    "iter": lambda queue: next(iter(queue)),
    "with": lambda queue: queue.__enter__(),
    "pickle": pickle.dumps,
}


@pytest.mark.parametrize("call", CALLS)
def test_every_call_on_a_closed_handle_raises_closed_handle(kind: Kind, call: str) -> None:
    with kind.create() as queue:
        queue.send(b"x")
        queue.close()
        with pytest.raises(ClosedHandle) as caught:
            CALLS[call](queue)
        assert isinstance(caught.value, ValueError)
        assert caught.value.errno == errno.EBADF


def test_a_closed_handle_still_says_what_it_was(queue: Any, kind: Kind) -> None:
    address, shown = kind.address_of(queue), repr(queue)
    queue.close()
    assert kind.address_of(queue) == address
    assert "closed" in repr(queue)
    assert "open" in shown


def test_repr_says_class_address_size_owner_and_state(kind: Kind) -> None:
    with kind.create() as queue, kind.again(queue) as other:
        queue.send(b"four")
        address = f"{queue.key:#010x}" if kind.sysv else queue.name
        for handle in (queue, other):
            shown = repr(handle)
            assert shown.startswith(f"<{kind.cls.__name__} ")
            assert address in shown
            assert "1 messages" in shown or "1 of 10 messages" in shown
            assert "open" in shown
            assert ("owner" in shown) is handle.owner


def test_repr_of_a_removed_queue_does_not_raise(kind: Kind) -> None:
    with kind.create() as queue:
        queue.unlink()
        assert kind.cls.__name__ in repr(queue)


def test_an_empty_queue_is_true(queue: Any) -> None:
    assert len(queue) == 0
    assert queue
    queue.send(b"x")
    assert len(queue) == 1
    assert queue


def test_nothing_registers_with_the_resource_tracker(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    for name in ("register", "unregister", "ensure_running"):
        monkeypatch.setattr(resource_tracker, name, lambda *args: told.append(args))
        monkeypatch.setattr(
            resource_tracker._resource_tracker,  # type: ignore[attr-defined]
            name,
            lambda *args: told.append(args),
        )
    with kind.create() as queue, pickle.loads(pickle.dumps(queue)) as copy:  # noqa: S301
        copy.send(b"x")
        queue.receive()
    assert told == []


def test_capabilities_say_what_the_classes_have(kind: Kind) -> None:
    caps = kind.cls.caps
    assert caps.pollable == hasattr(kind.cls, "fileno")
    assert caps.typed_receive == hasattr(kind.cls, "peek")
    with kind.create() as queue, kind.again(queue) as other:
        queue.send(b"x")
        queue.unlink()
        if caps.unlink_destroys_now:
            with pytest.raises(Removed):
                other.receive(timeout=0)
        else:
            assert other.receive(timeout=0).value == b"x"
        assert caps.priorities is not kind.sysv
        assert caps.timed is not kind.sysv


# -- other processes -------------------------------------------------------------------------------

WORKER = """
def answer(queue):
    with queue:
        assert not queue.owner, queue
        queue.send(queue.receive(timeout=60).value[::-1])
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_handles_go_to_workers_as_non_owners(
    kind: Kind, method: str, spawn: Callable[..., Child]
) -> None:
    (kind.ns.directory / "worker_of_a_test.py").write_text(WORKER)
    spawn(
        """
        import multiprocessing, sys
        method, cls, address, directory = args
        sys.path.insert(0, directory)
        from worker_of_a_test import answer
        with cls.create(address) as queue:
            queue.send(b"stressed")
            worker = multiprocessing.get_context(method).Process(target=answer, args=(queue,))
            worker.start()
            worker.join()
            assert worker.exitcode == 0, worker.exitcode
            worker.close()
            assert queue.receive(timeout=60).value == b"desserts"
            cls.open(address).close()  # the worker did not unlink it
        """,
        method,
        kind.cls,
        kind.address(),
        str(kind.ns.directory),
    ).wait()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_opens_the_same_queue_with_the_same_type(kind: Kind, protocol: int) -> None:
    with kind.create(str) as queue:
        with pickle.loads(pickle.dumps(queue, protocol)) as copy:  # noqa: S301
            assert not copy.owner
            copy.send("grüße")
            with pytest.raises(TypeError):
                copy.send(b"bytes")
        assert queue.receive(timeout=0).value == "grüße"


def test_a_pickle_of_a_removed_queue_finds_nothing(kind: Kind) -> None:
    with kind.create() as queue:
        pickled = pickle.dumps(queue)
    with pytest.raises(NotFound):
        pickle.loads(pickled)  # noqa: S301


def test_a_forked_copy_neither_owns_nor_unlinks_nor_warns(
    kind: Kind, spawn: Callable[..., Child]
) -> None:
    child = spawn(
        """
        import gc, os
        cls, address = args
        with cls.create(address) as queue:
            pid = os.fork()
            if pid == 0:
                try:
                    assert not queue.owner
                    with queue:
                        queue.send(b"from the copy")
                finally:
                    os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            assert queue.owner
            assert queue.receive(timeout=0).value == b"from the copy"
            pid = os.fork()
            if pid == 0:
                del queue
                gc.collect()
                os._exit(0)
            os.waitpid(pid, 0)
            cls.open(address).close()
        """,
        kind.cls,
        kind.address(),
    )
    child.wait()
    assert child.stderr == ""


# -- payloads --------------------------------------------------------------------------------------

RECORDS = np.dtype([("id", "<u4"), ("x", "<f8")])
PAYLOADS: dict[str, tuple[Any, list[Any], list[Any]]] = {
    # the payload type, values of it, values that are not
    "bytes": (bytes, [b"", b"\0", b"x" * 100], ["x", 1, None, [1], Login("amy")]),
    "str": (str, ["", "grüße", "\0", "x" * 100], [b"x", 1, None, ["x"]]),
    "Struct": (Stu, [Stu("amy", 20), Stu("", 0)], [Point((1, 2)), b"x" * 36, ("amy", 20), None]),
    "ctypes": (Pair, [Pair(1, 2.5)], [Stu("", 0), b"x" * 16, (1, 2.5)]),
    "dtype": (
        RECORDS,
        [np.array([(1, 2.5), (3, 4.5)], RECORDS), np.empty(0, RECORDS)],
        [b"x" * 12, np.zeros(3), np.zeros((2, 2), RECORDS), [1.0], 1.0],
    ),
    "scalar": (np.float32, [np.arange(5, dtype=np.float32)], [np.zeros(2), 1.0, b"1234"]),
    "msgspec": (Login, [Login("amy", 3), Login("ä" * 40)], [{"user": "amy"}, "amy", Stu("", 0)]),
    "Pickle": (Pickle, [{"any": [1, None]}, "text"], []),
    "Codec": (Reversed, ["abc", ""], [b"abc", 5]),
    "Codec instance": (Reversed(), ["abc"], [b"abc", 5]),
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_payloads_arrive_as_they_were_sent(kind: Kind, name: str) -> None:
    payload, values, _ = PAYLOADS[name]
    with kind.create(payload) as queue, kind.again(queue, payload) as other:
        for value in values:
            queue.send(value)
            message = other.receive(timeout=0)
            assert isinstance(message, Message)
            assert same(message.value, value)
            assert not message.truncated


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_wrong_type_is_a_type_error_and_sends_nothing(kind: Kind, name: str) -> None:
    payload, values, wrong = PAYLOADS[name]
    with kind.create(payload) as queue:
        queue.send(values[0])
        for value in wrong:
            for timeout in (None, 0, 5.0):
                with pytest.raises(TypeError) as caught:
                    queue.send(value, timeout=timeout)
                assert not isinstance(caught.value, OSError)
        assert len(queue) == 1
        assert same(queue.receive().value, values[0])


@pytest.mark.parametrize(
    "value",
    [
        bytearray(b"abc"),
        memoryview(b"abc"),
        np.frombuffer(b"abc", np.uint8),
        np.frombuffer(b"abc\0", "<u4"),
        Stu("abc", 1),
        memoryview(bytes(range(6))).cast("B", (2, 3)),
    ],
    ids=["bytearray", "memoryview", "uint8", "uint32", "Struct", "two dimensions"],
)
def test_bytes_queues_accept_any_object_with_a_buffer(queue: Any, value: Any) -> None:
    queue.send(value)
    received = queue.receive(timeout=0).value
    assert type(received) is bytes
    assert received == memoryview(value).tobytes()


@pytest.mark.parametrize(
    "value",
    [memoryview(b"abcdef")[::2], np.arange(9).reshape(3, 3).T, np.arange(9)[::2]],
    ids=["strided view", "transposed", "strided array"],
)
def test_bytes_that_are_not_contiguous_are_a_type_error(queue: Any, value: Any) -> None:
    for timeout in (None, 0, 5.0):
        with pytest.raises(TypeError, match="contiguous"):
            queue.send(value, timeout=timeout)
    assert len(queue) == 0


def test_a_bytearray_can_be_resized_after_it_was_sent_or_refused(kind: Kind) -> None:
    data = bytearray(b"x" * 8)
    with kind.create(**kind.room(1, 8)) as queue:
        queue.send(data)
        with pytest.raises(WouldBlock):
            queue.send(data, timeout=0)
        with pytest.raises(Timeout):
            queue.send(data, timeout=0.001)
        with pytest.raises(MessageTooLong):
            queue.send(data * 2)
        data.append(1)  # BufferError if some call kept the buffer


def test_text_that_is_not_utf8_encodable_is_refused(kind: Kind) -> None:
    with kind.create(str) as queue:
        with pytest.raises(UnicodeEncodeError):
            queue.send("\ud800")
        assert len(queue) == 0


UNDECODABLE: dict[str, tuple[Any, bytes]] = {
    "Struct, short": (Stu, b"x" * 35),
    "Struct, long": (Stu, b"x" * 37),
    "Struct, none": (Stu, b""),
    "ctypes": (Pair, b"x"),
    "dtype": (RECORDS, b"x" * 13),
    "str": (str, b"\xff\xfe"),
    "msgspec": (Login, b"\xc1"),
    "msgspec, another": (Login, msgspec.msgpack.encode({"user": 5})),
    "Pickle": (Pickle, b"no pickle"),
    "Codec": (Reversed, b"!"),
}


@pytest.mark.parametrize("name", UNDECODABLE)
def test_bytes_of_another_type_come_with_the_error(kind: Kind, name: str) -> None:
    payload, data = UNDECODABLE[name]
    with kind.create() as raw, kind.again(raw, payload) as queue:
        raw.send(data, 7)
        with pytest.raises(LayoutMismatch) as caught:
            queue.receive(timeout=0)
        error = caught.value
        assert isinstance(error, TypeError)
        assert error.raw == data
        assert (error.mtype, error.priority) == ((7, 0) if kind.sysv else (0, 7))
        assert error.received == ()
        assert error.op == "receive"
        assert "attribute raw" in error.hint
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301
        assert (copy.raw, copy.mtype, copy.priority) == (data, error.mtype, error.priority)
        assert len(queue) == 0


def test_drain_keeps_the_messages_before_one_that_cannot_be_decoded(kind: Kind) -> None:
    with kind.create() as raw, kind.again(raw, str) as queue:
        for data in (b"one", b"two", b"\xff", b"four"):
            raw.send(data)
        with pytest.raises(LayoutMismatch) as caught:
            queue.drain()
        assert [message.value for message in caught.value.received] == ["one", "two"]
        assert caught.value.raw == b"\xff"
        assert [message.value for message in queue.drain()] == ["four"]
        assert queue.drain() == []


def test_drain_returns_what_it_received_before_the_queue_was_removed(kind: Kind) -> None:
    class Remover(Reversed):
        """A codec that removes the queue while it decodes the first message."""

        def decode(self, data: bytes) -> str:
            queue.unlink(missing_ok=True)
            return super().decode(data)

    with kind.create(Remover()) as queue:
        queue.send("one")
        queue.send("two")
        taken = [message.value for message in queue.drain()]
        assert taken == (["one"] if kind.cls.caps.unlink_destroys_now else ["one", "two"])
        if kind.cls.caps.unlink_destroys_now:
            with pytest.raises(Removed):
                queue.drain()


def test_drain_receives_no_more_than_the_queue_had_at_its_beginning(kind: Kind) -> None:
    class Refill(Reversed):
        def decode(self, data: bytes) -> str:
            queue.send("more", timeout=0)
            return super().decode(data)

    with kind.create(Refill) as queue:
        queue.send("one")
        queue.send("two")
        assert [message.value for message in queue.drain()] == ["one", "two"]
        assert len(queue) == 2


def test_iteration_takes_message_after_message(kind: Kind) -> None:
    with kind.create(str) as queue:
        messages = iter(queue)
        for text in ("one", "two", "three"):
            queue.send(text)
            assert next(messages).value == text
        assert len(queue) == 0


@pytest.mark.parametrize("data", [b"", b"\0"])
def test_the_shortest_messages(queue: Any, data: bytes) -> None:
    queue.send(data)
    queue.send(b"after")
    assert len(queue) == 2
    assert [message.value for message in queue.drain()] == [data, b"after"]


def test_the_longest_message_and_one_byte_more(kind: Kind, queue: Any) -> None:
    most = limits().msgmax if kind.sysv else queue.max_size
    data = os.urandom(most)
    queue.send(data)
    assert queue.receive(timeout=0).value == data
    for timeout in (None, 0, 5):
        with pytest.raises(MessageTooLong) as caught:
            queue.send(data + b"x", timeout=timeout)
        assert caught.value.errno == errno.EMSGSIZE
        text = str(caught.value)
        assert f"{most + 1:,}" in text
        assert ("kernel.msgmax" if kind.sysv else "max_size") in text
        assert str(most) in text
    assert len(queue) == 0


@pytest.mark.parametrize("size", [4095, 4096, 4097, 8191, 8192])
def test_sizes_around_the_thresholds_of_the_code(queue: Any, size: int) -> None:
    """Up to 8 KiB the buffer is on the stack. POSIX receives depend on half of that too."""
    first, second = os.urandom(size), os.urandom(size)
    for timeout in (None, 0, 5):
        queue.send(first, timeout=timeout)
        queue.send(second, timeout=timeout)
        assert queue.receive(timeout=timeout).value == first
        assert queue.receive(timeout=timeout).value == second


def test_a_message_that_fills_its_buffer_is_not_overwritten_by_the_next(kind: Kind) -> None:
    """A received bytes object never changes, whatever is received later."""
    with kind.create(**kind.room(4, 64)) as queue:
        kept = []
        for letter in (b"a", b"b", b"c"):
            queue.send(letter * 64)
            kept.append(queue.receive(timeout=0).value)
        queue.send(b"d")
        kept.append(queue.receive(timeout=0).value)
        assert kept == [b"a" * 64, b"b" * 64, b"c" * 64, b"d"]


# -- time ------------------------------------------------------------------------------------------


WRONG_TIMES = [-1, -0.001, -math.inf, math.nan, Decimal("sNaN"), -(10**400)]


@pytest.mark.parametrize("timeout", WRONG_TIMES, ids=[str(each)[:8] for each in WRONG_TIMES])
def test_timeouts_out_of_range(kind: Kind, timeout: Any) -> None:
    """Even if the call would not have to wait."""
    with kind.create(**kind.room(1, 8)) as queue:
        with pytest.raises(InvalidArgument, match="timeout"):
            queue.receive(timeout=timeout)
        with pytest.raises(InvalidArgument, match="timeout"):
            queue.send(b"8 bytes.", timeout=timeout)
        assert len(queue) == 0
        queue.send(b"8 bytes.")
        with pytest.raises(InvalidArgument, match="timeout"):
            queue.send(b"8 bytes.", timeout=timeout)
        with pytest.raises(InvalidArgument, match="timeout"):
            queue.receive(timeout=timeout)
        assert len(queue) == 1


@pytest.mark.parametrize("timeout", ["1", b"1", [1], object(), 1j])
def test_timeouts_of_a_wrong_type(queue: Any, timeout: Any) -> None:
    with pytest.raises(TypeError):
        queue.send(b"x", timeout=timeout)
    assert len(queue) == 0
    queue.send(b"x")
    with pytest.raises(TypeError):
        queue.receive(timeout=timeout)
    assert len(queue) == 1


@pytest.mark.parametrize("zero", [0, 0.0, -0.0, False, Decimal(0), Fraction(0), np.float32(0)])
def test_a_timeout_of_zero_would_block(kind: Kind, zero: Any) -> None:
    with kind.create(**kind.room(1, 8)) as queue:
        with pytest.raises(WouldBlock) as caught:
            queue.receive(timeout=zero)
        assert isinstance(caught.value, BlockingIOError)
        assert not isinstance(caught.value, TimeoutError)
        # Linux has one errno for a full and another for an empty System V queue.
        assert caught.value.errno == (errno.ENOMSG if kind.sysv else errno.EAGAIN)
        queue.send(b"8 bytes.", timeout=zero)
        with pytest.raises(WouldBlock, match="full") as caught:
            queue.send(b"8 bytes.", timeout=zero)
        assert caught.value.errno == errno.EAGAIN


@pytest.mark.parametrize(
    "timeout", [1e-300, 1e-9, 0.02, Decimal("0.02"), Fraction(1, 50), np.float64(0.02)]
)
def test_a_short_timeout_ends_no_sooner(kind: Kind, timeout: Any) -> None:
    with kind.create(**kind.room(1, 8)) as queue:
        started = time.monotonic()
        with pytest.raises(Timeout) as caught:
            queue.receive(timeout=timeout)
        assert time.monotonic() - started >= timeout
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.errno == errno.ETIMEDOUT
        assert "no message came" in str(caught.value)
        queue.send(b"8 bytes.")
        started = time.monotonic()
        with pytest.raises(Timeout, match="full"):
            queue.send(b"8 bytes.", timeout=timeout)
        assert time.monotonic() - started >= timeout
        assert len(queue) == 1


ENDLESS = [None, math.inf, 1e300, 10**400, 2**63, 9.3e9, Decimal("1e30")]


@pytest.mark.parametrize("timeout", ENDLESS, ids=[str(each)[:8] for each in ENDLESS])
def test_a_timeout_beyond_the_clock_waits_until_it_is_done(
    kind: Kind, timeout: Any, meanwhile: Callable[..., Any]
) -> None:
    every = ("msgrcv", "msgsnd", "clock_nanosleep", "mq_timedreceive", "mq_timedsend", "poll")
    with kind.create(**kind.room(1, 8)) as queue, kind.again(queue) as other:
        with meanwhile(every, lambda: other.send(b"came.   ")):
            assert queue.receive(timeout=timeout).value == b"came.   "
        queue.send(b"first...")
        with meanwhile(every, other.receive):
            queue.send(b"second..", timeout=timeout)
        assert other.receive(timeout=0).value == b"second.."


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_a_waiting_call_is_woken(
    kind: Kind, timeout: float | None, meanwhile: Callable[..., Any]
) -> None:
    with kind.create(**kind.room(1, 8)) as queue, kind.again(queue) as other:
        asleep = kind.sleeps_in(receive=True, timeout=timeout)
        with meanwhile(asleep, lambda: other.send(b"came.   ")):
            assert queue.receive(timeout=timeout).value == b"came.   "
        queue.send(b"first...")
        asleep = kind.sleeps_in(receive=False, timeout=timeout)
        with meanwhile(asleep, other.receive):
            queue.send(b"second..", timeout=timeout)
        assert other.receive(timeout=0).value == b"second.."


def test_exceptions_of_an_argument_are_not_translated(queue: Any) -> None:
    """Only errors of the kernel are."""

    class MyError(TimeoutError):
        pass

    class Odd:
        def __float__(self) -> float:
            raise MyError

        def __index__(self) -> int:
            raise MyError

    queue.send(b"x")
    with pytest.raises(MyError):
        queue.receive(timeout=Odd())
    with pytest.raises(MyError):
        queue.send(b"x", Odd())
    with pytest.raises(MyError):
        queue.send(b"x", Odd(), timeout=5)
    assert len(queue) == 1


def test_errors_name_the_call_and_the_queue_and_can_be_pickled(kind: Kind, queue: Any) -> None:
    with pytest.raises(WouldBlock) as caught:
        queue.receive(timeout=0)
    error = caught.value
    assert error.op == ("msgrcv" if kind.sysv else "mq_receive")
    assert (f"{queue.key:#010x}" if kind.sysv else queue.name) in error.target
    assert error.target in str(error)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(copy) is WouldBlock
    assert (str(copy), copy.errno, copy.op) == (str(error), error.errno, error.op)


def test_a_removed_address_can_be_used_again_and_is_another_queue(kind: Kind) -> None:
    with kind.create() as first:
        first.unlink()
        with kind.cls.create(kind.address_of(first)) as second:
            second.send(b"second's")
            assert kind.exists(kind.address_of(second))
            with pytest.raises(IpcError):
                first.receive(timeout=0)
            assert len(second) == 1


def test_the_owner_of_a_removed_queue_does_not_unlink_its_successor(kind: Kind) -> None:
    with kind.create() as first:
        with kind.again(first) as other:
            other.unlink()
        successor = kind.cls.create(kind.address_of(first))
        assert first.owner
    with successor:
        assert kind.exists(kind.address_of(successor))


def test_closing_first_does_not_make_the_owner_unlink_a_successor(kind: Kind) -> None:
    with kind.create() as first:
        with kind.again(first) as other:
            other.unlink()
        successor = kind.cls.create(kind.address_of(first))
        first.close()
    with successor:
        assert kind.exists(kind.address_of(successor))
