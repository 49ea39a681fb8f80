"""The engine: turns an attack's proposals into adversarial images, spends no pass in vain, and counts what they cost.

A step attack says how to start and how to take one step; everything else happens here, so that it is right once. The
engine works on samples that still stand. A sample that is fooled leaves at once with the image that fooled it (the
worst case over steps), another takes its place so that batches stay full, restarts touch survivors only, and the last
iterate is looked at without a gradient. Where samples no longer fill a batch, further rounds of those that have long
stood run beside the one under way, and attacks that keep their best point have several proposals looked at together.
With ``final_iterate`` every sample takes every step and the last one counts, as in the classic form of the attacks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.assault import Assault, check_finite
from harness.beside import Beside, Row, together
from harness.errors import BrokenPlugin
from harness.forecast import Forecast
from harness.looking import Look, task_loss
from harness.randomness import SampleRandom
from harness.standing import Finished, Found, Fresh, Pool, Standing, joined, smaller
from harness.types import Batch, Evaluation, State

RIPE = 4
"""A sample has long stood after one in so many of its steps: then its next rounds may begin before this one ends."""

AHEAD = {"cpu": 16, "cuda": 128}
"""How many images in one look cost little more than few; proposals ahead fill up to here."""

LEARNT = 0.1
"""Weight of the newest look in the share of proposals that were accepted lately."""


class Engine:
    """Runs one step attack against one model. ``module`` is asked in evaluation mode with frozen weights."""

    def __init__(
        self,
        module: nn.Module,
        assault: Assault,
        batch_size: int,
        *,
        classes: int | None = None,
        look: Callable[..., Look] = Look,
    ) -> None:
        hooks = assault.hooks
        self.assault, self._hooks, self._steps = assault, hooks, int(assault.component.steps)
        rounds = int(assault.component.restarts)
        if classes is not None and hooks.offers("rounds"):
            rounds = hooks.rounds(classes=classes)
        self._classes, self._rounds = classes, rounds
        self._spent = torch.zeros(0, 3, dtype=torch.int64)  # forwards, backwards, zero gradients, by place
        self._beside = Beside(rounds)
        loss = self._own_loss if hooks.offers("loss") else task_loss
        self.look = look(module, batch_size, loss, assault.draws, assault.precision)
        # Who is looked at with a gradient, who by a step that needs none, who without one because it is the last look
        # or is probably won, and who was then found to stand and now needs a gradient.
        self._ready, self._blind, self._unsure, self._stands = Pool(), Pool(), Pool(), Pool()
        # Whether samples leave when they are fooled: not while the smallest perturbation or the last iterate is wanted.
        self._retires = not (assault.minimum_norm or assault.final_iterate)
        self._forecast = Forecast(active=self._retires and assault.by_gradient)
        self._exhausted = False
        # Not with a query budget: it is spent on one round after the other, one proposal after the other.
        free = not assault.final_iterate and assault.query_budget is None
        self._widens = free and rounds > 1
        self._looks_ahead = free and bool(getattr(assault.component, "keeps_best", False))
        self._accepted = 0.5  # share of proposals that became an attack's best point, lately

    def _own_loss(self, logits: Tensor, batch: Batch, state: State) -> Tensor:
        loss: Tensor = self._hooks.loss(logits=logits, batch=batch, state=state)
        return loss

    def run(self, source: Iterable[Fresh]) -> Iterator[Finished]:
        """Attacks every sample of ``source``; memory grows with the batch only."""
        rows = iter(source)
        while True:
            size = self.look.batch_size
            while not self._exhausted and self._hungry(size):
                fresh = next(rows, None)
                if fresh is None:
                    self._exhausted = True
                elif len(fresh.place):
                    self._put(self._begin(fresh))
            waiting = len(self._ready) + len(self._stands)
            if self._unsure and (len(self._unsure) >= size or waiting < size):
                yield from self._check(self._open(self._unsure.take(size)))
            elif self._blind and (len(self._blind) >= size or not waiting):
                yield from self._move(self._open(self._blind.take(size)), gradient=False)
            elif waiting:
                yield from self._move(self._open(self._with_gradient(size)), gradient=self.assault.by_gradient)
            else:
                return

    def _hungry(self, size: int) -> bool:
        waiting = len(self._ready) + len(self._stands)
        return waiting < size and len(self._unsure) < size and len(self._blind) < size

    def _with_gradient(self, size: int) -> Standing:
        """The next batch that needs gradients."""
        known = [self._stands.take(size)] if self._stands else []
        left = size - sum(map(len, known))
        return joined([*known, self._ready.take(left)] if left and self._ready else known)

    def _open(self, group: Standing) -> Standing | None:
        """Without the rows of samples whose answer is known by now."""
        return self._beside.wanted(group) if self._beside else group

    def _begin(self, fresh: Fresh) -> Standing:
        zeros = torch.zeros_like(fresh.place)
        self._admit(fresh.place, int(fresh.clean is not None))  # the look that it starts from
        best = None
        if self.assault.minimum_norm:
            assert self._classes is not None
            nothing = fresh.batch.x.new_full((len(zeros),), float("inf"))
            best = (fresh.batch.x, nothing, F.one_hot(fresh.batch.y, self._classes).to(fresh.batch.x))
        unknown = fresh.batch.x.new_full((len(zeros),), float("nan"))
        return self._started(Standing(fresh.batch, fresh.place, {}, fresh.clean, zeros, zeros, unknown, best))

    def _admit(self, place: Tensor, forwards: int) -> None:
        """Opens the account of new samples."""
        more = max(0, int(place.max()) + 1 - len(self._spent))
        self._spent = torch.cat([self._spent.to(place.device), place.new_zeros(more, 3)])
        self._spent[place] = place.new_tensor([forwards, 0, 0])

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

    def _check_state(self, state: State, group: Standing) -> None:
        name = self.assault.name
        if group.state and state.keys() != group.state.keys():
            raise BrokenPlugin(
                f"attack {name}: the state has {', '.join(sorted(state))}, before it had "
                f"{', '.join(sorted(group.state))}; the same entries from start on are needed"
            )
        check_finite(state["x_adv"], name)

    def _put(self, group: Standing | None) -> None:
        """Into the pool for the next look: without a gradient after the last step, and where it is likely won."""
        if group is None:
            return
        last, rest = group.split(group.iteration >= self._steps)
        self._unsure.put(last)
        if rest is not None and self._hooks.offers("needs_gradient"):
            rest, blind = rest.split(self._hooks.needs_gradient(iteration=rest.iteration))
            self._blind.put(blind)
        if rest is not None:
            likely, rest = self._forecast.split(rest)
            self._unsure.put(likely)
            self._ready.put(rest)

    def _image(self, group: Standing) -> Tensor:
        threat, x, x_adv = self.assault.reach, group.batch.x, group.state["x_adv"]
        assert threat is not None
        image = threat.project(x_adv, x)
        if self.assault.final_iterate:
            # The classic form looks at the image as it was given first, even where it lies outside the box.
            image = x.where((x_adv == x).flatten(1).all(1).view(-1, 1, 1, 1), image)
        return image

    def _looked(self, group: Standing, *, gradient: bool) -> tuple[Standing, Tensor, Evaluation]:
        """The group with its best images brought up to date, what was looked at, and what was found."""
        x = self._image(group)
        found = self.look(x, group.batch, group.state, gradient=gradient)
        paid = group.place.new_tensor([[1, int(gradient), 0]]).repeat(len(group), 1)
        if found.gradient is not None:
            paid[:, 2] = (found.gradient == 0).flatten(1).all(1)
        self._spent.index_add_(0, group.place, paid * self.assault.draws)
        self._forecast.learn(group.expected, found.fooled)
        return replace(group, best=self._better(group, x, found)), x, found

    def _better(self, group: Standing, x: Tensor, found: Evaluation) -> Found | None:
        if group.best is None:
            return None
        assert self.assault.threat is not None
        size = self.assault.threat.size(x - group.batch.x).where(found.fooled, float("inf"))
        return smaller(group.best, (x, size, found.logits))

    def _move(self, group: Standing | None, *, gradient: bool) -> Iterator[Finished]:
        """One step: those that are fooled where they stand leave, the others move."""
        if group is None:
            return
        if self._looks_ahead:
            group, x, found = self._looked_ahead(group, self._ahead(group))
        else:
            group, x, found = self._looked(group, gradient=gradient)
        leaving = self._leaving(group, found)
        if bool(leaving.any()):
            yield from self._won(group, x, found.logits, leaving)
            rest = (~leaving).nonzero().squeeze(1)
            if not len(rest):
                return
            group, x, found = group.select(rest), x[rest], _selected(found, rest)
        state = self._stepped(group, found)
        expected = self._forecast.loss(found, state["x_adv"] - x)
        moved = replace(group, state=state, iteration=group.iteration + 1, expected=expected)
        if self.assault.final_iterate and self._rounds == 1 and not self.assault.minimum_norm:
            done, moved_on = moved.split(moved.iteration >= self._steps)
            if done is not None:
                yield self._finished(done, self._image(done), None)
            self._put(moved_on)
        else:
            self._put(moved)
            if self._widens and self._exhausted:
                self._widen(moved)

    def _stepped(self, group: Standing, found: Evaluation) -> State:
        state: State = self._hooks.step(
            state=group.state,
            found=found,
            batch=group.batch,
            threat=self.assault.reach,
            random=self._random(group, group.iteration + 1),
            iteration=group.iteration,
        )
        self._check_state(state, group)
        return state

    def _ahead(self, group: Standing) -> int:
        """How many proposals in a row are looked at together: as many as fit, and as are likely refused."""
        if int(group.iteration.min()) == 0:  # where it starts is no proposal
            return 1
        room = min(AHEAD.get(group.place.device.type, 1), self.look.batch_size) // len(group)
        likely = int(1 / max(self._accepted, 1e-3))
        return max(1, min(room, self._steps - int(group.iteration.max()), likely))

    def _looked_ahead(self, group: Standing, count: int) -> tuple[Standing, Tensor, Evaluation]:
        """Looks at the next ``count`` proposals of each as if all were refused, and goes on from the first that is not.

        What it finds is what looking at one after the other finds. Looks behind the first accepted one are in vain.
        """
        n, wide = len(group), group if count == 1 else self._guessed(group, count)
        wide, x, found = self._looked(wide, gradient=self.assault.by_gradient)
        accepted = ((found.loss > wide.state["best_loss"]) | found.fooled).view(n, count)
        first = accepted.int().argmax(1).where(accepted.any(1), count - 1)
        share = float(accepted.any(1).sum() / (first + 1).sum())
        self._accepted += LEARNT * (share - self._accepted)
        index = torch.arange(n, device=first.device) * count + first
        return wide.select(index), x[index], _selected(found, index)

    def _guessed(self, group: Standing, count: int) -> Standing:
        """The next ``count`` proposals of each, in a row; all but the first as if those before were refused."""
        n = len(group)
        turn = group.place.new_ones(count).cumsum(0).repeat(n) - 1  # (n * count,)
        wide = group.select(torch.arange(n, device=turn.device).repeat_interleave(count))
        later = (turn > 0).nonzero().squeeze(1)
        guessed = wide.select(later)
        guessed = replace(guessed, iteration=guessed.iteration + turn[later] - 1)
        nothing = torch.full_like(guessed.expected, float("-inf"))
        logits = nothing.new_zeros(len(guessed), self._classes or 1)
        state = self._stepped(guessed, Evaluation(nothing, logits, nothing > 0, None))
        merged = {name: value.index_copy(0, later, state[name]) for name, value in wide.state.items()}
        return replace(wide, state=merged, iteration=wide.iteration + turn)

    def _leaving(self, group: Standing, found: Evaluation) -> Tensor:
        """Whose answer is known: (R,)."""
        leaving = found.fooled if self._retires else torch.zeros_like(found.fooled)
        if self.assault.query_budget is not None:
            leaving = leaving | (self._spent[group.place, 0] + self.assault.draws > self.assault.query_budget)
        if self.assault.inside_suffices and group.best is not None:
            assert self.assault.threat is not None
            leaving = leaving | (group.best[1] <= self.assault.threat.eps)
        return leaving

    def _check(self, group: Standing | None) -> Iterator[Finished]:
        """One look without a gradient: after the last step, or where most samples are expected to be fooled."""
        if group is None:
            return
        group, x, found = self._looked(group, gradient=False)
        ended = group.iteration >= self._steps
        leaving = self._leaving(group, found)
        if not self.assault.minimum_norm:
            leaving = leaving | (ended & found.fooled)
        if bool(leaving.any()):
            yield from self._won(group, x, found.logits, leaving)
        self._stands.put(group.split(~ended & ~leaving)[0])
        if bool((over := ended & ~leaving).any()):
            yield from self._ended(group, x, found.logits, over)

    def _won(self, group: Standing, x: Tensor, logits: Tensor, which: Tensor) -> Iterator[Finished]:
        """Rows whose samples have their answer, but for those that have earlier rounds under way."""
        alone, rows = self._parted(group, x, logits, which)
        answers = [answer for row in rows if (answer := self._beside.win(row)) is not None]
        yield from self._answered(alone, answers)

    def _ended(self, group: Standing, x: Tensor, logits: Tensor, which: Tensor) -> Iterator[Finished]:
        """Rows at the end of their rounds: they go on with another round where there is one."""
        alone, rows = self._parted(group, x, logits, which)
        answers, again = [], []
        for row in rows:
            number, answer = self._beside.end(row)
            if number is not None:
                again.append(replace(row.standing, restart=torch.full_like(row.standing.restart, number)))
            if answer is not None:
                answers.append(answer)
        if alone is not None:
            more = alone.standing.restart + 1 < self._rounds
            going, _ = alone.standing.split(more)
            if going is not None:
                again.append(replace(going, restart=going.restart + 1))
            alone = _of(alone, ~more)
        if again:
            self._put(self._started(joined(again)))
        yield from self._answered(alone, answers)

    def _parted(self, group: Standing, x: Tensor, logits: Tensor, which: Tensor) -> tuple[Row | None, list[Row]]:
        """The chosen rows of samples that have one, together, and those of samples that have several, each for itself.

        Earlier rounds come first, as they would one after the other.
        """
        chosen = _of(Row(group, x, logits), which)
        if not self._beside or chosen is None:
            return chosen, []
        shared = torch.tensor([place in self._beside for place in chosen.standing.place.tolist()], device=x.device)
        several = _of(chosen, shared)
        rows = [] if several is None else [_row(several, slice(i, i + 1)) for i in range(len(several.standing))]
        return _of(chosen, ~shared), sorted(rows, key=lambda row: row.round)

    def _answered(self, alone: Row | None, answers: list[Row]) -> Iterator[Finished]:
        rows = [*([] if alone is None else [alone]), *answers]
        if rows:
            group, x, logits = together(rows)
            yield self._finished(group, x, logits)

    def _finished(self, group: Standing, x: Tensor, logits: Tensor | None) -> Finished:
        if group.best is not None:
            x, _, logits = group.best
        return Finished(group.place, x, logits, self._spent[group.place], group.state.get("target"))

    def _widen(self, group: Standing) -> None:
        """Begins further rounds of samples that have long stood, as far as the batch has room."""
        free = self.look.batch_size - sum(map(len, (self._ready, self._blind, self._unsure, self._stands)))
        ripe, _ = group.split((group.iteration * RIPE >= self._steps) | (group.restart > 0))
        if free > 0 and ripe is not None:
            rows, numbers = self._beside.open(ripe, free)
            if rows:
                begun = ripe.select(ripe.place.new_tensor(rows))
                self._put(self._started(replace(begun, restart=ripe.place.new_tensor(numbers))))


def _of(row: Row, which: Tensor) -> Row | None:
    """Some rows, (R,) booleans; None where there are none."""
    return _row(row, which.nonzero().squeeze(1)) if bool(which.any()) else None


def _row(row: Row, index: Tensor | slice) -> Row:
    return Row(row.standing.select(index), row.x[index], row.logits[index])


def _selected(found: Evaluation, index: Tensor) -> Evaluation:
    return Evaluation(*(None if part is None else part[index] for part in found))  # type: ignore[arg-type]
