"""A laid-out table in the languages it is printed in: Markdown, LaTeX, and the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import StringIO
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console

WITHOUT_INTERVALS = "intervals are left out: the table does not fit"
GAP = 2  # blanks between two columns on the terminal
STYLES = {"?": "yellow", "!": "red", "x": "bold red", "-": "dim", "...": "dim"}
LATEX = {character: "\\" + character for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "[": "{[}",  # after a line break it would begin an optional argument
    "±": r"$\pm$",
    "<": r"$<$",
    ">": r"$>$",
}
MARKDOWN = {character: "\\" + character for character in "\\|*`<[]"}


class Cell(NamedTuple):
    """One number as text: ``full`` with its interval, ``short`` without; ``mark`` says how far to trust it."""

    full: str = ""
    short: str = ""
    mark: str = ""


class Line(NamedTuple):
    """One row: the names at its left and a cell for each column of the grid."""

    stub: tuple[str, ...]
    cells: list[Cell]


class Column(NamedTuple):
    """One column: the defense whose group it belongs to, its attack, and the threat where columns differ in it."""

    group: str
    attack: str
    threat: str = ""

    @property
    def header(self) -> str:
        return f"{self.attack} {self.threat}".rstrip()


class Grid(NamedTuple):
    """A table before it has a language: title above, notes below. Columns of one group stand side by side."""

    title: str
    stub: tuple[str, ...]
    columns: list[Column]
    lines: list[Line]
    notes: list[str]


def markdown(grid: Grid) -> str:
    """A pipe table; it has no column groups, so each header names its defense."""
    head = [*grid.stub, *(f"{column.group} {column.header}" for column in grid.columns)]
    rule = ["---"] * len(grid.stub) + ["---:"] * len(grid.columns)
    body = [[*line.stub, *(cell.full for cell in line.cells)] for line in grid.lines]
    rows = [[_escape(text, MARKDOWN) for text in row] for row in (head, *body)]
    table = [f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:])]
    notes = [f"- {_escape(note, MARKDOWN)}" for note in grid.notes]
    return "\n".join([f"**{_escape(grid.title, MARKDOWN)}**", "", *table, *([""] if notes else []), *notes])


def latex(grid: Grid) -> str:
    """A ``table`` environment in the style of the package booktabs, which the document has to load."""
    spans = list(_spans(grid.columns))
    groups = [rf"\multicolumn{{{size}}}{{c}}{{{_escape(name, LATEX)}}}" for name, _, size in spans]
    first = len(grid.stub) + 1
    rules = [rf"\cmidrule(lr){{{first + start}-{first + start + size - 1}}}" for _, start, size in spans]
    head = [*grid.stub, *(column.header for column in grid.columns)]
    body = [[*line.stub, *(cell.full for cell in line.cells)] for line in grid.lines]
    rows = [" & ".join(_escape(text, LATEX) for text in row) + r" \\" for row in (head, *body)]
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{_escape(grid.title, LATEX)}}}",
            rf"\begin{{tabular}}{{{'l' * len(grid.stub)}{'r' * len(grid.columns)}}}",
            r"\toprule",
            " & " * len(grid.stub) + " & ".join(groups) + r" \\",
            "".join(rules),
            rows[0],
            r"\midrule",
            *rows[1:],
            r"\bottomrule",
            r"\end{tabular}",
            *(rf"\par{{\footnotesize {_escape(note, LATEX)}}}" for note in grid.notes),
            r"\end{table}",
        ]
    )


def _escape(text: str, table: dict[str, str]) -> str:
    return "".join(table.get(character, character) for character in text)


def _spans(columns: Sequence[Column]) -> Iterator[tuple[str, int, int]]:
    """Name, first column and number of columns of each group."""
    start = 0
    for name, group in groupby(columns, key=lambda column: column.group):
        size = len(list(group))
        yield name, start, size
        start += size


def terminal(grids: Sequence[Grid], *, width: int | None, color: bool) -> str:
    """Tables for a terminal ``width`` columns wide (None: no limit), drawn by Rich.

    A number is never wrapped or cut: a table that is too wide loses its intervals, then is cut between columns into
    several tables, and says so. Only a single column that is too wide in itself overflows.
    """
    from rich.console import Console

    out = Console(
        file=StringIO(),
        width=width or 10_000,
        force_terminal=color,
        color_system="standard" if color else None,
        markup=False,  # names may contain [brackets] and :colons:
        emoji=False,
        highlight=False,
        legacy_windows=False,
        force_jupyter=False,  # where it would show the table below the cell, and write nothing
    )
    for grid in grids:
        _print_grid(out, grid, width)
    written: str = out.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in written.strip("\n").split("\n"))


def _print_grid(out: Console, grid: Grid, width: int | None) -> None:
    notes = grid.notes
    short = width is not None and _total(_widths(grid, short=False)) > width
    if short and any(cell.full != cell.short for line in grid.lines for cell in line.cells):
        notes = [f"{WITHOUT_INTERVALS} in {width} columns; widen the terminal or use --format csv", *notes]
    out.print(grid.title, style="bold")
    for part in _blocks(grid, short, width):
        _print_block(out, part, short)
    for note in notes:
        out.print(note)
    out.print()


def _blocks(grid: Grid, short: bool, width: int | None) -> Iterator[Grid]:
    """Cut a grid between columns so that each part fits, the names at the left repeated."""
    widths = _widths(grid, short)
    left, rest = widths[: len(grid.stub)], widths[len(grid.stub) :]
    start = 0
    while start < len(rest):
        end = start + 1
        while end < len(rest) and (width is None or _total(left + rest[start : end + 1]) <= width):
            end += 1
        lines = [Line(line.stub, line.cells[start:end]) for line in grid.lines]
        yield grid._replace(columns=grid.columns[start:end], lines=lines)
        start = end


def _widths(grid: Grid, short: bool) -> list[int]:
    names = [max(len(head), *(len(line.stub[i]) for line in grid.lines)) for i, head in enumerate(grid.stub)]
    cells = [
        max(len(column.attack), len(column.threat), *(len(_shown(line.cells[i], short)) for line in grid.lines))
        for i, column in enumerate(grid.columns)
    ]
    for name, start, size in _spans(grid.columns):
        missing = len(name) - _total(cells[start : start + size])
        for i in range(start, start + size):  # a long name is shared out over its columns
            cells[i] += max(0, missing) // size + (i - start < max(0, missing) % size)
    return names + cells


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _shown(cell: Cell, short: bool) -> str:
    return cell.short if short else cell.full


def _print_block(out: Console, grid: Grid, short: bool) -> None:
    # Line by line and not as a rich.table, which knows no header across several columns and takes ten times as long.
    from rich.text import Text

    widths = _widths(grid, short)
    lines = [Text(line, "bold") for line in _head(grid, widths)] + [Text("─" * _total(widths))]
    for line in grid.lines:
        texts = _aligned(line.stub, [_shown(cell, short) for cell in line.cells], widths)
        styles = ["" for _ in line.stub] + [STYLES.get(cell.mark, "") for cell in line.cells]
        lines.append(Text(" " * GAP).join(map(Text, texts, styles)))
    out.print(Text("\n").join(lines), soft_wrap=True)


def _head(grid: Grid, widths: Sequence[int]) -> list[str]:
    left, right = widths[: len(grid.stub)], widths[len(grid.stub) :]
    groups = [name.center(_total(right[start : start + size])) for name, start, size in _spans(grid.columns)]
    upper = [column.attack if column.threat else "" for column in grid.columns]
    lower = [column.threat or column.attack for column in grid.columns]
    rows = [
        [" " * _total(left), *groups],
        _aligned(["" for _ in left], upper, widths),
        _aligned(grid.stub, lower, widths),
    ]
    return [(" " * GAP).join(row) for row in rows if any(map(str.strip, row))]


def _aligned(stub: Sequence[str], cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [*map(str.ljust, stub, widths), *map(str.rjust, cells, widths[len(stub) :])]
