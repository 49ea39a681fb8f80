"""Evasion attacks of the Adversarial Robustness Toolbox."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from harness.types import NORMS
from plugins.bridges.bridge import Bridge, Entry, Task, fixed, smallest, unmeasured
from plugins.bridges.signatures import REQUIRED

if TYPE_CHECKING:
    from torch import Tensor

ORDERS = {"Linf": float("inf"), "L2": 2, "L1": 1}
ONE_BY_ONE = ("SimBA", "ZooAttack")
"""Those whose batches are no batches of images: left at ART's own size."""
OF_PROBABILITIES = ("SimBA",)
TOWARDS = ("SaliencyMapMethod",)
"""Those that take labels for the classes wanted, and choose classes of their own where none are given."""
DETECTORS = "attacks object detectors"
SPEECH = "attacks speech recognition"
PATCH = "pastes a patch of any strength, which no eps measures"
GUIDED = "needs images to imitate"
TENSORFLOW = "needs TensorFlow; its PyTorch form has a name of its own"


@dataclass(frozen=True)
class Art(Bridge):
    """Any evasion attack on images of ART. Nicolae et al., "Adversarial Robustness Toolbox v1.0.0", 2018.

    name: the class, for example SquareAttack. parameters: of its constructor; a step size eps_step that is not set
    keeps ART's own ratio to eps, for ART's absolute one is larger than most budgets. batch_size: that of the run unless
    it is set. target: "random", "least_likely" or "second" for its targeted form, empty for any mistake. Images go
    through numpy, as everywhere in ART. Of what has no norm of its own the images found are measured, and count where
    they lie inside eps.
    """

    name: str = "ProjectedGradientDescent"

    package: ClassVar[str] = "art"
    project: ClassVar[str] = "adversarial-robustness-toolbox"
    folder: ClassVar[str] = "attacks/evasion"
    owned: ClassVar[frozenset[str]] = frozenset(
        {"estimator", "classifier", "targeted", "norm", "verbose", "summary_writer", "estimator_orig"}
        | {"parallel_pool_size", "attacks", "mask", "eval_perform"}
    )
    entries: ClassVar[Mapping[str, Entry]] = {
        "FastGradientMethod": fixed(*NORMS, targets=True),
        "BasicIterativeMethod": fixed("Linf", targets=True),
        "MomentumIterativeMethod": fixed(*NORMS, targets=True),
        "ProjectedGradientDescent": fixed(*NORMS, targets=True),
        "ProjectedGradientDescentNumpy": fixed(*NORMS, targets=True),
        "ProjectedGradientDescentPyTorch": fixed(*NORMS, targets=True),
        "AutoProjectedGradientDescent": fixed(*NORMS, targets=True),
        "AutoConjugateGradient": fixed(*NORMS, targets=True),
        "RescalingAutoConjugateGradient": fixed(*NORMS, targets=True),
        "AutoAttack": fixed("Linf", "L2"),
        "SquareAttack": fixed("Linf", "L2", access="scores"),
        "UniversalPerturbation": fixed("Linf", "L2"),
        "VirtualAdversarialMethod": fixed("L2"),
        "DeepFool": smallest("L2"),
        "NewtonFool": smallest("L2"),
        "CarliniL2Method": smallest("L2", targets=True),
        "CarliniLInfMethod": smallest("Linf", targets=True),
        "ElasticNet": smallest("L1", targets=True),
        "BrendelBethgeAttack": smallest(*NORMS, targets=True),
        "BoundaryAttack": smallest("L2", access="scores"),
        "HopSkipJump": smallest("Linf", "L2", access="scores"),
        "GeoDA": smallest(*NORMS, access="scores"),
        "SignOPTAttack": smallest("L2", access="scores"),
        "ZooAttack": smallest("L2", access="scores", targets=True),
        "SimBA": smallest("L2", access="scores", targets=True),
        "ThresholdAttack": smallest("Linf", access="scores", targets=True),
        "PixelAttack": unmeasured(access="scores", targets=True),
        "CarliniL0Method": unmeasured(targets=True),
        "SaliencyMapMethod": unmeasured(targets=True),
        "ShadowAttack": unmeasured(targets=True, alone=True),
        "SpatialTransformation": unmeasured(access="scores"),
        "Wasserstein": unmeasured(targets=True),
        "CompositeAdversarialAttackPyTorch": unmeasured(),
    }
    refused: ClassVar[Mapping[str, str]] = {
        "AdversarialPatch": PATCH,
        "AdversarialPatchNumpy": PATCH,
        "AdversarialPatchPyTorch": PATCH,
        "AdversarialPatchTensorFlowV2": PATCH,
        "AdversarialTexturePyTorch": "paints textures in videos",
        "CarliniWagnerASR": SPEECH,
        "ImperceptibleASR": SPEECH,
        "ImperceptibleASRPyTorch": SPEECH,
        "DPatch": DETECTORS,
        "RobustDPatch": DETECTORS,
        "OverloadPyTorch": DETECTORS,
        "SNAL": DETECTORS,
        "DecisionTreeAttack": "attacks decision trees",
        "HighConfidenceLowUncertainty": "attacks Gaussian processes",
        "LowProFool": "attacks models of tables",
        "MalwareGDTensorFlow": "attacks malware detectors",
        "FrameSaliencyAttack": "attacks models of videos",
        "OverTheAirFlickeringPyTorch": "attacks models of videos",
        "FeatureAdversariesNumpy": GUIDED,
        "FeatureAdversariesPyTorch": GUIDED,
        "FeatureAdversariesTensorFlowV2": GUIDED,
        "GRAPHITEBlackbox": f"{GUIDED} and a mask of what may be painted",
        "GRAPHITEWhiteboxPyTorch": f"{GUIDED} and a mask of what may be painted",
        "LaserAttack": "takes images with channels last alone, and PyTorch models have them first",
        "TargetedUniversalPerturbation": "wants one and the same class of all images",
        "ProjectedGradientDescentTensorFlowV2": TENSORFLOW,
    }

    def images(self, task: Task, given: dict[str, Any]) -> Tensor:
        import numpy as np
        import torch
        from art.attacks import evasion
        from art.estimators.classification import PyTorchClassifier

        from plugins.bridges.single import Single

        classifier = PyTorchClassifier(
            Single(task.module, probabilities=self.name in OF_PROBABILITIES),
            loss=torch.nn.CrossEntropyLoss(),
            input_shape=tuple(task.x.shape[1:]),
            nb_classes=task.classes,
            clip_values=(0.0, 1.0),
            device_type="cpu" if task.x.device.type == "cpu" else "gpu",
        )
        given = {**self._own(task), **given}
        attack = getattr(evasion, self.name)(classifier, **given)
        labels = np.eye(task.classes, dtype=np.float32)[task.y.cpu().numpy()]
        given_labels = None if self.name in TOWARDS and not task.targeted else labels
        return torch.from_numpy(attack.generate(x=task.x.cpu().numpy(), y=given_labels))

    def _own(self, task: Task) -> dict[str, Any]:
        """What is given where the user gives nothing."""
        own: dict[str, Any] = {"norm": ORDERS[task.norm], "targeted": task.targeted, "verbose": False}
        if self.name == "Wasserstein":
            del own["norm"]  # of its own kind
        defaults = {p.name: p.default for p in self.signature() if p.default is not REQUIRED}
        if self.name not in ONE_BY_ONE:
            own["batch_size"] = len(task.x)
        if self.entry.budget and "eps_step" in defaults:
            own["eps_step"] = task.eps * defaults["eps_step"] / defaults["eps"]
        return {name: value for name, value in own.items() if self.takes(name)} | self.budgeted(task.eps)
