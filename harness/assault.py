"""One attack with all that decides how it is run, what it has to say, and what it may propose."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from harness import registry
from harness.errors import BenchError
from harness.types import Reason, Threat


@dataclass(frozen=True)
class Assault:
    """One attack component and all that decides how it is run. ``threat`` None: no perturbation.

    draws: looks averaged at each point, for random models (EOT: Athalye et al., ICML 2018). query_budget: forward
    passes a sample that the attack may spend (None: any number). inside_suffices: an attack that looks for the smallest
    perturbation may leave a sample once it has one inside the threat.
    """

    component: Any
    name: str
    threat: Threat | None
    seed: int
    draws: int = 1
    final_iterate: bool = False
    query_budget: int | None = None
    precision: str = "float32"
    inside_suffices: bool = False

    @cached_property
    def hooks(self) -> Any:
        return registry.bind("attacks", self.component)

    @property
    def by_step(self) -> bool:
        return not registry.offers(self.hooks, "perturb")

    @property
    def by_gradient(self) -> bool:
        return getattr(self.component, "access", "gradient") == "gradient"

    @property
    def only_asks(self) -> bool:
        """Whether it may have the model's fast form: it never holds the model, or says that it leaves it alone."""
        return self.by_step or bool(getattr(self.component, "only_asks", False))

    @property
    def minimum_norm(self) -> bool:
        return bool(getattr(self.component, "minimum_norm", False))

    @property
    def needs_clean(self) -> bool:
        """Whether it starts from the logits of the images as they are."""
        return self.by_step and registry.takes(self.hooks, "start", "clean")

    @property
    def reach(self) -> Threat | None:
        """The budget it searches in: all of the box where it looks for the smallest perturbation."""
        if self.threat is None or not self.minimum_norm:
            return self.threat
        return replace(self.threat, eps=float("inf"))


@dataclass
class Log:
    """What the engine has to say beside its results: doubts by code, a batch size that it had to lower, passes."""

    forwards: int = 0
    backwards: int = 0
    notes: dict[str, Reason] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def check_proposal(x_adv: Any, x: Tensor, name: str) -> Tensor:
    """Refuses what is not a batch of images like ``x``. Raises BenchError: the cell then fails with this reason."""
    if not isinstance(x_adv, Tensor):
        raise BenchError(
            f"attack {name}: returned {type(x_adv).__name__}; a tensor of shape {tuple(x.shape)} is needed"
        )
    if x_adv.shape != x.shape:
        raise BenchError(f"attack {name}: returned shape {tuple(x_adv.shape)}; {tuple(x.shape)} is needed")
    if x_adv.dtype != x.dtype:
        raise BenchError(f"attack {name}: returned dtype {x_adv.dtype}; {x.dtype} is needed")
    bad = int((~x_adv.isfinite()).flatten(1).any(1).sum())
    if bad:
        raise BenchError(f"nan: attack {name}: {bad} of {len(x)} adversarial images hold NaN or Inf")
    return x_adv.detach().to(x.device)
