"""What only a System V semaphore set has: vectors, undo, semctl, and values from the start."""

from __future__ import annotations

import errno
import gc
import os
import pickle
import threading
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ipckit
from ipckit import SemOp, SysVSemaphoreSet, _native
from ipckit.testing import Sandbox, wait_blocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Child, Namespace


@pytest.fixture
def three(ns: Namespace) -> Iterator[SysVSemaphoreSet]:
    with SysVSemaphoreSet.create(ns.key(), [1, 0, 5]) as made:
        yield made


# -- SemOp -----------------------------------------------------------------------------------------


def test_a_semop_is_a_value() -> None:
    op = SemOp(3, -2, undo=True)
    assert (op.index, op.delta, op.undo, op.nowait) == (3, -2, True, False)
    assert repr(op) == "SemOp(3, -2, undo=True)"
    assert repr(SemOp(0, 0, nowait=True)) == "SemOp(0, 0, nowait=True)"
    assert op == SemOp(index=3, delta=-2, undo=1)  # type: ignore[arg-type]
    assert hash(op) == hash(SemOp(3, -2, undo=True))
    assert len({op, SemOp(3, -2), SemOp(3, 2, undo=True), SemOp(2, -2, undo=True)}) == 4
    assert op != (3, -2)
    for each in (op, SemOp(65535, 32767, nowait=True), SemOp(0, -32768)):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert pickle.loads(pickle.dumps(each, protocol)) == each  # noqa: S301
    match op:
        case SemOp(index, delta):
            assert (index, delta) == (3, -2)


@pytest.mark.parametrize("name", ["index", "delta", "undo", "nowait"])
def test_a_semop_is_immutable(name: str) -> None:
    op = SemOp(3, -2)
    with pytest.raises(AttributeError):
        setattr(op, name, 1)
    with pytest.raises((AttributeError, TypeError)):
        delattr(op, name)
    with pytest.raises(AttributeError):
        op.other = 1  # type: ignore[attr-defined]
    assert op == SemOp(3, -2)


@pytest.mark.parametrize(
    ("index", "delta"), [(-1, 0), (65536, 0), (0, 32768), (0, -32769), (2**64, 0), (0, -(2**64))]
)
def test_a_semop_out_of_range_is_refused(index: int, delta: int) -> None:
    with pytest.raises(ipckit.InvalidArgument, match="must be"):
        SemOp(index, delta)


def test_a_semop_of_wrong_types_is_refused() -> None:
    make: Any = SemOp
    for args in ((), (1,), ("1", 1), (1, 1.0), (None, 1), (1, 1, True)):
        with pytest.raises(TypeError):
            make(*args)

    class Bad:
        def __bool__(self) -> bool:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        make(0, 1, undo=Bad())
    with pytest.raises(TypeError):
        type("Sub", (make,), {})


# -- vectors ---------------------------------------------------------------------------------------


def model(values: list[int], ops: list[SemOp]) -> tuple[list[int], str]:
    """What semop does with a vector that may not wait: the values afterwards, and the outcome."""
    after = list(values)
    for op in ops:
        if op.index >= len(values):
            return values, "InvalidArgument"  # the kernel looks at these before anything else
    for op in ops:
        if op.delta == 0 and after[op.index] != 0:
            return values, "WouldBlock"
        after[op.index] += op.delta
        if after[op.index] < 0:
            return values, "WouldBlock"
        if after[op.index] > 32767:
            return values, "LimitReached"
    return after, "done"


deltas = st.integers(-3, 3) | st.sampled_from([-32768, 32767, 32766])
vectors = st.lists(
    st.builds(SemOp, st.sampled_from([0, 1, 2, 2, 3]), deltas, nowait=st.booleans()), min_size=1
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 3) | st.just(32767), min_size=3, max_size=3), st.lists(vectors))
def test_vectors_are_all_or_nothing_in_order(values: list[int], steps: list[list[SemOp]]) -> None:
    with SysVSemaphoreSet.create(None, values) as made:
        for ops in steps:
            wanted, outcome = model(made.values, ops)
            try:
                made.op(iter(ops) if len(ops) % 2 else ops, timeout=0)
            except ipckit.IpcError as exc:
                seen = type(exc).__name__
            else:
                seen = "done"
            assert seen == outcome, ops
            assert made.values == wanted


def test_what_a_vector_gives_it_can_take(three: SysVSemaphoreSet) -> None:
    three.op([SemOp(1, 1), SemOp(1, -1), SemOp(1, 0), SemOp(0, -1)], 0)
    assert three.values == [0, 0, 5]
    with pytest.raises(ipckit.WouldBlock):
        three.op([SemOp(1, -1), SemOp(1, 1)], 0)
    assert three.values == [0, 0, 5]


@pytest.mark.parametrize("timeout", [None, 600])
def test_nowait_in_a_vector_fails_it_at_once_though_others_may_wait(
    three: SysVSemaphoreSet, timeout: float | None
) -> None:
    for ops in (
        [SemOp(0, -1), SemOp(1, -1, nowait=True)],
        [SemOp(2, 0, nowait=True), SemOp(1, -1)],
    ):
        with pytest.raises(ipckit.WouldBlock, match="cannot be done now"):
            three.op(ops, timeout)
    assert three.values == [1, 0, 5]


def test_the_error_names_the_operations_of_an_iterator(three: SysVSemaphoreSet) -> None:
    with pytest.raises(ipckit.WouldBlock, match=r"SemOp\(1, -1\) cannot be done now"):
        three.op(iter([SemOp(1, -1)]), 0)
    with pytest.raises(ipckit.LimitReached, match=r"operation 1, SemOp\(2, 32767\).*32772"):
        three.op((SemOp(i, 32767 * (i // 2)) for i in (1, 2)), 0)
    with pytest.raises(ipckit.InvalidArgument, match=r"operation 1, .*semaphores 0 to 2"):
        three.op(iter([SemOp(0, -1), SemOp(3, 1)]), 0)
    three.unlink()
    with pytest.raises(ipckit.Removed):
        three.op(iter([SemOp(0, -1)]))


def test_no_operations_too_many_and_none_at_all(three: SysVSemaphoreSet) -> None:
    call: Any = three.op
    with pytest.raises(ipckit.InvalidArgument, match="no operations"):
        call([])
    with pytest.raises(ipckit.LimitReached, match="501 operations in one call exceed the 500"):
        call([SemOp(0, 0)] * 501)
    for junk in (None, 1, [None], [(0, 1)], [SemOp(0, 1), "x"], SemOp(0, 1)):
        with pytest.raises(TypeError):
            call(junk, 0)

    def wrong() -> Iterator[SemOp]:
        yield SemOp(0, -1)
        raise OSError(errno.EIO, "the iterator's own")

    with pytest.raises(OSError, match="the iterator's own") as caught:
        call(wrong())
    assert type(caught.value) is OSError
    assert three.values == [1, 0, 5]


def test_a_vector_sleeps_until_all_of_it_can_be_done(three: SysVSemaphoreSet) -> None:
    done: list[list[int]] = []

    def take() -> None:
        three.op([SemOp(0, -1), SemOp(1, -2), SemOp(2, -5)])
        done.append(three.values)

    thread = threading.Thread(target=take)
    thread.start()
    wait_blocked(os.getpid(), "semop")
    assert three.values == [1, 0, 5]
    three[1].release()
    wait_blocked(os.getpid(), "semop")
    assert (three.values, done) == ([1, 1, 5], [])
    assert (three[1].waiting, three[0].waiting, three[1].waiting_zero) == (1, 0, 0)
    three[1].release()
    thread.join(60)
    assert done == [[0, 0, 0]]


def test_waiting_for_zero(three: SysVSemaphoreSet) -> None:
    with pytest.raises(ipckit.WouldBlock):
        three[0].wait_zero(timeout=0)
    with pytest.raises(ipckit.Timeout, match=r"SemOp\(0, 0\)"):
        three[0].wait_zero(timeout=0.01)
    three[1].wait_zero(timeout=0)
    thread = threading.Thread(target=three[0].wait_zero)
    thread.start()
    wait_blocked(os.getpid(), "semop")
    assert (three[0].waiting_zero, three[0].waiting) == (1, 0)
    three[0].acquire()
    thread.join(60)
    assert not thread.is_alive()
    for bad in ({"undo": True}, {"n": 1}):
        with pytest.raises(TypeError):
            three[0].wait_zero(**bad)


# -- one semaphore ---------------------------------------------------------------------------------


def test_taking_and_giving_several(three: SysVSemaphoreSet) -> None:
    three[2].acquire(3)
    three[2].acquire(n=2, timeout=0)
    three[2].release(7)
    assert three[2].value == 7
    one: Any = three[2]
    for bad in (0, -1, 32768, 10**5000):
        with pytest.raises(ipckit.InvalidArgument):
            one.acquire(bad)
        with pytest.raises(ipckit.InvalidArgument):
            one.release(n=bad)
    with pytest.raises(TypeError, match="n once"):
        one.acquire(1, n=2)
    assert three.values == [1, 0, 7]


def test_which_semaphores_there_are(three: SysVSemaphoreSet) -> None:
    assert len(three) == 3
    assert [each.index for each in three] == [0, 1, 2]
    assert three[1] == three[1] != three[2]
    assert hash(three[1]) == hash(three[1])
    assert three[1].set is three
    assert repr(three[1]).endswith("[1]")
    for bad in (3, -1, 2**31, 2**70):
        with pytest.raises(IndexError):
            _ = three[bad]
    for junk in ("0", None, 1.0, slice(0, 1)):
        with pytest.raises(TypeError):
            _ = three[junk]  # type: ignore[index]
    with pytest.raises(TypeError):
        type(three[0])()


def test_an_index_that_closes_the_set_does_not_crash(ns: Namespace) -> None:
    made = SysVSemaphoreSet.create(ns.key(), [1])

    class Closing:
        def __index__(self) -> int:
            made.unlink()
            made.close()
            gc.collect()
            return 0

    with pytest.raises(ipckit.ClosedHandle):
        made[Closing()].acquire(timeout=0)


def test_the_native_base_alone_refuses(three: SysVSemaphoreSet) -> None:
    class Bare(_native.SemaphoreSetBase):
        pass

    bare: Any = Bare()
    assert len(bare) == 0
    with pytest.raises(IndexError):
        _ = bare[0]
    bare._count = 2**31 - 1
    for index in (0, 65535, 65536, 2**31 - 2):
        with pytest.raises(AttributeError, match="_explain_op"):
            bare[index].acquire(timeout=0)
        with pytest.raises(AttributeError, match="_value"):
            _ = bare[index].value
    # An index beyond what sembuf can name: never another semaphore in its place.
    bare._id = three.id
    with pytest.raises(AttributeError):
        bare[65536].acquire(timeout=0)
    assert three.values == [1, 0, 5]
    empty = SysVSemaphoreSet.__new__(SysVSemaphoreSet)
    for call in (empty.unlink, empty.close, empty.stat):
        with pytest.raises(AttributeError):
            call()
    assert "AttributeError" in repr(empty)


def test_an_explanation_that_is_no_exception_does_not_crash() -> None:
    class Odd(_native.SemaphoreSetBase):
        answer: Any = None

        def _explain_op(self, *_: object) -> Any:
            return self.answer

    odd = Odd()
    odd._count = 1
    for answer in (None, 1, ValueError, odd):
        odd.answer = answer
        with pytest.raises((SystemError, TypeError)):
            odd[0].acquire(timeout=0)


@pytest.mark.usefixtures("root")
def test_a_set_of_more_than_65536(spawn: Callable[..., Child]) -> None:
    code = """
        from ipckit import InvalidArgument, SysVSemaphoreSet
        with SysVSemaphoreSet.create(None, [1] * 65537) as made:
            made[65535].acquire(timeout=0)
            try:
                made[65536].acquire(timeout=0)
            except InvalidArgument as exc:
                text = str(exc)
            result = text, made[0].value, made[65535].value, made[65536].value
    """
    sandbox = Sandbox(sysctls={"kernel.sem": "70000 1024000000 500 32000"})
    text, first, last, beyond = spawn(dedent(code), sandbox=sandbox).result
    assert "index must be 0 to 65535, not 65536" in text
    assert (first, last, beyond) == (1, 0, 1)


# -- undo ------------------------------------------------------------------------------------------

HOLDER = """
import os, signal, sys
from ipckit import SemOp, SysVSemaphoreSet
from ipckit.testing import step
made = SysVSemaphoreSet.from_id(args[0])
"""


def test_what_a_killed_process_took_with_undo_comes_back(
    three: SysVSemaphoreSet, spawn: Callable[..., Child]
) -> None:
    code = """
        made[0].acquire(undo=True)
        made.op([SemOp(2, -3, undo=True), SemOp(2, -1), SemOp(1, +4, undo=True)])
        if os.fork() == 0:
            os._exit(0)   # a fork's copy has nothing to undo
        os.wait()
        step.tell(made.values)
        step.hear()
    """
    child = spawn(HOLDER + dedent(code), three.id)
    assert child.hear() == [0, 4, 1]
    child.kill()
    assert three.values == [1, 0, 4]


def test_with_gives_back_when_its_process_is_killed(
    three: SysVSemaphoreSet, spawn: Callable[..., Child]
) -> None:
    child = spawn(HOLDER + 'with made[0]:\n    step.tell("in")\n    step.hear()', three.id)
    child.expect("in")
    assert three[0].pid == child.pid
    with pytest.raises(ipckit.WouldBlock):
        three[0].acquire(timeout=0)
    child.kill()
    three[0].acquire(timeout=0)


def test_undo_is_kept_across_exec_and_cleared_by_setting_the_value(
    three: SysVSemaphoreSet, spawn: Callable[..., Child]
) -> None:
    code = """
        made[0].acquire(undo=True)
        made[2].acquire(undo=True)
        pid = os.getpid()
        reader, writer = os.pipe()
        holder = os.fork()
        if holder == 0:
            made[1].release(undo=True)
            os.dup2(writer, 1)
            os.execv(sys.executable, [sys.executable, "-c",
                "import signal; print('ready', flush=True); signal.pause()"])
        assert os.read(reader, 5) == b"ready"
        step.tell(made.values)   # the other program still has it
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
        step.tell(made.values)
        made[0].value = 7
        step.expect("end")
        made.close()
    """
    child = spawn(HOLDER + dedent(code), three.id)
    assert child.hear() == [0, 1, 4]
    assert child.hear() == [0, 0, 4]
    child.tell("end")
    child.wait()
    assert three.values == [7, 0, 5]


def test_an_undo_count_has_a_limit_that_the_error_names(
    three: SysVSemaphoreSet, spawn: Callable[..., Child]
) -> None:
    code = """
        from ipckit import LimitReached
        for _ in range(32768):
            made[1].release(undo=True)
            made[1].acquire()
        try:
            made[1].release(undo=True)
        except LimitReached as exc:
            result = str(exc)
        made.close()
    """
    text = spawn(HOLDER + dedent(code), three.id).result
    assert "undo count would exceed ±32767" in text
    assert "pass undo to both acquire and release" in text
    assert three[1].value == 0  # clamped, where so much can't be taken back


# -- semctl ----------------------------------------------------------------------------------------


def test_values_all_at_once_and_one_by_one(three: SysVSemaphoreSet) -> None:
    three.values = [3, 2, 32767]
    assert three.values == [3, 2, 32767]
    three[1].value = 0
    assert [each.value for each in three] == [3, 0, 32767]
    assert [each.pid for each in three] == [os.getpid()] * 3
    bad_sets: list[Any] = [[1], [1, 2, 3, 4], [1, 2, -1], [1, 2, 32768], []]
    for bad in bad_sets:
        with pytest.raises(ipckit.InvalidArgument):
            three.values = bad
    for junk in ([1, 2, None], [1, 2, 3.0], [True, 1, 1], "abc", None):
        with pytest.raises(TypeError):
            three.values = junk  # type: ignore[assignment]
    for bad in (-1, 32768, 2**64):
        with pytest.raises(ipckit.InvalidArgument, match="0 to 32767"):
            three[0].value = bad
    with pytest.raises(AttributeError):
        del three[0].value  # type: ignore[misc]
    assert three.values == [3, 0, 32767]


def test_stat_says_what_proc_says(three: SysVSemaphoreSet) -> None:
    three.chmod(0o640)
    three.chown(gid=12)
    rows = [line.split() for line in Path("/proc/sysvipc/sem").read_text().splitlines()]
    (row,) = (dict(zip(rows[0], each, strict=True)) for each in rows if each[1] == str(three.id))
    stat = three.stat()
    assert stat.key == int(row["key"]) == three.key
    assert (stat.id, stat.nsems) == (int(row["semid"]), int(row["nsems"])) == (three.id, 3)
    assert stat.mode == int(row["perms"], 8) == 0o640
    for name in ("uid", "gid", "cuid", "cgid", "otime", "ctime"):
        assert getattr(stat, name) == int(row[name]), name
    assert stat.gid == 12
    assert stat.otime > 0


def test_chown_and_chmod_refuse_what_is_out_of_range(three: SysVSemaphoreSet) -> None:
    before = three.stat()
    for bad in (-1, 2**32 - 1, 2**64):
        with pytest.raises(ipckit.InvalidArgument):
            three.chown(uid=bad)
    with pytest.raises(ipckit.InvalidArgument):
        three.chmod(0o1000)
    three.chown()
    assert (three.stat().uid, three.stat().gid, three.stat().mode) == (
        before.uid,
        before.gid,
        before.mode,
    )


def test_from_id_finds_a_private_set_that_has_no_key() -> None:
    number = _native.semget(0, 2, 0o600)
    with SysVSemaphoreSet.from_id(number).adopt() as made:
        assert (made.key, made.id, len(made), made.owner) == (None, number, 2, True)
        made[0].release()
    with pytest.raises(ipckit.NotFound):
        SysVSemaphoreSet.from_id(number)
    with pytest.raises(ipckit.InvalidArgument):
        SysVSemaphoreSet.from_id(-1)


def test_removal_wakes_who_waits(three: SysVSemaphoreSet) -> None:
    caught: list[BaseException] = []

    def take() -> None:
        try:
            three[1].acquire()
        except ipckit.Removed as exc:
            caught.append(exc)

    thread = threading.Thread(target=take)
    thread.start()
    wait_blocked(os.getpid(), "semop")
    three.unlink()
    thread.join(60)
    assert [str(exc).rpartition(": ")[2] for exc in caught] == ["the set was removed"]
