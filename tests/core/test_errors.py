"""ipckit.errors: each error is also a builtin error, and keeps all its facts when pickled."""

from __future__ import annotations

import copy
import errno
import os
import pickle

import pytest

from ipckit import errors
from ipckit.errors import IpcError, from_errno

BUILTINS = {
    errors.AlreadyExists: FileExistsError,
    errors.NotFound: FileNotFoundError,
    errors.AccessDenied: PermissionError,
    errors.WouldBlock: BlockingIOError,
    errors.Timeout: TimeoutError,
    errors.InUse: OSError,
    errors.Removed: OSError,
    errors.MessageTooLong: OSError,
    errors.LimitReached: OSError,
    errors.InvalidArgument: ValueError,
    errors.ClosedHandle: ValueError,
    errors.PeerGone: ConnectionError,
    errors.OwnerDied: OSError,
    errors.DeadlockRisk: RuntimeError,
    errors.LayoutMismatch: TypeError,
    errors.Corrupt: OSError,
}

CODES = {
    "EEXIST": errors.AlreadyExists,
    "EADDRINUSE": errors.AlreadyExists,
    "ENOENT": errors.NotFound,
    "EACCES": errors.AccessDenied,
    "EPERM": errors.AccessDenied,
    "EAGAIN": errors.WouldBlock,
    "EWOULDBLOCK": errors.WouldBlock,
    "ENOMSG": errors.WouldBlock,
    "ETIMEDOUT": errors.Timeout,
    "EIDRM": errors.Removed,
    "E2BIG": errors.MessageTooLong,
    "EMSGSIZE": errors.MessageTooLong,
    "ENOSPC": errors.LimitReached,
    "EMFILE": errors.LimitReached,
    "ENFILE": errors.LimitReached,
    "ENOMEM": errors.LimitReached,
    "ERANGE": errors.LimitReached,
    "ETOOMANYREFS": errors.LimitReached,
    "ENOBUFS": errors.LimitReached,
    "EINVAL": errors.InvalidArgument,
    "ENAMETOOLONG": errors.InvalidArgument,
    "EFBIG": errors.InvalidArgument,
    "EBADF": errors.ClosedHandle,
    "EPIPE": errors.PeerGone,
    "ECONNRESET": errors.PeerGone,
    "ECONNABORTED": errors.PeerGone,
    "ESHUTDOWN": errors.PeerGone,
    "EOVERFLOW": errors.LimitReached,
    "ECONNREFUSED": errors.PeerGone,
    "EOWNERDEAD": errors.OwnerDied,
    "EDEADLK": errors.DeadlockRisk,
    "EBADMSG": errors.LayoutMismatch,
    "EUCLEAN": errors.Corrupt,
}


def test_every_error_class_is_in_this_table() -> None:
    found = {each for each in IpcError.__subclasses__() if each.__module__ == errors.__name__}
    # Its arguments are those of the exception of the method; see tests/rpc.
    assert set(BUILTINS) == found - {errors.RemoteError}


@pytest.mark.parametrize(("kind", "builtin"), BUILTINS.items())
def test_each_error_is_also_the_builtin_error(
    kind: type[IpcError], builtin: type[Exception]
) -> None:
    error = kind("what is wrong", errno=errno.EIO)
    assert isinstance(error, builtin)
    assert isinstance(error, OSError)
    assert type(error) is kind
    assert kind.__doc__


def test_the_facts_are_attributes() -> None:
    error = IpcError("no room", errno=errno.ENOSPC, op="msgget", target="key 1", hint="ask")
    assert (error.errno, error.strerror) == (errno.ENOSPC, "no room")
    assert (error.op, error.target, error.hint) == ("msgget", "key 1", "ask")


def test_the_facts_have_defaults() -> None:
    error = IpcError("no room")
    assert (error.errno, error.op, error.target, error.hint) == (0, "", "", "")


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({}, "no room"),
        ({"op": "msgget"}, "msgget: no room"),
        ({"target": "key 1"}, "key 1: no room"),
        ({"op": "msgget", "target": "key 1"}, "msgget on key 1: no room"),
        ({"hint": "raise msgmni"}, "no room; raise msgmni"),
        (
            {"op": "msgget", "target": "key 1", "hint": "raise msgmni"},
            "msgget on key 1: no room; raise msgmni",
        ),
    ],
)
def test_str_is_one_line_that_says_it_all(facts: dict[str, str], text: str) -> None:
    assert str(IpcError("no room", errno=errno.ENOSPC, **facts)) == text


@pytest.mark.parametrize("kind", [IpcError, *BUILTINS])
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_it_pickles_with_all_its_facts(kind: type[IpcError], protocol: int) -> None:
    error = kind("wrong", errno=errno.EIO, op="call", target="it", hint="do")
    error.add_note("a note")
    again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - made here
    assert type(again) is kind
    assert vars(again) == vars(error)
    assert (again.errno, again.strerror, str(again)) == (errno.EIO, "wrong", str(error))
    assert again.__notes__ == ["a note"]


def test_a_layout_mismatch_keeps_what_it_could_not_decode() -> None:
    error = errors.LayoutMismatch("the types differ", errno=errno.EBADMSG)
    assert (error.raw, error.mtype, error.priority, error.received) == (None, 0, 0, ())
    error.raw, error.mtype, error.priority = b"\x00raw", 7, 3
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 - made here
        assert (again.raw, again.mtype, again.priority) == (b"\x00raw", 7, 3)


@pytest.mark.parametrize(("name", "kind"), CODES.items())
def test_each_errno_has_its_error(name: str, kind: type[IpcError]) -> None:
    number = getattr(errno, name)
    error = from_errno(number, op="call", target="it", hint="do")
    assert type(error) is kind
    assert (error.errno, error.strerror) == (number, os.strerror(number))
    assert (error.op, error.target, error.hint) == ("call", "it", "do")


def test_the_table_has_no_other_errno() -> None:
    mapped = {n for n in errno.errorcode if type(from_errno(n, op="call")) is not IpcError}
    assert mapped == {getattr(errno, name) for name in CODES}


def test_an_unknown_errno_is_a_plain_ipc_error() -> None:
    assert type(from_errno(errno.EIO, op="call")) is IpcError
    assert type(from_errno(99999, op="call")) is IpcError


def test_one_errno_can_mean_another_thing_for_one_call() -> None:
    assert type(from_errno(errno.E2BIG, op="semop")) is errors.LimitReached
    assert type(from_errno(errno.E2BIG, op="msgrcv")) is errors.MessageTooLong
    assert type(from_errno(errno.EBUSY, op="mq_notify")) is errors.AlreadyExists
    assert type(from_errno(errno.EBUSY, op="mq_send")) is IpcError


def test_a_message_of_its_own_replaces_the_c_librarys() -> None:
    assert from_errno(errno.ENOENT, op="call", message="it is not here").strerror == (
        "it is not here"
    )


def test_a_caller_that_knows_only_builtins_catches_them() -> None:
    with pytest.raises(FileNotFoundError):
        raise from_errno(errno.ENOENT, op="shm_open")
    with pytest.raises(TimeoutError):
        raise from_errno(errno.ETIMEDOUT, op="mq_receive")
