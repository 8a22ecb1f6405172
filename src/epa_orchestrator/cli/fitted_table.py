# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A table that fits the terminal and breaks its lines only between numbers, never inside one.

Where no terminal shows it, it has plain columns of any width, for other programs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from epa_orchestrator.cli.folding import fold, fold_indented, fold_sentence, pieces, width_of
from epa_orchestrator.errors import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

#: A word with letters, such as the name of a service, stays whole up to the first of these lengths where there is room.
#: Before it is folded to less than the second, the lines between the columns go, and before it is folded to less than
#: the third, optional columns. The fourth is the least.
_WHOLE_NAME: Final = 32
_NAME_IN_BOX: Final = 16
_READABLE_NAME: Final = 12
_FOLDED_NAME: Final = 8
#: The blanks between columns without lines.
_GAP: Final = 2
#: No number is longer: a range of CPUs has up to 12 characters, a count of pages up to 16.
_LONGEST_NUMBER: Final = 20
#: What a program reads in place of an empty cell, so that each line has the same number of words or more.
_EMPTY: Final = "-"


class FittedTable:
    """A table with one row for each record; lines of text may follow it.

    On a narrow terminal it has no lines between the columns, then it leaves out `optional` columns, the first of them
    first. On one that is too narrow for that too, it has one row for each cell: the column's heading, then the value.
    Rich prints it (`show.console`); cells may be any text, and act on no terminal.
    """

    def __init__(
        self,
        columns: Iterable[str],
        title: str,
        caption: str | Iterable[str] | None = None,
        optional: Iterable[str] = (),
    ) -> None:
        self.headings = list(columns)
        self.title = title
        self.optional = [heading for heading in optional if heading in self.headings]
        self.notes = [caption] if isinstance(caption, str) else list(caption or ())
        self.rows: list[list[str]] = []
        self._ends: set[int] = set()

    def add_row(self, *cells: object, end_section: bool = False) -> None:
        """Add a record; `end_section` draws a line under it."""
        self.rows.append([printable(str(cell)) for cell in cells])
        if end_section:
            self._ends.add(len(self.rows) - 1)

    def changed(self, change: Callable[[str], str]) -> FittedTable:
        """The table with every text changed, before widths are worked out."""
        made = FittedTable(map(change, self.headings), change(self.title), map(change, self.notes))
        made.optional = [*map(change, self.optional)]
        made.rows = [[*map(change, row)] for row in self.rows]
        made._ends = self._ends
        return made

    def plain(self) -> str:
        """The table without lines around it, with a heading in capitals and one line for each record."""
        records = [[heading.upper() for heading in self.headings]]
        records += [[cell or _EMPTY for cell in row] for row in self.rows]
        widths = [max(map(width_of, column)) for column in zip(*records, strict=True)]
        lines = ["  ".join(map(_padded, record, widths)).rstrip() for record in records]
        return "\n".join([*lines, *([""] if self.notes else []), *map(printable, self.notes)])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table for a terminal of this width, or for a program."""
        if not options.is_terminal:
            from rich.segment import Segment

            yield Segment(f"{self.plain()}\n")
            return
        from rich.text import Text

        fitting = self._fitting(options.max_width)
        if fitting is not self:
            yield fitting
            return
        yield self._drawn(options.max_width)
        for note in self.notes:
            yield Text("\n".join(fold_indented(printable(note), options.max_width)))

    def _fitting(self, width: int) -> FittedTable:
        """The table without as many optional columns as have to go for one row for each record; self if none helps."""
        for shortest_name in (_READABLE_NAME, _FOLDED_NAME) if self.optional and self.rows else ():
            for count in range(len(self.optional) + 1):
                shown = self._without(self.optional[:count])
                if _fit(_columns(shown), width - _GAP * (len(shown.headings) - 1), shortest_name):
                    return shown
        return self

    def _without(self, left_out: list[str]) -> FittedTable:
        """The table without these columns, and with a line that names them."""
        if not left_out:
            return self
        kept = [index for index, heading in enumerate(self.headings) if heading not in left_out]
        named = ", ".join(heading for heading in self.headings if heading in left_out)
        notes = [*self.notes, f"Left out on this narrow terminal: {named}"]
        shown = FittedTable([self.headings[index] for index in kept], self.title, notes)
        for number, row in enumerate(self.rows):
            shown.add_row(*(row[index] for index in kept), end_section=number in self._ends)
        return shown

    def _drawn(self, width: int) -> Table:
        columns = _columns(self)
        widths = _fit(columns, width - _frame(len(columns)), _NAME_IN_BOX)
        table = self._empty()
        if widths is None:
            widths = _fit(columns, width - _GAP * (len(columns) - 1), _FOLDED_NAME)
            table = self._empty(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
        if widths is None and self.rows:
            return self._one_row_for_each_cell(width)
        for heading, column_width in zip(self.headings, widths or map(len, self.headings), strict=True):
            table.add_column("\n".join(fold(heading, column_width)), width=column_width, no_wrap=True)
        for number, row in enumerate(self.rows):
            cells = [_cell(cell, room) for cell, room in zip(row, widths or (), strict=True)]
            table.add_row(*cells, end_section=number in self._ends)
        return table

    def _one_row_for_each_cell(self, width: int) -> Table:
        table = self._empty(show_header=False)
        first = (_fit([self.headings], width // 2, _FOLDED_NAME) or [max(width // 4, 1)])[0]
        room = max(width - _frame(2), 2)
        first = min(first, room // 2)
        second = room - first
        table.add_column(width=first, no_wrap=True)
        table.add_column(no_wrap=True)
        for row in self.rows:
            for heading, cell in zip(self.headings, row, strict=True):
                table.add_row(_cell(heading, first), _cell(cell, second))
            table.add_section()
        return table

    def _empty(self, **more: Any) -> Table:
        from rich.table import Table
        from rich.text import Text

        return Table(title=Text(printable(self.title)) if self.title else None, title_justify="left", **more)


def _columns(table: FittedTable) -> list[list[str]]:
    """The cells of each column, the heading first."""
    return [[heading, *(row[index] for row in table.rows)] for index, heading in enumerate(table.headings)]


def _cell(text: str, width: int) -> Any:
    from rich.text import Text

    return Text("\n".join(fold_sentence(text, width)))


def _padded(text: str, width: int) -> str:
    return text + " " * (width - width_of(text))


def _frame(columns: int) -> int:
    """The width of all that is not text: lines between the columns and at both ends, and blanks next to them."""
    return 3 * columns + 1


def _fit(columns: list[list[str]], available: int, shortest_name: int) -> list[int] | None:
    """The width of each column, where the widest ones give way first; None when numbers or headings would break.

    A word with letters is folded only when the table has no room for it, and not to less than `shortest_name`.
    """
    unbroken = [_unbroken(heading, cells) for heading, *cells in columns]
    names = [max(map(width_of, _words(cells)), default=0) for cells in columns]
    for longest_name in range(_WHOLE_NAME, shortest_name - 1, -1):
        least = [max(width, min(name, longest_name)) for width, name in zip(unbroken, names, strict=True)]
        if sum(least) <= available:
            return _share(least, [max(map(width_of, cells)) for cells in columns], available)
    return None


def _share(least: list[int], most: list[int], available: int) -> list[int]:
    """Widths between these limits that fit: the largest maximum for all columns under which they do."""
    low, high = 0, max(most)
    while low < high:
        maximum = (low + high + 1) // 2
        if sum(_limited(least, most, maximum)) > available:
            high = maximum - 1
        else:
            low = maximum
    return _limited(least, most, low)


def _limited(least: list[int], most: list[int], maximum: int) -> list[int]:
    return [max(narrow, min(wide, maximum)) for narrow, wide in zip(least, most, strict=True)]


def _unbroken(heading: str, cells: list[str]) -> int:
    """The width that a column needs so that its heading's words and its numbers stay whole."""
    numbers = [word for word in _words(cells) if not any(map(str.isalpha, word))]
    return max([1, *map(width_of, heading.split()), *(min(width_of(each), _LONGEST_NUMBER) for each in numbers)])


def _words(cells: list[str]) -> set[str]:
    return {piece for cell in cells for _, piece in pieces(cell)}
