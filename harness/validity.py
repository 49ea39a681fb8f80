"""The checks behind a verdict: what a number says against itself.

``own`` looks at one cell's outcomes; ``siblings`` at cells that attack the same weights on the same samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.store.records import Sibling
from harness.types import Outcome, Reason, Threat, Verdict

TOLERANCE = 1e-5
"""Float32 noise allowed at the edge of the budget and of [0, 1], in pixel units."""

MARGIN = 0.005
"""Accuracies (fractions) of two attacks on the same samples that differ by no more are not held against each other."""


def own(outcome: Outcome, threat: Threat | None) -> list[Reason]:
    """What one cell's outcomes say: budget, pixel domain, nothing changed, and what the engine noted."""
    return [*outcome.notes, *_budget(outcome, threat), *_domain(outcome), *_unchanged(outcome, threat)]


def siblings(cells: Sequence[Sibling]) -> Mapping[str, Sequence[Reason]]:
    """Reasons by cell key: adversarial accuracy above clean, an attack weaker than one it must beat."""
    return {cell.key: [*_above_clean(cell, cells), *_weaker(cell, cells)] for cell in cells}


def _budget(outcome: Outcome, threat: Threat | None) -> list[Reason]:
    if threat is None:
        return []
    over = outcome.proposal_size > threat.eps * (1 + 1e-4) + TOLERANCE
    if not over.any():
        return []
    largest = outcome.proposal_size.max()
    text = (
        f"{int(over.sum())} of {len(over)} perturbations were over the budget {threat.norm} {threat.eps:.4g} before "
        f"clipping, the largest {largest:.4g}"
    )
    return [Reason("over_budget", Verdict.SUSPECT, text)]


def _domain(outcome: Outcome) -> list[Reason]:
    low, high = outcome.proposal_low, outcome.proposal_high
    if low >= -TOLERANCE and high <= 1 + TOLERANCE:
        return []
    text = f"pixels ran from {low:.4g} to {high:.4g} before clipping; [0, 1] is the domain"
    return [Reason("outside_domain", Verdict.SUSPECT, text)]


def _unchanged(outcome: Outcome, threat: Threat | None) -> list[Reason]:
    """An attack that hands back the images it was given says nothing about robustness."""
    standing = outcome.clean_correct
    if threat is None or threat.eps == 0 or not standing.any():
        return []
    same = outcome.linf[standing] == 0
    if not same.any():
        return []
    text = f"{int(same.sum())} of {len(same)} adversarial images of rightly classified samples equal the clean ones"
    return [Reason("unchanged", Verdict.INVALID if same.all() else Verdict.SUSPECT, text)]


def _above_clean(cell: Sibling, cells: Sequence[Sibling]) -> list[Reason]:
    for clean in cells:
        if clean.norm is None and cell.norm is not None and cell.accuracy > clean.accuracy + MARGIN:
            text = f"clean accuracy {clean.accuracy:.2%} is below the adversarial accuracy {cell.accuracy:.2%}"
            return [Reason("clean_below_adversarial", Verdict.INVALID, text)]
    return []


def _weaker(cell: Sibling, cells: Sequence[Sibling]) -> list[Reason]:
    same_threat = [c for c in cells if (c.norm, c.eps) == (cell.norm, cell.eps) and c.attack in cell.stronger_than]
    beaten = [c for c in same_threat if cell.accuracy > c.accuracy + MARGIN]
    if not beaten:
        return []
    by = min(beaten, key=lambda c: c.accuracy)
    text = f"{cell.attack} leaves {cell.accuracy:.2%}, the simpler {by.attack} only {by.accuracy:.2%}"
    return [Reason(f"weaker_than_{by.attack}", Verdict.SUSPECT, text)]
