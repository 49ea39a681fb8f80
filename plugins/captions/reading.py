"""Files of captions in the forms that are about, JSON or CSV, as one list of what they say of which image."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import BenchError

IMAGE = ("image", "file_name", "filename", "image_name", "image_file", "file", "image_id", "img")
CAPTION = ("captions", "caption", "sentences", "sentence", "raw", "text")
OF_LANGUAGE = {"fa": ("captions_fa", "caption_fa", "fa", "farsi", "persian"), "en": ("captions_en", "caption_en", "en")}
_NUMBER = ("coco_id", "cocoid", "image_id", "imgid")
_LICENCE = ("licence", "license")
_DELIMITERS = ",\t;|"


class Entry(NamedTuple):
    """What a file says of an image at one place: another entry may say more of it.

    image: its name as written. number: the whole number that the file gives it, or None. split, licence: as written,
    or empty.
    """

    image: str
    captions: tuple[str, ...]
    number: int | None
    split: str
    licence: str


def entries(file: Path, language: str, image_column: str = "", caption_column: str = "") -> list[Entry]:
    """Every entry of a file, in its order. The columns are guessed from their names where none is given.

    JSON: a list of objects, one for each image or caption; COCO's object of ``images`` and ``annotations``; or an
    object of captions by image. CSV: a line for each caption below a line of names. A field may hold one caption, a
    list of them, or objects with one each. Raises BenchError for any other form, and for columns that are not there.
    """
    rows, joined = _json(file) if file.suffix.lower() == ".json" else (list(_csv(file)), False)
    names = list(dict.fromkeys(name for row in rows for name in row))
    image = _column(file, names, image_column, IMAGE, "image", "image_column")
    wanted = (caption_column,) if caption_column else (*OF_LANGUAGE[language], *CAPTION)
    told = (file, names, caption_column, wanted, "caption", "caption_column", image)
    caption = "captions" if joined else _column(*told)
    nameless = [row for row, told in enumerate(rows, 1) if not str(told.get(image) or "").strip()]
    if nameless:
        raise BenchError(
            f"coco_fa: {file.name}: {len(nameless)} of {len(rows)} entries have no {image}, the first is entry "
            f"{nameless[0]}; name the image of each"
        )
    numbers = [name for name in (*_NUMBER, *(["id"] if joined else [])) if name in names and name != image]
    return [
        Entry(
            str(row[image]).strip(),
            tuple(_texts(row.get(caption), wanted)),
            next((found for name in numbers if (found := _whole(row.get(name))) is not None), None),
            str(row.get("split") or "").strip(),
            next((str(row[name]) for name in _LICENCE if row.get(name)), ""),
        )
        for row in rows
    ]


def _column(
    file: Path, names: Sequence[str], told: str, guesses: Sequence[str], what: str, field: str, taken: str = ""
) -> str:
    names = [name for name in names if name != taken]
    has = f"coco_fa: {file.name} has {', '.join(names) or 'nothing'}" + (f" beside {taken}" if taken else "")
    if told:
        if told not in names:
            raise BenchError(f"{has}, and no {told!r}; name the column of the {what} with {field}")
        return told
    plain = {name.lower(): name for name in reversed(names)}
    found = next((plain[guess] for guess in guesses if guess in plain), None)
    if found is None:
        raise BenchError(f"{has}; none of {', '.join(guesses)}; name the column of the {what} with {field}")
    return found


def _texts(value: Any, wanted: Sequence[str]) -> Iterator[str]:
    if isinstance(value, list):
        for part in value:
            yield from _texts(part, wanted)
    elif isinstance(value, dict):
        yield from _texts(next((value[name] for name in wanted if name in value), None), wanted)
    elif value is not None:
        yield str(value)


def _whole(value: Any) -> int | None:
    """A number from 0 to 2^63 - 1, also written as text; a truth value is none."""
    try:
        found = None if isinstance(value, bool | float) else int(value)
    except (TypeError, ValueError):
        return None
    return found if found is not None and 0 <= found < 2**63 else None


def _json(file: Path) -> tuple[list[dict[str, Any]], bool]:
    """The objects of a file, and whether their captions were gathered from elsewhere in it, under ``captions``."""
    try:
        found = json.loads(file.read_bytes(), object_pairs_hook=partial(_object, file))
    except OSError as error:
        raise BenchError(f"coco_fa: {file} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise BenchError(f"coco_fa: {file.name} is no JSON file in UTF-8 ({error}); mend it") from error
    joined = isinstance(found, dict) and not ("images" in found and "annotations" not in found)
    rows = _gathered(found) if joined else found["images"] if isinstance(found, dict) else found
    if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        raise BenchError(
            f"coco_fa: {file.name} is no list of objects; one for each image, COCO's object of images and annotations, "
            "or an object of captions by image is needed"
        )
    return rows, joined


def _object(file: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises BenchError where a key stands twice, of which Python would keep the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        raise BenchError(
            f"coco_fa: {file.name}: {len(twice)} of {len(found)} keys of an object stand twice in it, the first "
            f"{twice[0]!r}; put what they say under one"
        )
    return found


def _gathered(found: Mapping[str, Any]) -> Any:
    if "images" not in found:
        return [{"image": image, "captions": texts} for image, texts in found.items()]
    images, annotations = found["images"], found["annotations"]
    if not all(isinstance(rows, list) and all(isinstance(row, dict) for row in rows) for rows in (images, annotations)):
        return None
    texts: dict[Any, list[Any]] = {}
    for row in annotations:
        texts.setdefault(row.get("image_id"), []).append(row)
    licences = {row.get("id"): row.get("name") for row in found.get("licenses") or ()}
    told = [
        {**row, "license": licences.get(row.get("license"), ""), "captions": texts.pop(row.get("id"), [])}
        for row in images
    ]
    name = next((name for name in IMAGE if images and name in images[0]), "image")
    # Those of no image that is listed, and those that name none.
    return told + [{name: "" if id_ is None else str(id_), "captions": rest} for id_, rest in texts.items()]


def _csv(file: Path) -> Iterator[dict[str, Any]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            head = text.readline()
            delimiter = max(_DELIMITERS, key=head.count)
            names = [name.strip() for name in next(csv.reader([head], delimiter=delimiter), [])]
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise BenchError(f"coco_fa: {file.name}: two columns are called {twice!r}; rename one of them")
            for line, row in enumerate(csv.reader(text, delimiter=delimiter), 2):
                if row and len(row) != len(names):
                    raise BenchError(
                        f"coco_fa: {file.name}, row {line}: {len(row)} fields below {len(names)} names; quote captions "
                        f'that contain {delimiter!r} as "..."'
                    )
                if row:
                    yield dict(zip(names, row, strict=True))
    except OSError as error:
        raise BenchError(f"coco_fa: {file} cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise BenchError(f"coco_fa: {file.name} is no CSV file in UTF-8 ({error}); mend it") from error
