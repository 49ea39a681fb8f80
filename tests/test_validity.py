"""Each reason in both directions: given where it is due, and not where it is not."""

from __future__ import annotations

from typing import Any

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
    """Verdict by code; the few samples of these examples are the business of a test of their own."""
    return {r.code: r.verdict for r in validity.own(found, threat) if r.code != "few_samples"}


def test_a_sound_cell_has_no_reason() -> None:
    assert verdicts(outcome([0.1, 0.05, 0.1])) == {}


@pytest.mark.parametrize(("size", "due"), [(0.1, False), (0.1 + 1e-6, False), (0.1001, True), (1.0, True)])
def test_over_budget(size: float, due: bool) -> None:
    found = verdicts(outcome([0.1, size], kept=[0.1, 0.1]))
    assert found == ({"over_budget": Verdict.SUSPECT} if due else {})


def test_over_budget_tells_how_many_and_how_far() -> None:
    reason = next(r for r in validity.own(outcome([0.1, 0.3, 0.2], kept=[0.1] * 3), THREAT) if r.code == "over_budget")
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
    codes = [reason.code for reason in validity.own(found, THREAT)]
    assert codes == ["buffers_changed", "few_samples", "over_budget"]


# --- what the engine measured


def many(n: int = 400, right: float = 0.5, **measured: Any) -> Outcome:
    """A cell of ``n`` samples of four classes in which a share ``right`` stands, with what was measured of it."""
    label = np.arange(n) % 4
    fell = np.arange(n) >= right * n
    made = np.full(n, 0.1)
    return Outcome(
        ids=np.arange(n),
        label=label,
        clean_prediction=label.copy(),
        prediction=np.where(fell, (label + 1) % 4, label),
        linf=made,
        l2=made,
        forwards=made,
        backwards=made,
        proposal_size=made,
        **measured,
    )


@pytest.mark.parametrize(("n", "right", "due"), [(10, 0.5, True), (80, 0.5, True), (120, 0.5, False), (40, 0.0, False)])
def test_few_samples(n: int, right: float, due: bool) -> None:
    codes = [reason.code for reason in validity.own(many(n, right), THREAT)]
    assert codes == (["few_samples"] if due else [])


@pytest.mark.parametrize(
    ("share", "right", "due"), [(0.0, 0.5, False), (0.09, 0.5, False), (0.2, 0.5, True), (1.0, 0, False)]
)
def test_zero_gradients(share: float, right: float, due: bool) -> None:
    """Of the samples that stand: where none does, the gradients were good enough."""
    zero = np.where(np.arange(400) < 400 * share * right, 1.0, 0.0)
    found = verdicts(many(right=right, zero_gradients=zero if right else np.ones(400)))
    assert found == ({"zero_gradients": Verdict.SUSPECT} if due else {})


def test_zero_gradients_are_no_matter_to_an_attack_that_sees_scores_only() -> None:
    found = many(zero_gradients=np.ones(400), facts={"logit_gap": 1e4, "rising": 0.0, "repeat_difference": 1.0})
    assert validity.own(found, THREAT, access="scores") == []


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"logit_gap": 49.0}, None),
        ({"logit_gap": 51.0}, "saturated_logits"),
        ({"rising": 0.95}, None),
        ({"rising": 0.4}, "gradient_not_ascending"),
        ({"repeat_difference": 1e-6}, None),
        ({"repeat_difference": 0.01}, "random_predictions"),
        (
            {"rising": 0.4, "repeat_difference": 0.01},
            "random_predictions",
        ),  # of a random model nothing is to be expected
        ({"precision_gap": 0.0019}, None),
        ({"precision_gap": 0.0021}, "precision_gap"),
        ({"checked_again": 400, "differing": 0}, None),
        ({"checked_again": 400, "differing": 2}, "predictions_differ"),
        ({"probed": 100, "probe_fooled": 5}, None),
        ({"probed": 100, "probe_fooled": 6}, "black_box_stronger"),
        ({"probed": 3, "probe_fooled": 2}, None),
        ({"unlimited": 100, "unlimited_left": 30}, None),
        ({"unlimited": 100, "unlimited_left": 60}, "large_eps_not_chance"),
    ],
)
def test_what_was_measured_is_a_doubt_from_its_threshold_on(facts: dict[str, Any], code: str | None) -> None:
    assert verdicts(many(facts=facts)) == ({code: Verdict.SUSPECT} if code else {})


def test_random_predictions_are_no_doubt_where_the_attack_averages() -> None:
    assert validity.own(many(facts={"repeat_difference": 0.5}), THREAT, draws=20) == []


@pytest.mark.parametrize(("restored", "due"), [(0, False), (2, False), (8, True)])
def test_quantised_weaker(restored: int, due: bool) -> None:
    found = many()
    rounded = found.prediction.copy()
    rounded[200 : 200 + restored] = found.label[200 : 200 + restored]
    found.quantised_prediction = rounded
    assert verdicts(found) == ({"quantised_weaker": Verdict.SUSPECT} if due else {})


@pytest.mark.parametrize(("eps", "right", "due"), [(0.4, 0.9, False), (0.5, 0.9, True), (0.5, 0.25, False)])
def test_a_cell_of_large_eps_is_held_against_chance(eps: float, right: float, due: bool) -> None:
    found = verdicts(many(right=right), Threat("Linf", eps))
    assert found == ({"large_eps_not_chance": Verdict.SUSPECT} if due else {})


def test_a_minimum_norm_attack_has_no_budget_to_keep() -> None:
    found = many()
    found.proposal_size = np.where(np.arange(400) < 200, np.inf, 0.7)
    assert "over_budget" in verdicts(found)
    found.proposal_prediction = found.prediction
    assert verdicts(found) == {}


# --- siblings


def sibling(attack: str, accuracy: float, eps: float | None = 0.1, norm: str | None = "Linf") -> Sibling:
    stronger = {"pgd": ("fgsm",), "strongest": ("fgsm", "pgd")}.get(attack, ())
    access = {"clean": "", "square": "scores"}.get(attack, "gradient")
    key = f"{attack} {norm} {eps}"
    return Sibling(key, attack, norm, eps, accuracy, 1000, stronger, access=access, family=f"{attack} {norm}")


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


@pytest.mark.parametrize(("accuracy", "due"), [(0.3, False), (0.296, False), (0.29, True)])
def test_an_attack_without_gradients_that_beats_one_with_them(accuracy: float, due: bool) -> None:
    found = related(CLEAN, sibling("fgsm", 0.4), sibling("pgd", 0.3), sibling("square", accuracy))
    assert found == ({"pgd Linf 0.1": ["black_box_stronger"]} if due else {})


def test_a_single_step_may_be_beaten_without_gradients() -> None:
    assert related(sibling("fgsm", 0.4), sibling("square", 0.1)) == {}
    assert related(sibling("pgd", 0.4), sibling("square", 0.1, eps=0.2)) == {}


@pytest.mark.parametrize(("accuracy", "due"), [(0.3, False), (0.304, False), (0.31, True)])
def test_accuracy_that_rises_with_eps(accuracy: float, due: bool) -> None:
    found = related(sibling("fgsm", 0.3, eps=0.1), sibling("fgsm", accuracy, eps=0.2))
    assert found == ({"fgsm Linf 0.2": ["eps_not_falling"]} if due else {})


def test_curves_of_other_attacks_are_not_compared() -> None:
    assert related(sibling("fgsm", 0.1, eps=0.1), sibling("pgd", 0.3, eps=0.2)) == {}
    assert related(sibling("fgsm", 0.1, eps=0.1, norm="L2"), sibling("fgsm", 0.3, eps=0.2)) == {}


@pytest.mark.parametrize(("accuracy", "due"), [(0.8, False), (0.797, False), (0.7, True)])
def test_a_budget_of_zero_must_leave_the_clean_accuracy(accuracy: float, due: bool) -> None:
    found = related(CLEAN, sibling("fgsm", accuracy, eps=0.0))
    assert found == ({"fgsm Linf 0.0": ["eps_zero_not_clean"]} if due else {})
