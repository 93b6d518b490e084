"""What only POSIX message queues have: priorities, sizes, rights of a handle, limits."""

from __future__ import annotations

import fcntl
import os
import pickle
import select
import signal
from typing import TYPE_CHECKING, Any

import pytest
from posix_queues import again, status

from ipckit import (
    AccessDenied,
    Char,
    ClosedHandle,
    Int,
    InvalidArgument,
    LayoutMismatch,
    LimitReached,
    MessageTooLong,
    NotFound,
    PosixMessageQueue,
    Struct,
)
from ipckit.msgq import PosixMessageQueueAttributes
from ipckit.testing import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child, Namespace


class Stu(Struct):
    name: Char[32]
    age: Int


@pytest.fixture
def queue(posix_queue: PosixMessageQueue[bytes]) -> PosixMessageQueue[bytes]:
    return posix_queue


# -- priorities ------------------------------------------------------------------------------------


def test_the_highest_priority_is_received_first_and_its_oldest_message(ns: Namespace) -> None:
    with PosixMessageQueue.create(ns.name()) as queue:
        for number, priority in enumerate((0, 5, 32767, 5, 0, 32767)):
            queue.send(b"%d" % number, priority)
        messages = queue.drain()
    assert [message.value for message in messages] == [b"2", b"5", b"1", b"3", b"0", b"4"]
    assert [message.priority for message in messages] == [32767, 32767, 5, 5, 0, 0]
    assert {message.mtype for message in messages} == {0}


@pytest.mark.parametrize("priority", [-1, 32768, 2**31, 2**63, -(2**70)])
def test_priorities_out_of_range_send_nothing(
    queue: PosixMessageQueue[bytes], priority: int
) -> None:
    for timeout in (None, 0, 5.0):
        with pytest.raises(InvalidArgument, match=f"priority must be 0 to 32767, not {priority}"):
            queue.send(b"x", priority, timeout=timeout)
    assert len(queue) == 0


@pytest.mark.parametrize("priority", ["1", 1.0, None, b"1"])
def test_priorities_of_a_wrong_type(queue: PosixMessageQueue[bytes], priority: Any) -> None:
    with pytest.raises(TypeError):
        queue.send(b"x", priority)
    assert len(queue) == 0


# -- sizes -----------------------------------------------------------------------------------------


def test_attributes_are_what_was_asked(queue: PosixMessageQueue[bytes]) -> None:
    assert queue.attributes() == PosixMessageQueueAttributes(0, 2, 8, 0)
    queue.send(b"four")
    queue.send(b"three")
    assert queue.attributes() == PosixMessageQueueAttributes(0, 2, 8, 2)
    assert (queue.max_messages, queue.max_size, len(queue)) == (2, 8, 2)
    # The kernel counts only the text here.
    assert status(queue)["QSIZE"] == 9


def test_the_default_size_is_the_payload_types(ns: Namespace) -> None:
    with PosixMessageQueue.create(ns.name(), Stu) as queue:
        assert (queue.max_messages, queue.max_size) == (10, Stu.size)
        queue.send(Stu("amy", 20))
        assert queue.receive(timeout=0).value == Stu("amy", 20)
    with PosixMessageQueue.create(ns.name(), str) as other:
        assert other.max_size == 8192


@pytest.mark.parametrize("value", [0, -1, 2**63, 2**70])
@pytest.mark.parametrize("what", ["max_messages", "max_size"])
def test_sizes_out_of_range(ns: Namespace, what: str, value: int) -> None:
    with pytest.raises(InvalidArgument, match=f"{what} must be 1 to .*, not {value}"):
        PosixMessageQueue.create(ns.name(), **{what: value})  # type: ignore[call-overload]


@pytest.mark.parametrize("value", ["8", 8.0, True, None])
@pytest.mark.parametrize("what", ["max_messages", "max_size"])
def test_sizes_of_a_wrong_type(ns: Namespace, what: str, value: Any) -> None:
    if (what, value) == ("max_size", None):
        return  # that is the default
    with pytest.raises(TypeError, match=what):
        PosixMessageQueue.create(ns.name(), **{what: value})


@pytest.mark.parametrize(
    ("what", "sysctl"), [("max_messages", "msg_max"), ("max_size", "msgsize_max")]
)
def test_sizes_above_the_limits_name_the_sysctl(what: str, sysctl: str, ns: Namespace) -> None:
    with pytest.raises(LimitReached, match=rf"{what} of 20,000,000 exceeds fs.mqueue.{sysctl}"):
        PosixMessageQueue.create(ns.name(), **{what: 20_000_000})  # type: ignore[call-overload]


def test_a_type_too_large_for_the_queue_does_not_open(queue: PosixMessageQueue[bytes]) -> None:
    with pytest.raises(LayoutMismatch, match="Stu has 36 bytes") as caught:
        PosixMessageQueue.open(queue.name or "", Stu)
    assert "8" in str(caught.value)
    fd = os.dup(queue.fileno())
    with pytest.raises(LayoutMismatch):
        PosixMessageQueue.from_fd(fd, Stu)
    os.close(fd)  # it is still the caller's
    name = f"{queue.name}-2"
    with pytest.raises(LayoutMismatch):
        PosixMessageQueue.create(name, Stu, max_size=8)
    with pytest.raises(NotFound):
        PosixMessageQueue.open(name)


def test_the_error_of_a_long_message_names_the_size(queue: PosixMessageQueue[bytes]) -> None:
    with pytest.raises(MessageTooLong, match=r"9 bytes exceeds the queue's max_size \(8\)"):
        queue.send(b"9 bytes..")


# -- readonly and writeonly ------------------------------------------------------------------------


def test_readonly_and_writeonly(queue: PosixMessageQueue[bytes]) -> None:
    with again(queue, readonly=True) as reader, again(queue, writeonly=True) as writer:
        writer.send(b"x")
        for timeout in (None, 0, 5.0):
            with pytest.raises(AccessDenied, match="readonly"):
                reader.send(b"y", timeout=timeout)
            with pytest.raises(AccessDenied, match="writeonly"):
                writer.receive(timeout=timeout)
        with pytest.raises(AccessDenied):
            writer.drain()
        assert reader.receive(timeout=0).value == b"x"
        for handle in (reader, writer):
            with pickle.loads(pickle.dumps(handle)) as copy:  # noqa: S301
                flags = (fcntl.fcntl(each.fileno(), fcntl.F_GETFL) for each in (handle, copy))
                assert len({flag & os.O_ACCMODE for flag in flags}) == 1


def test_not_readonly_and_writeonly(queue: PosixMessageQueue[bytes]) -> None:
    with pytest.raises(InvalidArgument):
        again(queue, readonly=True, writeonly=True)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("mode", "allowed"),
    [
        (0o600, []),
        (0o604, ["readonly"]),
        (0o602, ["writeonly"]),
        (0o606, ["readonly", "writeonly"]),
    ],
)
def test_modes_grant_other_users_their_rights(
    ns: Namespace, spawn: Callable[..., Child], mode: int, allowed: list[str]
) -> None:
    with PosixMessageQueue.create(ns.name(), mode=mode) as queue:
        spawn(
            """
            from ipckit import AccessDenied, PosixMessageQueue
            name, allowed = args
            opened = []
            for way in ("readonly", "writeonly"):
                try:
                    PosixMessageQueue.open(name, **{way: True}).close()
                except AccessDenied as exc:
                    assert isinstance(exc, PermissionError) and exc.hint, exc
                else:
                    opened.append(way)
            assert opened == allowed, opened
            try:
                with PosixMessageQueue.open(name) as queue:
                    try:
                        queue.unlink()
                    except AccessDenied as exc:
                        assert "owner" in exc.hint
                    else:
                        raise AssertionError("unlinked")
            except AccessDenied:
                assert len(allowed) < 2
            else:
                assert len(allowed) == 2
            """,
            queue.name,
            allowed,
            user="nobody",
            imports=["ipckit"],
        ).wait()


# -- unlinking and closing -------------------------------------------------------------------------


def test_an_unlinked_queue_still_works_for_open_handles(queue: PosixMessageQueue[bytes]) -> None:
    with again(queue) as other:
        queue.unlink()
        with pytest.raises(NotFound):
            again(queue)
        other.send(b"still")
        assert queue.receive(timeout=0).value == b"still"
        assert len(other) == 0


def test_an_owner_does_not_unlink_a_later_queue_of_its_name(ns: Namespace) -> None:
    name = ns.name()
    with PosixMessageQueue.create(name) as old:
        old.unlink()
        old.adopt()
        new = PosixMessageQueue.create(name)
        new.send(b"new")
    with new, PosixMessageQueue.open(name) as found:
        assert found.receive(timeout=0).value == b"new"


@pytest.mark.usefixtures("root")
def test_an_owner_that_may_not_read_can_unlink(ns: Namespace, spawn: Callable[..., Child]) -> None:
    spawn(
        """
        from ipckit import PosixMessageQueue
        with PosixMessageQueue.create(args[0], mode=0) as queue:
            queue.send(b"x")
        """,
        ns.name(),
        user="nobody",
        imports=["ipckit"],
    ).wait()
    assert ns.leftovers() == []


CALLS: dict[str, Callable[[Any], object]] = {
    "fileno": lambda queue: queue.fileno(),
    "attributes": lambda queue: queue.attributes(),
    "notify": lambda queue: queue.notify(print),
    "notify signal": lambda queue: queue.notify(signal.SIGUSR1),
    "notify none": lambda queue: queue.notify(None),
    "select": lambda queue: select.select([queue], [], [], 0),
}


@pytest.mark.parametrize("call", CALLS)
def test_every_call_on_a_closed_handle(queue: PosixMessageQueue[bytes], call: str) -> None:
    queue.close()
    with pytest.raises(ClosedHandle):
        CALLS[call](queue)


# -- limits ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("root")
def test_the_limits_are_named(spawn: Callable[..., Child]) -> None:
    spawn(
        """
        import os, resource
        from ipckit import LimitReached, PosixMessageQueue

        def refused(*texts):
            before = len(os.listdir("/proc/self/fd"))
            try:
                PosixMessageQueue.create("refused")
            except LimitReached as exc:
                for text in texts:
                    assert text in str(exc), exc
            else:
                raise AssertionError("no error")
            assert len(os.listdir("/proc/self/fd")) == before

        with PosixMessageQueue.create("one", max_size=100):
            soft, hard = resource.getrlimit(resource.RLIMIT_MSGQUEUE)
            resource.setrlimit(resource.RLIMIT_MSGQUEUE, (50_000, hard))
            refused("RLIMIT_MSGQUEUE (50000)", "82,880 bytes")
            resource.setrlimit(resource.RLIMIT_MSGQUEUE, (soft, hard))

            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            full = os.dup(0)  # the lowest that is free
            os.close(full)
            resource.setrlimit(resource.RLIMIT_NOFILE, (full, hard))
            try:
                PosixMessageQueue.create("refused")
            except LimitReached as exc:
                assert f"RLIMIT_NOFILE ({full})" in str(exc), exc
            else:
                raise AssertionError("no error")
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        """,
        sandbox=Sandbox(),
    ).wait()


@pytest.mark.usefixtures("root")
def test_the_limit_of_queues_is_named(spawn: Callable[..., Child]) -> None:
    spawn(
        """
        from ipckit import LimitReached, PosixMessageQueue
        made = [PosixMessageQueue.create(max_size=100) for _ in range(2)]
        try:
            PosixMessageQueue.create(max_size=100)
        except LimitReached as exc:
            assert "fs.mqueue.queues_max (2)" in str(exc), exc
        else:
            raise AssertionError("no error")
        for queue in made:
            with queue:
                pass
        """,
        sandbox=Sandbox(sysctls={"fs.mqueue.queues_max": 2}),
        user="nobody",
        imports=["ipckit"],
    ).wait()
