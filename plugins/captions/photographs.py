"""Image files as one array that is never in memory as a whole."""

from __future__ import annotations

import functools
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import BenchError
from plugins.datasets.image_folder import ENDINGS
from plugins.datasets.squares import stacked

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

_TAIL = 1024
"""Bytes at the end of a JPEG file among which its end mark stands; some cameras write something behind it."""
_PIECE = 1024
"""Bytes from the middle of a file that are compared before it is read whole."""


class Photographs:
    """The images of files as an array uint8 (N, 3, size, size), decoded when they are asked for.

    Indexed by a number, a slice or an array of numbers it gives what numpy's arrays give: (3, size, size) or
    (n, 3, size, size). Nothing is kept, so memory is that of what was asked for. Raises BenchError naming a file that
    cannot be read.
    """

    def __init__(self, files: Sequence[str], size: int) -> None:
        import numpy as np

        self.files = tuple(files)
        self.shape = (len(self.files), 3, size, size)
        self.dtype = np.dtype(np.uint8)
        self.ndim = 4
        self._rows = np.arange(len(self.files))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        rows = self._rows[index]
        if rows.ndim == 0:
            return squashed(self.files[rows], self.shape[-1])
        return stacked(lambda row: squashed(self.files[row], self.shape[-1]), rows.tolist(), self.shape[-1])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].astype(dtype or self.dtype, copy=False)


def squashed(file: str, size: int) -> NDArray[np.uint8]:
    """The whole image resized to a square, whatever its sides were: (3, size, size).

    Pillow's bicubic filter, antialiased. It works on 8 bits and cuts what overshoots at 0 and 255 itself.
    """
    import numpy as np
    from PIL import Image

    try:
        image = opened(file)
    except ERRORS as error:
        raise BenchError(
            f"coco_fa: {file} cannot be read as an image ({one_line(error)}); mend or remove it"
        ) from error
    return np.ascontiguousarray(np.asarray(image.resize((size, size), Image.Resampling.BICUBIC)).transpose(2, 0, 1))


ERRORS = (OSError, ValueError, SyntaxError, EOFError)
"""What Pillow raises for bytes that are no image."""


def opened(file: str) -> Image.Image:
    """An image as RGB, turned as its camera noted. Raises one of ``ERRORS``."""
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            _check_bits(image)
            return ImageOps.exif_transpose(image).convert("RGB")
    except Image.DecompressionBombError as error:
        raise ValueError(error) from error


def fault(file: str) -> str:
    """What is wrong with an image file, or nothing, without decoding it where its format allows that.

    PNG has checksums. Of a JPEG file the head and the mark at its end are looked at: damage between is found only by
    decoding. Where the mark is missing, and of any other format, the image is decoded.
    """
    from PIL import Image

    try:
        with Image.open(file) as image:
            _check_bits(image)
            if image.format == "PNG":
                image.verify()
            elif image.format != "JPEG" or not _has_end(file):
                image.load()
    except (*ERRORS, Image.DecompressionBombError) as error:
        return one_line(error)
    return ""


Stamps = tuple[tuple[str, int, int], ...]
"""Files with size in bytes and time of change: what is known of them holds for as long as these are the same."""


def stamped(files: Sequence[str]) -> Stamps:
    """Files by what tells whether they have changed."""
    return tuple((file, stat.st_size, stat.st_mtime_ns) for file, stat in ((file, os.stat(file)) for file in files))


@functools.lru_cache(maxsize=4)
def faults(stamps: Stamps) -> tuple[str, ...]:
    """What is wrong with each file, or nothing; see ``fault``. Remembered."""
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return tuple(pool.map(fault, (file for file, _, _ in stamps)))


@functools.lru_cache(maxsize=4)
def copies(stamps: Stamps) -> tuple[int, ...]:
    """The place of the first file with the same bytes as each, its own where there is none before it. Remembered.

    Whole files are read only where the size and a piece from the middle are those of another.
    """
    like: list[tuple[object, ...]] = [(size,) for _, size, _ in stamps]
    for length in (_PIECE, None):
        counts = Counter(like)
        like = [
            (*known, _hash(file, size, length)) if counts[known] > 1 else known
            for known, (file, size, _) in zip(like, stamps, strict=True)
        ]
    first: dict[tuple[object, ...], int] = {}
    return tuple(first.setdefault(known, place) for place, known in enumerate(like))


def _hash(file: str, size: int, length: int | None) -> bytes:
    with open(file, "rb") as data:
        if length is None:
            return hashlib.file_digest(data, "sha256").digest()
        data.seek(max(0, (size - length) // 2))
        return hashlib.sha256(data.read(length)).digest()


def below(root: Path) -> Iterator[str]:
    """Image files at any depth, in no order; links are followed, names that begin with a dot are passed over."""
    seen = set()
    for folder, inside, files in os.walk(root, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:  # a link round in a circle
            inside.clear()
            continue
        seen.add(real)
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        for name in files:
            if name.lower().endswith(ENDINGS) and not name.startswith("."):
                yield os.path.join(folder, name)


def one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _check_bits(image: Image.Image) -> None:
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"its pixels are of Pillow's mode {image.mode}, not of 8 bits")


def _has_end(file: str) -> bool:
    with open(file, "rb") as data:
        data.seek(max(0, os.path.getsize(file) - _TAIL))
        return b"\xff\xd9" in data.read()
