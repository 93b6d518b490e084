"""Names that other users choose for objects and processes cannot harm the commands' output."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ipckit._cli import limits_table, output
from ipckit._cli.doctor import host
from ipckit.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.testing import Namespace

SHM = Path("/dev/shm")  # noqa: S108 - where Linux keeps POSIX shared memory
EVIL = ("\x1b]0;owned\x07\x1b[2J\r", "\nremoved q:0", "\udcff\udcfe", "\u202e\x9b31m", "[red]x[/]")


@pytest.fixture
def evil(ns: Namespace) -> Iterator[list[str]]:
    """The addresses of segments with such names."""
    names = [f"{ns.name()}{each}".replace("[/]", "[]") for each in EVIL]
    for name in names:
        (SHM / name[1:]).touch()
    yield [f"shm:{name}" for name in names]
    for name in names:
        (SHM / name[1:]).unlink(missing_ok=True)


def is_fit(text: str) -> bool:
    return text.replace("\n", "").isprintable() and "\nremoved q:0" not in text


def test_no_name_acts_on_a_terminal_in_any_command(
    evil: list[str], commands: Callable[..., list[tuple[int, str, str]]]
) -> None:
    words = [os.fsencode(each).decode(errors="surrogateescape") for each in evil]
    results = commands(
        ["ls", "--kind", "shm"],
        ["ls", "--kind", "shm", "--wide"],
        ["ls", "--kind", "shm", "--json"],
        ["gc", "--kind", "shm"],
        ["doctor"],
        ["doctor", "--json"],
        *(["stat", each] for each in words),
        *(["stat", "--json", each] for each in words),
        *(["dump", each] for each in words),
        *(["rm", each] for each in words),  # there is no terminal to ask on
        *(["rm", f"{each}x"] for each in words),
        *(["rm", "--yes", one_line(each)] for each in words),
    )
    for status, out, err in results:
        assert status in {0, 1, 3, 4}, err
        assert is_fit(out), out
        assert is_fit(err), err
    # What ls shows of a name, rm takes.
    assert [out for _, out, _ in results[-len(words) :]] == [
        f"removed {one_line(each)} (0, owner root)\n" for each in words
    ]
    named = {each["address"] for each in json.loads(results[2][1])["objects"]}
    assert set(words) <= named


def test_a_question_is_one_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(output.click, "confirm", lambda text, **_: asked.append(text))
    with pytest.raises(output.Refused):
        output.confirm("Remove shm:/a\x1b[2J\nb?", yes=False)
    assert asked == ["Remove shm:/a\\x1b[2J\\nb?"]


@pytest.fixture
def renamed() -> Iterator[Callable[[bytes], None]]:
    """Give this process another name."""
    comm = Path("/proc/self/comm")
    before = comm.read_bytes()
    yield lambda name: comm.write_bytes(name) and None
    comm.write_bytes(before.rstrip(b"\n"))


def test_a_process_s_own_name_need_not_be_utf8(
    renamed: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed(b"\xff\x1b]0;a\x07) R 1")
    monkeypatch.setattr(host, "open_files", lambda _pid: 10**9)
    [found] = host.descriptors([os.getpid()])
    assert found.what.startswith("\udcff\x1b]0;a\x07) R 1 has ")
    used = {each.name: each.used for each in limits_table.table(os.getpid())}
    assert used["RLIMIT_MEMLOCK"] is not None


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict", "latin-1:strict"])
def test_what_the_terminal_s_encoding_lacks_is_escaped(
    encoding: str, evil: list[str], ns: Namespace
) -> None:
    path = SHM / f"{ns.name()[1:]}größe\N{KEY}"
    path.touch()
    command = [sys.executable, "-m", "ipckit", "ls", "--kind", "shm"]
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    try:
        for words in ([], ["--json"]):
            done = subprocess.run([*command, *words], capture_output=True, check=True, env=env)
            assert b"Traceback" not in done.stderr
        # JSON is UTF-8, whatever the terminal is.
        found = {each["address"] for each in json.loads(done.stdout.decode())["objects"]}
        assert {*evil, f"shm:/{path.name}"} <= found
    finally:
        path.unlink()


def test_a_closed_standard_output_is_no_traceback() -> None:
    script = 'exec "$0" -W error -m ipckit "$@" <&- >&-'
    done = subprocess.run(
        ["sh", "-c", script, sys.executable, "ls"], stderr=subprocess.PIPE, text=True, check=False
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
