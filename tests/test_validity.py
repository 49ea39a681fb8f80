"""Each reason in both directions: given where it is due, and not where it is not."""

from __future__ import annotations

import numpy as np
import pytest

from harness import validity
from harness.store.records import Sibling
from harness.types import Outcome, Reason, Threat, Verdict

THREAT = Threat("Linf", 0.1)


def outcome(
    size: list[float],
    *,
    low: float = 0.0,
    high: float = 1.0,
    kept: list[float] | None = None,
    right: list[bool] | None = None,
) -> Outcome:
    n = len(size)
    zeros, label = np.zeros(n), np.ones(n, dtype=np.int64)
    clean = np.where(right or [True] * n, 1, 0)
    linf = np.asarray(size if kept is None else kept)
    return Outcome(np.arange(n), label, clean, label, linf, linf, zeros, zeros, np.asarray(size), low, high)


def verdicts(found: Outcome, threat: Threat | None = THREAT) -> dict[str, Verdict]:
    return {reason.code: reason.verdict for reason in validity.own(found, threat)}


def test_a_sound_cell_has_no_reason() -> None:
    assert verdicts(outcome([0.1, 0.05, 0.1])) == {}


@pytest.mark.parametrize(("size", "due"), [(0.1, False), (0.1 + 1e-6, False), (0.1001, True), (1.0, True)])
def test_over_budget(size: float, due: bool) -> None:
    found = verdicts(outcome([0.1, size], kept=[0.1, 0.1]))
    assert found == ({"over_budget": Verdict.SUSPECT} if due else {})


def test_over_budget_tells_how_many_and_how_far() -> None:
    (reason,) = validity.own(outcome([0.1, 0.3, 0.2], kept=[0.1] * 3), THREAT)
    assert reason.text.startswith("2 of 3 perturbations were over the budget Linf 0.1 before clipping, the largest 0.3")


def test_the_budget_is_relative_for_large_ones_and_absolute_for_none() -> None:
    assert verdicts(outcome([5.0004], kept=[5]), Threat("L2", 5)) == {}
    assert "over_budget" in verdicts(outcome([5.01], kept=[5]), Threat("L2", 5))
    assert "over_budget" in verdicts(outcome([1e-3], kept=[0]), Threat("Linf", 0))


@pytest.mark.parametrize(
    ("low", "high", "due"),
    [(0, 1, False), (-1e-6, 1 + 1e-6, False), (-1e-4, 1, True), (0, 1.0001, True), (-2, 2, True)],
)
def test_outside_the_domain(low: float, high: float, due: bool) -> None:
    found = verdicts(outcome([0.1], low=low, high=high))
    assert found == ({"outside_domain": Verdict.SUSPECT} if due else {})


@pytest.mark.parametrize(
    ("kept", "right", "wanted"),
    [
        ([0.0, 0.0], [True, True], Verdict.INVALID),
        ([0.1, 0.0], [True, True], Verdict.SUSPECT),
        ([0.1, 0.0], [True, False], None),  # nothing had to be done to what was wrong already
        ([0.0, 0.0], [False, False], None),
        ([0.1, 0.1], [True, True], None),
    ],
)
def test_unchanged(kept: list[float], right: list[bool], wanted: Verdict | None) -> None:
    found = verdicts(outcome(kept, right=right))
    assert found == ({"unchanged": wanted} if wanted else {})


def test_without_a_budget_unchanged_images_are_what_was_asked_for() -> None:
    assert verdicts(outcome([0.0, 0.0]), None) == {}
    assert verdicts(outcome([0.0, 0.0]), Threat("Linf", 0.0)) == {}


def test_what_the_engine_noted_comes_first() -> None:
    note = Reason("buffers_changed", Verdict.SUSPECT, "...")
    found = outcome([0.5], kept=[0.1])
    found.notes.append(note)
    assert [reason.code for reason in validity.own(found, THREAT)] == ["buffers_changed", "over_budget"]


def sibling(attack: str, accuracy: float, eps: float | None = 0.1, norm: str | None = "Linf") -> Sibling:
    stronger = {"pgd": ("fgsm",), "strongest": ("fgsm", "pgd")}.get(attack, ())
    return Sibling(f"{attack} {norm} {eps}", attack, norm, eps, accuracy, 1000, stronger)


def related(*cells: Sibling) -> dict[str, list[str]]:
    return {key: [r.code for r in reasons] for key, reasons in validity.siblings(cells).items() if reasons}


CLEAN = sibling("clean", 0.8, None, None)


def test_siblings_that_agree_have_no_reason_and_all_are_answered() -> None:
    cells = [CLEAN, sibling("fgsm", 0.4), sibling("pgd", 0.3)]
    assert {key: list(reasons) for key, reasons in validity.siblings(cells).items()} == {c.key: [] for c in cells}


@pytest.mark.parametrize(("accuracy", "due"), [(0.8, False), (0.804, False), (0.806, True), (1.0, True)])
def test_clean_below_adversarial(accuracy: float, due: bool) -> None:
    wanted = {"fgsm Linf 0.1": ["clean_below_adversarial"]} if due else {}
    assert related(CLEAN, sibling("fgsm", accuracy)) == wanted
    assert related(sibling("fgsm", accuracy), CLEAN) == wanted  # in whatever order the cells were finished


def test_clean_below_adversarial_makes_a_cell_invalid() -> None:
    (reason,) = validity.siblings([CLEAN, sibling("fgsm", 0.9)])["fgsm Linf 0.1"]
    assert reason.verdict is Verdict.INVALID
    assert "80.00%" in reason.text
    assert "90.00%" in reason.text


@pytest.mark.parametrize(("accuracy", "due"), [(0.3, False), (0.4, False), (0.404, False), (0.41, True)])
def test_an_attack_weaker_than_one_it_must_beat(accuracy: float, due: bool) -> None:
    found = related(CLEAN, sibling("fgsm", 0.4), sibling("pgd", accuracy))
    assert found == ({"pgd Linf 0.1": ["weaker_than_fgsm"]} if due else {})


def test_attacks_under_other_budgets_or_norms_are_not_compared() -> None:
    assert related(sibling("fgsm", 0.1, eps=0.3), sibling("pgd", 0.6)) == {}
    assert related(sibling("fgsm", 0.1, norm="L2"), sibling("pgd", 0.6)) == {}
    assert related(sibling("fgsm", 0.9), sibling("other", 0.95)) == {}


def test_of_several_stronger_ones_the_strongest_is_named() -> None:
    found = validity.siblings([sibling("fgsm", 0.4), sibling("pgd", 0.2), sibling("strongest", 0.5)])
    (reason,) = found["strongest Linf 0.1"]
    assert (reason.code, reason.verdict) == ("weaker_than_pgd", Verdict.SUSPECT)
