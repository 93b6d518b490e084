"""Message queues between ipckit and programs that its authors did not write."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import posix_ipc
import pytest
import sysv_ipc

from ipckit import (
    Char,
    Int,
    Key,
    NotFound,
    PosixMessageQueue,
    Removed,
    Struct,
    SysVMessageQueue,
    ftok,
)
from ipckit.testing import require, wait_blocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ipckit.testing import Child, Namespace


class Stu(Struct):
    name: Char[32]
    age: Int


def run(*argv: object, text: str = "") -> str:
    """A program's standard output; its failure fails the test."""
    done = subprocess.run(
        [os.fspath(each) if hasattr(each, "__fspath__") else str(each) for each in argv],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def queue(ns: Namespace) -> Iterator[SysVMessageQueue[bytes]]:
    with SysVMessageQueue.create(ns.key()) as made:
        yield made


# -- util-linux ------------------------------------------------------------------------------------


def test_a_queue_that_ipcmk_created() -> None:
    shown = run(require("ipcmk", package="util-linux"), "-Q", "-p", "0640")
    number = int(shown.split()[-1])
    with SysVMessageQueue.from_id(number).adopt() as queue:
        assert queue.key is not None
        assert queue.stat().mode == 0o640
        with SysVMessageQueue.open(queue.key) as found:
            assert found.id == number
            found.send(b"x")
        assert queue.receive(timeout=0).value == b"x"
    with pytest.raises(NotFound):
        SysVMessageQueue.from_id(number)


@pytest.mark.parametrize("key", [0x4D2, 0xDEADBEEF])
def test_our_queue_as_ipcs_shows_it(key: int) -> None:
    ipcs = require("ipcs", package="util-linux")
    with SysVMessageQueue.create(key, mode=0o640) as queue:
        queue.send(b"four")
        queue.send(b"three")
        rows = [line.split() for line in run(ipcs, "-q").splitlines()]
        row = next(row for row in rows if row[1:2] == [str(queue.id)])
        assert row[0] == f"{key:#010x}" == f"{queue.key:#010x}"
        assert row[3:] == ["640", "9", "2"]
        assert Key.parse(row[0]) == queue.key


def test_our_queue_as_lsipc_shows_it(queue: SysVMessageQueue[bytes]) -> None:
    lsipc = require("lsipc", package="util-linux")
    queue.send(b"four")
    queue.chmod(0o604)
    shown = json.loads(run(lsipc, "-J", "-q", "--bytes"))
    rows = {int(row["id"]): row for row in next(iter(shown.values()))}
    row = {name: str(value) for name, value in rows[queue.id].items()}
    assert row["key"] == f"{queue.key:#010x}"
    assert (row["usedbytes"], row["msgs"], row["lspid"]) == ("4", "1", str(os.getpid()))
    assert row["perms"] == "rw----r--"


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_ipcrm_removes_our_queue_during_a_receive(
    queue: SysVMessageQueue[bytes], timeout: float | None, spawn: Callable[..., Child]
) -> None:
    ipcrm = require("ipcrm", package="util-linux")
    child = spawn(
        """
        from ipckit import Removed, SysVMessageQueue
        key, timeout = args
        with SysVMessageQueue.open(key) as queue:
            try:
                queue.receive(timeout=timeout)
            except Removed:
                result = "removed"
        """,
        queue.key,
        timeout,
    )
    child.wait_blocked("msgrcv" if timeout is None else "clock_nanosleep")
    run(ipcrm, "-q", queue.id)
    assert child.result == "removed"
    with pytest.raises(Removed):
        queue.send(b"x")
    with pytest.raises(NotFound):
        queue.unlink()


def test_ipcrm_removes_our_queue_by_key(queue: SysVMessageQueue[bytes]) -> None:
    run(require("ipcrm", package="util-linux"), "-Q", f"{queue.key:#x}")
    with pytest.raises(Removed):
        queue.receive(timeout=0)


# -- Perl ------------------------------------------------------------------------------------------


@pytest.fixture
def perl() -> Callable[..., str]:
    """Run Perl with IPC::Msg, which is in the package perl and not in perl-base."""
    path = require("perl", package="perl")

    def call(code: str, *args: object, text: str = "") -> str:
        head = "use strict; use warnings; use IPC::SysV qw(:all); use IPC::Msg;"
        return run(path, "-e", head + code, *args, text=text)

    return call


TYPES = [1, 2, 2**31 - 1, 2**31, 2**32 + 5, 2**63 - 1]


def test_from_perl_with_types(queue: SysVMessageQueue[bytes], perl: Callable[..., str]) -> None:
    perl(
        """
        my $q = IPC::Msg->new(shift, 0) or die "msgget: $!";
        for my $type (@ARGV) { $q->snd($type, "text of $type") or die "msgsnd: $!" }
        """,
        int(queue.key or 0),
        *TYPES,
    )
    assert [queue.peek(index).mtype for index in range(len(TYPES))] == TYPES
    for number in reversed(TYPES):
        message = queue.receive(number, timeout=0)
        assert (message.mtype, message.value) == (number, b"text of %d" % number)


def test_to_perl_with_types_and_the_lowest_type(
    queue: SysVMessageQueue[bytes], perl: Callable[..., str]
) -> None:
    for number in (9, 3, 2, 2**40, 2):
        queue.send(b"at %d" % len(queue), number)
    shown = perl(
        """
        my $q = IPC::Msg->new(shift, 0) or die "msgget: $!";
        for my $select (@ARGV) {
            my $type = $q->rcv(my $text, 100, $select, IPC_NOWAIT) or die "msgrcv: $!";
            print "$type $text\\n";
        }
        """,
        int(queue.key or 0),
        *(-3, 0, -3, 2**40, -9),
    )
    assert shown.splitlines() == ["2 at 2", "9 at 0", "2 at 4", f"{2**40} at 3", "3 at 1"]
    assert len(queue) == 0


def test_a_queue_that_perl_created(ns: Namespace, perl: Callable[..., str]) -> None:
    key = ns.key()
    perl('IPC::Msg->new(shift, IPC_CREAT | 0600)->snd(7, "made there") or die $!', key)
    with SysVMessageQueue.open(key, str).adopt() as queue:
        assert queue.receive(7, timeout=0).value == "made there"


def test_structs_with_perl(ns: Namespace, perl: Callable[..., str]) -> None:
    with SysVMessageQueue.create(ns.key(), Stu) as queue:
        queue.send(Stu("amy", 20))
        shown = perl(
            """
            my $q = IPC::Msg->new(shift, 0) or die $!;
            $q->rcv(my $bytes, 100, 0, IPC_NOWAIT) or die $!;
            my ($name, $age) = unpack("Z32 i", $bytes);
            print length($bytes), " $name $age";
            $q->snd(1, pack("Z32 i", "bob", -21)) or die $!;
            """,
            int(queue.key or 0),
        )
        assert shown == "36 amy 20"
        assert queue.receive(timeout=0).value == Stu("bob", -21)


# -- C ---------------------------------------------------------------------------------------------

SYSV_C = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>

typedef struct stu { char name[32]; int age; } STU;
struct message { long type; STU stu; };

int main(int argc, char **argv)
{
    int id = msgget((key_t)strtol(argv[2], NULL, 0), 0);
    struct message m = {0};
    if (id < 0) return perror("msgget"), 1;
    if (strcmp(argv[1], "send") == 0) {
        m.type = atol(argv[3]);
        strncpy(m.stu.name, argv[4], sizeof m.stu.name);
        m.stu.age = atoi(argv[5]);
        if (msgsnd(id, &m, sizeof m.stu, 0) < 0) return perror("msgsnd"), 1;
    } else {
        ssize_t got = msgrcv(id, &m, sizeof m.stu, atol(argv[3]), 0);
        if (got < 0) return perror("msgrcv"), 1;
        printf("%zd %ld %.32s %d\n", got, m.type, m.stu.name, m.stu.age);
    }
    return argc < 4;
}
"""

POSIX_C = r"""
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    struct mq_attr attr = {.mq_maxmsg = 3, .mq_msgsize = 64};
    int flags = O_RDWR | (strcmp(argv[1], "create") == 0 ? O_CREAT | O_EXCL : 0);
    mqd_t q = mq_open(argv[2], flags, 0600, &attr);
    if (q == (mqd_t)-1) return perror("mq_open"), 1;
    for (int i = 3; i + 1 < argc; i += 2) {
        if (mq_send(q, argv[i + 1], strlen(argv[i + 1]), atoi(argv[i])) < 0)
            return perror("mq_send"), 1;
    }
    if (strcmp(argv[1], "receive") == 0) {
        mq_getattr(q, &attr);
        for (long left = attr.mq_curmsgs; left > 0; left--) {
            char text[8192];
            unsigned priority;
            ssize_t got = mq_receive(q, text, sizeof text, &priority);
            if (got < 0) return perror("mq_receive"), 1;
            printf("%u %.*s\n", priority, (int)got, text);
        }
    }
    return argc < 3;
}
"""

FTOK_C = r"""
#include <stdio.h>
#include <stdlib.h>
#include <sys/ipc.h>

int main(int argc, char **argv)
{
    for (int i = 2; i < argc; i++) printf("%d\n", ftok(argv[1], atoi(argv[i])));
    return argc < 3;
}
"""


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[[str], Path]:
    gcc = require("gcc", package="gcc")

    def build(source: str) -> Path:
        (tmp_path / "program.c").write_text(source)
        program = tmp_path / "program"
        run(gcc, "-Wall", "-Wextra", "-Werror", "-o", program, tmp_path / "program.c", "-lrt")
        return program

    return build


def test_structs_with_c_in_both_directions(ns: Namespace, compiled: Callable[[str], Path]) -> None:
    program = compiled(SYSV_C)
    with SysVMessageQueue.create(ns.key(), Stu) as queue:
        key = int(queue.key or 0)
        run(program, "send", key, 2**40, "amy", 20)
        run(program, "send", key, 1, "x" * 32, -1)
        assert queue.receive(1, timeout=0).value == Stu("x" * 32, -1)
        message = queue.receive(timeout=0)
        assert (message.value, message.mtype) == (Stu("amy", 20), 2**40)
        queue.send(Stu("grüße", 2**31 - 1), 5)
        queue.send(Stu("y" * 32, 0), 2**63 - 1)
        assert run(program, "receive", key, -(2**62)) == f"36 5 grüße {2**31 - 1}\n"
        assert run(program, "receive", key, 0) == f"36 {2**63 - 1} {'y' * 32} 0\n"


def test_a_c_program_waits_for_us(ns: Namespace, compiled: Callable[[str], Path]) -> None:
    program = compiled(SYSV_C)
    with SysVMessageQueue.create(ns.key(), {1: Stu, 2: bytes}) as queue:
        with subprocess.Popen(
            [program, "receive", str(int(queue.key or 0)), "1"], stdout=subprocess.PIPE, text=True
        ) as waiting:
            wait_blocked(waiting.pid, "msgrcv")
            queue.send(b"not for it")
            queue.send(Stu("amy", 20))
            assert waiting.communicate(timeout=60)[0] == "36 1 amy 20\n"
        assert queue.receive(bytes, timeout=0).value == b"not for it"


def test_priorities_with_c_in_both_directions(
    ns: Namespace, compiled: Callable[[str], Path]
) -> None:
    program = compiled(POSIX_C)
    name = ns.name()
    run(program, "create", name, 0, "low", 32767, "high", 0, "low too")
    with PosixMessageQueue.open(name).adopt() as queue:
        assert (queue.max_messages, queue.max_size, len(queue)) == (3, 64, 3)
        got = [(message.priority, message.value) for message in queue.drain()]
        assert got == [(32767, b"high"), (0, b"low"), (0, b"low too")]
        for text, priority in ((b"one", 0), (b"two", 7), (b"", 32767)):
            queue.send(text, priority)
        assert run(program, "receive", name) == "32767 \n7 two\n0 one\n"


# -- ftok ------------------------------------------------------------------------------------------

PROJECTS = [1, 2, 65, 127, 128, 129, 200, 255]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    (tmp_path / "file").touch()
    (tmp_path / "grüße").mkdir()
    (tmp_path / "link").symlink_to("/")
    (tmp_path / "no text \udcff").touch()
    return [*tmp_path.iterdir(), tmp_path, *map(type(tmp_path), ("/", "/proc", "/dev/null"))]


def test_ftok_is_cs(files: list[Path], compiled: Callable[[str], Path]) -> None:
    program = compiled(FTOK_C)
    for file in files:
        theirs = [int(line) for line in run(program, file, *PROJECTS).split()]
        assert [ftok(file, number) for number in PROJECTS] == theirs


def test_ftok_is_perls(files: list[Path], perl: Callable[..., str]) -> None:
    for file in files:
        shown = perl('my $f = shift; print ftok($f, 0 + $_), "\\n" for @ARGV', file, *PROJECTS)
        theirs = [Key(int(line)) for line in shown.split()]
        assert [ftok(file, number) for number in PROJECTS] == theirs


def test_ftok_is_sysv_ipcs() -> None:
    for number in PROJECTS:
        assert ftok("/", number) == Key(sysv_ipc.ftok("/", number, silence_warning=True))


def test_a_queue_found_by_ftok(tmp_path: Path, perl: Callable[..., str]) -> None:
    with SysVMessageQueue.create(ftok(tmp_path, "Z")) as queue:
        perl('IPC::Msg->new(ftok(shift, ord "Z"), 0)->snd(1, "found") or die $!', tmp_path)
        assert queue.receive(timeout=0).value == b"found"


# -- other packages for Python ---------------------------------------------------------------------


def test_sysv_ipc_in_both_directions(queue: SysVMessageQueue[bytes]) -> None:
    theirs = sysv_ipc.MessageQueue(int(queue.key or 0), max_message_size=8192)
    assert theirs.id == queue.id
    theirs.send(b"from there", type=2**31 - 1)
    message = queue.receive(timeout=0)
    assert (message.value, message.mtype) == (b"from there", 2**31 - 1)
    queue.send(b"from here" * 900, 5)
    queue.send(b"", 3)
    assert theirs.receive(type=-5) == (b"", 3)
    assert theirs.receive(type=5) == (b"from here" * 900, 5)
    theirs.remove()
    with pytest.raises(Removed):
        queue.receive(timeout=0)


def test_a_queue_that_sysv_ipc_created(ns: Namespace) -> None:
    theirs = sysv_ipc.MessageQueue(ns.key(), sysv_ipc.IPC_CREX, 0o640)
    with SysVMessageQueue.open(theirs.key).adopt() as queue:
        assert queue.stat().mode == 0o640
        queue.send(b"x")
        assert theirs.current_messages == 1


def test_posix_ipc_in_both_directions(ns: Namespace) -> None:
    with PosixMessageQueue.create(ns.name(), max_messages=3, max_size=16) as queue:
        theirs = posix_ipc.MessageQueue(str(queue.name))
        assert (theirs.max_messages, theirs.max_message_size) == (3, 16)
        theirs.send(b"low", priority=0)
        theirs.send(b"high", priority=32767)
        got = [(message.value, message.priority) for message in queue.drain()]
        assert got == [(b"high", 32767), (b"low", 0)]
        queue.send(b"low", 1)
        queue.send(b"x" * 16, 2)
        assert theirs.receive() == (b"x" * 16, 2)
        assert theirs.receive(timeout=0) == (b"low", 1)
        theirs.close()


def test_a_queue_that_posix_ipc_created_and_unlinks(ns: Namespace) -> None:
    name = ns.name()
    theirs = posix_ipc.MessageQueue(name, posix_ipc.O_CREX, max_messages=2, max_message_size=4)
    theirs.block = False  # O_NONBLOCK in their description, which is not ours
    with PosixMessageQueue.open(name) as queue:
        assert (queue.max_messages, queue.max_size) == (2, 4)
        assert queue.attributes().flags == 0
        theirs.unlink()
        theirs.send(b"x")
        assert queue.receive(timeout=0).value == b"x"
        with pytest.raises(NotFound):
            queue.unlink()
    theirs.close()
