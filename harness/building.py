"""The module of a fit, as its plugin builds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness import boundary
from harness.captioning.vocabulary import Vocabulary
from harness.errors import BenchError
from harness.randomness import derive, generators_kept, seed_generators
from harness.steps import FitStep
from harness.types import Preparation

if TYPE_CHECKING:
    from torch import nn


def build_module(
    step: FitStep, mean: Sequence[float], std: Sequence[float], vocabulary: Vocabulary | None = None
) -> nn.Module:
    """The model of a fit, initialised from its seed. Raises BenchError where weights or parameters do not fit."""
    assert step.data.facts is not None
    preparation = Preparation(step.data.facts, tuple(mean), tuple(std), vocabulary)
    hooks = boundary.bind("models", step.model.component)
    with generators_kept():
        seed_generators(derive(step.seed, "initialise"))
        module: nn.Module = hooks.build(preparation=preparation)
    return module


def check_head(step: FitStep, module: nn.Module) -> None:
    """Raises BenchError where weights bring no head for the data's classes and nothing trains the new one."""
    new = getattr(module, "new", ())
    if new and not step.start and step.model.recipe.epochs == 0:
        raise BenchError(
            f"models.{step.model.name}: its weights have no {new[0]} for the classes of {step.data.config.name}, which "
            f"would stay random; train it by --set 'models.\"{step.model.name}\".training.epochs=5', or take a data "
            "set of the classes that it was trained on (--datasets)"
        )
