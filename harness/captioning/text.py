"""Captions as words: the same sentence written in two ways of Unicode, spacing or punctuation gives the same words.

Persian: what hazm's normaliser leaves (kashida, bidirectional marks, presentation forms, stray half-spaces) is cleaned
here, before it and after it. The half-space (U+200C) inside a word stays, for it is a letter of the word.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence

from harness.errors import BenchError, unknown

LANGUAGES = ("fa", "en")
HALF_SPACE = "\u200c"

_HALF_SPACES = re.compile(f"{HALF_SPACE}+")
_EDGE = re.compile(rf"(?:(?<=\s)|^){HALF_SPACE}+|{HALF_SPACE}+(?=\s|$)")
_LETTER = r"(?=[^\W\d_])"
_SCRIPT = {
    "fa": re.compile(_LETTER + "[\u0600-\u063f\u0641-\u06ff\u0750-\u077f\u08a0-\u08ff\ufb50-\ufdff\ufe70-\ufefc]"),
    "en": re.compile(_LETTER + "[A-Za-z\u00c0-\u024f\u1e00-\u1eff\uff21-\uff5a]"),
}


def words(caption: str, language: str) -> list[str]:
    """The words of a caption, lower-case, without punctuation, symbols, emoji and invisible marks; [] for none.

    Digits of Persian are Persian ones. A point between digits parts them, as every other punctuation does: without it
    12.5 would be 125. English loses its apostrophes: "dog's" is "dogs". Raises BenchError for an unknown language, and
    where hazm is missing.
    """
    return next(cleaned([caption], language))


def cleaned(captions: Iterable[str], language: str) -> Iterator[list[str]]:
    """The words of each caption; see ``words``."""
    _check(language)
    clean = _persian if language == "fa" else _english
    return (clean(caption).split() for caption in captions)


def foreign(captions: Sequence[str], language: str) -> list[int]:
    """The places of captions without a single letter of the language's script. Raises BenchError as ``words``."""
    _check(language)
    letter = _SCRIPT[language]
    return [place for place, caption in enumerate(captions) if not letter.search(caption)]


def _check(language: str) -> None:
    if language not in LANGUAGES:
        raise unknown("language", language, LANGUAGES)


def _english(text: str) -> str:
    return _composed(text).translate(_ENGLISH)


def _persian(text: str) -> str:
    return " ".join(map(_normal, _tidy(_composed(text)).split()))


@functools.lru_cache(maxsize=2**17)
def _normal(word: str) -> str:
    """A word by hazm, remembered: once punctuation is gone nothing of its neighbours matters, and words come again.

    Given a whole sentence hazm repairs one word by replacing its letters wherever they stand, in other words too. It
    drops small waw, which leaves a half-space at an edge: hence tidied again.
    """
    return _tidy(_normaliser()(word))


def _tidy(text: str) -> str:
    return _EDGE.sub("", _HALF_SPACES.sub(HALF_SPACE, text.translate(_PERSIAN)))


def _composed(text: str) -> str:
    """One form for what has many in Unicode, in lower case."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


class _Becomes(dict[int, str]):
    """What becomes of characters, for ``str.translate``: those given, and the others learnt as they come."""

    def __missing__(self, code: int) -> str:
        found = self[code] = _becomes(chr(code))
        return found


def _becomes(character: str) -> str:
    """Itself, a space in the place of punctuation, symbols and controls that part words, or nothing."""
    kind = unicodedata.category(character)
    if kind in ("Cf", "Mn", "Me", "Cn", "Co", "Cs"):  # invisible marks, diacritics, what is no character
        return ""
    if kind[0] in "PS" or kind == "Cc":
        return " "
    return character


_ENGLISH = _Becomes({ord(apostrophe): "" for apostrophe in "'\u2019"})
_PERSIAN = _Becomes(
    {
        ord(HALF_SPACE): HALF_SPACE,
        ord("¬"): HALF_SPACE,  # which old editors wrote for it
        0x0640: "",  # kashida, which only makes a word longer
        # Heh with hamza above; of the two characters that may stand for it hazm keeps the heh.
        0x06C0: "\u0647",
        0x06C2: "\u0647",
    }
)


@functools.cache
def _normaliser() -> Callable[[str], str]:
    try:
        from hazm import Normalizer
    except ImportError as error:
        raise BenchError(
            "Persian captions: the package hazm is not installed; pip install 'adversarial-bench[captioning]'"
        ) from error
    # Made once: it reads a list of words. Without spacing correction, as the published study has it.
    run: Callable[[str], str] = Normalizer(correct_spacing=False).normalize
    return run
