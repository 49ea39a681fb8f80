"""Scores of captions against the programs that they follow, and what must hold of any captions."""

from __future__ import annotations

import itertools
import math
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.captioning import scores
from harness.captioning.scores import (
    averaged,
    bleu,
    bleu_counts,
    bleu_of,
    cider_d,
    document_frequencies,
    mean_of,
    meteor_exact,
    paired,
    rouge_l,
    scored,
)

# A caption of one word and one of none, words with a zero-width non-joiner, repeated words, two to five references.
CAPTIONS = (
    "مردی روی موج دریا موج‌سواری می‌کند",
    "گربه",
    "دو کودک در پارک با توپ قرمز بازی می‌کنند",
    "یک یک سگ قهوه‌ای روی چمن سبز می‌دود",
    "اتوبوسی آبی در خیابان",
    "زنی کتاب می‌خواند و زنی چای می‌نوشد",
    "",
)
REFERENCES = (
    ("مردی روی موج بزرگی موج‌سواری می‌کند", "یک مرد روی موج دریا موج‌سواری می‌کند", "موج‌سواری روی موج دریا"),
    ("یک گربه روی مبل خوابیده است", "گربه سیاه روی مبل"),
    (
        "دو کودک در پارک بازی می‌کنند",
        "کودکان با توپ قرمز بازی می‌کنند",
        "دو پسر در پارک با توپ بازی می‌کنند",
        "بچه‌ها در حال بازی با توپ قرمز",
        "دو کودک با توپ",
    ),
    ("یک سگ قهوه‌ای روی چمن می‌دود", "سگ قهوه‌ای روی چمن سبز می‌دود"),
    ("اتوبوس آبی در خیابان شلوغ ایستاده است", "اتوبوسی آبی در خیابان است", "یک اتوبوس", "اتوبوسی در خیابان شهر"),
    ("زنی چای می‌نوشد و کتاب می‌خواند", "زنی در کافه کتاب می‌خواند"),
    ("قطاری در ایستگاه", "قطاری قرمز در ایستگاه ایستاده است"),
)
SETS = {
    "all": (0, 1, 2, 3, 4, 5, 6),
    "no empty one": (0, 1, 2, 3, 4, 5),
    "no short one": (0, 2, 3, 4, 5),
    "two": (1, 3),
    "short alone": (1,),
    "empty alone": (6,),
}


def chosen(name: str) -> tuple[list[str], list[tuple[str, ...]]]:
    return [CAPTIONS[i] for i in SETS[name]], [REFERENCES[i] for i in SETS[name]]


# --- other programs


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("name", SETS)
def test_bleu_is_sacrebleus(name: str, order: int) -> None:
    metrics = pytest.importorskip("sacrebleu.metrics")
    captions, references = chosen(name)
    judge = metrics.BLEU(tokenize="none", smooth_method="none", max_ngram_order=order)
    padded = [list(column) for column in itertools.zip_longest(*references)]  # None where an image has no such one
    assert bleu(captions, references, order) == pytest.approx(
        judge.corpus_score(captions, padded).score / 100, abs=1e-9
    )


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["all", "no empty one", "no short one", "two"])  # it gives no match a small score
def test_bleu_is_cocos(name: str, order: int) -> None:
    module = pytest.importorskip("pycocoevalcap.bleu.bleu")
    captions, references = chosen(name)
    found, _ = module.Bleu(4).compute_score(*as_coco(captions, references), verbose=0)
    assert bleu(captions, references, order) == pytest.approx(found[order - 1], abs=1e-9)


@pytest.mark.filterwarnings("ignore:\\s*The hypothesis contains 0 counts:UserWarning")
@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("name", SETS)
def test_bleu_in_nltks_form_is_nltks(name: str, order: int) -> None:
    module = pytest.importorskip("nltk.translate.bleu_score")
    captions, references = chosen(name)
    truths, words = [[truth.split() for truth in one] for one in references], [text.split() for text in captions]
    expected = module.corpus_bleu(truths, words, weights=(1 / order,) * order)
    assert bleu(captions, references, order, "nltk") == pytest.approx(expected, abs=1e-9)


def test_the_two_forms_differ_by_captions_shorter_than_the_n_gram() -> None:
    assert bleu(*chosen("no short one"), 4) == bleu(*chosen("no short one"), 4, "nltk")
    assert bleu(*chosen("no empty one"), 1) == bleu(*chosen("no empty one"), 1, "nltk")
    assert bleu(*chosen("all"), 1) > bleu(*chosen("all"), 1, "nltk")
    assert bleu(*chosen("all"), 4) > bleu(*chosen("all"), 4, "nltk") > 0


@pytest.mark.parametrize("name", SETS)
def test_rouge_l_is_cocos(name: str) -> None:
    module = pytest.importorskip("pycocoevalcap.rouge.rouge")
    captions, references = chosen(name)
    _, expected = module.Rouge().compute_score(*as_coco(captions, references))
    np.testing.assert_allclose(rouge_l(captions, references), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", SETS)
def test_cider_d_is_cocos(name: str) -> None:
    module = pytest.importorskip("pycocoevalcap.cider.cider")
    captions, references = chosen(name)
    _, expected = module.Cider().compute_score(*as_coco(captions, references))
    found = cider_d(captions, references, document_frequencies(references), len(references))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_cider_d_of_an_image_does_not_depend_on_the_others_judged_with_it() -> None:
    frequencies = document_frequencies(REFERENCES)
    whole = cider_d(CAPTIONS, REFERENCES, frequencies, len(REFERENCES))
    part = cider_d(*chosen("two"), frequencies, len(REFERENCES))
    assert part.tolist() == whole[[1, 3]].tolist()
    assert part.min() > 0
    assert not np.allclose(part, cider_d(*chosen("two"), document_frequencies(chosen("two")[1]), 2))


@pytest.mark.parametrize("name", SETS)
def test_exact_meteor_is_nltks_without_stems_and_synonyms(name: str) -> None:
    module = pytest.importorskip("nltk.translate.meteor_score")
    expected = [
        module.meteor_score(
            [truth.split() for truth in truths], text.split(), preprocess=str, stemmer=Unstemmed(), wordnet=Unknowing()
        )
        for text, truths in zip(*chosen(name), strict=True)
    ]
    np.testing.assert_allclose(meteor_exact(*chosen(name)), expected, rtol=0, atol=1e-9)


def as_coco(
    captions: list[str], references: list[tuple[str, ...]]
) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """References and captions by image, as they stand: its tokeniser is made for English."""
    return {i: list(truths) for i, truths in enumerate(references)}, {i: [text] for i, text in enumerate(captions)}


class Unstemmed:
    def stem(self, word: str) -> str:
        return word


class Unknowing:
    def synsets(self, word: str) -> list[str]:
        return []


# --- what must hold of any captions

WORDS = ("سگ", "گربه", "روی", "می‌دود", "موج‌سواری", "سبز", "و")
sentences = st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map(" ".join)
long_sentences = st.lists(st.sampled_from(WORDS), min_size=4, max_size=9).map(" ".join)
references_of_one = st.lists(sentences, min_size=1, max_size=5).map(tuple)
FORMS: tuple[scores.Form, ...] = ("sacrebleu", "nltk")
corpora = st.lists(st.tuples(st.one_of(sentences, st.just("")), references_of_one), min_size=1, max_size=8)
every = settings(max_examples=100, deadline=None)


def all_scores(captions: list[str], references: list[tuple[str, ...]]) -> dict[str, float]:
    frequencies = document_frequencies(references)
    found = {f"bleu{order} {form}": bleu(captions, references, order, form) for order in (1, 2, 3, 4) for form in FORMS}
    found["rouge_l"] = float(rouge_l(captions, references).mean())
    found["meteor_exact"] = float(meteor_exact(captions, references).mean())
    found["cider_d"] = float(cider_d(captions, references, frequencies, len(references)).mean())
    return found


@pytest.mark.slow
@given(corpora)
@every
def test_scores_keep_their_bounds(corpus: list[tuple[str, tuple[str, ...]]]) -> None:
    for name, value in all_scores([c for c, _ in corpus], [r for _, r in corpus]).items():
        assert 0 <= value <= (10 if name == "cider_d" else 1) + 1e-12, name


@pytest.mark.slow
@given(corpora, st.randoms())
@every
def test_the_order_of_images_changes_nothing(corpus: list[tuple[str, tuple[str, ...]]], random: Random) -> None:
    before = all_scores([c for c, _ in corpus], [r for _, r in corpus])
    random.shuffle(corpus)
    after = all_scores([c for c, _ in corpus], [r for _, r in corpus])
    assert after == pytest.approx(before, abs=1e-12)


@given(st.lists(st.tuples(long_sentences, st.lists(long_sentences, max_size=4)), min_size=1, max_size=6))
@every
def test_captions_that_are_references_score_one(corpus: list[tuple[str, list[str]]]) -> None:
    captions, references = [c for c, _ in corpus], [(*others, c) for c, others in corpus]
    for order, form in itertools.product((1, 2, 3, 4), FORMS):
        assert bleu(captions, references, order, form) == pytest.approx(1, abs=1e-12)
    assert rouge_l(captions, references) == pytest.approx(np.ones(len(corpus)))


@pytest.mark.slow
@given(corpora, sentences)
@every
def test_another_reference_never_lowers_rouge_l(corpus: list[tuple[str, tuple[str, ...]]], another: str) -> None:
    captions = [c for c, _ in corpus]
    before, after = rouge_l(captions, [r for _, r in corpus]), rouge_l(captions, [(*r, another) for _, r in corpus])
    assert (after >= before - 1e-12).all()


@pytest.mark.slow
@given(corpora)
@every
def test_a_resample_that_takes_every_image_once_has_the_score(corpus: list[tuple[str, tuple[str, ...]]]) -> None:
    captions, references = [c for c, _ in corpus], [r for _, r in corpus]
    once = np.ones((1, len(corpus)))
    for order, form in itertools.product((1, 2, 3, 4), FORMS):
        counts = bleu_counts(captions, references, form)
        assert bleu_of(order)(once @ counts) == pytest.approx(bleu(captions, references, order, form), abs=1e-12)
    values = rouge_l(captions, references)
    assert mean_of(once @ averaged(values)) == pytest.approx(values.mean())


def test_what_a_perfect_caption_falls_short_of_by_definition() -> None:
    text = "یک سگ روی چمن می‌دود"
    other = ("گربه سیاه روی مبل خوابیده است",)
    assert meteor_exact([text], [(text,)]).tolist() == [1 - 0.5 / 5**3]  # one chunk of five words is a chunk
    pair, truths = [text, other[0]], [(text,), other]
    assert cider_d(pair, truths, document_frequencies(truths), 2) == pytest.approx([10, 10])
    assert bleu(["گربه سیاه"], [("گربه سیاه",)], 4) == 0  # it has no four words in a row
    assert bleu(["گربه سیاه"], [("گربه سیاه",)], 2) == 1


@pytest.mark.parametrize("caption", ["", "هواپیما"])
def test_nothing_in_common_is_zero_and_no_warning(caption: str) -> None:
    assert set(all_scores([caption], [("یک سگ روی چمن می‌دود", "سگ")]).values()) == {0.0}


def test_a_shorter_caption_is_held_against_the_shorter_of_two_equally_near_references() -> None:
    counts = bleu_counts(["سگ روی چمن"], [("سگ روی چمن سبز", "سگ روی")])
    assert counts[0].tolist() == [3, 2, 3, 3, 2, 2, 1, 1, 0, 0]
    assert bleu(["سگ روی چمن"], [("سگ روی چمن سبز",)], 1) == pytest.approx(math.exp(1 - 4 / 3))


def test_document_frequencies_count_images_and_not_references() -> None:
    found = document_frequencies([("سگ سگ", "سگ سبز"), ("سگ",), ("گربه",)])
    assert found == {("سگ",): 2, ("سبز",): 1, ("گربه",): 1, ("سگ", "سگ"): 1, ("سگ", "سبز"): 1}
    longest = "یک دو سه چهار پنج"
    assert max(map(len, document_frequencies([(longest,)]))) == 4
    assert document_frequencies([]) == {}


def test_captions_without_references_are_refused() -> None:
    for score in (bleu, rouge_l, meteor_exact):
        with pytest.raises(ValueError, match=r"shorter|longer"):
            score(["سگ"], [("سگ",), ("گربه",)])


# --- intervals


def test_the_interval_holds_the_score_and_comes_again() -> None:
    counts = bleu_counts(CAPTIONS * 20, REFERENCES * 20)
    score = scored(counts, bleu_of(4))
    assert score == scored(counts, bleu_of(4))
    assert score.value == bleu(CAPTIONS * 20, REFERENCES * 20, 4)
    assert score.n == 140
    assert score.low is not None
    assert score.high is not None
    assert 0 < score.low < score.value < score.high < 1


def test_a_resample_of_counts_is_the_score_of_resampled_images(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = scores._resampled(bleu_counts(CAPTIONS, REFERENCES), 130)
    random, expected = np.random.default_rng(scores.SEED), []
    n = len(CAPTIONS)
    for weights in random.multinomial(n, [1 / n] * n, size=130):
        places = np.repeat(np.arange(n), weights).tolist()
        expected.append(bleu([CAPTIONS[i] for i in places], [REFERENCES[i] for i in places], 4))
    assert bleu_of(4)(sums) == pytest.approx(np.array(expected), abs=1e-12)
    monkeypatch.setattr(scores, "TOGETHER", 7)  # how many are held at once changes nothing
    assert scores._resampled(bleu_counts(CAPTIONS, REFERENCES), 130).tolist() == sums.tolist()


def test_the_interval_of_a_mean_is_as_wide_as_its_standard_error_says() -> None:
    values = np.random.default_rng(0).normal(3, 2, size=400)
    score = scored(averaged(values), mean_of)
    assert score.value == pytest.approx(values.mean())
    assert score.low is not None
    assert score.high is not None
    assert score.high - score.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_one_image_has_no_interval_and_equal_ones_a_narrow_one() -> None:
    assert scored(averaged(np.array([0.25])), mean_of) == (0.25, None, None, 1)
    assert scored(averaged(np.full(4, 0.25)), mean_of) == (0.25, 0.25, 0.25, 4)


def test_resamples_without_a_score_are_left_out() -> None:
    score = scored(np.array([[1.0, 2.0], [0.0, 0.0], [0.0, 0.0]]), mean_of)
    assert score == (0.5, 0.5, 0.5, 3)


def test_pairs_tell_apart_what_intervals_do_not() -> None:
    random = np.random.default_rng(1)
    hard = random.uniform(0, 1, 200)
    a, b = averaged(hard), averaged(hard - 0.02 + random.normal(0, 0.02, 200))
    one, other = scored(a, mean_of), scored(b, mean_of)
    assert one.low is not None
    assert other.high is not None
    assert one.low < other.high
    found = paired(a, b, mean_of)
    assert found.value == pytest.approx(one.value - other.value)
    assert found.low is not None
    assert found.high is not None
    assert 0 < found.low < found.value < found.high
    assert found.p_value == pytest.approx(2 / 1001)
    assert paired(b, a, mean_of).value == -found.value


def test_a_system_does_not_differ_from_itself() -> None:
    counts = bleu_counts(CAPTIONS, REFERENCES)
    assert paired(counts, counts, bleu_of(2)) == (0, 0, 0, 1)
    assert paired(counts[:1], counts[:1], bleu_of(2)) == (0, None, None, 1)
    with pytest.raises(ValueError, match="paired"):
        paired(counts, counts[:5], bleu_of(2))


def test_a_clearly_worse_system_is_told_apart_in_bleu() -> None:
    truths = REFERENCES * 20
    good = bleu_counts([one[0] for one in truths], truths)
    bad = bleu_counts(CAPTIONS * 20, truths)
    found = paired(good, bad, bleu_of(4))
    assert found.value == pytest.approx(1 - bleu(CAPTIONS * 20, truths, 4))
    assert found.low is not None
    assert found.high is not None
    assert 0 < found.low < found.value < found.high
    assert found.p_value < 0.01
