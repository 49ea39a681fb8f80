"""Gaussian noise, the common corruption that needs no library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.hookspecs import hookimpl
from harness.types import ANY_TASK, SEVERITY, Batch, Threat
from plugins.severities import severity_of

if TYPE_CHECKING:
    from torch import Tensor

    from harness.randomness import SampleRandom

DEVIATIONS = {"cifar": (0.04, 0.06, 0.08, 0.09, 0.10), "imagenet": (0.08, 0.12, 0.18, 0.26, 0.38)}


@dataclass(frozen=True)
class GaussianNoise:
    """Adds normal noise to every pixel; its standard deviation is that of the severity 1 to 5.

    scale: "cifar" takes CIFAR-10-C's 0.04, 0.06, 0.08, 0.09, 0.10, made for small images, in which fewer pixels show
    the same thing; "imagenet" takes ImageNet-C's 0.08, 0.12, 0.18, 0.26, 0.38, made for 224 x 224.
    Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions", ICLR 2019.
    """

    scale: Literal["cifar", "imagenet"] = "cifar"

    norms: ClassVar[tuple[str, ...]] = (SEVERITY,)
    tasks: ClassVar[tuple[str, ...]] = ANY_TASK

    @hookimpl
    def perturb(self, batch: Batch, threat: Threat, random: SampleRandom) -> Tensor:
        deviation = DEVIATIONS[self.scale][severity_of(threat, "gaussian_noise") - 1]
        return (batch.x + deviation * random.normal(batch.x.shape[1:]).to(batch.x)).clamp(0.0, 1.0)
