"""A System V semaphore set has its values from the start, whoever makes it, dies or is slow."""

from __future__ import annotations

import os
import threading
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

import ipckit
from ipckit import SemOp, SysVSemaphoreSet, _native
from ipckit._sem import sysv
from ipckit._sem.initialise import initialise
from ipckit.testing import wait_blocked

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Child, Namespace

FRESH = _native.IPC_CREAT | _native.IPC_EXCL | 0o600


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less for a creator than users do, in tests in which none comes."""
    monkeypatch.setattr(sysv, "CREATOR_GRACE", 0.2)


def remove(number: int) -> None:
    with SysVSemaphoreSet.from_id(number).adopt():
        pass


def test_many_processes_at_once_make_one_set(ns: Namespace, spawn: Callable[..., Child]) -> None:
    # Each takes both semaphores by one vector, ten at a time are let loose on a fresh key.
    code = """
        import os, select
        from ipckit import SemOp, SysVSemaphoreSet
        rounds = []
        for key in args[0]:
            start, go = os.pipe()
            told, tell = os.pipe()
            pids = []
            for _ in range(8):
                pid = os.fork()
                if pid == 0:
                    os.close(go)
                    os.read(start, 1)
                    made = SysVSemaphoreSet.open_or_create(key, [3, 0, 2])
                    made.op([SemOp(0, +1), SemOp(2, -1), SemOp(1, +1), SemOp(2, +1)])
                    os.write(tell, b"%d %d " % (made.owner, made.id))
                    made.disown().close()
                    os._exit(0)
                pids.append(pid)
            for end in (start, go, tell):
                os.close(end)
            assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 8
            text = os.read(told, 10000).split()
            os.close(told)
            with SysVSemaphoreSet.open(key).adopt() as made:
                rounds.append((made.values, sum(map(int, text[::2])), len(set(text[1::2]))))
        result = rounds
    """
    keys = [ns.key() for _ in range(25)]
    assert spawn(dedent(code), keys).result == [([11, 8, 2], 1, 1)] * 25


def test_a_set_whose_maker_died_before_its_values_is_made_anew(ns: Namespace) -> None:
    key = ns.key()
    number = _native.semget(key, 2, FRESH)
    with SysVSemaphoreSet.open_or_create(key, [4, 0]) as made:
        assert made.owner
        assert made.id != number
        assert made.values == [4, 0]
        assert made.stat().otime
        with SysVSemaphoreSet.open_or_create(key, [4, 0]) as found:
            assert (found.owner, found.id) == (False, made.id)


@pytest.mark.usefixtures("short_grace")
def test_several_who_find_such_a_set_make_one(ns: Namespace) -> None:
    key = ns.key()
    _native.semget(key, 1, FRESH)
    found: list[SysVSemaphoreSet] = []
    threads = [
        threading.Thread(target=lambda: found.append(SysVSemaphoreSet.open_or_create(key, [2])))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each.id for each in found}) == 1
    assert [each.owner for each in found].count(True) == 1
    assert found[0].values == [2]
    found[0].unlink()
    for each in found:
        each.close()


@pytest.mark.usefixtures("short_grace")
@pytest.mark.parametrize("verb", ["create", "open_or_create"])
def test_a_maker_that_was_only_slow_gives_no_value_twice(
    ns: Namespace, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    # It sleeps between semget and its semop; meanwhile another comes, gives up on it, makes the
    # set and takes the only unit there is. Adding a second unit would give a lock to two.
    key = ns.key()
    others: list[SysVSemaphoreSet] = []

    def slow(number: int, values: list[int]) -> None:
        monkeypatch.setattr(sysv, "initialise", initialise)
        others.append(SysVSemaphoreSet.open_or_create(key, [1]))
        others[0][0].acquire(timeout=0)
        initialise(number, values)

    monkeypatch.setattr(sysv, "initialise", slow)
    if verb == "create":
        with pytest.raises(ipckit.Removed):
            SysVSemaphoreSet.create(key, [1])
    else:
        with SysVSemaphoreSet.open_or_create(key, [1]) as late:
            assert (late.owner, late.id) == (False, others[0].id)
    with others[0] as other:
        assert other.owner
        assert other.values == [0]


def test_a_slow_maker_is_waited_for(ns: Namespace) -> None:
    key = ns.key()
    number = _native.semget(key, 1, FRESH)
    found: list[SysVSemaphoreSet] = []
    for find in (
        lambda: found.append(SysVSemaphoreSet.open(key, timeout=60)),
        lambda: found.append(SysVSemaphoreSet.open_or_create(key, [1])),
    ):
        thread = threading.Thread(target=find)
        thread.start()
        if not found:
            wait_blocked(os.getpid(), "clock_nanosleep")
            assert not found
            initialise(number, [1])
        thread.join(60)
    assert [(each.id, each.values, each.owner) for each in found] == [(number, [1], False)] * 2
    found[0].unlink()
    for each in found:
        each.close()


def test_open_takes_a_set_without_values_as_it_is_after_its_deadline(ns: Namespace) -> None:
    key = ns.key()
    number = _native.semget(key, 2, FRESH)
    for timeout in (0, 0.01):
        with SysVSemaphoreSet.open(key, timeout=timeout) as found:
            assert (found.id, found.values) == (number, [0, 0])
    remove(number)


def test_open_or_create_gives_up_at_its_deadline_and_removes_nothing(ns: Namespace) -> None:
    key = ns.key()
    number = _native.semget(key, 1, FRESH)
    for timeout in (0, 0.01):
        with pytest.raises(ipckit.Timeout, match="its creator has not initialised it"):
            SysVSemaphoreSet.open_or_create(key, [1], timeout=timeout)
    remove(number)


def test_zeros_alone_are_taken_at_once(ns: Namespace) -> None:
    key = ns.key()
    number = _native.semget(key, 3, FRESH)
    with SysVSemaphoreSet.open_or_create(key, [0, 0, 0], timeout=0) as found:
        assert (found.id, found.owner) == (number, False)
        assert found.stat().otime
        found[1].release()
        with SysVSemaphoreSet.open_or_create(key, [0, 0, 0], timeout=0) as again:
            assert again.values == [0, 1, 0]
    remove(number)


@pytest.mark.parametrize("how", ["SETVAL", "SETALL", "SETVAL to zero", "semop"])
def test_a_set_that_a_foreign_program_gave_values_is_taken_at_once(ns: Namespace, how: str) -> None:
    key = ns.key()
    number = _native.semget(key, 2, FRESH)
    if how == "SETALL":
        _native.sem_setall(number, [0, 5])
    elif how == "semop":
        _native.sem_ops(number, [SemOp(1, 5)], 0)
    else:
        _native.sem_setval(number, 1, 0 if "zero" in how else 5)
    values = [0, 0 if "zero" in how else 5]
    with SysVSemaphoreSet.open_or_create(key, [1, 1], timeout=0) as found:
        assert (found.id, found.values, found.owner) == (number, values, False)
    with SysVSemaphoreSet.open(key, timeout=None) as found:
        assert found.values == values
    remove(number)


@pytest.mark.usefixtures("root")
def test_values_set_in_another_pid_namespace_count_though_its_pid_does_not(
    ns: Namespace, spawn: Callable[..., Child]
) -> None:
    key = ns.key()
    number = _native.semget(key, 1, FRESH)
    code = """
        import subprocess, sys
        subprocess.run(["unshare", "--pid", "--fork", sys.executable, "-c",
            "from ipckit import _native; _native.sem_setval(%d, 0, 3)" % args[0]], check=True)
        from ipckit import SysVSemaphoreSet
        with SysVSemaphoreSet.open_or_create(args[1], [1], timeout=0) as found:
            result = found.id, found.values
    """
    child = spawn(dedent(code), number, key)
    assert child.result == (number, [3])
    remove(number)


def test_a_set_of_another_size_is_refused(ns: Namespace) -> None:
    with SysVSemaphoreSet.create(ns.key(), [1, 2]) as made:
        assert made.key is not None
        for values in ([1], [1, 2, 3], [0]):
            with pytest.raises(ipckit.InvalidArgument, match="the set has 2 semaphores"):
                SysVSemaphoreSet.open_or_create(made.key, values)
        assert made.values == [1, 2]


@pytest.mark.parametrize("values", [[1] * 251, [7] * 1000, [32767] * 300, [0] * 700])
def test_more_semaphores_than_a_vector_has_room_for(ns: Namespace, values: list[int]) -> None:
    key = ns.key()
    with SysVSemaphoreSet.create(key, values) as made:
        assert made.stat().otime
        with SysVSemaphoreSet.open_or_create(key, values, timeout=0) as found:
            assert found.values == values
            found[len(values) - 1].release() if values[0] < 32767 else None
        assert made[len(values) - 1].value == min(values[0] + 1, 32767)


@pytest.mark.usefixtures("root")
def test_a_maker_of_another_user_that_died_is_not_removed(
    ns: Namespace, spawn: Callable[..., Child]
) -> None:
    key = ns.key()
    number = _native.semget(key, 1, FRESH | 0o666)
    code = """
        from ipckit import AccessDenied, SysVSemaphoreSet
        try:
            SysVSemaphoreSet.open_or_create(args[0], [1])
        except AccessDenied as exc:
            result = str(exc)
    """
    child: Any = spawn(dedent(code), key, user="nobody", imports=["ipckit"])
    assert "the owner is root (uid 0), the mode 0666" in child.result
    remove(number)
