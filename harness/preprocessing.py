"""Whether a model that brought its weights would be better with other preprocessing: the mistakes that leave no error.

Wrong channel order, scale or normalisation cost accuracy and nothing else tells of them, so the likely mistakes are
tried on a few images of a model that is poor on clean ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from harness.data import Samples
from harness.statistics import rate
from harness.types import Batch, Reason, Verdict
from harness.undisturbed import undisturbed

LOW = 0.9
"""Clean accuracy from which nothing is tried."""

RISE = 0.1
"""What another preprocessing must add to the accuracy to be named; its 95 % interval must lie above it too."""

CLOSE = 0.02
"""Accuracies (fractions) on the first images that are as good as equal: the simplest mistake is then named."""

SCREENED, JUDGED = 96, 256
"""Images that every mistake is tried on, and others that the best of them is held against the model with."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PLAIN = ((0.0,), (1.0,))
HALVES = ((0.5,), (0.5,))
BYTES = ((0.0,), (1 / 255,))

Figures = tuple[Sequence[float], Sequence[float]]


class Mended(NamedTuple):
    """Another preprocessing: what it is, the figures (C) that pixels in [0, 1] are normalised by, channels and size.

    figured: mean and std are to be set so; else they are the module's, or undo what it does unseen.
    """

    text: str
    mean: Tensor
    std: Tensor
    flipped: bool = False
    figured: bool = False
    unresized: bool = False

    def remedy(self, size: Sequence[int]) -> str:
        """What to set. size: (H, W) of the images."""
        wanted = []
        if self.unresized:
            wanted.append(f"image_size = {size[-1]}")
        if self.figured:
            wanted.append(f"mean = {_figures(self.mean)} and std = {_figures(self.std)}")
        found = [f"set {' and '.join(wanted)}"] if wanted else []
        if self.flipped:
            found.append("turn the channels round in it by x.flip(1)")
        return ", ".join(found) or "leave that normalisation out"


def _figures(values: Tensor) -> str:
    """As they are written in a registry or in code; one for all channels where they are the same."""
    texts = [f"{value:.4g}" for value in values.tolist()]
    return f"[{', '.join(texts if len(set(texts)) > 1 else texts[:1])}]"


def suspected(module: nn.Module, samples: Samples, data: Figures, accuracy: float, batch_size: int) -> list[Reason]:
    """The preprocessing that raises a low accuracy markedly, if one does.

    samples: the test images that ``accuracy`` (fraction) is of. data: mean and standard deviation (C) of the training
    images. The module is left as it was.
    """
    if accuracy >= LOW:
        return []
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0)).to(samples.labels.device)
    screened, judged = (samples.take(part) for part in _parts(order))
    with undisturbed(module), torch.no_grad():
        tried = [(_right(module, screened, way, batch_size), way) for way in _mended(module, samples, data)]
        most = max(right for right, _ in tried)
        best = next(way for right, way in tried if right >= most - CLOSE * len(screened.y))
        after, before = (_right(module, judged, way, batch_size) for way in (best, None))
    n = len(judged.y)
    low = rate(after, n).low
    if (after - before) / n < RISE or low is None or low <= before / n:
        return []
    text = (
        f"{best.text} accuracy would be {after / n:.0%} instead of {before / n:.0%} (n = {n}): the weights were "
        f"probably trained so; {best.remedy(samples.images.shape[-2:])}, and run again"
    )
    return [Reason("preprocessing", Verdict.SUSPECT, text)]


def _parts(order: Tensor) -> tuple[Tensor, Tensor]:
    """Images to choose with and others to judge with, for the best of many is too good on those it was chosen with."""
    few = min(SCREENED, len(order) // 3)
    return order[:few], order[few : few + JUDGED]


def _mended(module: nn.Module, samples: Samples, data: Figures) -> list[Mended]:
    """The likely preprocessings, other than the one that the module has."""
    channels = samples.images.shape[1]
    has = _buffers(module)
    own = (has[0].flatten(), has[1].flatten()) if has else tuple(map(torch.tensor, PLAIN))
    width = len(own[0]) if has else channels
    usual: dict[str, Figures] = {
        **({"the mean and standard deviation of ImageNet": IMAGENET} if width == 3 else {}),
        "mean and standard deviation 0.5": HALVES,
        "the mean and standard deviation of the data": data,
    }
    by_name = {name: (_wide(mean, width, own[0]), _wide(std, width, own[0])) for name, (mean, std) in usual.items()}
    plain, pixels = ((_wide(mean, width, own[0]), _wide(std, width, own[0])) for mean, std in (PLAIN, BYTES))
    mine = (_wide(own[0].tolist(), width, own[0]), _wide(own[1].tolist(), width, own[0]))
    found = {"without mean and standard deviation (or normalised once, if the network does so itself)": plain}
    found |= {f"with {name}": figures for name, figures in by_name.items()}
    if not has:  # what it normalises by is not known: undone as if it were the usual
        found |= {f"without {name}": (-mean / std, 1 / std) for name, (mean, std) in by_name.items()}
        found["with pixels divided by 255 once more"] = (mine[0], mine[1] * 255)
    if float(mine[0].abs().max()) > 1:
        found["with mean and standard deviation taken as of pixels from 0 to 255"] = (mine[0] / 255, mine[1] / 255)
    found["with pixels from 0 to 255"] = pixels
    undone = {f"without {name}" for name in by_name}
    ways = [
        Mended(name, *figures, figured=name not in undone)
        for name, figures in found.items()
        if not _same(figures, mine)
    ]
    if channels == 3:
        turned = [way._replace(text=_and("with BGR channels", way), flipped=True) for way in ways]
        ways = [Mended("with BGR channels", *mine, flipped=True), *ways, *turned]
    if not _takes_unresized(module, samples):
        return ways
    own_size = "with images of their own size, {} x {},".format(*samples.images.shape[-2:])
    unresized = [way._replace(text=_and(own_size.rstrip(","), way), unresized=True) for way in ways]
    return [*ways, Mended(own_size, *mine, unresized=True), *unresized]


def _and(first: str, way: Mended) -> str:
    return f"{first} and {way.text.removeprefix('with ')}"


def _takes_unresized(module: nn.Module, samples: Samples) -> bool:
    """Whether it resizes such images, and its network would take them as they are; many trained on small images do."""
    size = getattr(module, "size", None)
    if not isinstance(size, tuple) or size == tuple(samples.images.shape[-2:]) or not _buffers(module):
        return False
    try:
        with _unresized(module):
            module(samples.take(torch.arange(1, device=samples.labels.device)).x)
    except Exception:  # foreign code, which has errors of every type
        return False
    return True


@contextlib.contextmanager
def _unresized(module: Any) -> Iterator[None]:
    size, module.size = module.size, None
    try:
        yield
    finally:
        module.size = size


def _wide(values: Sequence[float], width: int, like: Tensor) -> Tensor:
    found = torch.tensor(list(values), dtype=torch.float32, device=like.device)
    return found.expand(width) if len(found) == 1 else found


def _same(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> bool:
    return all(torch.allclose(x, y, atol=1e-6) for x, y in zip(a, b, strict=True))


def _buffers(module: nn.Module) -> tuple[Tensor, Tensor] | None:
    """Mean and standard deviation of a module that says by such buffers (1, C, 1, 1) what it normalises by."""
    found = tuple(getattr(module, name, None) for name in ("mean", "std"))
    if all(isinstance(value, Tensor) and value.ndim == 4 and value.shape[0] == 1 for value in found):
        return found  # type: ignore[return-value]
    return None


@contextlib.contextmanager
def _set(buffers: tuple[Tensor, Tensor], way: Mended) -> Iterator[None]:
    kept = [buffer.clone() for buffer in buffers]
    try:
        for buffer, value in zip(buffers, (way.mean, way.std), strict=True):
            buffer.copy_(value.view_as(buffer))
        yield
    finally:
        for buffer, value in zip(buffers, kept, strict=True):
            buffer.copy_(value)


def _right(module: nn.Module, batch: Batch, way: Mended | None, batch_size: int) -> int:
    """How many images are predicted rightly, preprocessed in another way, or as the module does it."""
    x, buffers = batch.x.flip(1) if way and way.flipped else batch.x, _buffers(module)
    with contextlib.ExitStack() as kept:
        if way and buffers:
            # In the module itself, after its resizing, which may cut what is outside [0, 1].
            kept.enter_context(_set(buffers, way))
        elif way:
            x = (x - way.mean.to(x).view(1, -1, 1, 1)) / way.std.to(x).view(1, -1, 1, 1)
        if way and way.unresized:
            kept.enter_context(_unresized(module))
        logits = torch.cat([module(part) for part in x.split(batch_size)])  # type: ignore[no-untyped-call]
    return int((logits.argmax(1) == batch.y).sum())
