"""``bench check``: what holds of the contract, and what does not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from harness import layers
from harness.errors import BenchError, unknown
from harness.report.columns import columns
from harness.types import KINDS

if TYPE_CHECKING:
    from harness.contract import Candidate, Result


def checked(
    name: str, kind: str | None, profile: str, path: str | None, settings: Sequence[str], data: Sequence[str]
) -> tuple[Candidate, list[Result]]:
    """A component as ``bench run`` would make it, held against every rule. Raises BenchError for an unknown name."""
    tables = layers.with_settings(layers.profiled(layers.read(path), profile), settings)
    if kind is None:
        kinds = [kind for kind in KINDS if _is_there(tables, kind, name)]
        if not kinds:
            raise unknown("bench check", name, {other for kind in KINDS for other in layers.available(tables, kind)})
        if len(kinds) > 1:
            raise BenchError(f"bench check {name}: there is one of {' and one of '.join(kinds)}; say which by --kind")
        kind = kinds[0]
    elif kind not in KINDS:
        raise unknown("--kind", kind, KINDS)
    layers.check(tables, kind, name, f"bench check: {kind}")
    from harness.contract import Candidate, check

    candidate = Candidate(kind, name, tables=tables, data=data)
    return candidate, check(candidate)


def _is_there(tables: layers.Table, kind: str, name: str) -> bool:
    return name in layers.available(tables, kind) or layers.inline(kind, name) is not None


def is_broken(found: Sequence[Result]) -> bool:
    return any(result.state == "failed" for result in found)


def as_text(candidate: Candidate, found: Sequence[Result]) -> str:
    """One row a rule with what was measured; what is broken also with the rule in words."""
    made = candidate.configured
    counts = Counter(result.state.value for result in found)
    lines = [
        f"{candidate.name} ({candidate.kind}, {made.component_name} of {made.distribution} {made.version}): "
        + ", ".join(f"{count} {state}" for state, count in counts.items()),
        columns([(result.rule, result.state.value, result.detail) for result in found]),
        *(f"{result.rule} is broken: {result.sentence}" for result in found if result.state == "failed"),
    ]
    return "\n".join(lines)


def as_json(candidate: Candidate, found: Sequence[Result]) -> str:
    made = candidate.configured
    told = {
        "kind": candidate.kind,
        "name": candidate.name,
        "component": made.component_name,
        "distribution": made.distribution,
        "version": made.version,
        "parameters": made.parameters,
        "holds": not is_broken(found),
        "rules": [asdict(result) for result in found],
    }
    return json.dumps(told, default=str)
