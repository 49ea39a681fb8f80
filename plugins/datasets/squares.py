"""Photographs of any shape as square arrays of pixels."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

T = TypeVar("T")


def square(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """The middle of an RGB image whose short side is resized to ``size``: (3, size, size).

    Pillow's bicubic filter, antialiased: the same pixels as torchvision's Resize and CenterCrop give on Pillow images.
    """
    import numpy as np
    from PIL import Image

    width, height = image.size
    short = min(width, height)
    if short != size:
        width, height = int(size * width / short), int(size * height / short)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    image = image.crop((left, top, left + size, top + size))
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def stacked(read: Callable[[T], NDArray[np.uint8]], sources: Sequence[T], size: int) -> NDArray[np.uint8]:
    """What ``read`` makes of each source, in order: (N, 3, size, size).

    Several at once, for Pillow decodes and resizes without holding the interpreter's lock; each straight into its
    place, for a list of all of them would need the memory twice.
    """
    import numpy as np

    images = np.empty((len(sources), 3, size, size), dtype=np.uint8)

    def place(item: tuple[int, T]) -> None:
        row, source = item
        images[row] = read(source)

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        deque(pool.map(place, enumerate(sources)), maxlen=0)  # the first error gives up those not yet begun
    return images
