"""The scripts for shared memory as a user runs them: ``python path/to/script.py`` from anywhere."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from script_runs import SCRIPTS, Done, Scripts, fails, misused, quiet

from ipckit import Char, Int, MappedFile, PosixSharedMemory, Struct, SysVSharedMemory, ftok
from ipckit.testing import Child, Sandbox

if TYPE_CHECKING:
    from ipckit.testing import Namespace

ALL = [
    "shm_write.py",
    "shm_read.py",
    "posix_shm_write.py",
    "posix_shm_read.py",
    "mmap_write.py",
    "mmap_read.py",
]


class Stu(Struct):
    name: Char[32]
    age: Int


def line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


def rest(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_help_and_bad_usage(scripts: Scripts) -> None:
    for done in scripts.run_all(*([name, "--help"] for name in ALL)):
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.startswith(b"usage: ")
    wrong: list[list[object]] = [
        *([name] for name in ALL),
        ["shm_write.py", "--key", 1],
        ["shm_write.py", "--key", 1, "--age", "old"],
        ["shm_write.py", "--key", "x", "--age", 1],
        ["shm_write.py", "--path", "/", "--age", 1],
        ["shm_write.py", "--key", 1, "--proj", "A", "--age", 1],
        ["shm_write.py", "--key", 1, "--path", "/", "--age", 1],
        ["shm_read.py", "--key", 2**40],
        ["shm_read.py", "--path", "/", "--proj", "AA"],
        ["posix_shm_write.py", "--name", "/x"],
        ["posix_shm_read.py", "--name"],
        ["posix_shm_read.py", "/x"],
        ["mmap_write.py", "people.dat"],
        ["mmap_write.py", "people.dat", "--update", "amy"],
        ["mmap_write.py", "a", "b", "c"],
        ["mmap_read.py", "a", "b"],
    ]
    for done in scripts.run_all(*wrong):
        misused(done)


# -- System V --------------------------------------------------------------------------------------


def test_a_struct_goes_in_and_comes_out(scripts: Scripts, ns: Namespace) -> None:
    here = ["--key", ns.key()]
    first, read, older, newer, named, renamed, removed, gone = scripts.run_all(
        ["shm_write.py", *here, "--name", "amy", "--age", 20, "--create"],
        ["shm_read.py", *here],
        ["shm_write.py", *here, "--age", 21],
        ["shm_read.py", *here],
        ["shm_write.py", *here, "--name", "zoé", "--create"],
        ["shm_read.py", *here],
        ["shm_read.py", *here, "--remove"],
        ["shm_read.py", *here],
    )
    for done in (first, older, named):
        quiet(done)
    quiet(read, "Stu(name='amy', age=20)\n")
    quiet(newer, "Stu(name='amy', age=21)\n")
    quiet(renamed, "Stu(name='zoé', age=21)\n")
    quiet(removed, "Stu(name='zoé', age=21)\n")
    fails(gone, "no such segment")


def test_a_path_and_a_letter_name_the_segment(scripts: Scripts, ns: Namespace) -> None:
    path = ns.path()
    path.touch()
    here = ["--path", path, "--proj", "A"]
    made, read, bad = scripts.run_all(
        ["shm_write.py", *here, "--name", "amy", "--create"],
        ["shm_read.py", *here, "--remove"],
        ["shm_read.py", "--path", ns.path(), "--proj", "A"],
    )
    quiet(made)
    quiet(read, "Stu(name='amy', age=0)\n")
    fails(bad, "no such file")
    with pytest.raises(FileNotFoundError):
        SysVSharedMemory.open(ftok(path, "A"))


def test_the_segment_of_the_notes(scripts: Scripts, ns: Namespace) -> None:
    """The C program's segment is 0666 and of the struct's size; ours is of mode 0600."""
    key = ns.key()
    with SysVSharedMemory.create(key, Stu.size, mode=0o666) as segment:
        quiet(scripts.run("shm_write.py", "--key", f"{key:#x}", "--name", "amy", "--age", -1))
        assert struct.unpack("32si", segment.read()) == (b"amy".ljust(32, b"\0"), -1)
        assert segment.stat().mode == 0o666
        segment.write(struct.pack("32si", b"\xff" * 32, 2**31 - 1))
        done = scripts.run("shm_read.py", "--key", key)
        assert done.stdout == b"Stu(name='%s', age=2147483647)\n" % (rb"\udcff" * 32)
    quiet(scripts.run("shm_write.py", "--key", key, "--age", 1, "--create"))
    with SysVSharedMemory.open(key) as ours:
        assert (ours.size, ours.stat().mode) == (36, 0o600)
        ours.unlink()


def test_what_a_segment_cannot_take(scripts: Scripts, ns: Namespace) -> None:
    key, small = ns.key(), ns.key()
    with SysVSharedMemory.create(small, 35) as segment:
        commands = [
            ["shm_write.py", "--key", key, "--age", 1],
            ["shm_write.py", "--key", key, "--name", "x" * 33, "--create"],
            ["shm_write.py", "--key", key, "--age", 2**31, "--create"],
            ["shm_write.py", "--key", small, "--name", "amy"],
            ["shm_write.py", "--key", small, "--name", "amy", "--create"],
            ["shm_read.py", "--key", small],
        ]
        absent, long, old, little, less, short = scripts.run_all(*commands)
        fails(absent, "no such segment")
        fails(long, "at most 32 bytes")
        fails(old, "2147483648")
        fails(little, "36 bytes", "35 bytes")
        fails(less, "35 bytes", "36 were requested")
        fails(short, "36 bytes", "35 bytes")
        assert segment.read() == bytes(35)
        # What did not fit made nothing.
        with pytest.raises(FileNotFoundError):
            SysVSharedMemory.open(key)


def test_watch_sees_another_process_write_and_remove(scripts: Scripts, ns: Namespace) -> None:
    here = ["--key", ns.key()]
    quiet(scripts.run("shm_write.py", *here, "--name", "amy", "--age", 20, "--create"))
    watcher = scripts.start("shm_read.py", *here, "--watch")
    assert line(watcher) == b"Stu(name='amy', age=20)\n"
    quiet(scripts.run("shm_write.py", *here, "--age", 21))
    assert line(watcher) == b"Stu(name='amy', age=21)\n"
    quiet(scripts.run("shm_read.py", *here, "--remove"), "Stu(name='amy', age=21)\n")
    assert rest(watcher) == (0, b"", b"")


@pytest.mark.parametrize("remove", [False, True])
def test_ctrl_c_ends_a_watch_quietly(scripts: Scripts, ns: Namespace, *, remove: bool) -> None:
    key = ns.key()
    with SysVSharedMemory.create(key, Stu.size) as segment:
        watcher = scripts.start("shm_read.py", "--key", key, "--watch", *["--remove"] * remove)
        assert line(watcher) == b"Stu(name='', age=0)\n"
        watcher.send_signal(signal.SIGINT)
        assert rest(watcher) == (130, b"", b"")
        assert segment.stat().destroyed == remove
        assert segment.attached == 1


def test_a_killed_watcher_leaves_the_segment_in_use_by_others(
    scripts: Scripts, ns: Namespace
) -> None:
    key = ns.key()
    with SysVSharedMemory.create(key, Stu.size) as segment:
        watcher = scripts.start("shm_read.py", "--key", key, "--watch", "--remove")
        line(watcher)
        assert segment.attached == 2
        watcher.kill()
        assert rest(watcher) == (-signal.SIGKILL, b"", b"")
        assert segment.attached == 1
        quiet(scripts.run("shm_write.py", "--key", key, "--age", 5))
        assert segment.view(Stu).age == 5


WRITES_FOR_EVER = """
from ipckit.testing import step
from ipckit import Char, Int, Struct, SysVSharedMemory

class Stu(Struct):
    name: Char[32]
    age: Int

stu = SysVSharedMemory.open(args[0]).view(Stu)
told = False
while True:
    stu.age += 1
    if not told:
        step.tell("writing")
        told = True
"""


def test_a_killed_writer_does_not_end_a_watch(scripts: Scripts, ns: Namespace) -> None:
    key = ns.key()
    with SysVSharedMemory.create(key, Stu.size) as segment:
        watcher = scripts.start("shm_read.py", "--key", key, "--watch")
        assert line(watcher) == b"Stu(name='', age=0)\n"
        with Child(WRITES_FOR_EVER, key) as writer:
            writer.expect("writing")
            line(watcher)
            writer.kill()
        segment.write(Stu("amy", -7))
        assert watcher.stdout is not None
        assert b"Stu(name='amy', age=-7)\n" in watcher.stdout
        assert watcher.poll() is None
        segment.unlink()
        assert rest(watcher) == (0, b"", b"")


@pytest.mark.parametrize("script", ["shm_read.py", "mmap_read.py"])
def test_a_watcher_whose_reader_is_gone_ends(script: str, scripts: Scripts, ns: Namespace) -> None:
    key, path = ns.key(), ns.path()
    with SysVSharedMemory.create(key, Stu.size) as segment, MappedFile.create(path, 36) as file:
        where = [path] if script == "mmap_read.py" else ["--key", key]
        watcher = scripts.start(script, *where, "--watch")
        line(watcher)
        assert watcher.stdout is not None
        watcher.stdout.close()
        segment.view(Stu).age = 1
        file.view(Stu).age = 1
        assert watcher.stderr is not None
        assert (watcher.stderr.read(), watcher.wait(60)) == (b"", 1)


def test_a_closed_standard_output_is_a_plain_error(ns: Namespace) -> None:
    with SysVSharedMemory.create(ns.key(), Stu.size) as segment:
        command = f"exec {sys.executable} {SCRIPTS}/shm_read.py --key {segment.key} >&-"
        done = subprocess.run(["sh", "-c", command], check=False, capture_output=True)
        fails(done, "standard output is closed")


@pytest.mark.usefixtures("root")
def test_nobody_may_look_at_the_segment(ns: Namespace) -> None:
    key = ns.key()
    with SysVSharedMemory.create(key, Stu.size):
        # The interpreter may be where nobody can enter: become nobody inside it.
        source = """
        import argparse, runpy, sys
        from pathlib import Path
        sys.path.insert(0, args[1])
        import _common
        from ipckit.testing import drop_privileges
        code = compile(Path(args[0]).read_text(), args[0], "exec")
        drop_privileges()
        sys.argv = [args[0], "--key", str(args[2])]
        exec(code, {"__name__": "__main__"})
        """
        with Child(source, str(SCRIPTS / "shm_read.py"), str(SCRIPTS), key) as child:
            child.wait(expect=1)
            assert "permission denied" in child.stderr
            assert child.stderr.count("\n") == 1


# -- POSIX, with a .npy file -----------------------------------------------------------------------

ARRAYS = {
    "frame": np.arange(640 * 480, dtype=np.uint8).reshape(480, 640),
    "fortran": np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
    "scalar": np.array(-2.5, np.float32),
    "big-endian": np.array([1, -3], ">i8"),
    "complex": np.array([1 + 2j, 3 - 1j]),
    "bool": np.array([True, False, True]),
    "empty": np.zeros((0, 3)),
    "nan": np.array([np.nan, np.inf, 1.0]),
    "half": np.full(9, 6e4, np.float16),
    "records": np.array([(b"amy", 20)], Stu.dtype),
    "text": np.array(["añ", "b"]),
    "times": np.array(["2020-02-03"], "M8[D]"),
}


def test_arrays_cross_with_dtype_and_shape(scripts: Scripts, ns: Namespace) -> None:
    commands: list[list[object]] = []
    for label, array in ARRAYS.items():
        np.save(ns.directory / f"{label}.npy", array)
        name = ns.name()
        commands += [
            ["posix_shm_write.py", "--name", name, f"{label}.npy"],
            ["posix_shm_read.py", "--name", name, "--out", f"{label}.copy", "--remove"],
        ]
    done = scripts.run_all(*commands)
    for (label, array), wrote, read in zip(ARRAYS.items(), done[::2], done[1::2], strict=True):
        quiet(wrote)
        shown = f"shape {array.shape} dtype {array.dtype}"
        with np.errstate(all="ignore"):
            if array.dtype.kind in "biufc" and array.size:
                shown += f" sum {array.sum()} min {array.min()} max {array.max()}"
        quiet(read, shown + "\n")
        copy = np.load(ns.directory / f"{label}.copy")
        np.testing.assert_array_equal(copy, array)
        assert (copy.dtype, copy.shape) == (array.dtype, array.shape)
        assert copy.flags.f_contiguous == array.flags.f_contiguous


def test_what_is_written_is_the_npy_file(scripts: Scripts, ns: Namespace) -> None:
    """Byte for byte, so that a program that reads .npy files can read /dev/shm."""
    name, path = ns.name(), ns.path(".npy")
    with path.open("wb") as file:
        np.lib.format.write_array(file, np.arange(5), version=(2, 0))
    quiet(scripts.run("posix_shm_write.py", "--name", name, path))
    with PosixSharedMemory.open(name, readonly=True) as memory:
        assert memory.read() == path.read_bytes()
        memory.unlink()


def test_files_that_are_no_array(scripts: Scripts, ns: Namespace) -> None:
    here = ns.directory
    np.save(here / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(here / "several.npz", a=np.arange(3))
    np.save(here / "cut.npy", np.arange(100))
    (here / "cut.npy").write_bytes((here / "cut.npy").read_bytes()[:500])
    (here / "empty.npy").touch()
    (here / "text.npy").write_text("hello, this is no array\n")
    files = ["objects.npy", "several.npz", "cut.npy", "empty.npy", "text.npy", "missing.npy", "."]
    name = ns.name()
    commands: list[list[object]] = [["posix_shm_write.py", "--name", name, path] for path in files]
    for done in scripts.run_all(*commands):
        fails(done)
    with pytest.raises(FileNotFoundError):
        PosixSharedMemory.open(name)


def test_names_that_are_taken_missing_or_wrong(scripts: Scripts, ns: Namespace) -> None:
    name = ns.name()
    np.save(ns.directory / "a.npy", np.arange(3))
    with PosixSharedMemory.create(name, 7) as memory:
        write = ["posix_shm_write.py", "--name"]
        taken, slash, missing, newline = scripts.run_all(
            [*write, name, "a.npy"],
            [*write, "/a/b", "a.npy"],
            ["posix_shm_read.py", "--name", ns.name()],
            ["posix_shm_read.py", "--name", "/a\nb"],
        )
        fails(taken, "exists")
        fails(slash)
        fails(missing, "no such shared memory")
        fails(newline)
        assert memory.read() == bytes(7)


def header(text: str, version: tuple[int, int] = (1, 0)) -> bytes:
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text.encode()


def fields(descr: str = "'<f8'", fortran: str = "False", shape: str = "(3,)") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}}}"
    return header(text + " " * (-(len(text) + 10) % 64))


UNTRUSTED = [
    b"\0",
    b"x" * 100,
    b"\x93NUMPY",
    b"\x93NUMPY\x01\x00\xff\xff",
    b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
    header("-" * 9000),
    header("(" * 9000),
    header("{}"),
    header("{}", (3, 0)),
    header("{}", (9, 9)),
    header("__import__('os').abort()"),
    fields(shape="(4,)"),
    fields(shape="(-1,)"),
    fields(shape="(-3, -1)"),
    fields(shape="(99999999999999999999999,)"),
    fields(shape="(0, 99999999999999999999999)"),
    fields(shape="(4611686018427387904, 4)"),
    fields(shape=f"({'1, ' * 70})"),
    fields(shape="3"),
    fields(fortran="7"),
    fields(descr="'|O'"),
    fields(descr="[('a', '<i4'), ('b', '|O')]"),
    fields(descr="'S0'"),
    fields(descr="'nonsense'"),
    fields(descr="[1]"),
    fields(descr="None"),
    b" " + fields(),
]


def test_what_stands_in_memory_is_not_trusted(scripts: Scripts, ns: Namespace) -> None:
    made: list[PosixSharedMemory] = []
    for data in [*UNTRUSTED, fields()]:
        memory = PosixSharedMemory.create(ns.name(), len(data) + 24)
        memory.write(data)
        made.append(memory)
    names = [str(memory.name) for memory in made]
    # Removal is for what was read.
    reads = scripts.run_all(*(["posix_shm_read.py", "--name", each, "--remove"] for each in names))
    for memory, done in zip(made[:-1], reads[:-1], strict=True):
        fails(done)
        memory.unlink()
    quiet(reads[-1], "shape (3,) dtype float64 sum 0.0 min 0.0 max 0.0\n")
    for memory in made:
        memory.close()


def test_the_reader_reads_memory_of_which_it_may_write_nothing(
    scripts: Scripts, ns: Namespace
) -> None:
    np.save(ns.directory / "a.npy", np.arange(3))
    name = ns.name()
    quiet(scripts.run("posix_shm_write.py", "--name", name, "a.npy"))
    out = ["--out", "/dev/full", "--remove"]
    nowhere, full = scripts.run_all(
        ["posix_shm_read.py", "--name", name, "--out", "none/a.npy", "--remove"],
        ["posix_shm_read.py", "--name", name, *out],
    )
    fails(nowhere, "No such file")
    fails(full)
    with PosixSharedMemory.open(name) as memory:  # it could not be saved, so it is still there
        memory.unlink()


@pytest.mark.usefixtures("root")
def test_a_full_dev_shm_is_a_plain_error(ns: Namespace) -> None:
    np.save(ns.directory / "a.npy", np.zeros(2**20, np.uint8))
    source = (
        "import os, subprocess, sys\n"
        "done = subprocess.run([sys.executable, *args], capture_output=True, text=True)\n"
        "result = done.returncode, done.stderr, os.listdir('/dev/shm')"
    )
    command = [str(SCRIPTS / "posix_shm_write.py"), "--name", "/big", "a.npy"]
    with Child(source, *command, sandbox=Sandbox(shm_size="512k"), cwd=ns.directory) as child:
        status, error, left = child.result
    assert (status, left) == (1, [])
    assert error.startswith("error: ")
    assert "--shm-size" in error
    assert error.count("\n") == 1


def test_a_killed_maker_leaves_no_half_array_to_be_taken_for_one(
    scripts: Scripts, ns: Namespace
) -> None:
    """It writes its header last: killed before that, it leaves memory that holds no array."""
    name, path = ns.name(), ns.path(".npy")
    np.save(path, np.arange(10))
    source = """
    import os, runpy, signal, sys
    from ipckit import PosixSharedMemory
    PosixSharedMemory.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    sys.argv = list(args)
    sys.path.insert(0, args[0].rpartition("/")[0])
    runpy.run_path(args[0], run_name="__main__")
    """
    script = str(SCRIPTS / "posix_shm_write.py")
    with Child(source, script, "--name", name, str(path)) as writer:
        writer.wait(expect=-signal.SIGKILL)
    fails(scripts.run("posix_shm_read.py", "--name", name), "holds no array, or none yet")
    with PosixSharedMemory.open(name) as memory:
        memory.unlink()


# -- mapped files ----------------------------------------------------------------------------------


def test_a_csv_becomes_records_that_are_updated_in_place(scripts: Scripts, ns: Namespace) -> None:
    (ns.directory / "people.csv").write_text("amy,20\n\nbob, 31\nDoe, John,-4\n")
    made, read, updated, reread, both = scripts.run_all(
        ["mmap_write.py", "people.csv", "people.dat"],
        ["mmap_read.py", "people.dat"],
        ["mmap_write.py", "people.dat", "--update", "Doe, John", 5],
        ["mmap_read.py", "people.dat"],
        ["mmap_write.py", "people.csv", "--update", "amy", 99, "more.dat"],
    )
    for done in (made, updated, both):
        quiet(done)
    before = "0\tStu(name='amy', age=20)\n1\tStu(name='bob', age=31)\n"
    quiet(read, before + "2\tStu(name='Doe, John', age=-4)\n")
    quiet(reread, before + "2\tStu(name='Doe, John', age=5)\n")
    records = [("amy", 20), ("bob", 31), ("Doe, John", 5)]
    packed = b"".join(struct.pack("32si", name.encode(), age) for name, age in records)
    assert (ns.directory / "people.dat").read_bytes() == packed
    assert (ns.directory / "more.dat").read_bytes()[:36] == struct.pack("32si", b"amy", 99)


def test_everybody_of_a_name_is_updated(scripts: Scripts, ns: Namespace) -> None:
    (ns.directory / "p.csv").write_bytes(b"amy,1\nb\xff,2\namy,3\n")
    _, updated, read = scripts.run_all(
        ["mmap_write.py", "p.csv", "p.dat"],
        ["mmap_write.py", "p.dat", "--update", "amy", 9],
        ["mmap_read.py", "p.dat"],
    )
    quiet(updated)
    assert read.stdout == (
        b"0\tStu(name='amy', age=9)\n1\tStu(name='b\\udcff', age=2)\n2\tStu(name='amy', age=9)\n"
    )


def test_what_is_no_table(scripts: Scripts, ns: Namespace) -> None:
    here = ns.directory
    (here / "good.csv").write_text("amy,20\n")
    (here / "header.csv").write_text("amy,20\nname,age\n")
    (here / "comma.csv").write_text("amy\n")
    (here / "long.csv").write_text("x" * 33 + ",1\n")
    (here / "old.csv").write_text("amy,99999999999\n")
    (here / "empty.csv").write_text("\n\n")
    (here / "odd.dat").write_bytes(bytes(37))
    (here / "empty.dat").touch()
    (here / "there.dat").write_bytes(bytes(36))
    os.mkfifo(here / "fifo")
    write = "mmap_write.py"
    cases: list[tuple[list[object], str]] = [
        ([write, "header.csv", "a.dat"], "header.csv, line 2"),
        ([write, "comma.csv", "a.dat"], "line 1: 'amy' is not name,age"),
        ([write, "long.csv", "a.dat"], "at most 32 bytes"),
        ([write, "old.csv", "a.dat"], "99999999999"),
        ([write, "empty.csv", "a.dat"], "no records"),
        ([write, "missing.csv", "a.dat"], "No such file"),
        ([write, "good.csv", "there.dat"], "exists"),
        ([write, "good.csv", "none/a.dat"], "No such file"),
        ([write, "good.csv", "a.dat", "--update", "amy", "old"], "not an integer"),
        ([write, "there.dat", "--update", "amy", 1], "no record with the name 'amy'"),
        ([write, "missing.dat", "--update", "amy", 1], "No such file"),
        ([write, "odd.dat", "--update", "amy", 1], "37"),
        (["mmap_read.py", "odd.dat"], "not a whole number of records"),
        (["mmap_read.py", "empty.dat"], "0 bytes"),
        (["mmap_read.py", "missing.dat"], "No such file"),
        (["mmap_read.py", "fifo"], "not a regular file"),
        (["mmap_read.py", "."], "not a regular file"),
    ]
    for (_, words), done in zip(cases, scripts.run_all(*(each for each, _ in cases)), strict=True):
        fails(done, words)
    assert not (here / "a.dat").exists()
    assert (here / "there.dat").read_bytes() == bytes(36)


def test_watch_sees_an_update_and_the_end_of_the_file(scripts: Scripts, ns: Namespace) -> None:
    (ns.directory / "p.csv").write_text("amy,20\nbob,31\n")
    quiet(scripts.run("mmap_write.py", "p.csv", "p.dat"))
    watcher = scripts.start("mmap_read.py", "p.dat", "--watch")
    assert line(watcher) == b"0\tStu(name='amy', age=20)\n"
    assert line(watcher) == b"1\tStu(name='bob', age=31)\n"
    quiet(scripts.run("mmap_write.py", "p.dat", "--update", "bob", 32))
    assert line(watcher) == b"1\tStu(name='bob', age=32)\n"
    (ns.directory / "p.dat").unlink()
    assert rest(watcher) == (0, b"", b"")


def test_watch_ends_where_the_file_is_replaced_or_cut(scripts: Scripts, ns: Namespace) -> None:
    paths = [ns.path() for _ in range(3)]
    for path in paths:
        path.write_bytes(bytes(72))
    first, second = (scripts.start("mmap_read.py", path, "--watch") for path in paths[:2])
    for watcher in (first, second):
        for number in range(2):
            assert line(watcher) == b"%d\tStu(name='', age=0)\n" % number
    paths[2].rename(paths[0])
    assert rest(first) == (0, b"", b"")
    # Within its last page: a touch of what was cut off is no SIGBUS, which could come first.
    os.truncate(paths[1], 36)
    status, out, error = rest(second)
    fails(Done([], status, out, error), "was truncated")


def test_ctrl_c_ends_a_watch_of_a_file_quietly(scripts: Scripts, ns: Namespace) -> None:
    path = ns.path()
    path.write_bytes(bytes(36))
    watcher = scripts.start("mmap_read.py", path, "--watch")
    assert line(watcher) == b"0\tStu(name='', age=0)\n"
    watcher.send_signal(signal.SIGINT)
    assert rest(watcher) == (130, b"", b"")


def test_a_killed_updater_leaves_the_records(scripts: Scripts, ns: Namespace) -> None:
    path = ns.path()
    path.write_bytes(bytes(Stu("amy", 20)) * 2)
    source = """
    import os, signal
    from ipckit import MappedFile
    file = MappedFile.open(args[0], mode="r+")
    file.write((21).to_bytes(4, "little"), 32)
    os.kill(os.getpid(), signal.SIGKILL)
    """
    with Child(source, str(path)) as child:
        child.wait(expect=-signal.SIGKILL)
    shown = "0\tStu(name='amy', age=21)\n1\tStu(name='amy', age=20)\n"
    quiet(scripts.run("mmap_read.py", path), shown)
