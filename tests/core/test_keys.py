"""ipckit.keys: keys of System V objects, and names of POSIX objects."""

from __future__ import annotations

import copy
import errno
import math
import os
import pickle
from typing import TYPE_CHECKING, Any

import posix_ipc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipckit import InvalidArgument, IpcError, Key, Name, NotFound, SysVMessageQueue, ftok

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ipckit.testing import Child, Namespace

# -- Key -------------------------------------------------------------------------------------------


@given(st.integers(-(2**31), 2**32 - 1).filter(bool))
def test_a_key_is_signed_whichever_way_it_was_written(number: int) -> None:
    key = Key(number)
    assert -(2**31) <= key < 2**31
    assert key % 2**32 == number % 2**32
    assert key == Key(number % 2**32) == Key(int(key))
    assert hash(key) == hash(Key(number % 2**32))


@pytest.mark.parametrize(
    ("written", "signed"),
    [
        (1, 1),
        (2**31 - 1, 2**31 - 1),
        (2**31, -(2**31)),
        (2**32 - 1, -1),
        (-1, -1),
        (-(2**31), -(2**31)),
        (0xDEADBEEF, -559038737),
    ],
)
def test_keys_at_the_ends_of_the_range(written: int, signed: int) -> None:
    assert Key(written) == signed
    assert isinstance(Key(written), int)


@pytest.mark.parametrize("number", [-(2**31) - 1, 2**32, 10**30, -(10**30)])
def test_numbers_that_are_no_key(number: int) -> None:
    with pytest.raises(InvalidArgument, match="out of range") as caught:
        Key(number)
    assert str(2**32 - 1) in str(caught.value)
    assert str(number) in str(caught.value)


def test_zero_is_no_key() -> None:
    with pytest.raises(InvalidArgument, match="IPC_PRIVATE"):
        Key(0)
    with pytest.raises(InvalidArgument, match="IPC_PRIVATE"):
        Key.parse("0x0")


@pytest.mark.parametrize("value", ["1", 1.0, None, True, False, b"1", [1], 1j, math.inf])
def test_what_is_no_number_is_no_key(value: Any) -> None:
    with pytest.raises(TypeError, match="a key must be an int"):
        Key(value)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1234", 1234),
        ("0x4d2", 1234),
        ("0X4D2", 1234),
        ("0xdeadbeef", -559038737),
        ("-559038737", -559038737),
        ("3735928559", -559038737),
        (" 7\n", 7),
    ],
)
def test_keys_as_people_write_them(text: str, number: int) -> None:
    assert Key.parse(text) == number
    assert type(Key.parse(text)) is Key


@pytest.mark.parametrize("text", ["", " ", "x", "1.5", "0x", "4d2", "1 2", "0xg", "--1", "012"])
def test_text_that_is_no_key(text: str) -> None:
    with pytest.raises(InvalidArgument, match="write it as 1234 or 0x4d2"):
        Key.parse(text)


@pytest.mark.parametrize("text", ["4294967296", "0x100000000", "9" * 4000])
def test_text_of_a_number_that_is_no_key(text: str) -> None:
    with pytest.raises(InvalidArgument):
        Key.parse(text)


def test_hex_is_what_ipcs_shows() -> None:
    key = Key(0xDEADBEEF)
    assert repr(key) == "Key(0xdeadbeef)"
    assert f"{key:#010x} {key:x} {key:X} {key:08x}" == "0xdeadbeef deadbeef DEADBEEF deadbeef"
    assert repr(Key(5)) == "Key(0x00000005)"


def test_decimal_is_what_the_kernel_takes() -> None:
    key = Key(0xDEADBEEF)
    assert (str(key), f"{key}", f"{key:d}", f"{key:,}") == (
        "-559038737",
        "-559038737",
        "-559038737",
        "-559,038,737",
    )


@given(st.integers(-(2**31), 2**31 - 1).filter(bool))
def test_what_a_key_shows_is_the_key_again(number: int) -> None:
    key = Key(number)
    assert eval(repr(key)) == key  # noqa: S307 - what repr is for
    assert Key.parse(str(key)) == key
    assert Key.parse(f"{key:#x}") == key


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("value", [Key(0xDEADBEEF), Key(1), Name("frames")])
def test_keys_and_names_pickle_and_copy(value: object, protocol: int) -> None:
    for again in (
        pickle.loads(pickle.dumps(value, protocol)),  # noqa: S301
        copy.copy(value),
        copy.deepcopy(value),
    ):
        assert again == value
        assert type(again) is type(value)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("frames", 0x4C0E9D13),
        ("a", 0x4A234C57),
        ("grüße", 0x0AEE1357),
        ("/tmp/x", 0x4FFDA7D6),  # noqa: S108 - a name like any other
        ("file\udcff", 0x0B95F09D),
    ],
)
def test_the_key_of_a_name_never_changes(name: str, number: int) -> None:
    assert Key.from_name(name) == number


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_makes_a_positive_key(name: str) -> None:
    assert 1 <= Key.from_name(name) <= 2**31 - 1
    assert Key.from_name(name) == Key.from_name(name)


def test_names_make_different_keys() -> None:
    assert len({Key.from_name(f"name {number}") for number in range(1000)}) == 1000


@pytest.mark.parametrize("name", ["", "\ud800"])
def test_names_that_make_no_key(name: str) -> None:
    with pytest.raises(InvalidArgument):
        Key.from_name(name)


@pytest.mark.parametrize("name", [5, b"frames", None, ["a"]])
def test_what_is_no_text_makes_no_key(name: Any) -> None:
    with pytest.raises(TypeError, match="a name must be a str"):
        Key.from_name(name)


def test_random_keys_differ_and_are_positive() -> None:
    keys = {Key.random() for _ in range(200)}
    assert len(keys) > 190
    assert all(type(key) is Key and 1 <= key < 2**31 for key in keys)


@pytest.mark.parametrize("number", [0xDEADBEEF, -559038737])
def test_the_kernel_knows_a_key_by_both_its_numbers(number: int) -> None:
    with SysVMessageQueue.create(number) as queue:
        assert queue.stat().key == -559038737
        for other in (0xDEADBEEF, -559038737):
            with SysVMessageQueue.open(other) as found:
                assert found.id == queue.id


# -- Name ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", ["frames", "/frames"])
def test_the_slash_may_be_left_out(written: str) -> None:
    name = Name(written)
    assert name == "/frames"
    assert type(name) is Name
    assert isinstance(name, str)
    assert Name(name) == name
    assert repr(name) == "'/frames'"


GOOD = ["a", "...", ".x", " ", "a b", "x" * 255, "ü" * 127, "\n", "\x7f", "*", "x (deleted)", "-"]
BAD = {
    "empty": "",
    "only a slash": "/",
    "two slashes first": "//a",
    "a slash inside": "a/b",
    "a slash at the end": "a/",
    "a NUL": "a\0b",
    "itself": ".",
    "itself with slash": "/.",
    "its parent": "..",
    "256 bytes": "x" * 256,
    "256 bytes in 128 letters": "ü" * 128,
    "10,000 bytes": "x" * 10_000,
    "no text": "\ud800",
    "no UTF-8": "a\udcff",
}


@pytest.mark.parametrize("name", GOOD, ids=[repr(name[:8]) for name in GOOD])
def test_the_kernel_takes_what_name_takes(name: str, ns: Namespace) -> None:
    made = posix_ipc.MessageQueue(str(Name(name)), posix_ipc.O_CREX)
    made.close()
    posix_ipc.unlink_message_queue(str(Name(name)))
    assert ns.leftovers() == []


@pytest.mark.parametrize("kind", BAD)
def test_names_that_can_be_none(kind: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Name(BAD[kind])
    assert caught.value.errno == (errno.ENAMETOOLONG if "bytes" in kind else errno.EINVAL)
    assert "/frames" in caught.value.hint
    assert len(str(caught.value)) < 1000


# posix_ipc makes a queue of "a\udcff" and cannot unlink it; of these others it dies.
UNASKED = {"a NUL", "no text", "no UTF-8"}


@pytest.mark.parametrize("kind", sorted(BAD.keys() - UNASKED))
def test_the_kernel_takes_none_of_them_either(kind: str) -> None:
    written = BAD[kind]
    name = written if written.startswith("/") else f"/{written}"
    with pytest.raises((posix_ipc.Error, OSError, ValueError)):
        posix_ipc.MessageQueue(name, posix_ipc.O_CREX)


@pytest.mark.parametrize("value", [b"frames", 5, None, ["frames"], True])
def test_what_is_no_text_is_no_name(value: Any) -> None:
    with pytest.raises(TypeError, match="a name must be a str"):
        Name(value)


def test_a_string_of_another_class_is_a_name() -> None:
    class Text(str):
        __slots__ = ()

    assert type(Name(Text("frames"))) is Name


def test_random_names_differ() -> None:
    names = {Name.random() for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith("/ipckit-") for name in names)
    assert Name.random("mine").startswith("/mine-")
    with pytest.raises(InvalidArgument):
        Name.random("a/b")


# -- ftok ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proj", [1, 65, 127, 128, 200, 255])
def test_ftok_is_made_of_project_device_and_inode(tmp_path: Path, proj: int) -> None:
    file = os.stat(tmp_path)  # noqa: PTH116
    key = ftok(tmp_path, proj)
    assert type(key) is Key
    assert key & 0xFFFFFFFF == (proj << 24) | ((file.st_dev & 0xFF) << 16) | (file.st_ino & 0xFFFF)
    assert (key < 0) is (proj > 127)


def test_ftok_takes_every_kind_of_path_and_a_character(tmp_path: Path) -> None:
    key = ftok(tmp_path, 65)
    assert ftok(str(tmp_path), 65) == ftok(bytes(tmp_path), 65) == key
    assert ftok(tmp_path, "A") == ftok(os.fspath(tmp_path) + "/.", "A") == key
    assert ftok(tmp_path, "B") != key


def test_ftok_takes_a_file_whose_name_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "file\udcff"
    file.touch()
    assert ftok(file, 1) & 0xFFFF == file.stat().st_ino & 0xFFFF


def test_ftok_follows_links(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/")
    assert ftok(link, 1) == ftok("/", 1)


@pytest.mark.parametrize("proj", [0, 256, -1, 2**40, "", "AB", "ä", "\0"])
def test_projects_out_of_range(proj: Any) -> None:
    with pytest.raises(InvalidArgument, match="proj must be"):
        ftok("/", proj)


@pytest.mark.parametrize("proj", [True, 1.0, None, b"A", [1]])
def test_projects_of_a_wrong_type(proj: Any) -> None:
    with pytest.raises(TypeError):
        ftok("/", proj)


@pytest.mark.parametrize("path", [3, None, ["/"]])
def test_ftok_of_what_is_no_path(path: Any) -> None:
    with pytest.raises(TypeError):
        ftok(path, 1)


@pytest.mark.parametrize("path", ["missing", "file/below", b"missing"])
def test_ftok_of_no_file(tmp_path: Path, path: Any) -> None:
    (tmp_path / "file").touch()
    here = bytes(tmp_path) + b"/" if isinstance(path, bytes) else f"{tmp_path}/"
    with pytest.raises(NotFound) as caught:
        ftok(here + path, 1)
    assert caught.value.errno in {errno.ENOENT, errno.ENOTDIR}
    assert caught.value.op == "ftok"
    assert caught.value.target.startswith(str(tmp_path))
    assert "must exist" in caught.value.hint


def test_ftok_of_a_path_that_can_be_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="null"):
        ftok("/etc\0", 1)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(IpcError) as caught:
        ftok(tmp_path / "loop", 1)
    assert caught.value.errno == errno.ELOOP
    with pytest.raises(InvalidArgument) as too_long:
        ftok("/" + "x" * 5000, 1)
    assert too_long.value.errno == errno.ENAMETOOLONG


@pytest.mark.usefixtures("root")
def test_ftok_where_the_directory_is_closed(ns: Namespace, spawn: Callable[..., Child]) -> None:
    spawn(
        """
        from ipckit import AccessDenied, ftok
        try:
            ftok(args[0] + "/file", 1)
        except AccessDenied as exc:
            assert exc.op == "ftok", exc
        else:
            raise AssertionError("no error")
        """,
        str(ns.directory),
        user="nobody",
        imports=["ipckit"],
    ).wait()
