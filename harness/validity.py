"""The checks behind a verdict: what a number says against itself.

``own`` looks at one cell's outcomes; ``siblings`` at cells that attack the same weights on the same samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.statistics import rate
from harness.store.records import Sibling
from harness.types import CaptionOutcome, Outcome, Reason, Threat, Verdict

TOLERANCE = 1e-5
"""Float32 noise allowed at the edge of the budget and of [0, 1], in pixel units."""

MARGIN = 0.005
"""Accuracies (fractions) of two attacks on the same samples that differ by no more are not held against each other."""


REPEATED = 1e-3
"""Largest difference, as a share of the largest logit, between two answers to the same images that are called equal."""

PROBE = 0.05
"""Share of the samples standing that a short attack without gradients may turn."""

ZERO = 0.1
"""Share of zero gradients, over the samples that stand at the end, above which they say nothing about robustness."""

GAP = 50.0
"""Median distance between the two largest logits from which a float32 softmax is as good as one and zero."""

RISING = 0.8
"""Share of samples whose loss must rise after a small step along its gradient: nearly all where it is one, half where
it is noise; of 24 samples that are half, 20 rise once in a thousand times."""

PRECISION = 0.002
"""Largest difference (fraction) that a lower precision, or another look at the same images, may make to an accuracy."""

WIDEST = 0.2
"""Widest 95 % interval (fraction) of an accuracy that can be told from others."""


def own(outcome: Outcome, threat: Threat | None, *, access: str = "gradient", draws: int = 1) -> list[Reason]:
    """What one cell's outcomes say, and what the engine noted.

    access: what the attack saw of the model, "gradient", "scores", or "" (a corruption, images made on another model):
    its number makes no claim about the model's gradients. draws: looks that the attack averages (EOT).
    """
    found = [*outcome.notes, *_few(outcome), *_normalised(outcome, threat)]
    if threat is None:
        return found
    if outcome.proposal_prediction is None:  # a minimum-norm attack has no budget to keep and no reason to stop at one
        found += [*_budget(outcome, threat), *_unchanged(outcome, threat)]
    found += [*_domain(outcome), *_same_answers(outcome), *_quantised(outcome)]
    if access == "gradient":
        found += [*_random(outcome, draws), *_gradients(outcome)]
    if access:
        found += _probed(outcome, threat)
    return found


def of_captions(outcome: CaptionOutcome, threat: Threat | None) -> list[Reason]:
    """What one cell's captions say, and what the engine noted."""
    found = list(outcome.notes)
    if threat is None:
        return found
    found += [*_budget(outcome, threat), *_domain(outcome)]
    same = outcome.linf == 0
    if threat.eps > 0 and same.any():
        text = f"{int(same.sum())} of {len(same)} adversarial images equal the clean ones"
        found.append(Reason("unchanged", Verdict.INVALID if same.all() else Verdict.SUSPECT, text))
    return found


def siblings(cells: Sequence[Sibling]) -> Mapping[str, Sequence[Reason]]:
    """Reasons by cell key: what attacks on the same weights and samples say about each other."""
    checks = (_above_clean, _weaker, _black_box, _not_falling, _zero_budget)
    return {cell.key: [reason for check in checks for reason in check(cell, cells)] for cell in cells}


def _few(outcome: Outcome) -> list[Reason]:
    score = rate(int(outcome.correct.sum()), len(outcome.label))
    if score.low is None or score.high is None or score.high - score.low <= WIDEST:
        return []
    text = f"the interval of {len(outcome.label)} samples is {100 * (score.high - score.low):.0f} points wide"
    return [Reason("few_samples", Verdict.SUSPECT, text)]


def _same_answers(outcome: Outcome) -> list[Reason]:
    """The engine's view of the final images against the judge's: precision, and the model's fast form."""
    found, facts = [], outcome.facts
    if (gap := facts.get("precision_gap", 0.0)) > PRECISION:
        text = f"in the attack's precision the accuracy is {100 * gap:.1f} points from that in float32"
        found.append(Reason("precision_gap", Verdict.SUSPECT, text))
    checked, differing = facts.get("checked_again", 0), facts.get("differing", 0)
    if differing > PRECISION * len(outcome.label):
        text = f"{differing} of {checked} final images were classified otherwise when they were looked at again"
        found.append(Reason("predictions_differ", Verdict.SUSPECT, text))
    return found


def _quantised(outcome: Outcome) -> list[Reason]:
    if outcome.quantised_prediction is None:
        return []
    kept, rounded = outcome.correct.mean(), (outcome.quantised_prediction == outcome.label).mean()
    if rounded <= kept + MARGIN:
        return []
    text = f"rounded to 8 bits the adversarial images leave {rounded:.2%} accuracy instead of {kept:.2%}"
    return [Reason("quantised_weaker", Verdict.SUSPECT, text)]


def _random(outcome: Outcome, draws: int) -> list[Reason]:
    difference = outcome.facts.get("repeat_difference", 0.0)
    if difference <= REPEATED or draws > 1:
        return []
    text = (
        f"two answers to the same images differ by {difference:.2g} of the largest logit, and the attack averages none"
    )
    return [Reason("random_predictions", Verdict.SUSPECT, text)]


def _gradients(outcome: Outcome) -> list[Reason]:
    found, facts = [], outcome.facts
    standing = outcome.clean_correct & outcome.correct
    if not standing.any():
        return []
    if outcome.zero_gradients is not None:
        shares = outcome.zero_gradients[standing]
        zero = float(np.nan_to_num(shares).mean())
        if zero > ZERO:
            text = f"{zero:.0%} of the gradients of the {len(shares)} samples that stand are zero everywhere"
            found.append(Reason("zero_gradients", Verdict.SUSPECT, text))
    if (gap := facts.get("logit_gap", 0.0)) > GAP:
        text = f"the two largest logits are {gap:.3g} apart in the median; the softmax is one and zero in float32"
        found.append(Reason("saturated_logits", Verdict.SUSPECT, text))
    if facts.get("rising", 1.0) < RISING and facts.get("repeat_difference", 0.0) <= REPEATED:
        text = f"a small step along the gradient raises the loss of {facts['rising']:.0%} of the images only"
        found.append(Reason("gradient_not_ascending", Verdict.SUSPECT, text))
    return found


def _probed(outcome: Outcome, threat: Threat) -> list[Reason]:
    """What the checks that cost passes have found, and the same where the cell's own budget is as large."""
    found, facts = [], outcome.facts
    fooled, probed = facts.get("probe_fooled", 0), facts.get("probed", 0)
    if fooled > max(2, PROBE * probed):
        text = f"an attack without gradients turns {fooled} of {probed} samples that stand"
        found.append(Reason("black_box_stronger", Verdict.SUSPECT, text))
    chance = float(np.bincount(outcome.label).max() / len(outcome.label))
    left, n, what = facts.get("unlimited_left", 0), facts.get("unlimited", 0), "with an unlimited budget"
    if threat.norm == "Linf" and threat.eps >= 0.5:
        left, n, what = int(outcome.correct.sum()), len(outcome.label), f"with eps {threat.eps:.4g}"
    if n and rate(left, n).low > chance + MARGIN:  # type: ignore[operator]
        text = f"{what} {left / n:.1%} of {n} samples are still right; chance is {chance:.1%}"
        found.append(Reason("large_eps_not_chance", Verdict.SUSPECT, text))
    return found


def _budget(outcome: Outcome | CaptionOutcome, threat: Threat | None) -> list[Reason]:
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


def _domain(outcome: Outcome | CaptionOutcome) -> list[Reason]:
    low, high = outcome.proposal_low, outcome.proposal_high
    if low >= -TOLERANCE and high <= 1 + TOLERANCE:
        return []
    text = f"pixels ran from {low:.4g} to {high:.4g} before clipping; [0, 1] is the domain"
    return [Reason("outside_domain", Verdict.SUSPECT, text)]


def _normalised(outcome: Outcome, threat: Threat | None) -> list[Reason]:
    """The attack, or the attack that the model was hardened with, was handed normalised images."""
    if outcome.facts.get("domain") != "normalised":
        return []
    who = "the model was hardened on images that were attacked after their normalisation"
    if threat:
        who = f"the attack was handed normalised images, of which eps {threat.eps:.4g} is no pixel distance"
    text = f"{who}; {outcome.facts['cut_off']:.0%} of their values lay outside [0, 1] and were cut off"
    return [Reason("normalised_domain", Verdict.INVALID, text)]


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


def _black_box(cell: Sibling, cells: Sequence[Sibling]) -> list[Reason]:
    """A search by scores alone beats an attack that sees gradients and claims to be strong: they are of no use."""
    if cell.access != "gradient" or not cell.stronger_than:
        return []
    same_threat = [c for c in cells if (c.norm, c.eps) == (cell.norm, cell.eps) and c.access == "scores"]
    beaten = [c for c in same_threat if cell.accuracy > c.accuracy + MARGIN]
    if not beaten:
        return []
    by = min(beaten, key=lambda c: c.accuracy)
    text = (
        f"{by.attack} sees scores only and leaves {by.accuracy:.2%}, {cell.attack} with gradients {cell.accuracy:.2%}"
    )
    return [Reason("black_box_stronger", Verdict.SUSPECT, text)]


def _not_falling(cell: Sibling, cells: Sequence[Sibling]) -> list[Reason]:
    smaller = [
        c
        for c in cells
        if c.family == cell.family and cell.family and c.eps is not None and cell.eps is not None and c.eps < cell.eps
    ]
    lower = [c for c in smaller if cell.accuracy > c.accuracy + MARGIN]
    if not lower:
        return []
    by = min(lower, key=lambda c: c.accuracy)
    text = f"accuracy {cell.accuracy:.2%} at {cell.eps:.4g} is above {by.accuracy:.2%} at the smaller {by.eps:.4g}"
    return [Reason("eps_not_falling", Verdict.SUSPECT, text)]


def _zero_budget(cell: Sibling, cells: Sequence[Sibling]) -> list[Reason]:
    for clean in cells:
        if clean.norm is None and cell.eps == 0 and abs(cell.accuracy - clean.accuracy) > MARGIN:
            text = f"without a budget the accuracy is {cell.accuracy:.2%}, and {clean.accuracy:.2%} without an attack"
            return [Reason("eps_zero_not_clean", Verdict.INVALID, text)]
    return []
