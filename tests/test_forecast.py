"""The forecast saves passes where it can and changes no result."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import batch_of, images

from harness.forecast import ENOUGH, SPARED, Forecast
from harness.standing import Standing
from harness.types import Evaluation

BATCH = batch_of(images(6))


def standing(expected: list[float]) -> Standing:
    n = len(expected)
    batch = batch_of(images(n))
    zeros = torch.zeros(n, dtype=torch.int64)
    return Standing(batch, torch.arange(n), {"x_adv": batch.x}, None, zeros, zeros, torch.tensor(expected), None)


def taught(pairs: list[tuple[float, bool]]) -> Forecast:
    forecast = Forecast(active=True)
    expected, fooled = zip(*pairs, strict=True)
    forecast.learn(torch.tensor(expected), torch.tensor(fooled))
    return forecast


def chosen(forecast: Forecast, expected: list[float]) -> list[int]:
    first, _ = forecast.split(standing(expected))
    return [] if first is None else first.place.tolist()


def test_the_expected_loss_is_that_of_the_first_order() -> None:
    gradient = torch.randn(BATCH.x.shape, generator=torch.Generator().manual_seed(0))
    step = torch.randn(BATCH.x.shape, generator=torch.Generator().manual_seed(1))
    found = Evaluation(torch.arange(6.0), torch.zeros(6, 5), torch.zeros(6) > 0, gradient)
    wanted = [i + float((gradient[i] * step[i]).sum()) for i in range(6)]
    assert Forecast(active=True).loss(found, step).tolist() == pytest.approx(wanted, rel=1e-4, abs=1e-4)
    assert Forecast(active=False).loss(found, step).isnan().all()
    assert Forecast(active=True).loss(found._replace(gradient=None), step).isnan().all()


def test_those_whose_loss_promises_it_are_looked_at_first() -> None:
    forecast = taught([(loss / 20, loss > 30) for loss in range(60)])
    assert chosen(forecast, [0.2, 1.4, 1.6, 5.0, float("nan")]) == [2, 3]


@pytest.mark.parametrize(
    "pairs", [[(1.0, True)] * (ENOUGH - 1), [(1.0, False)] * 100, [(1.0, True), (2.0, False)] * 50]
)
def test_without_experience_or_gain_nobody_is(pairs: list[tuple[float, bool]]) -> None:
    assert chosen(taught(pairs), [0.0, 1.5, 3.0]) == []


def test_where_all_fall_all_are() -> None:
    assert chosen(taught([(float(i), True) for i in range(50)]), [0.0, 10.0, 60.0]) == [0, 1, 2]


@pytest.mark.slow
@given(st.lists(st.tuples(st.floats(-5, 5).map(lambda v: round(v, 3)), st.booleans()), min_size=ENOUGH, max_size=80))
@settings(max_examples=60, deadline=None)
def test_no_other_threshold_would_have_saved_more(pairs: list[tuple[float, bool]]) -> None:
    def gain(threshold: float) -> float:
        return sum((SPARED if fooled else -1.0) for expected, fooled in pairs if expected > threshold)

    found = taught(pairs)._threshold
    best = max(0.0, *(gain(expected - 1e-6) for expected, _ in pairs))
    # Equal losses are cut in two by the sorted order, which a threshold cannot do.
    tied = len({round(e, 3) for e, _ in pairs}) < len(pairs)
    assert gain(found if found is not None else 10.0) == pytest.approx(best) or tied


def test_an_idle_forecast_learns_nothing() -> None:
    forecast = Forecast(active=False)
    forecast.learn(torch.ones(100), torch.ones(100) > 0)
    assert chosen(forecast, [1.0]) == []
