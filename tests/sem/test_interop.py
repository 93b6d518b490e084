"""Semaphores shared with programs that ipckit's authors did not write, in both directions."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import posix_ipc
import pytest
import sysv_ipc

import ipckit
from ipckit import PosixSemaphore, Removed, SemOp, SysVSemaphoreSet
from ipckit.testing import require, wait_blocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ipckit.testing import Namespace


def run(*command: object) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def popen(*command: object) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [*map(str, command)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield popen
    for process in started:
        with process:
            process.kill()


# -- util-linux ------------------------------------------------------------------------------------


def test_a_set_that_ipcmk_made() -> None:
    said = run(require("ipcmk", package="util-linux"), "-S", 3, "-p", "0640")
    with SysVSemaphoreSet.from_id(int(said.split()[-1])).adopt() as semaphores:
        assert semaphores.values == [0, 0, 0]
        assert semaphores.stat().mode & 0o777 == 0o640
        semaphores.op([SemOp(0, 2), SemOp(2, 5)])
        # It is found by its key too, with or without values of its own.
        assert semaphores.key is not None
        with SysVSemaphoreSet.open(semaphores.key) as found:
            assert found.values == [2, 0, 5]


def test_a_set_that_ipcmk_made_and_nobody_initialised_is_made_anew_by_open_or_create() -> None:
    # It can't be told from one whose maker died, or is slow and may still add its values.
    said = run(require("ipcmk", package="util-linux"), "-S", 2)
    with SysVSemaphoreSet.from_id(int(said.split()[-1])) as semaphores:
        assert semaphores.key is not None
        with SysVSemaphoreSet.open_or_create(semaphores.key, [4, 1], mode=0o644) as made:
            assert made.owner
            assert made.values == [4, 1]
            with pytest.raises(Removed):
                semaphores.stat()


def test_a_set_of_zeros_that_ipcmk_made_is_kept_by_open_or_create() -> None:
    said = run(require("ipcmk", package="util-linux"), "-S", 2)
    with SysVSemaphoreSet.from_id(int(said.split()[-1])).adopt() as semaphores:
        assert semaphores.key is not None
        with SysVSemaphoreSet.open_or_create(semaphores.key, [0, 0], mode=0o644) as found:
            assert not found.owner
            assert found.id == semaphores.id


def test_ipcs_shows_what_the_handle_says(ns: Namespace) -> None:
    ipcs = require("ipcs", package="util-linux")
    with SysVSemaphoreSet.create(ns.key(), [3, 0, 32767], mode=0o604) as semaphores:
        semaphores[1].release()
        rows = run(ipcs, "-s").splitlines()
        (row,) = [line.split() for line in rows if f" {semaphores.id} " in line]
        assert (int(row[0], 16), row[3:]) == (semaphores.key, ["604", "3"])
        text = run(ipcs, "-s", "-i", semaphores.id)
        table = text.partition("semnum")[2].splitlines()[1:]
        shown = [[int(word) for word in line.split()] for line in table if line.strip()]
        told = [[s.index, s.value, s.waiting, s.waiting_zero, s.pid] for s in semaphores]
        assert shown == told
        assert "nsems = 3" in text


def test_lsipc_shows_what_the_handle_says(ns: Namespace) -> None:
    lsipc = require("lsipc", package="util-linux")
    with SysVSemaphoreSet.create(ns.key(), [7, 8]) as semaphores:
        rows = json.loads(run(lsipc, "-s", "-J", "-i", semaphores.id, "-o", "KEY,ID,PERMS,NSEMS"))
        (shown,) = next(iter(rows.values()))
        assert int(str(shown["key"]), 16) == semaphores.key
        assert (int(shown["id"]), int(shown["nsems"])) == (semaphores.id, 2)


@pytest.mark.parametrize("by", ["-s", "-S"])
def test_who_waits_hears_of_ipcrm(ns: Namespace, spawn: Callable[..., Any], by: str) -> None:
    waits = """
    from ipckit import SysVSemaphoreSet, Removed
    with SysVSemaphoreSet.from_id(args[0]) as semaphores:
        try:
            semaphores[0].acquire()
        except Removed as exc:
            result = str(exc)
    """
    with SysVSemaphoreSet.create(ns.key(), [0]) as semaphores:
        child = spawn(waits, semaphores.id)
        child.wait_blocked("semop")
        run(
            require("ipcrm", package="util-linux"),
            by,
            semaphores.id if by == "-s" else semaphores.key,
        )
        assert "the set was removed" in child.result
        with pytest.raises(ipckit.Removed):
            semaphores[0].release()
        with pytest.raises(ipckit.NotFound):
            semaphores.unlink()


# -- Perl ------------------------------------------------------------------------------------------


def perl(code: str) -> list[object]:
    path = require("perl", package="perl")
    uses = "use strict; use warnings; use IPC::SysV qw(:all); use IPC::Semaphore; $| = 1;"
    return [path, "-e", uses + code]


def test_perl_sees_the_values_and_does_a_vector(ns: Namespace) -> None:
    with SysVSemaphoreSet.create(ns.key(), [5, 0, 2]) as semaphores:
        code = """
        my $s = IPC::Semaphore->new($ARGV[0], 3, 0) or die;
        print join(",", $s->getall), "\\n";
        $s->op(0, -2, IPC_NOWAIT, 1, 3, 0, 2, -2, IPC_NOWAIT) or die;
        print $s->op(0, -1, IPC_NOWAIT, 2, -1, IPC_NOWAIT) ? "went" : "not", "\\n";
        """
        assert run(*perl(code), semaphores.key) == "5,0,2\nnot\n"
        # All of the first vector, and none of the second.
        assert semaphores.values == [3, 3, 0]
        assert len({semaphore.pid for semaphore in semaphores}) == 1


def test_a_set_that_perl_made_and_a_vector_that_wakes_it(
    ns: Namespace, start: Callable[..., subprocess.Popen[str]]
) -> None:
    code = """
    my $s = IPC::Semaphore->new($ARGV[0], 3, IPC_CREAT | IPC_EXCL | 0600) or die;
    $s->setall(1, 0, 9) or die;
    print "made\\n";
    $s->op(0, -2, 0, 1, -1, 0) or die;      # waits for two semaphores at once
    print join(",", $s->getall), "\\n";
    """
    perl_side = start(*perl(code), ns.key())
    assert perl_side.stdout is not None
    assert perl_side.stdout.readline() == "made\n"
    key = int(perl_side.args[-1])  # type: ignore[index,arg-type]
    # Perl has not done an op, so sem_otime is 0; that it has set the values can be seen.
    with SysVSemaphoreSet.open(key, timeout=None).adopt() as semaphores:
        wait_blocked(perl_side.pid, "semop")
        assert semaphores.values == [1, 0, 9]
        assert sum(semaphore.waiting for semaphore in semaphores) == 1
        semaphores[0].release()
        wait_blocked(perl_side.pid, "semop")
        semaphores.op([SemOp(1, +1), SemOp(2, -9)])
        assert perl_side.communicate(timeout=30) == ("0,0,0\n", "")
        with SysVSemaphoreSet.open_or_create(key, [4, 4, 4]) as found:
            assert found.values == [0, 0, 0]  # as it is: somebody had initialised it


# -- C ---------------------------------------------------------------------------------------------

C_PROGRAM = r"""
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sem.h>
#include <time.h>

union semun { int val; struct semid_ds *buf; unsigned short *array; };

static void done(const char *what, int failed)
{
    printf("%s %s\n", what, failed ? strerrorname(errno) : "ok");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "hold") == 0) {
        int id = semget((key_t)strtoul(argv[2], NULL, 0), 0, 0);
        struct sembuf take[] = {{0, -1, SEM_UNDO}, {1, -2, SEM_UNDO}, {2, 0, 0}};
        done("took", semop(id, take, 3) < 0);
        getchar(); /* and ends without giving back */
    } else if (argc == 3 && strcmp(argv[1], "make") == 0) {
        int id = semget((key_t)strtoul(argv[2], NULL, 0), 2, IPC_CREAT | IPC_EXCL | 0600);
        unsigned short values[] = {3, 0};
        done("made", id < 0 || semctl(id, 0, SETALL, (union semun){.array = values}) < 0);
        struct sembuf both[] = {{0, 0, 0}, {1, -1, 0}};
        done("both", semop(id, both, 2) < 0);
    } else if (argc == 3 && strcmp(argv[1], "posix") == 0) {
        sem_t *sem = sem_open(argv[2], O_CREAT | O_EXCL, 0600, 2);
        done("made", sem == SEM_FAILED);
        getchar();
        struct timespec past = {0, 0};
        done("timedwait", sem_timedwait(sem, &past) < 0); /* ipckit has taken all */
        done("wait", sem_wait(sem) < 0);
        done("post", sem_post(sem) < 0 || sem_post(sem) < 0);
        sem_close(sem);
    } else if (argc == 3 && strcmp(argv[1], "posix-open") == 0) {
        sem_t *sem = sem_open(argv[2], 0);
        struct timespec past = {0, 0};
        int value = -1;
        done("found", sem == SEM_FAILED || sem_getvalue(sem, &value) < 0);
        printf("value %d\n", value);
        done("timedwait", sem_timedwait(sem, &past) < 0);
        done("timedwait", sem_timedwait(sem, &past) < 0);
        done("post", sem_post(sem) < 0);
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def c_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("c")
    source = where / "sem.c"
    names = (
        'static const char *strerrorname(int n) { return n == ETIMEDOUT ? "ETIMEDOUT" : "?"; }\n'
    )
    head, rest = C_PROGRAM.split("union semun", 1)
    source.write_text(f"#define _GNU_SOURCE\n{head}{names}union semun{rest}")
    gcc = require("gcc", package="gcc")
    run(gcc, "-Wall", "-Wextra", "-Werror", source, "-o", where / "sem", "-pthread")
    return where / "sem"


def say(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_what_c_took_with_undo_comes_back_when_it_dies(
    ns: Namespace, c_program: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    with SysVSemaphoreSet.create(ns.key(), [1, 2, 1]) as semaphores:
        holder = start(c_program, "hold", semaphores.key)
        wait_blocked(holder.pid, "semop")  # for semaphore 2 to be 0
        assert semaphores.values == [1, 2, 1]
        assert semaphores[2].waiting_zero == 1
        semaphores[2].acquire()
        assert say(holder) == "took ok\n"
        assert semaphores.values == [0, 0, 0]
        with pytest.raises(ipckit.WouldBlock):
            semaphores[0].acquire(timeout=0)
        holder.kill()
        semaphores.op([SemOp(0, -1), SemOp(1, -2)], timeout=30)
        assert holder.wait() == -9


def test_what_ipckit_took_with_undo_comes_back_to_c(
    ns: Namespace,
    c_program: Path,
    start: Callable[..., subprocess.Popen[str]],
    spawn: Callable[..., Any],
) -> None:
    takes = """
    from ipckit import SemOp, SysVSemaphoreSet
    from ipckit.testing import step
    semaphores = SysVSemaphoreSet.from_id(args[0])
    semaphores.op([SemOp(0, -1, undo=True), SemOp(1, -2, undo=True)])
    step.tell("took")
    step.hear()
    """
    with SysVSemaphoreSet.create(ns.key(), [1, 2, 0]) as semaphores:
        child = spawn(takes, semaphores.id)
        child.expect("took")
        waiter = start(c_program, "hold", semaphores.key)
        wait_blocked(waiter.pid, "semop")
        child.kill()
        assert say(waiter) == "took ok\n"
        assert waiter.communicate("\n", timeout=30) == ("", "")
        assert semaphores.values == [1, 2, 0]


def test_a_set_that_c_made(
    ns: Namespace, c_program: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    key = ns.key()
    maker = start(c_program, "make", key)
    assert say(maker) == "made ok\n"
    with SysVSemaphoreSet.open(key, timeout=None).adopt() as semaphores:
        wait_blocked(maker.pid, "semop")
        assert semaphores.values == [3, 0]
        semaphores[1].release()
        wait_blocked(maker.pid, "semop")  # it waits for 0 to be 0 as well
        semaphores[0].acquire(3)
        assert maker.communicate(timeout=30) == ("both ok\n", "")
        assert semaphores.values == [0, 0]


def test_a_posix_semaphore_that_c_made(
    ns: Namespace, c_program: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    name = ns.name()
    maker = start(c_program, "posix", name)
    assert say(maker) == "made ok\n"
    with PosixSemaphore.open(name).adopt().lifetime() as semaphore:
        assert semaphore.value == 2
        semaphore.acquire(timeout=0)
        semaphore.acquire(timeout=0)
        assert maker.stdin is not None
        maker.stdin.write("\n")
        maker.stdin.flush()
        assert say(maker) == "timedwait ETIMEDOUT\n"
        wait_blocked(maker.pid, "shared_futex")
        semaphore.release()
        assert maker.communicate(timeout=30) == ("wait ok\npost ok\n", "")
        assert semaphore.value == 2


def test_c_finds_a_posix_semaphore_of_ipckits(ns: Namespace, c_program: Path) -> None:
    with PosixSemaphore.create(ns.name(), 1).lifetime() as semaphore:
        told = run(c_program, "posix-open", semaphore.name).splitlines()
        assert told == ["found ok", "value 1", "timedwait ok", "timedwait ETIMEDOUT", "post ok"]
        assert semaphore.value == 1


# -- the other Python packages ---------------------------------------------------------------------


def test_sysv_ipc_both_ways(ns: Namespace) -> None:
    with SysVSemaphoreSet.create(ns.key(), [2]) as ours:
        theirs: Any = sysv_ipc.Semaphore(ours.key)
        assert theirs.value == 2
        theirs.acquire()
        ours[0].acquire()
        assert theirs.value == ours[0].value == 0
        theirs.block = False
        with pytest.raises(sysv_ipc.BusyError):
            theirs.acquire()
        with pytest.raises(ipckit.WouldBlock):
            ours[0].acquire(timeout=0)
        theirs.release()
        ours[0].acquire(timeout=0)
        theirs.Z()  # waits for zero
        ours[0].value = 3
        assert theirs.value == 3
    with pytest.raises(sysv_ipc.ExistentialError):
        theirs.acquire()
    key = ns.key()
    made: Any = sysv_ipc.Semaphore(key, sysv_ipc.IPC_CREX, initial_value=4)
    with SysVSemaphoreSet.open(key).adopt() as ours:
        assert ours.values == [4]
        ours[0].acquire(3)
        assert made.value == 1


def test_posix_ipc_both_ways(ns: Namespace) -> None:
    with PosixSemaphore.create(ns.name(), 2).lifetime() as ours:
        theirs = posix_ipc.Semaphore(str(ours.name))
        theirs.acquire()
        ours.acquire()
        assert theirs.value == ours.value == 0
        with pytest.raises(posix_ipc.BusyError):
            theirs.acquire(0)
        with pytest.raises(ipckit.WouldBlock):
            ours.acquire(timeout=0)
        theirs.release()
        ours.acquire(timeout=0)
        theirs.close()
    name = ns.name()
    theirs = posix_ipc.Semaphore(name, posix_ipc.O_CREX, initial_value=7)
    with PosixSemaphore.open(name).adopt().lifetime() as ours:
        assert ours.value == 7
        ours.release()
        assert theirs.value == 8
    theirs.close()
