"""Objects of other users: what `open_or_create` and `Channel.open` accept, and what they refuse."""

from __future__ import annotations

import inspect
import os
import pickle
from contextlib import closing
from textwrap import dedent
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

import ipckit
from ipckit import (
    AccessDenied,
    Channel,
    InvalidArgument,
    PosixMessageQueue,
    PosixSemaphore,
    PosixSharedMemory,
    SysVMessageQueue,
    SysVSemaphoreSet,
    SysVSharedMemory,
    Topic,
    codec,
    sem,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child, Namespace

pytestmark = pytest.mark.usefixtures("root")

NOBODY = 65534


class Kind(NamedTuple):
    cls: Any
    arguments: tuple[Any, ...]
    keyed: bool


KINDS = [
    Kind(Channel, (), keyed=False),
    Kind(PosixMessageQueue, (), keyed=False),
    Kind(PosixSharedMemory, (64,), keyed=False),
    Kind(PosixSemaphore, (), keyed=False),
    Kind(SysVMessageQueue, (), keyed=True),
    Kind(SysVSharedMemory, (64,), keyed=True),
    Kind(SysVSemaphoreSet, ([1],), keyed=True),
    Kind(sem.Lock, (), keyed=True),
    Kind(sem.ReadWriteLock, (), keyed=True),
    Kind(sem.BoundedBuffer, (2,), keyed=True),
    Kind(sem.Event, (), keyed=True),
    Kind(Topic, (), keyed=False),
]
kinds = pytest.mark.parametrize("kind", KINDS, ids=[each.cls.__name__ for each in KINDS])

# Makes an object, tells, and lets go of it when it is told to.
MAKER = """
    import ipckit, ipckit.sem
    from ipckit.testing import step
    name, at, arguments, mode = args
    cls = getattr(ipckit, name, None) or getattr(ipckit.sem, name)
    if name in ("Channel", "Topic"):
        arguments = (ipckit.codec.Pickle(),)
    made = cls.create(at, *arguments, mode=mode)
    if name in ("PosixMessageQueue", "SysVMessageQueue"):
        made.send(b"x")
    step.tell("made")
    step.expect("done")
    made.unlink()
    made.close()
"""


def address(kind: Kind, ns: Namespace) -> Any:
    return ns.key() if kind.keyed else ns.name()


@kinds
def test_another_users_object_is_refused_and_owner_uid_accepts_it(
    kind: Kind, ns: Namespace, spawn: Callable[..., Child]
) -> None:
    at = address(kind, ns)
    child = spawn(
        dedent(MAKER),
        kind.cls.__name__,
        at,
        kind.arguments,
        0o666,
        user="nobody",
        imports=["ipckit", "ipckit.sem", "ipckit.codec"],
    )
    child.expect("made")
    arguments = (codec.Pickle(),) if kind.cls in {Channel, Topic} else kind.arguments
    for mode in (0o600, 0o666):
        with pytest.raises(AccessDenied, match=r"the owner is nobody \(uid 65534\)") as caught:
            kind.cls.open_or_create(at, *arguments, mode=mode)
        assert "the mode 0666" in str(caught.value)
        assert "owner_uid=65534" in caught.value.hint
    # Another user than the one who is allowed.
    with pytest.raises(AccessDenied):
        kind.cls.open_or_create(at, *arguments, mode=0o666, owner_uid=1)
    # The user is allowed, and what the object lets all others do is not what was asked for.
    with pytest.raises(AccessDenied, match="more rights than the requested 0600") as caught:
        kind.cls.open_or_create(at, *arguments, owner_uid=NOBODY)
    assert "mode=0o666" in caught.value.hint
    with closing(kind.cls.open_or_create(at, *arguments, mode=0o666, owner_uid=NOBODY)):
        pass
    if kind.cls is Channel:
        with pytest.raises(AccessDenied, match="nobody"):
            Channel.open(at, *arguments)
        with Channel.open(at, *arguments, owner_uid=NOBODY) as channel:
            # The handle that a pickle opens accepts what this one did.
            with pickle.loads(pickle.dumps(channel)) as again:  # noqa: S301
                again.send([1])
            assert channel.receive() == [1]
    elif kind.cls is Topic:
        with pytest.raises(AccessDenied, match="nobody"):
            Topic.open(at, *arguments)
        with Topic.open(at, *arguments, owner_uid=NOBODY) as topic, topic.subscribe() as values:
            with pickle.loads(pickle.dumps(topic)) as again:  # noqa: S301
                again.publish([1])
            assert values.receive() == [1]
    else:
        # What the kernel keeps is opened as always: other users' programs are what it is for.
        with closing(kind.cls.open(at)):
            pass
    child.tell("done")


@kinds
def test_ones_own_object_with_a_wider_mode_is_refused(kind: Kind, ns: Namespace) -> None:
    at = address(kind, ns)
    made = kind.cls.create(at, *kind.arguments, mode=0o660)
    for mode in (0o600, 0o640):
        with pytest.raises(AccessDenied, match=r"the owner is root \(uid 0\), the mode 0660"):
            kind.cls.open_or_create(at, *kind.arguments, mode=mode)
    for mode in (0o660, 0o666):
        kind.cls.open_or_create(at, *kind.arguments, mode=mode).close()
    kind.cls.open(at).close()
    made.unlink()
    made.close()


@kinds
def test_a_user_may_use_what_root_made(
    kind: Kind, ns: Namespace, spawn: Callable[..., Child]
) -> None:
    at = address(kind, ns)
    made = kind.cls.create(at, *kind.arguments, mode=0o666)
    code = """
        import ipckit, ipckit.sem
        name, at, arguments = args
        cls = getattr(ipckit, name, None) or getattr(ipckit.sem, name)
        cls.open(at).close()
        cls.open_or_create(at, *arguments, mode=0o666).close()
        try:
            cls.open_or_create(at, *arguments)
        except ipckit.AccessDenied as exc:
            result = str(exc)
    """
    child = spawn(
        dedent(code),
        kind.cls.__name__,
        at,
        kind.arguments,
        user="nobody",
        imports=["ipckit", "ipckit.sem"],
    )
    assert "more rights than the requested 0600" in child.result
    made.unlink()
    made.close()


@pytest.mark.parametrize("cls", [SysVMessageQueue, SysVSharedMemory, SysVSemaphoreSet])
def test_a_creator_who_gives_the_object_to_root_is_still_its_creator(
    cls: Any, ns: Namespace, spawn: Callable[..., Child]
) -> None:
    key = ns.key()
    code = """
        import ipckit
        from ipckit.testing import step
        name, key = args
        cls = getattr(ipckit, name)
        made = cls.create(key, **({"size": 64} if name == "SysVSharedMemory" else {}))
        made.chown(uid=0)
        made.close()
        step.tell("made")
        step.expect("done")
    """
    child = spawn(dedent(code), cls.__name__, key, user="nobody", imports=["ipckit"])
    child.expect("made")
    with closing(cls.open(key)) as found:
        assert (found.stat().uid, found.stat().mode & 0o777) == (0, 0o600)
        with pytest.raises(AccessDenied, match=r"the creator is nobody \(uid 65534\)"):
            cls.open_or_create(key, *([64] if cls is SysVSharedMemory else []))
        if cls is SysVMessageQueue:
            with pytest.raises(AccessDenied, match="creator"):
                cls.open(key, codec.Pickle())
        found.unlink()
    child.tell("done")


@pytest.mark.parametrize("kind", [KINDS[1], KINDS[4]], ids=["PosixMessageQueue", "SysV"])
def test_a_queue_that_unpickles_is_refused_by_every_way_to_it(
    kind: Kind, ns: Namespace, spawn: Callable[..., Child]
) -> None:
    at = address(kind, ns)
    child = spawn(
        dedent(MAKER),
        kind.cls.__name__,
        at,
        (),
        0o666,
        user="nobody",
        imports=["ipckit", "ipckit.sem", "ipckit.codec"],
    )
    child.expect("made")
    calls: list[Callable[..., Any]] = [
        lambda payload, **options: kind.cls.open(at, payload, **options),
        lambda payload, **options: kind.cls.open_or_create(at, payload, mode=0o666, **options),
    ]
    payloads: list[Any] = [codec.Pickle(), codec.Pickle]
    if kind.keyed:
        ident = SysVMessageQueue.open(at)
        calls.append(lambda payload, **options: kind.cls.from_id(ident.id, payload, **options))
        payloads.append({1: bytes, 2: codec.Pickle})
        ident.close()
    for call in calls:
        for payload in payloads:
            with pytest.raises(AccessDenied, match=r"nobody \(uid 65534\)"):
                call(payload)
            with call(payload, owner_uid=NOBODY) as queue:
                assert len(queue) == 1
                with pickle.loads(pickle.dumps(queue)) as again:  # noqa: S301
                    assert len(again) == 1
    child.tell("done")


def test_the_owner_is_the_files_and_not_the_paths(ns: Namespace) -> None:
    """A symbolic link in the sticky directory leads nowhere."""
    with Channel.create(ns.name()) as channel:
        link = ns.name()
        path = f"/dev/shm/ipckit.{link[1:]}"  # noqa: S108
        os.symlink(f"/dev/shm/ipckit.{channel.name[1:]}", path)  # type: ignore[index]  # noqa: PTH211, S108
        for call in (Channel.open, Channel.open_or_create):
            with pytest.raises(ipckit.Corrupt):
                call(link)
        os.unlink(path)  # noqa: PTH108


@kinds
@pytest.mark.parametrize("wrong", [-1, 2**32 - 1, 2**40])
def test_an_owner_uid_that_can_be_no_users(kind: Kind, ns: Namespace, wrong: int) -> None:
    at = address(kind, ns)
    with pytest.raises(InvalidArgument, match="owner_uid"):
        kind.cls.open_or_create(at, *kind.arguments, owner_uid=wrong)
    with pytest.raises(TypeError, match="owner_uid"):
        kind.cls.open_or_create(at, *kind.arguments, owner_uid="root")
    with pytest.raises(ipckit.NotFound):
        kind.cls.open(at)


@kinds
def test_the_timeout_is_the_same_everywhere(kind: Kind) -> None:
    found = inspect.signature(kind.cls.open_or_create).parameters["timeout"]
    assert found.default == 1.0
