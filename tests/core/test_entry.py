"""A file is removed from the directory in which it was checked, and only if it is the same file."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from ipckit._core.directory_entry import UntrustedLinkError, directory_of, unlink_path, unlink_same

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = 65534


def leads_to(path: Path, place: Path) -> bool:
    """Whether the strict walk to a path's directory ends in a place."""
    with directory_of(path, strict=True) as held:
        return os.path.samestat(os.fstat(held), place.stat())


@pytest.fixture
def place(ns_directory: Path) -> Path:
    place = ns_directory / "a" / "place"
    place.mkdir(parents=True)
    return place


@pytest.fixture
def ns_directory(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path


def test_a_path_without_links_is_opened(place: Path) -> None:
    assert leads_to(place / "x", place)
    assert leads_to(place / ".." / "place" / "." / "x", place)


def test_a_link_that_only_the_caller_can_have_made_is_followed(
    place: Path, ns_directory: Path
) -> None:
    (ns_directory / "absolute").symlink_to(place)
    (ns_directory / "relative").symlink_to("a/place")
    (ns_directory / "a" / "up").symlink_to("../absolute")
    for way in ("absolute", "relative", "a/up"):
        assert leads_to(ns_directory / way / "x", place), way


def test_a_link_in_a_directory_that_everybody_may_write_is_not(
    place: Path, ns_directory: Path
) -> None:
    ns_directory.chmod(0o1777)
    (ns_directory / "link").symlink_to(place)
    with pytest.raises(UntrustedLinkError):
        leads_to(ns_directory / "link" / "x", place)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("whose", ["link", "directory"])
def test_a_link_of_another_user_is_not(place: Path, ns_directory: Path, whose: str) -> None:
    link = ns_directory / "link"
    link.symlink_to(place)
    os.lchown(link if whose == "link" else ns_directory, NOBODY, NOBODY)
    with pytest.raises(UntrustedLinkError):
        leads_to(link / "x", place)


@pytest.mark.usefixtures("root")
def test_a_link_in_a_directory_that_a_group_may_write_is_not(
    place: Path, ns_directory: Path
) -> None:
    (ns_directory / "link").symlink_to(place)
    ns_directory.chmod(0o775)
    with pytest.raises(UntrustedLinkError):
        leads_to(ns_directory / "link" / "x", place)


def test_a_loop_of_links_is_an_error(place: Path, ns_directory: Path) -> None:
    (ns_directory / "one").symlink_to("two")
    (ns_directory / "two").symlink_to("one")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)) as caught:
        leads_to(ns_directory / "one" / "x", place)
    assert caught.value.errno == errno.ELOOP


def test_a_path_through_a_file_is_refused(place: Path) -> None:
    (place / "file").touch()
    with pytest.raises(NotADirectoryError):
        leads_to(place / "file" / "x", place)
    with pytest.raises(FileNotFoundError):
        leads_to(place / "missing" / "x", place)


def test_another_file_of_the_name_stays(place: Path) -> None:
    path = place / "name"
    path.write_text("judged")
    judged = path.stat()
    path.rename(place / "old")
    path.write_text("another")

    def same(status: os.stat_result) -> bool:
        return os.path.samestat(status, judged)

    assert not unlink_path(path, same)
    assert path.read_text() == "another"
    (place / "old").replace(path)
    assert unlink_path(path, same)
    with pytest.raises(FileNotFoundError):
        unlink_path(path, same)


def test_a_directory_that_moves_is_still_the_one_that_was_opened(
    place: Path, ns_directory: Path
) -> None:
    target = ns_directory / "target"
    target.mkdir()
    (target / "name").write_text("another")
    (place / "name").write_text("judged")
    judged = (place / "name").stat()
    with directory_of(place / "name") as held:
        place.rename(ns_directory / "moved")
        place.symlink_to(target)
        assert unlink_same(held, "name", lambda status: os.path.samestat(status, judged))
    assert (target / "name").exists()
    assert not (ns_directory / "moved" / "name").exists()
