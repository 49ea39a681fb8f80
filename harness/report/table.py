"""Rows of the store to text: the shape of a leaderboard, and the flat lists for programs.

JSON is a list of objects, one a cell and metric, CSV the same columns (``FIELDS``): profile, dataset, model, defense,
attack, norm (null for an unperturbed attack), eps, seed, metric, value, low, high, n, unit, status, verdict, reasons
(a list of {code, verdict, text}), reference (a fraction or null), key, run, against_difference (a fraction or null),
against_p (or null). A cell without numbers is one object whose value, low and high are null and whose first reason
says why; so is a metric that failed on a cell that has its samples, with the status "failed".
"""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from io import StringIO
from typing import Any

from harness.errors import unknown
from harness.report import captions
from harness.report.against import Against, coordinate
from harness.report.formats import latex, markdown, terminal
from harness.report.layout import Reference, layout, published
from harness.request import Matrix
from harness.store.queries import Row, captioning_datasets, leaderboard
from harness.store.reading import Reader
from harness.types import Status, Verdict

FORMATS = ("rich", "markdown", "latex", "csv", "json")
FIELDS = (
    *("profile", "dataset", "model", "defense", "attack", "norm", "eps", "seed", "metric", "value", "low", "high"),
    *("n", "unit", "status", "verdict", "reasons", "reference", "key", "run", "against_difference", "against_p"),
)


def render(
    rows: Sequence[Row],
    *,
    format: str,
    metric: str | None = None,
    reference: Reference | None = None,
    against: Against | None = None,
    width: int | None = None,
    rows_limit: int = 100,
    color: bool = False,
    captioned: Collection[str] = (),
    order: Sequence[str] = (),
    sentences: captions.Published | None = None,
) -> str:
    """A leaderboard as text.

    ``metric`` is what the tables show (accuracy unless given) and what JSON and CSV are limited to (all unless given).
    ``captioned`` are data sets that sentences are asked of: with no metric given, their models get tables of their own,
    with all metrics in this ``order`` and the published ``sentences`` beside. ``width`` (None: no limit),
    ``rows_limit`` (models; 0: all) and ``color`` are for the terminal. Raises BenchError for an unknown format.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    if format in ("json", "csv"):
        objects = list(flat(rows, metric, reference, against))
        return _json(objects) if format == "json" else _csv(objects)
    limit = rows_limit if format == "rich" else 0
    said = [row for row in rows if row.dataset in captioned] if metric is None else []
    others = [row for row in rows if row.dataset not in captioned] if metric is None else rows
    of_classes = against and against._replace(sentences={})
    grids = layout(others, metric or "accuracy", reference or {}, limit, of_classes)
    grids += captions.grids(said, order, sentences, limit, against)
    if not grids:
        return "no cells"
    if format == "rich":
        return terminal(grids, width=width, color=color)
    return "\n\n".join(map(markdown if format == "markdown" else latex, grids))


def read(
    reader: Reader, *, format: str, metric: str | None, profile: str | None, run: str | None, matrix: Matrix | None
) -> tuple[list[Row], frozenset[str]]:
    """What ``render`` shows, and the data sets among it that sentences are asked of, whose rows have all their scores.

    matrix: only its models and attacks.
    """
    wanted = metric_read(format, metric)
    rows = leaderboard(reader, profile=profile, run=run, metric=wanted)
    captioned = captioning_datasets(reader) if metric is None else frozenset[str]()
    if captioned and wanted is not None:
        said = [row for name in captioned for row in leaderboard(reader, profile=profile, run=run, dataset=name)]
        place = {row.key: row for row in said}
        rows = [place.get(row.key, row) if row.dataset in captioned else row for row in rows]
    if matrix is not None:
        attacks = set(matrix.attacks)
        rows = [row for row in rows if row.model in matrix.models and row.attack.partition("@")[0] in attacks]
    return rows, captioned


def metric_read(format: str, metric: str | None) -> str | None:
    """The one metric that ``render`` will show, so that no other is read from the store; None: all of them."""
    return metric if metric or format in ("json", "csv") else "accuracy"


def flat(
    rows: Iterable[Row],
    metric: str | None = None,
    reference: Reference | None = None,
    against: Against | None = None,
) -> Iterator[dict[str, Any]]:
    """One mapping with the keys ``FIELDS`` for each cell and metric; see the head of this file."""
    told = {"accuracy": against.contrasts, captions.DECIDES: against.sentences} if against else {}
    for row in rows:
        found = [score for score in row.scores if metric in (None, score.metric)]
        reasons = [{"code": code, "verdict": str(verdict), "text": text} for code, verdict, text in row.reasons]
        failed = [(name, reason) for name, reason in row.unmeasured if metric in (None, name)]
        yield from (_failed(row, name, reason, reasons) for name, reason in failed)
        for score in found or (() if failed else (None,)):
            name = score.metric if score else metric or "accuracy"
            percent = published(row, reference or {}) if name == "accuracy" else None
            contrast = told.get(name, {}).get(coordinate(row))
            yield {
                **{field: getattr(row, field) for field in FIELDS[:8]},
                "metric": name,
                "value": score.value if score else None,
                "low": score.low if score else None,
                "high": score.high if score else None,
                "n": score.n if score else row.n,
                "unit": score.unit if score else None,
                "status": row.status,
                "verdict": row.verdict,
                "reasons": reasons,
                "reference": None if percent is None else round(percent / 100, 10),
                "key": row.key,
                "run": row.run,
                "against_difference": contrast.difference if contrast else None,
                "against_p": contrast.p if contrast else None,
            }


def _failed(row: Row, metric: str, reason: str, doubts: list[dict[str, str]]) -> dict[str, Any]:
    """A metric that failed, as ``flat`` has it."""
    why = {"code": "failed", "verdict": str(Verdict.INVALID), "text": reason}
    return {
        **dict.fromkeys(FIELDS),
        **{field: getattr(row, field) for field in FIELDS[:8]},
        "metric": metric,
        "n": row.n,
        "status": str(Status.FAILED),
        "verdict": str(Verdict.INVALID),
        "reasons": [why, *doubts],
        "key": row.key,
        "run": row.run,
    }


def _json(objects: Iterable[dict[str, Any]]) -> str:
    # A line an object: easy to search, and json's own indenting is several times slower.
    return "[\n" + ",\n".join(json.dumps(item, ensure_ascii=False) for item in objects) + "\n]"


def _csv(objects: Iterable[dict[str, Any]]) -> str:
    out = StringIO()
    writer = csv.DictWriter(out, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**item, "reasons": json.dumps(item["reasons"], ensure_ascii=False)} for item in objects)
    return out.getvalue().rstrip("\n")
