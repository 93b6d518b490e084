"""Read memory by docs/layout.md alone: its tables say where each field is, and how long it is."""

from __future__ import annotations

import mmap
import re
import struct
from pathlib import Path
from typing import NamedTuple

PAGE = (Path(__file__).parents[2] / "docs/layout.md").read_text()
FORMATS = {4: "=I", 8: "=Q"}

Fields = dict[str, tuple[int, int]]


def up(number: int, step: int) -> int:
    """The next multiple of a number."""
    return -(-number // step) * step


class Section:
    """The section about one mechanism."""

    def __init__(self, title: str) -> None:
        self.text = PAGE.partition(f"\n## {title}, ")[2].partition("\n## ")[0]
        self.version = int(self.text.split("\n")[0].removeprefix("version "))
        self.parts = self.text.partition("\n### ")[0]

    def rows(self, heading: str, columns: str) -> list[list[str]]:
        """The rows of the first table under a heading whose columns begin with those."""
        section = self.text.partition(f"\n### {heading}\n")[2].partition("\n### ")[0]
        return table(section, columns)

    def fields(self, heading: str) -> Fields:
        """The offset and the bytes of each named field in the table under a heading."""
        found = self.rows(heading, "offset | bytes | name")
        return {name: (int(offset), int(size)) for offset, size, name, *_ in found if name}

    def kinds(self, heading: str) -> dict[int, str]:
        """The kinds in the table under a heading."""
        found = (row[0].split() for row in self.rows(heading, "kind"))
        return {int(number): name for number, name in found}


def table(text: str, columns: str) -> list[list[str]]:
    """The rows of the first table whose columns begin with those."""
    found = re.split(re.escape(f"\n| {columns}") + r".*\n\|[-|]+\n", text)[1]
    lines = found.partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


class Word(NamedTuple):
    """The word of a block."""

    kind: str
    granules: int
    holder: int


class Memory:
    """The memory of an object, which begins with a header."""

    def __init__(self, fd: int, header: Fields, peer: Fields, kinds: dict[int, str]) -> None:
        self.bytes = mmap.mmap(fd, 0)
        self._header, self._peer, self._kinds = header, peer, kinds
        self.units, self.granule = self.field("arena_units"), self.field("granule")
        self.granules = self.field("granules")
        self.words = self.pool = 0

    def close(self) -> None:
        self.bytes.close()

    def number(self, at: int, place: tuple[int, int]) -> int:
        found: int = struct.unpack_from(FORMATS[place[1]], self.bytes, at + place[0])[0]
        return found

    def numbers(self, at: int, fields: Fields) -> dict[str, int]:
        """All fields of a structure."""
        return {name: self.number(at, place) for name, place in fields.items()}

    def field(self, name: str) -> int:
        return self.number(0, self._header[name])

    def raw(self, name: str) -> bytes:
        offset, size = self._header[name]
        return self.bytes[offset : offset + size]

    def set_field(self, name: str, value: int) -> None:
        offset, size = self._header[name]
        struct.pack_into(FORMATS[size], self.bytes, offset, value)

    def blocks(self) -> dict[int, Word]:
        """The blocks that are not free, by the index of their first granule."""
        found: dict[int, Word] = {}
        at = 0
        while at < self.granules:
            (word,) = struct.unpack_from("=Q", self.bytes, self.words + 8 * at)
            span = word >> 4 & 0xFFFFFF
            if word:
                found[at] = Word(self._kinds[word & 15], span, word >> 28)
            at += span or 1
        return found

    def block(self, index: int, length: int) -> bytes:
        at = self.pool + self.granule * index
        return self.bytes[at : at + length]

    def peer(self, index: int) -> dict[str, int]:
        return self.numbers(1024 + 64 * index, self._peer)

    def name(self, index: int) -> int:
        """The name of a peer in locks and blocks."""
        return (index + 1 | self.peer(index)["generation"] << 9) % 2**28
