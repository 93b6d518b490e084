"""How the command line names objects and shows values."""

from __future__ import annotations

import pytest

from ipckit._cli import words
from ipckit._cli.address import choose
from ipckit._cli.commands.gc import _Age
from ipckit.errors import InvalidArgument, NotFound, one_line
from ipckit.inventory import KINDS, IpcObject, Kind


def item(kind: Kind, ident: int = 1, *, name: str = "", key: int | None = None) -> IpcObject:
    return IpcObject(kind, name, key, ident, 0, 0, "root", "root", 0o600, 1)


OBJECTS = [
    item("sysv-queue", 5, key=0x4D2),
    item("sysv-segment", 5, key=0x4D2),
    item("sysv-semaphores", 7, key=0x4D3),
    item("sysv-queue", 9, key=0),
    item("posix-queue", 20, name="/a"),
    item("posix-segment", 21, name="/a"),
    item("posix-semaphore", 22, name="/b"),
    item("channel", 23, name="feed"),
    item("topic", 27, name="feed"),
    item("memfd", 24, name="label"),
    item("socket", 25, name="/run/x.sock"),
    item("socket", 26, name="@hidden"),
]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("q:5", "q:5"),
        ("msg:5", "q:5"),
        ("queue:5", "q:5"),
        ("m:5", "m:5"),
        ("shm:5", "m:5"),
        ("s:7", "s:7"),
        ("sem:7", "s:7"),
        ("7", "s:7"),
        ("id:7", "s:7"),
        ("9", "q:9"),
        ("q:0x4d2", "q:5"),
        ("q:0x000004D2", "q:5"),
        ("0x4d3", "s:7"),
        ("key:0x4d3", "s:7"),
        ("mq:/a", "mq:/a"),
        ("mq:a", "mq:/a"),
        ("shm:/a", "shm:/a"),
        ("/b", "sem:/b"),
        ("sem:/b", "sem:/b"),
        ("channel:feed", "channel:feed"),
        ("topic:feed", "topic:feed"),
        ("memfd:24", "memfd:24"),
        ("/run/x.sock", "socket:/run/x.sock"),
        ("socket:/run/x.sock", "socket:/run/x.sock"),
        ("unix:@hidden", "socket:@hidden"),
        ("@hidden", "socket:@hidden"),
        ("socket:26", "socket:@hidden"),
    ],
)
def test_an_address_names_one_object(text: str, address: str) -> None:
    found = choose(text, OBJECTS, KINDS)
    assert found.address == address
    # And what is shown names it again.
    assert choose(found.address, OBJECTS, KINDS) is found


@pytest.mark.parametrize(
    ("text", "choices"),
    [("5", "q:5, m:5"), ("0x4d2", "q:5, m:5"), ("key:0x4d2", "q:5, m:5"), ("/a", "mq:/a, shm:/a")],
)
def test_an_ambiguous_address_names_all_matches(text: str, choices: str) -> None:
    with pytest.raises(InvalidArgument, match=choices):
        choose(text, OBJECTS, KINDS)


def test_the_kinds_of_a_command_resolve_an_ambiguous_address() -> None:
    assert choose("5", OBJECTS, ["sysv-queue", "posix-queue"]).address == "q:5"
    with pytest.raises(InvalidArgument, match="accepts only these kinds"):
        choose("sem:/b", OBJECTS, ["sysv-queue"])


@pytest.mark.parametrize("text", ["q:6", "0x0", "key:0x0", "mq:/b", "24", "feed", "", "q:", "q:-1"])
def test_an_address_without_an_object_is_not_found(text: str) -> None:
    with pytest.raises(NotFound, match="ipckit ls"):
        choose(text, OBJECTS, KINDS)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        *((0, "0"), (8192, "8K"), (16384, "16K"), (1536, "1536"), (12 * 1024 + 512, "12.5K")),
        *((64 << 20, "64M"), (3 << 40, "3T"), (1 << 60, "1048576T"), (None, "")),
    ],
)
def test_sizes_for_people(size: int | None, text: str) -> None:
    assert words.human(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0s"), (59.9, "60s"), (60, "1m"), (7200, "2h"), (200000, "2d"), (None, "")],
)
def test_times_for_people(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("1h", 3600), ("2d", 172800)]
)
def test_ages_on_the_command_line(text: str, seconds: float) -> None:
    assert _Age().convert(text, None, None) == seconds


@pytest.mark.parametrize("name", ["/a\x1b[31m\nb", "/\udcff", "/a\u202eb", "/\x9b"])
def test_the_shown_form_of_a_name_is_accepted_as_an_address(name: str) -> None:
    objects = [item("posix-segment", 1, name=name), item("posix-segment", 2, name="/a")]
    assert choose(f"shm:{name}", objects, KINDS) is objects[0]
    assert choose(one_line(f"shm:{name}"), objects, KINDS) is objects[0]
    assert choose(one_line(name), objects, KINDS) is objects[0]


def test_a_name_that_looks_like_another_s_escape_is_not_taken_for_it() -> None:
    objects = [item("posix-segment", 1, name="/a\nb"), item("posix-segment", 2, name="/a\\nb")]
    with pytest.raises(InvalidArgument, match="more than one"):
        choose("shm:/a\\nb", objects, KINDS)
    assert choose("shm:/a\nb", objects, KINDS) is objects[0]
