"""What an image processor of transformers does to images, measured on some, so that it can be done differentiably."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.errors import BenchError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from plugins.networks import Crop

PROCESSORS = ("preprocessor_config.json", "processor_config.json")
INTERPOLATION = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, which image processors are configured with."""

AGREEMENT = 4 / 255
"""Difference in pixel units allowed between an image processor and what stands in for it: the former rounds to 8 bits
after resizing, at most twice. Another interpolation or crop differs tenfold on the image that they are compared on."""


class Preprocessing(NamedTuple):
    """What an image processor does: size (H, W) of its images, how they are brought to it, per-channel figures in the
    order red, green, blue, and whether it turns that order round."""

    size: tuple[int, int]
    crop: Crop
    mean: list[float]
    std: list[float]
    flipped: bool


def preprocessing(folder: Path, model: str) -> Preprocessing:
    """Of the image processor that was saved in a folder. Raises BenchError where there is none, or it does more."""
    import transformers

    from plugins.networks import one_line

    if not any((folder / name).is_file() for name in PROCESSORS):
        raise BenchError(
            f"model {model}: no {PROCESSORS[0]} beside config.json, so what its images are normalised with is "
            "not known; save its image processor there"
        )
    auto: Any = transformers.AutoImageProcessor
    try:
        return measured(auto.from_pretrained(folder, local_files_only=True, trust_remote_code=False))
    except Exception as error:
        raise BenchError(f"model {model}: its image processor: {one_line(error)}") from error


def measured(processor: Any) -> Preprocessing:
    """What an image processor does to images, found out by giving it some. Raises BenchError where it does more.

    Black and white images tell what it multiplies by and adds, whatever rescaling and normalising that comes from.
    How it resizes and crops is told by its entries in one of a few ways; the one that gives the processor's own answer
    to a coloured image, at twice its width, is right.
    """
    import numpy as np
    import torch

    from plugins.networks import fitted

    flipped = bool(getattr(processor, "do_flip_channel_order", False))
    size, low = _flat(processor, 0, (64, 128))
    other, high = _flat(processor, 255, (96, 96))
    if size != other:
        raise BenchError(f"{type(processor).__name__} leaves images in their own ratio; a size for all is needed")
    std = 1 / (high - low)
    mean = -low * std
    tile = np.random.default_rng(0).integers(64, 192, (8, 16, 3), dtype=np.uint8)
    # Edges, which interpolations treat differently, and no extremes: what overshoots them is cut in several ways.
    image = tile.repeat(8, axis=0).repeat(8, axis=1)
    theirs = _processed(processor, image) * std[:, None, None] + mean[:, None, None]
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    for crop in _candidates(processor.to_dict(), size):
        ours = fitted(pixels, size, crop)[0]
        ours = ours.flip(0) if flipped else ours
        if ours.shape == theirs.shape and float((ours - theirs).abs().amax()) <= AGREEMENT:
            figures = [values.flip(0) if flipped else values for values in (mean, std)]
            return Preprocessing(size, crop, figures[0].tolist(), figures[1].tolist(), flipped)
    raise BenchError(
        f"{type(processor).__name__} does something to images that cannot be done here; only resizing, cropping and "
        "normalising can"
    )


def _flat(processor: Any, value: int, shape: tuple[int, int]) -> tuple[tuple[int, int], Tensor]:
    """Size (H, W) of the processor's answer to an image of one value, and its value in each channel (C,)."""
    import numpy as np

    answer = _processed(processor, np.full((*shape, 3), value, dtype=np.uint8))
    return (answer.shape[1], answer.shape[2]), answer.flatten(1).double().mean(1).float()


def _processed(processor: Any, image: NDArray[np.uint8]) -> Tensor:
    """(H, W, 3) uint8 -> what the network is given, (C, H, W)."""
    answer: Tensor = processor(images=image, input_data_format="channels_last", return_tensors="pt")["pixel_values"][0]
    if answer.ndim != 3:
        raise BenchError(f"{type(processor).__name__} gives no image but a tensor of shape {tuple(answer.shape)}")
    return answer.float()


def _candidates(entries: Mapping[str, Any], size: tuple[int, int]) -> Iterator[Crop]:
    """The ways of resizing that a processor's entries may mean, by what classes of processors make of them."""
    from plugins.networks import Crop

    interpolation = INTERPOLATION.get(int(entries.get("resample") or 0), "bicubic")
    asked = entries.get("size") or {}
    yield Crop(size, interpolation)
    if asked.get("height") and asked.get("width"):
        yield Crop((asked["height"], asked["width"]), interpolation)
    if edge := asked.get("shortest_edge"):
        shares = (1.0, 1 / (entries.get("crop_pct") or 1.0), 256 / 224)  # as it is; ConvNeXt's; LeViT's
        yield from (Crop(int(share * edge), interpolation) for share in shares if int(share * edge) >= max(size))
