"""The learning rate: a warm-up, then one of torch's schedules, stepped after each batch or after each epoch."""

from __future__ import annotations

import math
from typing import Any

from torch.optim import Optimizer, lr_scheduler

from harness.recipe import Recipe


class Schedule:
    """Batches step all of them but plateau, which follows the validation accuracy of epochs once it is warm."""

    def __init__(self, optimizer: Optimizer, recipe: Recipe, steps: int) -> None:
        self.optimizer, self.recipe = optimizer, recipe
        self.by_epoch = recipe.schedule == "plateau"
        self.warm = round(recipe.warmup * steps)
        self.step = 0
        if self.by_epoch:
            self.scheduler: Any = lr_scheduler.ReduceLROnPlateau(
                optimizer, mode="max", factor=recipe.plateau_factor, patience=2
            )
            self._rise()
        elif recipe.schedule == "one_cycle":
            rise = recipe.warmup or 0.3
            self.scheduler = lr_scheduler.OneCycleLR(optimizer, recipe.lr, total_steps=steps + 1, pct_start=rise)
        else:
            share = lambda step: factor(recipe.schedule, step, self.warm, steps)  # noqa: E731
            self.scheduler = lr_scheduler.LambdaLR(optimizer, share)

    def after_step(self) -> None:
        if not self.by_epoch:
            self.scheduler.step()
        elif self.step < self.warm:
            self.step += 1
            self._rise()

    def after_epoch(self, score: float) -> None:
        """score: what rises while the training gets better."""
        if self.by_epoch and self.step == self.warm:
            self.scheduler.step(score)

    def state(self) -> dict[str, Any]:
        """JSON. LambdaLR keeps its functions out of it; they are made anew from the recipe."""
        return {k: v for k, v in self.scheduler.state_dict().items() if k != "lr_lambdas"} | {"warm_steps": self.step}

    def restore(self, state: dict[str, Any]) -> None:
        rest = dict(state)
        self.step = rest.pop("warm_steps", self.warm)
        self.scheduler.load_state_dict({**self.scheduler.state_dict(), **rest})

    def _rise(self) -> None:
        if self.warm:
            for group in self.optimizer.param_groups:
                group["lr"] = self.recipe.lr * factor("constant", self.step, self.warm, self.warm)


def factor(schedule: str, step: int, warm: int, steps: int) -> float:
    """Learning rate as a share of the recipe's, after ``step`` of ``steps`` batches of which ``warm`` warm up."""
    if step < warm:
        return (step + 1) / (warm + 1)
    share = (step - warm) / max(1, steps - warm)
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
    return max(0.0, 1 - share) if schedule == "linear" else 1.0
