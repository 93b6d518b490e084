"""Shared memory beside programs that ipckit's authors did not write, in both directions."""

from __future__ import annotations

import json
import mmap
import os
import re
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import posix_ipc
import pytest
import sysv_ipc

from ipckit import Char, Int, MappedFile, PosixSharedMemory, Struct, SysVSharedMemory, ftok
from ipckit.testing import Child, require

if TYPE_CHECKING:
    from pathlib import Path

    from ipckit.testing import Namespace


class Stu(Struct):
    name: Char[32]
    age: Int


def run(*command: object) -> str:
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def listed(kind: str = "-m") -> dict[int, dict[str, str]]:
    """What lsipc shows, by id."""
    shown = json.loads(run(require("lsipc", package="util-linux"), kind, "-J", "-b"))
    rows = next(iter(shown.values()))
    return {int(row["id"]): row for row in rows}


# -- util-linux ------------------------------------------------------------------------------------


def test_a_segment_that_ipcmk_made() -> None:
    shown = run(require("ipcmk", package="util-linux"), "-M", 5000, "-p", "0640")
    found = re.search(r"id: (\d+)", shown)
    assert found is not None
    with SysVSharedMemory.from_id(int(found[1])) as segment:
        segment.adopt()
        assert segment.key is not None
        stat = segment.stat()
        assert (segment.size, stat.mode, stat.nattch) == (5000, 0o640, 1)
        assert segment.read() == bytes(5000)
        with SysVSharedMemory.open(segment.key) as again:
            assert again.id == segment.id
            assert segment.attached == 2


def test_ipcs_and_lsipc_show_what_ipckit_knows(ns: Namespace) -> None:
    key = ns.key()
    with SysVSharedMemory.create(key, 12345, mode=0o604) as segment:
        again = SysVSharedMemory.open(key)
        line = next(
            line
            for line in run(require("ipcs", package="util-linux"), "-m").splitlines()
            if line.startswith(f"{key:#010x}")
        )
        _, number, _owner, *facts = line.split()
        assert (int(number), facts) == (segment.id, ["604", "12345", "2"])
        row = listed()[segment.id]
        assert int(row["key"], 16) == key
        assert int(row["size"]) == 12345
        assert int(row["nattch"]) == segment.attached == 2
        again.close()
        segment.unlink()
        # Marked, and there for those who have it: the key is gone.
        row = listed()[segment.id]
        assert int(row["key"], 16) == 0
        assert "dest" in run(require("ipcs", package="util-linux"), "-m")
        assert segment.stat().destroyed
    assert segment.id not in listed()


@pytest.mark.parametrize("by", ["id", "key"])
def test_ipcrm_removes_it_under_a_handle(by: str, ns: Namespace) -> None:
    ipcrm = require("ipcrm", package="util-linux")
    with SysVSharedMemory.create(ns.key(), 4096) as segment:
        view = segment.buf
        run(ipcrm, *(["-m", segment.id] if by == "id" else ["-M", segment.key]))
        assert segment.stat().destroyed
        view[0] = 7  # it stays for those who have it attached
        with SysVSharedMemory.from_id(segment.id) as again:
            assert again.read(1) == b"\7"
        del view
        with pytest.raises(FileNotFoundError):
            SysVSharedMemory.open(segment.key or 0)
        number = segment.id
    with pytest.raises(FileNotFoundError):
        SysVSharedMemory.from_id(number)


# -- C ---------------------------------------------------------------------------------------------

C = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct stu {
    char name[32];
    int age;
} STU;

#define CHECK(ok) ((ok) ? (void)0 : (perror(#ok), exit(1)))

/* PROGRAM sysv|posix|file WHERE write|read [NAME AGE] */
int main(int argc, char **argv)
{
    int writing = !strcmp(argv[3], "write"), fd, id;
    STU *stu;
    CHECK(argc == (writing ? 6 : 4));
    if (!strcmp(argv[1], "sysv")) {
        id = shmget((key_t)strtol(argv[2], NULL, 0), sizeof(STU), writing ? IPC_CREAT | 0666 : 0);
        CHECK(id >= 0);
        stu = shmat(id, NULL, 0);
        CHECK(stu != (void *)-1);
    } else {
        umask(0);
        if (!strcmp(argv[1], "posix"))
            fd = shm_open(argv[2], writing ? O_CREAT | O_RDWR : O_RDONLY, 0666);
        else
            fd = open(argv[2], writing ? O_CREAT | O_RDWR : O_RDONLY, 0666);
        CHECK(fd >= 0);
        CHECK(!writing || ftruncate(fd, sizeof(STU)) == 0);
        stu = mmap(NULL, sizeof(STU), writing ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd,
                   0);
        CHECK(stu != MAP_FAILED);
    }
    if (writing) {
        strncpy(stu->name, argv[4], sizeof stu->name);
        stu->age = atoi(argv[5]);
    } else {
        printf("%.32s %d\n", stu->name, stu->age);
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    gcc = require("gcc", package="gcc")
    directory = tmp_path_factory.mktemp("c")
    source = directory / "stu.c"
    source.write_text(C)
    run(gcc, "-Wall", "-Wextra", "-Werror", "-o", directory / "stu", source, "-lrt")
    return directory / "stu"


def memory_of(kind: str, where: Any, *, create: bool = False) -> Any:
    if kind == "file":
        return MappedFile.create(where, 36) if create else MappedFile.open(where, mode="r+")
    cls: Any = SysVSharedMemory if kind == "sysv" else PosixSharedMemory
    return cls.create(where, 36, mode=0o666) if create else cls.open(where)


@pytest.mark.parametrize("kind", ["sysv", "posix", "file"])
def test_a_c_program_writes_and_ipckit_reads(kind: str, program: Path, ns: Namespace) -> None:
    where: Any = {"sysv": ns.key, "posix": ns.name, "file": ns.path}[kind]()
    run(program, kind, where, "write", "amy", 20)
    with memory_of(kind, where).adopt() as memory:
        stu = memory.view(Stu)
        assert (memory.size, stu) == (36, Stu("amy", 20))
        if kind == "sysv":
            assert memory.stat().mode == 0o666
        array = memory.array(Stu)
        # The same bytes, whoever writes them next.
        run(program, kind, where, "write", "x" * 32, -(2**31))
        assert (stu.name, stu.age) == ("x" * 32, -(2**31))
        assert array["age"].tolist() == [-(2**31)]


@pytest.mark.parametrize("kind", ["sysv", "posix", "file"])
def test_ipckit_writes_and_a_c_program_reads(kind: str, program: Path, ns: Namespace) -> None:
    where: Any = {"sysv": ns.key, "posix": ns.name, "file": ns.path}[kind]()
    with memory_of(kind, where, create=True) as memory:
        assert run(program, kind, where, "read") == " 0\n"
        stu = memory.view(Stu)
        stu.name, stu.age = "bob", 31
        assert run(program, kind, where, "read") == "bob 31\n"
        memory.write(Stu("zoé", -1))
        assert run(program, kind, where, "read") == "zoé -1\n"
        memory.array(Stu)[0] = (b"y" * 32, 2**31 - 1)
        assert run(program, kind, where, "read") == "y" * 32 + " 2147483647\n"


@pytest.mark.parametrize("kind", ["posix", "file"])
def test_a_c_program_opens_a_segment_of_ipckits_for_writing(
    kind: str, program: Path, ns: Namespace
) -> None:
    """It calls ftruncate to the same size, as such programs do: nothing is lost by it."""
    where: Any = {"posix": ns.name, "file": ns.path}[kind]()
    with memory_of(kind, where, create=True) as memory:
        stu = memory.view(Stu)
        run(program, kind, where, "write", "amy", 20)
        assert stu == Stu("amy", 20)


# -- Perl ------------------------------------------------------------------------------------------


def perl(code: str, *args: object) -> str:
    program = require("perl", package="perl")
    return run(program, "-w", "-MIPC::SharedMem", "-MIPC::SysV=IPC_CREAT,ftok", "-e", code, *args)


def test_perl_writes_and_ipckit_reads(ns: Namespace) -> None:
    key = ns.key()
    code = """
    my $shm = IPC::SharedMem->new($ARGV[0], 36, IPC_CREAT | 0640) or die $!;
    $shm->attach or die $!;
    $shm->write(pack("a32i", "amy", 20), 0, 36) or die $!;
    $shm->detach or die $!;
    """
    perl(code, key)
    with SysVSharedMemory.open(key).adopt() as segment:
        assert segment.view(Stu) == Stu("amy", 20)
        assert (segment.stat().mode, segment.attached) == (0o640, 1)
        # shmwrite pads with NUL to the length that it is given.
        perl("shmwrite($ARGV[0], 'bo', 1, 31) or die $!", segment.id)
        assert segment.read() == b"abo".ljust(32, b"\0") + (20).to_bytes(4, "little")


def test_ipckit_writes_and_perl_reads(ns: Namespace) -> None:
    key = ns.key()
    with SysVSharedMemory.create(key, 36) as segment:
        segment.write(Stu("bob", -31))
        code = """
        my $shm = IPC::SharedMem->new($ARGV[0], 0, 0) or die $!;
        $shm->attach or die $!;
        my ($name, $age) = unpack("Z32i", $shm->read(0, 36));
        my $stat = $shm->stat;
        print join(" ", $name, $age, $shm->id, $stat->nattch, $stat->segsz), "\\n";
        shmread($shm->id, my $bytes, 32, 4) or die $!;
        print unpack("i", $bytes), "\\n";
        """
        assert perl(code, key) == f"bob -31 {segment.id} 2 36\n-31\n"
        assert segment.attached == 1


def test_perl_makes_the_same_key_of_a_path(ns: Namespace) -> None:
    path = ns.path()
    path.touch()
    code = "print ftok($ARGV[0], ord('A')) & 0xffffffff"
    assert int(perl(code, path)) == int(ftok(path, "A")) & 0xFFFFFFFF


def test_perl_removes_it_under_a_handle(ns: Namespace) -> None:
    with SysVSharedMemory.create(ns.key(), 36) as segment:
        perl("IPC::SharedMem->new($ARGV[0], 0, 0)->remove or die $!", segment.key)
        assert segment.stat().destroyed
        assert segment.view(Stu) == Stu("", 0)


# -- multiprocessing -------------------------------------------------------------------------------

THEIR_ATTACH = """
import sys
from multiprocessing import resource_tracker, shared_memory
import numpy as np
from ipckit.testing import step

if sys.version_info >= (3, 13):
    memory = shared_memory.SharedMemory(args[0], track=False)
else:
    memory = shared_memory.SharedMemory(args[0])
    # What they have in place of track=False: without it the tracker unlinks what is not theirs.
    resource_tracker.unregister(memory._name, "shared_memory")
array = np.ndarray((1000,), np.float64, buffer=memory.buf)
result = float(array.sum()), memory.size
array[:] = 7
del array
memory.close()
"""


def test_multiprocessing_reads_and_writes_ours_and_it_survives(ns: Namespace) -> None:
    name = ns.name()
    with PosixSharedMemory.create(name, 8000) as memory:
        array = memory.array(np.float64)
        array[:] = np.arange(1000)
        with Child(THEIR_ATTACH, name[1:]) as child:
            assert child.result == (499500.0, 8000)
        assert (array == 7).all()
        with PosixSharedMemory.open(name) as again:
            assert again.array("f8").sum() == 7000


THEIR_SEGMENT = """
from multiprocessing import shared_memory
import numpy as np
from ipckit.testing import step

memory = shared_memory.SharedMemory(args[0], create=True, size=8000)
array = np.ndarray((1000,), np.float64, buffer=memory.buf)
array[:] = np.arange(1000)
step.tell("made")
step.expect("written")
result = float(array.sum())
del array
memory.close()
memory.unlink()
"""


def test_ipckit_reads_and_writes_what_multiprocessing_made(ns: Namespace) -> None:
    name = ns.name()
    with Child(THEIR_SEGMENT, name[1:]) as child:
        child.expect("made")
        with PosixSharedMemory.open(name) as memory:
            array = memory.array(np.float64)
            assert (array == np.arange(1000)).all()
            array += 1
            child.tell("written")
            assert child.result == 500500.0
            with pytest.raises(FileNotFoundError):
                PosixSharedMemory.open(name)
            # Unlinked by them, and still there for us.
            assert array[-1] == 1000.0


ATTACH_AND_EXIT = """
from ipckit import PosixSharedMemory
import numpy as np

memory = PosixSharedMemory.open(args[0])
result = int(memory.array(np.uint8).sum())
memory.close()
import sys
assert "multiprocessing.resource_tracker" not in sys.modules
"""


@pytest.mark.usefixtures("exec_only")
def test_a_second_ipckit_process_that_exits_leaves_theirs_alone(ns: Namespace) -> None:
    name = ns.name()
    with Child(THEIR_SEGMENT, name[1:]) as theirs:
        theirs.expect("made")
        with Child(ATTACH_AND_EXIT, name) as reader:
            assert reader.result > 0
        assert PosixSharedMemory.open(name).close() is None
        theirs.tell("written")
        assert theirs.result == 499500.0


SHAREABLE_LIST = """
from multiprocessing import shared_memory
from ipckit.testing import step

values = shared_memory.ShareableList([1, "two", 3.0, None], name=args[0])
step.tell(values.shm.size)
step.expect("read")
values.shm.close()
values.shm.unlink()
"""


def test_a_shareable_list_is_bytes_to_ipckit(ns: Namespace) -> None:
    name = ns.name()
    with Child(SHAREABLE_LIST, name[1:]) as child:
        size = child.hear()
        with PosixSharedMemory.open(name, readonly=True) as memory:
            assert memory.size == size
            assert memory.array(np.int64, 1)[0] == 4
            assert b"two" in memory.read()
        child.tell("read")


# -- sysv_ipc and posix_ipc ------------------------------------------------------------------------


def test_sysv_ipc_in_both_directions(ns: Namespace) -> None:
    key, other = ns.key(), ns.key()
    with SysVSharedMemory.create(key, 100) as ours:
        theirs = sysv_ipc.SharedMemory(key)
        theirs.write(b"from sysv_ipc", 10)
        assert ours.read(13, 10) == b"from sysv_ipc"
        ours.write(b"from ipckit", 50)
        assert theirs.read(11, 50) == b"from ipckit"
        assert (theirs.id, theirs.size, theirs.number_attached) == (ours.id, 100, ours.attached)
        theirs.detach()
        assert ours.attached == 1
    theirs = sysv_ipc.SharedMemory(other, sysv_ipc.IPC_CREX, size=64)
    with SysVSharedMemory.open(other) as ours:
        assert ours.read() == b" " * 64  # they fill it with spaces
        ours.view(Stu).age = 20
        assert int.from_bytes(theirs.read(4, 32), "little") == 20
        theirs.remove()
        theirs.detach()
        assert ours.stat().destroyed


def test_posix_ipc_in_both_directions(ns: Namespace) -> None:
    name, other = ns.name(), ns.name()
    with PosixSharedMemory.create(name, 100) as ours:
        theirs = posix_ipc.SharedMemory(name)
        with mmap.mmap(theirs.fd, 0) as mapped:
            os.close(theirs.fd)
            mapped[10:14] = b"them"
            assert ours.read(4, 10) == b"them"
            ours.buf[20:22] = b"us"
            assert mapped[20:22] == b"us"
            assert len(mapped) == ours.size
    theirs = posix_ipc.SharedMemory(other, posix_ipc.O_CREX, size=5000)
    os.write(theirs.fd, b"written to the file")
    with PosixSharedMemory.open(other) as ours:
        assert (ours.size, ours.read(7)) == (5000, b"written")
        # They grow it by opening it with a size; ours looks anew when it is told to.
        os.close(posix_ipc.SharedMemory(other, 0, size=6000).fd)
        assert ours.size == 5000
        ours.refresh()
        assert (ours.size, ours.read(1000, 5000)) == (6000, bytes(1000))
        theirs.unlink()
        os.close(theirs.fd)
        assert ours.read(7) == b"written"
