"""Names that other users choose for objects and processes cannot harm the commands' output."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ipckit import inventory
from ipckit._cli import limits_table, output, words
from ipckit._cli.address import choose
from ipckit._cli.doctor import host
from ipckit._cli.memory import open_object, open_path
from ipckit._core.files import open_regular
from ipckit._inventory import files, sockets
from ipckit._inventory.processes import Found, in_words
from ipckit.errors import InUse, InvalidArgument, NotFound, one_line
from ipckit.inventory import KINDS, IpcObject, Process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ipckit.inventory import Kind
    from ipckit.testing import Child, Namespace

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
    names = [os.fsencode(each).decode(errors="surrogateescape") for each in evil]
    results = commands(
        ["ls", "--kind", "shm"],
        ["ls", "--kind", "shm", "--wide"],
        ["ls", "--kind", "shm", "--json"],
        ["gc", "--kind", "shm"],
        ["doctor"],
        ["doctor", "--json"],
        *(["stat", each] for each in names),
        *(["stat", "--json", each] for each in names),
        *(["dump", each] for each in names),
        *(["rm", each] for each in names),  # there is no terminal to ask on
        *(["rm", f"{each}x"] for each in names),
        *(["rm", "--yes", one_line(each)] for each in names),
    )
    for status, out, err in results:
        assert status in {0, 1, 3, 4}, err
        assert is_fit(out), out
        assert is_fit(err), err
    # What ls shows of a name, rm takes.
    assert [out for _, out, _ in results[-len(names) :]] == [
        f"removed {one_line(each)} (0, owner root)\n" for each in names
    ]
    named = {each["address"] for each in json.loads(results[2][1])["objects"]}
    assert set(names) <= named


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


@pytest.mark.parametrize(
    ("redirections", "words", "status", "told"),
    [
        ("<&- >&-", ["ls", "--kind", "q"], 0, None),
        ("<&- >&-", ["stat", "q:0x7fffffff"], 1, "no such object"),
        ("<&- >&- 2>&-", ["stat", "q:0x7fffffff"], 1, ""),
        (">/dev/full", ["limits"], 1, "No space left on device"),
    ],
)
def test_a_closed_or_full_output_is_no_traceback(
    redirections: str, words: list[str], status: int, told: str | None
) -> None:
    script = f'exec "$0" -W error -m ipckit "$@" {redirections}'
    done = subprocess.run(
        ["sh", "-c", script, sys.executable, *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (status, "")
    if told is None:
        assert all(line.startswith("ipckit: could not see") for line in done.stderr.splitlines())
    else:
        assert told in done.stderr
        assert done.stderr.count("\n") == (told != "")


# -- addresses -------------------------------------------------------------------------------------

NAMES = [
    *("a b", "a", " a", "a ", "a  root  0600", "5", "0x4d2", "q:5", "-rf", "~", "", "\udcff", "é"),
    *(
        "e\nf",
        "e\\nf",
        "e\\\nf",
        "e\\\\nf",
        "e\\x5cnf",
        "\\",
        "\\x20",
        "\\U0010ffff",
        "\\U00110000",
    ),
    *("\x1b[2J", "\u200b", "\U000e0100", "\N{KEY}"),
]


@pytest.mark.parametrize("name", NAMES)
def test_the_shown_form_of_a_name_is_one_word_that_no_other_name_has(name: str) -> None:
    shown = words.name(name)
    assert words.unescaped(shown) == name
    assert is_fit(shown)
    assert " " not in shown
    assert words.unescaped(shown.encode("ascii", "backslashreplace").decode()) == name


def made(kind: Kind, name: str, ident: int = 0, **details: int | str) -> IpcObject:
    return IpcObject(kind, name, None, ident, 0, 0, "", "", 0o600, 0, details=details)


def test_rm_takes_what_ls_shows_of_every_name() -> None:
    items = [made("posix-segment", f"/{each}", 10 + at) for at, each in enumerate(NAMES) if each]
    items += [made("channel", each, 100 + at) for at, each in enumerate(NAMES)]
    items += [made("socket", f"@{each}\0", 200 + at) for at, each in enumerate(NAMES)]
    for item in items:
        assert choose(f"inode:{item.id}", items, KINDS) is item
        for text in (words.address(item), item.address):
            assert "\0" not in text
            try:
                assert choose(text, items, KINDS) is item
            except InvalidArgument as exc:
                # It is also what another name looks like. The message has two other addresses.
                offered = str(exc).partition("matches: ")[2].partition(";")[0].split(", ")
                assert item in [choose(each, items, KINDS) for each in offered]
                assert len(offered) == 2


def test_an_address_means_the_object_that_has_the_name_now() -> None:
    items = [
        made("posix-segment", "/a", 1, unlinked=1),
        made("posix-segment", "/a", 2),
        made("socket", "/run/a", 3, file="elsewhere"),
        made("socket", "/run/a", 4),
        made("socket", "/run/a", 5, file="missing"),
    ]
    assert choose("shm:/a", items, KINDS).id == 2
    assert choose("socket:/run/a", items, KINDS).id == 4
    assert choose("socket:3", items, KINDS).id == 3
    assert [each.removable for each in items] == [False, True, False, True, False]
    with pytest.raises(InvalidArgument, match="socket:3, socket:4"):
        choose("socket:/run/a", [items[2], replace(items[3], details={"file": "missing"})], KINDS)
    for text in ("1" * 5000, f"shm:{'1' * 5000}", f"socket:{'1' * 5000}", f"q:{'1' * 5000}"):
        with pytest.raises(NotFound):
            choose(text, items, KINDS)


def test_a_name_does_not_look_like_several_columns(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table([output.Column("A"), output.Column("B")], [["x", "held   root  0600"]])
    assert capsys.readouterr().out.splitlines()[1] == r"x  held \x20 root \x200600"


# -- files that change, and processes that hold much -----------------------------------------------


@pytest.mark.parametrize("prefix", ["", "sem.", "ipckit.", "ipckit-topic."])
def test_a_file_that_is_replaced_after_it_was_listed_is_left_out(
    ns: Namespace, prefix: str
) -> None:
    path = SHM / f"{prefix}{ns.name()[1:]}"
    kept = path.with_name(f"{path.name}.kept")
    path.write_bytes(bytes(64))
    try:
        with files.memory_directory() as directory:
            [entry] = [
                each for each in files.entries(directory, queues=False) if each.file == path.name
            ]
            path.rename(kept)
            os.mkfifo(path)
            with pytest.raises(FileNotFoundError):
                files.object_of(entry, None, 0.0)
            path.unlink()
            path.mkdir()
            with pytest.raises(FileNotFoundError):
                files.object_of(entry, None, 0.0)
            path.rmdir()
            path.symlink_to(kept)
            found = files.object_of(entry, None, 0.0)  # as a file that may not be opened
            assert found.used.messages is None
    finally:
        path.unlink(missing_ok=True)
        kept.unlink()


def test_what_is_no_file_is_not_opened_to_look_at_it(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert open_regular(os.fspath(fifo)) is None
    held = os.open(fifo, os.O_PATH)  # another user's process can have /dev/watchdog like this
    try:
        assert open_regular(f"/proc/self/fd/{held}") is None
        with pytest.raises(InvalidArgument, match="regular file"):
            open_path(f"/proc/self/fd/{held}")
    finally:
        os.close(held)


def test_dump_shows_no_other_file_than_the_one_that_was_listed() -> None:
    listed, other = os.memfd_create("listed"), os.memfd_create("other")
    try:
        item = made("memfd", "listed", os.fstat(listed).st_ino)
        status = os.fstat(listed)
        holder = Process(os.getpid(), "", f"fd {listed}", alive=True)
        item = replace(item, holders=(holder,), identity=(status.st_dev, status.st_ino))
        with open_object(item) as source:
            assert source.size == 0
        os.dup2(other, listed)  # as the process that holds it can do
        with pytest.raises(NotFound, match="replaced"):
            open_object(item)
    finally:
        os.close(listed)
        os.close(other)


def test_a_process_with_many_descriptors_of_a_file_has_a_short_text() -> None:
    found = Found("/dev/shm/a", deleted=False)  # noqa: S108 - only a name
    for how in ["mapped", "mapped", *(f"fd {fd}" for fd in range(1000))]:
        found.add(1, how)
    assert len(found.holders[1]) == 1001
    assert in_words(found.holders[1]) == (
        "mapped, fd 0, fd 1, fd 2, fd 3, fd 4, fd 5, fd 6, and 993 more"
    )
    assert in_words(["fd 3"]) == "fd 3"


# -- paths that lead elsewhere ---------------------------------------------------------------------

CHROOT = """
import os, socket
from ipckit.testing import step
root, path = args
os.chroot(root)
with socket.socket(socket.AF_UNIX) as bound:
    bound.bind(path)
    bound.listen()
    step.tell("bound")
    step.hear()
"""


@pytest.fixture
def forger(ns: Namespace, spawn: Callable[..., Child]) -> Callable[[Path], Child]:
    """Start a process that is bound to a path in another root directory.

    Any user can do so, in a user namespace.
    """

    def start(path: Path) -> Child:
        root = ns.directory / "root"
        (root / path.parent.relative_to("/")).mkdir(parents=True)
        child = spawn(CHROOT, os.fspath(root), os.fspath(path))
        assert child.hear() == "bound"
        return child

    return start


def at(path: Path) -> list[IpcObject]:
    return [each for each in inventory.survey(["socket"]).objects if each.name == os.fspath(path)]


@pytest.mark.usefixtures("root")
def test_a_socket_of_another_root_directory_does_not_lead_to_the_file_here(
    ns: Namespace, forger: Callable[[Path], Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ns.directory / "a" / "b" / "s"  # so deep that gc of another worker does not find it
    path.parent.mkdir(parents=True)
    monkeypatch.setattr(sockets, "_DIRECTORIES", (os.fspath(path.parent),))
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.fspath(path))
        bound.listen()
        forged = forger(path)
        items = {each.details.get("file"): each for each in at(path)}
        ours, theirs = items[None], items["elsewhere"]
        assert ours.uid == 0
        assert (theirs.uid, theirs.mode, theirs.removable) == (None, None, False)
        assert forged.pid in [each.pid for each in theirs.holders]
        assert choose(f"socket:{path}", [theirs, ours], KINDS) is ours
        with pytest.raises(InvalidArgument):
            inventory.remove(theirs, force=True)
    # The file of a socket that exists no more is not held by a process that is bound elsewhere.
    items = {each.details.get("file"): each for each in at(path)}
    assert items["only"].orphaned, items["only"].reason
    inventory.remove(items["only"])
    assert not path.exists()
    assert {each.details.get("file") for each in at(path)} == {"missing"}
    forged.tell("end")


@pytest.mark.parametrize("listens", [True, False])
def test_a_socket_whose_file_was_renamed_or_replaced_is_found_by_its_file(
    ns: Namespace, *, listens: bool
) -> None:
    path = ns.path()
    renamed = path.with_name(f"{path.name}.renamed")
    with socket.socket(socket.AF_UNIX) as bound, socket.socket(socket.AF_UNIX) as other:
        bound.bind(os.fspath(path))
        if listens:
            bound.listen()
        [item] = at(path)
        path.rename(renamed)
        with pytest.raises(InUse):
            inventory.remove(replace(item, name=os.fspath(renamed)))
        assert at(renamed) == []  # no connection is needed to see that it is in use
        other.bind(os.fspath(path))
        files = [each.details.get("file") for each in at(path)]
        assert sorted(map(str, files)) == ["None", "elsewhere"]
        if listens:
            bound.settimeout(0)
            with pytest.raises(BlockingIOError):
                bound.accept()
        renamed.unlink()
        path.unlink()
