"""Image classification data of Hugging Face's library datasets: saved folders, parquet and arrow files, the hub."""

from __future__ import annotations

import importlib.util
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import BenchError, unknown
from harness.hookspecs import hookimpl
from harness.types import Facts, Split
from plugins.datasets.sharing import SPLITS, OwnImages, check_shares
from plugins.datasets.squares import square, stacked

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FOLDER = "hf_datasets"
TABLES = (".parquet", ".arrow")
CALLED = {"train": "train", "validation": "validation", "val": "validation", "valid": "validation", "dev": "validation"}
CALLED |= {"test": "test"}
IMAGES, LABELS = ("image", "img", "pixels"), ("label", "labels", "class", "fine_label", "target")


@dataclass(frozen=True)
class HFDatasets(OwnImages):
    """A data set of images and labels of the library datasets (Lhoest et al., 2021), as square images (3, size, size).

    path: a folder that save_to_disk wrote; a .parquet or .arrow file, or a folder of such files, whose names tell their
    splits; or a name on the hub (uoft-cs/cifar10), which is fetched once and kept in the data folder. Splits are
    called train, validation (val, dev) and test. Of train and validation alone the latter is the test split; where
    validation is missing it is held out of train, and of a single split test is too. image_column, label_column: left
    out, they are found by their type or a usual name. size: the short side is resized to it and the middle cut out.
    validation, test: shares held out. stratified: of each class. split_seed: seed of that. licence, citation:
    what `bench info` says of them.
    """

    size: int = 64
    image_column: str = ""
    label_column: str = ""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise BenchError(f"hf_datasets: size={self.size!r}; at least 1 pixel is needed")
        check_shares(FOLDER, self.shares)

    @hookimpl
    def facts(self, roots: Sequence[Path]) -> Facts:
        place = self._place(roots)
        if place is None:
            raise self._missing(roots)
        parts = self._opened(place)
        return Facts(
            shape=(3, self.size, self.size),
            classes=self._classes(parts),
            sizes=self.shares.sizes({split: len(part) for split, part in parts.items()}),
            licence=self.licence,
            citation=self.citation,
            source=f"https://huggingface.co/datasets/{self.path}" if self._on_hub else str(place),
        )

    @hookimpl
    def locate(self, roots: Sequence[Path]) -> Sequence[Path] | None:
        place = self._place(roots)
        return None if place is None else _files(place)

    @hookimpl
    def download(self, root: Path) -> None:
        import datasets

        _check_installed()
        print(f"hf_datasets: fetching {self.path} from the Hugging Face hub to {root}", file=sys.stderr)
        try:
            found = datasets.load_dataset(self.path)
            found.save_to_disk(str(root / FOLDER / self._folder))
        except Exception as error:  # of the network, the hub, and scripts that it no longer runs
            raise self._missing([root], error) from error

    @hookimpl
    def load(self, files: Sequence[Path]) -> Mapping[str, Split]:
        import numpy as np

        parts = self._opened(_place_of(files))
        names, first, splits = self._classes(parts), 0, {}
        for split in SPLITS:
            if split in parts:
                part = parts[split]
                labels = _numbers(part[_label_column(part, self.label_column)], names, split)
                ids = np.arange(first, first + len(part), dtype=np.int64)
                splits[split] = Split(self._pixels(part), labels, ids)
                first += len(part)
        return self.shares.held_out(splits)

    # --- where it lies

    @property
    def _on_hub(self) -> bool:
        return not Path(self.path).expanduser().exists() and not self.path.startswith((".", "/", "~"))

    @property
    def _folder(self) -> str:
        return self.path.replace("/", "--")

    def _place(self, roots: Sequence[Path]) -> Path | None:
        """The file or folder; None for a name on the hub that was not fetched yet."""
        _check_installed()
        if not self.path:
            raise BenchError("hf_datasets: no path is set; name a folder, a file or a data set of the hub")
        place = Path(self.path).expanduser()
        if place.exists():
            return place
        if not self._on_hub:
            raise BenchError(
                f"hf_datasets: {self.path}: no such file or folder; one of save_to_disk or parquet is needed"
            )
        return next((at for root in roots if (at := root / FOLDER / self._folder).is_dir()), None)

    def _missing(self, roots: Sequence[Path], error: Exception | None = None) -> BenchError:
        cause = f" and could not be fetched ({type(error).__name__})" if error else ""
        return BenchError(
            f"hf_datasets: {self.path} is not in {', '.join(str(root / FOLDER) for root in roots)}{cause}; where there "
            f"is a network run load_dataset({self.path!r}).save_to_disk('FOLDER') of the package datasets, and give "
            "hf_datasets:FOLDER"
        )

    # --- what is in it

    def _opened(self, place: Path) -> dict[str, Any]:
        """The tables by split. Raises BenchError where they cannot be read or are called otherwise."""
        try:
            found = _tables(place)
        except BenchError:
            raise
        except Exception as error:  # pyarrow's and the library's own
            reason = " ".join(str(error).split())[:200]
            raise BenchError(
                f"hf_datasets: {place} cannot be read ({reason}); save it again by save_to_disk"
            ) from error
        if len(found) == 1:
            return {"train": next(iter(found.values()))}
        parts: dict[str, Any] = {}
        for name, table in found.items():
            if name not in CALLED:
                raise unknown(f"hf_datasets: {place}: split", name, CALLED)
            parts[CALLED[name]] = table
        if "train" not in parts:
            raise BenchError(f"hf_datasets: {place} has {' and '.join(found)}; a split train is needed")
        if "test" not in parts:
            parts["test"] = parts.pop("validation")
        return parts

    def _classes(self, parts: Mapping[str, Any]) -> tuple[str, ...]:
        column = _label_column(parts["train"], self.label_column)
        feature = parts["train"].features[column]
        if names := getattr(feature, "names", None):
            return tuple(names)
        values = {value for part in parts.values() for value in part.unique(column)}
        if all(isinstance(value, str) for value in values):
            return tuple(sorted(values))
        if not all(isinstance(value, int) and value >= 0 for value in values):
            raise BenchError(
                f"hf_datasets: {column} holds {min(map(str, values))}; names, or numbers from 0, are needed"
            )
        return tuple(str(number) for number in range(max(values) + 1))

    def _pixels(self, part: Any) -> NDArray[np.uint8]:
        import datasets

        column = _image_column(part, self.image_column)
        encoded = part.cast_column(column, datasets.Image(decode=False)).select_columns([column])
        return stacked(lambda row: square(_picture(row[column]), self.size), encoded, self.size)


def _check_installed() -> None:
    if importlib.util.find_spec("datasets") is None:
        raise BenchError("hf_datasets: the package datasets is not installed; pip install 'adversarial-bench[data]'")


def _place_of(files: Sequence[Path]) -> Path:
    """The folder or file that these files were found at."""
    if len(files) == 1 and files[0].suffix in TABLES:
        return files[0]
    told = [file.parent for file in files if file.name == "dataset_dict.json"]
    folders = sorted({file.parent for file in files}, key=lambda folder: len(folder.parts))
    return told[0] if told else folders[0]


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    found = sorted(f for f in place.rglob("*") if f.suffix in (*TABLES, ".json") and not f.name.startswith("cache-"))
    if not any(file.suffix in TABLES for file in found):
        raise BenchError(
            f"hf_datasets: {place} holds no .parquet and no .arrow file; what save_to_disk writes is needed"
        )
    return found


def _tables(place: Path) -> dict[str, Any]:
    import datasets

    if place.is_dir() and (place / "dataset_dict.json").is_file():
        return dict(datasets.load_from_disk(str(place)))
    if place.is_dir() and (place / "state.json").is_file():
        return {"train": datasets.load_from_disk(str(place))}
    by_split: dict[str, list[Any]] = {}
    for file in (file for file in _files(place) if file.suffix in TABLES):
        words = file.stem.lower().replace("_", "-").split("-")
        where = [*(folder.lower() for folder in file.relative_to(place).parts[:-1]), *words] if place.is_dir() else []
        name = next((word for word in where if word in CALLED), "train")
        by_split.setdefault(name, []).append(_table(file))
    return {name: datasets.concatenate_datasets(tables) for name, tables in by_split.items()}


def _table(file: Path) -> Any:
    """One file, read without the library's cache, which would write a copy of it."""
    import datasets
    import pyarrow.parquet

    if file.suffix == ".arrow":
        return datasets.Dataset.from_file(str(file))
    return datasets.Dataset(datasets.table.InMemoryTable(pyarrow.parquet.read_table(file)))


def _image_column(part: Any, given: str) -> str:
    import datasets

    typed = [name for name, feature in part.features.items() if isinstance(feature, datasets.Image)]
    return _column(part, given, typed, IMAGES, "image")


def _label_column(part: Any, given: str) -> str:
    import datasets

    typed = [name for name, feature in part.features.items() if isinstance(feature, datasets.ClassLabel)]
    return _column(part, given, typed, LABELS, "label")


def _column(part: Any, given: str, typed: Sequence[str], usual: Sequence[str], what: str) -> str:
    if given:
        if given not in part.column_names:
            raise unknown(f"hf_datasets: {what}_column", given, part.column_names)
        return given
    named = [name for name in usual if name in (typed or part.column_names)]
    if len(typed) == 1 or named:
        return typed[0] if len(typed) == 1 else named[0]
    raise BenchError(
        f"hf_datasets: which column is the {what}? there are {', '.join(part.column_names)}; name it by {what}_column"
    )


def _numbers(values: Sequence[Any], names: tuple[str, ...], split: str) -> NDArray[np.int64]:
    import numpy as np

    number = {name: place for place, name in enumerate(names)}
    found = np.array([number.get(v, -1) if isinstance(v, str) else v for v in values], dtype=np.int64)
    if len(found) and not 0 <= found.min() <= found.max() < len(names):
        low, high = found.min(), found.max()
        raise BenchError(
            f"hf_datasets: labels of {split} run from {low} to {high}; 0 to {len(names) - 1} are needed (the hub hides "
            "the labels of some test splits as -1: take another split)"
        )
    return found


def _picture(encoded: Any) -> Any:
    """An RGB image of what a row has: a mapping of bytes or path, or bytes."""
    from PIL import Image, ImageOps

    told = encoded if isinstance(encoded, Mapping) else {"bytes": encoded}
    source = io.BytesIO(told["bytes"]) if told.get("bytes") else told["path"]
    try:
        with Image.open(source) as opened:
            return ImageOps.exif_transpose(opened).convert("RGB")
    except OSError as error:
        raise BenchError(f"hf_datasets: an image cannot be read ({error}); mend it or leave its row out") from error
