"""What only System V message queues have."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import time
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import sysv_ipc

from ipckit import (
    Char,
    ClosedHandle,
    Int,
    InvalidArgument,
    Key,
    LayoutMismatch,
    MessageTooLong,
    NotFound,
    Removed,
    Struct,
    SysVMessageQueue,
    WouldBlock,
)
from ipckit.msgq import limits, list_queues, usage
from ipckit.testing import Sandbox, require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Child, Namespace


class Login(Struct):
    user: Char[16]


class Logout(Struct):
    user: Char[16]
    after: Int


class Admin(Login):
    """The same bytes under another name."""


LOGINS = {1: Login, 2: Logout, 2**63 - 1: str}


@pytest.fixture
def queue() -> Iterator[SysVMessageQueue[bytes]]:
    with SysVMessageQueue.create() as made:
        yield made


@pytest.fixture
def logins() -> Iterator[Any]:
    with SysVMessageQueue.create(None, LOGINS) as made:
        yield made


# -- message types ---------------------------------------------------------------------------------

NUMBERS = [1, 2, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**62, 2**63 - 1]


@pytest.mark.parametrize("number", NUMBERS)
def test_types_are_a_full_long(queue: SysVMessageQueue[bytes], number: int) -> None:
    for timeout in (None, 0, 5.0):
        queue.send(b"other", 3)
        queue.send(b"this", number, timeout=timeout)
        message = queue.receive(number, timeout=timeout)
        assert (message.mtype, message.value, message.priority) == (number, b"this", 0)
        assert queue.receive(number, exclude=True).mtype == 3


@pytest.mark.parametrize("number", [0, -1, 2**63, -(2**63), 2**64 + 1])
def test_types_out_of_range_send_nothing(queue: SysVMessageQueue[bytes], number: int) -> None:
    with pytest.raises(InvalidArgument, match=f"mtype must be 1 to {2**63 - 1}, not {number}"):
        queue.send(b"x", number)
    assert len(queue) == 0


@pytest.mark.parametrize("number", ["1", 1.0, b"1", [1]])
def test_types_that_are_not_numbers(queue: SysVMessageQueue[bytes], number: Any) -> None:
    with pytest.raises(TypeError):
        queue.send(b"x", number)
    with pytest.raises(TypeError):
        queue.receive(number, timeout=0)
    assert len(queue) == 0


def test_a_type_may_be_any_integer(queue: SysVMessageQueue[bytes]) -> None:
    class Kind(IntEnum):
        NEWS = 7

    queue.send(b"x", Kind.NEWS)
    queue.send(b"y", np.int64(7))  # type: ignore[arg-type]
    assert queue.receive(Kind.NEWS, timeout=0).mtype == 7
    assert queue.receive(-Kind.NEWS, timeout=0).mtype == 7


def test_the_default_type_is_1(queue: SysVMessageQueue[bytes]) -> None:
    queue.send(b"x")
    assert queue.receive().mtype == 1


# -- selecting -------------------------------------------------------------------------------------


@pytest.fixture
def mixed(queue: SysVMessageQueue[bytes]) -> SysVMessageQueue[bytes]:
    for number in (4, 3, 2, 3, 4, 9):
        queue.send(b"%d at %d" % (number, len(queue)), number)
    return queue


@pytest.mark.parametrize(
    ("select", "exclude", "found"),
    [
        (0, False, b"4 at 0"),
        (3, False, b"3 at 1"),
        (9, False, b"9 at 5"),
        (4, True, b"3 at 1"),
        (3, True, b"4 at 0"),
        (5, True, b"4 at 0"),
        (-2, False, b"2 at 2"),
        (-3, False, b"2 at 2"),  # the lowest type, not the first that fits
        (-(2**63), False, b"2 at 2"),
        (-(2**63) + 1, False, b"2 at 2"),
    ],
)
def test_select(
    mixed: SysVMessageQueue[bytes],
    select: int,
    exclude: bool,  # noqa: FBT001 - a column of the table
    found: bytes,
) -> None:
    assert mixed.receive(select, exclude=exclude, timeout=0).value == found
    assert len(mixed) == 5


@pytest.mark.parametrize("select", [1, 5, 2**63 - 1, -1])
def test_select_finds_nothing(mixed: SysVMessageQueue[bytes], select: int) -> None:
    with pytest.raises(WouldBlock, match=f"select={select}") as caught:
        mixed.receive(select, timeout=0)
    assert caught.value.errno == errno.ENOMSG
    assert len(mixed) == 6


def test_exclude_finds_nothing(queue: SysVMessageQueue[bytes]) -> None:
    queue.send(b"x", 3)
    with pytest.raises(WouldBlock):
        queue.receive(3, exclude=True, timeout=0)
    assert len(queue) == 1


@pytest.mark.parametrize("select", [2**63, -(2**63) - 1, 10**30])
def test_selects_out_of_range(queue: SysVMessageQueue[bytes], select: int) -> None:
    queue.send(b"x")
    for options in ({}, {"exclude": True}, {"truncate": True, "max_size": 3}):
        with pytest.raises(InvalidArgument, match="select"):
            queue.receive(select, timeout=0, **options)  # type: ignore[arg-type]
    assert len(queue) == 1


@pytest.mark.parametrize("select", [True, "1", 1.0, None, Login])
def test_selects_of_a_wrong_type(queue: SysVMessageQueue[bytes], select: Any) -> None:
    queue.send(b"x")
    with pytest.raises(TypeError):
        queue.receive(select, timeout=0)
    assert len(queue) == 1


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_a_waiting_receiver_takes_only_its_type(
    queue: SysVMessageQueue[bytes], timeout: float | None, meanwhile: Callable[..., Any]
) -> None:
    def act() -> None:
        queue.send(b"not for you", 1)
        queue.send(b"for you", 2)

    with meanwhile(("msgrcv", "clock_nanosleep"), act):
        assert queue.receive(2, timeout=timeout).value == b"for you"
    assert queue.receive(timeout=0).value == b"not for you"


# -- peeking and cutting ---------------------------------------------------------------------------


def test_peek_leaves_the_message(mixed: SysVMessageQueue[bytes]) -> None:
    assert [mixed.peek(index).mtype for index in range(6)] == [4, 3, 2, 3, 4, 9]
    assert mixed.peek().value == b"4 at 0"
    assert len(mixed) == 6
    assert mixed.stat().rtime == 0


@pytest.mark.parametrize("index", [6, 100, 2**63 - 1])
def test_peek_beyond_the_end(mixed: SysVMessageQueue[bytes], index: int) -> None:
    with pytest.raises(WouldBlock) as caught:
        mixed.peek(index)
    assert caught.value.errno == errno.ENOMSG


@pytest.mark.parametrize("index", [-1, 2**63, -(2**70)])
def test_peek_at_a_negative_index(queue: SysVMessageQueue[bytes], index: int) -> None:
    with pytest.raises(InvalidArgument):
        queue.peek(index)


@pytest.mark.parametrize("index", ["0", 0.0, None])
def test_peek_at_an_index_that_is_not_a_number(queue: SysVMessageQueue[bytes], index: Any) -> None:
    with pytest.raises(TypeError):
        queue.peek(index)


def test_peek_decodes(logins: Any) -> None:
    logins.send(Logout("amy", 5))
    assert logins.peek().value == Logout("amy", 5)
    with SysVMessageQueue.open(logins.key) as raw:
        raw.send(b"short", 1)
    with pytest.raises(LayoutMismatch):
        logins.peek(1)
    assert len(logins) == 2


@pytest.mark.parametrize(
    ("most", "value", "cut"),
    [(0, b"", True), (1, b"a", True), (5, b"abcde", True), (6, b"abcdef", False)],
)
@pytest.mark.parametrize("timeout", [None, 0, 5.0])
def test_truncate_cuts_and_sets_truncated(
    queue: SysVMessageQueue[bytes],
    most: int,
    value: bytes,
    cut: bool,  # noqa: FBT001 - a column of the table
    timeout: float | None,
) -> None:
    queue.send(b"abcdef", 7)
    message = queue.receive(truncate=True, max_size=most, timeout=timeout)
    assert (message.value, message.truncated, message.mtype) == (value, cut, 7)
    assert len(queue) == 0


def test_truncate_without_a_size_uses_the_payload_types(queue: SysVMessageQueue[bytes]) -> None:
    queue.send(b"x" * 8192)
    assert queue.receive(truncate=True).truncated is False
    with SysVMessageQueue.open(queue.key or 0, Login) as typed:
        queue.send(bytes(Login("amy")) + b"and more")
        message = typed.receive(truncate=True, timeout=0)
        assert (message.value, message.truncated) == (Login("amy"), True)
        queue.send(bytes(Login("bob")))
        message = typed.receive(truncate=True, timeout=0)
        assert (message.value, message.truncated) == (Login("bob"), False)


def test_a_struct_that_max_size_cuts_is_not_a_whole_one(queue: SysVMessageQueue[bytes]) -> None:
    """Receive reads one byte more than `max_size`; it must not complete the struct."""
    with SysVMessageQueue.open(queue.key or 0, Login) as typed:
        queue.send(bytes(Login("amy")) + b"and more", 5)
        with pytest.raises(LayoutMismatch, match="expected 16 bytes for Login, got 15") as caught:
            typed.receive(truncate=True, max_size=15, timeout=0)
        assert (caught.value.raw, caught.value.mtype) == (b"amy".ljust(15, b"\0"), 5)


@pytest.mark.parametrize("timeout", [0, None, 5.0])
def test_a_message_too_long_stays(queue: SysVMessageQueue[bytes], timeout: float | None) -> None:
    queue.send(b"abcdef")
    with pytest.raises(MessageTooLong, match="max_size") as caught:
        queue.receive(max_size=5, timeout=timeout)
    assert caught.value.errno == errno.E2BIG
    assert "truncate" in caught.value.hint
    assert queue.receive(max_size=6, timeout=timeout).value == b"abcdef"


def test_a_waiting_receiver_with_a_small_buffer_loses_nothing(
    queue: SysVMessageQueue[bytes], meanwhile: Callable[..., Any]
) -> None:
    """The kernel wakes such a receiver with E2BIG, and keeps the message."""
    with meanwhile(("msgrcv",), lambda: queue.send(b"abcdef")), pytest.raises(MessageTooLong):
        queue.receive(max_size=5)
    assert queue.receive(timeout=0).value == b"abcdef"


@pytest.mark.parametrize("size", [-1, 2**31, 2**62, 2**63, 10**30])
def test_sizes_out_of_range(queue: SysVMessageQueue[bytes], size: int) -> None:
    queue.send(b"x")
    for truncate in (False, True):
        with pytest.raises(InvalidArgument, match="max_size"):
            queue.receive(max_size=size, truncate=truncate, timeout=0)
    assert len(queue) == 1


@pytest.mark.parametrize("size", ["5", 5.0, [5]])
def test_sizes_of_a_wrong_type(queue: SysVMessageQueue[bytes], size: Any) -> None:
    queue.send(b"x")
    with pytest.raises(TypeError):
        queue.receive(max_size=size, timeout=0)
    assert len(queue) == 1


# -- mappings --------------------------------------------------------------------------------------


def test_a_value_is_sent_under_its_class_and_decoded_by_its_number(logins: Any) -> None:
    logins.send(Logout("amy", 5))
    logins.send(Login("bob"))
    logins.send("text")
    messages = logins.drain()
    assert [message.value for message in messages] == [Logout("amy", 5), Login("bob"), "text"]
    assert [message.mtype for message in messages] == [2, 1, 2**63 - 1]


def test_receive_selects_by_class(logins: Any) -> None:
    logins.send(Logout("amy", 5))
    logins.send(Login("bob"))
    assert logins.receive(Login, timeout=0).value == Login("bob")
    with pytest.raises(WouldBlock):
        logins.receive(Login, timeout=0)
    with pytest.raises(WouldBlock):
        logins.receive(Logout, exclude=True, timeout=0)
    assert logins.receive(Login, exclude=True, timeout=0).value == Logout("amy", 5)


def test_a_value_of_an_unknown_class_is_not_sent(logins: Any) -> None:
    for value in (b"bytes", 5, None, object()):
        with pytest.raises(TypeError, match="no message type accepts"):
            logins.send(value)
    assert len(logins) == 0


def test_an_unknown_class_selects_nothing(logins: Any) -> None:
    for wanted in (bytes, Struct, int):
        with pytest.raises(TypeError, match="no message type accepts"):
            logins.receive(wanted, timeout=0)


def test_a_subclass_is_sent_under_its_own_number_or_its_base_class() -> None:
    with SysVMessageQueue.create(None, {1: Login, 2: Admin}) as queue:
        queue.send(Admin("amy"))
        assert queue.receive(timeout=0).mtype == 2


def test_a_number_can_be_given(logins: Any) -> None:
    logins.send(Login("amy"), 1)
    assert logins.receive(1).value == Login("amy")
    with pytest.raises(TypeError, match="Login"):
        logins.send(Login("amy"), 2)
    for number in (3, 0, -1):
        with pytest.raises(InvalidArgument, match="the queue has no message type"):
            logins.send(Login("amy"), number)
    assert len(logins) == 0


def test_one_class_under_two_numbers_needs_a_number() -> None:
    with SysVMessageQueue.create(None, {1: str, 2: str}) as queue:
        with pytest.raises(TypeError, match="several message types"):
            queue.send("which?")
        with pytest.raises(TypeError, match="several message types"):
            queue.receive(str, timeout=0)
        queue.send("this one", 2)
        assert queue.receive(2, timeout=0).value == "this one"


def test_an_unknown_number_is_a_mismatch_with_its_bytes(logins: Any) -> None:
    with SysVMessageQueue.open(logins.key) as raw:
        raw.send(b"whatever", 77)
    with pytest.raises(LayoutMismatch, match="no payload type for message type 77") as caught:
        logins.receive(timeout=0)
    assert (caught.value.raw, caught.value.mtype) == (b"whatever", 77)
    assert "1: Login" in str(caught.value)


def test_truncate_on_a_queue_of_several_types_needs_a_size(logins: Any) -> None:
    logins.send("four")
    assert logins.receive(truncate=True).value == "four"
    logins.send("four")
    message = logins.receive(str, truncate=True, max_size=2)
    assert (message.value, message.truncated) == ("fo", True)


@pytest.mark.parametrize("numbers", [{0: str}, {-1: str}, {2**63: str}, {}])
def test_mappings_out_of_range(ns: Namespace, numbers: Any) -> None:
    key = ns.key()
    for verb in (SysVMessageQueue.create, SysVMessageQueue.open_or_create):
        with pytest.raises(InvalidArgument):
            verb(key, numbers)


@pytest.mark.parametrize("numbers", [{"1": str}, {True: str}, {1: int}, {1.0: str}, {1: {2: str}}])
def test_mappings_of_wrong_types(ns: Namespace, numbers: Any) -> None:
    key = ns.key()
    for verb in (SysVMessageQueue.create, SysVMessageQueue.open_or_create):
        with pytest.raises(TypeError):
            verb(key, numbers)


# -- stat ------------------------------------------------------------------------------------------


def row_of(queue_id: int) -> dict[str, int]:
    """The queue's line in /proc/sysvipc/msg."""
    header, *rows = Path("/proc/sysvipc/msg").read_text().splitlines()
    for row in rows:
        values = dict(zip(header.split(), row.split(), strict=True))
        mode = values.pop("perms")
        if int(values["msqid"]) == queue_id:
            return {name: int(text) for name, text in values.items()} | {"perms": int(mode, 8)}
    raise LookupError(queue_id)


def test_stat_agrees_with_proc(queue: SysVMessageQueue[bytes]) -> None:
    for data in (b"one", b"four"):
        queue.send(data)
    queue.receive()
    queue.chmod(0o640)
    queue.chown(1234, 2345)
    stat = queue.stat()
    assert row_of(queue.id) == {
        "key": stat.key,
        "msqid": stat.id,
        "perms": stat.mode,
        "cbytes": stat.cbytes,
        "qnum": stat.qnum,
        "lspid": stat.lspid,
        "lrpid": stat.lrpid,
        "uid": stat.uid,
        "gid": stat.gid,
        "cuid": stat.cuid,
        "cgid": stat.cgid,
        "stime": stat.stime,
        "rtime": stat.rtime,
        "ctime": stat.ctime,
    }
    assert (stat.key, stat.id) == (queue.key, queue.id)
    assert (stat.cbytes, stat.qnum, stat.mode) == (4, 1, 0o640)
    assert (stat.uid, stat.gid, stat.cuid, stat.cgid) == (1234, 2345, os.geteuid(), os.getegid())
    assert stat.lspid == stat.lrpid == os.getpid()
    assert stat.qbytes == limits().msgmnb
    assert stat.seq == stat.id // 32768  # IPCMNI: the slot is what remains


def test_stat_agrees_with_ipcs(queue: SysVMessageQueue[bytes]) -> None:
    ipcs = require("ipcs", package="util-linux")
    queue.send(b"four")
    stat = queue.stat()
    shown = subprocess.run(
        [ipcs, "-q", "-i", str(queue.id)], check=True, capture_output=True, text=True
    ).stdout
    for text in (
        f"msqid={stat.id}",
        f"uid={stat.uid}",
        f"gid={stat.gid}",
        f"cuid={stat.cuid}",
        f"cgid={stat.cgid}",
        f"mode={stat.mode:#o}".replace("0o", "0"),
        f"cbytes={stat.cbytes}",
        f"qbytes={stat.qbytes}",
        f"qnum={stat.qnum}",
        f"lspid={stat.lspid}",
        f"lrpid={stat.lrpid}",
    ):
        assert text in shown.split()


def test_stat_of_a_fresh_queue_and_its_times(queue: SysVMessageQueue[bytes]) -> None:
    fresh = queue.stat()
    assert (fresh.stime, fresh.rtime, fresh.lspid, fresh.lrpid) == (0, 0, 0, 0)
    assert (fresh.qnum, fresh.cbytes) == (0, 0)
    # The kernel's clock of whole seconds is up to one tick late.
    assert abs(fresh.ctime - time.time()) < 60
    queue.send(b"x")
    sent = queue.stat()
    assert sent.stime >= fresh.ctime
    assert sent.rtime == 0
    queue.receive()
    assert queue.stat().rtime >= sent.stime


def test_len_counts_messages_and_stat_bytes(queue: SysVMessageQueue[bytes]) -> None:
    for size in (0, 1, 100):
        queue.send(b"x" * size)
    assert len(queue) == queue.stat().qnum == 3
    assert queue.stat().cbytes == 101


def test_limits_are_the_sysctls() -> None:
    for name in ("msgmax", "msgmnb", "msgmni"):
        assert getattr(limits(), name) == int(Path(f"/proc/sys/kernel/{name}").read_text())


def test_usage_and_list_agree_with_proc(queue: SysVMessageQueue[bytes]) -> None:
    with SysVMessageQueue.create() as other:
        queue.send(b"one")
        other.send(b"two")
        other.send(b"three")
        listed = {each.id: each for each in list_queues()}
        assert listed[queue.id] == queue.stat()
        assert listed[other.id] == other.stat()
        rows = Path("/proc/sysvipc/msg").read_text().splitlines()[1:]
        assert sorted(listed) == sorted(int(row.split()[1]) for row in rows)
        now = usage()
        assert now.queues == len(listed)
        assert now.messages == sum(each.qnum for each in listed.values())
        assert now.bytes == sum(each.cbytes for each in listed.values())


# -- changing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0, 0o400, 0o644, 0o777])
def test_chmod(queue: SysVMessageQueue[bytes], mode: int) -> None:
    queue.chmod(mode)
    assert queue.stat().mode == mode
    assert queue.stat().qbytes == limits().msgmnb


@pytest.mark.parametrize("mode", [-1, 0o1000, 2**40])
def test_chmod_out_of_range(queue: SysVMessageQueue[bytes], mode: int) -> None:
    with pytest.raises(InvalidArgument):
        queue.chmod(mode)
    assert queue.stat().mode == 0o600


@pytest.mark.usefixtures("root")
def test_chown(queue: SysVMessageQueue[bytes]) -> None:
    queue.chown(1234)
    queue.chown(gid=2**32 - 2)
    stat = queue.stat()
    assert (stat.uid, stat.gid, stat.mode) == (1234, 2**32 - 2, 0o600)
    queue.chown()
    assert queue.stat().uid == 1234


@pytest.mark.parametrize("number", [-1, 2**32 - 1, 2**32, 2**64])
def test_chown_out_of_range(queue: SysVMessageQueue[bytes], number: int) -> None:
    before = queue.stat()
    with pytest.raises(InvalidArgument):
        queue.chown(number)
    with pytest.raises(InvalidArgument):
        queue.chown(gid=number)
    assert queue.stat() == before


@pytest.mark.parametrize("value", ["root", 1.0, b"1"])
def test_changes_of_a_wrong_type(queue: SysVMessageQueue[bytes], value: Any) -> None:
    with pytest.raises(TypeError):
        queue.chown(value)
    with pytest.raises(TypeError):
        queue.chmod(value)
    with pytest.raises(TypeError):
        queue.max_bytes = value


def test_max_bytes_limits_the_queue(queue: SysVMessageQueue[bytes]) -> None:
    queue.max_bytes = 10
    assert queue.max_bytes == queue.stat().qbytes == 10
    queue.send(b"ten bytes.")
    with pytest.raises(WouldBlock):
        queue.send(b"x", timeout=0)
    queue.max_bytes = 0
    with pytest.raises(WouldBlock):
        queue.send(b"", timeout=0)


@pytest.mark.parametrize("timeout", [0, None, 5.0])
def test_a_message_that_never_fits_fails_without_waiting(
    queue: SysVMessageQueue[bytes], timeout: float | None
) -> None:
    queue.max_bytes = 10
    with pytest.raises(MessageTooLong, match=r"11 bytes exceeds the queue's max_bytes \(10\)"):
        queue.send(b"11 bytes...", timeout=timeout)


@pytest.mark.parametrize("most", [-1, 2**63, 2**64])
def test_max_bytes_out_of_range_creates_no_queue(ns: Namespace, most: int) -> None:
    key = ns.key()
    with pytest.raises(InvalidArgument):
        SysVMessageQueue.create(key, max_bytes=most)
    with pytest.raises(NotFound):
        SysVMessageQueue.open(key)


@pytest.mark.usefixtures("root")
def test_only_the_privileged_raise_max_bytes_above_the_limit(
    ns: Namespace, spawn: Callable[..., Child]
) -> None:
    most = limits().msgmnb
    status = Path("/proc/self/status").read_text()
    capabilities = int(status.split("CapEff:")[1].split()[0], 16)
    if capabilities & 1 << 24:  # CAP_SYS_RESOURCE; containers' root often has it not
        with SysVMessageQueue.create(ns.key(), max_bytes=most + 1) as queue:
            assert queue.max_bytes == most + 1
    spawn(
        """
        from ipckit import LimitReached, NotFound, SysVMessageQueue
        key, most = args
        with SysVMessageQueue.create(key, max_bytes=most) as queue:
            try:
                queue.max_bytes = most + 1
            except LimitReached as exc:
                assert "kernel.msgmnb" in str(exc) and f"{most}" in str(exc), exc
                assert "sysctl" in exc.hint, exc
            else:
                raise AssertionError("no error")
            assert queue.max_bytes == most
        try:
            SysVMessageQueue.create(key, max_bytes=most + 1)
        except LimitReached:
            pass
        try:
            SysVMessageQueue.open(key)
        except NotFound:
            pass
        else:
            raise AssertionError("the failed create left a queue")
        """,
        ns.key(),
        most,
        user="nobody",
        imports=["ipckit"],
    ).wait()


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
