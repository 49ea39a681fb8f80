"""The judge: has every sample attacked, clips to budget and box, predicts, and keeps what happened to each sample."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness import doubting
from harness.assault import Assault, Log
from harness.attacking import attack
from harness.data import Samples
from harness.looking import Look
from harness.standing import Finished, Fresh
from harness.subject import Subject, examine
from harness.tasks import classification as task
from harness.types import Batch, Outcome, Threat, norm_of
from harness.undisturbed import seed_global, undisturbed

CHECKED = 16
"""Attacked images of a cell that are always predicted again by the model as it is, whatever the engine saw."""

SAME = 1e-6
"""Pixels that differ by no more are the same: rounding of a projection done twice."""

PROBED = 100
"""Samples that the checks which cost passes look at."""

RARE = ("quantised_prediction", "target", "proposal_prediction")
CLASSES = ("clean_prediction", "prediction", "label_rank", *RARE)
NUMBERS = ("linf", "l2", "l1", "proposal_size", "forwards", "backwards", "zeros", "confidence")
ANSWER = ("prediction", "confidence", "label_rank")
CARRIED = ("clean_prediction", *ANSWER, "linf", "l2", "l1", "proposal_size", "quantised_prediction")
"""Columns that a larger budget takes over from a smaller one; the passes spent there were paid there."""

Progress = Callable[[float, float], None]
"""Told what share of the attack is done, and the accuracy so far."""


@dataclass(frozen=True)
class Trial:
    """What the judge is asked for: attacks against one model.

    members: tried one after the other on what still stands; one for a single attack, several for an ensemble. Their
    threat is the trial's. crafted_on: another model that the images are made on (transfer). before: the outcome at a
    smaller budget; what was wrong there is wrong here and is not attacked again. verify: measure also what costs
    passes, among it what ``probe``, an attack without gradients, makes of the samples that stand at the end. subject:
    the model examined before, if it was.
    """

    module: nn.Module
    members: Sequence[Assault]
    batch_size: int
    crafted_on: nn.Module | None = None
    before: Outcome | None = None
    verify: bool = False
    probe: Assault | None = None
    subject: Subject | None = None

    @property
    def threat(self) -> Threat | None:
        return self.members[0].threat


def judge(trial: Trial, samples: Samples, progress: Progress = lambda share, accuracy: None) -> Outcome:
    """Attacks and judges every sample; memory grows with the batch, and by a few numbers a sample.

    Raises BenchError where an attack's proposal or the model's logits cannot be judged (wrong shape, dtype, NaN).
    """
    with contextlib.ExitStack() as kept:
        for module in (trial.module, trial.crafted_on):
            if module is not None:
                kept.enter_context(undisturbed(module))
        seed_global(trial.members[0].seed, samples.ids)
        return _Judge(trial, samples, progress).run()


class _Judge:
    def __init__(self, trial: Trial, samples: Samples, progress: Progress) -> None:
        self.began = time.perf_counter()
        self.trial, self.samples, self.progress = trial, samples, progress
        self.subject = trial.subject or examine(trial.module, samples)
        self.crafted_on = None if trial.crafted_on is None else examine(trial.crafted_on, samples)
        self.log = Log(facts={**self.subject.facts})
        # Of a random model the mean of as many answers as its attack averages counts.
        draws = 1 if self.subject.repeats else max(assault.draws for assault in trial.members)
        self.look = Look(self.subject.fast, trial.batch_size, draws=draws)
        self.plain = Look(self.subject.module, trial.batch_size)
        n, device = len(samples), samples.labels.device
        self.rows: dict[str, Tensor] = {
            **{name: torch.zeros(n, dtype=torch.int64, device=device) for name in CLASSES},
            **{name: torch.zeros(n, dtype=torch.float64, device=device) for name in NUMBERS},
        }
        self.low, self.high = 0.0, 1.0
        self.targeted = False
        self.checked = self.differing = self.engine_right = self.judge_right = 0

    @property
    def _searches(self) -> bool:
        """Whether one attack looks for the smallest perturbations, so that their sizes are the outcome."""
        return len(self.trial.members) == 1 and self.trial.members[0].minimum_norm

    def run(self) -> Outcome:
        standing = self._begin()
        if self.trial.threat is not None:
            for number, member in enumerate(self.trial.members):
                places = standing.nonzero().squeeze(1)
                assault = self._with_what_is_left(member, places) if len(places) else None
                if assault is None:
                    break
                done = 0
                for finished in self._attack(assault, places):
                    self._settle(assault, finished)
                    done += len(finished.place)
                    right = float((self.rows["prediction"] == self.samples.labels).double().mean())
                    self.progress((number + done / len(places)) / len(self.trial.members), right)
                standing &= self.rows["prediction"] == self.samples.labels
                if len(self.trial.members) > 1:
                    told = [assault.name, float(standing.double().mean()), time.perf_counter() - self.began]
                    self.log.facts.setdefault("members", []).append(told)
            if self.trial.verify:
                self._probe(standing)
        return self._outcome()

    def _with_what_is_left(self, member: Assault, places: Tensor) -> Assault | None:
        """A member of an ensemble with the queries that the members before it left over; None where they left none."""
        if member.query_budget is None or len(self.trial.members) == 1:
            return member
        first_look = 0 if self.trial.before is not None else self.look.draws
        left = member.query_budget - int(self.rows["forwards"][places].max()) + first_look
        return replace(member, query_budget=left) if left > 0 else None

    def _begin(self) -> Tensor:
        """Fills in what is known without an attack; which samples are to be attacked: (N,)."""
        before = self.trial.before
        labels = self.samples.labels
        if before is not None:
            for name in CARRIED:
                column = getattr(before, name)
                if column is not None or name == "quantised_prediction":
                    self.rows[name].copy_(torch.from_numpy(before.prediction if column is None else column))
            self.low, self.high = before.proposal_low, before.proposal_high
        else:
            for place, batch in self._batches(torch.arange(len(labels), device=labels.device)):
                self._answer(place, logits := self._logits(self.look, batch), batch.y)
                for name in ("clean_prediction", "quantised_prediction"):
                    self.rows[name][place] = task.predict(logits)
            self.rows["forwards"] += self.look.draws
        if self.trial.members[0].final_iterate:
            return torch.ones_like(labels, dtype=torch.bool)
        return self.rows["prediction"] == labels

    def _attack(self, assault: Assault, places: Tensor) -> Iterator[Finished]:
        budget = assault.query_budget
        if budget is not None and budget < assault.draws + assault.needs_clean:
            return  # not enough for a first look
        crafting = self.crafted_on or self.subject
        assault = replace(assault, inside_suffices=assault.minimum_norm and not self._searches)
        if self.crafted_on is not None:
            assault = replace(assault, final_iterate=True)  # an image that fools one model by a hair fools no other
        module = crafting.fast if assault.only_asks else crafting.module
        source = self._fresh(assault, Look(module, self.trial.batch_size), places)
        yield from attack(module, assault, source, self.trial.batch_size, crafting.classes, self.log)

    def _fresh(self, assault: Assault, look: Look, places: Tensor) -> Iterator[Fresh]:
        for place, batch in self._batches(places):
            clean = None
            if assault.needs_clean:
                clean = look(batch.x, batch, {}, gradient=False).logits
            yield Fresh(batch, place, clean)

    def _batches(self, places: Tensor) -> Iterator[tuple[Tensor, Batch]]:
        for place in places.split(self.trial.batch_size):  # type: ignore[no-untyped-call]
            yield place, self.samples.take(place)

    def _logits(self, look: Look, batch: Batch) -> Tensor:
        return look(batch.x, batch, {}, gradient=False).logits

    def _answer(self, place: Tensor, logits: Tensor, y: Tensor) -> None:
        """Writes down what the model says of the final images."""
        self.rows["prediction"][place] = task.predict(logits)
        self.rows["confidence"][place] = task.confidence(logits).double()
        self.rows["label_rank"][place] = task.label_rank(logits, y)

    def _settle(self, assault: Assault, finished: Finished) -> None:
        """Clips, predicts, and writes down what became of finished samples."""
        threat, place, proposal = self.trial.threat, finished.place, finished.x_adv
        assert threat is not None
        # Taken afresh: an attack may have written into what it was given.
        x, y, ids = batch = self.samples.take(place)
        size = threat.size(proposal - x).double()
        if assault.minimum_norm:
            logits = self._judged(assault, finished, batch._replace(x=proposal), sure=True)
            found = task.predict(logits)
            size = torch.where(found == y, float("inf"), size)
            self.rows["proposal_prediction"][place] = found
            inside = size <= threat.eps * (1 + 1e-6)
            clipped = torch.where(inside.view(-1, 1, 1, 1), proposal, x)
            if bool(inside.any()):  # else the image counts as it is, and what was said of that
                self._answer(place[inside], logits[inside], y[inside])
            if not self._searches:  # among other attacks what is not inside the budget is no image at all
                size = threat.size(clipped - x).double()
        else:
            clipped = threat.project(proposal, x)
            same = float((clipped - proposal).abs().max()) <= SAME
            self._answer(place, self._judged(assault, finished, batch._replace(x=clipped), sure=same), y)
            self.low, self.high = min(self.low, float(proposal.min())), max(self.high, float(proposal.max()))
        self._write(place, (proposal if self._searches else clipped) - x, size, finished)
        if self.trial.verify and not assault.minimum_norm:  # what stands at the boundary falls off it when rounded
            rounded = Batch((clipped * 255).round() / 255, y, ids)
            self.rows["quantised_prediction"][place] = task.predict(self._logits(self.look, rounded))

    def _write(self, place: Tensor, delta: Tensor, size: Tensor, finished: Finished) -> None:
        rows = self.rows
        rows["proposal_size"][place] = size
        for name, norm in (("linf", "Linf"), ("l2", "L2"), ("l1", "L1")):
            rows[name][place] = norm_of(delta, norm).double()
        for column, name in enumerate(("forwards", "backwards", "zeros")):
            rows[name][place] += finished.cost[:, column].double()
        if finished.target is not None:
            self.targeted = True
            rows["target"][place] = finished.target

    def _judged(self, assault: Assault, finished: Finished, batch: Batch, *, sure: bool) -> Tensor:
        """The logits (N, K) of the final images; ``sure``: they are those that the engine has.

        The engine's own look is taken where it was the model itself that answered, in float32, on the same images. It
        is held against the model in its plain form on the first samples of each cell, and on all after a difference.
        """
        seen = finished.logits
        if seen is not None and assault.minimum_norm and self.subject.repeats and self.crafted_on is None:
            return seen  # such images lie on the boundary, where rounding decides
        if seen is None or not sure or not self.subject.repeats or self.crafted_on is not None:
            return self._logits(self.look, batch)
        if assault.precision != "float32":
            logits = self._logits(self.look, batch)
            self.engine_right += int((task.predict(seen) == batch.y).sum())
            self.judge_right += int((task.predict(logits) == batch.y).sum())
            return logits
        if self.checked >= CHECKED and not self.differing and not self.trial.verify:
            return seen
        logits = self._logits(self.plain, batch)
        self.checked += len(batch.y)
        self.differing += int((task.predict(logits) != task.predict(seen)).sum())
        return logits

    def _probe(self, standing: Tensor) -> None:
        """The checks that cost passes: an attack without gradients on what stands, and a budget that leaves nothing."""
        module, chosen = self.subject.module, standing.nonzero().squeeze(1)[:PROBED]
        if self.trial.probe is not None and len(chosen):
            fooled = doubting.fooled(module, self.trial.probe, self.samples.take(chosen))
            self.log.facts |= {"probed": len(chosen), "probe_fooled": fooled}
        right = (self.rows["clean_prediction"] == self.samples.labels).nonzero().squeeze(1)[:PROBED]
        if len(right) and (large := doubting.unlimited(self.trial.members[0], self.samples.images.shape[1:])):
            left = len(right) - doubting.fooled(module, large, self.samples.take(right))
            self.log.facts |= {"unlimited": len(right), "unlimited_left": left}

    def _outcome(self) -> Outcome:
        n = len(self.samples)
        self.log.facts |= {"checked_again": self.checked, "differing": self.differing, "verified": self.trial.verify}
        if any(assault.precision != "float32" for assault in self.trial.members):
            self.log.facts["precision_gap"] = abs(self.engine_right - self.judge_right) / n
        if self.look.halved:
            self.log.facts["batch_size"] = self.look.batch_size
        found: dict[str, Any] = {name: value.cpu().numpy() for name, value in self.rows.items()}
        zeros, backwards = found.pop("zeros"), found["backwards"]
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(backwards > 0, zeros / backwards, np.nan)
        quantised, target, proposed = (found.pop(name) for name in RARE)
        before = self.trial.before
        if before is not None and before.confidence is None:  # stored before these were taken
            found |= {"confidence": None, "label_rank": None}
        return Outcome(
            ids=self.samples.ids.cpu().numpy(),
            label=self.samples.labels.cpu().numpy(),
            **found,
            proposal_low=self.low,
            proposal_high=self.high,
            seconds=time.perf_counter() - self.began,
            zero_gradients=share if backwards.any() else None,
            quantised_prediction=quantised if self.trial.verify and not self._searches else None,
            target=target if self.targeted else None,
            proposal_prediction=proposed if self._searches else None,
            notes=list(self.log.notes.values()),
            facts=self.log.facts,
        )


def at_budget(outcome: Outcome, threat: Threat) -> Outcome:
    """What a minimum-norm attack's outcome says of another budget: fooled where the perturbation found is inside it.

    What the search cost was paid where it was made; the probes there were of what stood at that budget.
    """
    assert outcome.proposal_prediction is not None
    inside = outcome.proposal_size <= threat.eps * (1 + 1e-6)
    prediction = np.where(inside, outcome.proposal_prediction, outcome.clean_prediction)
    nothing = np.zeros_like(outcome.forwards)
    facts = {name: fact for name, fact in outcome.facts.items() if name not in ("probed", "probe_fooled")}
    found = dataclasses.replace(
        outcome, prediction=prediction, forwards=nothing, backwards=nothing, seconds=0.0, facts=facts
    )
    found.confidence = found.label_rank = None  # they are of the images that counted at the other budget
    return found
