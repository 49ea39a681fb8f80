"""Anybody's own images: a folder of each class, or a list that says what is what."""

from __future__ import annotations

import csv
import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from harness import splitting
from harness.errors import BenchError, unknown
from harness.hookspecs import hookimpl
from harness.types import Facts, Split
from plugins.datasets.sharing import SPLITS, OwnImages, check_shares
from plugins.datasets.squares import square, stacked

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

ENDINGS = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_CALLED = {"train": "train", "validation": "validation", "val": "validation", "valid": "validation", "test": "test"}
_FIT_FOR_8_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "La", "RGBa")


class Entry(NamedTuple):
    """One image: its path from the folder with forward slashes (what its id is made of), its class, its split."""

    name: str
    label: str
    split: str


@dataclass(frozen=True)
class ImageFolder(OwnImages):
    """Your own images, as square images (3, size, size), from the folder ``path``, laid out in one of three ways.

    * ``train/CLASS/...``, ``test/CLASS/...`` and ``validation/CLASS/...`` (or ``val``; where there is none it is held
      out of train). Of train and validation alone the latter is the test split.
    * ``CLASS/...``: validation and test are held out, shares of all images; with ``stratified`` of each class.
    * Anything, with ``splits``: a CSV file with the columns file, split and, if the first folder of the file's path is
      not its class, label. Images that it does not list are not used.

    path: absolute, or from the current folder. splits, groups: CSV files, looked for in ``path``; groups has the
    columns class and group. size: the short side is resized to it (bicubic, antialiased) and the middle cut out, after
    the turn that the camera noted (EXIF); other colour spaces become RGB. split_seed: seed of what is held out. The id
    of an image is made of its path from ``path``, so that other images may come and go, and of what is held out only
    few change sides then. licence, citation: what `bench info` says of them.
    """

    size: int = 64
    splits: str = ""
    groups: str = ""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise BenchError(f"image_folder: size={self.size!r}; at least 1 pixel is needed")
        check_shares("image_folder", self.shares)

    @hookimpl
    def facts(self) -> Facts:
        images = self._arranged(self._listed())
        classes = _classes(images)
        counts = Counter(image.split for image in images)
        return Facts(
            shape=(3, self.size, self.size),
            classes=classes,
            sizes={split: counts[split] for split in SPLITS},
            licence=self.licence,
            citation=self.citation,
            source=str(self._root),
            groups=self._groups(classes),
        )

    @hookimpl
    def locate(self) -> Sequence[Path] | None:
        files = self._listed()
        used = [Path(files[image.name]) for image in self._arranged(files)]
        return [*(self._root / name for name in (self.splits, self.groups) if name), *used]

    @hookimpl
    def download(self) -> None:
        raise BenchError(f"image_folder: {self.path} cannot be downloaded; set path to the folder of your images")

    @hookimpl
    def load(self, files: Sequence[Path]) -> Mapping[str, Split]:
        lists = {self._root / name for name in (self.splits, self.groups) if name}
        known = self._named(str(file) for file in files if file not in lists)
        images = self._arranged(known)
        label_of = {name: label for label, name in enumerate(_classes(images))}
        ids = _ids(known)
        return {split: self._read([i for i in images if i.split == split], known, label_of, ids) for split in SPLITS}

    def _read(
        self, images: list[Entry], files: Mapping[str, str], label_of: Mapping[str, int], ids: Mapping[str, int]
    ) -> Split:
        import numpy as np

        pixels = stacked(lambda image: self._pixels(Path(files[image.name])), images, self.size)
        labels = np.array([label_of[image.label] for image in images], dtype=np.int64)
        return Split(pixels, labels, np.array([ids[image.name] for image in images], dtype=np.int64))

    def _pixels(self, file: Path) -> NDArray[np.uint8]:
        """The image as the data set has it: (3, size, size)."""
        return square(_opened(file), self.size)

    @property
    def _root(self) -> Path:
        return Path(self.path).expanduser().absolute()

    def _listed(self) -> dict[str, str]:
        """Every image below the folder, by name. Raises BenchError where there is none."""
        if not self.path:
            raise BenchError(
                "image_folder: no path is set; name the folder of your images with "
                "--set datasets.NAME.path=FOLDER or in the registry"
            )
        if not self._root.is_dir():
            raise BenchError(f"image_folder: path={self.path!r}: no such folder; name the folder of your images")
        found = self._named(_images_below(self._root))
        if not found:
            raise BenchError(f"image_folder: {self.path} holds no image; files that end in {_endings()} are needed")
        return found

    def _named(self, files: Iterable[str]) -> dict[str, str]:
        """Files by their path from the folder, in the order of that, composed as Unicode's NFC (macOS decomposes)."""
        found: dict[str, str] = {}
        skipped = len(str(self._root)) + 1  # pathlib would take a second for 100,000 files
        for file in files:
            name = unicodedata.normalize("NFC", file[skipped:].replace(os.sep, "/"))
            if not (name.isascii() or _is_unicode(name)):
                raise BenchError(f"image_folder: {name!a} is not a name in Unicode; rename the file")
            if name in found:
                raise BenchError(f"image_folder: {found[name]} and {file} have the same name; rename one")
            found[name] = file
        return dict(sorted(found.items()))

    def _arranged(self, files: Mapping[str, str]) -> list[Entry]:
        """The images with class and split, ordered by name. Raises BenchError where a split or a class is missing."""
        if self.splits:
            images = self._as_told(files)
        elif folders := self._split_folders():
            images = self._as_split_folders(files, folders)
        else:
            images = self._as_class_folders(files)
        images = sorted(images)
        self._check(images)
        return images

    def _as_told(self, files: Mapping[str, str]) -> list[Entry]:
        found: dict[str, Entry] = {}
        for line, row in self._rows(self.splits, ("file", "split"), ("label",)):
            where = f"image_folder: {self.splits}, line {line}"
            name = unicodedata.normalize("NFC", PurePosixPath(row["file"]).as_posix())
            if name not in files:
                raise BenchError(
                    f"{where}: {row['file']!r} is no image of {self.path}; a path from there with forward slashes, "
                    f"ending in {_endings()}, is needed"
                )
            if row["split"] not in _CALLED:
                raise BenchError(f"{where}: split {row['split']!r}; {', '.join(SPLITS)} is needed")
            if name in found:
                raise BenchError(f"{where}: {name!r} is listed a second time; list each file once")
            label = row.get("label") or (name.partition("/")[0] if "/" in name else "")
            if not label:
                raise BenchError(f"{where}: {name!r} lies in no folder of a class; give its class in a column label")
            found[name] = Entry(name, label, _CALLED[row["split"]])
        return list(found.values())

    def _split_folders(self) -> list[str]:
        """The folders that are splits, empty ones too: train and another one. A class may be called train as well."""
        found = [name for name in _CALLED if (self._root / name).is_dir()]
        return found if "train" in found and len(found) > 1 else []

    def _as_split_folders(self, files: Mapping[str, str], folders: list[str]) -> list[Entry]:
        validation = [name for name in folders if _CALLED[name] == "validation"]
        if len(validation) > 1:
            raise BenchError(f"image_folder: {self.path} has {' and '.join(validation)}; one of them is needed")
        called = {name: _CALLED[name] for name in folders}
        if "test" not in called:  # ImageNet's way
            called, validation = {"train": "train", validation[0]: "test"}, []
        parts = ((name, name.split("/")) for name in files)
        found = [Entry(name, part[1], called[part[0]]) for name, part in parts if part[0] in called and len(part) > 2]
        if not validation:
            trained = {entry.name: entry.label for entry in found if entry.split == "train"}
            drawn = self._drawn(trained, {"validation": self.validation})
            found = [entry._replace(split=drawn.get(entry.name, entry.split)) for entry in found]
        return found

    def _as_class_folders(self, files: Mapping[str, str]) -> list[Entry]:
        label_of = {name: name.partition("/")[0] for name in files if "/" in name}
        drawn = self._drawn(label_of, {"test": self.test, "validation": self.validation})
        return [Entry(name, label, drawn[name]) for name, label in label_of.items()]

    def _drawn(self, label_of: Mapping[str, str], shares: Mapping[str, float]) -> dict[str, str]:
        members: dict[str, list[str]] = {}
        for name, label in label_of.items():
            members.setdefault(label, []).append(name)
        return splitting.by_name(members, shares, self.split_seed, stratified=self.stratified, rest="train")

    def _check(self, images: Sequence[Entry]) -> None:
        classes = _classes(images)
        if len(classes) < 2:
            has = f"one class, {classes[0]}" if classes else "no folder of a class"
            raise BenchError(
                f"image_folder: {self.path} has {has}; images in a folder for each of two or more classes are needed, "
                "below train and test if there are such, or a CSV file of splits with labels"
            )
        held = {split: {i.label for i in images if i.split == split} for split in SPLITS}
        for split, labels in held.items():
            if not labels:
                raise BenchError(
                    f"image_folder: the split {split} of {self.path} would hold no image; add images to it, or "
                    "change the shares validation and test"
                )
            if strange := sorted(labels - held["train"]):
                raise BenchError(
                    f"image_folder: class {strange[0]!r} is in {split} but not in train; add training images of it, or "
                    f"take it out of {split}"
                )

    def _groups(self, classes: tuple[str, ...]) -> tuple[str, ...]:
        """The group of each class as the file tells, or nothing."""
        if not self.groups:
            return ()
        told: dict[str, str] = {}
        for line, row in self._rows(self.groups, ("class", "group"), ()):
            if row["class"] not in classes:
                raise unknown(f"image_folder: {self.groups}, line {line}: class", row["class"], classes)
            if told.setdefault(row["class"], row["group"]) != row["group"]:
                raise BenchError(f"image_folder: {self.groups}, line {line}: class {row['class']!r} has two groups")
        if missing := [name for name in classes if name not in told]:
            raise BenchError(f"image_folder: {self.groups} has no group for class {missing[0]!r}; add a line")
        return tuple(told[name] for name in classes)

    def _rows(self, name: str, needed: tuple[str, ...], also: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
        """Lines of a CSV file with their numbers. Raises BenchError for other columns and empty fields."""
        form = f"the columns {', '.join(needed)}" + (f" and, where wanted, {also[0]}" if also else "")
        try:
            with (self._root / name).open(encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file, skipinitialspace=True, restkey="more")
                if not set(needed) <= set(reader.fieldnames or ()) <= {*needed, *also}:
                    got = ", ".join(reader.fieldnames or ()) or "nothing"
                    raise BenchError(f"image_folder: {name} begins with {got}; {form} are needed")
                for row in reader:
                    if "more" in row or not all(row[column] for column in needed):
                        raise BenchError(f"image_folder: {name}, line {reader.line_num}: {form} are needed")
                    yield reader.line_num, {column: (text or "").strip() for column, text in row.items()}
        except OSError as error:
            raise BenchError(f"image_folder: {self._root / name} cannot be read ({error.strerror})") from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise BenchError(f"image_folder: {name} is no CSV file in UTF-8 ({error})") from error


def _endings() -> str:
    return f"{', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}"


def _classes(images: Sequence[Entry]) -> tuple[str, ...]:
    """Class names in alphabetical order, which is their number."""
    return tuple(sorted({image.label for image in images}))


def _images_below(root: Path) -> Iterator[str]:
    """Image files at any depth; links are followed, names that begin with a dot are passed over."""
    for folder, inside, files in os.walk(root, followlinks=True, onerror=_unreadable):
        inside[:] = [name for name in inside if not name.startswith(".") and not _loops(Path(folder, name))]
        for name in files:
            if name.lower().endswith(ENDINGS) and not name.startswith("."):
                yield os.path.join(folder, name)


def _is_unicode(name: str) -> bool:
    """Whether a name is text, and not bytes that are none."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _unreadable(error: OSError) -> None:
    raise BenchError(f"image_folder: {error.filename} cannot be listed ({error.strerror})") from error


def _loops(folder: Path) -> bool:
    """Whether a folder is a link to one that it lies in."""
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())


def _ids(names: Mapping[str, str]) -> dict[str, int]:
    """A number from 0 to 2^63 - 1 for each name, made of nothing but the name. Raises BenchError for two alike."""
    ids: dict[str, int] = {}
    owner: dict[int, str] = {}
    for name in names:
        number = _number(name)
        if number in owner:
            raise BenchError(f"image_folder: {owner[number]} and {name} get the same id; rename one of them")
        ids[name], owner[number] = number, name
    return ids


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def _opened(file: Path) -> Image.Image:
    """An image as RGB, turned as its camera noted. Raises BenchError naming a file that is none."""
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            if image.mode not in _FIT_FOR_8_BITS:
                raise ValueError(f"its pixels are of Pillow's mode {image.mode}, not of 8 bits")
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        cause = " ".join(str(error).split())
        raise BenchError(f"image_folder: {file} cannot be read as an image ({cause}); mend or remove it") from error
