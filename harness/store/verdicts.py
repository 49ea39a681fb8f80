"""What cells of one subject say about each other: read the group, let the caller judge it, store the doubts."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from harness.store.records import Sibling
from harness.store.rows import reason_rows, worst
from harness.store.schema import cells, reasons, scores
from harness.types import Reason, Status, Verdict

Relate = Callable[[Sequence[Sibling]], Mapping[str, Sequence[Reason]]]
"""From all cells of a subject to the doubts that each key earns in comparison with the others."""


def judge_group(connection: Connection, subject: str, relate: Relate) -> None:
    """Replace the 'siblings' reasons of every ok cell of ``subject`` and set each verdict anew.

    Raises ValueError when ``relate`` speaks of a cell that is not in the group.
    """
    group = _siblings(connection, subject)
    keys = [sibling.key for sibling in group]
    found = relate(group) if group else {}
    if strangers := set(found) - set(keys):
        raise ValueError(f"reasons for cells that are not siblings in subject {subject}: {sorted(strangers)}")
    of_subject = reasons.c.cell_key.in_(select(cells.c.key).where(cells.c.subject == subject))
    connection.execute(delete(reasons).where(reasons.c.scope == "siblings", of_subject))
    if rows := [row for key in keys for row in reason_rows(key, "siblings", found.get(key, ()))]:
        connection.execute(insert(reasons), rows)
    stored: defaultdict[str, list[Reason]] = defaultdict(list)
    for row in connection.execute(select(reasons).where(of_subject)):
        stored[row.cell_key].append(Reason(row.code, Verdict(row.verdict), row.text))
    _update_verdicts(connection, ((key, worst(stored[key])) for key in keys))


def _siblings(connection: Connection, subject: str) -> list[Sibling]:
    c, s = cells.c, scores.c
    columns = (c.key, c.attack, c.norm, c.eps, s.value, s.n, c.stronger_than, c.access, c.family)
    accuracy = (s.cell_key == c.key) & (s.metric == "accuracy")
    query = select(*columns).join(scores, accuracy).where(c.subject == subject, c.status == Status.OK.value)
    query = query.where(s.value.is_not(None))
    found = connection.execute(query.order_by(c.key))
    return [Sibling(*row[:6], tuple(json.loads(row.stronger_than)), row.access, row.family) for row in found]


def _update_verdicts(connection: Connection, verdicts: Iterable[tuple[str, Verdict]]) -> None:
    changes = [{"cell": key, "worst": verdict.value} for key, verdict in verdicts]
    if changes:
        statement = update(cells).where(cells.c.key == bindparam("cell")).values(verdict=bindparam("worst"))
        connection.execute(statement, changes)
