"""ipckit._core.handle: the lifecycle of every handle, with a handle that records each call."""

from __future__ import annotations

import copy
import errno
import gc
import pickle
import warnings
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pytest

from ipckit._core.handle import Capabilities, Handle, checked_mode, closed_handle
from ipckit.errors import AccessDenied, ClosedHandle, InvalidArgument, NotFound, Removed
from ipckit.testing import Child

if TYPE_CHECKING:
    from collections.abc import Iterator

CAPS = Capabilities(
    pollable=False, timed=False, priorities=False, typed_receive=False, unlink_destroys_now=True
)


def gone(name: str) -> NotFound:
    return NotFound(f"{name} is gone", errno=errno.ENOENT)


class Fake(Handle):
    """An object in a dict of this process, and a list of what was done."""

    caps = CAPS
    exists: ClassVar[set[str]] = set()
    done: ClassVar[list[str]] = []

    def __init__(self, name: str, *, owner: bool) -> None:
        super().__init__(owner=owner)
        self.name = name
        self.ours = True
        self.failure: Exception | None = None

    @classmethod
    def create(cls, name: str = "it") -> Self:
        cls.exists.add(name)
        return cls(name, owner=True)

    @classmethod
    def open(cls, name: str = "it") -> Self:
        return cls(name, owner=False)

    def _release(self) -> None:
        self.done.append("release")

    def _remove(self) -> None:
        self.done.append("remove")
        if self.failure is not None:
            raise self.failure
        if self.name not in self.exists:
            raise gone(self.name)
        self.exists.remove(self.name)

    def _still_ours(self) -> bool:
        return self.ours

    @property
    def _target(self) -> str:
        return f"fake {self.name!r}"

    def _size_text(self) -> str:
        if self.failure is not None:
            raise self.failure
        return "7 bytes"

    def _reopen_args(self) -> tuple[Any, ...]:
        return (self.name,)

    @classmethod
    def _reopen(cls, *args: Any) -> Self:
        return cls.open(*args)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    Fake.exists.clear()
    Fake.done.clear()
    yield
    Fake.exists.clear()


class TestOwnership:
    def test_who_created_owns(self) -> None:
        with Fake.create() as created, Fake.open() as opened:
            assert created.owner
            assert not opened.owner

    def test_leaving_with_unlinks_what_it_owns_and_closes(self) -> None:
        with Fake.create() as handle:
            assert not handle.closed
        assert Fake.done == ["remove", "release"]
        assert handle.closed
        assert not handle.owner
        assert Fake.exists == set()

    def test_leaving_with_only_closes_what_it_does_not_own(self) -> None:
        Fake.exists.add("it")
        with Fake.open():
            pass
        assert Fake.done == ["release"]
        assert Fake.exists == {"it"}

    def test_disown_and_adopt_move_it(self) -> None:
        with Fake.create() as first, Fake.open() as second:
            assert first.disown() is first
            assert second.adopt() is second
            assert (first.owner, second.owner) == (False, True)
        # The second goes first, and takes the object with it.
        assert Fake.done == ["remove", "release", "release"]

    def test_an_object_that_went_away_meanwhile_is_no_error(self) -> None:
        with Fake.create():
            Fake.exists.clear()
        assert Fake.done == ["remove", "release"]

    def test_a_later_object_of_the_same_name_stays(self) -> None:
        with Fake.create() as handle:
            handle.ours = False
        assert Fake.done == ["release"]
        assert Fake.exists == {"it"}

    def test_it_closes_and_unlinks_after_an_exception_too(self) -> None:
        handle = Fake.create()
        with pytest.raises(ZeroDivisionError), handle:
            raise ZeroDivisionError
        assert Fake.done == ["remove", "release"]

    def test_it_closes_where_unlinking_fails(self) -> None:
        handle = Fake.create()
        handle.failure = AccessDenied("no", errno=errno.EPERM)
        with pytest.raises(AccessDenied), handle:
            pass
        assert Fake.done == ["remove", "release"]
        assert handle.closed


class TestClose:
    def test_it_releases_once(self) -> None:
        handle = Fake.open()
        handle.close()
        handle.close()
        assert Fake.done == ["release"]
        assert handle.closed

    def test_a_closed_handle_is_entered_no_more(self) -> None:
        handle = Fake.open()
        handle.close()
        with pytest.raises(ClosedHandle, match=r"enter on fake 'it': the handle is closed") as info:
            handle.__enter__()
        assert info.value.errno == errno.EBADF

    def test_closing_within_with_still_unlinks(self) -> None:
        with Fake.create() as handle:
            handle.close()
        assert Fake.done == ["release", "remove"]

    def test_closed_handle_is_the_error_for_any_call(self) -> None:
        error = closed_handle("msgsnd", "queue 1")
        assert isinstance(error, ClosedHandle)
        assert isinstance(error, ValueError)
        assert str(error) == "msgsnd on queue 1: the handle is closed"


class TestUnlink:
    def test_it_removes_once(self) -> None:
        with Fake.create() as handle:
            handle.unlink()
            assert not handle.owner
            assert Fake.exists == set()
            with pytest.raises(NotFound):
                handle.unlink()
            handle.unlink(missing_ok=True)
            handle.unlink(True)  # noqa: FBT003 - as pathlib has it
        assert Fake.done == ["remove"] * 4 + ["release"]

    def test_it_works_on_a_closed_handle(self) -> None:
        handle = Fake.create()
        handle.close()
        handle.unlink()
        assert Fake.exists == set()

    def test_missing_ok_hides_nothing_else(self) -> None:
        with Fake.open() as handle:
            handle.failure = AccessDenied("no", errno=errno.EPERM)
            with pytest.raises(AccessDenied):
                handle.unlink(missing_ok=True)


class TestDropped:
    def test_it_warns_and_closes_and_never_unlinks(self) -> None:
        handle = Fake.create()
        with pytest.warns(ResourceWarning) as caught:  # noqa: PT031 - dropping takes two
            del handle
            gc.collect()
        assert [str(each.message) for each in caught] == [
            "unclosed <Fake fake 'it', 7 bytes, open, owner>"
        ]
        assert Fake.done == ["release"]
        assert Fake.exists == {"it"}

    def test_a_closed_one_says_nothing(self) -> None:
        handle = Fake.create()
        handle.close()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del handle
            gc.collect()
        assert caught == []
        assert Fake.done == ["release"]

    def test_one_that_never_came_to_be_says_nothing(self) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del_me = Fake.__new__(Fake)
            del del_me
            gc.collect()
        assert caught == []
        assert Fake.done == []

    def test_it_closes_where_the_warning_is_an_error(self) -> None:
        handle = Fake.create()
        seen: list[type[BaseException]] = []
        with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("error")
            patch.setattr("sys.unraisablehook", lambda event: seen.append(event.exc_type))
            del handle
            gc.collect()
        assert seen == [ResourceWarning]
        assert Fake.done == ["release"]


FORKED = """
import gc, os, warnings
from ipckit._core.handle import Handle

class Fake(Handle):
    done = []
    def _release(self): self.done.append("release")
    def _remove(self): self.done.append("remove")
    _target = "fake"
    def _size_text(self): return "7 bytes"
    def _reopen_args(self): return ()
    @classmethod
    def _reopen(cls): return cls(owner=False)

def in_a_fork(work):
    # What the child finds comes back through a pipe; the parent's copy is untouched.
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                found = work()
                gc.collect()
            kinds = [str(each.message) for each in caught]
            os.write(writer, repr((found, Fake.done, kinds)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with open(reader, "rb") as file:
        return eval(file.read())

handle = Fake(owner=True)
"""


class TestForked:
    def test_the_copy_is_not_the_owner(self) -> None:
        code = """
def work():
    with handle:
        return handle.owner
result = in_a_fork(work), handle.owner, Fake.done[:]
handle.close()
"""
        with Child(FORKED + code) as child:
            assert child.result == ((False, ["release"], []), True, [])

    def test_the_copy_is_dropped_without_a_warning(self) -> None:
        code = """
def work():
    global handle
    del handle
result = in_a_fork(work), handle.owner
handle.close()
"""
        with Child(FORKED + code) as child:
            copied, owner = child.result
        assert (copied[0], copied[2]) == (None, [])
        assert "remove" not in copied[1]
        assert owner

    def test_a_grandchild_is_not_the_owner_either(self) -> None:
        code = """
def work():
    return in_a_fork(lambda: handle.owner), handle.owner
result = in_a_fork(work)
handle.close()
"""
        with Child(FORKED + code) as child:
            (grandchild, own), _, _ = child.result
        assert grandchild[0] is False
        assert own is False

    def test_the_copy_can_adopt(self) -> None:
        code = """
def work():
    handle.adopt()
    with handle:
        return handle.owner
result = in_a_fork(work)
handle.close()
"""
        with Child(FORKED + code) as child:
            assert child.result == (True, ["remove", "release"], [])

    def test_what_a_fork_makes_itself_it_owns_and_is_warned_of(self) -> None:
        code = """
def work():
    mine = Fake(owner=True)
    return mine.owner
result = in_a_fork(work)
handle.close()
"""
        with Child(FORKED + code) as child:
            owner, done, caught = child.result
        assert owner is True
        assert done == ["release"]
        assert caught == ["unclosed <Fake fake, 7 bytes, open, owner>"]


class TestPickle:
    @pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
    def test_it_arrives_as_a_non_owner_of_the_same_object(self, protocol: int) -> None:
        with Fake.create("that") as handle:
            with pickle.loads(pickle.dumps(handle, protocol)) as again:  # noqa: S301 - made here
                assert type(again) is Fake
                assert again.name == "that"
                assert not again.owner
            assert Fake.exists == {"that"}
            assert handle.owner

    def test_a_copy_is_no_owner(self) -> None:
        with Fake.create() as handle, copy.copy(handle) as again:
            assert not again.owner

    def test_a_closed_one_does_not_travel(self) -> None:
        handle = Fake.open()
        handle.close()
        with pytest.raises(ClosedHandle, match="pickle on fake 'it'"):
            pickle.dumps(handle)


class TestRepr:
    def test_it_shows_the_facts(self) -> None:
        with Fake.create() as handle:
            assert repr(handle) == "<Fake fake 'it', 7 bytes, open, owner>"
            handle.disown()
            assert repr(handle) == "<Fake fake 'it', 7 bytes, open>"
        assert repr(handle) == "<Fake fake 'it', closed>"

    def test_it_shows_an_ipc_error_and_does_not_raise_it(self) -> None:
        with Fake.open() as handle:
            handle.failure = Removed("gone", errno=errno.EIDRM)
            assert repr(handle) == "<Fake fake 'it', Removed>"

    @pytest.mark.parametrize("failure", [OSError("bare"), ValueError("bare"), AttributeError()])
    def test_it_raises_nothing_else_either(self, failure: Exception) -> None:
        with Fake.open() as handle:
            handle.failure = failure
            assert repr(handle).startswith("<Fake fake 'it', ")


class TestMode:
    @pytest.mark.parametrize("mode", [0, 0o600, 0o777])
    def test_permission_bits_pass(self, mode: int) -> None:
        assert checked_mode(mode) == mode

    @pytest.mark.parametrize("mode", [-1, 0o1000, 0o1777, 2**70])
    def test_others_do_not(self, mode: int) -> None:
        with pytest.raises(InvalidArgument, match="must be 0 to 0o777, not") as info:
            checked_mode(mode)
        assert info.value.errno == errno.EINVAL

    @pytest.mark.parametrize("mode", ["600", 6.0, None, b"6"])
    def test_what_is_no_int_is_a_type_error(self, mode: int) -> None:
        with pytest.raises(TypeError, match=f"not {type(mode).__name__}"):
            checked_mode(mode)


def test_capabilities_are_values() -> None:
    assert copy.replace(CAPS) == CAPS if hasattr(copy, "replace") else copy.copy(CAPS) == CAPS
    with pytest.raises(AttributeError):
        CAPS.timed = True  # type: ignore[misc]


def test_a_handle_that_lacks_a_part_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Handle(owner=False)  # type: ignore[abstract]
