"""What was measured, as code and notebooks want it: cells, a table, a data frame, figures. Read from a store."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from harness.errors import BenchError
from harness.report.table import FIELDS, flat, render
from harness.store.queries import Row, StoredScore
from harness.types import Reason, eps_text

if TYPE_CHECKING:
    import pandas

    from harness.layers import Table as Tables
    from harness.request import Options
    from harness.run import Places
    from harness.types import Outcome

LEFT_OUT = ("reference", "against_difference", "against_p")
"""Columns of the command's exports that are empty unless one asks for a comparison."""


class Table(str):
    """A table as text; notebooks show it as HTML."""

    html: str

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return self.html


@dataclass(frozen=True)
class Cell:
    """One cell: a model under a defense and an attack.

    status: "ok", "failed", "skipped" or "interrupted"; only the first has scores. verdict: "ok", "suspect" or
    "invalid", with reasons. norm and eps (pixel units) are None for an attack that perturbs nothing.
    """

    dataset: str
    model: str
    defense: str
    attack: str
    norm: str | None
    eps: float | None
    seed: int
    status: str
    verdict: str
    reasons: tuple[Reason, ...]
    scores: Mapping[str, StoredScore] = field(repr=False)
    n: int
    key: str = field(repr=False)
    _of: Results = field(repr=False, compare=False)  # whose folder is to stay as long as somebody asks for outcomes

    @property
    def accuracy(self) -> float:
        """The share of the samples that are classified rightly, after the attack. Raises BenchError without one."""
        return self.score("accuracy").value

    def score(self, metric: str) -> StoredScore:
        """A number with its 95 % interval. Raises BenchError where there is none."""
        if metric not in self.scores:
            why = "; ".join(reason.text for reason in self.reasons) if self.status != "ok" else ""
            raise BenchError(
                f"{self}: {self.status}, has no {metric}" + (f": {why}" if why else f"; has {', '.join(self.scores)}")
            )
        return self.scores[metric]

    @property
    def outcome(self) -> Outcome:
        """What happened to every sample, as arrays. Raises BenchError for a cell without numbers, and for captions."""
        from harness.store.store import open_store

        if self.status != "ok":
            raise BenchError(f"{self}: {self.status}, has no outcome: {'; '.join(r.text for r in self.reasons)}")
        with open_store(self._of.store) as store:
            found = store.outcome(self.key)
        if not len(found.ids):
            raise BenchError(f"{self}: is of captions, whose outcomes need their references; `bench show` tells of it")
        return found

    def __str__(self) -> str:
        threat = "" if self.eps is None else f":{self.norm}:{eps_text(self.eps)}"
        return f"{self.model}/{self.defense}/{self.attack}{threat}"

    @property
    def _words(self) -> tuple[Any, ...]:
        threat = () if self.eps is None else (self.norm, self.eps, eps_text(self.eps))
        return (self.model, self.defense, self.attack, self.dataset, *threat)


@dataclass(frozen=True)
class Drawing:
    """What figures need beside a store: what was asked for, and where its weights lie."""

    options: Options
    places: Places
    given: Tables


@dataclass(frozen=True)
class Results(Sequence[Cell]):
    """Cells in the order of their run. Shows itself as a table.

    ``results["pgd"]``, ``results["mine", "pgd", 8 / 255]`` is the one cell that has these names, budgets or norms.
    """

    rows: tuple[Row, ...] = field(repr=False)
    captioned: frozenset[str] = field(repr=False)
    store: str
    _drawing: Drawing | None = field(default=None, repr=False)
    _scratch: Any = field(default=None, repr=False)  # the folder goes when nobody holds the results any longer

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Cell]:
        return (self._cell(row) for row in self.rows)

    @overload
    def __getitem__(self, which: int | str | tuple[Any, ...]) -> Cell: ...

    @overload
    def __getitem__(self, which: slice) -> list[Cell]: ...

    def __getitem__(self, which: Any) -> Any:
        """By place, by slice, or by what names one cell alone. Raises BenchError where it names none, or several."""
        if isinstance(which, int):
            return self._cell(self.rows[which])
        if isinstance(which, slice):
            return [self._cell(row) for row in self.rows[which]]
        wanted = which if isinstance(which, tuple) else tuple(str(which).split("/"))
        found = [cell for cell in self if which == str(cell) or all(word in cell._words for word in wanted)]
        if len(found) == 1:
            return found[0]
        among = found or list(self)
        listed = ", ".join(map(str, among[:6])) + (f" and {len(among) - 6} more" if len(among) > 6 else "")
        raise BenchError(f"results[{which!r}]: {'several cells' if found else 'no such cell'}; there are {listed}")

    def table(self, metric: str | None = None, format: str = "rich") -> Table:
        """The leaderboard of one metric, accuracy unless given. format: rich, markdown, latex, csv or json."""
        from harness.api.page import page
        from harness.report.layout import layout

        if metric is not None and metric not in (known := {s.metric for row in self.rows for s in row.scores}):
            from harness.errors import unknown

            raise unknown("metric", metric, known)
        width = None
        if sys.stdout.isatty():
            import shutil

            width = shutil.get_terminal_size().columns
        table = Table(render(self.rows, format=format, metric=metric, width=width, captioned=self.captioned))
        table.html = page(layout(self.rows, metric or "accuracy", {}, 0))
        return table

    def to_pandas(self) -> pandas.DataFrame:
        """One row a cell and metric: names, value with its interval, n, status, verdict, reasons as text."""
        try:
            import pandas
        except ImportError as error:
            raise BenchError("to_pandas: pandas is not installed; pip install 'adversarial-bench[pandas]'") from error
        columns = [name for name in FIELDS if name not in LEFT_OUT]
        rows = [{**row, "reasons": "; ".join(reason["text"] for reason in row["reasons"])} for row in flat(self.rows)]
        return pandas.DataFrame(rows, columns=columns)

    def figures(self, folder: str | Path, kinds: Sequence[str] = (), *, samples: int = 10) -> list[Path]:
        """Draws what is finished into a folder, PNG and PDF; all kinds unless given. The files.

        Raises BenchError for results that were read from a store, which does not know what was asked for.
        """
        from harness.illustration.drawing import Wanted, draw
        from harness.run import prospect

        if self._drawing is None:
            raise BenchError(
                "figures: of results that evaluate returned, for the models are needed; call it with this store, and "
                "nothing is run twice, or use `bench figures`"
            )
        options, places, given = self._drawing.options, self._drawing.places, self._drawing.given
        found = prospect(options, places, dry=True, given=given)
        drawn = draw(found, places, Wanted(tuple(kinds), samples), Path(folder), lambda text: None)
        return list(drawn.files)

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()

    def _cell(self, row: Row) -> Cell:
        scores = {score.metric: score for score in row.scores}
        names = (row.dataset, row.model, row.defense, row.attack, row.norm, row.eps, row.seed)
        return Cell(*names, row.status, row.verdict, row.reasons, scores, row.n, row.key, self)


def results(store: str | Path = "results.db", *, run: str | None = None, profile: str | None = None) -> Results:
    """What a store has: the newest cell of each coordinate, or those of one run. Raises BenchError for none."""
    return read(str(store), run=run, profile=profile)


def read(
    store: str,
    *,
    run: str | None = None,
    profile: str | None = None,
    drawing: Drawing | None = None,
    scratch: Any = None,
) -> Results:
    """The same with what figures need, and with a folder that is to be kept as long as the results."""
    from harness.store.queries import captioning_datasets, check_names, leaderboard
    from harness.store.reading import open_reader

    with contextlib.closing(open_reader(store)) as reader:
        check_names(reader, profile=profile, metric=None)
        rows = tuple(leaderboard(reader, run=run, profile=profile))
        return Results(rows, captioning_datasets(reader), store, drawing, scratch)
