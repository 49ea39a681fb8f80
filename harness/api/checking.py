"""What is looked at before a matrix of objects at hand is run: whether they fit each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.api import given, samples
from harness.errors import BenchError
from harness.steps import Plan, TrainingStep
from harness.types import CLASSIFICATION

if TYPE_CHECKING:
    from torch import Tensor, nn


def classes(wanted: Sequence[str] | int | None, gathered: samples.Given, modules: Mapping[str, nn.Module]) -> list[str]:
    """The names of the classes: as given, else their numbers, as many as models and labels have."""
    test = gathered.splits["test"]
    counts = {name: probe(name, module, test.images[:1]) for name, module in modules.items()}
    for name, count in counts.items():
        samples.check_classes(test.labels, count, f"data: y for {name}")
    needed = max([gathered.classes, *counts.values()])
    if wanted is None or isinstance(wanted, int):
        wanted = [str(number) for number in range(needed if wanted is None else wanted)]
    names = [str(name) for name in wanted]
    if len(names) < needed or len(set(names)) != len(names):
        raise BenchError(f"classes: {len(names)} given; {needed} different ones are needed")
    return names


def check_untrained(plan: Plan, dataset: str) -> None:
    """Raises BenchError where something is to be trained and there are test samples alone."""
    fits = [fit for fit in plan.fits if fit.model.recipe.epochs]
    trained: list[TrainingStep] = [*fits, *plan.hardenings]
    for step in trained:
        if step.data.config.name == dataset:
            raise BenchError(
                f"data: has test samples alone, and {step.label} trains; give a pair ((x_train, y_train), "
                "(x, y)), or set training = {'epochs': 0} to take the weights that it has"
            )


def check_modules(plan: Plan, modules: Mapping[str, nn.Module]) -> None:
    """Raises BenchError for a module that does not take the images of a data set, or knows too few classes."""
    import numpy as np

    for fit in plan.fits:
        facts = fit.data.facts
        if fit.model.name in modules and facts and facts.task == CLASSIFICATION:
            count = probe(fit.model.name, modules[fit.model.name], np.full((1, *facts.shape), 128, np.uint8))
            if count < len(facts.classes):
                raise BenchError(
                    f"model {fit.model.name}: gives {count} logits; {fit.data.config.name} has {len(facts.classes)} "
                    "classes"
                )


def probe(name: str, module: nn.Module, images: Any) -> int:
    """The number of classes of a module by one look at images as they are kept. Raises BenchError for no logits."""
    import torch

    from harness.data import pixels

    copy = given.copied(module).eval()
    device = next((tensor.device for tensor in (*copy.parameters(), *copy.buffers())), torch.device("cpu"))
    x = pixels(torch.from_numpy(images)).to(device)
    try:
        with torch.no_grad():
            logits: Any = copy(x)
    except Exception as error:  # foreign code, which has errors of every type
        raise not_taken(f"model {name}", copy, x, error) from error
    got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    if not isinstance(got, tuple) or len(got) != 2 or got[0] != len(x) or got[1] < 2:
        raise BenchError(
            f"model {name}: answers images of shape {tuple(x.shape)} with {got}; logits (N, K) are needed"
            + ("; give a module that returns its .logits" if hasattr(logits, "logits") else "")
        )
    return got[1]


def not_taken(who: str, module: nn.Module, x: Tensor, error: Exception) -> BenchError:
    """The error for a module that does not take such images, with what is most likely to be done."""
    kinds = {tensor.dtype for tensor in module.parameters() if tensor.is_floating_point()}
    hint = ""
    if kinds and x.dtype not in kinds:
        hint = f"; its weights are {min(map(str, kinds))}, images are {x.dtype}: give module.float()"
    reason = " ".join(str(error).split())[:200]
    return BenchError(f"{who}: does not take images of shape {tuple(x.shape)} ({type(error).__name__}: {reason}){hint}")
