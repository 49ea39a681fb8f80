"""One training loop: objective, optimizer, schedule, early stop, checkpoint, exact resume, telemetry.

A training that is killed and started again gives the same bits as one that was not: every random number is a function
of seed, epoch and sample id, except those that modules draw themselves (dropout), whose generator is checkpointed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler

from harness.artifacts import Tensors, read_checkpoint, state_of, write_checkpoint
from harness.attacking import ModelProblem
from harness.data import Samples, augment
from harness.errors import BenchError
from harness.randomness import SampleRandom, derive, generators_kept, seed_generators
from harness.recipe import Recipe
from harness.tasks import classification as task
from harness.types import Batch

Objective = Callable[[ModelProblem, Batch, SampleRandom], Tensor]


@dataclass(frozen=True)
class Epoch:
    """Telemetry of one epoch: mean loss and accuracy (fractions), learning rate at its end, images per second.

    Accuracies are on what the objective looks at: adversarial images while hardening by adversarial training.
    """

    epoch: int
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    lr: float
    images_per_second: float


@dataclass(frozen=True)
class Training:
    """What to train on what, and where an interrupted training is found again."""

    module: nn.Module
    recipe: Recipe
    train: Samples
    validation: Samples
    seed: int
    checkpoint: Path
    objective: Objective
    batch_size: int
    on_batch: Callable[[int, int, int, float], None] = lambda epoch, done, of, loss: None
    on_epoch: Callable[[Epoch], None] = lambda epoch: None


@dataclass
class Progress:
    """What the loop carries from epoch to epoch, beside tensors. JSON all through."""

    epoch: int = 0
    best: float = -1.0
    since_best: int = 0
    history: list[dict[str, float]] | None = None


def train(training: Training) -> tuple[Tensors, list[dict[str, float]]]:
    """Trains, goes on from the checkpoint if there is one, and returns the best weights and the telemetry.

    The best epoch is the one of highest validation accuracy, the earliest of equals. Raises BenchError when the
    training diverges (a loss that is not a number).
    """
    recipe, module = training.recipe, training.module
    if recipe.epochs == 0:
        return state_of(module), []
    if any(isinstance(part, nn.Conv2d) for part in module.modules()):
        module.to(memory_format=torch.channels_last)  # what convolutions are fastest on
    problem = ModelProblem(module)
    optimizer = _optimizer(module, recipe)
    schedule = _Schedule(optimizer, recipe, _steps_per_epoch(training) * recipe.epochs)
    loop = Progress(history=[])
    best: Tensors = {}
    with generators_kept():
        seed_generators(derive(training.seed, "modules"))
        if found := read_checkpoint(training.checkpoint):
            loop, best = _restore(*found, module, optimizer, schedule)
        while loop.epoch < recipe.epochs and not (recipe.patience and loop.since_best >= recipe.patience):
            telemetry = _epoch(training, problem, optimizer, schedule, loop.epoch)
            assert loop.history is not None
            loop.history.append(asdict(telemetry))
            loop.epoch += 1
            if telemetry.validation_accuracy > loop.best:
                loop.best, loop.since_best, best = telemetry.validation_accuracy, 0, state_of(module)
            else:
                loop.since_best += 1
            _keep(training.checkpoint, loop, best, module, optimizer, schedule)
            training.on_epoch(telemetry)
    module.load_state_dict(best)
    return best, loop.history or []


def plain_objective(problem: ModelProblem, batch: Batch, random: SampleRandom) -> Tensor:
    """The loss on the images as they are: (N,)."""
    return problem.loss(batch.x, batch)


def _epoch(
    training: Training, problem: ModelProblem, optimizer: torch.optim.Optimizer, schedule: _Schedule, epoch: int
) -> Epoch:
    began = time.perf_counter()
    problem.module.train()
    total = right = seen = 0.0
    order = _order(training, epoch)
    for index in _batches(order, training.recipe.batch_size):
        batch = training.train.take(index.to(training.train.labels.device))
        x = augment(batch, training.recipe, training.seed, epoch)
        batch = batch._replace(x=x.contiguous(memory_format=torch.channels_last))
        losses, correct = _objective(training, problem, batch, "objective", epoch)
        loss = losses.mean()
        _check_loss(value := loss.item(), epoch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.after_step()
        total += value * len(index)
        right += correct
        seen += len(index)
        training.on_batch(epoch, int(seen), len(order), total / seen)
    seconds = time.perf_counter() - began
    loss_v, accuracy_v = _validate(training, problem)
    _check_loss(loss_v, epoch)
    lr = float(optimizer.param_groups[0]["lr"])
    schedule.after_epoch(accuracy_v)
    return Epoch(epoch + 1, total / seen, right / seen, loss_v, accuracy_v, lr, seen / seconds)


def _check_loss(value: float, epoch: int) -> None:
    if not math.isfinite(value):
        raise BenchError(f"training diverged in epoch {epoch + 1}: the loss is {value}; lower training.lr")


def _validate(training: Training, problem: ModelProblem) -> tuple[float, float]:
    """Mean loss and accuracy on the validation split by the same objective, in evaluation mode.

    By the same objective, because a hardened model chosen by its clean accuracy would be its least hardened epoch. The
    random numbers are those of every epoch, so that epochs compare.
    """
    problem.module.eval()
    loss = right = 0.0
    for batch in training.validation.batches(training.batch_size):
        losses, correct = _objective(training, problem, batch, "validation")
        loss += float(losses.detach().sum())
        right += correct
    return loss / len(training.validation), right / len(training.validation)


def _objective(training: Training, problem: ModelProblem, batch: Batch, *use: object) -> tuple[Tensor, int]:
    """The objective's loss (N,), and how many samples its last pass through the model got right."""
    last: list[Tensor] = [torch.empty(0)]

    def remember(_module: nn.Module, _inputs: object, logits: Tensor) -> None:
        last[0] = logits.detach()

    hook = problem.module.register_forward_hook(remember)
    try:
        losses = training.objective(problem, batch, SampleRandom(derive(training.seed, *use), batch.ids))
    finally:
        hook.remove()
    return losses, int((task.predict(last[0]) == batch.y).sum())


def _order(training: Training, epoch: int) -> Tensor:
    """The places of this epoch's samples, shuffled by seed and epoch alone."""
    generator = torch.Generator().manual_seed(derive(training.seed, "order", epoch))
    order = torch.randperm(len(training.train), generator=generator)
    return order[: training.recipe.samples_per_epoch]


def _batches(order: Tensor, size: int) -> Iterator[Tensor]:
    for index in order.split(size):  # type: ignore[no-untyped-call]
        if len(index) > 1 or len(order) == 1:  # batch norm cannot train on a last batch of one
            yield index


def _steps_per_epoch(training: Training) -> int:
    count = min(len(training.train), training.recipe.samples_per_epoch or len(training.train))
    return max(1, sum(1 for _ in _batches(torch.arange(count), training.recipe.batch_size)))


def _optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    parameters = [p for p in module.parameters() if p.requires_grad]
    common: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=recipe.momentum, nesterov=recipe.momentum > 0, **common)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer](parameters, **common)


class _Schedule:
    """torch's schedulers, some stepped each batch, plateau each epoch on validation accuracy."""

    def __init__(self, optimizer: torch.optim.Optimizer, recipe: Recipe, steps: int) -> None:
        self.by_epoch = recipe.schedule == "plateau"
        warm = round(recipe.warmup * steps)
        if recipe.schedule == "plateau":
            self.scheduler: Any = lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=2)
        elif recipe.schedule == "one_cycle":
            rise = recipe.warmup or 0.3
            self.scheduler = lr_scheduler.OneCycleLR(optimizer, recipe.lr, total_steps=steps + 1, pct_start=rise)
        else:
            self.scheduler = lr_scheduler.LambdaLR(optimizer, lambda step: _factor(recipe.schedule, step, warm, steps))

    def after_step(self) -> None:
        if not self.by_epoch:
            self.scheduler.step()

    def after_epoch(self, accuracy: float) -> None:
        if self.by_epoch:
            self.scheduler.step(accuracy)

    def state(self) -> dict[str, Any]:
        return {k: v for k, v in self.scheduler.state_dict().items() if k != "lr_lambdas"}

    def restore(self, state: dict[str, Any]) -> None:
        # LambdaLR keeps its functions out of the state; they are made anew from the recipe.
        self.scheduler.load_state_dict({**self.scheduler.state_dict(), **state})


def _factor(schedule: str, step: int, warm: int, steps: int) -> float:
    """Learning rate as a share of the recipe's, after ``step`` of ``steps`` batches."""
    if step < warm:
        return (step + 1) / (warm + 1)
    share = (step - warm) / max(1, steps - warm)
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
    return max(0.0, 1 - share) if schedule == "linear" else 1.0


def _keep(
    path: Path, loop: Progress, best: Tensors, module: nn.Module, optimizer: torch.optim.Optimizer, schedule: _Schedule
) -> None:
    state = optimizer.state_dict()
    tensors = {f"module/{name}": t for name, t in module.state_dict().items()}
    tensors |= {f"best/{name}": t for name, t in best.items()}
    numbers: dict[str, Any] = {}
    for place, slots in state["state"].items():
        for name, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{place}/{name}"] = value
            else:
                numbers[f"{place}/{name}"] = value
    tensors["random/cpu"] = torch.get_rng_state()
    device = next(module.parameters()).device
    if device.type == "cuda":
        tensors["random/cuda"] = torch.cuda.get_rng_state(device)
    facts = {"loop": asdict(loop), "groups": state["param_groups"], "numbers": numbers, "schedule": schedule.state()}
    write_checkpoint(path, tensors, facts)


def _restore(
    tensors: Tensors, facts: dict[str, Any], module: nn.Module, optimizer: torch.optim.Optimizer, schedule: _Schedule
) -> tuple[Progress, Tensors]:
    module.load_state_dict(_under(tensors, "module/"))
    state: dict[int, dict[str, Any]] = {}
    for path, value in {**_under(tensors, "optimizer/"), **facts["numbers"]}.items():
        place, _, name = path.partition("/")
        state.setdefault(int(place), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": facts["groups"]})
    schedule.restore(facts["schedule"])
    torch.set_rng_state(tensors["random/cpu"])
    device = next(module.parameters()).device
    if device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random/cuda"], device)
    return Progress(**facts["loop"]), _under(tensors, "best/")


def _under(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
