"""Metrics of captions on an outcome made by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from harness import boundary
from harness.captioning.scores import bleu, document_frequencies
from harness.types import CAPTIONING, CaptionOutcome, Corpus, Score
from plugins.metrics.bleu import Bleu
from plugins.metrics.caption_changed import CaptionChanged
from plugins.metrics.caption_length import CaptionLength
from plugins.metrics.caption_loss import CaptionLoss
from plugins.metrics.caption_match import CaptionMatch
from plugins.metrics.cider_d import CiderD
from plugins.metrics.meteor_exact import MeteorExact
from plugins.metrics.novel_captions import NovelCaptions
from plugins.metrics.passes import Passes
from plugins.metrics.perturbation import Perturbation
from plugins.metrics.pointing_accuracy import PointingAccuracy
from plugins.metrics.rouge_l import RougeL
from plugins.metrics.seconds import Seconds
from plugins.metrics.vocabulary_used import VocabularyUsed

REFERENCES = (
    ("یک سگ روی چمن می‌دود", "سگ قهوه‌ای روی چمن"),
    ("گربه سیاه روی مبل",),
    ("مردی روی موج موج‌سواری می‌کند", "مردی روی موج", "یک مرد در دریا"),
    ("اتوبوس آبی در خیابان",),
)
CLEAN = ("یک سگ روی چمن می‌دود", "گربه سیاه روی مبل", "مردی روی موج", "اتوبوس آبی در خیابان شهر")
SAID = ("یک سگ روی چمن می‌دود", "سگ", "مردی روی موج", "سگ در خیابان")
ELSEWHERE = (("سگ در خیابان",), ("یک سگ",))
"""References of test images that are not judged."""
CORPUS = Corpus(
    training=frozenset({"یک سگ روی چمن می‌دود", "سگ"}),
    vocabulary=frozenset({word for text in CLEAN[:3] for word in text.split()}),
    document_frequency=document_frequencies((*REFERENCES, *ELSEWHERE)),
    documents=6,
)
N = len(SAID)
FOUND = CaptionOutcome(
    ids=np.arange(N),
    references=REFERENCES,
    clean_caption=CLEAN,
    caption=SAID,
    loss=np.array([1.0, 2.0, 3.0, 6.0]),
    corpus=CORPUS,
    linf=np.full(N, 0.1),
    l2=np.linspace(1, 2, N),
    forwards=np.full(N, 5.0),
    backwards=np.full(N, 3.0),
    proposal_size=np.full(N, 0.1),
    seconds=1.5,
)
SCORES = {
    Bleu: bleu(SAID, REFERENCES, 4),
    RougeL: None,
    CiderD: None,
    MeteorExact: None,
    CaptionLoss: 3.0,
    CaptionLength: (5 + 1 + 3 + 3) / 4,
    VocabularyUsed: 7 / 10,  # "در" and "خیابان" are not known
    NovelCaptions: 2 / 4,
    CaptionChanged: 2 / 4,
    CaptionMatch: 2 / 4,
}


def changed(**columns: Any) -> CaptionOutcome:
    return dataclasses.replace(FOUND, **columns)


def measured(metric: Any, outcome: CaptionOutcome = FOUND) -> Score:
    score = metric.measure(outcome)
    assert isinstance(score, Score)
    return score


@pytest.mark.parametrize("kind", SCORES)
def test_values_units_and_intervals(kind: Any) -> None:
    score = measured(kind())
    assert score.n == N
    if SCORES[kind] is not None:
        assert score.value == pytest.approx(SCORES[kind])
    assert kind.task == CAPTIONING
    top = {"fraction": 1, "points": 10, "nats": 6, "words": 5}[kind.unit]
    assert 0 < score.value <= top
    if kind is VocabularyUsed:
        assert (score.low, score.high) == (None, None)
    else:
        assert score.low is not None
        assert score.high is not None
        assert 0 <= score.low < score.value < score.high <= top


@pytest.mark.parametrize("kind", [RougeL, CiderD, MeteorExact, Bleu, CaptionMatch])
def test_better_captions_score_better(kind: Any) -> None:
    best = changed(caption=tuple(truths[0] for truths in REFERENCES))
    assert measured(kind(), best).value > measured(kind()).value
    assert kind.higher_is_better


def test_bleu_takes_its_order_and_its_form() -> None:
    for order in (1, 2, 3, 4):
        assert measured(Bleu(order)).value == bleu(SAID, REFERENCES, order)
    assert measured(Bleu(form="nltk")).value == bleu(SAID, REFERENCES, 4, "nltk") != measured(Bleu()).value


def test_bleu_of_clean_captions_is_that_of_no_attack() -> None:
    before = measured(Bleu(of="clean_caption"))
    assert before == measured(Bleu(), changed(caption=CLEAN))
    assert before.value > measured(Bleu()).value


@pytest.mark.parametrize("order", [0, 5])
def test_bleu_of_no_words_or_of_five_is_refused(order: int) -> None:
    with pytest.raises(ValueError, match="order"):
        Bleu(order)


def test_cider_d_counts_rarity_over_the_whole_split() -> None:
    alone = CORPUS._replace(document_frequency=document_frequencies(REFERENCES), documents=N)
    assert measured(CiderD()).value != measured(CiderD(), changed(corpus=alone)).value


def test_nothing_is_said_of_change_where_nothing_was_attacked() -> None:
    still = changed(caption=CLEAN, linf=np.zeros(N))
    assert CaptionChanged().measure(still) is None
    assert measured(CaptionChanged(), changed(caption=CLEAN)).value == 0  # attacked, and withstood
    assert measured(CaptionChanged(), changed(linf=np.zeros(N))).value == 0.5  # then something did change


def test_no_known_words_no_share_of_them() -> None:
    assert VocabularyUsed().measure(changed(corpus=CORPUS._replace(vocabulary=frozenset()))) is None


def test_empty_captions_are_scored() -> None:
    silent = changed(caption=("",) * N)
    for kind in (Bleu, RougeL, CiderD, MeteorExact, CaptionLength, VocabularyUsed, CaptionMatch):
        assert measured(kind(), silent).value == 0


POINTED = changed(
    named=np.array([2, 0, 3, 1]),
    pointed=np.array([2, 0, 1, 0]),
    covered=np.array([0.1, np.nan, 0.3, 0.5]),
)


def test_pointing_counts_words_and_its_chance_weighs_images_by_them() -> None:
    accuracy, chance = measured(PointingAccuracy(), POINTED), measured(PointingAccuracy("chance"), POINTED)
    assert accuracy.value == pytest.approx(3 / 6)
    assert chance.value == pytest.approx((2 * 0.1 + 3 * 0.3 + 0.5) / 6)
    assert accuracy.n == chance.n == 3  # the second image's caption names nothing
    for score in (accuracy, chance):
        assert score.low is not None
        assert score.high is not None
        assert 0 <= score.low < score.value < score.high <= 1


def test_times_chance_is_the_one_over_the_other() -> None:
    accuracy, chance = measured(PointingAccuracy(), POINTED), measured(PointingAccuracy("chance"), POINTED)
    ratio = measured(PointingAccuracy("times_chance"), POINTED)
    assert ratio.value == pytest.approx(accuracy.value / chance.value)
    assert ratio.n == 3
    assert ratio.low is not None
    assert ratio.high is not None
    assert 0 <= ratio.low < ratio.value < ratio.high
    empty = dataclasses.replace(POINTED, covered=np.array([0, np.nan, 0, 0]))
    assert PointingAccuracy("times_chance").measure(empty) is None


@pytest.mark.parametrize("statistic", ["accuracy", "chance", "times_chance"])
def test_without_boxes_or_names_nothing_is_pointed_at(statistic: Any) -> None:
    assert PointingAccuracy(statistic).measure(FOUND) is None
    none = np.zeros(N, np.int64)
    unnamed = changed(named=none, pointed=none, covered=np.full(N, np.nan))
    assert PointingAccuracy(statistic).measure(unnamed) is None


@pytest.mark.parametrize(
    ("metric", "value"),
    [(Perturbation(), 0.1), (Perturbation("L2"), 1.5), (Passes(), 5.0), (Passes("backward"), 3.0), (Seconds(), 1.5)],
)
def test_what_an_attack_costs_is_measured_as_of_classes(metric: Any, value: float) -> None:
    score = measured(metric)
    assert score.value == pytest.approx(value)
    assert score.n == N
    assert metric.task == ""


@pytest.mark.parametrize("kind", [*SCORES, PointingAccuracy])
def test_metrics_are_found_by_their_names(kind: type) -> None:
    name = kind.__module__.rpartition(".")[2]
    assert boundary.load("metrics", name) is kind
