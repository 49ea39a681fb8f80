"""The engine: turns an attack's proposals into adversarial images, spends no pass in vain, and counts what they cost.

A step attack says how to start and how to take one step; everything else happens here, so that it is right once. The
engine works on samples that still stand. A sample that is fooled leaves at once with the image that fooled it (the
worst case over steps), another takes its place so that batches stay full, restarts touch survivors only, and the last
iterate is looked at without a gradient. With ``final_iterate`` every sample takes every step and the last one counts,
as in the classic form of the attacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from harness import registry
from harness.assault import Assault, check_proposal
from harness.errors import BenchError
from harness.forecast import Forecast
from harness.looking import Look, task_loss
from harness.randomness import SampleRandom
from harness.standing import Finished, Fresh, Pool, Standing, joined
from harness.tasks import classification as task
from harness.types import Batch, Evaluation, State


class Engine:
    """Runs one step attack against one model. ``module`` is asked in evaluation mode with frozen weights."""

    def __init__(self, module: nn.Module, assault: Assault, batch_size: int, *, classes: int | None = None) -> None:
        hooks = assault.hooks
        self.assault, self._hooks, self._steps = assault, hooks, int(assault.component.steps)
        self._rounds = int(assault.component.restarts)
        if classes is not None and registry.offers(hooks, "rounds"):
            self._rounds = int(hooks.rounds(classes=classes))
        loss = self._own_loss if registry.offers(hooks, "loss") else task_loss
        self.look = Look(module, batch_size, loss, assault.draws, assault.precision)
        # Who is looked at with a gradient, who without one, and who was found to stand and now needs a gradient.
        self._ready, self._unsure, self._stands = Pool(), Pool(), Pool()
        # Whether samples leave when they are fooled: not while the smallest perturbation or the last iterate is wanted.
        self._retires = not (assault.minimum_norm or assault.final_iterate)
        self._forecast = Forecast(active=self._retires and assault.by_gradient)

    def _own_loss(self, logits: Tensor, batch: Batch, state: State) -> Tensor:
        loss: Tensor = self._hooks.loss(logits=logits, batch=batch, state=state)
        return loss

    def run(self, source: Iterable[Fresh]) -> Iterator[Finished]:
        """Attacks every sample of ``source``; memory grows with the batch only."""
        rows, more = iter(source), True
        while True:
            size = self.look.batch_size
            while more and len(self._ready) + len(self._stands) < size and len(self._unsure) < size:
                fresh = next(rows, None)
                if fresh is None:
                    more = False
                elif len(fresh.place):
                    self._put(self._begin(fresh))
            waiting = len(self._ready) + len(self._stands)
            if self._unsure and (len(self._unsure) >= size or waiting < size):
                yield from self._check(self._unsure.take(size))
            elif waiting:
                yield from self._ascend(self._with_gradient(size))
            else:
                return

    def _with_gradient(self, size: int) -> Standing:
        """The next batch that needs gradients."""
        known = [self._stands.take(size)] if self._stands else []
        left = size - sum(map(len, known))
        return joined([*known, self._ready.take(left)] if left and self._ready else known)

    def _begin(self, fresh: Fresh) -> Standing:
        zeros = torch.zeros_like(fresh.place)
        cost = zeros.new_zeros(len(zeros), 3)
        if fresh.clean is not None:
            cost[:, 0] += 1  # the look that it starts from
        best = None
        if self.assault.minimum_norm:
            nothing = fresh.batch.x.new_full((len(zeros),), float("inf"))
            best = (fresh.batch.x, nothing, fresh.batch.y)
        unknown = fresh.batch.x.new_full((len(zeros),), float("nan"))
        return self._started(Standing(fresh.batch, fresh.place, {}, fresh.clean, zeros, zeros, cost, unknown, best))

    def _started(self, group: Standing) -> Standing:
        """The group at the beginning of the restart that each of its samples is at."""
        random = self._random(group, group.restart.new_zeros(len(group)))
        state = self._hooks.start(
            batch=group.batch,
            threat=self.assault.reach,
            random=random,
            clean=group.clean,
            restart=group.restart,
        )
        self._check_state(state, group)
        unknown = torch.full_like(group.expected, float("nan"))
        return replace(group, state=state, iteration=torch.zeros_like(group.iteration), expected=unknown)

    def _random(self, group: Standing, step: Tensor) -> SampleRandom:
        return SampleRandom(self.assault.seed, group.batch.ids).at(group.restart, step)

    def _check_state(self, state: Any, group: Standing) -> None:
        name = self.assault.name
        if not isinstance(state, dict) or "x_adv" not in state:
            raise BenchError(f"attack {name}: gave {type(state).__name__} for a state; a dict with x_adv is needed")
        for key, value in state.items():
            if not isinstance(value, Tensor) or value.ndim == 0 or len(value) != len(group):
                raise BenchError(
                    f"attack {name}: state[{key!r}] does not have a row for each of {len(group)} samples; a tensor of "
                    "first dimension N is needed"
                )
        if group.state and state.keys() != group.state.keys():
            raise BenchError(
                f"attack {name}: the state has {', '.join(sorted(state))}, before it had "
                f"{', '.join(sorted(group.state))}; the same entries from start on are needed"
            )
        check_proposal(state["x_adv"], group.batch.x, name)

    def _put(self, group: Standing | None) -> None:
        """Into the pool for the next look: without a gradient after the last step, and where it is likely won."""
        if group is None:
            return
        last, rest = group.split(group.iteration >= self._steps)
        self._unsure.put(last)
        if rest is not None:
            likely, rest = self._forecast.split(rest)
            self._unsure.put(likely)
            self._ready.put(rest)

    def _image(self, group: Standing) -> Tensor:
        threat = self.assault.reach
        assert threat is not None
        return threat.project(group.state["x_adv"], group.batch.x)

    def _looked(self, group: Standing, *, gradient: bool) -> tuple[Standing, Tensor, Evaluation]:
        """The group with its costs and best images brought up to date, what was looked at, and what was found."""
        x = self._image(group)
        found = self.look(x, group.batch, group.state, gradient=gradient)
        paid = group.cost.new_tensor([[1, int(gradient), 0]]) * self.assault.draws
        cost = group.cost + paid
        if found.gradient is not None:
            cost[:, 2] += self.assault.draws * (found.gradient == 0).flatten(1).all(1)
        self._forecast.learn(group.expected, found.fooled)
        return replace(group, cost=cost, best=self._better(group, x, found)), x, found

    def _better(self, group: Standing, x: Tensor, found: Evaluation) -> tuple[Tensor, Tensor, Tensor] | None:
        if group.best is None:
            return None
        assert self.assault.threat is not None
        images, sizes, classes = group.best
        size = self.assault.threat.size(x - group.batch.x)
        better = found.fooled & (size < sizes)
        return (
            torch.where(better.view(-1, 1, 1, 1), x, images),
            torch.where(better, size, sizes),
            torch.where(better, task.predict(found.logits), classes),
        )

    def _ascend(self, group: Standing) -> Iterator[Finished]:
        """One step: those that are fooled where they stand leave, the others move."""
        group, x, found = self._looked(group, gradient=self.assault.by_gradient)
        leaving = self._leaving(group, found)
        if bool(leaving.any()):
            yield self._finish(group, x, found, leaving)
            rest = (~leaving).nonzero().squeeze(1)
            if not len(rest):
                return
            group, x, found = group.select(rest), x[rest], _selected(found, rest)
        state = self._hooks.step(
            state=group.state,
            found=found,
            batch=group.batch,
            threat=self.assault.reach,
            random=self._random(group, group.iteration + 1),
            iteration=group.iteration,
        )
        self._check_state(state, group)
        expected = self._forecast.loss(found, state["x_adv"] - x)
        moved = replace(group, state=state, iteration=group.iteration + 1, expected=expected)
        if self.assault.final_iterate and self._rounds == 1 and not self.assault.minimum_norm:
            done, moved_on = moved.split(moved.iteration >= self._steps)
            if done is not None:
                yield Finished(done.place, self._image(done), None, done.cost, done.state.get("target"))
            self._put(moved_on)
        else:
            self._put(moved)

    def _leaving(self, group: Standing, found: Evaluation) -> Tensor:
        spent = torch.zeros_like(found.fooled)
        if self.assault.query_budget is not None:
            spent = group.cost[:, 0] + self.assault.draws > self.assault.query_budget
        return found.fooled | spent if self._retires else spent

    def _check(self, group: Standing) -> Iterator[Finished]:
        """One look without a gradient: after the last step, or where most samples are expected to be fooled."""
        group, x, found = self._looked(group, gradient=False)
        over = group.iteration >= self._steps
        again = over & (group.restart + 1 < self._rounds)
        if not self.assault.minimum_norm:
            again &= ~found.fooled
        leaving = self._leaving(group, found) | (over & ~again)
        if bool(leaving.any()):
            yield self._finish(group, x, found, leaving)
        restarting, _ = group.split(again & ~leaving)
        if restarting is not None:
            self._put(self._started(replace(restarting, restart=restarting.restart + 1)))
        on, _ = group.split(~again & ~leaving)
        self._stands.put(on)

    def _finish(self, group: Standing, x: Tensor, found: Evaluation, which: Tensor) -> Finished:
        index = which.nonzero().squeeze(1)
        done = group.select(index)
        image, prediction = x[index], task.predict(found.logits[index])
        if done.best is not None:
            image, _, prediction = done.best
        return Finished(done.place, image, prediction, done.cost, done.state.get("target"))


def _selected(found: Evaluation, index: Tensor) -> Evaluation:
    return Evaluation(*(None if part is None else part[index] for part in found))  # type: ignore[arg-type]
