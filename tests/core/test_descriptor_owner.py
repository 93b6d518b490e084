"""A descriptor has one owner: an error closes it once, and never closes the caller's."""

from __future__ import annotations

import contextlib
import gc
import inspect
import os
import socket
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import ipckit
from ipckit import (
    Channel,
    MappedFile,
    MemFd,
    PosixMessageQueue,
    PosixSemaphore,
    PosixSharedMemory,
    SysVMessageQueue,
    SysVSemaphoreSet,
    SysVSharedMemory,
    Topic,
    UnixListener,
    UnixSocket,
    unixsock,
)
from ipckit._core.descriptors import Descriptor, handed_over
from ipckit._core.mqueue_files import WaitedDescriptor
from ipckit._shm.mapping import map_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from ipckit.testing import Namespace

    Make = Callable[[], Any]

PACKAGE = str(Path(ipckit.__file__).parent)
LOCKING = {map_file.__code__, WaitedDescriptor.close.__code__}
OWNERS = {inspect.getfile(Descriptor), inspect.getfile(WaitedDescriptor)}


class Stop(BaseException):
    """What a signal's handler raises."""


def identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def left_alone(frame: FrameType) -> bool:
    """Whether a frame is where an exception would be lost, or is not ipckit's.

    Between the kernel's call and the constructor of the owner a signal can cost one descriptor.
    Where a lock is held, a traced exception can come before `__exit__`, and a signal's can not.
    """
    code = frame.f_code
    if not code.co_filename.startswith(PACKAGE):
        return True
    if code.co_name == "__init__" and code.co_filename in OWNERS:
        return True
    if code in LOCKING:
        return True
    caller: FrameType | None = frame
    while caller is not None:
        if caller.f_code.co_name == "__del__":
            return True
        caller = caller.f_back
    return False


def interrupted_at(place: int, call: Make) -> bool:
    """Make a call with Stop raised at the n-th line of ipckit's; false when it has fewer."""
    left = place

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if left_alone(frame):
            return None
        if event == "line":
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise Stop
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        made = call()
    except Stop:
        return True
    finally:
        sys.settrace(before)
    for each in made if isinstance(made, tuple) else (made,):
        each.close()
    return False


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Fail when a descriptor is closed that another part of the program has opened meanwhile."""
    yield
    pipes = [end for _ in range(4) for end in os.pipe()]
    known = [identity(end) for end in pipes]
    gc.collect(0)
    assert [identity(end) for end in pipes] == known
    for end in pipes:
        os.close(end)


def subscription_of(topic: str) -> tuple[Any, Any]:
    """A topic and a subscription to it."""
    made = Topic.open(topic)
    try:
        return made, made.subscribe()
    except BaseException:
        made.close()
        raise


@pytest.fixture
def factories(ns: Namespace) -> Iterator[dict[str, Make]]:
    named: list[Any] = [
        Channel.create(ns.name()),
        Topic.create(ns.name()),
        PosixSharedMemory.create(ns.name(), 64),
        PosixMessageQueue.create(ns.name()),
    ]
    channel, topic, memory, queue = (str(each.name) for each in named)
    for each in named:
        each.close()
    yield {
        "Channel.anonymous": lambda: Channel.anonymous(capacity=2, size=64),
        "Channel.open": lambda: Channel.open(channel),
        "Topic.anonymous": lambda: Topic.anonymous(capacity=2, size=64),
        "Topic.open": lambda: Topic.open(topic),
        "Topic.subscribe": lambda: subscription_of(topic),
        "MemFd.create": lambda: MemFd.create("x", 64),
        "PosixSharedMemory.open": lambda: PosixSharedMemory.open(memory),
        "PosixMessageQueue.open": lambda: PosixMessageQueue.open(queue),
        "pair": unixsock.pair,
    }
    for each in named:
        each.unlink()


@pytest.mark.parametrize(
    "which",
    [
        "Channel.anonymous",
        "Channel.open",
        "Topic.anonymous",
        "Topic.open",
        "Topic.subscribe",
        "MemFd.create",
        "PosixSharedMemory.open",
        "PosixMessageQueue.open",
        "pair",
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the standard library's, for a socket
def test_an_exception_anywhere_closes_no_other_file(factories: dict[str, Make], which: str) -> None:
    call = factories[which]
    assert not interrupted_at(100_000, call)  # all is loaded now
    place = 0
    while True:
        with watched():
            if not interrupted_at(place, call):
                break
        place += 1
    assert place > 3


def lent(which: str) -> tuple[int, Callable[[int], Any]]:
    """A descriptor, and the `from_fd` that takes it."""
    if which == "UnixSocket":
        first, second = socket.socketpair()
        second.close()
        return first.detach(), UnixSocket.from_fd
    if which == "UnixListener":
        listening = socket.socket(socket.AF_UNIX)
        listening.bind("")
        listening.listen()
        return listening.detach(), UnixListener.from_fd
    owner: Any
    if which in {"Channel", "Topic"}:
        owner = getattr(ipckit, which).anonymous(capacity=2, size=64)
        fd = os.dup(owner.memory_fd)
    else:
        owner = {
            "MemFd": lambda: MemFd.create("x", 64),
            "PosixSharedMemory": lambda: PosixSharedMemory.create(size=64),
            "PosixMessageQueue": PosixMessageQueue.create,
        }[which]()
        fd = os.dup(owner.fileno())
    with contextlib.suppress(ipckit.NotFound):
        owner.unlink()
    owner.close()
    return fd, getattr(ipckit, which).from_fd


TAKERS = ["Channel", "Topic", "MemFd", "PosixSharedMemory", "PosixMessageQueue", "UnixSocket"]
TAKERS += ["UnixListener"]


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a handle that was made, and is dropped
@pytest.mark.parametrize("which", TAKERS)
def test_from_fd_that_fails_anywhere_leaves_the_caller_the_descriptor(which: str) -> None:
    fd, call = lent(which)
    known = identity(fd)
    place = 0
    while True:
        with watched():
            if not interrupted_at(place, lambda: call(fd)):
                break
        assert identity(fd) == known, place
        place += 1
    assert place > 3
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.parametrize("which", TAKERS)
def test_what_from_fd_took_is_closed_with_the_handle_and_not_inherited(which: str) -> None:
    fd, call = lent(which)
    os.set_inheritable(fd, True)  # noqa: FBT003
    with call(fd) as handle:
        held = handle.memory_fd if which in {"Channel", "Topic"} else handle.fileno()
        assert not os.get_inheritable(held)
    for number in (fd, held):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)


def broken(cls: type[Any]) -> Any:
    """A subclass whose constructor fails when all of the class's own work is done."""

    def fail(self: Any, *args: Any, **options: Any) -> None:
        cls.__init__(self, *args, **options)
        raise Stop

    return type(cls.__name__, (cls,), {"__init__": fail})


@pytest.mark.parametrize("cls", [Channel, Topic, MemFd, PosixSharedMemory, PosixMessageQueue])
def test_a_subclass_that_fails_closes_once_and_leaves_no_name(cls: Any, ns: Namespace) -> None:
    made: list[Make] = []
    name = ns.name()
    if cls is MemFd:
        made = [lambda: broken(cls).create("x", 64)]
    else:
        options: dict[str, Any] = {"size": 64} if cls is PosixSharedMemory else {}
        made = [lambda: broken(cls).create(name, **options)]
        if cls in {Channel, Topic}:
            made.append(lambda: broken(cls).anonymous())
    for call in made:
        with watched(), pytest.raises(Stop):
            call()
    if cls is not MemFd:
        with pytest.raises(ipckit.NotFound):
            cls.open(name)


@pytest.mark.parametrize("which", TAKERS)
def test_from_fd_of_a_subclass_that_fails(which: str) -> None:
    fd, _ = lent(which)
    known = identity(fd)
    with watched(), pytest.raises(Stop):
        broken(getattr(ipckit, which)).from_fd(fd)
    assert identity(fd) == known
    os.close(fd)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("cls", [SysVMessageQueue, SysVSharedMemory, SysVSemaphoreSet])
def test_a_system_v_object_whose_handle_can_not_be_made_is_removed(cls: Any, ns: Namespace) -> None:
    key = ns.key()
    with pytest.raises(Stop):
        broken(cls).create(key, **({"size": 64} if cls is SysVSharedMemory else {}))
    gc.collect()
    with pytest.raises(ipckit.NotFound):
        cls.open(key)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_files_whose_handle_can_not_be_made_are_removed(
    ns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ns.path("data")
    with pytest.raises(Stop):
        broken(MappedFile).create(path, 64)
    assert not os.path.lexists(path)
    name = ns.name()
    with pytest.raises(Stop):
        broken(PosixSemaphore).create(name)
    with pytest.raises(ipckit.NotFound):
        PosixSemaphore.open(name)

    def fail(*_: object, **__: object) -> None:
        raise Stop

    monkeypatch.setattr(UnixListener, "__init__", fail)
    with pytest.raises(Stop):
        unixsock.listen(path)
    assert not os.path.lexists(path)


def test_a_view_outlives_its_channel_and_the_descriptor_does_not() -> None:
    with Channel.anonymous(bytes, capacity=4, size=4096) as channel:
        fd = channel.memory_fd
        channel.send(b"x" * 100)
        view = channel.receive_view()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if bytes(view.buf) == b"x" * 100 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert bytes(view.buf) == b"x" * 100
    view.release()


def test_the_owner_closes_once_and_keeps_what_is_lent() -> None:
    first, second = os.pipe()
    mine = Descriptor(first)
    with watched():
        mine.close()
        mine.close()
        del mine
    lend = Descriptor(second, owned=False)
    lend.close()
    del lend
    assert stat.S_ISFIFO(os.fstat(second).st_mode)
    # A constructor that closes its handle has taken the descriptor, and closed it.
    handed_over(Descriptor(second, owned=False), lambda taken: taken.close())
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(second)
