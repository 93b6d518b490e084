"""Print bytes in the format of ``hexdump -C``: offset, hexadecimal digits, text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

WIDTH: Final = 16
_HALF: Final = WIDTH // 2
# A dot for every byte that is not printable ASCII, so that a dump can't control a terminal.
_PRINTABLE: Final = bytes(byte if 0x20 <= byte < 0x7F else 0x2E for byte in range(256))  # noqa: PLR2004 - space to ~


def printable(data: bytes) -> str:
    """Return bytes as ASCII text, with a dot for each that is not printable."""
    return data.translate(_PRINTABLE).decode("ascii")


def _line(offset: int, row: bytes) -> str:
    left, right = row[:_HALF].hex(" "), row[_HALF:].hex(" ")
    hexadecimal = f"{left:<{_HALF * 3 - 1}}  {right:<{_HALF * 3 - 1}}"
    return f"{offset:08x}  {hexadecimal}  |{printable(row)}|"


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the bytes in blocks of whole rows; the last block may end with a partial row."""
    rest = b""
    for piece in pieces:
        data = rest + piece
        whole = len(data) - len(data) % WIDTH
        if whole:
            yield data[:whole]
        rest = data[whole:]
    if rest:
        yield rest


def hexdump(pieces: Iterable[bytes], *, start: int = 0, collapse: bool = True) -> Iterator[str]:
    """Yield the lines of a dump, and at the end a line with the offset after the last byte.

    Args:
        pieces: the bytes, in pieces of any length.
        start: the offset of the first byte.
        collapse: print one ``*`` for rows that equal the row before.
    """
    offset = start
    previous = b""
    starred = False
    for block in _blocks(pieces):
        # Memory is mostly zeros. One comparison finds a block that repeats the row before.
        same = collapse and block == previous * (len(block) // WIDTH)
        for at in () if same and starred else range(0, len(block), WIDTH):
            row = block[at : at + WIDTH]
            if not collapse or row != previous:
                yield _line(offset + at, row)
                starred = False
            elif not starred:
                yield "*"
                starred = True
            previous = row
        offset += len(block)
    if offset > start:
        yield f"{offset:08x}"
