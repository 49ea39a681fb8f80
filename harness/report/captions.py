"""The leaderboard of captioners: a table an attack, of models and metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from harness.report.against import Against, Contrast, Coordinate, coordinate
from harness.report.formats import Cell, Column, Grid, Line
from harness.report.layout import layout, number_text, threat_text
from harness.store.queries import Row

Published = Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]
"""Figures by model, defense, attack and metric, fractions as fractions."""

ALL = "captions"
DECIDES = "bleu4"
"""The metric whose difference from a base model is told."""


def grids(
    rows: Sequence[Row],
    metrics: Sequence[str],
    references: Published | None = None,
    limit: int = 0,
    against: Against | None = None,
) -> list[Grid]:
    """One grid for each profile, defense, attack and budget, in the order of the runs: models or, if they are fewer,
    metrics across.

    metrics: the order of the columns; others that were measured come behind them, by name. Rows need all their scores.
    """
    groups: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in rows:
        threat = threat_text(row.norm, row.eps)
        groups.setdefault((row.profile, row.defense, row.attack, threat), []).append(row)
    return [
        _grid(found, metrics, references or {}, limit, f"{attack} {threat}".strip(), defense, against)
        for (_, defense, attack, threat), found in groups.items()
    ]


def _grid(
    rows: Sequence[Row],
    metrics: Sequence[str],
    references: Published,
    limit: int,
    attack: str,
    defense: str,
    against: Against | None,
) -> Grid:
    """The layout of the other leaderboards, with metrics in the place of attacks."""
    names = {score.metric for row in rows for score in row.scores}
    measured = sorted(names | {metric for row in rows for metric, _ in row.unmeasured})
    columns = [*(name for name in metrics if name in measured), *(name for name in measured if name not in metrics)]
    spread = [part for row in rows for part in _spread(row, columns or list(metrics[:1]) or [ALL])]
    (grid,) = layout(spread, ALL, {}, limit, _spread_out(against, rows, columns))
    _, _, told = grid.title.partition(f", profile {rows[0].profile}: ")
    facts = [fact for fact in told.split("; ") if fact != "no perturbation"]
    defended = "" if defense == "none" else f" after {defense}"
    title = f"{ALL}, profile {rows[0].profile}: {'; '.join([*facts[:1], attack + defended, *facts[1:]])}"
    lines = list(_with_references(grid, rows, references))
    whole = grid._replace(title=title, lines=lines, columns=[column._replace(group=attack) for column in grid.columns])
    return _turned(whole) if len(grid.lines) < len(columns) else whole


def _turned(grid: Grid) -> Grid:
    """Metrics down and models across: of few models with many metrics each, a table that fits."""
    models: list[Line] = []
    below: dict[str, dict[int, Line]] = {}  # what stands under the models' lines: by its name, by model
    for line in grid.lines:
        if line.stub[-1].startswith("  "):
            below.setdefault(line.stub[-1], {})[len(models) - 1] = line
        else:
            models.append(line)
    lines = []
    for place, column in enumerate(grid.columns):
        lines.append(Line((column.attack,), [model.cells[place] for model in models]))
        for name, known in below.items():
            cells = [known[k].cells[place] if k in known else Cell() for k in range(len(models))]
            if any(cell.full for cell in cells):
                lines.append(Line((name,), cells))
    columns = [
        Column(model.stub[0] if len(model.stub) > 1 else grid.columns[0].group, model.stub[-1]) for model in models
    ]
    return grid._replace(stub=("metric",), columns=columns, lines=lines)


def _spread(row: Row, columns: Sequence[str]) -> Iterable[Row]:
    """A row for each metric. What is to be said against the cell is said once."""
    scores = {score.metric: score for score in row.scores}
    for position, name in enumerate(columns):
        found = (scores[name]._replace(metric=ALL),) if name in scores else ()
        failed = tuple((ALL, reason) for metric, reason in row.unmeasured if metric == name)
        yield row._replace(
            defense=row.attack,
            attack=name,
            norm=None,
            eps=None,
            position=row.position * len(columns) + position,
            scores=found,
            unmeasured=failed,
            reasons=row.reasons if position == 0 else (),
        )


def _spread_out(against: Against | None, rows: Sequence[Row], columns: Sequence[str]) -> Against | None:
    """The contrasts of these rows, each in the column of the metric that it is one of."""
    if against is None or DECIDES not in columns:
        return None
    found: dict[Coordinate, Contrast] = {}
    for row in rows:
        if (contrast := against.sentences.get(coordinate(row))) is not None:
            found |= {coordinate(part): contrast for part in _spread(row, columns) if part.attack == DECIDES}
    return against._replace(contrasts={}, sentences=found)


def _with_references(grid: Grid, rows: Sequence[Row], references: Published) -> Iterable[Line]:
    units = {score.metric: score.unit for row in rows for score in row.scores}
    for line in grid.lines:
        yield line
        model = line.stub[-1]
        known = references.get(model, {}).get(rows[0].defense, {}).get(rows[0].attack, {})
        if known:
            texts = [
                number_text(known[column.attack], units.get(column.attack, "")) if column.attack in known else ""
                for column in grid.columns
            ]
            yield Line((*("",) * (len(line.stub) - 1), "  reference"), [Cell(text, text) for text in texts])
