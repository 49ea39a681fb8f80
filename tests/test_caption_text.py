"""Captions as words: what people write in many ways comes out in one."""

from __future__ import annotations

import json
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.captioning import text
from harness.captioning.text import _normaliser, cleaned, foreign, words
from harness.errors import BenchError

ALPHABET = (
    "ابپتجچخدذرزسشعغفقکگلمنوهی"
    + "آأإؤئءةكيىۀ"
    + "ﻻﻼﷲﮐ"
    + "َُِّْٰٔ"
    + "ـ\u06e5"
    + "۰۱9٤"
    + "،؛؟.!«»\"'()_%-"
    + "abÉß"
    + " \t\n\u00a0"
)
ALPHABET += "\u200c\u200c\u200c\u200d\u200e\u200f\u200b\ufeff\u00ad\u2066¬🙂\ufe0f"
COMMON = ["میرود", "نمیرود", "می", "رود", "سلاممم", "كتاب", "صندلی\u200cهای", "خانه", "۱۲", "12", "BMW", "و", "میز"]
EACH = [pytest.param("fa", marks=pytest.mark.slow), "en"]  # hazm takes seconds to import
TEXTS = st.text(alphabet=ALPHABET, max_size=40)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("ســلام", "سلام"),  # kashida
        ("می\u200c\u200cرود", "می\u200cرود"),  # two half-spaces
        ("\u200cسلام\u200c دنیا", "سلام دنیا"),  # half-spaces at the edges of words
        ("\u200fسلام\u200e", "سلام"),  # bidirectional marks
        ("سلا\u200bم\u00ad", "سلام"),  # zero-width space, soft hyphen
        ("ﻻﻼ", "لالا"),  # presentation forms
        ("علي كتاب", "علی کتاب"),  # Arabic letters
        ("خانۀ", "خانه"),
        ("خانهٔ", "خانه"),
        ("کَرد", "کرد"),  # diacritics
        ("«سلام»،", "سلام"),
        ("سگ\u00a0سیاه", "سگ سیاه"),  # no-break space
        ("12 ٣٤ ۵", "۱۲ ۳۴ ۵"),
        ("12.5", "۱۲ ۵"),  # not ۱۲۵
        ("۱۲٫۵", "۱۲ ۵"),
        ("10:30", "۱۰ ۳۰"),
        ("یک/دو_سه", "یک دو سه"),
        ("میرود", "می\u200cرود"),  # hazm's, which has it in its list of verbs
        ("نمیرود", "نمی\u200cرود"),
        ("میز", "میز"),
        ("می رود", "می رود"),  # spacing is not corrected
        ("🙂 سگ ❤️", "سگ"),
        ("سگ👨\u200d👩\u200d👧گربه", "سگ گربه"),  # one emoji of three
        ("سگ،گربه", "سگ گربه"),  # no space after the comma
        ("صندلی¬ها", "صندلی\u200cها"),  # an old editor's half-space
        ("سلاممممم", "سلام"),  # hazm's
        ("ه\u0640\u0654", "ه"),
        ("İ", "i"),
        ("\u06e5\u200cما\u200c\u06e5", "ما"),  # small waw, which hazm drops
        ("BMW قرمز", "bmw قرمز"),
        ("صندلی\u200cهای،", "صندلی\u200cهای"),
        ("؟!", ""),
        ("", ""),
    ],
)
def test_persian_is_written_in_one_way(written: str, wanted: str) -> None:
    assert words(written, "fa") == wanted.split(" " if wanted else None)


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("A dog's ball.", "a dogs ball"),
        ("Don\u2019t — ever!", "dont ever"),
        ("ＦＵＬＬ  width", "full width"),
        ("a half-open door", "a half open door"),
        ("...", ""),
        ("Café Café", "café café"),
        ("12 dogs", "12 dogs"),
        ("5㎒", "5mhz"),
        ("a\x07b\u2028c", "a b c"),
    ],
)
def test_english_is_written_in_one_way(written: str, wanted: str) -> None:
    assert words(written, "en") == wanted.split()


@example(written="ۀ\u0654")
@example(written="\u200c\u0640\u200c")
@given(written=TEXTS | st.text(max_size=20))
@settings(deadline=None)  # the first Persian word has hazm read its list
@pytest.mark.parametrize("language", EACH)
def test_cleaning_what_is_clean_changes_nothing(language: str, written: str) -> None:
    found = words(written, language)
    assert words(" ".join(found), language) == found


@given(written=TEXTS | st.text(max_size=20))
@settings(deadline=None)
@pytest.mark.parametrize("language", EACH)
def test_a_word_has_no_spaces_punctuation_or_marks_at_its_edges(language: str, written: str) -> None:
    for word in words(written, language):
        assert word
        assert not any(c.isspace() or unicodedata.category(c)[0] in "PS" for c in word)
        assert word == word.strip("\u200c")
        assert "\u200c\u200c" not in word
        assert not any(unicodedata.category(c) in ("Cf", "Mn") for c in word.replace("\u200c", ""))


@given(one=TEXTS, other=TEXTS)
@settings(deadline=None)
@pytest.mark.parametrize("language", EACH)
def test_a_word_is_the_same_beside_any_other(language: str, one: str, other: str) -> None:
    assert words(f"{one} {other}", language) == words(one, language) + words(other, language)


@pytest.mark.slow
@given(st.lists(st.sampled_from(COMMON), max_size=12))
@settings(deadline=None)
def test_words_one_by_one_are_those_of_the_normaliser_on_sentences(sentence: list[str]) -> None:
    whole = _normaliser()(" ".join(sentence))
    assert words(" ".join(sentence), "fa") == words(whole, "fa") == whole.lower().split()


@pytest.mark.slow
def test_the_normaliser_on_a_sentence_repairs_words_inside_others() -> None:
    """Why words are given to it one by one."""
    assert _normaliser()("میرود") == "می\u200cرود"
    assert _normaliser()("قدمیرود") == "قدمیرود"
    assert _normaliser()("میرود قدمیرود") == "می\u200cرود قدمی\u200cرود"
    assert words("میرود قدمیرود", "fa") == ["می\u200cرود", "قدمیرود"]


@pytest.mark.slow
def test_words_of_real_captions_are_those_of_the_normaliser_on_whole_captions(shared_data: Path) -> None:
    pairs = json.loads((shared_data / "coco-fa" / "text_only_val2017.json").read_text())
    captions = [pair["fa"] for found in pairs.values() for pair in found][:3000]
    for caption, found in zip(captions, cleaned(captions, "fa"), strict=True):
        assert found == _normaliser()(" ".join(found)).split()
        assert found == words(_normaliser()(caption), "fa")
        assert found == words(" ".join(found), "fa")


def test_captions_without_a_letter_of_the_script_are_found() -> None:
    assert foreign(
        ["یک سگ", "a dog", "۱۲", "سگ dog", "ﮔﺮﺑﻪ", "a\u200c\u0640 dog، a cat؟", "\ufeffa dog", ""], "fa"
    ) == [
        *(1, 2),
        *(5, 6, 7),  # marks and a byte order mark of the script's blocks are no letters
    ]
    assert foreign(["یک سگ", "a dog", "12", "ＦＵＬＬ", "é", "×", "سگ dog"], "en") == [0, 2, 5]


def test_an_unknown_language_is_refused() -> None:
    for call in (lambda: words("a", "xy"), lambda: cleaned([], "xy"), lambda: foreign(["a"], "xy")):
        with pytest.raises(BenchError, match=r"^language: no such name 'xy'; known: en, fa$"):
            call()


def test_persian_without_hazm_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hazm", None)
    monkeypatch.setattr(text, "_normaliser", _normaliser.__wrapped__)
    with pytest.raises(BenchError) as caught:
        words("واژه\u200cای\u200cکه\u200cهیچ\u200cکس\u200cنپرسیده", "fa")
    assert str(caught.value) == (
        "Persian captions: the package hazm is not installed; pip install 'adversarial-bench[captioning]'"
    )
    assert words("A dog", "en") == ["a", "dog"]
    assert words("؟!", "fa") == []
