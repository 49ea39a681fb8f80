"""The figures that a model normalises its images with, as its parameters; nothing heavy is imported for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plugins.networks import Crop


def check_figures(mean: Sequence[float], std: Sequence[float]) -> None:
    """Raises ValueError unless there are as many of each, and no deviation of zero. Both may be empty."""
    if len(mean) != len(std):
        raise ValueError(f"mean has {len(mean)} figures, std {len(std)}; one of each for each channel is needed")
    if any(value <= 0 for value in std):
        raise ValueError(f"std: got {list(std)}; more than 0 is needed, in units of pixels on [0, 1]")


def described(
    mean: Sequence[float] | None, std: Sequence[float] | None, size: tuple[int, int] | None, crop: Crop | None
) -> list[tuple[str, str]]:
    """What a model does to images, as rows for `bench info`. mean, std: None for the data's; size: None for its."""
    rows = [("preprocessing", "of pixels in [0, 1], inside the model")]
    if size is None:
        rows.append(("  size", "the images'"))
    elif crop is None:
        rows.append(("  size", f"{size[0]} x {size[1]}: the whole image, resized bilinearly"))
    else:
        to = crop.resize if isinstance(crop.resize, int) else " x ".join(map(str, crop.resize))
        what = "the shorter side" if isinstance(crop.resize, int) else "the image"
        how = f"{what} resized to {to} ({crop.interpolation}), the middle cut out"
        rows.append(("  size", f"{size[0]} x {size[1]}: {how}; images of that size as they are"))
    for name, values in (("mean", mean), ("std", std)):
        text = ", ".join(f"{value:.4g}" for value in values) if values else "the training images'"
        rows.append((f"  {name}", text))
    return rows
