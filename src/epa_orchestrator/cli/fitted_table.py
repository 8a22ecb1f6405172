# SPDX-FileCopyrightText: 2026 The epa-orchestrator authors
# SPDX-License-Identifier: Apache-2.0

"""A Rich table that fits the terminal and breaks its lines only between numbers, never inside one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table

#: A word with letters, such as the name of a service, stays whole up to the first of these lengths where there is room,
#: and up to the second everywhere.
_WHOLE_NAME: Final = 32
_FOLDED_NAME: Final = 8
#: No number is longer: a range of CPUs has up to 12 characters, a count of pages up to 16.
_LONGEST_NUMBER: Final = 20


class FittedTable(Table):
    """A table with one row for each record.

    On a terminal that is too narrow for that, it has one row for each cell: the column's heading, then the value.
    """

    def __init__(self, columns: Iterable[str], title: str, caption: str | None = None) -> None:
        super().__init__(title=title, caption=caption, title_justify="left", caption_justify="left")
        for column in columns:
            self.add_column(column, overflow="fold")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The lines of the table for a terminal of this width."""
        columns = [[str(column.header), *map(str, column.cells)] for column in self.columns]
        widths = _fit(columns, options.max_width - _frame(len(columns)))
        if widths is None and self.row_count:
            yield self._one_row_for_each_cell(options.max_width)
            return
        if widths is not None:
            for column, width in zip(self.columns, widths, strict=True):
                column.width = width
        yield from super().__rich_console__(console, options)

    def _one_row_for_each_cell(self, width: int) -> Table:
        table = Table(
            title=self.title,
            caption=self.caption,
            title_justify="left",
            caption_justify="left",
            show_header=False,
        )
        headings = [str(column.header) for column in self.columns]
        heading_width = _fit([headings], width // 2) or [width // 4]
        table.add_column(width=heading_width[0], overflow="fold")
        table.add_column(overflow="fold")
        for record in zip(*(column.cells for column in self.columns), strict=True):
            for heading, cell in zip(headings, record, strict=True):
                table.add_row(heading, cell)
            table.add_section()
        return table


def _frame(columns: int) -> int:
    """The width of all that is not text: lines between the columns and at both ends, and blanks next to them."""
    return 3 * columns + 1


def _fit(columns: list[list[str]], available: int) -> list[int] | None:
    """The width of each column, where the widest ones give way first; None when numbers or headings would break.

    A word with letters is folded only when the table has no room for it.
    """
    unbroken = [_unbroken(heading, cells) for heading, *cells in columns]
    names = [max(map(cell_len, _words(cells)), default=0) for cells in columns]
    for longest_name in range(_WHOLE_NAME, _FOLDED_NAME - 1, -1):
        least = [max(width, min(name, longest_name)) for width, name in zip(unbroken, names, strict=True)]
        if sum(least) <= available:
            return _share(least, [_natural_width(cells) for cells in columns], available)
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


def _natural_width(cells: list[str]) -> int:
    return max(cell_len(line) for cell in cells for line in cell.split("\n"))


def _unbroken(heading: str, cells: list[str]) -> int:
    """The width that a column needs so that its heading's words and its numbers stay whole."""
    numbers = [word for word in _words(cells) if not any(map(str.isalpha, word))]
    return max([1, *map(cell_len, heading.split()), *(min(cell_len(each), _LONGEST_NUMBER) for each in numbers)])


def _words(cells: list[str]) -> set[str]:
    return {word for cell in cells for word in cell.split()}
