"""The judge of captions: has every image attacked, clips to budget and box, has it captioned again, and keeps all."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from harness.assault import Assault, Log
from harness.attacking import attack
from harness.captioning.aiming import Wanted
from harness.captioning.data import CaptionSamples, tokens_of, trimmed
from harness.captioning.looking import AimedLook, CaptionLook
from harness.captioning.pointing import Pointing, pointing
from harness.captioning.saying import Decoding, said
from harness.captioning.scores import bleu_counts
from harness.standing import Fresh
from harness.tasks import captioning as task
from harness.types import AIM_CAPTION, Batch, Captioner, CaptionOutcome, Corpus, Threat, norm_of
from harness.undisturbed import seed_global, undisturbed

Looker = Callable[..., CaptionLook]

NUMBERS = ("linf", "l2", "l1", "proposal_size", "forwards", "backwards", "loss")


@dataclass(frozen=True)
class CaptionTrial:
    """What the judge is asked for: one attack against one captioner, whose captions are searched for in this way.

    aim: "caption" or "keyword" where the attack wants a certain one.
    """

    module: nn.Module
    assault: Assault
    decoding: Decoding
    batch_size: int
    aim: str = ""

    @property
    def threat(self) -> Threat | None:
        return self.assault.threat


def judge(
    trial: CaptionTrial,
    samples: CaptionSamples,
    corpus: Corpus,
    progress: Callable[[float], None] = lambda share: None,
    seen: Callable[[Tensor, Tensor], None] = lambda places, x: None,
) -> CaptionOutcome:
    """Attacks and judges every image. Captions are always generated anew, from pixels, by the live encoder.

    seen: is shown the images that count, (n, C, H, W), by their places among the samples, (n,).
    """
    began = time.perf_counter()
    with undisturbed(trial.module):
        seed_global(trial.assault.seed, torch.from_numpy(samples.ids))
        found = _Judge(trial, samples, corpus, progress, seen).run()
    found.seconds = time.perf_counter() - began
    return found


class _Judge:
    def __init__(
        self,
        trial: CaptionTrial,
        samples: CaptionSamples,
        corpus: Corpus,
        progress: Callable[[float], None],
        seen: Callable[[Tensor, Tensor], None],
    ) -> None:
        self.trial, self.samples, self.corpus, self.progress, self.seen = trial, samples, corpus, progress, seen
        self.module = cast("Captioner", trial.module)
        n = len(samples)
        self.rows: dict[str, Any] = {name: np.zeros(n) for name in NUMBERS}
        self.clean, self.final, self.target = [""] * n, [""] * n, [""] * n
        self.pointed: list[Pointing | None] = [None] * n
        self.low, self.high = 0.0, 1.0
        self.log = Log()
        self.wanted = Wanted(trial.aim, samples.vocabulary, corpus, trial.decoding.longest, trial.assault.seed)

    def run(self) -> CaptionOutcome:
        done = 0
        for places in self.samples.batches(self.trial.batch_size):
            x = self.samples.pixels(places)
            at = places.tolist()
            for place, text in zip(at, self._say(x, at), strict=True):
                self.clean[place] = self.final[place] = text
            self.rows["forwards"][at] += 1
            final = x
            if self.trial.threat is not None:
                final = self._attacked(x, places, self.trial.threat)
                for place, text in zip(at, self._say(final, at), strict=True):
                    self.final[place] = text
            self.rows["loss"][at] = self._loss(final, places)
            self.seen(places, final)
            done += len(at)
            self.progress(done / len(self.samples))
        return self._outcome()

    def _say(self, x: Tensor, at: list[int]) -> list[str]:
        """Captions of images, and where the attention was for their words."""
        captions, found = said(self.module, x, self.samples.vocabulary, self.trial.decoding)
        if found.attention is not None and self.samples.objects:
            maps = found.attention.float().cpu().numpy()
            for place, text, weights in zip(at, captions, maps, strict=True):
                self.pointed[place] = pointing(text.split(), weights, self.module.grid, self.samples.objects[place])
        return captions

    def _loss(self, x: Tensor, places: Tensor) -> Any:
        """The mean over an image's references, (n,); NaN of a captioner without a likelihood."""
        if not getattr(self.module, "likelihood", True):
            return np.nan
        samples = self.samples
        rows = torch.arange(int(samples.first[places[0]]), int(samples.first[places[-1] + 1]), device=samples.device)
        total = torch.zeros(len(places), dtype=torch.float64, device=samples.device)
        counts = samples.first[places + 1] - samples.first[places]
        owner = torch.repeat_interleave(torch.arange(len(places), device=samples.device), counts)
        with torch.no_grad():
            # What the encoder makes of an image is the same for each of its references.
            features = self.module.encode(x)
            for part in torch.split(torch.arange(len(rows), device=samples.device), self.trial.batch_size):
                tokens = trimmed(samples.tokens[rows[part]])
                nats = task.loss(self.module(features, tokens, owner[part]), tokens)
                total.index_add_(0, owner[part], nats.double())
        return (total / counts).cpu().numpy()

    def _attacked(self, x: Tensor, places: Tensor, threat: Threat) -> Tensor:
        """Images inside the budget: made worse for what the captioner says of the image as it is, or better for what
        is wanted.
        """
        at = places.tolist()
        tokens, assault, look = self._untargeted(at) if not self.trial.aim else self._aimed(at)
        batch = Batch(x, tokens.to(x.device), torch.from_numpy(self.samples.ids[at]).to(x.device))
        fresh = Fresh(batch, torch.arange(len(at), device=x.device), None)
        final = x.clone()
        for part in attack(self.trial.module, assault, [fresh], len(at), None, self.log, look=look):
            proposal, place = part.x_adv, part.place
            clipped = threat.project(proposal, x[place])
            final[place] = clipped
            rows = [at[index] for index in place.tolist()]
            self._write(rows, threat.size(proposal - x[place]), clipped - x[place], part.cost)
            self.low, self.high = min(self.low, float(proposal.min())), max(self.high, float(proposal.max()))
        return final

    def _untargeted(self, at: list[int]) -> tuple[Tensor, Assault, Looker]:
        tokens = tokens_of([self.clean[place] for place in at], self.samples.vocabulary)
        return tokens, replace(self.trial.assault, final_iterate=True), CaptionLook

    def _aimed(self, at: list[int]) -> tuple[Tensor, Assault, Looker]:
        aim, vocabulary, how = self.trial.aim, self.samples.vocabulary, self.trial.decoding
        ids, references = self.samples.ids[at], [self.samples.references[place] for place in at]
        targets = self.wanted.draw(ids, [self.clean[place] for place in at], references)
        for place, text in zip(at, targets, strict=True):
            self.target[place] = text
        tokens = tokens_of(targets, vocabulary)
        by_id = dict(zip(ids.tolist(), targets, strict=True))
        look = partial(AimedLook, aim=aim, targets=by_id, vocabulary=vocabulary, how=how)
        # Of a word in pieces the first one, behind what the vocabulary puts before every sentence.
        first = len(vocabulary.encode([])) - 1
        return tokens if aim == AIM_CAPTION else tokens[:, first : first + 1], self.trial.assault, look

    def _write(self, rows: list[int], size: Tensor, delta: Tensor, cost: Tensor) -> None:
        self.rows["proposal_size"][rows] = size.double().cpu().numpy()
        for name, norm in (("linf", "Linf"), ("l2", "L2"), ("l1", "L1")):
            self.rows[name][rows] = norm_of(delta, norm).double().cpu().numpy()
        for column, name in enumerate(("forwards", "backwards")):
            self.rows[name][rows] += cost[:, column].double().cpu().numpy()

    def _outcome(self) -> CaptionOutcome:
        samples = self.samples
        if self.trial.aim:
            self.log.facts["aim"] = self.trial.aim
        known = [found for found in self.pointed if found is not None]
        pointed: dict[str, Any] = {}
        if len(known) == len(samples):
            pointed = {
                "named": np.array([found.named for found in known], np.int64),
                "pointed": np.array([found.pointed for found in known], np.int64),
                "covered": np.array([found.covered for found in known], np.float64),
            }
        return CaptionOutcome(
            ids=samples.ids,
            references=samples.references,
            clean_caption=tuple(self.clean),
            caption=tuple(self.final),
            corpus=self.corpus,
            target=tuple(self.target) if self.trial.aim else None,
            bleu_counts=bleu_counts(self.final, samples.references),
            proposal_low=self.low,
            proposal_high=self.high,
            notes=list(self.log.notes.values()),
            facts=self.log.facts,
            **{**self.rows, **pointed},
        )
