"""What both classes of semaphore promise alike."""

from __future__ import annotations

import copy
import errno
import gc
import os
import pickle
import signal
import threading
import warnings
import weakref
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest
from semaphore_files import semaphore_file

import ipckit
from ipckit import PosixSemaphore, SysVSemaphoreSet
from ipckit.testing import wait_blocked

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ipckit.testing import Child, Namespace

Handle = SysVSemaphoreSet | PosixSemaphore


class Kind:
    """One class, and what a test says the same way of each."""

    def __init__(self, cls: type[Any], ns: Namespace) -> None:
        self.cls = cls
        self.sysv = cls is SysVSemaphoreSet
        self.asleep = "semop" if self.sysv else "shared_futex"
        self.ns = ns

    def address(self) -> Any:
        """A key or a name that finds nothing yet."""
        return self.ns.key() if self.sysv else self.ns.name()

    def address_of(self, handle: Any) -> Any:
        return handle.key if self.sysv else handle.name

    def start(self, value: int) -> Any:
        """What `create` takes to begin with a value."""
        return [value] if self.sysv else value

    def create(self, value: int = 1, **options: Any) -> Any:
        return self.cls.create(self.address(), self.start(value), **options)

    def exists(self, address: Any) -> bool:
        try:
            self.cls.open(address).close()
        except ipckit.NotFound:
            return False
        return True

    def one(self, handle: Any) -> Any:
        """What has acquire, release and value."""
        return handle[0] if self.sysv else handle

    def mode(self, handle: Any) -> int:
        if self.sysv:
            return int(handle.stat().mode)
        return semaphore_file(handle.name).stat().st_mode & 0o7777

    @contextmanager
    def life(self, handle: Any) -> Generator[Any]:
        """Close at the end, and unlink what is owned: `with`, or `lifetime`."""
        with handle if self.sysv else handle.lifetime():
            yield handle


@pytest.fixture(params=[SysVSemaphoreSet, PosixSemaphore], ids=["sysv", "posix"])
def kind(request: pytest.FixtureRequest, ns: Namespace) -> Kind:
    return Kind(request.param, ns)


@contextmanager
def beside(act: Callable[[], object]) -> Generator[None]:
    """Another thread runs during a block; what it raises, leaving the block raises."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as exc:
            errors.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join(60)
    assert not thread.is_alive()
    if errors:
        raise errors[0]


def when_asleep(kind: Kind, act: Callable[[], object]) -> Callable[[], None]:
    def later() -> None:
        wait_blocked(os.getpid(), kind.asleep)
        act()

    return later


# -- making, finding, letting go -------------------------------------------------------------------


def test_create_fails_where_it_exists_and_open_where_it_does_not(kind: Kind) -> None:
    address = kind.address()
    with pytest.raises(ipckit.NotFound) as missing:
        kind.cls.open(address)
    assert missing.value.errno == errno.ENOENT
    with kind.life(kind.cls.create(address, kind.start(4))) as made:
        assert made.owner
        with pytest.raises(ipckit.AlreadyExists) as caught:
            kind.cls.create(address, kind.start(9))
        assert caught.value.errno == errno.EEXIST
        assert kind.one(made).value == 4
        with kind.life(kind.cls.open(address)) as other:
            assert not other.owner
            assert kind.one(other).value == 4
        assert kind.exists(address)
    assert not kind.exists(address)


def test_open_or_create_owns_only_what_it_made(kind: Kind) -> None:
    address = kind.address()
    with kind.life(kind.cls.open_or_create(address, kind.start(2))) as made:
        assert made.owner
        kind.one(made).acquire(timeout=0)
        with kind.life(kind.cls.open_or_create(address, kind.start(2))) as found:
            assert not found.owner
            assert kind.one(found).value == 1
        assert kind.exists(address)
    assert not kind.exists(address)


def test_without_an_address_it_picks_a_free_one(kind: Kind) -> None:
    with kind.life(kind.cls.create()) as one, kind.life(kind.cls.create()) as two:
        assert kind.address_of(one) != kind.address_of(two)
        assert kind.one(one).value == kind.one(two).value == 1


def test_close_is_idempotent_and_leaves_the_object(kind: Kind) -> None:
    made = kind.create()
    address = kind.address_of(made)
    made.close()
    made.close()
    assert made.closed
    assert kind.exists(address)
    made.unlink()  # works on a closed handle
    assert not kind.exists(address)
    with pytest.raises(ipckit.NotFound):
        made.unlink()
    made.unlink(missing_ok=True)


def test_a_closed_handle_refuses_everything(kind: Kind) -> None:
    made = kind.create()
    one = kind.one(made)
    made.unlink()
    made.close()
    calls: list[Callable[[], object]] = [
        one.acquire,
        lambda: one.acquire(timeout=0),
        lambda: one.acquire(timeout=600),
        one.release,
        one.__enter__,
        lambda: one.value,
        lambda: kind.life(made).__enter__(),
        lambda: pickle.dumps(made),
    ]
    for call in calls:
        with pytest.raises(ipckit.ClosedHandle) as caught:
            call()
        assert caught.value.errno == errno.EBADF
        assert str(kind.address_of(made)) in caught.value.target or kind.sysv


def test_ownership_moves_by_disown_and_adopt(kind: Kind) -> None:
    address = kind.address()
    with kind.life(kind.cls.create(address).disown()):
        pass
    with kind.life(kind.cls.open(address)) as found:
        assert not found.owner
        assert found.adopt() is found
    assert not kind.exists(address)


def test_a_handle_dropped_unclosed_warns_and_never_unlinks(kind: Kind) -> None:
    address = kind.address()
    made = kind.cls.create(address)
    with pytest.warns(ResourceWarning, match=f"unclosed <{kind.cls.__name__}"):
        del made
    found = kind.cls.open(address)
    found.unlink()
    found.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del found
        gc.collect()


def test_a_cycle_through_a_handle_is_collected(kind: Kind) -> None:
    made = kind.create()
    made.unlink()
    made.close()
    made.itself = [made, kind.one(made)]
    probe = made.probe = type("Probe", (), {})()
    seen = weakref.ref(probe)
    del made, probe
    gc.collect()
    assert seen() is None


def test_repr_says_class_address_value_and_state(kind: Kind) -> None:
    made = kind.create(3)
    text = repr(made)
    address = kind.address_of(made)
    for part in (kind.cls.__name__, f"{address:#010x}" if kind.sysv else address, "3", "owner"):
        assert part in text
    assert "open" in text
    made.unlink()
    made.close()
    assert "closed" in repr(made)
    assert "owner" not in repr(made)


def test_the_mode_is_0600_whatever_the_umask(kind: Kind) -> None:
    for umask in (0, 0o077, 0o777):
        before = os.umask(umask)
        try:
            with kind.life(kind.create()) as plain, kind.life(kind.create(mode=0o666)) as shared:
                assert (kind.mode(plain), kind.mode(shared)) == (0o600, 0o666)
            with kind.life(kind.create(5, mode=0)) as closed:
                assert kind.mode(closed) == 0
        finally:
            os.umask(before)
    for bad in (-1, 0o1000):
        with pytest.raises(ipckit.InvalidArgument):
            kind.create(mode=bad)
    with pytest.raises(TypeError):
        kind.create(mode="rw")


def test_a_value_of_a_wrong_type_makes_nothing(kind: Kind) -> None:
    before = len(list(Path("/dev/shm").iterdir()))  # noqa: S108
    sets = Path("/proc/sysvipc/sem").read_text()
    for bad in ("1", 1.0, None, True, b"1"):
        with pytest.raises(TypeError):
            kind.create(bad)  # type: ignore[arg-type]
    assert len(list(Path("/dev/shm").iterdir())) == before  # noqa: S108
    assert Path("/proc/sysvipc/sem").read_text() == sets


def test_what_it_can_do_is_said(kind: Kind) -> None:
    caps = kind.cls.caps
    assert (caps.timed, caps.pollable, caps.priorities, caps.typed_receive) == (
        True,
        False,
        False,
        False,
    )
    made = kind.create()
    one = kind.one(made)
    made.unlink()
    if caps.unlink_destroys_now:
        with pytest.raises(ipckit.Removed):
            one.acquire()
    else:
        one.acquire(timeout=0)
        assert one.value == 0
    made.close()


# -- pickling and forks ----------------------------------------------------------------------------


def test_a_copy_is_another_handle_that_does_not_own(kind: Kind) -> None:
    with kind.life(kind.create(2)) as made:
        for again in (pickle.loads(pickle.dumps(made)), copy.copy(made)):  # noqa: S301
            assert not again.owner
            kind.one(again).release()
            again.close()
        assert kind.one(made).value == 4


def test_it_goes_to_children_of_every_start_method(kind: Kind, spawn: Callable[..., Child]) -> None:
    code = """
        import multiprocessing, ipckit
        if __name__ == "__main__":
            cls, start = getattr(ipckit, args[0]), args[1]
            made = cls.create(None, start)
            one = made[0] if args[0].startswith("SysV") else made
            methods = ("fork", "forkserver", "spawn")
            for method in methods:
                context = multiprocessing.get_context(method)
                child = context.Process(target=one.set.op if hasattr(one, "set") else made.release,
                    args=([ipckit.SemOp(0, 1)],) if hasattr(one, "set") else ())
                child.start()
                child.join()
                assert child.exitcode == 0, method
                one.acquire(timeout=0)
            assert made.owner
            made.unlink()
            made.close()
            from multiprocessing import forkserver
            forkserver._forkserver._stop()
            result = methods
    """
    child = spawn(
        dedent(code), kind.cls.__name__, kind.start(0), options=("-W", "error::ResourceWarning")
    )
    assert child.result == ("fork", "forkserver", "spawn")


def test_a_forked_copy_does_not_own(kind: Kind, spawn: Callable[..., Child]) -> None:
    code = """
        import os, ipckit
        made = getattr(ipckit, args[0]).create(None, args[1])
        pid = os.fork()
        if pid == 0:
            owner = made.owner
            with made if args[0].startswith("SysV") else made.lifetime():
                pass
            os._exit(owner)
        assert os.waitpid(pid, 0)[1] == 0
        again = type(made)._reopen(*made._reopen_args())
        again.close()
        result = made.owner
        made.unlink()
        made.close()
    """
    assert spawn(dedent(code), kind.cls.__name__, kind.start(1)).result is True


# -- taking and giving -----------------------------------------------------------------------------


def test_it_counts(kind: Kind) -> None:
    with kind.life(kind.create(2)) as made:
        one = kind.one(made)
        one.acquire()
        one.acquire(timeout=600)
        with pytest.raises(ipckit.WouldBlock) as caught:
            one.acquire(timeout=0)
        assert caught.value.errno == errno.EAGAIN
        one.release()
        one.release()
        one.release()
        assert one.value == 3


def test_with_takes_and_gives_back_whatever_happens(kind: Kind) -> None:
    with kind.life(kind.create(1)) as made:
        one = kind.one(made)
        with one as taken:
            assert taken == one
            assert one.value == 0
        with pytest.raises(ZeroDivisionError), one:
            _ = 1 / 0
        assert one.value == 1


def test_a_deadline_ends_a_wait_and_takes_nothing(kind: Kind) -> None:
    with kind.life(kind.create(0)) as made:
        one = kind.one(made)
        for timeout in (1e-9, 0.02):
            with pytest.raises(ipckit.Timeout, match=f"{timeout} s") as caught:
                one.acquire(timeout=timeout)
            assert caught.value.errno == errno.ETIMEDOUT
        assert one.value == 0
        one.release()
        one.acquire(timeout=1e-9)


@pytest.mark.parametrize("bad", [-1, -1e-9, float("nan"), -float("inf")])
def test_a_bad_timeout_is_refused(kind: Kind, bad: float) -> None:
    with kind.life(kind.create(1)) as made:
        with pytest.raises(ipckit.InvalidArgument, match="0 or more seconds"):
            kind.one(made).acquire(timeout=bad)
        assert kind.one(made).value == 1


def test_arguments_of_a_wrong_type_or_name_are_refused(kind: Kind) -> None:
    with kind.life(kind.create(1)) as made:
        one = kind.one(made)
        for options in ({"timeout": "1"}, {"timeout": []}, {"time": 1}, {"timeout": 1, "x": 2}):
            with pytest.raises(TypeError):
                one.acquire(**options)
        with pytest.raises(TypeError):
            one.acquire(1, 2)
        with pytest.raises(TypeError):
            one.release(1, 2)
        with pytest.raises(TypeError):
            one.release(timeout=1)
        assert one.value == 1


def test_an_argument_that_closes_the_handle_meets_a_closed_one(kind: Kind) -> None:
    class Closing:
        def __init__(self, made: Any) -> None:
            self.made = made

        def __float__(self) -> float:
            self.made.close()
            return 600.0

        def __index__(self) -> int:
            self.made.close()
            return 1

        def __bool__(self) -> bool:
            self.made.close()
            return True

    for name in ("timeout", "n", "undo") if kind.sysv else ("timeout",):
        for value in (0, 1):
            with kind.life(kind.create(value)) as made:
                one = kind.one(made)
                with pytest.raises(ipckit.ClosedHandle):
                    one.acquire(**{name: Closing(made)})


@pytest.mark.parametrize("timeout", [None, 600])
def test_a_waiting_thread_is_woken(kind: Kind, timeout: float | None) -> None:
    with kind.life(kind.create(0)) as made:
        one = kind.one(made)
        with beside(when_asleep(kind, one.release)):
            one.acquire(timeout=timeout)
        assert one.value == 0


@pytest.mark.parametrize("timeout", [None, 600])
def test_closing_while_a_thread_waits_does_not_crash_it(kind: Kind, timeout: float | None) -> None:
    made = kind.create(0)
    again = kind.cls.open(kind.address_of(made))

    def close_and_give() -> None:
        made.close()
        gc.collect()
        kind.one(again).release()

    with beside(when_asleep(kind, close_and_give)):
        kind.one(made).acquire(timeout=timeout)
    assert kind.one(again).value == 0
    again.unlink()
    again.close()


@pytest.mark.parametrize("timeout", [None, 600])
def test_a_signal_in_a_wait_is_handled_and_the_wait_goes_on(
    kind: Kind, timeout: float | None
) -> None:
    with kind.life(kind.create(0)) as made:
        one, here, seen = kind.one(made), threading.get_ident(), list[int]()

        def handle(number: int, _: object) -> None:
            seen.append(number)
            if len(seen) == 2:
                one.release()
            elif len(seen) == 3:
                raise ValueError(number)

        def interrupt() -> None:
            for count in range(1, 4):
                wait_blocked(os.getpid(), kind.asleep)
                signal.pthread_kill(here, signal.SIGUSR1)
                while len(seen) < count:
                    pass

        before = signal.signal(signal.SIGUSR1, handle)
        try:
            with beside(interrupt):
                one.acquire(timeout=timeout)
                # A handler's own ValueError is not taken for an argument's.
                with pytest.raises(ValueError, match=str(int(signal.SIGUSR1))) as caught:
                    one.acquire(timeout=timeout)
                assert type(caught.value) is ValueError
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert len(seen) == 3
        assert one.value == 0


def test_many_threads_exclude_each_other(kind: Kind) -> None:
    with kind.life(kind.create(1)) as made:
        one, inside, most, total = kind.one(made), list[int](), [0], [0]

        def work() -> None:
            for _ in range(200):
                with one:
                    inside.append(1)
                    most[0] = max(most[0], len(inside))
                    count = total[0]
                    inside.pop()
                    total[0] = count + 1

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (most, total, one.value) == ([1], [800], 1)
