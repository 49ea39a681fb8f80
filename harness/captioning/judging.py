"""The judge of captions: has every image attacked, clips to budget and box, has it captioned again, and keeps all."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from harness.assault import Assault, Log
from harness.attacking import attack
from harness.captioning.data import CaptionSamples, tokens_of
from harness.captioning.looking import CaptionLook
from harness.captioning.pointing import Pointing, pointing
from harness.captioning.saying import Decoding, said
from harness.standing import Fresh
from harness.tasks import captioning as task
from harness.types import Batch, Captioner, CaptionOutcome, Corpus, Threat, norm_of
from harness.undisturbed import seed_global, undisturbed

NUMBERS = ("linf", "l2", "l1", "proposal_size", "forwards", "backwards", "loss")


@dataclass(frozen=True)
class CaptionTrial:
    """What the judge is asked for: one attack against one captioner, whose captions are searched for in this way."""

    module: nn.Module
    assault: Assault
    decoding: Decoding
    batch_size: int

    @property
    def threat(self) -> Threat | None:
        return self.assault.threat


def judge(
    trial: CaptionTrial, samples: CaptionSamples, corpus: Corpus, progress: Callable[[float], None] = lambda share: None
) -> CaptionOutcome:
    """Attacks and judges every image. Captions are always generated anew, from pixels, by the live encoder."""
    began = time.perf_counter()
    with undisturbed(trial.module):
        seed_global(trial.assault.seed, torch.from_numpy(samples.ids))
        found = _Judge(trial, samples, progress).run(corpus)
    found.seconds = time.perf_counter() - began
    return found


class _Judge:
    def __init__(self, trial: CaptionTrial, samples: CaptionSamples, progress: Callable[[float], None]) -> None:
        self.trial, self.samples, self.progress = trial, samples, progress
        self.module = cast("Captioner", trial.module)
        n = len(samples)
        self.rows: dict[str, Any] = {name: np.zeros(n) for name in NUMBERS}
        self.clean, self.final = [""] * n, [""] * n
        self.pointed: list[Pointing | None] = [None] * n
        self.low, self.high = 0.0, 1.0
        self.log = Log()

    def run(self, corpus: Corpus) -> CaptionOutcome:
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
            done += len(at)
            self.progress(done / len(self.samples))
        return self._outcome(corpus)

    def _say(self, x: Tensor, at: list[int]) -> list[str]:
        """Captions of images, and where the attention was for their words."""
        captions, found = said(self.module, x, self.samples.vocabulary, self.trial.decoding)
        if found.attention is not None and self.samples.objects:
            maps = found.attention.float().cpu().numpy()
            for place, text, weights in zip(at, captions, maps, strict=True):
                self.pointed[place] = pointing(text.split(), weights, self.module.grid, self.samples.objects[place])
        return captions

    def _loss(self, x: Tensor, places: Tensor) -> Any:
        """The mean over an image's references, (n,)."""
        samples = self.samples
        rows = torch.arange(int(samples.first[places[0]]), int(samples.first[places[-1] + 1]), device=samples.device)
        total = torch.zeros(len(places), dtype=torch.float64, device=samples.device)
        counts = samples.first[places + 1] - samples.first[places]
        owner = torch.repeat_interleave(torch.arange(len(places), device=samples.device), counts)
        with torch.no_grad():
            # What the encoder makes of an image is the same for each of its references.
            features = self.module.encode(x)
            for part in torch.split(torch.arange(len(rows), device=samples.device), self.trial.batch_size):
                tokens = samples.tokens[rows[part]]
                nats = task.loss(self.module(features[owner[part]], tokens), tokens)
                total.index_add_(0, owner[part], nats.double())
        return (total / counts).cpu().numpy()

    def _attacked(self, x: Tensor, places: Tensor, threat: Threat) -> Tensor:
        """Images inside the budget: made worse for what the captioner says of the image as it is."""
        assault, at = replace(self.trial.assault, final_iterate=True), places.tolist()
        tokens = tokens_of([self.clean[place] for place in at], self.samples.vocabulary).to(x.device)
        batch = Batch(x, tokens, torch.from_numpy(self.samples.ids[at]).to(x.device))
        fresh = Fresh(batch, torch.arange(len(at), device=x.device), None)
        final = x.clone()
        for part in attack(self.trial.module, assault, [fresh], len(at), None, self.log, look=CaptionLook):
            proposal, place = part.x_adv, part.place
            clipped = threat.project(proposal, x[place])
            final[place] = clipped
            rows = [at[index] for index in place.tolist()]
            self._write(rows, threat.size(proposal - x[place]), clipped - x[place], part.cost)
            self.low, self.high = min(self.low, float(proposal.min())), max(self.high, float(proposal.max()))
        return final

    def _write(self, rows: list[int], size: Tensor, delta: Tensor, cost: Tensor) -> None:
        self.rows["proposal_size"][rows] = size.double().cpu().numpy()
        for name, norm in (("linf", "Linf"), ("l2", "L2"), ("l1", "L1")):
            self.rows[name][rows] = norm_of(delta, norm).double().cpu().numpy()
        for column, name in enumerate(("forwards", "backwards")):
            self.rows[name][rows] += cost[:, column].double().cpu().numpy()

    def _outcome(self, corpus: Corpus) -> CaptionOutcome:
        samples = self.samples
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
            corpus=corpus,
            proposal_low=self.low,
            proposal_high=self.high,
            notes=list(self.log.notes.values()),
            facts=self.log.facts,
            **{**self.rows, **pointed},
        )
