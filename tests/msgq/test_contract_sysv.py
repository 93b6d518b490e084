"""What only System V message queues have: identifiers, keys, rights, limits."""

from __future__ import annotations

import errno
import os
import pickle
from typing import TYPE_CHECKING, Any

import pytest
import sysv_ipc

from ipckit import ClosedHandle, InvalidArgument, Key, NotFound, Removed, SysVMessageQueue
from ipckit.testing import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child, Namespace


@pytest.fixture
def queue(sysv_queue: SysVMessageQueue[bytes]) -> SysVMessageQueue[bytes]:
    return sysv_queue


# -- opening ---------------------------------------------------------------------------------------


def test_from_id(queue: SysVMessageQueue[bytes]) -> None:
    with SysVMessageQueue.from_id(queue.id, str) as found:
        assert (found.id, found.key, found.owner) == (queue.id, queue.key, False)
        found.send("text")
    assert queue.receive(timeout=0).value == b"text"


def test_from_id_of_a_private_queue() -> None:
    number = sysv_ipc.MessageQueue(sysv_ipc.IPC_PRIVATE, sysv_ipc.IPC_CREX).id
    with SysVMessageQueue.from_id(number).adopt() as queue:
        assert queue.key is None
        queue.send(b"x")
        assert f"queue id {number}" in repr(queue)
        with pickle.loads(pickle.dumps(queue)) as copy:  # noqa: S301
            assert copy.receive(timeout=0).value == b"x"


def test_from_id_of_a_removed_queue() -> None:
    with SysVMessageQueue.create() as queue:
        number = queue.id
    with pytest.raises(NotFound) as caught:
        SysVMessageQueue.from_id(number)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("number", [-1, 2**31, 2**63, -(2**70)])
def test_from_id_out_of_range(number: int) -> None:
    with pytest.raises(InvalidArgument):
        SysVMessageQueue.from_id(number)


@pytest.mark.parametrize("number", ["1", 1.0, None, True])
def test_from_id_of_a_wrong_type(number: Any) -> None:
    with pytest.raises(TypeError):
        SysVMessageQueue.from_id(number)


@pytest.mark.parametrize("key", [0, 2**32, -(2**31) - 1])
def test_keys_out_of_range(key: int) -> None:
    for verb in (SysVMessageQueue.create, SysVMessageQueue.open, SysVMessageQueue.open_or_create):
        with pytest.raises(InvalidArgument):
            verb(key)


def test_the_largest_keys_work(ns: Namespace) -> None:
    for number in (2**31 - 1, -(2**31), 0xFFFFFFFF):
        with SysVMessageQueue.create(number) as queue:
            assert queue.key == Key(number)
            assert f"{queue.key:#010x}" in repr(queue)
    assert ns.leftovers() == []


CALLS: dict[str, Callable[[Any], object]] = {
    "send": lambda queue: queue.send(b"x"),
    "receive": lambda queue: queue.receive(timeout=0),
    "receive a type": lambda queue: queue.receive(3, timeout=0),
    "receive another type": lambda queue: queue.receive(3, exclude=True, timeout=0),
    "receive cut": lambda queue: queue.receive(truncate=True, max_size=3, timeout=0),
    "peek": lambda queue: queue.peek(),
    "stat": lambda queue: queue.stat(),
    "len": len,
    "drain": lambda queue: queue.drain(),
    "chmod": lambda queue: queue.chmod(0o600),
    "chown": lambda queue: queue.chown(os.getuid()),
    "max_bytes": lambda queue: queue.max_bytes,
    "set max_bytes": lambda queue: setattr(queue, "max_bytes", 100),
}


@pytest.mark.parametrize("call", CALLS)
def test_every_call_on_a_closed_handle(queue: SysVMessageQueue[bytes], call: str) -> None:
    queue.close()
    with pytest.raises(ClosedHandle):
        CALLS[call](queue)


@pytest.mark.parametrize("call", CALLS)
def test_every_call_on_a_removed_queue(queue: SysVMessageQueue[bytes], call: str) -> None:
    queue.unlink()
    with pytest.raises(Removed):
        CALLS[call](queue)


# -- rights ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("root")
def test_access_denied_names_owner_and_mode(ns: Namespace, spawn: Callable[..., Child]) -> None:
    with SysVMessageQueue.create(ns.key(), mode=0o622) as queue:
        queue.send(b"x")
        spawn(
            """
            from ipckit import AccessDenied, SysVMessageQueue
            from ipckit.msgq import list_queues
            key, number = args
            with SysVMessageQueue.open(key) as queue:  # the right to send is enough to open
                queue.send(b"y")
                for call in (
                    lambda: queue.receive(timeout=0),
                    lambda: queue.receive(timeout=5),
                    lambda: queue.receive(timeout=None),
                    lambda: queue.receive(truncate=True, max_size=1),
                    lambda: queue.peek(),
                    lambda: queue.stat(),
                    lambda: len(queue),
                    lambda: queue.chmod(0o777),
                    lambda: queue.chown(65534),
                    lambda: setattr(queue, "max_bytes", 5),
                    lambda: queue.unlink(),
                ):
                    try:
                        call()
                    except AccessDenied as exc:
                        assert isinstance(exc, PermissionError)
                        assert "root" in str(exc) and "0622" in str(exc), exc
                    else:
                        raise AssertionError("no error")
                assert "AccessDenied" in repr(queue)
            assert [each.qnum for each in list_queues() if each.id == number] == [2]
            with SysVMessageQueue.from_id(number) as queue:
                queue.send(b"z")
            """,
            queue.key,
            queue.id,
            user="nobody",
            imports=["ipckit"],
        ).wait()
        assert [message.value for message in queue.drain()] == [b"x", b"y", b"z"]


@pytest.mark.usefixtures("root")
def test_a_queue_without_rights_does_not_open(ns: Namespace, spawn: Callable[..., Child]) -> None:
    with SysVMessageQueue.create(ns.key(), mode=0o600) as queue:
        spawn(
            """
            from ipckit import AccessDenied, AlreadyExists, SysVMessageQueue
            for verb, error in (("open", AccessDenied), ("open_or_create", AccessDenied),
                                ("create", AlreadyExists)):
                try:
                    getattr(SysVMessageQueue, verb)(args[0])
                except error as exc:
                    assert verb == "create" or "0600" in str(exc), exc
                else:
                    raise AssertionError(verb)
            """,
            queue.key,
            user="nobody",
            imports=["ipckit"],
        ).wait()
        assert queue.stat().qnum == 0


# -- limits ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("root")
def test_the_limit_of_queues_is_named(spawn: Callable[..., Child]) -> None:
    spawn(
        """
        from ipckit import LimitReached, SysVMessageQueue
        made = [SysVMessageQueue.create() for _ in range(3)]
        try:
            SysVMessageQueue.create()
        except LimitReached as exc:
            assert "kernel.msgmni (3)" in str(exc), exc
        else:
            raise AssertionError("no error")
        for queue in made:
            with queue:
                pass
        """,
        sandbox=Sandbox(sysctls={"kernel.msgmni": 3}),
    ).wait()


@pytest.mark.usefixtures("root")
def test_a_raised_or_lowered_msgmax_loses_nothing(spawn: Callable[..., Child]) -> None:
    spawn(
        """
        from pathlib import Path
        from ipckit import MessageTooLong, SysVMessageQueue
        msgmax = Path("/proc/sys/kernel/msgmax")
        with SysVMessageQueue.create(max_bytes=200_000) as queue:
            msgmax.write_text("100000")
            with SysVMessageQueue.open(queue.key) as other:
                other.send(b"x" * 100_000, 1)
            # This handle was opened when messages were shorter.
            assert queue.peek().value == b"x" * 100_000
            queue.send(b"y" * 100_000, 2)
            msgmax.write_text("100")
            # MSG_COPY copies no more than msgmax.
            try:
                queue.peek(1)
            except MessageTooLong as exc:
                assert "kernel.msgmax (100)" in str(exc), exc
                assert "receive" in exc.hint, exc
            else:
                raise AssertionError("no error")
            assert queue.receive(2, exclude=True, timeout=5).value == b"x" * 100_000
            assert queue.receive(timeout=None).value == b"y" * 100_000
            for size in (101, 9000):
                try:
                    queue.send(b"x" * size)
                except MessageTooLong as exc:
                    assert "kernel.msgmax (100)" in str(exc), exc
                else:
                    raise AssertionError("no error")
        """,
        sandbox=Sandbox(sysctls={"kernel.msgmax": 8192, "kernel.msgmnb": 200_000}),
    ).wait()
