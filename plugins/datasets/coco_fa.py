"""Photographs with captions in Persian or English: a folder of images and a file that says what is in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness import locating, splitting
from harness.errors import BenchError, unknown
from harness.hookspecs import NOT_IN_KEY, hookimpl
from harness.types import CAPTIONING, CaptionedSplit, Facts
from plugins.captions.album import FAULTS, LANGUAGES, SPLITS, Album, Captioned, ids_of, licences
from plugins.captions.photographs import Photographs

FOLDER = "coco-fa"
"""Looked for in the folders of data where no path is set."""
_REMEDY = (
    "name the folder of images and captions with --set datasets.NAME.path=FOLDER, or the one that holds "
    f"{FOLDER} with --data PATH"
)


@dataclass(frozen=True)
class CocoFa:
    """Your photographs (3, size, size) with captions, from the folder ``path``: images at any depth, and a file.

    path: empty for the folder coco-fa in one of the folders of data (``--data``). captions_file: JSON or CSV, from
    there; empty for captions.json, captions.csv or the only such file. It is COCO's, or has an entry for each image or
    caption with its name and the text. image_column, caption_column: what these are called where the names do not tell.
    language: "fa" or "en", which also chooses among captions_fa, captions_en. size: images are resized to a square as
    they are, without cutting (bicubic), and decoded only when asked for. validation, test: shares of all images.
    split_seed: seed of that draw; where the file has a column split that counts, and validation is held out of train if
    none is told. Every caption of an image is in its split. shortest, longest: words of the captions that are used.
    drop: which faults are left out and not refused: "corrupt" images, "copies" of the bytes of another, "empty" and
    "foreign" captions, those "repeated" of an image, entries whose image is "missing", images in "two_splits" or
    "uncaptioned". minimum_count: words that are rarer in the training captions are unknown to a captioner. Ids are the
    numbers in the file if all images have one, else made of the path from the folder. licence, citation: what `bench
    info` says; empty: as the file does.
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
        if self.language not in LANGUAGES:
            raise unknown("coco_fa: language", self.language, LANGUAGES)
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
        if not self.path and Path(self.captions_file).is_absolute():
            raise BenchError(f"coco_fa: captions_file={self.captions_file!r} is no path from a folder; set path too")

    @hookimpl
    def facts(self, roots: Sequence[Path]) -> Facts:
        album = self._album(roots)
        if album is None:
            looked = f", and {FOLDER} is not found in {', '.join(map(str, roots))}" if roots else ""
            raise BenchError(f"coco_fa: no path is set{looked}; {_REMEDY}")
        images = album.arranged(album.listed())
        counts = Counter(image.split for image in images)
        return Facts(
            shape=(3, self.size, self.size),
            classes=(),
            sizes={split: counts[split] for split in SPLITS},
            licence=self.licence or licences(images),
            citation=self.citation,
            source=str(album.root),
            task=CAPTIONING,
            language=self.language,
            minimum_count=self.minimum_count,
        )

    @hookimpl
    def locate(self, roots: Sequence[Path]) -> Sequence[Path] | None:
        album = self._album(roots)
        if album is None:
            return None
        files = album.listed()
        return [album.file, *(Path(files[image.name]) for image in album.arranged(files))]

    @hookimpl
    def download(self) -> None:
        raise BenchError(f"coco_fa: not found in the folders of data, and cannot be downloaded; {_REMEDY}")

    @hookimpl
    def load(self, files: Sequence[Path]) -> Mapping[str, CaptionedSplit]:
        # The file of captions, which locate names first, lies so deep below the folder.
        depth = len(Path(self.captions_file or "any").parts)
        album = self._album(()) or Album(files[0].parents[depth - 1], self)
        listed = album.listed()
        images = album.arranged(listed)
        ids = ids_of(images)
        return {split: self._read([i for i in images if i.split == split], listed, ids) for split in SPLITS}

    def _read(self, images: Sequence[Captioned], files: Mapping[str, str], ids: Mapping[str, int]) -> CaptionedSplit:
        import numpy as np

        pixels = Photographs([files[image.name] for image in images], self.size)
        numbers = np.array([ids[image.name] for image in images], dtype=np.int64)
        # Not an array in memory, which for 40,000 images would take 6 GB, but it is indexed as one.
        return CaptionedSplit(pixels, tuple(image.captions for image in images), numbers)  # type: ignore[arg-type]

    def _album(self, roots: Sequence[Path]) -> Album | None:
        """The folder that ``path`` names, else the first one of the usual name; None where there is none."""
        found = [Path(self.path)] if self.path else [f for f in locating.candidates(roots, FOLDER) if f.is_dir()]
        return Album(found[0].expanduser().absolute(), self) if found else None
