"""The fast adaptive boundary attack, as torchattacks does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from harness.hookspecs import hookimpl
from harness.types import Batch, Problem, Threat

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FABT:
    """Projects onto the boundaries to the likeliest other classes in turn; what it finds inside eps counts.

    The third attack of AutoAttack, by torchattacks' ``FAB.attack_single_run_targeted``: without a random start it draws
    no numbers. A sample for which nothing inside the budget is found keeps its image; one that falls is left alone
    afterwards. It costs 2 ``steps`` + 3 forward and ``steps`` backward passes a class, and one forward.
    steps: iterations for each class. n_target_classes: how many classes, never more than there are. alpha_max: the
    largest weight of the way from the image itself. eta: overshoot. beta: how far back it goes from a find.
    Croce and Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack", ICML 2020.
    """

    steps: int = 100
    n_target_classes: int = 9
    alpha_max: float = 0.1
    eta: float = 1.05
    beta: float = 0.9

    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2", "L1")
    only_asks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.steps < 1 or self.n_target_classes < 1:
            raise ValueError(
                f"steps and n_target_classes: got {self.steps} and {self.n_target_classes}; 1 or more is needed"
            )
        if not 0 <= self.alpha_max <= 1 or self.eta < 1 or not 0 < self.beta <= 1:
            raise ValueError(
                f"alpha_max, eta and beta: got {self.alpha_max}, {self.eta} and {self.beta}; shares for the first and "
                "the last and 1 or more for eta are needed"
            )

    @hookimpl
    def perturb(self, problem: Problem, batch: Batch, threat: Threat) -> Tensor:
        found, module = batch.x.clone(), problem.module
        logits = problem.evaluate(batch.x, batch, gradient=False).logits
        standing = (logits.argmax(1) == batch.y).nonzero().squeeze(1)
        attack = self._made(module, threat)
        for place in range(2, 2 + min(self.n_target_classes, logits.shape[1] - 1)):
            if not len(standing):
                break
            x, y, _ = batch.select(standing)
            attack.target_class = place  # the place of the class among the logits, 1 being the largest
            x_adv = attack.attack_single_run_targeted(x, y).detach()
            fell = problem.evaluate(x_adv, batch.select(standing), gradient=False).fooled
            fell &= threat.size(x_adv - x) <= threat.eps
            found[standing[fell]] = x_adv[fell]
            standing = standing[~fell]
        return found

    def _made(self, module: Any, threat: Threat) -> Any:
        import torchattacks

        return torchattacks.FAB(
            module,
            norm=threat.norm,
            eps=threat.eps,
            steps=self.steps,
            alpha_max=self.alpha_max,
            eta=self.eta,
            beta=self.beta,
            multi_targeted=True,
        )
