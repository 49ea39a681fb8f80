"""A folder of images and the file that says what is in them: what is found there, put in order, and what is wrong."""

from __future__ import annotations

import functools
import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from harness import splitting
from harness.errors import BenchError
from plugins.captions import photographs, reading
from plugins.captions.reading import Entry

if TYPE_CHECKING:
    from plugins.datasets.coco_fa import CocoFa

SPLITS = ("train", "validation", "test")
FAULTS = ("copies", "corrupt", "empty", "foreign", "missing", "repeated", "two_splits", "uncaptioned")
LANGUAGES = {"fa": "Persian", "en": "English"}
_CALLED = {split: split for split in SPLITS} | {"val": "validation", "valid": "validation", "restval": "train"}
_USUAL = ("captions.json", "captions.csv")


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
class Album:
    """The folder ``root`` as a data set of photographs wants it. Its methods raise BenchError for what is wrong."""

    root: Path
    wanted: CocoFa

    @property
    def file(self) -> Path:
        """The file of captions. Raises BenchError where it cannot be told which one is meant."""
        if self.wanted.captions_file:
            return self.root / self.wanted.captions_file
        for name in _USUAL:
            if (self.root / name).is_file():
                return self.root / name
        found = sorted(f for f in self.root.iterdir() if f.suffix.lower() in (".json", ".csv") and f.name[0] != ".")
        if len(found) != 1:
            has = f"has {', '.join(f.name for f in found)}" if found else "has no JSON or CSV file"
            raise BenchError(f"coco_fa: {self.root} {has}; name the file of captions with captions_file")
        return found[0]

    def listed(self) -> dict[str, str]:
        """Every image below the folder, by its path from there. Raises BenchError where there is none."""
        if not self.root.is_dir():
            raise BenchError(f"coco_fa: {self.root}: no such folder; name the folder of images and captions by path")
        skipped = len(str(self.root)) + 1
        files = {_plain(file[skipped:].replace(os.sep, "/")): file for file in photographs.below(self.root)}
        if not files:
            raise BenchError(f"coco_fa: {self.root} holds no image; put them there, or beside the file of captions")
        return dict(sorted(files.items()))

    def arranged(self, files: Mapping[str, str]) -> list[Captioned]:
        """The images that are used, with captions and split, ordered by name. Raises BenchError for what is wrong."""
        entries = reading.entries(self.file, self.wanted.language, self.wanted.image_column, self.wanted.caption_column)
        images = self._gathered(self._found(entries, files))
        images = self._with_words(images)
        images = self._captioned(images, files)
        images = self._of_one_split(images)
        images = self._said_once(images)
        images = self._of_length(images)
        images = self._sound(images, files)
        images = self._without_copies(images, files)
        images = self._split(images)
        counts = Counter(image.split for image in images)
        for split in SPLITS:
            if not counts[split]:
                raise BenchError(
                    f"coco_fa: the split {split} of {self.root} would hold no image of {len(images)}; add images to "
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
                raise BenchError(f"coco_fa: {wanted} may be {fits[0]} or {fits[1]}; write its path from {self.root}")
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
                    f"coco_fa: {self.file.name} gives {owner[entry.number]} and {name} the same id {entry.number}; "
                    "leave one of them out"
                )
        images = []
        for name, said in sorted(of.items()):
            numbers = {entry.number for entry in said}
            if len(numbers) > 1:
                ids = " and ".join(map(str, sorted(n for n in numbers if n is not None)))
                raise BenchError(f"coco_fa: {self.file.name} gives {name} the ids {ids}; one for each of its entries")
            captions = tuple(text for entry in said for text in entry.captions)
            splits = tuple(sorted({self._told(entry) for entry in said}))
            images.append(Captioned(name, said[0].number, captions, splits, said[0].licence))
        return images

    def _told(self, entry: Entry) -> str:
        if entry.split and entry.split.lower() not in _CALLED:
            allowed = ", ".join(SPLITS)
            raise BenchError(
                f"coco_fa: {self.file.name}: {entry.image} has the split {entry.split!r}; {allowed} is needed"
            )
        return _CALLED.get(entry.split.lower(), "")

    def _with_words(self, images: Sequence[Captioned]) -> list[Captioned]:
        """Without the captions that say nothing, or say it in another script."""
        from harness.captioning.text import foreign

        pairs = [(image.name, text) for image in images for text in image.captions]
        empty = {place for place, (_, text) in enumerate(pairs) if not _says(text, self.wanted.language)}
        strange = set(foreign([text for _, text in pairs], self.wanted.language)) - empty
        for kind, places, what in (
            ("empty", empty, "captions have no word"),
            ("foreign", strange, f"captions have no letter of {LANGUAGES[self.wanted.language]}"),
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
        if self.wanted.shortest is None and self.wanted.longest is None:
            return images
        least, most = self.wanted.shortest or 0, self.wanted.longest or 10**9
        counts = iter(_counted(tuple(text for image in images for text in image.captions), self.wanted.language))
        fitting = (
            replace(image, captions=tuple(text for text in image.captions if least <= next(counts) <= most))
            for image in images
        )
        return [image for image in fitting if image.captions]

    def _said_once(self, images: Sequence[Captioned]) -> list[Captioned]:
        once = [replace(image, captions=tuple(dict.fromkeys(image.captions))) for image in images]
        twice = [
            f"{text!r} of {image.name}"
            for image in images
            for text, count in Counter(image.captions).items()
            for _ in range(count - 1)
        ]
        total = sum(len(image.captions) for image in images)
        self._refuse("repeated", twice, total, "captions are said again of the same image", "take them out")
        return once

    def _sound(self, images: Sequence[Captioned], files: Mapping[str, str]) -> list[Captioned]:
        faults = photographs.faults(photographs.stamped([files[image.name] for image in images]))
        broken = [f"{image.name} ({fault})" for image, fault in zip(images, faults, strict=True) if fault]
        self._refuse("corrupt", broken, len(images), "images cannot be read", "mend or remove them")
        return [image for image, fault in zip(images, faults, strict=True) if not fault]

    def _without_copies(self, images: Sequence[Captioned], files: Mapping[str, str]) -> list[Captioned]:
        """One image of those whose files have the same bytes: in two splits it would be learnt and tested on."""
        first = photographs.copies(photographs.stamped([files[image.name] for image in images]))
        copies = [f"{i.name} ({images[at].name})" for at, i in zip(first, images, strict=True) if images[at] is not i]
        self._refuse("copies", copies, len(images), "images have the bytes of another", "remove them")
        return [image for at, image in zip(first, images, strict=True) if images[at] is image]

    def _split(self, images: list[Captioned]) -> list[Captioned]:
        told = {image.name: image.split for image in images if image.split}
        if told and len(told) < len(images):
            raise BenchError(
                f"coco_fa: {self.file.name} tells the split of {len(told)} of {len(images)} images; tell it of all, "
                "or of none to have them drawn"
            )
        # In this order they are drawn, so it decides which images are tested on.
        shares = ({} if told else {"test": self.wanted.test}) | {"validation": self.wanted.validation}
        open_ = [image for image in images if told.get(image.name, "train") == "train"]
        if "validation" in told.values():
            open_ = []
        # By number where there is one, for then a file may be renamed.
        names = {str(image.name if image.number is None else image.number): image.name for image in open_}
        drawn = splitting.by_name({"": list(names)}, shares, self.wanted.split_seed, stratified=False, rest="train")
        split_of = told | {names[key]: split for key, split in drawn.items()}
        return [replace(image, splits=(split_of[image.name],)) for image in images]

    def _refuse(self, kind: str, found: Sequence[str], total: int, what: str, remedy: str) -> None:
        """Raises BenchError where there is a fault of a kind that is not to be dropped."""
        if found and kind not in self.wanted.drop:
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


def licences(images: Sequence[Captioned]) -> str:
    counts = Counter(image.licence for image in images if image.licence)
    if not counts:
        return "not stated"
    told = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return "of each image its own: " + ", ".join(f"{licence} ({count})" for licence, count in told)


def ids_of(images: Sequence[Captioned]) -> dict[str, int]:
    """The number of each image, else one made of its name. Raises BenchError for two alike."""
    if all(image.number is not None for image in images):
        return {image.name: image.number for image in images if image.number is not None}
    ids: dict[int, str] = {}
    for image in images:
        number = int.from_bytes(hashlib.sha256(image.name.encode()).digest()[:8], "big") >> 1
        if ids.setdefault(number, image.name) != image.name:
            raise BenchError(f"coco_fa: {ids[number]} and {image.name} get the same id; rename one of them")
    return {name: number for number, name in ids.items()}
