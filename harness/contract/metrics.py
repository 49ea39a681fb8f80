"""Rules of metrics."""

from __future__ import annotations

from typing import Any

from harness.contract.rule import Candidate, need, rule
from harness.material import CLASSES, FACTS, outcomes, sentences
from harness.types import ANY_TASK, CAPTIONING, CLASSIFICATION, Score


@rule("metrics", "it says its unit, which way is better, and for which task it is")
def unit(candidate: Candidate) -> str:
    need(candidate.says("unit"), "unit is missing")
    better = candidate.says("higher_is_better", "missing")
    need(better in (True, False, None), f"higher_is_better: {better}; True, False or None is needed")
    task = candidate.says("task", CLASSIFICATION)
    need(task in ("", *ANY_TASK), f"task: {task!r}; {', '.join(ANY_TASK)}, or nothing for any, is needed")
    return f"{candidate.says('unit')}, higher is better: {better}"


@rule("metrics", "its score is finite and inside its interval, or None, whatever the outcome")
def scores(candidate: Candidate) -> str:
    facts = FACTS._replace(groups=tuple("ab"[k % 2] for k in range(CLASSES)))
    task = candidate.says("task", CLASSIFICATION)
    found: list[Any] = [*(outcomes() if task != CAPTIONING else ()), *(sentences() if task != CLASSIFICATION else ())]
    made = [candidate.hooks.measure(outcome=outcome, facts=facts) for outcome in found]
    aimed = made[2:] if task == CAPTIONING else []
    need(made[0] is not None or any(score is not None for score in aimed), "it is None of an outcome that has it all")
    for score, outcome in zip(made, found, strict=True):
        if score is None:
            continue
        value, low, high, n = Score(*score)
        need((low is None) == (high is None), f"an interval from {low} to {high}")
        if low is not None and high is not None:
            need(low <= value <= high, f"{value} not in {low} to {high}")
        need(n <= len(outcome.ids), f"n = {n} of {len(outcome.ids)} samples")
    first = next(score for score in made if score is not None)
    return f"{first[0]:.4g} of a random outcome"
