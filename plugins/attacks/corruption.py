"""The common corruptions of ImageNet-C."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from harness.errors import BenchError
from harness.hookspecs import hookimpl
from harness.types import ANY_TASK, SEVERITY, Batch, Threat
from plugins.severities import severity_of

if TYPE_CHECKING:
    from torch import Tensor

    from harness.randomness import SampleRandom

LEAST = 32
SEEDED = ("impulse_noise", "glass_blur")
"""Kinds that take a seed; the others draw from numpy's global generator."""


@dataclass(frozen=True)
class Corruption:
    """One kind of noise, blur, weather or bad encoding, at a severity from 1 to 5.

    By the package imagecorruptions-imaug (extra ``corruptions``) with ImageNet-C's parameters, which were made for
    224 x 224: on smaller images the same severity is harsher. Images of 32 x 32 pixels or more with one or three
    channels; grey ones are corrupted in colour and made grey again. What is random belongs to the sample.
    kind: which corruption.
    Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions", ICLR 2019.
    """

    kind: Literal[
        "gaussian_noise",
        "shot_noise",
        "impulse_noise",
        "speckle_noise",
        "defocus_blur",
        "glass_blur",
        "motion_blur",
        "zoom_blur",
        "gaussian_blur",
        "snow",
        "frost",
        "fog",
        "spatter",
        "brightness",
        "contrast",
        "saturate",
        "elastic_transform",
        "pixelate",
        "jpeg_compression",
    ] = "defocus_blur"

    norms: ClassVar[tuple[str, ...]] = (SEVERITY,)
    tasks: ClassVar[tuple[str, ...]] = ANY_TASK

    @hookimpl
    def perturb(self, batch: Batch, threat: Threat, random: SampleRandom) -> Tensor:
        import numpy as np
        import torch

        from harness.randomness import derive, generators_kept, seed_generators

        channels, *sides = batch.x.shape[1:]
        if min(sides) < LEAST or channels not in (1, 3):
            raise BenchError(
                f"attack corruption: got images of shape {tuple(batch.x.shape[1:])}; {LEAST} x {LEAST} pixels or more "
                "and 1 or 3 channels are needed"
            )
        severity, corrupt = severity_of(threat, "corruption"), _library()
        pixels = (batch.x * 255).round().byte().expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()
        made = []
        with generators_kept(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the library's own calls to numpy and scikit-image
            for image, sample in zip(pixels, batch.ids.tolist(), strict=True):
                seed = derive(random.seed, "corruption", self.kind, severity, sample)
                seed_generators(seed)
                more = {"seed": seed % 2**31} if self.kind in SEEDED else {}
                made.append(corrupt(image.copy(), severity=severity, corruption_name=self.kind, **more))
        corrupted = torch.from_numpy(np.stack(made)).to(batch.x.device).permute(0, 3, 1, 2).float() / 255
        return corrupted if channels == 3 else corrupted.mean(1, keepdim=True)


def _library() -> Callable[..., Any]:
    try:
        from imagecorruptions import corrupt
    except ImportError as error:
        raise BenchError(
            "attack corruption: the package imagecorruptions-imaug is not installed; "
            "pip install 'adversarial-bench[corruptions]'"
        ) from error
    return corrupt
