"""How a model is asked: ``Look`` by the engine, ``Counted`` by code that brings its own loop."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import BenchError
from harness.tasks import classification as task
from harness.types import Batch, Evaluation, State, Threat

Loss = Callable[[Tensor, Batch, State], Tensor]
"""Logits (N, K), batch and state -> what is to be raised, for each sample (N,)."""


class BudgetSpent(Exception):
    """A sample's queries are used up."""


def task_loss(logits: Tensor, batch: Batch, state: State) -> Tensor:
    """The task's own loss, towards the target where there is one: (N, K) -> (N,)."""
    return task.loss(logits, batch.y) if "target" not in state else -task.loss(logits, state["target"])


def fooled(prediction: Tensor, batch: Batch, state: State) -> Tensor:
    """Whether each sample is where the attack wants it: (N,)."""
    return prediction == state["target"] if "target" in state else prediction != batch.y


@dataclass
class Look:
    """One way of asking a model: ``draws`` passes a look (their mean counts), in this precision.

    ``batch_size`` is halved for good where memory runs out; ``halved`` says so.
    """

    module: nn.Module
    batch_size: int
    loss: Loss = task_loss
    draws: int = 1
    precision: str = "float32"
    halved: bool = field(default=False, init=False)

    def __call__(self, x: Tensor, batch: Batch, state: State, *, gradient: bool) -> Evaluation:
        """One look at N samples, whatever N is. Raises BenchError for logits that are not numbers."""
        parts: list[Evaluation] = []
        at = 0
        while at < len(x):
            rows = slice(at, at + self.batch_size)
            part = state if len(x) <= self.batch_size else {name: value[rows] for name, value in state.items()}
            try:
                parts.append(self._drawn(x[rows], Batch(*(t[rows] for t in batch)), part, gradient))
            except RuntimeError as error:
                if not _out_of_memory(error) or self.batch_size == 1:
                    raise
                self.batch_size = max(1, min(self.batch_size, len(x)) // 2)
                self.halved = True
                continue
            at += len(parts[-1].loss)
        return parts[0] if len(parts) == 1 else _joined(parts)

    def _drawn(self, x: Tensor, batch: Batch, state: State, gradient: bool) -> Evaluation:
        found = self._once(x, batch, state, gradient)
        if self.draws == 1:
            return found
        all_of_them = [found, *(self._once(x, batch, state, gradient) for _ in range(self.draws - 1))]
        logits = _mean([one.logits for one in all_of_them])
        slope = None if found.gradient is None else _mean([one.gradient for one in all_of_them])  # type: ignore[misc]
        loss = _mean([one.loss for one in all_of_them])
        return Evaluation(loss, logits, fooled(task.predict(logits), batch, state), slope)

    def _once(self, x: Tensor, batch: Batch, state: State, gradient: bool) -> Evaluation:
        x = x.detach().requires_grad_(gradient)
        with torch.set_grad_enabled(gradient), autocast(self.precision, x.device):
            logits = checked(self.module(x), x).float()
            loss = self.loss(logits, batch, state)
            slope = slope_of(loss, x) if gradient else None
        logits = logits.detach()
        return Evaluation(loss.detach(), logits, fooled(task.predict(logits), batch, state), slope)


def checked(logits: Any, x: Tensor) -> Tensor:
    """Refuses logits that cannot be judged. Raises BenchError."""
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x):
        got = f"logits of shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise BenchError(f"model: gives {got}; ({len(x)}, classes) is needed")
    bad = int((~logits.isfinite()).any(1).sum())
    if bad:
        raise BenchError(f"nan: model: logits of {bad} of {len(x)} images are NaN or Inf")
    return logits


def slope_of(loss: Tensor, x: Tensor) -> Tensor:
    """The gradient of each sample's loss (N,) in its image; zero where none reaches it: (N, C, H, W)."""
    if not loss.requires_grad:
        return torch.zeros_like(x)
    (slope,) = torch.autograd.grad(loss.sum(), x, allow_unused=True)
    return torch.zeros_like(x) if slope is None else slope


@contextlib.contextmanager
def autocast(precision: str, device: torch.device) -> Iterator[None]:
    """float32 as it is, or the precision named."""
    if precision == "float32":
        yield
        return
    with torch.autocast(device.type, dtype=getattr(torch, precision)):
        yield


def _out_of_memory(error: RuntimeError) -> bool:
    # On the CPU torch raises a plain RuntimeError, by the name of its allocator.
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)


def _mean(tensors: list[Tensor]) -> Tensor:
    return torch.stack(tensors).mean(0)


def _joined(parts: list[Evaluation]) -> Evaluation:
    loss, logits, wrong = (torch.cat([getattr(p, name) for p in parts]) for name in ("loss", "logits", "fooled"))
    slopes = [p.gradient for p in parts if p.gradient is not None]
    return Evaluation(loss, logits, wrong, torch.cat(slopes) if slopes else None)


class Counted(nn.Module):
    """A model whose passes are counted, for each sample of ``batch`` where there is one.

    ``by_gradient`` false gives logits without gradients. With a ``budget`` of forward passes a sample it raises
    BudgetSpent before any sample would exceed it; ``best`` then has, of each sample, the first image inside the
    ``threat`` that was seen to fool, else the image as it was. ``draws`` passes are made for each that is asked for,
    and their mean is given.
    """

    def __init__(
        self,
        module: nn.Module,
        batch: Batch | None = None,
        *,
        threat: Threat | None = None,
        by_gradient: bool = True,
        budget: int | None = None,
        draws: int = 1,
    ) -> None:
        super().__init__()
        self.module = module
        self.training = module.training  # other libraries ask this flag, and set the mode that it told afterwards
        self.forwards = self.backwards = 0
        self.by_gradient = by_gradient
        self._batch, self._threat, self._budget, self._draws = batch, threat, budget, draws
        self._flat: tuple[Tensor, Tensor] | None = None
        if batch is not None:
            self.cost = batch.y.new_zeros(len(batch.y), 2)  # forwards and backwards, (N, 2)
            self.best, self._won = batch.x.clone(), torch.zeros_like(batch.y, dtype=torch.bool)

    def forward(self, x: Tensor) -> Tensor:
        rows = self._rows(x)
        self._pay(rows, len(x))
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.by_gradient):
            logits: Tensor = self.module(x)
            if self._draws > 1:
                logits = torch.stack([logits, *(self.module(x) for _ in range(self._draws - 1))]).mean(0)
        if logits.requires_grad:
            count = len(x)  # and not x, which the hook would keep alive
            logits.register_hook(lambda _: self._count_backward(rows, count))  # type: ignore[no-untyped-call]
        if self._budget is not None and rows is not None:
            self._remember(rows, x.detach(), logits.detach())
        return logits

    def _rows(self, x: Tensor) -> Tensor | None:
        """The sample that each image belongs to, (M,): by place, or the nearest where only some are asked about."""
        if self._batch is None:
            return None
        n = len(self._batch.y)
        if len(x) == n:
            return torch.arange(n, device=x.device)
        if self._flat is None:
            given = self._batch.x.flatten(1)
            self._flat = given, given.square().sum(1)
        given, squares = self._flat
        # |g - x|^2 without |x|^2, which tells no samples apart: libraries that attack one image at a time ask often.
        parts = torch.split(x.detach().flatten(1).float(), 64)
        return torch.cat([torch.addmm(squares, part, given.T, alpha=-2).argmin(1) for part in parts])

    def _pay(self, rows: Tensor | None, count: int) -> None:
        if rows is not None:
            cost = self.cost[:, 0].index_add(0, rows, torch.full_like(rows, self._draws))
            if self._budget is not None and int(cost.max()) > self._budget:
                raise BudgetSpent
            self.cost[:, 0] = cost
        self.forwards += count * self._draws

    def _count_backward(self, rows: Tensor | None, count: int) -> None:
        self.backwards += count * self._draws
        if rows is not None:
            self.cost[:, 1].index_add_(0, rows, torch.full_like(rows, self._draws))

    def _remember(self, rows: Tensor, x: Tensor, logits: Tensor) -> None:
        assert self._batch is not None
        inside = torch.ones_like(rows, dtype=torch.bool)
        if self._threat is not None:
            size = self._threat.size(x - self._batch.x[rows])
            inside = size <= self._threat.eps * (1 + 1e-4) + 1e-6
        new = inside & (task.predict(logits) != self._batch.y[rows]) & ~self._won[rows]
        self.best[rows[new]] = x[new].to(self.best)
        self._won[rows[new]] = True
