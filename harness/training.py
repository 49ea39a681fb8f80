"""One training loop: objective, optimizer, schedule, early stop, checkpoint, exact resume, telemetry.

A training that is killed and started again gives the same bits as one that was not: every random number is a function
of seed, epoch and sample id, except those that modules draw themselves (dropout), whose generator is checkpointed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from harness.artifacts import Tensors, read_checkpoint, state_of, write_checkpoint
from harness.attacking import ModelProblem
from harness.divergence import Diverged, Unstable, Watch, check_finite
from harness.lessons import Lessons
from harness.optimizers import SGD, Adam, AdamW
from harness.randomness import SampleRandom, derive, generators_kept, seed_generators
from harness.recipe import Recipe
from harness.schedule import Schedule
from harness.tasks import classification as task
from harness.types import Batch, Evaluation, Threat


@dataclass(frozen=True)
class Epoch:
    """Telemetry of one epoch: mean loss and accuracy (fractions), learning rate at its end, images per second.

    Accuracies are on what the objective looks at: adversarial images while hardening by adversarial training. The
    training loss is the one that is made small, with its label smoothing; the validation loss is without. Of sentences
    the accuracy is that of words after the true ones before, and ``validation_bleu4`` is of generated captions.
    """

    epoch: int
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    lr: float
    images_per_second: float
    validation_bleu4: float | None = None

    @property
    def score(self) -> float:
        """What the best epoch has most of."""
        return self.validation_accuracy if self.validation_bleu4 is None else self.validation_bleu4

    def document(self) -> dict[str, Any]:
        """As JSON, without what was not measured."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Training:
    """What to train on what, and where an interrupted training is found again."""

    module: nn.Module
    recipe: Recipe
    lessons: Lessons
    seed: int
    checkpoint: Path
    on_batch: Callable[[int, int, int, float], None] = lambda epoch, done, of, loss: None
    on_epoch: Callable[[Epoch], None] = lambda epoch: None


@dataclass
class Progress:
    """What the loop carries from epoch to epoch, beside tensors. JSON all through."""

    epoch: int = 0
    best: float = -1.0
    best_loss: float | None = None
    since_best: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    start: float | None = None


def train(training: Training) -> tuple[Tensors, list[dict[str, float]]]:
    """Trains, goes on from the checkpoint if there is one, and returns the best weights and the telemetry.

    The best epoch is the one of the highest score; of equals the earliest, of sentences that of the lower validation
    loss, for BLEU-4 may be zero, or one, in many epochs. Raises Diverged, a BenchError, when the loss is not a number
    or explodes (``divergence``); the checkpoint of the last good epoch is then left.
    """
    if training.recipe.channels_last and not _may_be_channels_last(training.module):
        training = replace(training, recipe=replace(training.recipe, channels_last=False))
    recipe, module = training.recipe, training.module
    if recipe.epochs == 0:
        return state_of(module), []
    learner = _Learner(training)
    with generators_kept():
        seed_generators(derive(training.seed, "modules"))
        if found := read_checkpoint(training.checkpoint):
            learner.restore(*found)
        loop = learner.loop
        while loop.epoch < recipe.epochs and not (recipe.patience and loop.since_best >= recipe.patience):
            try:
                telemetry = _epoch(training, learner)
            except Unstable as reason:
                raise Diverged(_advice(training, loop.epoch, str(reason)), loop.history) from reason
            learner.finish(telemetry)
            if not learner.watch.over:  # what explodes is not kept in the place of what was good
                learner.keep(training.checkpoint)
            training.on_epoch(telemetry)
    module.load_state_dict(learner.best)
    return learner.best, loop.history


def _may_be_channels_last(module: nn.Module) -> bool:
    """Not where torch 2.15 on the CPU writes outside of its memory.

    That is in the weights' gradient of a 1 x 1 convolution with a stride and fewer than 8 input channels, in channels
    last: the process dies.
    """
    convolutions = (part for part in module.modules() if isinstance(part, nn.Conv2d))
    return not any(c.in_channels < 8 and set(c.kernel_size) == {1} and max(c.stride) > 1 for c in convolutions)


class _TrainingProblem(ModelProblem):
    """The model while its weights are trained: smoothed targets, the recipe's precision, images made in float32."""

    def __init__(self, module: nn.Module, recipe: Recipe) -> None:
        super().__init__(module)
        self.recipe = recipe

    def loss(self, x: Tensor, batch: Batch) -> Tensor:
        return task.loss(self.module(x), batch.y, self.recipe.label_smoothing)

    def evaluate(self, x: Tensor, batch: Batch, *, gradient: bool) -> Evaluation:
        with torch.autocast(x.device.type, enabled=False):
            return super().evaluate(x, batch, gradient=gradient)

    def perturb(self, attack: Any, batch: Batch, threat: Threat, random: SampleRandom) -> Tensor:
        with torch.autocast(batch.x.device.type, enabled=False):
            return super().perturb(attack, batch, threat, random)


class _Learner:
    """A model with all that changes while it learns; what a checkpoint holds.

    ``problem`` is what the objective trains, ``judged`` what it validates: the averaged weights where there are such,
    and always with the plain loss in float32.
    """

    def __init__(self, training: Training) -> None:
        recipe, self.module = training.recipe, training.module
        if recipe.channels_last and any(isinstance(part, nn.Conv2d) for part in self.module.modules()):
            self.module.to(memory_format=torch.channels_last)  # what convolutions are fastest on
        steps = _steps_per_epoch(training) * recipe.epochs
        self.recipe, self.loop, self.best = recipe, Progress(), Tensors()
        self.optimizer = _optimizer(self.module, recipe)
        self.schedule = Schedule(self.optimizer, recipe, steps)
        self.watch = Watch(steps)
        self.average = _average(self.module, recipe.ema) if recipe.ema else None
        self.result: nn.Module = self.average.module if self.average else self.module
        self.problem = _TrainingProblem(self.module, recipe)
        alike = not (recipe.ema or recipe.label_smoothing) and recipe.precision == "float32"
        self.judged = self.problem if alike else ModelProblem(self.result)

    def step(self, loss: Tensor) -> None:
        """One step against the gradient of a loss: ()."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        if self.average:
            self.average.update_parameters(self.module)
        self.schedule.after_step()

    def finish(self, telemetry: Epoch) -> None:
        """Counts an epoch, and takes the weights for the best ones where they are."""
        loop = self.loop
        loop.history.append(telemetry.document())
        loop.epoch, loop.start = loop.epoch + 1, self.watch.start
        better, equal = telemetry.score > loop.best, telemetry.score == loop.best
        if equal and telemetry.validation_bleu4 is not None and loop.best_loss is not None:
            better = telemetry.validation_loss < loop.best_loss
        if better:
            loop.best, loop.best_loss, loop.since_best = telemetry.score, telemetry.validation_loss, 0
            self.best = state_of(self.result)
        else:
            loop.since_best += 1
        # Of sentences the number of the best epoch so far, for their scores may be zero in many that are better.
        sentences = telemetry.validation_bleu4 is not None
        self.schedule.after_epoch(float(loop.epoch - loop.since_best) if sentences else telemetry.score)

    def keep(self, path: Path) -> None:
        """Writes the checkpoint."""
        state = self.optimizer.state_dict()
        tensors = {f"module/{name}": t for name, t in self.module.state_dict().items()}
        tensors |= {f"best/{name}": t for name, t in self.best.items()}
        tensors |= {f"average/{name}": t for name, t in (self.average.state_dict() if self.average else {}).items()}
        numbers: dict[str, Any] = {}
        for place, slots in state["state"].items():
            for name, value in slots.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer/{place}/{name}"] = value
                else:
                    numbers[f"{place}/{name}"] = value
        tensors["random/cpu"] = torch.get_rng_state()
        device = next(self.module.parameters()).device
        if device.type == "cuda":
            tensors["random/cuda"] = torch.cuda.get_rng_state(device)
        facts = {"loop": asdict(self.loop), "groups": state["param_groups"], "numbers": numbers}
        write_checkpoint(path, tensors, {**facts, "schedule": self.schedule.state()})

    def restore(self, tensors: Tensors, facts: dict[str, Any]) -> None:
        """Takes up what ``keep`` wrote."""
        self.module.load_state_dict(_under(tensors, "module/"))
        if self.average:
            self.average.load_state_dict(_under(tensors, "average/"))
        state: dict[int, dict[str, Any]] = {}
        for path, value in {**_under(tensors, "optimizer/"), **facts["numbers"]}.items():
            place, _, name = path.partition("/")
            state.setdefault(int(place), {})[name] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": facts["groups"]})
        for parameter, slots in self.optimizer.state.items():
            for name, value in slots.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    # In the memory order of its parameter, which a fused step takes for granted.
                    slots[name] = torch.empty_like(parameter, requires_grad=False).copy_(value)
        self.schedule.restore(facts["schedule"])
        torch.set_rng_state(tensors["random/cpu"])
        device = next(self.module.parameters()).device
        if device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random/cuda"], device)
        self.loop, self.best = Progress(**facts["loop"]), _under(tensors, "best/")
        self.watch.start = self.loop.start


def _average(module: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of weights and of batch norm's statistics, which must belong to the weights.

    Whole numbers are taken over as they are: a count of batches, or places in a table, have no average.
    """
    towards = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

    def update(averaged: Any, current: Any, count: Tensor | int) -> None:
        if averaged[0].is_floating_point():
            towards(averaged, current, count)
        else:
            torch._foreach_copy_(averaged, current)

    return AveragedModel(module, multi_avg_fn=update, use_buffers=True)


def _epoch(training: Training, learner: _Learner) -> Epoch:
    """Raises Unstable."""
    began, epoch = time.perf_counter(), learner.loop.epoch
    learner.problem.module.train()
    total = right = seen = 0.0
    order = _order(training, epoch)
    batches = list(_batches(order, training.recipe.batch_size))
    for number, batch in enumerate(training.lessons.batches(batches, training.recipe, epoch)):
        progress = (epoch + number / len(batches)) / training.recipe.epochs
        found = training.lessons.learn(learner.problem, batch, training.recipe, epoch, progress)
        loss = found.losses.mean()
        learner.watch.see(value := loss.item(), found.classes)
        learner.step(loss)
        total += value * len(batch.y)
        right += found.right
        seen += len(batch.y)
        training.on_batch(epoch, int(seen), len(order), total / seen)
    seconds = time.perf_counter() - began
    judged = training.lessons.judge(learner.judged)
    check_finite(judged.loss)
    lr = float(learner.optimizer.param_groups[0]["lr"])
    return Epoch(epoch + 1, total / seen, right / seen, judged.loss, judged.accuracy, lr, seen / seconds, judged.bleu4)


def _advice(training: Training, epoch: int, reason: str) -> str:
    """One line: the epoch, what was seen, what to do, and where the last good weights are."""
    found = read_checkpoint(training.checkpoint)
    kept = f"the weights after epoch {found[1]['loop']['epoch']} are in {training.checkpoint}" if found else ""
    return (
        f"training diverged in epoch {epoch + 1}: {reason}; lower training.lr, or set training.warmup or "
        f"training.clip_norm; {kept or 'no epoch was finished before'}"
    )


def _order(training: Training, epoch: int) -> Tensor:
    """The places of this epoch's samples, shuffled by seed and epoch alone."""
    generator = torch.Generator().manual_seed(derive(training.seed, "order", epoch))
    return training.lessons.order(generator)[: training.recipe.samples_per_epoch]


def _batches(order: Tensor, size: int) -> Iterator[Tensor]:
    for index in order.split(size):  # type: ignore[no-untyped-call]
        if len(index) > 1 or len(order) == 1:  # batch norm cannot train on a last batch of one
            yield index


def _steps_per_epoch(training: Training) -> int:
    count = min(len(training.lessons), training.recipe.samples_per_epoch or len(training.lessons))
    return max(1, sum(1 for _ in _batches(torch.arange(count), training.recipe.batch_size)))


def _optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    parameters = [p for p in module.parameters() if p.requires_grad]
    common: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    if recipe.optimizer == "sgd":
        return SGD(parameters, momentum=recipe.momentum, nesterov=recipe.momentum > 0, **common)
    common |= {"fused": True} if recipe.fused else {}
    return {"adam": Adam, "adamw": AdamW}[recipe.optimizer](parameters, **common)


def _under(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
