"""Tables and fields that fit the terminal, and what ls, stat and limits show in them."""

from __future__ import annotations

import itertools
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from terminal import on_terminal

from ipckit import Channel, SysVMessageQueue, cli, inventory
from ipckit._cli import facts, words
from ipckit._cli.commands import limits
from ipckit._cli.limits_table import Limit
from ipckit._cli.output import Column, fit, print_fields, print_table, shortened, width_of
from ipckit.inventory import IpcObject, Peer, Process, Survey, Use

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipckit.testing import Namespace

    Terminal = Callable[[int], None]


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make standard output a terminal of a width, without colours."""
    del capsys

    def terminal(columns: int) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("NO_COLOR", "1")

    return terminal


COLUMNS = [
    Column("NAME"),
    Column("KEY", drop=3),
    Column("SIZE", right=True, drop=2),
    Column("USED", cuts=True),
    Column("WHY", drop=1, cuts=True),
]
ROWS = [
    ["q:1", "0x000004d2", "16K", "3 messages, 72 bytes", "pid 4711 worker (fd 3), and 2 more"],
    ["shm:/frames", "0x000004d3", "1M", "1024K", "no process has it open or mapped"],
]
LONG = "socket:/run/" + "a" * 60


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_a_pipe_gets_every_column_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_table(COLUMNS, [*ROWS, [LONG, "", "", "", ""]]) == []
    lines = printed(capsys)
    assert len(lines) == 4
    assert lines[0].split() == ["NAME", "KEY", "SIZE", "USED", "WHY"]
    assert [line.split("  ")[0] for line in lines] == ["NAME", "q:1", "shm:/frames", LONG]
    assert lines[1].endswith("pid 4711 worker (fd 3), and 2 more")
    assert lines[3].split() == [LONG, "-", "-", "-", "-"]
    print_table(COLUMNS, [])
    assert [line.split() for line in printed(capsys)] == [["NAME", "KEY", "SIZE", "USED", "WHY"]]


def test_columns_are_left_out_by_importance_and_then_text_is_shortened(
    capsys: pytest.CaptureFixture[str], terminal: Terminal
) -> None:
    hidden_before: set[str] = {column.title for column in COLUMNS}
    for room in range(20, 110):
        terminal(room)
        hidden = set(print_table(COLUMNS, ROWS))
        lines = printed(capsys)
        assert [line for line in lines if width_of(line) > room] == [], room
        assert hidden <= hidden_before, room
        hidden_before = hidden
        shown = [column for column in COLUMNS if column.title not in hidden]
        assert lines[0].split() == [column.title for column in shown]
        drops = [column.drop for column in COLUMNS if column.title in hidden and column.drop]
        assert max((column.drop for column in shown), default=0) <= min(drops, default=9), room
        for row in ROWS:  # names and keys are never cut
            assert any(f"{line} ".startswith(f"{row[0]} ") for line in lines)
            assert any(f" {row[1]} " in line for line in lines) is ("KEY" not in hidden)
        note = lines[-1].startswith("not shown at ")
        assert note is bool(hidden)
        if room == 60:
            assert lines[-1] == "not shown at 60 columns: KEY; all columns: a pipe"
    assert hidden_before == set()
    assert "…" not in "".join(lines)


def test_a_name_that_is_too_long_has_a_line_of_its_own(
    capsys: pytest.CaptureFixture[str], terminal: Terminal
) -> None:
    for room in (40, 80, 120):
        terminal(room)
        print_table(COLUMNS, [ROWS[0], [LONG, "", "", "none", "orphaned"], ROWS[1]])
        lines = printed(capsys)
        place = lines.index(LONG)
        assert lines[place + 1].split()[-2:] in (["none", "orphaned"], ["-", "none"], ["none"])
        assert re.match(r"q:1 +", lines[place - 1])
        assert lines[place + 1].startswith(" " * len("shm:/frames"))
    terminal(400)  # with enough room it is a row as others are
    print_table(COLUMNS, [[LONG, "", "", "none", ""]])
    assert re.match(rf"{LONG} +none", printed(capsys)[1])


def test_columns_without_content_take_no_space_on_a_terminal(
    capsys: pytest.CaptureFixture[str], terminal: Terminal
) -> None:
    terminal(200)
    assert print_table(COLUMNS, [["a", "", "", "", ""], ["b", "", "1", "", ""]]) == []
    assert printed(capsys)[0].split() == ["NAME", "SIZE", "USED"]
    print_table(COLUMNS, [])
    assert printed(capsys)[0].split() == ["NAME", "KEY", "SIZE", "USED", "WHY"]
    print_table(COLUMNS, [["a", "", "", "", ""]], wide=True)
    assert printed(capsys)[0].split() == ["NAME", "KEY", "SIZE", "USED", "WHY"]
    terminal(30)
    print_table(COLUMNS, ROWS, wide=False)
    assert printed(capsys)[-1].startswith("not shown at 30 columns: KEY")
    print_table(COLUMNS, ROWS, wide=True)
    assert printed(capsys)[1].endswith("and 2 more")


@pytest.mark.parametrize(
    ("text", "width"),
    [("abc", 3), ("größe", 5), ("東京", 4), ("e\u0301", 1), ("\u1100\u1161", 2)],
)
def test_widths_are_cells_and_not_characters(text: str, width: int) -> None:
    assert width_of(text) == width


def test_wide_characters_are_aligned_and_cut_whole(
    capsys: pytest.CaptureFixture[str], terminal: Terminal
) -> None:
    assert [shortened("東京都", width) for width in (6, 5, 4, 3)] == [
        "東京都",
        "東京…",
        "東…",
        "東…",
    ]
    terminal(40)
    print_table([Column("NAME"), Column("TEXT", cuts=True)], [["東京", "データ" * 9], ["a", "b"]])
    lines = printed(capsys)
    assert {
        width_of(line.partition(mark)[0]) for line, mark in zip(lines, "Tデb", strict=True)
    } == {6}
    assert width_of(lines[1]) in {39, 40}


def test_fit_gives_the_last_text_what_is_left() -> None:
    columns = [Column("A"), Column("B", cuts=True), Column("C", cuts=True)]
    assert fit(columns, [5, 20, 100], 80) == {0: 5, 1: 20, 2: 51}
    assert fit(columns, [5, 20, 10], 80) == {0: 5, 1: 20, 2: 10}
    assert fit(columns, [5, 90, 100], 35) == {0: 5, 1: 14, 2: 12}
    assert fit(columns, [50, 20, 20], 20) == {0: 50}
    for widths in itertools.product((3, 30, 300), repeat=3):
        chosen = fit(columns, widths, 80)
        assert len(chosen) == 1 or sum(chosen.values()) + 2 * (len(chosen) - 1) <= 80


def test_fields_are_wrapped_at_blanks_on_a_terminal(
    capsys: pytest.CaptureFixture[str], terminal: Terminal
) -> None:
    text = " ".join(map(str, range(40)))
    shown = [("values", text), ("none", ""), ("name", "a" * 50 + "\n")]
    print_fields(shown)
    assert printed(capsys) == [f"values:          {text}", f"name:            {'a' * 50}\\n"]
    terminal(40)
    print_fields(shown)
    *lines, name = printed(capsys)
    assert max(map(len, lines)) <= 40
    assert " ".join(line[17:] for line in lines) == text
    assert name.endswith("a\\n")  # a word is not divided


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        (0o600, "owner reads and writes"),
        (0o644, "owner reads and writes; group and others read"),
        (0o664, "owner and group read and write; others read"),
        (0o666, "everyone reads and writes"),
        (0o640, "owner reads and writes; group reads"),
        (0o602, "owner reads and writes; others write"),
        (0o1755, "owner reads and writes; group and others read"),
        (0o444, "everyone reads"),
        (0, "only root reads and writes"),
    ],
)
def test_modes_in_words(mode: int, text: str) -> None:
    assert words.rights(mode) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0.5, "0 s ago"), (59, "59 s ago"), (200, "3 min ago"), (7300, "2 h ago")),
        *((86400, "1 day ago"), (8 * 86400, "8 days ago"), (-60, "in the future")),
    ],
)
def test_times_in_words(seconds: float, text: str) -> None:
    assert words.ago(seconds) == text


def test_a_time_beyond_the_calendar_is_a_number() -> None:
    assert words.clock(2.0**70) == f"{2**70} seconds since 1970"


def test_sizes_are_exact_too() -> None:
    assert [words.exact(size) for size in (0, 1, 56, 1000, 16384)] == [
        *("0 bytes", "1 byte", "56 bytes", "1,000 bytes", "16K (16384 bytes)"),
    ]


NOW = 1_700_000_000.0
WORKER = Process(4711, "/opt/python/bin/python -m worker", "mapped, fd 5", alive=True)
SENDER = Peer(4711, WORKER.command, ("creator", "sender"), "room", 200.0, NOW, 70, 0, blocks=2)
RECEIVER = Peer(
    4712, "/bin/recv", ("receiver",), "message", 900.0, NOW, 0, 6, locks=("receive",), stopped=True
)
CHANNEL = IpcObject(
    *("channel", "trades", None, 17, 0, 0, "root", "root", 0o600, 102400),
    used=Use(messages=64, bytes=16384),
    holders=(
        WORKER,
        *(Process(pid, "/bin/recv", "mapped", alive=True) for pid in range(5000, 5007)),
    ),
    times={"modified": NOW},
    age=200.0,
    state="held",
    reason="/opt/python/bin/python -m worker (pid 4711): mapped, fd 5",
    payload="bytes",
    peers=(SENDER, RECEIVER),
    details={
        "inode": 17,
        "capacity": 64,
        "longest": 2048,
        "item_size": 0,
        "bytes": 78112,
        "dropped": 0,
        "taken": 1,
        "created": 1_700_000_000,
        "overwrite": 0,
        "tail": 70,
        "head": 6,
    },
)
TOPIC = replace(
    CHANNEL,
    kind="topic",
    name="prices",
    used=Use(messages=9, bytes=100),
    peers=(
        replace(SENDER, roles=("publisher",), waits="", waiting=None),
        replace(RECEIVER, roles=("subscriber",), unread=4, lost=1, policy="drop_oldest"),
    ),
    details={
        "inode": 17,
        "capacity": 64,
        "longest": 2048,
        "item_size": 8,
        "bytes": 78112,
        "created": 1_700_000_000,
        "history": 2,
        "published": 70,
        "subscribers": 1,
        "unread": 4,
        "lost": 1,
    },
)
QUEUE = IpcObject(
    *("sysv-queue", "", 0x4D2, 5, 0, 0, "root", "root", 0o600, 16384),
    used=Use(messages=2, bytes=72),
    users=(Process(99, "", "sent", alive=False),),
    times={"changed": NOW, "sent": NOW},
    age=7300.0,
    state="orphaned",
    reason="no process waits on it; pid 99 (sent) has exited",
    details={"cuid": 1000, "cgid": 0, "mode": 384, "qbytes": 16384, "lspid": 99, "seq": 3},
)
SET = replace(
    QUEUE, kind="sysv-semaphores", id=6, size=20, used=Use(values=tuple(range(20))), details={}
)
SOCKET = IpcObject(
    *("socket", "/run/user/1000/a-daemon-with-a-long-name/control.sock", None, 9),
    *(0, 0, "root", "root", 0o755, None),
    used=Use(attached=2),
    holders=(WORKER,),
    state="held",
    reason="held by it",
    details={"type": "stream", "listening": 1, "connections": 2},
)
SEGMENT = replace(
    SOCKET,
    kind="posix-segment",
    name="/東京-データ",
    size=3 << 20,
    used=Use(bytes=4096),
    details={},
)
OBJECTS = (QUEUE, SET, SEGMENT, CHANNEL, TOPIC, SOCKET)

DOCS = Path(__file__).resolve().parent.parent.parent / "docs" / "command-line.md"


@pytest.fixture
def surveyed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the commands find `OBJECTS`."""
    found = Survey(OBJECTS, (), NOW)
    monkeypatch.setattr(inventory, "survey", lambda *_args, **_options: found)


@pytest.mark.usefixtures("surveyed")
def test_ls_fits_80_columns(capsys: pytest.CaptureFixture[str], terminal: Terminal) -> None:
    assert cli.run(["ls"]) == 0
    full = printed(capsys)
    assert len(full) == len(OBJECTS) + 1
    assert " ".join(full[0].split()) == "OBJECT KEY OWNER MODE SIZE USED AGE STATE WHY"
    assert f"{QUEUE.reason}\n" in "\n".join(full)
    terminal(80)
    assert cli.run(["ls"]) == 0
    lines = printed(capsys)
    assert [line for line in lines if width_of(line) > 80] == []
    assert " ".join(lines[0].split()) == "OBJECT OWNER USED AGE STATE WHY"
    shown = "\n".join(lines)
    assert re.search(
        r"^channel:trades +root +64/64 messages, 2 peers +3m +held +pid 4711 bl", shown, re.M
    )
    assert re.search(
        r"^topic:prices +root +4/64 unread, 2 peers +3m +held +pid 4712 i", shown, re.M
    )
    assert re.search(r"^q:5 +root +2 messages, 72 bytes +2h +orphaned +no process", shown, re.M)
    for item in OBJECTS:
        assert any(f"{line} ".startswith(f"{item.address} ") for line in lines), item.address
    terminal(200)
    assert cli.run(["ls"]) == 0
    lines = printed(capsys)
    assert len(lines) == len(full)
    assert lines[0].split() == full[0].split()
    assert "pid 4711 blocked 3m, waits for room: python -m worker" in "\n".join(lines)
    terminal(40)
    assert cli.run(["ls", "--wide"]) == 0
    assert len(printed(capsys)) == len(full)


def shown_on_the_page(command: str) -> list[str]:
    """The output of a command in docs/command-line.md."""
    text = DOCS.read_text().partition(f"    $ {command}\n")[2]
    lines = itertools.takewhile(re.compile("    |$").match, text.split("\n"))
    return "\n".join(line[4:] for line in lines).rstrip("\n").split("\n")


def test_the_page_shows_what_stat_prints(
    capsys: pytest.CaptureFixture[str], terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = replace(CHANNEL, name="orders", owner="amy")
    monkeypatch.setattr(inventory, "survey", lambda *_args, **_options: Survey((channel,), (), NOW))
    monkeypatch.setattr(time, "time", lambda: NOW + 200)
    monkeypatch.setattr(time, "localtime", time.gmtime)
    terminal(80)
    cli.run(["stat", "channel:orders"])
    assert printed(capsys) == shown_on_the_page("ipckit stat channel:orders")


def test_an_empty_list_says_so_on_a_terminal(
    capsys: pytest.CaptureFixture[str], terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "survey", lambda *_args, **_options: Survey((), (), NOW))
    cli.run(["ls"])
    assert printed(capsys)[0].split()[0] == "OBJECT"
    terminal(80)
    cli.run(["ls"])
    cli.run(["ls", "--orphans"])
    assert printed(capsys) == ["no objects", "no objects match"]


def test_stat_shows_the_state_and_the_peers_of_a_channel() -> None:
    shown = dict(facts.fields(CHANNEL))
    assert shown["mode"] == "0600 (owner reads and writes)"
    assert shown["size"] == "100K (102400 bytes)"
    assert shown["waiting"] == "64 of 64 messages (full)"
    assert shown["memory"] == "16K (16384 bytes) used of 76.3K (78112 bytes)"
    assert shown["taken"] == "1 message, not acknowledged yet"
    assert re.fullmatch(r"2023-11-1\d .* \([\d,]+ days ago\)", shown["last modified"])
    columns, rows = facts.peers(CHANNEL)
    sender, receiver = (
        dict(zip((column.title for column in columns), row, strict=True)) for row in rows
    )
    assert (sender["PEER"], sender["ROLE"], sender["SENT"]) == ("4711", "creator, sender", "70")
    assert (sender["WAITS FOR"], sender["HOLDS"]) == ("room, 3m", "2 blocks")
    assert receiver["WAITS FOR"] == "stopped, a message, 15m"
    assert receiver["HOLDS"] == "receive lock"


def test_stat_shows_the_subscribers_of_a_topic() -> None:
    shown = dict(facts.fields(TOPIC))
    assert shown["unread"] == "4 of 64 messages, by the slowest subscriber"
    assert shown["each message"] == "8 bytes"
    columns, (_, subscriber) = facts.peers(TOPIC)
    cells = dict(zip((column.title for column in columns), subscriber, strict=True))
    assert (cells["UNREAD"], cells["LOST"], cells["IF SLOW"]) == ("4", "1", "loses the oldest")


def test_stat_names_the_kernels_fields_plainly() -> None:
    shown = dict(facts.fields(QUEUE))
    assert shown["size"] == "16K (16384 bytes) of messages at most"
    assert shown["key"] == "0x000004d2 (1234)"
    assert shown["created by"] == "uid 1000, gid 0"
    assert "384" not in " ".join(text for name, text in shown.items() if name != "size")
    assert {"mode", "qbytes", "lspid"} & shown.keys() == {"mode"}
    assert dict(facts.fields(SET))["values"].startswith("0 1 2 3 4 5 6 7 8 9")
    assert dict(facts.fields(SOCKET))["type"] == "stream, listens for connections"
    assert facts.processes(QUEUE)[1] == [["99", "last sent, exited", ""]]


def test_stat_groups_processes_that_do_the_same_on_a_terminal() -> None:
    assert len(facts.processes(CHANNEL)[1]) == 8
    assert facts.processes(CHANNEL, grouped=True)[1] == [
        ["4711", "mapped, fd 5", WORKER.command],
        ["5000 and 6 more", "mapped", "/bin/recv"],
    ]


SHM = "/dev/shm"  # noqa: S108 - where it is
LIMITS = [
    Limit(
        "kernel.msgmax", 8192, None, "bytes", "one System V message", "sysctl -w kernel.msgmax=1"
    ),
    Limit("kernel.msgmni", 32000, 20000, "queues", "System V queues", "sysctl -w kernel.msgmni=2"),
    Limit(
        f"{SHM} size",
        64 << 20,
        60 << 20,
        "bytes",
        "POSIX segments",
        f"mount -o remount,size=134217728 {SHM}",
    ),
    Limit("kernel.shmall", None, 3, "pages", "all System V segments", ""),
]


def test_limits_begin_with_what_is_nearly_used_up(
    capsys: pytest.CaptureFixture[str], terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "table", lambda _pid: list(LIMITS))
    assert cli.run(["limits"]) == 0
    full = printed(capsys)
    assert [re.split("  +", line)[0] for line in full[1:]] == [
        *(f"{SHM} size", "kernel.msgmni", "kernel.msgmax", "kernel.shmall"),
    ]
    assert re.fullmatch(rf"{SHM} size +64M +bytes +60M +94% +POSIX segments +mount .*", full[1])
    assert "32,000  queues" in full[2]
    terminal(80)
    assert cli.run(["limits"]) == 0
    lines = printed(capsys)
    assert max(map(len, lines)) <= 80
    assert lines[-4:] == [
        f"to raise {SHM} size, of which 94% is used:",
        f"  mount -o remount,size=134217728 {SHM}",
        "to raise kernel.msgmni, of which 62% is used:",
        "  sysctl -w kernel.msgmni=2",
    ]
    assert cli.run(["limits", "--wide"]) == 0
    assert printed(capsys) == full
    monkeypatch.setenv("LINES", "7")
    assert cli.run(["limits"]) == 0
    lines = printed(capsys)
    assert "kernel.msgmax" not in "\n".join(lines)
    assert "and 1 limit whose use is not counted: --wide or a pipe" in lines


def test_no_line_of_a_real_terminal_is_wrapped(ns: Namespace) -> None:
    with SysVMessageQueue.create(ns.key()) as queue, Channel.create(ns.name()) as channel:
        queue.send(b"order 17")
        for columns, command in ((80, "ls"), (200, "ls"), (80, "stat")):
            address = f"channel:{str(channel.name).lstrip('/')}"
            rest = [address] if command == "stat" else []
            seen = on_terminal({}, command, *rest, columns=columns, status=0).decode()
            plain = re.sub("\x1b\\[[0-9;]*m", "", seen).split("\r\n")
            long = [line for line in plain if width_of(line) > columns]
            assert [line for line in long if not line.startswith("ipckit: could not see")] == []
            assert address in seen
            if command == "ls":
                assert "\x1b[1;36m" in seen
                assert f"{queue.key:#010x}" in seen or columns == 80
