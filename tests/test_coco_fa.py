"""Photographs with captions: the forms of files that are about, faults that are counted, images when asked for."""

from __future__ import annotations

import csv
import json
import pickle
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

import cli
from harness import splitting
from harness.errors import BenchError
from harness.types import CAPTIONING, CaptionedSplit
from plugins.captions import photographs
from plugins.captions.album import FAULTS, SPLITS
from plugins.captions.photographs import Photographs
from plugins.datasets.coco_fa import CocoFa

Splits = Mapping[str, CaptionedSplit]

CAT, DOG, SEA = "یک گربه روی میز است", "یک سگ در پارک", "مردی کنار دریا ایستاده است"


def picture(seed: object, width: int = 13, height: int = 9) -> Image.Image:
    generator = np.random.default_rng([ord(letter) for letter in str(seed)])
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


def paint(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(name).save(root / name)
    return root


def numbered(count: int, folder: str = "images") -> list[str]:
    return [f"{folder}/{number:012d}.jpg" for number in range(1, count + 1)]


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def write_csv(path: Path, rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows(rows)


def listed(count: int) -> list[dict[str, Any]]:
    """Entries of the first so many images, as the file with both languages has them."""
    return [
        {"image": Path(name).name, "coco_id": k, "captions_fa": [CAT, DOG], "captions_en": ["A cat.", "A dog."]}
        for k, name in enumerate(numbered(count), 1)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty images and captions.json."""
    root = paint(tmp_path / "photos", *numbered(20))
    write_json(root / "captions.json", listed(20))
    return root


@pytest.fixture(scope="session")
def coco_root(shared_data: Path) -> Path:
    """Real photographs with captions in both languages."""
    root = shared_data / "coco-fa"
    if not (root / "captions.json").is_file():
        pytest.skip(f"no real data: {shared_data} has no coco-fa; name its folder in BENCH_SHARED_DATA")
    return root


def load(dataset: CocoFa) -> Splits:
    files = dataset.locate(())
    assert files is not None
    facts = dataset.facts(())
    splits = dataset.load(files)
    assert (facts.task, facts.language, facts.classes) == (CAPTIONING, dataset.language, ())
    assert {name: len(split.ids) for name, split in splits.items()} == facts.sizes
    assert len(files) == 1 + sum(facts.sizes.values())
    for split in splits.values():
        assert split.images.shape == (len(split.ids), *facts.shape)
        assert (split.images.dtype, split.ids.dtype) == (np.uint8, np.int64)
        assert len(split.captions) == len(split.ids)
        assert all(split.captions)
        assert split.objects == ()
    ids = np.concatenate([split.ids for split in splits.values()])
    assert len(set(ids.tolist())) == len(ids)
    assert ids.min() >= 0
    return splits


def captions_of(splits: Splits) -> dict[int, tuple[str, ...]]:
    return {int(i): text for split in splits.values() for i, text in zip(split.ids, split.captions, strict=True)}


def split_of(splits: Splits) -> dict[int, str]:
    return {int(i): name for name, split in splits.items() for i in split.ids}


def refused(dataset: CocoFa) -> str:
    with pytest.raises(BenchError) as caught:
        dataset.facts(())
    text = str(caught.value)
    assert text.startswith("coco_fa: ")
    assert "\n" not in text
    return text


# --- forms of files


def test_a_list_with_both_languages_gives_the_one_that_is_asked_for(folder: Path) -> None:
    assert set(captions_of(load(CocoFa(str(folder)))).values()) == {(CAT, DOG)}
    english = CocoFa(str(folder), language="en")
    assert set(captions_of(load(english)).values()) == {("A cat.", "A dog.")}
    assert split_of(load(english)) == split_of(load(CocoFa(str(folder))))


def test_a_csv_file_of_one_caption_a_line(folder: Path) -> None:
    """As coco-flickr-farsi has it: a mark of the byte order, a caption with a comma, names without their folder."""
    (folder / "captions.json").unlink()
    lines = [(f"{CAT}, {DOG}", Path(name).name) for name in numbered(20)]
    write_csv(folder / "coco_flickr_farsi.csv", [("caption", "image"), *lines, (SEA, "000000000003.jpg")])
    splits = load(CocoFa(str(folder)))
    assert sorted(map(len, captions_of(splits).values())) == [1] * 19 + [2]
    assert {text[0] for text in captions_of(splits).values()} == {f"{CAT}, {DOG}"}
    assert (CocoFa(str(folder)).locate(()) or [])[0] == folder / "coco_flickr_farsi.csv"


@pytest.mark.parametrize("delimiter", ["\t", ";", "|"])
def test_a_csv_file_may_have_another_delimiter(delimiter: str, folder: Path) -> None:
    (folder / "captions.json").unlink()
    rows = [("file_name", "text"), *((name, CAT) for name in numbered(20))]
    (folder / "list.csv").write_text("\n".join(delimiter.join(row) for row in rows), encoding="utf-8")
    load(CocoFa(str(folder)))


def test_coco_s_own_form(folder: Path) -> None:
    images = [{"id": 70 + k, "file_name": Path(name).name, "license": 4} for k, name in enumerate(numbered(20))]
    annotations = [{"id": 9 * k, "image_id": 70 + k % 20, "caption": (CAT, DOG)[k // 20]} for k in range(40)]
    found = {"images": images, "annotations": annotations, "licenses": [{"id": 4, "name": "Attribution License"}]}
    write_json(folder / "captions.json", found)
    dataset = CocoFa(str(folder))
    assert captions_of(load(dataset)) == {70 + k: (CAT, DOG) for k in range(20)}
    assert dataset.facts(()).licence == "of each image its own: Attribution License (20)"


def test_the_form_with_sentences_and_splits(folder: Path) -> None:
    told = ["train"] * 10 + ["restval"] * 4 + ["val"] * 3 + ["test"] * 3
    images = [
        {"filename": Path(name).name, "cocoid": k, "split": told[k], "sentences": [{"raw": CAT}, {"raw": SEA}]}
        for k, name in enumerate(numbered(20))
    ]
    write_json(folder / "captions.json", {"images": images})
    splits = load(CocoFa(str(folder)))
    assert {name: split.ids.tolist() for name, split in splits.items()} == {
        "train": list(range(14)),
        "validation": [14, 15, 16],
        "test": [17, 18, 19],
    }
    assert splits["test"].captions == ((CAT, SEA),) * 3


def test_an_object_of_captions_by_number(folder: Path) -> None:
    """Numbers are the names of COCO's files without their zeros and ending."""
    write_json(folder / "captions.json", {str(k): [{"en": "A cat.", "fa": CAT}, {"fa": SEA}] for k in range(1, 21)})
    assert set(captions_of(load(CocoFa(str(folder)))).values()) == {(CAT, SEA)}


def test_columns_and_file_are_named_where_they_cannot_be_guessed(folder: Path) -> None:
    write_csv(folder / "list.csv", [("picture", "text_1", "text_2"), *((name, CAT, SEA) for name in numbered(20))])
    named = CocoFa(str(folder), captions_file="list.csv", image_column="picture", caption_column="text_2")
    assert set(captions_of(load(named)).values()) == {(SEA,)}


def test_the_same_name_in_two_folders_is_told_apart_by_its_path(tmp_path: Path) -> None:
    root = paint(tmp_path, *numbered(9, "a"), *numbered(9, "b"))
    write_json(
        root / "captions.json", [{"image": f"{f}/{k:012d}.jpg", "caption": CAT} for f in "ab" for k in range(1, 10)]
    )
    assert len(captions_of(load(CocoFa(str(root))))) == 18
    write_json(root / "captions.json", [{"image": "000000000001.jpg", "caption": CAT}])
    message = refused(CocoFa(str(root)))
    assert "000000000001.jpg may be a/000000000001.jpg or b/000000000001.jpg; write its path" in message


# --- splits and ids


def test_ids_are_the_numbers_in_the_file_else_made_of_the_path(folder: Path, tmp_path: Path) -> None:
    assert sorted(captions_of(load(CocoFa(str(folder))))) == list(range(1, 21))
    write_json(folder / "captions.json", [{**row, "coco_id": None} for row in listed(20)])
    before = split_of(load(CocoFa(str(folder))))
    assert min(before) > 2**32
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    assert split_of(load(CocoFa(str(moved)))) == before


def test_every_caption_of_an_image_is_in_one_split(folder: Path) -> None:
    """Also where each of them is an entry of its own."""
    together = split_of(load(CocoFa(str(folder))))
    rows = [
        {"image": row["image"], "coco_id": row["coco_id"], "caption": text} for text in (CAT, DOG) for row in listed(20)
    ]
    write_json(folder / "captions.json", rows)
    splits = load(CocoFa(str(folder)))
    assert split_of(splits) == together
    assert set(captions_of(splits).values()) == {(CAT, DOG)}
    assert {name: len(split.ids) for name, split in splits.items()} == {"train": 16, "validation": 2, "test": 2}


def test_shares_and_seed_decide_and_a_newcomer_moves_few(folder: Path) -> None:
    first = split_of(load(CocoFa(str(folder), test=0.3)))
    assert split_of(load(CocoFa(str(folder), test=0.3, split_seed=1))) != first
    drawn = splitting.by_name(
        {"": [str(k) for k in range(1, 21)]}, {"test": 0.3, "validation": 0.1}, 0, stratified=False, rest="train"
    )
    assert first == {int(number): split for number, split in drawn.items()}
    paint(folder, "images/000000000021.jpg")
    write_json(folder / "captions.json", listed(21))
    after = split_of(load(CocoFa(str(folder), test=0.3)))
    assert sum(after[number] != split for number, split in first.items()) <= 2


def test_validation_is_held_out_of_train_where_only_train_and_test_are_told(folder: Path) -> None:
    rows = [{**row, "split": "test" if row["coco_id"] > 15 else "train"} for row in listed(20)]
    write_json(folder / "captions.json", rows)
    splits = load(CocoFa(str(folder), validation=0.2))
    assert splits["test"].ids.tolist() == [16, 17, 18, 19, 20]
    assert len(splits["validation"].ids) == 3


def test_captions_of_other_lengths_are_not_used(folder: Path) -> None:
    rows = [{**row, "captions_en": ["A cat on a table.", "A dog - in parks!"]} for row in listed(20)]
    rows[4]["captions_en"] = ["A dog in parks."]
    write_json(folder / "captions.json", rows)
    splits = load(CocoFa(str(folder), language="en", shortest=5, longest=5))
    assert captions_of(splits) == {k: ("A cat on a table.",) for k in range(1, 21) if k != 5}
    assert len(captions_of(load(CocoFa(str(folder), language="en", longest=4)))) == 20
    assert "the split train of" in refused(CocoFa(str(folder), language="en", shortest=6))


# --- images


def test_images_are_squashed_to_a_square_by_pillow(folder: Path) -> None:
    split = load(CocoFa(str(folder), size=32))["train"]
    for row, number in enumerate(split.ids):
        with Image.open(folder / f"images/{number:012d}.jpg") as image:
            wanted = np.asarray(image.convert("RGB").resize((32, 32), Image.Resampling.BICUBIC))
        assert (split.images[row].transpose(1, 2, 0) == wanted).all()


def test_what_overshoots_is_cut_and_does_not_wrap_round(tmp_path: Path) -> None:
    """A cubic filter goes beyond black and white at an edge between them."""
    levels = np.zeros((8, 8, 3), np.uint8)
    levels[:, 4:] = 255
    Image.fromarray(levels).save(tmp_path / "edge.png")
    row = photographs.squashed(str(tmp_path / "edge.png"), 64)[0, 32].astype(int)
    assert (row[0], row[-1]) == (0, 255)
    assert (np.diff(row) >= 0).all()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_other_colours_become_rgb(mode: str, tmp_path: Path) -> None:
    ending = "jpg" if mode == "CMYK" else "png"
    picture(mode).convert(mode).save(tmp_path / f"a.{ending}")
    assert photographs.squashed(str(tmp_path / f"a.{ending}"), 16).shape == (3, 16, 16)
    assert not photographs.fault(str(tmp_path / f"a.{ending}"))


def test_no_image_is_decoded_before_it_is_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    reading = photographs.opened
    monkeypatch.setattr(photographs, "opened", lambda file: opened.append(file) or reading(file))
    images = CocoFa(str(folder), size=16).load(())["train"].images
    assert (len(images), images.shape, opened) == (16, (16, 3, 16, 16), [])
    assert images[[3, 1]].shape == (2, 3, 16, 16)
    assert sorted(opened) == sorted(images.files[k] for k in (1, 3))  # type: ignore[attr-defined]
    assert not any(isinstance(value, np.ndarray) and value.ndim > 1 for value in vars(images).values())


def test_it_is_indexed_as_an_array_is(folder: Path) -> None:
    images = Photographs([str(folder / name) for name in numbered(7)], 8)
    whole = np.asarray(images)
    assert whole.shape == images.shape
    mask = np.arange(7) % 2 == 0
    for index in (0, -1, slice(2, 5), slice(None, None, -2), [4, 0, 4], np.array([6, 2]), mask, np.array([], int)):
        found = images[index]
        assert found.dtype == np.uint8
        assert (found == whole[index]).all()
        assert found.shape == whole[index].shape
    for index in (7, [0, 7]):
        with pytest.raises(IndexError):
            images[index]
    assert (pickle.loads(pickle.dumps(images))[:] == whole).all()
    assert len([images[k] for k in range(len(images))]) == 7


# --- faults


def cut(root: Path, name: str = "000000000007.jpg", share: float = 0.5) -> None:
    file = root / "images" / name
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])


def changed(**parts: Any) -> Callable[[Path], None]:
    """Entries 3 and 9 with something else in them."""

    def change(root: Path) -> None:
        rows = listed(20)
        for row in (rows[2], rows[8]):
            row.update(parts)
        write_json(root / "captions.json", rows)

    return change


def copied(root: Path) -> None:
    """The third image under another name, with captions of its own. (The names decide the splits.)"""
    shutil.copy(root / numbered(3)[-1], root / "images" / "photo.jpg")
    write_json(root / "captions.json", [*listed(20), {"image": "photo.jpg", "coco_id": 99, "captions_fa": [SEA]}])


def torn(root: Path) -> None:
    rows = [{**row, "split": SPLITS[k % 3]} for k, row in enumerate(listed(20))]
    write_json(root / "captions.json", [*rows, {**rows[0], "split": "test"}])


def as_csv(root: Path) -> None:
    """The same as captions.json says, as a table of one caption a line."""
    names = ("image", "coco_id", "split")
    rows: list[Sequence[object]] = [(*names, "caption")]
    for entry in json.loads((root / "captions.json").read_bytes()):
        rows += [(*(entry.get(name, "") for name in names), text) for text in entry["captions_fa"]]
    (root / "captions.json").unlink()
    write_csv(root / "captions.csv", rows)


FAULTY: dict[str, tuple[Callable[[Path], object], str, set[int]]] = {
    "copies": (
        copied,
        r"1 of 21 images have the bytes of another, the first images/photo.jpg \(images/0+3.jpg\); remove them",
        set(),
    ),
    "repeated": (
        changed(captions_fa=[CAT, DOG, CAT]),
        f"2 of 42 captions are said again of the same image, the first '{CAT}' of images/0+3.jpg; take them out",
        set(),
    ),
    "corrupt": (cut, r"1 of 20 images cannot be read, the first images/000000000007.jpg \(.*\); mend or remove", {7}),
    "empty": (
        changed(captions_fa=[CAT, "..."]),
        r"2 of 40 captions have no word, the first '...' of images/0+3.jpg",
        set(),
    ),
    "foreign": (
        changed(captions_fa=[CAT, "A cat."]),
        r"2 of 40 captions have no letter of Persian, the first 'A cat.' of images/0+3.jpg; mend them, or set language",
        set(),
    ),
    "missing": (
        lambda root: write_json(
            root / "captions.json", [*listed(20), {**listed(1)[0], "coco_id": 99, "image": "99.jpg"}]
        ),
        r"(1 of 21|2 of 42) entries name an image that is not there, the first '99.jpg'; add the images",
        set(),
    ),
    "two_splits": (torn, r"1 of 20 images are in two splits, the first images/0+1.jpg \(test, train\); name one", {1}),
    "uncaptioned": (changed(captions_fa=[]), r"2 of 20 images have no caption, the first images/0+3.jpg; add", {3, 9}),
}


@pytest.mark.parametrize("form", ["json", "csv"])
@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_named_and_counted_or_dropped(kind: str, form: str, folder: Path) -> None:
    spoil, message, gone = FAULTY[kind]
    spoil(folder)
    if form == "csv":
        as_csv(folder)
    text = refused(CocoFa(str(folder)))
    assert re.search(message, text), text
    assert text.endswith(f'or leave them out with drop = ["{kind}"]')
    assert refused(CocoFa(str(folder), drop=tuple(set(FAULTS) - {kind}))) == text
    found = captions_of(load(CocoFa(str(folder), drop=(kind,))))
    assert set(found) == set(range(1, 21)) - gone
    assert not {text for texts in found.values() for text in texts} - {CAT, DOG}


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    err: str


@pytest.fixture
def planned(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """The plan of a captioner on coco_fa, by the command line in this process."""

    def run(*options: str) -> Ended:
        told = ("--models", "caption_additive", "--attacks", "clean", "--dry-run", *options)
        settings = ("--set", "models.caption_additive.dataset=coco_fa")
        monkeypatch.setattr("sys.argv", ["bench", "run", "--matrix", "captions", *told, *settings])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return Ended(int(end.value.code or 0), capsys.readouterr().err)

    return run


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_ends_the_command_before_anything_is_done(
    kind: str, folder: Path, planned: Callable[..., Ended]
) -> None:
    spoil, message, _ = FAULTY[kind]
    spoil(folder)
    path = ("--set", f"datasets.coco_fa.path={folder}")
    ended = planned(*path)
    assert ended.code == 2
    assert re.search(f"^bench: error: coco_fa: {message}", ended.err)
    assert len(ended.err.splitlines()) == 1
    assert planned(*path, "--set", f"datasets.coco_fa.drop=['{kind}']").code == 0


@pytest.mark.usefixtures("workplace")
def test_a_folder_of_data_that_holds_it_is_enough(folder: Path, tmp_path: Path, planned: Callable[..., Ended]) -> None:
    assert "no path is set, and coco-fa is not found in data, " in planned().err
    root = folder.rename(tmp_path / "coco-fa")
    for data in (tmp_path, root):
        assert planned("--data", str(data)).code == 0
    named, found = CocoFa(str(root)), CocoFa()
    files = found.locate([Path("data"), tmp_path])
    assert files == named.locate(())
    assert files is not None
    assert found.facts([tmp_path]) == named.facts(())
    assert captions_of(found.load(files)) == captions_of(named.load(files))
    (root / "texts").mkdir()
    (root / "captions.json").rename(root / "texts" / "all.json")
    deeper = CocoFa(captions_file="texts/all.json")
    assert set(captions_of(deeper.load(deeper.locate([root]) or ()))) == set(range(1, 21))


def test_every_fault_at_once_may_be_dropped(folder: Path) -> None:
    changed(captions_fa=["!!", "A cat."])(folder)
    cut(folder)
    paint(folder, "images/more.png")
    with pytest.raises(BenchError, match="images have no caption"):
        CocoFa(str(folder), drop=("empty", "foreign", "corrupt")).facts(())
    assert set(captions_of(load(CocoFa(str(folder), drop=FAULTS)))) == set(range(1, 21)) - {3, 7, 9}


def test_an_image_in_no_entry_has_no_caption(folder: Path) -> None:
    write_json(folder / "captions.json", listed(18))
    assert "2 of 20 images have no caption, the first images/000000000019.jpg" in refused(CocoFa(str(folder)))


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "bmp"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_file_that_ends_too_early_is_found_without_decoding(ending: str, share: float, tmp_path: Path) -> None:
    file = tmp_path / "images" / f"a.{ending}"
    file.parent.mkdir()
    picture("any", 200, 150).save(file)
    assert not photographs.fault(str(file))
    cut(tmp_path, file.name, share)
    assert photographs.fault(str(file))


def test_a_jpeg_without_its_end_mark_that_can_be_read_is_sound(tmp_path: Path) -> None:
    picture("any", 200, 150).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole + b"written by a camera" * 10)
    assert not photographs.fault(str(tmp_path / "a.jpg"))


def test_what_cannot_be_decoded_is_named_when_it_is_asked_for(folder: Path) -> None:
    images = CocoFa(str(folder)).load(())["train"].images
    cut(folder, Path(images.files[0]).name, 0.4)  # type: ignore[attr-defined]
    with pytest.raises(BenchError, match=r"coco_fa: .*\.jpg cannot be read as an image \(.*\); mend or remove it"):
        images[:4]


def test_pixels_of_more_than_8_bits_are_refused(folder: Path) -> None:
    Image.fromarray(np.full((9, 9), 60_000, np.uint16)).save(folder / "images/000000000002.png")
    (folder / "images/000000000002.jpg").unlink()
    rows = listed(20)
    rows[1]["image"] = "000000000002.png"
    write_json(folder / "captions.json", rows)
    assert "not of 8 bits" in refused(CocoFa(str(folder)))


# --- errors


def without_captions(root: Path) -> None:
    (root / "captions.json").unlink()


def csv_of(*rows: Sequence[object]) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        (root / "captions.json").unlink()
        write_csv(root / "list.csv", rows)

    return change


def json_of(content: Any) -> Callable[[Path], None]:
    return lambda root: write_json(root / "captions.json", content)


def twice_said(root: Path) -> None:
    """The first of an object's keys again, of which Python would keep the last."""
    text = json.dumps({str(k): [CAT] for k in range(1, 21)})
    (root / "captions.json").write_text(text[:-1] + f', "1": ["{DOG}"]}}')


def spreadsheet(root: Path) -> None:
    (root / "captions.json").unlink()
    (root / "list.csv").write_bytes(b"PK\x03\x04\x14\x00\xff\xfe")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shutil.rmtree, "no such folder; name the folder"),
        (lambda root: shutil.rmtree(root / "images"), "holds no image; put them there"),
        (without_captions, "has no JSON or CSV file; name the file of captions with captions_file"),
        (lambda root: (root / "captions.json").write_text("[{"), "captions.json is no JSON file in UTF-8"),
        (lambda root: (root / "captions.json").write_bytes(b'["\xff"]'), "captions.json is no JSON file in UTF-8"),
        (json_of(["a"]), "captions.json is no list of objects; one for each image"),
        (json_of({"images": [1], "annotations": []}), "captions.json is no list of objects"),
        (json_of({"images": 1, "annotations": 2}), "captions.json is no list of objects"),
        (json_of([]), "captions.json has nothing; none of image, file_name"),
        (json_of([{"image": "a.jpg", "captions_en": ["A cat."]}]), "has captions_en beside image; none of captions_fa"),
        (json_of([{"photo": "a.jpg", "caption": CAT}]), "has photo, caption; none of image, file_name"),
        (
            csv_of(("image", "caption"), ("1.jpg", CAT, "more")),
            "list.csv, row 2: 3 fields below 2 names; quote captions",
        ),
        (csv_of(("image", "caption"), ("1.jpg",)), "list.csv, row 2: 1 fields below 2 names"),
        (csv_of(("image", "caption", "caption"), ("1.jpg", CAT, DOG)), "two columns are called 'caption'; rename one"),
        (csv_of(("image", "text"), ("1.jpg", CAT), ("", DOG)), "1 of 2 entries have no image, the first is entry 2;"),
        (changed(image=None), "captions.json: 2 of 20 entries have no image, the first is entry 3; name the image"),
        (
            json_of({"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [{"caption": CAT}]}),
            "1 of 2 entries have no file_name, the first is entry 2",
        ),
        (twice_said, "captions.json: 1 of 20 keys of an object stand twice in it, the first '1'; put what they say"),
        (spreadsheet, "list.csv is no CSV file in UTF-8"),
        (changed(coco_id=4), "gives images/000000000003.jpg and images/000000000004.jpg the same id 4; leave one"),
        (json_of([*listed(20), {**listed(1)[0], "coco_id": 77}]), "gives images/000000000001.jpg the ids 1 and 77"),
        (changed(split="train"), "tells the split of 2 of 20 images; tell it of all, or of none"),
        (changed(split="dev"), "has the split 'dev'; train, validation, test is needed"),
        (json_of([{**row, "split": "train"} for row in listed(20)]), "the split test of"),
    ],
)
def test_bad_input_is_told_in_one_line(change: Callable[[Path], object], message: str, folder: Path) -> None:
    change(folder)
    assert message in refused(CocoFa(str(folder)))


def test_several_files_of_captions_are_not_guessed_between(folder: Path) -> None:
    (folder / "captions.json").rename(folder / "a.json")
    write_json(folder / "b.json", [])
    assert "has a.json, b.json; name the file of captions with captions_file" in refused(CocoFa(str(folder)))
    load(CocoFa(str(folder), captions_file="a.json"))
    assert "c.json cannot be read (No such file" in refused(CocoFa(str(folder), captions_file="c.json"))
    assert "list.csv cannot be read (No such file" in refused(CocoFa(str(folder), captions_file="list.csv"))
    assert "no 'text'; name the column of the caption with caption_column" in refused(
        CocoFa(str(folder), captions_file="a.json", caption_column="text")
    )


def test_too_few_images_for_three_splits_are_refused(tmp_path: Path) -> None:
    root = paint(tmp_path, *numbered(3))
    write_json(root / "captions.json", listed(3))
    assert "the split validation of" in refused(CocoFa(str(root), test=0.4))


def test_it_is_told_where_no_path_is_set() -> None:
    assert "no path is set; name the folder" in refused(CocoFa())
    assert CocoFa().locate(()) is None
    with pytest.raises(BenchError, match="cannot be downloaded; name the folder"):
        CocoFa().download()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"language": "de"}, "coco_fa: language: no such name 'de'"),
        ({"size": 0}, "size=0; at least 1 is needed"),
        ({"minimum_count": 0}, "minimum_count=0; at least 1"),
        ({"longest": 0}, "longest=0; at least 1"),
        ({"shortest": 9, "longest": 5}, "shortest=9 is more than longest=5"),
        ({"drop": ("corupt",)}, "drop: no such name 'corupt'; did you mean corrupt"),
        ({"validation": 0.5, "test": 0.5}, "leave nothing to train on"),
        ({"test": 1.0}, "test=1.0; a share between 0 and 1"),
        ({"split_seed": -1}, "split_seed=-1; a whole number"),
        ({"captions_file": "/elsewhere/a.json"}, "'/elsewhere/a.json' is no path from a folder; set path too"),
    ],
)
def test_a_wrong_field_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchError) as caught:
        CocoFa(**fields)
    assert message in str(caught.value)


# --- real photographs


def test_real_photographs_with_captions_in_both_languages(coco_root: Path) -> None:
    persian, english = CocoFa(str(coco_root)), CocoFa(str(coco_root), language="en")
    said, translated = captions_of(load(persian)), captions_of(load(english))
    assert set(said) == set(translated)
    assert (len(said), sum(map(len, said.values())), sum(map(len, translated.values()))) == (109, 484, 545)
    assert said[139][0] == "یک زن پشت میز غذا ایستاده\u200cاست."
    assert translated[139][0] == "A woman stands in the dining area at the table."
    facts = persian.facts(())
    assert facts.sizes == {"train": 87, "validation": 11, "test": 11}
    assert facts.shape == (3, 224, 224)
    assert facts.minimum_count == 3
    assert facts.licence.startswith("of each image its own: Attribution-NonCommercial-ShareAlike License (40), ")
    assert "Lin et al." in facts.citation


@pytest.mark.slow
def test_real_photographs_as_samples(coco_root: Path) -> None:
    """What the harness makes of them: pixels asked for in parts, statistics, a vocabulary of the training captions."""
    pytest.importorskip("hazm")
    import torch

    from harness.captioning.data import on_device

    dataset = CocoFa(str(coco_root), size=64)
    data = on_device(dataset.facts(()), dataset.load(()), torch.device("cpu"), "coco_fa")
    assert all(0.3 < figure < 0.6 for figure in data.mean)
    assert all(0.2 < figure < 0.4 for figure in data.std)
    assert data.splits["test"].pixels(torch.tensor([3, 0])).shape == (2, 3, 64, 64)
    assert 100 < len(data.vocabulary.words) < 400
