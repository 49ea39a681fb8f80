"""What a frozen encoder makes of the images of a split, kept in a file of half precision and read a batch at a time.

The file is a plain .npy, (N, L, D) float16, so anything that reads numpy's files can map it. Features of a data set may
be larger than memory: what a batch has read of the file is given back before the next one.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.artifacts import Artifacts
from harness.errors import BenchError

if TYPE_CHECKING:
    from numpy.typing import NDArray

KIND = "features"
LARGEST = float(np.finfo(np.float16).max)


class Features:
    """A file of features (N, L, D). Memory stays with the batch: pages that were read are not kept mapped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mapped: Any = np.load(path, mmap_mode="r")

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._mapped.shape)

    def read(self, rows: NDArray[np.int64]) -> Tensor:
        """The features of these images: (n,) -> float32 (n, L, D). Read in the order of the file."""
        order = np.argsort(rows, kind="stable")
        found = np.empty((len(rows), *self.shape[1:]), np.float32)
        for place in order:
            found[place] = self._mapped[rows[place]]
        with contextlib.suppress(AttributeError, OSError):  # not every system can
            self._mapped._mmap.madvise(mmap.MADV_DONTNEED)
        return torch.from_numpy(found)


def kept(
    artifacts: Artifacts,
    key: str,
    encode: Callable[[Tensor], Tensor],
    pixels: Callable[[NDArray[np.int64]], Tensor],
    n: int,
    batch_size: int,
    progress: Callable[[float], None] = lambda share: None,
) -> Features:
    """The features of ``n`` images under this key: those of an earlier run, else made now and kept.

    encode: (B, C, H, W) in [0, 1] -> (B, L, D). The file appears whole or not at all. Raises BenchError for features
    that half precision does not hold.
    """
    folder = artifacts.folder(KIND, key)
    path = folder / "features.npy"
    with artifacts.alone(key):
        if not _whole(path, n):
            folder.mkdir(parents=True, exist_ok=True)
            _write(path, _encoded(encode, pixels, n, batch_size, progress), n)
    return Features(path)


def digest(encoder: nn.Module) -> str:
    """What makes the features: the encoder's parts with their sizes and settings, its weights and statistics."""
    digest = hashlib.sha256()
    for name, part in encoder.named_modules():
        plain = {k: v for k, v in vars(part).items() if isinstance(v, bool | int | float | str | tuple)}
        plain.pop("training", None)
        digest.update(f"{name} {type(part).__name__} {sorted(plain.items())}".encode())
    for name, tensor in [*encoder.named_parameters(), *encoder.named_buffers()]:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _encoded(
    encode: Callable[[Tensor], Tensor],
    pixels: Callable[[NDArray[np.int64]], Tensor],
    n: int,
    batch_size: int,
    progress: Callable[[float], None],
) -> Iterator[NDArray[np.float16]]:
    for start in range(0, n, batch_size):
        with torch.no_grad():
            found = encode(pixels(np.arange(start, min(n, start + batch_size))))
        largest = float(found.abs().amax())
        if not largest <= LARGEST:
            raise BenchError(
                f"encoder: features reach {largest:.3g}, more than half precision holds ({LARGEST:.0f}); train with "
                "frozen = false, which keeps none, or take another encoder"
            )
        progress(min(n, start + batch_size) / n)
        yield found.half().cpu().numpy()


def _write(path: Path, parts: Iterator[NDArray[np.float16]], n: int) -> None:
    beside = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    first = next(parts)
    try:
        with beside.open("wb") as file:
            header = {"descr": "<f2", "fortran_order": False, "shape": (n, *first.shape[1:])}
            np.lib.format.write_array_header_1_0(file, header)
            file.write(first.astype("<f2").tobytes())
            for part in parts:
                file.write(part.astype("<f2").tobytes())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _whole(path: Path, n: int) -> bool:
    """Whether the file is there with all its rows; its name was given to it when it was complete."""
    try:
        return len(np.load(path, mmap_mode="r")) == n
    except (OSError, ValueError):
        return False
