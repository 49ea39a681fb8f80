"""Real photographs, which scikit-learn carries, and what they look like after a library has prepared them."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from plugins.networks import Normalised

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHAPES = [(200, 200), (96, 120), (40, 32), (300, 260)]
"""Height and width of the pieces: square, wide, high and smaller than any network's images, larger than most."""


@functools.cache
def photograph() -> NDArray[np.uint8]:
    found = importlib.util.find_spec("sklearn")  # importing it takes seconds, and the file lies there
    assert found is not None
    assert found.origin is not None
    with Image.open(Path(found.origin).parent / "datasets" / "images" / "flower.jpg") as image:
        return np.array(image)  # (427, 640, 3)


def piece(shape: tuple[int, int], contrast: float = 0.7) -> Image.Image:
    """A little flat: what bicubic resizing overshoots black and white by, Pillow cuts off in its first pass too."""
    height, width = shape
    part = photograph()[60 : 60 + height, 200 : 200 + width].astype(float)
    return Image.fromarray((contrast * (part - 127) + 127).round().astype(np.uint8))


def pixels(image: Image.Image) -> Tensor:
    """(1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


def shown(module: nn.Module, x: Tensor) -> Tensor:
    """What the network inside gets to see of these pixels: (N, C, h, w)."""
    assert isinstance(module, Normalised)
    seen: list[Tensor] = []
    hook = module.network.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach()))
    with torch.no_grad():
        module(x)
    hook.remove()
    return seen[0]


def differences(module: nn.Module, ours: Tensor, theirs: Tensor) -> tuple[float, float]:
    """Largest and mean difference in 8-bit levels, normalisation taken back."""
    assert isinstance(module, Normalised)
    assert ours.shape == theirs.shape
    levels = (ours - theirs).abs() * module.std * 255
    return float(levels.max()), float(levels.mean())
