"""Lay out a table as text for a screen: which columns there is room for, and each line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ipckit._cli.output import fit, shortened, width_of
from ipckit.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ipckit._cli.output import Column

_GAP: Final = 2
_LEAST_NAME: Final = 24

# A piece of a line, and the index of its column; None for blanks.
Part = tuple[str, int | None]


class Layout:
    """A table in the columns that a width has room for.

    A name in the first column is never shortened. It has lines of its own if it would take the
    room of columns that matter more.

    Args:
        columns: the columns. Those without content are left out, unless they are always shown.
        rows: the cells of each row.
        room: the cells of a line.
        wanted: the columns up to this `Column.drop` matter more than a name in the same line.

    Attributes:
        columns: the columns.
        room: the cells of a line.
        widths: the width of each column that is shown, by its index.
        hidden: the titles of the columns that have content, but no room.
        starts: the line at which each row begins; and, last, the number of lines.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        rows: Iterable[Sequence[str]],
        room: int,
        *,
        wanted: int = 0,
    ) -> None:
        self.columns = columns
        self.room = max(1, room)
        self._texts = [[one_line(cell) for cell in row] for row in rows]
        widest = [
            max(map(width_of, (column.title, *texts)))
            for column, *texts in zip(columns, *self._texts, strict=True)
        ]
        filled = [
            index
            for index, column in enumerate(columns)
            if not column.drop or not self._texts or any(texts[index] for texts in self._texts)
        ]

        def beside(drop: int) -> int:
            """Return the cells of the columns up to a `Column.drop`, without the first."""
            return sum(_GAP + widest[index] for index in filled[1:] if columns[index].drop <= drop)

        longest = min(max(_LEAST_NAME, self.room - beside(wanted)), self.room - beside(0))
        names = [width_of(texts[0]) for texts in self._texts]
        needed = [widest[index] for index in filled]
        shown = [each for each in names if each <= longest]
        needed[0] = max(width_of(columns[0].title), *shown, 0)
        chosen = fit([columns[index] for index in filled], needed, self.room)
        self.widths = {filled[index]: width for index, width in chosen.items()}
        self.hidden = [columns[index].title for index in filled if index not in self.widths]
        self.starts = [0]
        for (name, *_), width in zip(self._texts, names, strict=True):
            own = 0 if width <= self.widths[0] else len(_slices(name, self.room))
            self.starts.append(self.starts[-1] + 1 + own)

    def titles(self) -> list[Part]:
        """Return the line of the titles."""
        return self._line([column.title for column in self.columns])

    def line(self, row: int, part: int = 0) -> list[Part]:
        """Return one of the lines of a row.

        Args:
            row: the index of the row.
            part: the index of the line. A long name fills all lines but the last.
        """
        texts = self._texts[row]
        lines = self.starts[row + 1] - self.starts[row]
        if part < lines - 1:
            return [(_slices(texts[0], self.room)[part], 0)]
        return self._line(["", *texts[1:]] if lines > 1 else texts)

    def _line(self, texts: Sequence[str]) -> list[Part]:
        found: list[Part] = []
        for index, width in self.widths.items():
            text = shortened(texts[index], width)
            blanks = " " * (width - width_of(text))
            parts: list[Part] = [(blanks, None), (text, index)]
            found += parts if self.columns[index].right else reversed(parts)
            found.append((" " * _GAP, None))
        return found[:-1]

    def lines(self) -> Iterator[str]:
        """Yield all lines, the titles first."""
        yield "".join(text for text, _ in self.titles()).rstrip()
        for row in range(len(self._texts)):
            for part in range(self.starts[row + 1] - self.starts[row]):
                yield "".join(text for text, _ in self.line(row, part)).rstrip()

    def title_at(self, x: int) -> str:
        """Return the title of the column at a position in a line; "" if there is none."""
        for index, width in self.widths.items():
            if x < width:
                return self.columns[index].title
            x -= width + _GAP
        return ""


def _slices(text: str, width: int) -> list[str]:
    """Return the lines that a text fills."""
    lines, used = [""], 0
    for char in text:
        cells = width_of(char)
        if used + cells > width:
            lines.append("")
            used = 0
        lines[-1] += char
        used += cells
    return lines
