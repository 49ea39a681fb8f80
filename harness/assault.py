"""One attack with all that decides how it is run, what it has to say, and what it may propose."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness import boundary
from harness.errors import BenchError
from harness.types import Reason, Threat

if TYPE_CHECKING:
    from torch import Tensor


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
    def hooks(self) -> boundary.Hooks:
        return boundary.bind("attacks", self.component)

    @property
    def by_step(self) -> bool:
        return not self.hooks.offers("perturb")

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
        return self.by_step and self.hooks.takes("start", "clean")

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


def check_finite(x_adv: Tensor, name: str) -> Tensor:
    """Refuses images (N, C, H, W) that are no numbers. Raises BenchError: the cell then fails with this reason."""
    bad = int((~x_adv.isfinite()).flatten(1).any(1).sum())
    if bad:
        raise BenchError(f"nan: attack {name}: {bad} of {len(x_adv)} adversarial images hold NaN or Inf")
    return x_adv
