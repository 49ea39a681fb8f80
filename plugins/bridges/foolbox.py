"""Attacks of foolbox."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from plugins.bridges.bridge import Bridge, Entry, Task, fixed, smallest, unmeasured

if TYPE_CHECKING:
    from torch import Tensor

NAMED = ("Linf", "L2", "L1")
DISTANCES = {"Linf": "linf", "L2": "l2", "L1": "l1"}
NOISE = (
    *("L2AdditiveGaussianNoiseAttack", "L2AdditiveUniformNoiseAttack", "LinfAdditiveUniformNoiseAttack"),
    *("L2ClippingAwareAdditiveGaussianNoiseAttack", "L2ClippingAwareAdditiveUniformNoiseAttack"),
    *("L2RepeatedAdditiveGaussianNoiseAttack", "L2RepeatedAdditiveUniformNoiseAttack"),
    *("L2ClippingAwareRepeatedAdditiveGaussianNoiseAttack", "L2ClippingAwareRepeatedAdditiveUniformNoiseAttack"),
    "LinfRepeatedAdditiveUniformNoiseAttack",
)
DESCENTS = (
    *("ProjectedGradientDescentAttack", "AdamProjectedGradientDescentAttack", "BasicIterativeAttack"),
    *("AdamBasicIterativeAttack", "MomentumIterativeFastGradientMethod"),
)


def _norm(name: str) -> str:
    return next(norm for norm in NAMED if name.startswith(norm))


@dataclass(frozen=True)
class Foolbox(Bridge):
    """Any attack of foolbox. Rauber et al., "Foolbox Native", Journal of Open Source Software 2020.

    name: the class, for example L2BrendelBethgeAttack, or one of foolbox's short names such as LinfPGD. parameters: of
    its constructor; step sizes are relative to eps unless abs_stepsize is set. target: "random", "least_likely" or
    "second" for its targeted form, empty for any mistake. Norms are those of each class's ``distance``; where it takes
    any, or none, the images found are measured, and count where they lie inside eps.
    """

    name: str = "LinfProjectedGradientDescentAttack"

    package: ClassVar[str] = "foolbox"
    project: ClassVar[str] = "foolbox"
    folder: ClassVar[str] = "attacks"
    owned: ClassVar[frozenset[str]] = frozenset({"distance", "tensorboard", "constraint"})
    entries: ClassVar[Mapping[str, Entry]] = {
        **{f"{norm}{kind}": fixed(norm, budget="epsilon", targets=True) for kind in DESCENTS for norm in NAMED},
        **{f"{norm}FastGradientAttack": fixed(norm, budget="epsilon") for norm in NAMED},
        **{name: fixed(_norm(name), budget="epsilon", access="scores") for name in NOISE},
        "SparseL1DescentAttack": fixed("L1", budget="epsilon", targets=True),
        "VirtualAdversarialAttack": fixed("L2", budget="epsilon", needs=True),
        "GenAttack": fixed("Linf", budget="epsilon", access="scores", targets=True, only_targets=True),
        "L2ContrastReductionAttack": fixed("L2", budget="epsilon", access="scores"),
        "DDNAttack": smallest("L2", targets=True),
        "L2CarliniWagnerAttack": smallest("L2", targets=True),
        "L2DeepFoolAttack": smallest("L2"),
        "LinfDeepFoolAttack": smallest("Linf"),
        "NewtonFoolAttack": smallest("L2"),
        "EADAttack": smallest("L1", targets=True),
        "L1FMNAttack": smallest("L1", targets=True),
        "L2FMNAttack": smallest("L2", targets=True),
        "LInfFMNAttack": smallest("Linf", targets=True),
        "L0FMNAttack": unmeasured(targets=True),
        "L1BrendelBethgeAttack": smallest("L1"),
        "L2BrendelBethgeAttack": smallest("L2"),
        "LinfinityBrendelBethgeAttack": smallest("Linf"),
        "L0BrendelBethgeAttack": unmeasured(),
        "BoundaryAttack": smallest("L2", access="scores"),
        "HopSkipJumpAttack": smallest("Linf", "L2", access="scores"),
        "SaltAndPepperNoiseAttack": smallest("L2", access="scores"),
        "PointwiseAttack": unmeasured(access="scores"),
        "BinarySearchContrastReductionAttack": unmeasured(access="scores"),
        "LinearSearchContrastReductionAttack": unmeasured(access="scores"),
        "LinearSearchBlendedUniformNoiseAttack": unmeasured(access="scores"),
        "GaussianBlurAttack": unmeasured(access="scores"),
        "InversionAttack": unmeasured(access="scores"),
        "SpatialAttack": unmeasured(access="scores"),
    }
    refused: ClassVar[Mapping[str, str]] = {
        "BinarizationRefinementAttack": "refines what another attack has found, for models that binarise their input",
        "DatasetAttack": "needs other images to be fed to it first",
    }
    aliases: ClassVar[Mapping[str, str]] = {
        **{f"{norm}PGD": f"{norm}ProjectedGradientDescentAttack" for norm in NAMED},
        **{f"{norm}AdamPGD": f"{norm}AdamProjectedGradientDescentAttack" for norm in NAMED},
        "PGD": "LinfProjectedGradientDescentAttack",
        "AdamPGD": "LinfAdamProjectedGradientDescentAttack",
        "FGM": "L2FastGradientAttack",
        "FGSM": "LinfFastGradientAttack",
        "MIFGSM": "LinfMomentumIterativeFastGradientMethod",
    }

    def images(self, task: Task, given: dict[str, Any]) -> Tensor:
        import foolbox
        from foolbox.models.pytorch import PyTorchModel

        if self.takes("distance"):
            given["distance"] = getattr(foolbox.distances, DISTANCES[task.norm])
        if self.takes("constraint"):
            given["constraint"] = DISTANCES[task.norm]
        budget = {self.entry.budget: task.eps} if self.entry.budget else {}
        attack = getattr(foolbox.attacks, self.name)(**given)
        model = PyTorchModel(task.module, bounds=(0.0, 1.0), device=task.x.device)
        criteria = foolbox.criteria
        wanted = (criteria.TargetedMisclassification if task.targeted else criteria.Misclassification)(task.y)
        return attack.run(model, task.x, wanted, **budget)
