"""The parsers of files of /proc, with text that the test writes."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

import pytest

from ipckit._core import blocked_calls
from ipckit._core.blocked_calls import Wait
from ipckit._core.processes import ProcessStat, process_stat
from ipckit._inventory import elf
from ipckit._inventory import proc_text as parse
from ipckit._inventory.proc_text import UnixRow

STAT = (
    "{pid} ({name}) {state} 1 7 7 0 -1 {flags} 10 0 0 0 1 2 0 0 20 0 {threads} 0 {start} "
    "1000000 200 18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 3 0 0 0 0 0\n"
)


def stat(**values: object) -> ProcessStat:
    fields = {"pid": 7, "name": "cat", "state": "S", "flags": 4194560, "threads": 1, "start": 99}
    return process_stat(STAT.format(**(fields | values)).encode())


@pytest.mark.parametrize("name", ["cat", "a b", "x) S 1 (y", ") R 2 3", "a\nb", ""])
def test_a_process_s_name_may_hold_anything(name: str) -> None:
    found = stat(name=name)
    assert (found.name, found.start, found.runs, found.kernel) == (name, 99, True, False)
    assert (found.parent, found.processor) == (1, 3)


@pytest.mark.parametrize(
    ("state", "threads", "runs"),
    [
        *(("S", 1, True), ("D", 1, True), ("T", 1, True), ("Z", 1, False), ("X", 1, False)),
        ("Z", 3, True),  # the main thread ended, others go on
    ],
)
def test_a_zombie_does_not_run(state: str, threads: int, *, runs: bool) -> None:
    assert stat(state=state, threads=threads).runs is runs


def test_a_kernel_thread_is_told_by_its_flag() -> None:
    assert stat(flags=0x00208040).kernel
    assert not stat(flags=0x00400100).kernel


def test_a_command_line_is_one_line() -> None:
    assert parse.command_line(b"sh\0-c\0exit 0\0") == "sh -c exit 0"
    assert parse.command_line(b"title set by the program itself") == (
        "title set by the program itself"
    )
    assert parse.command_line(b"") == ""
    assert parse.command_line(b"a\xff\0").encode(errors="surrogateescape") == b"a\xff"


SHM = "/dev/shm"  # noqa: S108 - where Linux has it
MAPS = b"""\
55d0c0a00000-55d0c0a02000 r--p 00000000 fe:00 260104      /usr/bin/cat
7f0000000000-7f0000001000 rw-s 00000000 00:01 32769       /SYSV000004d2 (deleted)
7f0000001000-7f0000002000 rw-s 00000000 00:1b 17          /dev/shm/frames
7f0000002000-7f0000003000 rw-s 00000000 00:1b 18          /dev/shm/old (deleted)
7f0000003000-7f0000004000 rw-s 00000000 00:01 1024        /memfd:a label (deleted)
7f0000004000-7f0000005000 rw-s 00000000 00:01 55          /dev/zero (deleted)
7f0000005000-7f0000006000 rw-s 00000000 00:2a 19          /mnt/shm/elsewhere
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0           [stack]
"""


def test_the_objects_in_a_process_s_maps() -> None:
    found = [(each.path, each.inode, each.deleted) for each in parse.mapped_files(MAPS)]
    assert found == [
        ("/SYSV000004d2", 32769, True),
        (f"{SHM}/frames", 17, False),
        (f"{SHM}/old", 18, True),
        ("/memfd:a label", 1024, True),
    ]
    devices = {each.device for each in parse.mapped_files(MAPS)}
    assert devices == {os.makedev(0, 1), os.makedev(0, 0x1B)}


@pytest.mark.parametrize(
    "path",
    [
        b"/home/x 00:01 32769       /SYSV000004d2",
        b"/home/x ffffffffffffffffffffffffffff:1 1 /SYSV000004d2",
        b"/home/x 00:1b 17          /dev/shm/frames",
        b"/home/x\\0127f0000000000-7f0000001000 rw-s 00000000 00:01 9 /SYSV000004d2",
    ],
)
def test_a_path_in_a_process_s_maps_may_look_like_the_rest_of_a_line(path: bytes) -> None:
    line = b"7f0000006000-7f0000007000 r-xp 00001000 fe:00 77       " + path + b"\n"
    for pattern in (parse.maps_pattern(None), parse.maps_pattern(os.makedev(0, 0x1B))):
        expected = list(parse.mapped_files(MAPS, pattern))
        assert list(parse.mapped_files(line + MAPS, pattern)) == expected
        assert list(parse.mapped_files(MAPS + line, pattern)) == expected


def test_shared_memory_is_known_by_its_device_wherever_it_is_mounted() -> None:
    pattern = parse.maps_pattern(os.makedev(0, 0x2A))
    assert "/mnt/shm/elsewhere" in [each.path for each in parse.mapped_files(MAPS, pattern)]
    assert "/SYSV000004d2" in [each.path for each in parse.mapped_files(MAPS, pattern)]


TAIL = " 0x7ffc8ad47468 0x7ff386e573d3"


@pytest.mark.parametrize(
    ("machine", "line", "wait"),
    [
        ("x86_64", "70 0x5 0x7ffc 0x448 0x0 0x0 0x7ff3", Wait("msgrcv", 5)),
        ("x86_64", "69 0x8001 0x7ffc 0x10 0x0 0x0 0x0", Wait("msgsnd", 0x8001)),
        ("x86_64", "65 0x6 0x7ffc 0x1 0x0 0x0 0x0", Wait("semop", 6)),
        ("x86_64", "220 0x6 0x7ffc 0x1 0x7ffd 0x0 0x0", Wait("semop", 6)),
        ("aarch64", "188 0x5 0xffff 0x448 0x0 0x0 0x0", Wait("msgrcv", 5)),
        ("aarch64", "192 0x5 0xffff 0x1 0x0 0x0 0x0", Wait("semop", 5)),
        ("x86_64", "117 0x1000c 0x5 0x448 0x0 0xffe0 0x0", Wait("msgrcv", 5)),  # of 32 bits
        ("x86_64", "117 0x4 0x9 0x1 0x0 0xffe0 0xffd0", Wait("semop", 9)),
        ("x86_64", "117 0x15 0x9 0x1 0x0 0xffe0 0xffd0", None),  # shmat does not sleep
        ("x86_64", "230 0x1 0x0 0x7f8b 0x0 0x6b637069 0x8000801b", Wait("msgrcv", 0x801B)),
        ("x86_64", "230 0x1 0x0 0x7f8b 0x0 0x6b637069 0x801b", Wait("msgsnd", 0x801B)),
        ("x86_64", "230 0x1 0x0 0x7f8b 0x0 0x0 0x801b", None),  # somebody else's sleep
        ("x86_64", "0 0x5 0x7ffc 0x448 0x0 0x0 0x0", None),
        ("riscv64", "188 0x5 0x7ffc 0x448 0x0 0x0 0x0", None),
        ("x86_64", "-1", None),
    ],
)
def test_a_wait_is_read_from_the_arguments_of_a_call(
    machine: str, line: str, wait: Wait | None
) -> None:
    assert blocked_calls.wait_of(line + TAIL + "\n" if wait else line + "\n", machine) == wait


def test_a_thread_that_runs_waits_for_nothing() -> None:
    assert blocked_calls.wait_of("running\n", "x86_64") is None
    assert blocked_calls.wait_of("", "x86_64") is None


UNIX = b"""\
Num       RefCount Protocol Flags    Type St Inode Path
0000000012345678: 00000002 00000000 00010000 0001 01   900 /run/a.sock
0000000012345679: 00000003 00000000 00000000 0001 03   901 /run/a.sock
000000001234567a: 00000003 00000000 00000000 0001 03   902
000000001234567b: 00000002 00000000 00000000 0002 01   903 @abstract name
000000001234567c: 00000002 00000000 00010000 0005 01   904 /run/two
lines
000000001234567d: 00000002 00000000 00000000 000A 01   905 @
"""


PENDING = b"""\
Num       RefCount Protocol Flags    Type St Inode Path
0000000012345678: 00000002 00000000 00010000 0001 01   900 @pend
0000000012345679: 00000002 00000000 00000000 0001 02     0 @pend
000000001234567a: 00000002 00000000 00000000 0001 04     0 @pend
"""


def test_a_connection_that_waits_to_be_accepted_is_connected() -> None:
    found = [(row.inode, row.connected) for row in parse.unix_rows(PENDING)]
    assert found == [(900, False), (0, True), (0, False)]


@pytest.mark.parametrize(
    "name",
    [
        b"@x\n0000000012345679: 00000002 zz",
        b"@x\n0000000012345679: 00000002 00000000 0001 01 12",
        b"@x\n0000000012345679: 00000002 00000000 00010000 0001 01 " + b"9" * 40,
        b"@x\n0000000012345679: 00000002 00000000 00010000 0001 01 -1 a",
        b"@\xff\n\n \t",
        b"@a\n0000000012345678: ",
        b"/run/ blank ",
    ],
)
def test_a_socket_s_name_may_look_like_part_of_a_line(name: bytes) -> None:
    text = UNIX.splitlines(keepends=True)
    line = b"000000001234567e: 00000002 00000000 00010000 0001 01   906 " + name + b"\n"
    for before, after in ((text, []), (text[:1], text[1:])):
        rows = list(parse.unix_rows(b"".join([*before, line, *after])))
        assert len(rows) == 7
        [found] = [row for row in rows if row.inode == 906]
        assert os.fsencode(found.name) == name


@pytest.mark.parametrize(
    ("address", "name"),
    [
        *((b"/run/a\0", "/run/a"), (b"/run/a", "/run/a"), (b"", ""), (b"a\nb\0", "a\nb")),
        *((b"\0a", "@a"), (b"\0a\0b\xff\0", "@a\0b\udcff\0"), (b"\0", "@"), (b"@a\0", "./@a")),
    ],
)
def test_the_name_in_a_socket_s_address(address: bytes, name: str) -> None:
    assert parse.socket_name(address) == name


MOUNTS = b"""\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:22 / /proc rw,nosuid - proc proc rw,hidepid=invisible
24 22 0:23 / /dev/my\\040queues rw shared:2 master:3 - mqueue mqueue rw
25 22 0:24 / /home/x\x0c\x85\x1c/\xe2\x80\xa8 rw - fuse.x -\\040proc ro,user_id=7
26 22 0:25 / /home/y - rw
27 22 0:26 / /home/z rw - - proc hidepid=2
"""


def test_the_mounts_of_a_process() -> None:
    found = [(each.point, each.type) for each in parse.mounts(MOUNTS)]
    assert found == [
        (b"/", b"ext4"),
        (b"/proc", b"proc"),
        (b"/dev/my queues", b"mqueue"),
        (b"/home/x\x0c\x85\x1c/\xe2\x80\xa8", b"fuse.x"),
        (b"/home/z", b"-"),
    ]
    assert [b"hidepid=invisible" in each.options for each in parse.mounts(MOUNTS)][:2] == [
        False,
        True,
    ]


def test_the_sockets_of_a_network_namespace() -> None:
    assert list(parse.unix_rows(UNIX)) == [
        UnixRow(900, "stream", listening=True, connected=False, name="/run/a.sock"),
        UnixRow(901, "stream", listening=False, connected=True, name="/run/a.sock"),
        UnixRow(902, "stream", listening=False, connected=True, name=""),
        UnixRow(903, "dgram", listening=False, connected=False, name="@abstract name"),
        UnixRow(904, "seqpacket", listening=True, connected=False, name="/run/two\nlines"),
        UnixRow(905, "other", listening=False, connected=False, name="@"),
    ]


# -- who can make a queue -------------------------------------------------------------------------


def linked(names: bytes) -> bytes:
    """A file of 64 bits with a dynamic section and these names, and nothing else."""
    section = struct.Struct("<IIQQQQIIQQ")
    sections = section.pack(0, 6, 0, 0, 0, 0, 1, 0, 0, 0)  # SHT_DYNAMIC
    sections += section.pack(0, 3, 0, 0, 64 + 2 * section.size, len(names), 0, 0, 0, 0)
    head = b"\x7fELF\x02\x01".ljust(0x28, b"\0") + struct.pack("<Q", 64)
    return head.ljust(0x3A, b"\0") + struct.pack("<HHH", section.size, 2, 0) + sections + names


def test_a_linked_file_names_what_it_calls() -> None:
    image = linked(b"\0printf\0msgget\0xsemget\0")
    assert elf.may_call(image, "msgget")
    assert not elf.may_call(image, "semget")


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the code is x86-64's")
def test_a_file_that_is_not_linked_makes_the_call_itself() -> None:
    plain = linked(b"\0")[:64].ljust(200, b"\0")  # its sections are empty ones
    assert elf.dynamic_names(plain) == b""
    assert not elf.may_call(plain, "msgget")
    assert elf.may_call(plain + b"\xb8\x44\0\0\0\x0f\x05\xc3", "msgget")
    assert not elf.may_call(plain + b"\xb8\x44\0\0\0\x0f\x05\xc3", "semget")
    assert elf.may_call(plain + b"\x6a\x40\x58\x0f\x05", "semget")


@pytest.mark.parametrize("image", [b"", b"\x7fELF", b"#!/bin/sh\n", linked(b"x")[:70]])
def test_what_cannot_be_read_may_call_anything(image: bytes) -> None:
    assert elf.may_call(image, "msgget")


def test_a_file_truncated_during_the_read_does_not_end_the_process(tmp_path: Path) -> None:
    path = tmp_path / "library"
    path.write_bytes(linked(b"\0printf\0"))
    with path.open("r+b") as file:
        image = elf._FileImage(file.fileno())
        assert elf.dynamic_names(image) == b"\0printf\0"
        assert not elf.may_call(image, "msgget")
        file.truncate(80)
        assert elf.may_call(image, "msgget")


def test_a_file_may_say_that_it_has_more_names_than_there_is_memory() -> None:
    image = bytearray(linked(b"\0printf\0"))
    at = image.index(struct.pack("<Q", len(b"\0printf\0")), 64)
    image[at : at + 8] = struct.pack("<Q", 1 << 62)
    assert elf.dynamic_names(bytes(image)) is None


def test_a_call_is_found_across_the_pieces_that_a_file_is_read_in() -> None:
    plain = linked(b"\0")
    plain = plain.replace(struct.pack("<I", 6), struct.pack("<I", 1))  # no SHT_DYNAMIC
    assert elf.dynamic_names(plain) == b""
    call = b"\xb8\x44\0\0\0\x90\x90\x0f\x05"
    for before in range(1, len(call)):
        image = plain.ljust(elf._PIECE - before, b"\0") + call + bytes(elf._PIECE)
        assert elf.may_call(image, "msgget")


def test_a_path_that_is_no_longer_a_regular_file_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, flags = os.open, list[int]()
    monkeypatch.setattr(os, "open", lambda path, how: flags.append(how) or real(path, how))
    (tmp_path / "root").mkdir()
    (tmp_path / "root/lib.so").symlink_to("/dev/null")  # some devices act when they are opened
    maps = b"7f0000000000-7f0000001000 r-xp 00000000 fe:00 7       /lib.so\n"
    assert elf.Imports().any_of(os.fspath(tmp_path), maps, "msgget")
    assert flags
    assert all(how & os.O_PATH for how in flags)


def test_this_process_can_make_queues_and_a_shell_can_not() -> None:
    maps = Path("/proc/self/maps").read_bytes()
    assert b"sysv_ipc" in maps
    assert elf.Imports().any_of("/proc/self", maps, "msgget")
    only_c = b"\n".join(
        line for line in maps.split(b"\n") if re.search(rb"/(libc[.]|ld-|libm[.])", line)
    )
    assert not elf.Imports().any_of("/proc/self", only_c, "msgget")
