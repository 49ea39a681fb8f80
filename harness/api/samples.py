"""Images and labels as code has them -> splits as data sets give them, or one line that says what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.errors import BenchError, unknown
from harness.types import Split

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SPLITS = ("train", "validation", "test")
VALIDATED = 0.1
"""Share of the training images that is held out to choose the best epoch, where no validation images are given."""
ROUNDING = 1e-6
"""Pixels that differ by no more are the same."""
CHANNELS = (1, 3)
FORMS = "(x, y), (x, y, ids), a Dataset, a DataLoader, a pair (train, test) of these, or a data set's name"


class Given(NamedTuple):
    """Splits in memory. trains: whether there are training images; else ``train`` repeats the test images.

    Images are uint8 (N, C, H, W), or float32 in [0, 1] where some are no 8-bit levels.
    """

    splits: Mapping[str, Split]
    trains: bool

    @property
    def classes(self) -> int:
        """The number of classes that the labels need."""
        return 1 + max(int(split.labels.max()) for split in self.splits.values())


def gathered(data: Any, limit: int | None = None) -> Given:
    """The splits of what ``evaluate`` was given as data. limit: samples that will be attacked.

    Raises BenchError for NaN, pixels outside [0, 1], labels that are no classes, shapes that do not fit, and for what
    is no data.
    """
    if isinstance(data, Mapping):
        for name in data:
            if name not in SPLITS:
                raise unknown("data: split", str(name), SPLITS)
        if "test" not in data:
            raise BenchError(f"data: no split test among {', '.join(data)}; it is what is attacked")
        parts = dict(data)
    elif isinstance(data, list | tuple) and len(data) == 2 and all(_is_source(part) for part in data):
        parts = dict(zip(("train", "test"), data, strict=True))
    else:
        parts = {"test": data}
    trains = "train" in parts
    found = {name: split(part, name, limit if name == "test" else None) for name, part in parts.items()}
    if trains and "validation" not in found:
        found["train"], found["validation"] = _held_out(found["train"])
    whole = {name: found.get(name, found["test"]) for name in SPLITS}
    _check_shapes(whole)
    return Given(_of_one_kind(whole), trains)


def split(source: Any, name: str, limit: int | None = None) -> Split:
    """One split: (x, y), (x, y, ids), a Dataset or a DataLoader. ``name`` is told where something is wrong."""
    x, y, *ids = _columns(source, name, limit)
    images = images_of(x, f"data, {name}: x")
    labels = labels_of(y, len(images), f"data, {name}: y")
    return Split(images, labels, _ids(ids[0] if ids else None, len(images), f"data, {name}: ids"))


def images_of(x: Any, where: str) -> NDArray[Any]:
    """Images as uint8 (N, C, H, W), or as float32 where they are no 8-bit levels. Raises BenchError."""
    import numpy as np

    tensor = hasattr(x, "detach")
    if getattr(x, "requires_grad", False):
        raise BenchError(f"{where}: requires a gradient, which nobody will take here; give x.detach()")
    array = _array(x, where)
    if array.ndim != 4 or 0 in array.shape:
        hint = "; add the channel: x[:, None]" if array.ndim == 3 else ""
        raise BenchError(f"{where}: shape {array.shape}; (N, C, H, W) with one image or more is needed{hint}")
    if not tensor and array.shape[-1] in CHANNELS and array.shape[1] not in CHANNELS:
        array = array.transpose(0, 3, 1, 2)
    if array.shape[1] not in CHANNELS and array.shape[-1] in CHANNELS:
        raise BenchError(f"{where}: shape {array.shape} has its channels last; give x.permute(0, 3, 1, 2)")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind != "f":
        raise BenchError(f"{where}: {array.dtype}; uint8, or floats in [0, 1], are needed")
    array = array.astype(np.float32, order="C")
    check_range(array, where)
    levels = np.round(array * 255)
    if np.abs(levels / 255 - array).max() <= ROUNDING:  # the same bits again when they are divided by 255
        return levels.astype(np.uint8)
    return array.clip(0, 1)


def check_range(x: Any, where: str) -> None:
    """Raises BenchError unless all pixels are numbers in [0, 1]. x: floats of numpy or torch, (N, C, H, W)."""
    bad = int((x != x).any(axis=(1, 2, 3)).sum()) if not hasattr(x, "detach") else int((x != x).flatten(1).any(1).sum())
    if bad:
        raise BenchError(f"{where}: {bad} of {len(x)} images hold NaN")
    low, high = float(x.min()), float(x.max())
    if low < -ROUNDING or high > 1 + ROUNDING:
        levels = low >= 0 and 1 < high <= 255 and high == round(high)
        hint = "divide by 255, or give uint8" if levels else "normalisation belongs in the model: give mean= and std="
        raise BenchError(f"{where}: pixels run from {low:.4g} to {high:.4g}; [0, 1] is needed; {hint}")


def labels_of(y: Any, n: int, where: str) -> NDArray[np.int64]:
    """Labels as int64 (N,). Raises BenchError for another shape, for negative ones, and for what is no class."""
    import numpy as np

    array = _array(y, where)
    if array.shape != (n,):
        hint = "; of one row a sample give y.argmax(1)" if array.ndim == 2 and len(array) == n else ""
        raise BenchError(f"{where}: shape {array.shape} for {n} images; ({n},) is needed{hint}")
    if array.dtype.kind not in "iu" or array.min() < 0:
        got = f"{array.dtype}, the least {array.min()}"
        hint = ": give y.long()" if array.dtype.kind == "f" and (array == np.round(array)).all() else ""
        raise BenchError(f"{where}: {got}; whole numbers from 0, the classes' numbers, are needed{hint}")
    return np.ascontiguousarray(array, dtype=np.int64)


def check_classes(labels: Any, classes: int, where: str) -> None:
    """Raises BenchError for a label that the model has no logit for."""
    if (high := int(labels.max())) >= classes:
        raise BenchError(
            f"{where}: labels run to {high}, the model gives {classes} logits; 0 to {classes - 1} is needed"
        )


def _ids(ids: Any, n: int, where: str) -> NDArray[np.int64]:
    import numpy as np

    if ids is None:
        return np.arange(n, dtype=np.int64)
    array = _array(ids, where)
    if array.shape != (n,) or array.dtype.kind not in "iu" or len(np.unique(array)) != n:
        raise BenchError(f"{where}: {array.dtype} {array.shape}; {n} different whole numbers are needed")
    return np.ascontiguousarray(array, dtype=np.int64)


def _array(value: Any, where: str) -> NDArray[Any]:
    import numpy as np

    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() else value).numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise BenchError(f"{where}: no array can be made of it: {error}") from error
    if array.dtype == object:
        raise BenchError(f"{where}: {type(value).__name__}; a tensor or an array is needed")
    return array


def _is_source(part: Any) -> bool:
    """Whether this is a split of its own, and not one of the arrays of a pair (x, y)."""
    pair = isinstance(part, list | tuple) and len(part) in (2, 3) and all(hasattr(one, "__len__") for one in part)
    return pair or _is_dataset(part)


def _is_dataset(part: Any) -> bool:
    plain = hasattr(part, "shape") or isinstance(part, list | tuple | str | bytes | Mapping)
    return not plain and (hasattr(part, "__iter__") or hasattr(part, "__getitem__"))


def _columns(source: Any, name: str, limit: int | None) -> Sequence[Any]:
    if isinstance(source, list | tuple) and len(source) in (2, 3):
        return source
    if not _is_dataset(source):
        raise BenchError(f"data: got {_named(source)} for {name}; {FORMS} is needed")
    return _collected(source, name, limit)


def _collected(source: Any, name: str, limit: int | None) -> tuple[Any, ...]:
    """Everything that a Dataset or a DataLoader gives, or of a Dataset the samples that a limit leaves."""
    import numpy as np

    dataset, loaded = _behind(source)
    ids: list[int] | None = None
    if loaded or not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        items: Iterator[Any] = iter(dataset)
    else:
        from harness.data import chosen

        count = len(dataset)
        ids = list(range(count)) if limit is None or limit >= count else chosen(count, limit).tolist()
        items = (dataset[place] for place in ids)
    images, labels = [], []
    for item in items:
        if not isinstance(item, list | tuple) or len(item) < 2:
            raise BenchError(f"data, {name}: gives {_named(item)}; pairs (image, label) are needed")
        image, label = _image(item[0], batched=loaded), np.asarray(item[1])
        images.append(image)
        labels.append(label)
    if not images:
        raise BenchError(f"data, {name}: is empty; one sample or more is needed")
    shapes = sorted({image.shape[-3:] for image in images})
    if len(shapes) > 1:
        raise BenchError(f"data, {name}: images of {shapes[0]} and {shapes[1]}; one size is needed, resize them")
    join = np.concatenate if loaded else np.stack
    return join(images), join(labels), ids if ids is not None else np.arange(sum(map(np.size, labels)))


def _behind(source: Any) -> tuple[Any, bool]:
    """What to read: the data set behind a loader that leaves its items alone, so that order is no accident; else it.

    With whether it gives batches.
    """
    from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, default_collate

    if not isinstance(source, DataLoader):
        return source, False
    dataset: Any = source.dataset
    if not hasattr(dataset, "__getitem__") or source.collate_fn is not default_collate or source.drop_last:
        return source, source.batch_sampler is not None
    sampler: Any = source.sampler
    ordinary = isinstance(sampler, RandomSampler | SequentialSampler) and type(source.batch_sampler) is BatchSampler
    whole = ordinary and len(sampler) == len(dataset) and not getattr(sampler, "replacement", False)
    return (dataset, False) if whole else (source, source.batch_sampler is not None)


def _image(value: Any, *, batched: bool) -> NDArray[Any]:
    """One image (C, H, W), or a batch of them. What is no tensor has its channels last, as PIL and OpenCV have them."""
    array = _array(value, "data: an image")
    if hasattr(value, "detach"):
        return array
    if array.ndim == 2 and not batched:
        return array[None]
    last = array.shape[-1] in CHANNELS and (array.ndim < 3 or array.shape[-3] not in CHANNELS)
    return array.swapaxes(-1, -2).swapaxes(-2, -3) if last and array.ndim >= 3 else array


def _held_out(train: Split) -> tuple[Split, Split]:
    from harness.splitting import hold_out_stratified, share_of, take

    if len(train.labels) < 2:
        raise BenchError("data, train: one image; two or more are needed, for some are held out for validation")
    kept, held = hold_out_stratified(train.labels, max(1, share_of(len(train.labels), VALIDATED)), 0)
    return take(train, kept), take(train, held)


def _check_shapes(splits: Mapping[str, Split]) -> None:
    shape = splits["test"].images.shape[1:]
    for name, part in splits.items():
        if part.images.shape[1:] != shape:
            raise BenchError(f"data, {name}: images of {part.images.shape[1:]}, those of test are {shape}")


def _of_one_kind(splits: Mapping[str, Split]) -> dict[str, Split]:
    """All splits as floats where one is: a data set has one kind of pixels."""
    import numpy as np

    if all(part.images.dtype == np.uint8 for part in splits.values()):
        return dict(splits)
    found = {}
    for name, part in splits.items():
        images: Any = part.images
        if images.dtype == np.uint8:
            images = images.astype(np.float32) / np.float32(255)
        found[name] = part._replace(images=images)
    return found


def _named(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"{type(value).__name__} {tuple(shape)}" if shape is not None else type(value).__name__
