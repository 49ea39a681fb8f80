"""Intervals and tests against closed formulas, other programs and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.statistics import bootstrap, holm, mcnemar, mean, median, paired_difference, rate, samples_needed
from harness.types import Score

Z = 1.959963984540054  # the normal distribution's 97.5 % point


@given(n=st.integers(1, 100_000), share=st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_a_rate_has_its_wilson_interval(n: int, share: float) -> None:
    hits = round(share * n)
    score = rate(hits, n)
    p = hits / n
    centre = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * (p * (1 - p) / n + Z**2 / (4 * n**2)) ** 0.5
    assert (score.value, score.n) == (p, n)
    assert score.low is not None
    assert score.high is not None
    assert score.low == pytest.approx(max(0, centre - half), abs=1e-9)
    assert score.high == pytest.approx(min(1, centre + half), abs=1e-9)
    assert 0 <= score.low <= p <= score.high <= 1
    assert (score.low, score.high) == tuple(stats.binomtest(hits, n).proportion_ci(0.95, method="wilson"))


@pytest.mark.parametrize(("hits", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_what_is_no_share_has_no_rate(hits: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"{hits} of {n} is no share"):
        rate(hits, n)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    hits = np.random.default_rng(0).binomial(200, 0.3, size=400)
    scores = [rate(int(hit), 200) for hit in hits]
    covered = np.mean([(s.low or 0) <= 0.3 <= (s.high or 0) for s in scores])
    assert 0.92 < covered < 0.98


@given(
    st.lists(st.floats(-1e3, 1e3).map(lambda x: round(x, 6)), min_size=2, max_size=50).filter(lambda v: len({*v}) > 1)
)
@settings(max_examples=100, deadline=None)
def test_a_mean_has_its_student_interval(values: list[float]) -> None:
    score = mean(values)
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    assert score.n == len(values)
    assert score.value == pytest.approx(np.mean(values), abs=1e-9)
    assert score.low == pytest.approx(np.mean(values) - half, rel=1e-9, abs=1e-9)
    assert score.high == pytest.approx(np.mean(values) + half, rel=1e-9, abs=1e-9)


@given(value=st.floats(-1e3, 1e3), n=st.integers(1, 400))
@settings(max_examples=100, deadline=None)
def test_values_all_alike_have_no_interval(value: float, n: int) -> None:
    score = mean([value] * n)
    assert score.value == pytest.approx(value)
    assert (score.low, score.high, score.n) == (None, None, n)


# --- bootstrap and median

numbers = st.lists(st.integers(-20, 20).map(lambda k: k / 4), min_size=2, max_size=30)


@pytest.mark.slow
@given(values=numbers)
@settings(max_examples=40, deadline=None)
def test_a_bootstrap_interval_holds_its_statistic_and_is_always_the_same(values: list[float]) -> None:
    score = bootstrap(values, np.mean)
    assert (score.value, score.n) == (np.mean(values), len(values))
    assert score == bootstrap(values, np.mean)
    assert score.low is not None
    assert score.high is not None
    assert min(values) - 1e-9 <= score.low <= score.high <= max(values) + 1e-9


def test_a_bootstrap_is_that_of_scipy() -> None:
    values = np.random.default_rng(1).exponential(size=60)
    random = np.random.default_rng(0)
    wanted = stats.bootstrap((values,), np.mean, n_resamples=2000, batch=100, vectorized=False, rng=random)
    score = bootstrap(values.tolist(), np.mean)
    assert (score.low, score.high) == tuple(wanted.confidence_interval)


@pytest.mark.slow
def test_a_bootstrap_interval_covers_the_truth_as_often_as_it_says() -> None:
    samples = np.random.default_rng(0).exponential(size=(150, 50))
    scores = [bootstrap(sample.tolist(), np.mean) for sample in samples]
    assert 0.88 <= np.mean([(s.low or 0) <= 1 <= (s.high or 0) for s in scores]) <= 0.99


def test_a_bootstrap_leaves_the_global_generator_alone() -> None:
    before = np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]  # noqa: NPY002
    bootstrap([1.0, 2.0, 5.0], np.mean)
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index, union-attr]  # noqa: NPY002


@pytest.mark.parametrize(
    ("values", "score"),
    [([0.5], Score(0.5, None, None, 1)), ([0.5] * 9, Score(0.5, 0.5, 0.5, 9)), ([0.0] * 3, Score(0.0, 0.0, 0.0, 3))],
)
def test_values_that_tell_nothing_of_their_spread(values: list[float], score: Score) -> None:
    assert bootstrap(values, np.mean) == score


@given(st.lists(st.floats(-1e3, 1e3) | st.just(np.inf), min_size=1, max_size=40))
@settings(max_examples=100, deadline=None)
def test_a_median_has_the_order_statistics_around_it(values: list[float]) -> None:
    score, n, falling = median(values), len(values), sorted(values)
    assert (score.value, score.n) == (pytest.approx(np.median(values)), n)
    # The k-th smallest value is above the median with probability P(fewer than k of n are below it).
    k = int(stats.binom.ppf(0.025, n, 0.5))
    low, high = (falling[k - 1], falling[n - k]) if k else (None, None)
    assert score.low == (low if low is not None and np.isfinite(low) else None)
    assert score.high == (high if high is not None and np.isfinite(high) else None)


def test_no_values_have_no_median() -> None:
    with pytest.raises(ValueError, match="no values"):
        median([])


# --- two classifiers on the same samples

answers = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=150)


@given(pairs=answers)
@settings(max_examples=100, deadline=None)
def test_mcnemar_is_a_sign_test_where_few_samples_differ(pairs: list[tuple[bool, bool]]) -> None:
    a, b = zip(*pairs, strict=True)
    found = mcnemar(a, b)
    only = [sum(x and not y for x, y in pairs), sum(y and not x for x, y in pairs)]
    assert [found.a_only, found.b_only] == only
    n = sum(only)
    assert found.exact == (n < 25)
    if found.exact:
        assert found.p_value == pytest.approx(stats.binomtest(only[0], n, 0.5).pvalue if n else 1.0)
    else:
        assert found.p_value == pytest.approx(stats.chi2.sf((abs(only[0] - only[1]) - 1) ** 2 / n, 1))
    swapped = mcnemar(b, a)
    assert (swapped.a_only, swapped.b_only) == (found.b_only, found.a_only)
    assert swapped.p_value == pytest.approx(found.p_value)


def test_mcnemar_seldom_tells_apart_what_is_alike() -> None:
    random = np.random.default_rng(0)
    draws = random.random((400, 2, 300)) < 0.7
    assert np.mean([mcnemar(a, b).p_value < 0.05 for a, b in draws]) < 0.07


@pytest.mark.slow
@given(pairs=answers)
@settings(max_examples=30, deadline=None)
def test_a_paired_difference_is_that_of_the_means(pairs: list[tuple[bool, bool]]) -> None:
    a, b = ([float(x) for x in side] for side in zip(*pairs, strict=True))
    score, back = paired_difference(a, b), paired_difference(b, a)
    assert score.value == pytest.approx(np.mean(a) - np.mean(b))
    assert back.value == pytest.approx(-score.value)
    assert score.n == len(pairs)
    if len(pairs) > 1:
        assert score.low is not None
        assert score.high is not None
        assert -1 <= score.low <= score.high <= 1


def test_pairing_makes_an_interval_narrow() -> None:
    difficulty = np.random.default_rng(0).random(400)
    a, b = (difficulty < 0.6).astype(float).tolist(), (difficulty < 0.57).astype(float).tolist()
    paired = paired_difference(a, b)
    alone = bootstrap(a, np.mean)
    assert (paired.high or 0) - (paired.low or 0) < 0.5 * ((alone.high or 0) - (alone.low or 0))


def test_samples_that_are_not_the_same_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="2 and 1 samples cannot be paired"):
        paired_difference([1.0, 0.0], [1.0])
    with pytest.raises(ValueError, match="1 and 2 samples cannot be paired"):
        mcnemar([True], [True, False])


@pytest.mark.slow  # the first import of statsmodels may take half a minute
@given(st.lists(st.floats(0, 1), max_size=20))
@settings(max_examples=100, deadline=None)
def test_holm_steps_down(p_values: list[float]) -> None:
    adjusted, wanted, worst = holm(p_values), dict[int, float](), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[index]))
        wanted[index] = worst
    assert adjusted == pytest.approx([wanted[i] for i in range(len(p_values))])


@pytest.mark.parametrize(("a_only", "b_only"), [(0.10, 0.05), (0.30, 0.20), (0.06, 0.02)])
def test_with_the_samples_needed_the_test_has_its_power(a_only: float, b_only: float) -> None:
    n = samples_needed(a_only, b_only)
    assert n is not None
    drawn = np.random.default_rng(0).multinomial(n, [a_only, b_only, 1 - a_only - b_only], size=20_000)
    discordant = drawn[:, 0] + drawn[:, 1]
    statistic = (drawn[:, 0] - drawn[:, 1]) ** 2 / np.maximum(discordant, 1)
    assert np.mean(statistic > Z**2) == pytest.approx(0.8, abs=0.03)
    # The continuity correction of the test that is used costs a little.
    corrected = (np.abs(drawn[:, 0] - drawn[:, 1]) - 1) ** 2 / np.maximum(discordant, 1)
    assert np.mean(corrected > Z**2) == pytest.approx(0.78, abs=0.04)


def test_the_samples_needed_are_those_of_the_paper_s_formula() -> None:
    discordant, difference = 0.15, 0.05
    root = Z * discordant**0.5 + 0.8416212335729143 * (discordant - difference**2) ** 0.5
    assert samples_needed(0.10, 0.05) == samples_needed(0.05, 0.10) == int(np.ceil((root / difference) ** 2))
    assert samples_needed(0.10, 0.05, power=0.9) > samples_needed(0.10, 0.05)  # type: ignore[operator]
    assert samples_needed(0.1, 0.1) is None
    assert samples_needed(0.0, 0.0) is None
    assert samples_needed(1.0, 0.0) is not None
    with pytest.raises(ValueError, match="are not shares"):
        samples_needed(0.7, 0.6)
