"""What ``bench info`` says and draws of the words of a captioned data set."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.captioning.text import cleaned
from harness.captioning.vocabulary import SPECIAL, Vocabulary
from harness.captioning.wording import Wording, wording
from harness.types import CaptionedSplit, Facts

TRAINING = "train"
WIDTH = 110


def vocabulary(splits: Mapping[str, CaptionedSplit], facts: Facts) -> Vocabulary:
    """The words of the training captions that a captioner knows. Raises BenchError where hazm is missing."""
    return Vocabulary.of(cleaned(_texts(splits[TRAINING]), facts.language), facts.minimum_count)


def counted(splits: Mapping[str, CaptionedSplit], facts: Facts) -> Wording:
    """The words of the training captions, and the unknown ones of the other splits. Raises as ``vocabulary``."""
    training = list(cleaned(_texts(splits[TRAINING]), facts.language))
    known = Vocabulary.of(training, facts.minimum_count)
    others = {split: cleaned(_texts(part), facts.language) for split, part in splits.items() if split != TRAINING}
    return wording(training, known, others, written=_texts(splits[TRAINING]))


def lines(found: Wording, facts: Facts) -> list[str]:
    """Unique words before and after cleaning and counting, unknown ones, lengths, and the most frequent words."""
    special = len(SPECIAL)
    often = f"{facts.minimum_count} times or more" if facts.minimum_count > 1 else "all of them"
    unknown = (f"{share * 100:.1f} % of the words of {split}" for split, share in found.unknown.items())
    lengths = ", ".join(f"{length}: {count:,}" for length, count in found.lengths.items())
    count = max((len(f"{count:,}") for _, count in found.frequent), default=0)
    return [
        f"words of the {found.captions:,} training captions",
        f"  unique   {found.written:,} as written, between spaces; {found.unique:,} cleaned; {found.known:,} in the "
        f"vocabulary ({often}), {found.known + special:,} with the {special} special ones",
        f"  unknown  {', '.join(unknown)}",
        f"  lengths  {min(found.lengths)} to {max(found.lengths)} words, mean {found.mean_length:.1f}",
        *textwrap.wrap(f"captions by words: {lengths}", WIDTH, initial_indent=" " * 11, subsequent_indent=" " * 11),
        "  most frequent",
        *(f"    {f'{times:,}'.rjust(count)}  {word}" for word, times in found.frequent),
    ]


def as_data(found: Wording) -> Mapping[str, Any]:
    """The same for JSON."""
    return {
        "captions": found.captions,
        "unique_as_written": found.written,
        "unique_cleaned": found.unique,
        "in_vocabulary": found.known,
        "unknown": {split: share if share == share else None for split, share in found.unknown.items()},
        "lengths": {str(length): count for length, count in found.lengths.items()},
        "frequent": [{"word": word, "count": count} for word, count in found.frequent],
    }


def draw(found: Wording, name: str, folder: Path) -> list[Path]:
    """Writes the most frequent words and the lengths of the training captions as PNG and PDF."""
    from harness.figures.style import save, shortened
    from harness.figures.wording import caption_lengths, frequent_words

    called = shortened(name, 50)
    unique = f"{found.captions:,} captions, {found.unique:,} words, {found.known:,} of them known to a captioner"
    words = frequent_words(found.frequent, title=f"{called}, train: the most frequent words\n{unique}")
    spans = f"{found.captions:,} captions of {min(found.lengths)} to {max(found.lengths)} words"
    lengths = caption_lengths(found.lengths, title=f"{called}, train: lengths of captions\n{spans}")
    return [*save(words, folder, f"{name}-words"), *save(lengths, folder, f"{name}-lengths")]


def _texts(split: CaptionedSplit) -> Iterator[str]:
    return (text for captions in split.captions for text in captions)
