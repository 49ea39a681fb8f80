"""BLEU: n-grams of one to four words that generated captions share with their references."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from harness.hookspecs import ADDED_LATER, hookimpl
from harness.types import AIM_CAPTION, CAPTIONING, CaptionOutcome, Score


@dataclass(frozen=True)
class Bleu:
    """Corpus BLEU of n-grams of up to ``order`` words, unsmoothed (Papineni et al., ACL 2002), in [0, 1].

    order: words of the longest n-grams. form: "sacrebleu" counts as sacrebleu and pycocoevalcap do, "nltk" as nltk's
    ``corpus_bleu``, which differs where a caption is shorter than the n-gram. of: "clean_caption" scores what was said
    before the attack. against: "target" holds captions against the one that a targeted attack wanted of each image, and
    is None for other attacks. Bootstrap interval over images.
    """

    order: int = 4
    form: Literal["sacrebleu", "nltk"] = "sacrebleu"
    of: Literal["caption", "clean_caption"] = "caption"
    against: Literal["references", "target"] = field(default="references", metadata=ADDED_LATER)

    task: ClassVar[str] = CAPTIONING
    unit: ClassVar[str] = "fraction"
    higher_is_better: ClassVar[bool | None] = True

    def __post_init__(self) -> None:
        if not 1 <= self.order <= 4:
            raise ValueError(f"order: got {self.order}; 1 to 4 words are needed")

    @hookimpl
    def measure(self, outcome: CaptionOutcome) -> Score | None:
        from harness.captioning.scores import bleu_counts, bleu_of, scored

        captions = outcome.caption if self.of == "caption" else outcome.clean_caption
        truths = outcome.references
        if self.against == "target":
            if outcome.aim != AIM_CAPTION or outcome.target is None:
                return None
            truths = tuple((text,) for text in outcome.target)
        return scored(bleu_counts(captions, truths, self.form), bleu_of(self.order))
