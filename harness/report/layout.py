"""The shape of a leaderboard: a line a model, a group of columns a defense, a column an attack; doubts below."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from harness.report.against import Against, coordinate
from harness.report.formats import Cell, Column, Grid, Line
from harness.store.queries import Row, StoredScore
from harness.types import eps_text

MARKS = {"ok": "", "suspect": "?", "invalid": "!"}
WITHOUT_NUMBER = {"failed": "x", "interrupted": "...", "skipped": "-"}  # worst first
MEANING = {"?": "suspect", "!": "invalid", "x": "failed", "...": "not finished", "-": "skipped"}
LEGEND = 30  # doubts listed where the number of lines is limited
TARGETS = 3  # cells named for one doubt

Reference = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Percent by model, defense and attack: published accuracies to stand beside the measured ones."""


class Slot(NamedTuple):
    """What makes a column."""

    defense: str
    attack: str
    norm: str | None
    eps: float | None


class Section(NamedTuple):
    """The cells of one profile, in lines (data set and model) and columns, in the order that the runs gave them."""

    profile: str
    metric: str
    slots: list[Slot]
    threats: list[str]
    seeds: list[int]
    lines: dict[tuple[str, str], dict[Slot, list[Row]]]

    @property
    def datasets(self) -> list[str]:
        return list(dict.fromkeys(dataset for dataset, _ in self.lines))


def published(row: Row, reference: Reference) -> float | None:
    """The reference for a cell in percent, None where there is none."""
    return reference.get(row.model, {}).get(row.defense, {}).get(row.attack)


def layout(
    rows: Sequence[Row], metric: str, reference: Reference, limit: int, against: Against | None = None
) -> list[Grid]:
    """One grid a profile, of at most ``limit`` models in all (0: no limit).

    References and differences to a base model belong to accuracy alone.
    """
    profiles: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        profiles[row.profile].append(row)
    grids, left = [], limit
    for found in profiles.values():
        section = _sort(found, metric)
        beside = (
            (reference, against) if metric == "accuracy" else ({}, against if against and against.sentences else None)
        )
        grids.append(_grid(section, *beside, left if limit else None))
        left = max(0, left - len(section.lines))
    return grids


def _sort(rows: Sequence[Row], metric: str) -> Section:
    cells: dict[tuple[str, str], dict[Slot, list[Row]]] = {}
    lines: dict[tuple[str, str], int] = {}
    slots: dict[Slot, int] = {}
    for row in rows:
        line, position = (row.dataset, row.model), row.position
        slot = Slot._make(row[3:7])  # twice as fast as by name: this loop sees every cell of the store
        cells.setdefault(line, {}).setdefault(slot, []).append(row)
        lines[line] = min(position, lines.get(line, position))
        slots[slot] = min(position, slots.get(slot, position))
    in_order = sorted(slots, key=slots.__getitem__)
    defenses = list(dict.fromkeys(slot.defense for slot in in_order))
    return Section(
        profile=rows[0].profile,
        metric=metric,
        # By the earliest place in a run, so that the undefended columns stay first when they are run again.
        slots=sorted(in_order, key=lambda slot: defenses.index(slot.defense)),
        threats=list(dict.fromkeys(threat_text(slot.norm, slot.eps) for slot in in_order if slot.norm)),
        seeds=sorted({row.seed for row in rows}),
        lines={line: cells[line] for line in sorted(lines, key=lines.__getitem__)},
    )


def _grid(section: Section, reference: Reference, against: Against | None, limit: int | None) -> Grid:
    shown = list(section.lines)[:limit]
    several = len(section.datasets) > 1
    lines: list[Line] = []
    for line in shown:
        stub = line if several else line[1:]
        lines.append(Line(stub, [_cell(section.lines[line].get(slot, ()), section.metric) for slot in section.slots]))
        lines += _reference_lines(section, line, reference, len(stub))
        lines += _against_lines(section, line, against, len(stub))
    return Grid(
        title=_title(section, shown),
        stub=("dataset", "model") if several else ("model",),
        columns=[Column(slot.defense, slot.attack, _threat(section, slot)) for slot in section.slots],
        lines=lines,
        notes=[*_against_notes(against), *_notes(section, shown, limit), *_more(len(section.lines) - len(shown))],
    )


# --- cells


def _cell(rows: Sequence[Row], metric: str) -> Cell:
    """The text for one place in the table: one row, or one a seed, or none where nothing was planned."""
    if not rows:
        return Cell()
    scores = [score for row in rows for score in row.scores if score.metric == metric]
    if not scores:
        failed = any(name == metric for row in rows for name, _ in row.unmeasured)
        return Cell("x failed", "x failed", "x") if failed else _without_number(rows)
    mark = _worst([row.verdict for row in rows if row.status == "ok"], MARKS)
    prefix = f"{mark} " if mark else ""
    short, rest = _numbers(scores, len(rows))
    return Cell(f"{prefix}{short}{rest}", f"{prefix}{short}", mark)


def _without_number(rows: Sequence[Row]) -> Cell:
    mark = _worst([row.status for row in rows], {"ok": ""} | dict(reversed(WITHOUT_NUMBER.items())))
    text = {"x": "x failed", "": "n/a"}.get(mark, mark)  # n/a: the metric does not apply
    return Cell(text, text, mark)


def _worst(found: Sequence[str], marks: Mapping[str, str]) -> str:
    return marks[max(found, key=list(marks).index)]


def _numbers(scores: Sequence[StoredScore], planned: int) -> tuple[str, str]:
    """The number and what may be left out: its interval, or over several seeds the deviation and how many there are."""
    unit = scores[0].unit
    if planned == 1:
        value, low, high = scores[0].value, scores[0].low, scores[0].high
        rest = "" if low is None or high is None else f" [{number_text(low, unit)}, {number_text(high, unit)}]"
        return number_text(value, unit), rest
    mean = math.fsum(score.value for score in scores) / len(scores)
    count = f"{len(scores)}" if len(scores) == planned else f"{len(scores)} of {planned}"
    if len(scores) == 1:
        return number_text(mean, unit), f" ({count})"
    deviation = math.sqrt(math.fsum((score.value - mean) ** 2 for score in scores) / (len(scores) - 1))
    return number_text(mean, unit), f" ± {number_text(deviation, unit)} ({count})"


def _reference_lines(section: Section, line: tuple[str, str], reference: Reference, width: int) -> list[Line]:
    """The published percentages under a model's line, and how far the measured ones are from them, in points."""
    if line[1] not in reference:
        return []
    published_cells, differences = [], []
    for slot in section.slots:
        rows = section.lines[line].get(slot, [])
        target = published(rows[0], reference) if rows else None
        values = [score.value for row in rows for score in row.scores if score.metric == section.metric]
        known = "" if target is None else f"{target:.1f}"
        points = "" if target is None or not values else points_text(100 * math.fsum(values) / len(values) - target)
        published_cells.append(Cell(known, known))
        differences.append(Cell(points, points))
    blank = ("",) * (width - 1)
    return [Line((*blank, "  reference"), published_cells), Line((*blank, "  difference"), differences)]


def _against_lines(section: Section, line: tuple[str, str], against: Against | None, width: int) -> list[Line]:
    """How far a model's line is from the base's, in points; over several seeds their mean, marked if each differs."""
    contrasts = (against.sentences or against.contrasts) if against else {}
    cells = []
    for slot in section.slots:
        rows = section.lines[line].get(slot, [])
        found = [contrasts[coordinate(row)] for row in rows if coordinate(row) in contrasts]
        mark = "*" if all(contrast.significant for contrast in found) else ""
        mean = 100 * math.fsum(contrast.difference for contrast in found) / len(found) if found else None
        text = "" if mean is None else points_text(mean) + mark
        cells.append(Cell(text, text))
    return [Line((*("",) * (width - 1), "  vs base"), cells)] if any(cell.full for cell in cells) else []


def _against_notes(against: Against | None) -> Iterator[str]:
    if against and against.sentences:
        yield (
            f"vs base: points of BLEU-4 more or less than {against.base}, on the same images; * p < 0.05 (paired "
            "bootstrap over images, Holm-adjusted over all differences)"
        )
    elif against and not against.contrasts:
        yield f"vs base: no other model was measured on the samples of {against.base}"
    elif against:
        family = f"all {count} differences" if (count := len(against.contrasts)) > 1 else "the one difference"
        yield (
            f"vs base: points more or less than {against.base} in the same column, on the same samples; * p < 0.05 "
            f"(McNemar's test, Holm-adjusted over {family} of the table)"
        )


# --- words


def points_text(difference: float) -> str:
    """A difference in points with its sign and one decimal."""
    return f"{round(difference, 1) + 0.0:+.1f}"  # adding zero turns -0.0 into +0.0


def threat_text(norm: str | None, eps: float | None) -> str:
    """``Linf 8/255``; empty for an unperturbed attack."""
    return " ".join(part for part in (norm, None if eps is None else eps_text(eps)) if part)


def p_text(p: float) -> str:
    """``= 0.012``: two significant figures, and no more zeros than anybody reads."""
    return "< 0.0001" if p < 0.0001 else f"= {p:.2g}"


def number_text(value: float, unit: str) -> str:
    """A fraction as percent with one decimal; anything else with three significant digits."""
    if unit == "fraction":
        return f"{100 * value:.1f}"
    return f"{value:.0f}" if 999.5 <= abs(value) < 1e6 else f"{value:#.3g}".rstrip(".")


def _threat(section: Section, slot: Slot) -> str:
    """A column's threat where there are several; the title carries the only one."""
    return threat_text(slot.norm, slot.eps) if len(section.threats) > 1 else ""


def _title(section: Section, shown: Sequence[tuple[str, str]]) -> str:
    """What the numbers are: metric and unit, profile, data, threat, n, seeds."""
    rows = [row for line in shown for found in section.lines[line].values() for row in found]
    scores = [score for row in rows for score in row.scores if score.metric == section.metric]
    units = {score.unit for score in scores}
    unit = " (%)" if "fraction" in units else f" ({', '.join(sorted(units - {''}))})" if units - {""} else ""
    parts = [", ".join(section.datasets), ", ".join(section.threats) or "no perturbation"]
    if scores:
        low, high = min(score.n for score in scores), max(score.n for score in scores)
        parts.append(f"n = {low}" if low == high else f"n = {low} to {high}")
    if len(section.seeds) > 1:
        parts.append(f"mean ± standard deviation (seeds), {len(section.seeds)} seeds")
    else:
        parts.append(f"seed {section.seeds[0]}")
        if any(score.low is not None for score in scores):
            parts.append("[95 % interval]")
    return f"{section.metric}{unit}, profile {section.profile}: {'; '.join(parts)}"


def _notes(section: Section, shown: Sequence[tuple[str, str]], limit: int | None) -> Iterator[str]:
    """What the marks mean, then each doubt with the cells it is about."""
    several = len(section.datasets) > 1
    doubts: dict[tuple[str, str], list[str]] = {}
    for dataset, model in shown:
        for slot, rows in section.lines[dataset, model].items():
            name = " / ".join([*([dataset] if several else []), model, slot.defense])
            for row in rows:
                seed = f", seed {row.seed}" if len(section.seeds) > 1 else ""
                target = f"{name} / {slot.attack} {_threat(section, slot)}".rstrip() + seed
                for mark, text in (*_doubts(row), *_unmeasured(row, section.metric)):
                    doubts.setdefault((mark, text), []).append(target)
    if not doubts:
        return
    marks = [mark for mark in MEANING if any(mark == found for found, _ in doubts)]
    yield "; ".join(f"{mark} {MEANING[mark]}" for mark in marks)
    listed = list(doubts.items())[: None if limit is None else LEGEND]
    yield from (f"{mark} {_names(targets)}: {text}" for (mark, text), targets in listed)
    if len(listed) < len(doubts):
        yield f"{len(doubts) - len(listed)} more notes; --format json has them all"


def _doubts(row: Row) -> Iterator[tuple[str, str]]:
    for code, verdict, text in row.reasons:
        mark = WITHOUT_NUMBER[row.status] if code == row.status else MARKS[verdict]
        if mark:
            yield mark, " ".join(text.split())


def _unmeasured(row: Row, metric: str) -> Iterator[tuple[str, str]]:
    return ((WITHOUT_NUMBER["failed"], reason) for name, reason in row.unmeasured if name == metric)


def _names(targets: Sequence[str]) -> str:
    rest = len(targets) - TARGETS
    return "; ".join(targets[:TARGETS]) + (f" and {rest} more" if rest > 0 else "")


def _more(hidden: int) -> Iterator[str]:
    if hidden:
        yield f"{hidden} more rows; --rows 0 shows all, --format csv or json writes all"
