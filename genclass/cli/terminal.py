"""What a person sees in a terminal: lines, and tables of which no name is ever cut.

The one module that knows rich. Nothing that is printed is taken for markup, and what a terminal
cannot show is replaced. In a pipe or file nothing is cut nor wrapped; a terminal that is too narrow
for a table keeps its first columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

_LEAST = 16  # characters that a column which wraps is left with
_UNBOUNDED = 1_000_000


@dataclass(frozen=True)
class Styled:
    """A text with a style of its own, such as `green`."""

    text: str
    style: str = ""


@dataclass(frozen=True)
class Heading:
    """A column of a table: of numbers it is set right; one of prose may be wrapped."""

    heading: str
    number: bool = False
    wraps: bool = False


class Listing:
    """Rows of cells under headings, row by row.

    names: how many first columns say what a row is about: they are never left out.
    """

    def __init__(self, *columns: Heading | str, names: int = 1) -> None:
        self.columns = [Heading(c) if isinstance(c, str) else c for c in columns]
        self.names = names
        self.rows: list[tuple[tuple[Styled, ...], str]] = []
        self.sections: set[int] = set()  # a line stands above these rows

    def add(self, *cells: Styled | str, style: str = "") -> None:
        row = tuple(Styled(c) if isinstance(c, str) else c for c in cells)
        assert len(row) == len(self.columns)
        self.rows.append((row, style))

    def section(self) -> None:
        """Draw a line below what is there so far."""
        self.sections.add(len(self.rows))


class Terminal:
    """Where a command prints.

    width: in characters; None: that of the terminal, and no limit in a pipe or file.
    """

    def __init__(self, file: TextIO | None = None, width: int | None = None) -> None:
        self._console = Console(file=file, markup=False, highlight=False, emoji=False)
        self._width = width

    @property
    def width(self) -> int | None:
        if self._width is not None:
            return self._width
        return self._console.width if self._console.file.isatty() else None

    def say(self, line: str = "", style: str = "") -> None:
        """Print a line as it is: paths can be copied from it."""
        self._console.print(Text(plain(line), style), soft_wrap=True)

    def note(self, text: str) -> None:
        """Print an explanation, dim, wrapped between words where there is a width."""
        line = Text(plain(text), "dim")
        if self.width is None:
            self._console.print(line, soft_wrap=True)
        else:
            self._console.print(line, width=self.width)

    def table(self, table: Listing) -> None:
        """Print a table; where it is too wide its prose is wrapped, then last columns left out."""
        natural = [_width_of(table, place) for place in range(len(table.columns))]
        count, widths = len(natural), natural
        if self.width is not None:
            least = [
                min(width, _LEAST) if column.wraps else width
                for width, column in zip(natural, table.columns, strict=True)
            ]
            while count > table.names and self._extent(table, least[:count]) > self.width:
                count -= 1
            spare = max(0, self.width - self._extent(table, least[:count]))
            widths = []
            for narrow, wide in zip(least[:count], natural, strict=False):
                widths.append(min(wide, narrow + spare))
                spare -= widths[-1] - narrow
        drawn = _drawn(table, widths)
        drawn.width = self._extent(table, widths)
        self._console.print(drawn, crop=False)
        if count < len(natural):
            left_out = ", ".join(" ".join(c.heading.split()) for c in table.columns[count:])
            self.note(f"too narrow for: {left_out} (a pipe gets everything)")

    def _extent(self, table: Listing, widths: Sequence[int]) -> int:
        """How wide a table is whose first columns have these widths."""
        options = self._console.options.update(width=_UNBOUNDED)
        return self._console.measure(_drawn(table, widths), options=options).maximum


TERMINAL = Terminal()  # standard output


def plain(text: str) -> str:
    """The text with control characters, and what is no character, written as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def short(number: float, unit: str = "") -> str:
    """Three digits and a prefix: 1.23 G."""
    for prefix in ("", "k", "M", "G", "T", "P", "E", "Z"):
        if abs(number) < 999.5 or prefix == "Z":
            break
        number /= 1000
    digits = f"{number:.0f}" if number >= 99.95 or not prefix else f"{number:.3g}"
    return f"{digits} {prefix}{unit}".strip()


def duration(seconds: float) -> str:
    """Three digits and a unit: 46.7 min."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            count = seconds / length
            return f"{count:,.0f} {unit}" if count >= 99.95 else f"{count:.3g} {unit}"
    return f"{seconds:.3g} s"


def _width_of(table: Listing, place: int) -> int:
    cells = (plain(row[place].text) for row, _ in table.rows)
    return max(map(cell_len, [*table.columns[place].heading.splitlines(), *cells]), default=0)


def _drawn(table: Listing, widths: Sequence[int]) -> RichTable:
    drawn = RichTable(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column, width in zip(table.columns, widths, strict=False):
        drawn.add_column(
            Text(column.heading),
            width=width,
            justify="right" if column.number else "left",
            overflow="fold",
        )
    for place, (row, style) in enumerate(table.rows):
        if place in table.sections:
            drawn.add_section()
        drawn.add_row(*(Text(plain(c.text), c.style) for c in row[: len(widths)]), style=style)
    return drawn
