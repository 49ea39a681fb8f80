"""Tables as HTML, for notebooks: no style but alignment, so that they look like everything else there."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby

from harness.report.formats import Grid

MIDDLE, RIGHT = 'style="text-align: center"', 'style="text-align: right; white-space: nowrap"'


def page(grids: Sequence[Grid]) -> str:
    """All tables, one below the other, with what is said of their numbers."""
    return "\n".join(map(_table, grids)) or "<p>no cells</p>"


def _table(grid: Grid) -> str:
    groups = [(name, len(list(columns))) for name, columns in groupby(grid.columns, key=lambda column: column.group)]
    left = f'<th colspan="{len(grid.stub)}"></th>'
    upper = left + "".join(f'<th colspan="{size}" {MIDDLE}>{escape(name)}</th>' for name, size in groups)
    lower = "".join(f"<th>{escape(name)}</th>" for name in grid.stub)
    lower += "".join(f"<th {RIGHT}>{escape(column.header)}</th>" for column in grid.columns)
    body = [
        "".join(f"<th>{escape(name)}</th>" for name in line.stub)
        + "".join(f"<td {RIGHT}>{escape(cell.full)}</td>" for cell in line.cells)
        for line in grid.lines
    ]
    rows = "\n".join(f"<tr>{row}</tr>" for row in body)
    notes = "".join(f"<p><small>{escape(note)}</small></p>" for note in grid.notes)
    return (
        f"<table>\n<caption>{escape(grid.title)}</caption>\n<thead>\n<tr>{upper}</tr>\n<tr>{lower}</tr>\n</thead>\n"
        f"<tbody>\n{rows}\n</tbody>\n</table>{notes}"
    )
