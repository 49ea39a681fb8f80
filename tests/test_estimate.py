"""About how long: measured rates before stated ones, and nothing counted that is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import locating, plan
from harness.config import resolve
from harness.estimate import CELL_SECONDS, Estimate, needed
from harness.request import Options
from harness.run import Places, prospect
from harness.steps import Plan

pytestmark = pytest.mark.usefixtures("workplace")

RESNET = "tiny/resnet_original"


@pytest.fixture
def made(workplace: Path) -> Plan:
    return plan.build(resolve(Options(models=["resnet_original", "vit_ft"])), locating.roots(), download=False)


def test_without_a_measurement_the_stated_rate_counts(made: Plan) -> None:
    fit = made.fits[0]
    assert fit.model.pass_ms == 0.4
    assert Estimate({}, "tiny", "cpu").step(fit) == pytest.approx(0.0004 * fit.passes + CELL_SECONDS)


def test_a_measured_rate_is_preferred_to_the_stated_one(made: Plan) -> None:
    fit, hardening = made.fits[0], made.hardenings[0]
    estimate = Estimate({("fit", RESNET, "cpu"): 0.5}, "tiny", "cpu")
    assert estimate.step(fit) == pytest.approx(0.5 * fit.passes + CELL_SECONDS)
    # Nothing better is known of its hardening either.
    assert estimate.step(hardening) == pytest.approx(0.5 * hardening.passes + CELL_SECONDS)


def test_the_rate_of_its_own_kind_is_preferred(made: Plan) -> None:
    rates = {("fit", RESNET, "cpu"): 0.5, ("attack", RESNET, "cpu"): 0.25, ("harden", RESNET, "cpu"): 0.125}
    estimate = Estimate(rates, "tiny", "cpu")
    cell = made.cells[-7]
    assert cell.hardened.model.name == "resnet_original"
    for step, rate in ((made.fits[0], 0.5), (made.hardenings[0], 0.125), (cell, 0.25)):
        assert estimate.step(step) == pytest.approx(rate * step.passes + CELL_SECONDS)


@pytest.mark.parametrize("key", [("fit", RESNET, "cuda"), ("fit", "small/resnet_original", "cpu"), ("fit", "x", "cpu")])
def test_rates_of_another_device_profile_or_model_do_not_count(key: tuple[str, str, str], made: Plan) -> None:
    assert Estimate({key: 99.0}, "tiny", "cpu").step(made.fits[0]) == Estimate({}, "tiny", "cpu").step(made.fits[0])


def test_a_model_of_which_nothing_is_known_makes_the_total_unknown() -> None:
    Path("registry.toml").write_text('[models.mine]\ncomponent = "resnet18"\ndataset = "digits"\n')
    made = plan.build(resolve(Options(models=["mine"])), locating.roots(), download=False)
    estimate = Estimate({}, "tiny", "cpu")
    assert estimate.step(made.fits[0]) is None
    assert estimate.total([*made.fits, *made.cells]) is None
    assert estimate.total([]) == 0


def test_what_costs_no_pass_costs_no_time(made: Plan) -> None:
    request = resolve(Options(models=["resnet_original"], settings=["models.resnet_original.training.epochs=0"]))
    (fit,) = plan.build(request, locating.roots(), download=False).fits
    assert Estimate({}, "tiny", "cpu").step(fit) == 0


def test_more_steps_of_an_attack_are_more_passes() -> None:
    def passes(*settings: str) -> float:
        request = resolve(Options(models=["resnet_original"], attacks=["pgd"], settings=settings))
        return plan.build(request, locating.roots(), download=False).cells[0].passes

    n = 449
    share = plan.RETIRING  # of the steps that are expected to be needed
    assert passes("attacks.pgd.steps=20") - passes() == pytest.approx(10 * n * share)
    assert passes("attacks.pgd.restarts=3") - passes() == pytest.approx(20 * n * share)
    assert passes("attacks.pgd.steps=20", "run.final_iterate=true") == pytest.approx(20.7 * n)
    assert passes("attacks.pgd.steps=20", "run.query_budget=2") == pytest.approx(2.7 * n)


def test_the_steps_needed_are_each_named_once_and_in_order(made: Plan) -> None:
    fits, hardenings, cells = needed(made.cells, set())
    assert [fit.model.name for fit in fits] == ["resnet_original", "vit_source", "vit_ft"]
    assert [step.model.name for step in hardenings] == ["resnet_original", "vit_ft"]
    assert cells == list(made.cells)


def test_what_is_finished_is_not_needed_again(made: Plan) -> None:
    source, target = (next(f.key for f in made.fits if f.model.name == name) for name in ("vit_source", "vit_ft"))
    assert [fit.model.name for fit in needed(made.cells, {source})[0]] == ["resnet_original", "vit_ft"]
    # With the fitted model at hand the one it started from is not needed either.
    assert [fit.model.name for fit in needed(made.cells, {target})[0]] == ["resnet_original"]
    under_at = [cell for cell in made.cells if cell.hardened.trains]
    assert needed(under_at, {step.key for step in made.hardenings})[:2] == ([], [])


def test_the_store_s_rates_are_those_of_the_first_line(small_store: Path) -> None:
    options = Options(models=["resnet_original"], attacks=["clean"], defenses=["none"])
    found = prospect(options, Places(store=str(small_store)), dry=True)
    (fit,) = found.plan.fits
    assert found.estimate.step(fit) == pytest.approx(0.03 * fit.passes + CELL_SECONDS)
    # The measured attack: 2 s for 4 passes.
    (cell,) = found.plan.cells
    assert found.estimate.step(cell) == pytest.approx(0.5 * cell.passes + CELL_SECONDS)
    assert found.seconds == pytest.approx((found.estimate.step(fit) or 0) + (found.estimate.step(cell) or 0))
