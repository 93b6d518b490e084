"""``ipckit dump`` over every kind of memory."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ipckit import Char, Int, MemFd, PosixSharedMemory, Struct, SysVSharedMemory
from ipckit._cli.hexdump import hexdump
from ipckit._inventory.processes import hides_processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Namespace

C_STU = "typedef struct stu { char name[32]; int age; } Stu;"


class Stu(Struct):
    name: Char[32]
    age: Int


@pytest.fixture
def segment(ns: Namespace) -> Iterator[SysVSharedMemory]:
    with SysVSharedMemory.create(ns.key(), 10_000) as made:
        made.write(Stu("amy", 20))
        made.write(Stu("bob", 31), 36)
        made.write(b"\xffend", 9_990)
        yield made


def test_every_kind_of_memory_shows_the_same_bytes(
    commands: Callable[..., Any], segment: SysVSharedMemory, ns: Namespace
) -> None:
    data = segment.read()
    wanted = "\n".join(hexdump([data])) + "\n"
    path = ns.path(".bin")
    path.write_bytes(data)
    with (
        PosixSharedMemory.create(ns.name(), len(data)) as posix,
        MemFd.create("pages", len(data)) as memfd,
        PosixSharedMemory.create("/ipckit.pages", len(data)) as channel,
        PosixSharedMemory.create("/ipckit-topic.pages", len(data)) as topic,
        PosixSharedMemory.create(ns.name(), len(data)) as unlinked,
    ):
        gone = unlinked.name
        unlinked.unlink()
        unlinked.write(data)
        channel.write(data)
        topic.write(data)
        posix.write(data)
        memfd.write(data)
        inode = os.fstat(memfd.fileno()).st_ino
        results = commands(
            ["dump", f"m:{segment.id}"],
            ["dump", f"m:{segment.key:#x}"],
            ["dump", f"shm:{posix.name}"],
            ["dump", f"memfd:{inode}"],
            ["dump", f"/proc/{os.getpid()}/fd/{memfd.fileno()}"],
            ["dump", f"file:{path}"],
            ["dump", "channel:pages"],
            ["dump", "topic:pages"],
            ["dump", f"shm:{gone}"],
        )
    assert results == [(0, wanted, "")] * 9
    assert "*\n" in wanted


def test_offset_and_size_select_a_part(
    commands: Callable[..., Any], segment: SysVSharedMemory
) -> None:
    name = f"m:{segment.id}"
    results = commands(
        ["dump", name, "--offset", "0x2700", "--size", 20],
        ["dump", name, "--offset", 9_999],
        ["dump", name, "--offset", 10_000],
        ["dump", name, "--size", 0],
    )
    assert [out for _, out, _ in results] == [
        "\n".join(hexdump([segment.read(16, 0x2700)], start=0x2700)) + "\n",
        "0000270f  00                                                |.|\n00002710\n",
        "",
        "",
    ]


def test_structs_one_after_the_other(
    commands: Callable[..., Any], segment: SysVSharedMemory
) -> None:
    name = f"m:{segment.id}"
    results = commands(
        ["dump", name, "--c", C_STU, "-n", 2],
        ["dump", name, "--c", C_STU, "--offset", 36, "--size", 40, "--json"],
        ["dump", name, "--c", C_STU, "--size", 35],
    )
    assert results[0][1] == "00000000  Stu(name='amy', age=20)\n00000024  Stu(name='bob', age=31)\n"
    assert json.loads(results[1][1]) == {"offset": 36, "value": {"name": "bob", "age": 31}}
    assert results[2] == (0, "", "")


def test_arrays_go_to_npy(
    commands: Callable[..., Any], segment: SysVSharedMemory, ns: Namespace
) -> None:
    name = f"m:{segment.id}"
    path = ns.path(".npy")
    results = commands(
        ["dump", name, "--dtype", "<u4", "--shape", "10,250", "--output", path],
        ["dump", name, "--dtype", "u1", "--shape", "2,3"],
    )
    assert [status for status, _, _ in results] == [0, 0]
    read = np.load(path)
    assert (read.dtype, read.shape) == (np.dtype("<u4"), (10, 250))
    assert read.tobytes() == segment.read()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert results[1][1] == f"{np.frombuffer(b'amy' + bytes(3), 'u1').reshape(2, 3)!r}\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_arrays_go_to_a_pipe(segment: SysVSharedMemory, unbuffered: str) -> None:
    name = f"m:{segment.id}"
    code = [sys.executable, "-m", "ipckit", "dump", name, "--dtype", "u1", "--output", "-"]
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    piped = subprocess.run(code, capture_output=True, check=True, env=env).stdout
    assert np.load(io.BytesIO(piped)).tobytes() == segment.read()


def test_raw_bytes_go_to_a_pipe_and_not_to_a_terminal(segment: SysVSharedMemory) -> None:
    command = [sys.executable, "-m", "ipckit", "dump", f"m:{segment.id}", "--raw"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stdout == segment.read()
    ours, theirs = os.openpty()
    try:
        done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, check=False)
        assert done.returncode == 2
        assert b"to a terminal" in done.stderr
    finally:
        os.close(ours)
        os.close(theirs)


BAD: list[list[object]] = [
    ["--offset", 10_001],
    ["--offset", "x"],
    ["--size", -1],
    ["--shape", "2"],
    ["--dtype", "nonsense"],
    ["--dtype", "O"],
    ["--dtype", "V0"],
    ["--dtype", "u1", "--shape", "2,x"],
    ["--dtype", "u1", "--shape", "10001"],
    ["--dtype", "u1", "--raw"],
    ["--raw", "--c", C_STU],
    ["--c", "struct {"],
    ["--json"],
    ["-n", 1],
    ["--output", "x"],
]


def test_wrong_usage_and_absent_memory(
    commands: Callable[..., Any], segment: SysVSharedMemory
) -> None:
    lines: list[list[object]] = [["dump", f"m:{segment.id}", *words] for words in BAD]
    lines += [["dump", "q:1"], ["dump", "file:/dev/null"], ["dump", "file:/"]]
    results = commands(*lines)
    assert [line for line, got in zip(lines, results, strict=True) if got[0] != 2] == []
    # C source has one line for each problem.
    assert all(
        out == "" and err.count("\n") == (err.count("<text>") or 1) for _, out, err in results
    )
    absent = [["m:2000000000"], ["shm:/no-such"], ["file:/no-such"], ["/proc/self/fd/999"]]
    for status, out, err in commands(*(["dump", *words] for words in absent)):
        assert (status, out) == (1, "")
        assert "no such" in err.lower()


@pytest.mark.usefixtures("root")
def test_another_user_reads_only_what_the_mode_allows(
    commands: Callable[..., Any], segment: SysVSharedMemory, ns: Namespace
) -> None:
    with PosixSharedMemory.create(ns.name(), 16, mode=0o644) as open_to_all:
        mine = f"/proc/{os.getpid()}/fd/{open_to_all.fileno()}"
        denied, allowed, other = commands(
            ["dump", f"m:{segment.id}"],
            ["dump", f"shm:{open_to_all.name}"],
            ["dump", mine],
            user="nobody",
        )
    assert denied[0] == 1
    assert "the mode 0600" in denied[2]
    assert allowed[0] == 0
    assert other[0] == 1
    # With hidepid=invisible the other user does not even see that the process exists.
    assert ("No such file" if hides_processes() else "denied") in other[2]


def test_a_type_of_ml_dtypes_is_shown_and_not_written_as_raw_bytes(
    commands: Callable[..., Any], segment: SysVSharedMemory, ns: Namespace
) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    segment.write(np.array([1.5, -2.0], ml_dtypes.bfloat16))
    path = ns.path(".npy")
    shown, written = commands(
        ["dump", f"m:{segment.id}", "--dtype", "bfloat16", "--shape", "2"],
        ["dump", f"m:{segment.id}", "--dtype", "bfloat16", "--shape", "2", "--output", path],
    )
    assert shown == (0, "array([1.5, -2], dtype=bfloat16)\n", "")
    assert written[0] != 0
    assert "a .npy file cannot contain bfloat16; use --raw" in written[2]
    assert not path.exists()
