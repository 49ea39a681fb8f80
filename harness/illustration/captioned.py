"""Figures of captioners: where they looked for each word. What is computed for them is kept under a content key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from harness.captioning.data import CaptionData, CaptionSamples
from harness.captioning.judging import judge
from harness.captioning.saying import said
from harness.captioning.scores import sentence_bleu
from harness.data import chosen
from harness.figures.attention import Example, Sentence, attention_panels
from harness.illustration.book import Page, attack_name, facts_of, seed_name
from harness.illustration.modelled import Arrays, Laboratory, needed
from harness.steps import CellStep
from harness.types import AIM_KEYWORD, Captioner, CaptionOutcome
from harness.undisturbed import undisturbed

if TYPE_CHECKING:
    from numpy.typing import NDArray

DRAWN, SHOWN = 100, 5
"""Test images that are drawn by lot, and how many of these are shown, worst and best."""
RIGHT_TO_LEFT = ("fa",)


def attentions(lab: Laboratory) -> Iterator[Page]:
    """Two figures of a cell: the worst captions of its images, and the best, with where each word looked."""
    for cell in lab.book.cells:
        data = lab.executor.captions(cell.hardened.data)
        outcome = lab.book.store.captions(cell.key, data.references, data.corpus)
        scores = sentence_bleu(outcome.caption, outcome.references)
        groups = ranked(scores)
        ids = [int(outcome.ids[row]) for rows in groups.values() for row in rows]
        document = {"analysis": "attention", "cell": cell.key, "ids": ids}
        found = lab.kept(document, needed(cell), partial(_looks, lab, cell, data, ids))
        if found is None:
            continue
        if "clean_attention" not in found:
            lab.book.note(f"attention: {cell.label}: the model tells no attention")
            continue
        _compare(lab, cell, outcome, ids, found)
        examples = dict(zip(ids, _examples(data, ids, found, _wanted(cell, outcome)), strict=True))
        parts = (cell.hardened.model.name, cell.hardened.defense.name, attack_name(cell), seed_name(cell.seed))
        for which, rows in groups.items():
            few = [examples[int(outcome.ids[row])] for row in rows]
            if not few:
                continue
            text = f"{cell.label}: the {len(few)} {which} captions of {min(DRAWN, len(scores))}"
            from_right = facts_of(cell).language in RIGHT_TO_LEFT
            figure = attention_panels(few, from_right=from_right, title=lab.book.title(text))
            yield Page(lab.book.name("attention", which, *parts), figure)


def ranked(scores: NDArray[np.float64]) -> dict[str, list[int]]:
    """The places of the worst captions, the worst first, and of the best, of those drawn by lot; none is in both."""
    drawn = chosen(len(scores), DRAWN)
    order = drawn[np.argsort(scores[drawn], kind="stable")].tolist()
    few = min(SHOWN, max(1, len(order) // 2))
    return {"worst": order[:few], "best": order[: len(order) - few - 1 : -1] if len(order) > 1 else []}


def _looks(lab: Laboratory, cell: CellStep, data: CaptionData, ids: list[int]) -> Arrays:
    """Images as they are and attacked by the cell's attack, what is said of both, and where each word looked."""
    trial, samples = lab.executor.caption_trial(cell)
    samples, captioner = samples.select(_places(samples, ids)), cast("Captioner", trial.module)
    places = torch.arange(len(samples), device=samples.device)
    images = {"clean": samples.pixels(places)}
    if cell.threat is not None:
        images["attacked"] = images["clean"].clone()

        def seen(at: torch.Tensor, x: torch.Tensor) -> None:
            images["attacked"][at] = x

        judge(trial, samples, data.corpus, seen=seen)
    found: Arrays = {}
    for which, x in images.items():
        with undisturbed(trial.module):
            captions, generated = said(captioner, x, samples.vocabulary, trial.decoding)
        found[f"{which}_image"], found[f"{which}_caption"] = x.cpu().numpy(), _packed(captions)
        if generated.attention is not None:
            maps = generated.attention.float().cpu().numpy()
            found[f"{which}_attention"] = maps.reshape(*maps.shape[:2], *captioner.grid)
    return found


def _places(samples: CaptionSamples, ids: Sequence[int]) -> list[int]:
    place = {number: row for row, number in enumerate(samples.ids.tolist())}
    return [place[number] for number in ids]


def _wanted(cell: CellStep, outcome: CaptionOutcome) -> dict[int, tuple[str, bool]]:
    """Of each image what the attack wanted and whether it got that, by id; nothing where it wanted nothing certain."""
    if outcome.target is None:
        return {}
    word = cell.attack.aim == AIM_KEYWORD
    told = zip(outcome.ids.tolist(), outcome.target, outcome.caption, strict=True)
    return {id_: (target, target in (said.split() if word else [said])) for id_, target, said in told}


def _examples(
    data: CaptionData, ids: Sequence[int], found: Arrays, wanted: Mapping[int, tuple[str, bool]]
) -> Iterator[Example]:
    test = data.splits["test"]
    samples = test.select(_places(test, ids))
    names = [name for name in ("clean", "attacked") if f"{name}_image" in found]
    captions = {name: _unpacked(found[f"{name}_caption"]) for name in names}
    scores = {name: sentence_bleu(captions[name], samples.references) for name in names}
    for row, references in enumerate(samples.references):
        sentences = [
            Sentence(
                name,
                found[f"{name}_image"][row],
                captions[name][row].split(),
                found[f"{name}_attention"][row],
                float(scores[name][row]),
                *(wanted.get(ids[row], ()) if name == "attacked" else ()),
            )
            for name in names
        ]
        yield Example(references, sentences, samples.objects[row] if samples.objects else ())


def _compare(lab: Laboratory, cell: CellStep, outcome: CaptionOutcome, ids: Sequence[int], found: Arrays) -> None:
    """Notes where captions are not those of the run: attacks with a loop of their own may draw by the batch."""
    place = {int(sample): row for row, sample in enumerate(outcome.ids)}
    rows = [place[sample] for sample in ids]
    stored = {"clean": outcome.clean_caption, "attacked": outcome.caption}
    made = {name: _unpacked(found[f"{name}_caption"]) for name in stored if f"{name}_caption" in found}
    differing = sum(any(made[name][n] != stored[name][row] for name in made) for n, row in enumerate(rows))
    if differing:
        text = f"{differing} of {len(ids)} images, made again, have other captions than in the run"
        lab.book.note(f"attention: {cell.label}: {text}")


def _packed(captions: Sequence[str]) -> NDArray[Any]:
    """Texts as an array: UTF-8, a line each."""
    return np.frombuffer("\n".join(captions).encode() + b"\n", np.uint8).copy()


def _unpacked(lines: NDArray[Any]) -> list[str]:
    return lines.tobytes().decode().split("\n")[:-1]
