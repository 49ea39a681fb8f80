"""All rules about one component: for a test, and for ``bench check``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harness.contract import attacks, datasets, defenses, everything, metrics, models  # noqa: F401, they add rules
from harness.contract.rule import RULES, Candidate, Claim, Result, Rule, State
from harness.errors import unknown
from harness.types import KINDS


def rules_of(kind: str) -> list[Rule]:
    """Those of every component first. Raises BenchError for an unknown kind."""
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    return [*(rule for rule in RULES if not rule.kind), *(rule for rule in RULES if rule.kind == kind)]


def rules(kind: str, name: str, *, data: Sequence[str] = (), **parameters: Any) -> list[Claim]:
    """Each rule about a component that is installed, with these parameters; for ``pytest.mark.parametrize``."""
    return claims(Candidate(kind, name, parameters, data=data))


def claims(candidate: Candidate) -> list[Claim]:
    return [Claim(rule, candidate) for rule in rules_of(candidate.kind)]


def check(candidate: Candidate) -> list[Result]:
    """What comes of every rule. Where the component cannot be made, of the first alone, which says so."""
    first, *others = claims(candidate)
    found = first.result()
    return [found] if candidate.configured.fault else _told_once([found, *(claim.result() for claim in others)])


def _told_once(found: Sequence[Result]) -> list[Result]:
    """A hook that gives the wrong thing breaks the first rule that calls it; the others cannot be told."""
    causes: dict[str, str] = {}
    told = []
    for result in found:
        cause, gave, _ = result.detail.partition(" gave ")
        if result.state is State.FAILED and gave and " breaks the boundary: " in cause:
            if cause in causes:
                result = replace(result, state=State.OTHER, detail=f"cannot be told, for {causes[cause]} is broken")
            causes.setdefault(cause, result.rule)
        told.append(result)
    return told


def assert_contract(kind: str, name: str, *, data: Sequence[str] = (), **parameters: Any) -> None:
    """Raises AssertionError that names every broken rule."""
    broken = [r for r in check(Candidate(kind, name, parameters, data=data)) if r.state is State.FAILED]
    assert not broken, f"{kind} {name}: " + "; ".join(f"{r.rule} ({r.sentence}): {r.detail}" for r in broken)
