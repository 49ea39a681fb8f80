"""Photographs with captions in Persian or English: a folder of images and a file that says what is in them."""

from __future__ import annotations

import functools
import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from harness import splitting
from harness.errors import BenchError, unknown
from harness.hookspecs import NOT_IN_KEY, hookimpl
from harness.types import CAPTIONING, CaptionedSplit, Facts
from plugins.captions import photographs, reading
from plugins.captions.reading import Entry

SPLITS = ("train", "validation", "test")
FAULTS = ("corrupt", "empty", "foreign", "missing", "two_splits", "uncaptioned")
_CALLED = {split: split for split in SPLITS} | {"val": "validation", "valid": "validation", "restval": "train"}
_USUAL = ("captions.json", "captions.csv")
_LANGUAGES = {"fa": "Persian", "en": "English"}


@dataclass(frozen=True)
class Captioned:
    """An image: its path from the folder with forward slashes, the number that the file gives it, what is said of it.

    split: as the file tells, or empty; more than one of them are a fault.
    """

    name: str
    number: int | None
    captions: tuple[str, ...]
    splits: tuple[str, ...]
    licence: str

    @property
    def split(self) -> str:
        return self.splits[0]


@dataclass(frozen=True)
class CocoFa:
    """Your photographs (3, size, size) with captions, from the folder ``path``: images at any depth, and a file.

    captions_file: JSON or CSV, from ``path``; empty for captions.json, captions.csv or the only such file there.
    It is COCO's, or has an entry for each image or caption with its name and the text; image_column and caption_column
    name these where the names do not tell. language: "fa" or "en", which also chooses among captions_fa, captions_en.
    size: images are resized to a square as they are, without cutting (bicubic), and decoded only when asked for.
    validation, test: shares of all images, drawn by split_seed; where the file has a column split that counts, and
    validation is held out of train if none is told. Every caption of an image is in its split. shortest, longest: words
    of the captions that are used. drop: which faults are left out and not refused: "corrupt" images, "empty" and
    "foreign" captions, entries whose image is "missing", images in "two_splits" or "uncaptioned". minimum_count: words
    that are rarer in the training captions are unknown to a captioner. Ids are the numbers in the file if all images
    have one, else made of the path from ``path``. licence, citation: what `bench info` says; empty: as the file does.
    """

    path: str = field(default="", metadata=NOT_IN_KEY)
    language: Literal["fa", "en"] = "fa"
    size: int = 224
    captions_file: str = ""
    image_column: str = ""
    caption_column: str = ""
    validation: float = 0.1
    test: float = 0.1
    split_seed: int = 0
    shortest: int | None = None
    longest: int | None = None
    drop: tuple[str, ...] = ()
    minimum_count: int = 3
    licence: str = field(default="", metadata=NOT_IN_KEY)
    citation: str = field(
        default="T.-Y. Lin et al.: Microsoft COCO: Common objects in context. European Conference on Computer Vision, "
        "2014. Persian captions of COCO are machine translations of its English ones",
        metadata=NOT_IN_KEY,
    )

    def __post_init__(self) -> None:
        if self.language not in _LANGUAGES:
            raise unknown("coco_fa: language", self.language, _LANGUAGES)
        for name in ("size", "minimum_count", "shortest", "longest"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise BenchError(f"coco_fa: {name}={value!r}; at least 1 is needed")
        if self.shortest and self.longest and self.shortest > self.longest:
            raise BenchError(f"coco_fa: shortest={self.shortest} is more than longest={self.longest}; exchange them")
        if strange := sorted(set(self.drop) - set(FAULTS)):
            raise unknown("coco_fa: drop", strange[0], FAULTS)
        splitting.check_seed("coco_fa", self.split_seed)
        splitting.check_share("coco_fa", "validation", self.validation)
        splitting.check_share("coco_fa", "test", self.test)
        if self.validation + self.test >= 1:
            raise BenchError(
                f"coco_fa: validation={self.validation!r} and test={self.test!r} leave nothing to train on; "
                "together less than 1 is needed"
            )

    @hookimpl
    def facts(self) -> Facts:
        images = self._arranged(self._listed())
        counts = Counter(image.split for image in images)
        return Facts(
            shape=(3, self.size, self.size),
            classes=(),
            sizes={split: counts[split] for split in SPLITS},
            licence=self.licence or _licences(images),
            citation=self.citation,
            source=str(self._root),
            task=CAPTIONING,
            language=self.language,
            minimum_count=self.minimum_count,
        )

    @hookimpl
    def locate(self) -> Sequence[Path] | None:
        files = self._listed()
        return [self._file, *(Path(files[image.name]) for image in self._arranged(files))]

    @hookimpl
    def download(self) -> None:
        raise BenchError(f"coco_fa: {self.path} cannot be downloaded; set path to the folder of images and captions")

    @hookimpl
    def load(self) -> Mapping[str, CaptionedSplit]:
        files = self._listed()
        images = self._arranged(files)
        if "corrupt" not in self.drop:
            self._without_corrupt(images, files)
        ids = _ids(images)
        return {split: self._read([i for i in images if i.split == split], files, ids) for split in SPLITS}

    def _read(self, images: Sequence[Captioned], files: Mapping[str, str], ids: Mapping[str, int]) -> CaptionedSplit:
        import numpy as np

        pixels = photographs.Photographs([files[image.name] for image in images], self.size)
        numbers = np.array([ids[image.name] for image in images], dtype=np.int64)
        # Not an array in memory, which for 40,000 images would take 6 GB, but it is indexed as one.
        return CaptionedSplit(pixels, tuple(image.captions for image in images), numbers)  # type: ignore[arg-type]

    @property
    def _root(self) -> Path:
        return Path(self.path).expanduser().absolute()

    @property
    def _file(self) -> Path:
        """The file of captions. Raises BenchError where it cannot be told which one is meant."""
        if self.captions_file:
            return self._root / self.captions_file
        for name in _USUAL:
            if (self._root / name).is_file():
                return self._root / name
        found = sorted(f for f in self._root.iterdir() if f.suffix.lower() in (".json", ".csv") and f.name[0] != ".")
        if len(found) != 1:
            has = f"has {', '.join(f.name for f in found)}" if found else "has no JSON or CSV file"
            raise BenchError(f"coco_fa: {self.path} {has}; name the file of captions with captions_file")
        return found[0]

    def _listed(self) -> dict[str, str]:
        """Every image below the folder, by its path from there. Raises BenchError where there is none."""
        if not self.path:
            raise BenchError(
                "coco_fa: no path is set; name the folder of images and captions with "
                "--set datasets.NAME.path=FOLDER or in the registry"
            )
        if not self._root.is_dir():
            raise BenchError(f"coco_fa: path={self.path!r}: no such folder; name the folder of images and captions")
        skipped = len(str(self._root)) + 1
        files = {_plain(file[skipped:].replace(os.sep, "/")): file for file in photographs.below(self._root)}
        if not files:
            raise BenchError(f"coco_fa: {self.path} holds no image; put them there, or beside the file of captions")
        return dict(sorted(files.items()))

    def _arranged(self, files: Mapping[str, str]) -> list[Captioned]:
        """The images that are used, with captions and split, ordered by name. Raises BenchError for what is wrong."""
        entries = reading.entries(self._file, self.language, self.image_column, self.caption_column)
        images = self._gathered(self._found(entries, files))
        images = self._with_words(images)
        images = self._captioned(images, files)
        images = self._of_one_split(images)
        images = self._of_length(images)
        if "corrupt" in self.drop:
            images = self._without_corrupt(images, files)
        images = self._split(images)
        counts = Counter(image.split for image in images)
        for split in SPLITS:
            if not counts[split]:
                raise BenchError(
                    f"coco_fa: the split {split} of {self.path} would hold no image of {len(images)}; add images to "
                    "it, or change the shares validation and test"
                )
        return images

    def _found(self, entries: Sequence[Entry], files: Mapping[str, str]) -> list[tuple[str, Entry]]:
        """Entries with the path of the image that they name: whole, or the end of it, or its name without ending."""
        places: dict[str, list[str]] = {}
        for path in files:
            name = path.rpartition("/")[2]
            for known in {path, name, name.rpartition(".")[0]}:
                places.setdefault(known, []).append(path)
        found, missing = [], []
        for entry in entries:
            wanted = _plain(PurePosixPath(entry.image.replace("\\", "/")).as_posix())
            # COCO's files are called by their number in twelve digits.
            names = (wanted, wanted.rpartition("/")[2], wanted.zfill(12))
            fits = [wanted] if wanted in files else next((places[name] for name in names if name in places), [])
            if len(fits) > 1:
                raise BenchError(f"coco_fa: {wanted} may be {fits[0]} or {fits[1]}; write its path from {self.path}")
            if fits:
                found.append((fits[0], entry))
            else:
                missing.append(repr(entry.image))
        self._refuse("missing", missing, len(entries), "entries name an image that is not there", "add the images")
        return found

    def _gathered(self, entries: Iterable[tuple[str, Entry]]) -> list[Captioned]:
        """One item of each image, whatever the number of entries. Raises BenchError where numbers are mixed up."""
        of: dict[str, list[Entry]] = {}
        owner: dict[int, str] = {}
        for name, entry in entries:
            of.setdefault(name, []).append(entry)
            if entry.number is not None and owner.setdefault(entry.number, name) != name:
                raise BenchError(
                    f"coco_fa: {self._file.name} gives {owner[entry.number]} and {name} the same id {entry.number}; "
                    "leave one of them out"
                )
        images = []
        for name, said in sorted(of.items()):
            numbers = {entry.number for entry in said}
            if len(numbers) > 1:
                ids = " and ".join(map(str, sorted(n for n in numbers if n is not None)))
                raise BenchError(f"coco_fa: {self._file.name} gives {name} the ids {ids}; one for each of its entries")
            captions = tuple(text for entry in said for text in entry.captions)
            splits = tuple(sorted({self._told(entry) for entry in said}))
            images.append(Captioned(name, said[0].number, captions, splits, said[0].licence))
        return images

    def _told(self, entry: Entry) -> str:
        if entry.split and entry.split.lower() not in _CALLED:
            allowed = ", ".join(SPLITS)
            raise BenchError(
                f"coco_fa: {self._file.name}: {entry.image} has the split {entry.split!r}; {allowed} is needed"
            )
        return _CALLED.get(entry.split.lower(), "")

    def _with_words(self, images: Sequence[Captioned]) -> list[Captioned]:
        """Without the captions that say nothing, or say it in another script."""
        from harness.captioning.text import foreign

        pairs = [(image.name, text) for image in images for text in image.captions]
        empty = {place for place, (_, text) in enumerate(pairs) if not _says(text, self.language)}
        strange = set(foreign([text for _, text in pairs], self.language)) - empty
        for kind, places, what in (
            ("empty", empty, "captions have no word"),
            ("foreign", strange, f"captions have no letter of {_LANGUAGES[self.language]}"),
        ):
            shown = [f"{text!r} of {name}" for name, text in (pairs[place] for place in sorted(places))]
            self._refuse(kind, shown, len(pairs), what, "mend them, or set language or caption_column")
        kept = iter([place not in empty and place not in strange for place in range(len(pairs))])
        return [replace(i, captions=tuple(text for text in i.captions if next(kept))) for i in images]

    def _captioned(self, images: Sequence[Captioned], files: Mapping[str, str]) -> list[Captioned]:
        found = [image for image in images if image.captions]
        without = sorted(files.keys() - {image.name for image in found})
        self._refuse("uncaptioned", without, len(files), "images have no caption", "add captions or take them away")
        return found

    def _of_one_split(self, images: Sequence[Captioned]) -> list[Captioned]:
        torn = [f"{i.name} ({', '.join(split or 'none' for split in i.splits)})" for i in images if len(i.splits) > 1]
        self._refuse("two_splits", torn, len(images), "images are in two splits", "name one split of each")
        return [image for image in images if len(image.splits) == 1]

    def _of_length(self, images: list[Captioned]) -> list[Captioned]:
        if self.shortest is None and self.longest is None:
            return images
        least, most = self.shortest or 0, self.longest or 10**9
        counts = iter(_counted(tuple(text for image in images for text in image.captions), self.language))
        fitting = (
            replace(image, captions=tuple(text for text in image.captions if least <= next(counts) <= most))
            for image in images
        )
        return [image for image in fitting if image.captions]

    def _without_corrupt(self, images: list[Captioned], files: Mapping[str, str]) -> list[Captioned]:
        stamps = ((file, os.stat(file)) for file in (files[image.name] for image in images))
        faults = _faults(tuple((file, stat.st_size, stat.st_mtime_ns) for file, stat in stamps))
        broken = [f"{image.name} ({fault})" for image, fault in zip(images, faults, strict=True) if fault]
        self._refuse("corrupt", broken, len(images), "images cannot be read", "mend or remove them")
        return [image for image, fault in zip(images, faults, strict=True) if not fault]

    def _split(self, images: list[Captioned]) -> list[Captioned]:
        told = {image.name: image.split for image in images if image.split}
        if told and len(told) < len(images):
            raise BenchError(
                f"coco_fa: {self._file.name} tells the split of {len(told)} of {len(images)} images; tell it of all, "
                "or of none to have them drawn"
            )
        shares = {"validation": self.validation} if told else {"test": self.test, "validation": self.validation}
        open_ = [image for image in images if told.get(image.name, "train") == "train"]
        if "validation" in told.values():
            open_ = []
        # By number where there is one, for then a file may be renamed.
        names = {str(image.name if image.number is None else image.number): image.name for image in open_}
        drawn = splitting.by_name({"": list(names)}, shares, self.split_seed, stratified=False, rest="train")
        split_of = told | {names[key]: split for key, split in drawn.items()}
        return [replace(image, splits=(split_of[image.name],)) for image in images]

    def _refuse(self, kind: str, found: Sequence[str], total: int, what: str, remedy: str) -> None:
        """Raises BenchError where there is a fault of a kind that is not to be dropped."""
        if found and kind not in self.drop:
            raise BenchError(
                f"coco_fa: {len(found)} of {total} {what}, the first {found[0]}; {remedy}, or leave them out with "
                f'drop = ["{kind}"]'
            )


def _plain(name: str) -> str:
    """A name composed as Unicode's NFC, for macOS decomposes."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _says(text: str, language: str) -> bool:
    """Whether a caption has a word. One with a letter or digit has, so that hazm, slow to import, is seldom asked."""
    if any(character.isalnum() and character != "\u0640" for character in text):
        return True
    return bool(text.strip()) and _counted((text,), language) != (0,)


@functools.lru_cache(maxsize=16)
def _counted(captions: tuple[str, ...], language: str) -> tuple[int, ...]:
    """Words of each caption; remembered, for facts, locate and load all ask."""
    from harness.captioning.text import cleaned

    return tuple(map(len, cleaned(captions, language)))


@functools.lru_cache(maxsize=4)
def _faults(stamps: tuple[tuple[str, int, int], ...]) -> tuple[str, ...]:
    """What is wrong with each file, or nothing; remembered for as long as its size and time of change are the same."""
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return tuple(pool.map(photographs.fault, (file for file, _, _ in stamps)))


def _licences(images: Sequence[Captioned]) -> str:
    counts = Counter(image.licence for image in images if image.licence)
    if not counts:
        return "not stated"
    told = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return "of each image its own: " + ", ".join(f"{licence} ({count})" for licence, count in told)


def _ids(images: Sequence[Captioned]) -> dict[str, int]:
    """The number of each image, else one made of its name. Raises BenchError for two alike."""
    if all(image.number is not None for image in images):
        return {image.name: image.number for image in images if image.number is not None}
    ids: dict[int, str] = {}
    for image in images:
        number = int.from_bytes(hashlib.sha256(image.name.encode()).digest()[:8], "big") >> 1
        if ids.setdefault(number, image.name) != image.name:
            raise BenchError(f"coco_fa: {ids[number]} and {image.name} get the same id; rename one of them")
    return {name: number for number, name in ids.items()}
