"""What the Linux Test Project asserts of semget, semop, semctl and sem_*, through ipckit.

Each test is named after its row: ``testcases/kernel/syscalls/sem*/NAME.c``, and those named
``open_posix_CALL_N`` for ``testcases/open_posix_testsuite``'s assertion N of that call. A bad
address (EFAULT) can't be said in Python; in its place stands an object of a wrong type, which is
refused before any system call. A timeout is a number of seconds and no timespec.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest
from semaphore_files import semaphore_file

import ipckit
from ipckit import PosixSemaphore, SemOp, SysVSemaphoreSet, _native
from ipckit.sem import list_sets, semaphore_limits, semaphore_usage
from ipckit.testing import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Child, Namespace

# In a child: what a call gave, or its error as (class, errno, message).
OUTCOME = """
import errno, os, resource, threading
from pathlib import Path
from ipckit import PosixSemaphore, SemOp, SysVSemaphoreSet, _native
from ipckit.sem import list_sets, semaphore_limits, semaphore_usage
from ipckit.testing import step
def outcome(call, *args, **options):
    try:
        return call(*args, **options)
    except Exception as exc:
        return type(exc).__name__, getattr(exc, "errno", None), str(exc)
"""


@pytest.fixture
def ten(ns: Namespace) -> Iterator[SysVSemaphoreSet]:
    with SysVSemaphoreSet.create(ns.key(), [1] + [0] * 9) as made:
        yield made


@pytest.fixture
def gate(ns: Namespace) -> Iterator[PosixSemaphore]:
    with PosixSemaphore.create(ns.name(), 0).lifetime() as made:
        yield made


def child(spawn: Callable[..., Child], code: str, *args: object, **options: Any) -> Child:
    return spawn(OUTCOME + dedent(code), *args, **options)


def nobody(spawn: Callable[..., Child], code: str, *args: object) -> Any:
    return child(spawn, code, *args, user="nobody", imports=["ipckit.sem", "ipckit.testing"]).result


# -- semget ----------------------------------------------------------------------------------------


def test_semget01_a_fresh_set(ns: Namespace) -> None:
    key, before = ns.key(), int(time.time() - 0.1)  # the kernel takes the time of its last tick
    number = _native.semget(key, 10, _native.IPC_CREAT | _native.IPC_EXCL | 0o640)
    with SysVSemaphoreSet.from_id(number).adopt() as made:
        stat = made.stat()
        assert (stat.nsems, stat.otime, stat.key, stat.mode) == (10, 0, key, 0o640)
        assert (stat.uid, stat.cuid) == (os.geteuid(),) * 2
        assert (stat.gid, stat.cgid) == (os.getegid(),) * 2
        assert before <= stat.ctime <= time.time()
        assert made.values == [0] * 10


@pytest.mark.usefixtures("root")
def test_semget02_eacces(ten: SysVSemaphoreSet, spawn: Callable[..., Child]) -> None:
    code = """
        # semget asks for no right with flags of 0; the first use does.
        result = outcome(_native.semget, args[0], 0, 0o600), outcome(SysVSemaphoreSet.open, args[0])
        if not isinstance(result[1], tuple):
            with result[1] as made:
                result = result[0], outcome(made.op, [SemOp(0, -1)], 0)
    """
    raw, opened = nobody(spawn, code, ten.key)
    assert raw[:2] == ("PermissionError", errno.EACCES)
    assert opened[:2] == ("AccessDenied", errno.EACCES)
    assert ten[0].value == 1


def test_semget02_eexist_and_enoent(ten: SysVSemaphoreSet, ns: Namespace) -> None:
    assert ten.key is not None
    with pytest.raises(ipckit.AlreadyExists, match="the set already exists") as exists:
        SysVSemaphoreSet.create(ten.key, [0] * 10)
    assert (exists.value.errno, exists.value.op) == (errno.EEXIST, "semget")
    assert "open_or_create" in exists.value.hint
    key = ns.key()
    with pytest.raises(ipckit.NotFound, match="no such set") as missing:
        SysVSemaphoreSet.open(key)
    assert missing.value.errno == errno.ENOENT
    assert f"SysVSemaphoreSet.create({key}, values)" in missing.value.hint


def test_semget02_einval(ten: SysVSemaphoreSet, ns: Namespace) -> None:
    assert ten.key is not None
    most = semaphore_limits().semmsl
    with pytest.raises(ipckit.LimitReached, match=f"{most + 1} semaphores exceed the {most}"):
        SysVSemaphoreSet.create(ns.key(), [0] * (most + 1))
    with pytest.raises(ipckit.InvalidArgument, match="the set has 10 semaphores, not 11"):
        SysVSemaphoreSet.open_or_create(ten.key, [0] * 11)
    with pytest.raises(ipckit.InvalidArgument, match="1 semaphore or more"):
        SysVSemaphoreSet.create(ns.key(), [])
    for count in (-1, 11):
        with pytest.raises(OSError, match="Invalid argument") as caught:
            _native.semget(ten.key if count > 0 else ns.key(), count, 0o1600)
        assert caught.value.errno == errno.EINVAL


@pytest.mark.usefixtures("root")
def test_semget05_enospc_at_semmni_and_semmns(spawn: Callable[..., Child]) -> None:
    code = """
        made = [SysVSemaphoreSet.create() for _ in range(3)]
        sets = outcome(SysVSemaphoreSet.create)
        made.pop().__exit__(None, None, None)
        semaphores = outcome(SysVSemaphoreSet.create, None, [0] * 99)
        for each in made:
            each.unlink()
            each.close()
        result = sets, semaphores
    """
    sandbox = Sandbox(sysctls={"kernel.sem": "100 100 50 3"})
    for refused in child(spawn, code, sandbox=sandbox).result:
        assert refused[:2] == ("LimitReached", errno.ENOSPC)
        assert "the limit of 3 sets or of 100 semaphores (kernel.sem)" in refused[2]


# -- semop -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [None, 0, 600])
def test_semop01_a_vector_over_all(ten: SysVSemaphoreSet, timeout: float | None) -> None:
    ten.op([SemOp(i, i) for i in range(1, 10)], timeout)
    assert ten.values == list(range(1, 2)) + list(range(1, 10))
    assert ten.stat().otime > 0


def test_semop02_e2big_names_semopm(ten: SysVSemaphoreSet) -> None:
    count = semaphore_limits().semopm + 1
    with pytest.raises(
        ipckit.LimitReached, match=f"{count} operations in one call exceed"
    ) as caught:
        ten.op([SemOp(0, 1)] * count)
    assert caught.value.errno == errno.E2BIG
    assert ten[0].value == 1


@pytest.mark.usefixtures("root")
def test_semop02_eacces(ns: Namespace, spawn: Callable[..., Child]) -> None:
    made = [SysVSemaphoreSet.create(ns.key(), [1, 0], mode=mode) for mode in (0o600, 0o604, 0o602)]
    code = """
        result = []
        for number in args:
            with SysVSemaphoreSet.from_id(number) as made:
                result.append([
                    outcome(made.op, [SemOp(0, +1)], 0),
                    outcome(made[1].wait_zero, timeout=0),
                    outcome(made[7 % 2].acquire, timeout=0),
                    outcome(made.op, [SemOp(2, 1)], 0),
                    outcome(made[0].release, 32767),
                    outcome(lambda: made.values),
                ])
    """
    none, read, write = nobody(spawn, code, *(each.id for each in made))
    assert none.pop(3)[:2] == ("InvalidArgument", errno.EFBIG)  # what comes before any right
    for each in none:
        assert each[:2] == ("AccessDenied", errno.EACCES)
        assert "the owner is root (uid 0), the mode 0600" in each[2]
    assert [each if each is None else each[0] for each in read[:3]] == [
        "AccessDenied",
        None,
        "AccessDenied",
    ]
    assert read[5] == [1, 0]
    assert write[0] is None
    assert write[2][0] == "WouldBlock"
    assert "the set has semaphores 0 to 1" in write[3][2]
    assert write[4][:2] == ("LimitReached", errno.ERANGE)
    assert "a value or this process's undo count" in write[4][2]
    assert write[5][0] == "AccessDenied"
    for each in made:
        each.unlink()
        each.close()


def test_semop02_efault_is_a_type_error(ten: SysVSemaphoreSet) -> None:
    call: Any = ten.op
    for junk in (None, 1, [None], b"x"):
        with pytest.raises(TypeError):
            call(junk)
    for junk in ("1", [], b""):
        with pytest.raises(TypeError):
            call([SemOp(1, -1)], junk)


def test_semop02_einval_of_no_operations_and_of_a_bad_id(ten: SysVSemaphoreSet) -> None:
    with pytest.raises(ipckit.InvalidArgument, match="no operations"):
        ten.op([])
    for number in (-1, ten.id + 1):
        with pytest.raises(OSError, match="Invalid argument") as caught:
            _native.sem_ops(number, [SemOp(0, 1)], 0)
        assert caught.value.errno == errno.EINVAL


def test_semop02_erange_above_semvmx(ten: SysVSemaphoreSet) -> None:
    with pytest.raises(ipckit.LimitReached, match="value would be 32768, above 32767") as caught:
        ten[0].release(32767)
    assert caught.value.errno == errno.ERANGE
    assert ten[0].value == 1


@pytest.mark.parametrize("index", [10, 11, 65535])
def test_semop02_efbig(ten: SysVSemaphoreSet, index: int) -> None:
    with pytest.raises(ipckit.InvalidArgument, match="the set has semaphores 0 to 9") as caught:
        ten.op([SemOp(0, -1), SemOp(index, 1)], 0)
    assert caught.value.errno == errno.EFBIG
    with pytest.raises(ipckit.InvalidArgument):
        SemOp(-1, 1)
    assert ten[0].value == 1


def test_semop02_eagain(ten: SysVSemaphoreSet) -> None:
    cases = [[SemOp(0, 0, nowait=True)], [SemOp(1, -1, nowait=True)]]
    for ops in cases:
        with pytest.raises(ipckit.WouldBlock) as caught:
            ten.op(ops)
        assert caught.value.errno == errno.EAGAIN
    for ops in ([SemOp(0, 0)], [SemOp(1, -1)]):
        begun = time.monotonic()
        with pytest.raises(ipckit.Timeout) as late:
            ten.op(ops, 0.02)
        assert time.monotonic() - begun >= 0.02
        assert late.value.errno == errno.ETIMEDOUT


@pytest.mark.parametrize("ops", [[SemOp(0, 0)], [SemOp(1, -1)]])
@pytest.mark.parametrize("timeout", [None, 600])
def test_semop03_eidrm(
    ten: SysVSemaphoreSet, begin: Any, ops: list[SemOp], timeout: float | None
) -> None:
    call = begin(ten.op, ops, timeout)
    call.wait_blocked("semop")
    ten.unlink()
    with pytest.raises(ipckit.Removed, match="the set was removed") as caught:
        call.result()
    assert caught.value.errno == errno.EIDRM


@pytest.mark.parametrize("ops", [[SemOp(0, 0)], [SemOp(1, -1)]])
@pytest.mark.parametrize("timeout", [None, 600])
def test_semop03_eintr(
    ten: SysVSemaphoreSet, signals: Any, ops: list[SemOp], timeout: float | None
) -> None:
    # A handler that changes nothing but what the call waits for: the call goes on by itself.
    signals.action = lambda: setattr(ten, "values", [0, 1] + [0] * 8)
    with signals.during("semop"):
        ten.op(ops, timeout)
    ten.values = [1] + [0] * 9
    signals.action = lambda: 1 / 0
    with signals.during("semop"), pytest.raises(ZeroDivisionError):
        ten.op(ops, timeout)
    assert signals.seen == 2
    assert (ten[0].waiting_zero, ten[1].waiting) == (0, 0)


def test_semop04_two_processes_contend(ten: SysVSemaphoreSet, spawn: Callable[..., Child]) -> None:
    code = """
        with SysVSemaphoreSet.from_id(args[0]) as made:
            step.tell("ready")
            step.expect("go")
            for _ in range(500):
                made[0].acquire()
                made[1].release()       # inside: never more than one
                assert made[1].value == 1
                made[1].acquire(timeout=0)
                made[0].release()
    """
    both = [child(spawn, code, ten.id) for _ in range(2)]
    for each in both:
        each.expect("ready")
    for each in both:
        each.tell("go")
    for each in both:
        each.wait()
    assert ten.values[:2] == [1, 0]


def test_semop05_undo_of_a_thread_comes_at_the_process_end(
    ten: SysVSemaphoreSet, spawn: Callable[..., Child]
) -> None:
    code = """
        made = SysVSemaphoreSet.from_id(args[0])
        thread = threading.Thread(target=lambda: made[0].acquire(undo=True))
        thread.start()
        thread.join()
        step.tell(made[0].value)
        step.expect("end")
        made.close()
    """
    one = child(spawn, code, ten.id)
    assert one.hear() == 0
    assert ten[0].value == 0
    one.tell("end")
    one.wait()
    assert ten[0].value == 1


# -- semctl ----------------------------------------------------------------------------------------


def test_semctl01_stat_set_and_the_counts(ten: SysVSemaphoreSet, begin: Any) -> None:
    ten.chmod(0o660)
    assert ten.stat().mode == 0o660
    ten.values = list(range(10))
    assert ten.values == list(range(10))
    ten[4].value = 1
    assert (ten[4].value, ten[4].pid) == (1, os.getpid())
    waiting = [begin(ten[0].acquire), begin(ten[0].acquire), begin(ten[1].wait_zero)]
    while (ten[0].waiting, ten[1].waiting_zero) != (2, 1):
        os.sched_yield()
    assert (ten[0].waiting_zero, ten[1].waiting) == (0, 0)
    ten.op([SemOp(0, 2), SemOp(1, -1)], 0)
    for call in waiting:
        call.result()
    assert (ten[0].waiting, ten[1].waiting_zero) == (0, 0)
    ten.unlink()
    with pytest.raises(ipckit.Removed):
        ten.stat()


def test_semctl01_the_kernels_limits() -> None:
    limits = semaphore_limits()
    wanted = [int(text) for text in Path("/proc/sys/kernel/sem").read_text().split()]
    assert [limits.semmsl, limits.semmns, limits.semopm, limits.semmni] == wanted
    assert (limits.semvmx, limits.semaem) == (32767, 32767)


@pytest.mark.usefixtures("root")
def test_semctl02_and_04_eacces_and_eperm(
    ten: SysVSemaphoreSet, spawn: Callable[..., Child]
) -> None:
    code = """
        with SysVSemaphoreSet.from_id(args[0]) as made:
            result = [
                outcome(made.stat),
                outcome(lambda: made.values),
                outcome(lambda: made[0].value),
                outcome(lambda: made[0].pid),
                outcome(lambda: made[0].waiting),
                outcome(setattr, made[0], "value", 1),
                outcome(setattr, made, "values", [0] * 10),
                outcome(made.chmod, 0o666),
                outcome(made.chown, 65534),
                outcome(made.unlink),
            ]
    """
    outcomes = nobody(spawn, code, ten.id)
    for kind, _, text in outcomes:
        assert kind == "AccessDenied", text
        assert "the owner is root (uid 0), the mode 0600" in text
    assert [code for _, code, _ in outcomes] == [errno.EACCES] * 7 + [errno.EPERM] * 3
    assert ten.values == [1] + [0] * 9


def test_semctl03_einval(ten: SysVSemaphoreSet) -> None:
    with pytest.raises(ValueError, match="command is GETVAL"):
        _native.sem_get(ten.id, 0, -1)
    with pytest.raises(ValueError, match="command is IPC_STAT"):
        _native.sem_stat(ten.id, -1)
    with pytest.raises(ValueError, match="command is IPC_INFO"):
        _native.sem_info(-1)
    for index in (-1, 10):
        with pytest.raises(OSError, match="Invalid argument"):
            _native.sem_get(ten.id, index, _native.GETVAL)
        with pytest.raises(OSError, match="Invalid argument"):
            _native.sem_setval(ten.id, index, 1)
    calls: list[Callable[[], object]] = [
        lambda: _native.sem_getall(-1),
        lambda: _native.sem_setall(-1, [1]),
        lambda: _native.sem_stat(-1, _native.IPC_STAT),
        lambda: _native.sem_set(-1, 0, 0, 0),
    ]
    for call in calls:
        with pytest.raises(OSError, match="Invalid argument"):
            call()


def test_semctl05_erange(ten: SysVSemaphoreSet) -> None:
    for bad in (-1, 32768, 65536):
        with pytest.raises(ipckit.InvalidArgument, match="must be 0 to 32767, not") as caught:
            ten[0].value = bad
        assert caught.value.errno == errno.ERANGE
        with pytest.raises(ipckit.InvalidArgument):
            ten.values = [bad] * 10
    for raw in (
        lambda: _native.sem_setval(ten.id, 0, -1),
        lambda: _native.sem_setval(ten.id, 0, 32768),
        lambda: _native.sem_setall(ten.id, [32768] * 10),
    ):
        with pytest.raises(OSError, match="out of range") as refused:
            raw()
        assert refused.value.errno == errno.ERANGE
    assert ten.values == [1] + [0] * 9


def test_semctl06_many_processes_use_many_sets(ns: Namespace, spawn: Callable[..., Child]) -> None:
    code = """
        import random
        sets = [SysVSemaphoreSet.create(key, [1, 1, 1]) for key in args[0]]
        pids = []
        for _ in range(6):
            pid = os.fork()
            if pid == 0:
                random.seed(os.getpid())
                for _ in range(200):
                    made = random.choice(sets)
                    which = random.sample(range(3), 2)
                    made.op([SemOp(i, -1, undo=True) for i in which])
                    made.op([SemOp(i, +1, undo=True) for i in which])
                os._exit(0)
            pids.append(pid)
        assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 6
        result = [made.values for made in sets]
        for made in sets:
            made.unlink()
            made.close()
    """
    assert child(spawn, code, [ns.key() for _ in range(3)]).result == [[1, 1, 1]] * 3


def test_semctl08_times_are_seconds_of_64_bits(ten: SysVSemaphoreSet) -> None:
    before = int(time.time() - 0.1)
    ten[0].acquire()
    ten.chmod(0o600)
    for stamp in (ten.stat().otime, ten.stat().ctime):
        # Rubbish in the upper half would be beyond any present time.
        assert before - 1 <= stamp <= time.time()


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("user", [None, "nobody"])
def test_semctl09_the_sums_equal_proc(
    ns: Namespace, spawn: Callable[..., Child], user: str | None
) -> None:
    made = [SysVSemaphoreSet.create(ns.key(), [0] * count) for count in (1, 2, 3)]
    code = """
        rows = [line.split() for line in Path("/proc/sysvipc/sem").read_text().splitlines()[1:]]
        total = semaphore_usage()
        assert total.sets == len(rows), (total, rows)
        assert total.semaphores == sum(int(row[3]) for row in rows)
        listed = {(each.key, each.id, each.nsems, each.mode) for each in list_sets()}
        assert listed == {(int(r[0]), int(r[1]), int(r[3]), int(r[2], 8)) for r in rows}
        result = total.sets, total.semaphores
    """
    sets, semaphores = child(
        spawn, code, user=user, imports=["ipckit.sem", "ipckit.testing"]
    ).result
    assert sets >= 3
    assert semaphores >= 6
    highest = _native.sem_info(_native.SEM_INFO)[0]
    assert highest + 1 >= len(list_sets()) == semaphore_usage().sets
    for each in made:
        each.unlink()
        each.close()


@pytest.mark.usefixtures("root")
def test_containers_sysvipc_sem_nstest_a_set_is_of_its_namespace(
    ten: SysVSemaphoreSet, spawn: Callable[..., Child]
) -> None:
    code = """
        found = outcome(SysVSemaphoreSet.open, args[0])
        by_id = outcome(SysVSemaphoreSet.from_id, args[1])
        result = found[:2], by_id[0], len(list_sets())
    """
    inside = child(spawn, code, ten.key, ten.id, sandbox=Sandbox())
    assert inside.result == (("NotFound", errno.ENOENT), "NotFound", 0)


# -- open_posix: sem_* -----------------------------------------------------------------------------


def test_open_posix_sem_open_2_and_3_a_name_is_made_and_found(ns: Namespace) -> None:
    name = ns.name()
    with PosixSemaphore.create(name, 3).lifetime(), PosixSemaphore.open(name).lifetime() as again:
        assert again.value == 3


def test_open_posix_sem_open_6_excl_with_an_existing_name(gate: PosixSemaphore) -> None:
    with pytest.raises(ipckit.AlreadyExists) as caught:
        PosixSemaphore.create(gate.name)
    assert (caught.value.errno, caught.value.op) == (errno.EEXIST, "sem_open")
    assert "open_or_create" in caught.value.hint


@pytest.mark.usefixtures("root")
def test_open_posix_sem_open_10_eacces(ns: Namespace, spawn: Callable[..., Child]) -> None:
    made = [PosixSemaphore.create(ns.name(), mode=mode) for mode in (0o600, 0o604, 0o602, 0o606)]
    code = "result = [outcome(lambda: PosixSemaphore.open(name).close()) for name in args]"
    found = nobody(spawn, code, *(str(each.name) for each in made))
    for refused in found[:3]:
        assert refused[:2] == ("AccessDenied", errno.EACCES)
        assert "needs both read and write permission" in refused[2]
    assert found[3] is None
    for each in made:
        each.unlink()
        each.close()


def test_open_posix_sem_open_emfile(spawn: Callable[..., Child]) -> None:
    code = """
        with PosixSemaphore.create().lifetime() as made:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
            refused = outcome(PosixSemaphore.open, made.name), outcome(PosixSemaphore.create)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
            result = [each[:2] for each in refused]
    """
    assert child(spawn, code).result == [("LimitReached", errno.EMFILE)] * 2


def test_open_posix_sem_open_15_enoent(ns: Namespace) -> None:
    name = ns.name()
    with pytest.raises(ipckit.NotFound, match="no such semaphore") as caught:
        PosixSemaphore.open(name)
    assert caught.value.errno == errno.ENOENT
    assert f'PosixSemaphore.create("{name}")' in caught.value.hint


def test_open_posix_sem_close_the_value_stays(ns: Namespace) -> None:
    name = ns.name()
    with PosixSemaphore.create(name, 2).lifetime() as made:
        made.acquire()
        made.disown()
    with PosixSemaphore.open(name).lifetime() as again:
        assert again.adopt().value == 1


def test_open_posix_sem_unlink_the_name_goes_and_the_semaphore_stays(
    ns: Namespace, begin: Any
) -> None:
    name = ns.name()
    made = PosixSemaphore.create(name, 0)
    call = begin(made.acquire)
    call.wait_blocked("shared_futex")
    made.unlink()
    with pytest.raises(ipckit.NotFound) as caught:
        made.unlink()
    assert (caught.value.errno, caught.value.op) == (errno.ENOENT, "sem_unlink")
    made.release()
    call.result()
    with PosixSemaphore.create(name, 9).lifetime():
        assert made.value == 0
    made.close()


@pytest.mark.usefixtures("root")
def test_open_posix_sem_unlink_3_eacces(gate: PosixSemaphore, spawn: Callable[..., Child]) -> None:
    gate_path = semaphore_file(gate.name)
    gate_path.chmod(0o666)
    code = """
        with PosixSemaphore.open(args[0]).lifetime() as made:
            result = outcome(made.unlink)
    """
    assert nobody(spawn, code, str(gate.name))[0] == "AccessDenied"
    assert gate_path.exists()


def test_open_posix_sem_getvalue(gate: PosixSemaphore, begin: Any) -> None:
    for value in range(3):
        assert gate.value == value
        gate.release()
    for _ in range(3):
        gate.acquire(timeout=0)
    call = begin(gate.acquire)
    call.wait_blocked("shared_futex")
    assert gate.value == 0  # with a waiter too
    gate.release()
    call.result()


def test_open_posix_sem_post_wakes_one_of_several(gate: PosixSemaphore) -> None:
    done: list[int] = []

    def take() -> None:
        gate.acquire()
        done.append(1)

    threads = [threading.Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in threads:
        gate.release()
    for thread in threads:
        thread.join(60)
    assert (len(done), gate.value) == (3, 0)


def test_open_posix_sem_wait_1_and_trywait_eagain(gate: PosixSemaphore) -> None:
    gate.release()
    gate.acquire()
    with pytest.raises(ipckit.WouldBlock, match="the semaphore is 0") as caught:
        gate.acquire(timeout=0)
    assert (caught.value.errno, caught.value.op) == (errno.EAGAIN, "sem_wait")


@pytest.mark.parametrize("timeout", [None, 600])
def test_open_posix_sem_wait_7_and_timedwait_9_eintr(
    gate: PosixSemaphore, signals: Any, timeout: float | None
) -> None:
    signals.action = gate.release
    with signals.during("shared_futex"):
        gate.acquire(timeout=timeout)
    signals.action = lambda: 1 / 0
    with signals.during("shared_futex"), pytest.raises(ZeroDivisionError):
        gate.acquire(timeout=timeout)
    assert signals.seen == 2
    assert gate.value == 0


def test_open_posix_sem_timedwait_3_etimedout(gate: PosixSemaphore) -> None:
    begun = time.monotonic()
    with pytest.raises(ipckit.Timeout) as caught:
        gate.acquire(timeout=0.02)
    assert time.monotonic() - begun >= 0.02
    assert caught.value.errno == errno.ETIMEDOUT


def test_open_posix_sem_timedwait_6_einval(gate: PosixSemaphore) -> None:
    for bad in (-1, float("nan")):
        with pytest.raises(ipckit.InvalidArgument):
            gate.acquire(timeout=bad)


def test_open_posix_sem_timedwait_4_no_timeout_where_it_can_be_had_at_once(
    gate: PosixSemaphore,
) -> None:
    gate.release()
    gate.acquire(timeout=1e-9)
    assert gate.value == 0
