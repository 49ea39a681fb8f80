from __future__ import annotations

import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from harness import locating
from harness.errors import BenchError
from plugins.datasets.cifar100 import CIFAR100
from plugins.datasets.flowers102 import Flowers102


def write(path: Path, text: str, age_s: float = 60.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    changed = time.time() - age_s
    os.utime(path, (changed, changed))
    return path


def test_roots_come_in_order_and_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BENCH_DATA", os.pathsep.join(["b", "", "a", "~/c"]))
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    home = Path.home()
    assert locating.roots(["a"]) == [Path("a"), Path("b"), home / "c", Path("data"), tmp_path / "data"]


def test_the_cache_folder_is_the_one_platformdirs_gives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    platformdirs = pytest.importorskip("platformdirs")
    monkeypatch.delenv("BENCH_CACHE")
    for value in (str(tmp_path), ""):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        if sys.platform != "win32":  # there platformdirs adds a level for the author
            assert locating.cache_folder() == Path(platformdirs.user_cache_dir("adversarial-bench"))


def test_candidates_are_a_folder_in_a_root_or_the_root_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "set"
    assert locating.candidates([tmp_path, inside], "set") == [inside, inside / "set", inside]
    inside.mkdir()
    monkeypatch.chdir(inside)
    assert Path() in locating.candidates([Path()], "set")


def test_a_digest_follows_names_and_bytes_but_not_place_or_order(tmp_path: Path) -> None:
    def files(top: Path, text: str = "one", name: str = "a") -> list[Path]:
        return [write(top / name, text), write(top / "sub" / "b", "two")]

    first = locating.digest(files(tmp_path / "here"))
    assert len(first) == 64
    assert locating.digest(files(tmp_path / "there")[::-1]) == first
    assert locating.digest(files(tmp_path / "other", text="ONE")) != first
    assert locating.digest(files(tmp_path / "renamed", name="c")) != first


def test_a_digest_is_remembered_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "a", "one")
    first = locating.digest([file])
    with monkeypatch.context() as patch:
        patch.setattr(locating, "_hash_files", lambda paths: pytest.fail(f"read {paths} again"))
        assert locating.digest([file]) == first
    assert locating.digest([write(file, "two", age_s=30)]) != first


def test_a_file_written_just_now_is_not_remembered(tmp_path: Path) -> None:
    file = write(tmp_path / "a", "one", age_s=0)
    stat = file.stat()
    first = locating.digest([file])
    file.write_text("two")  # same size, and the clock set back to the same tick
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert locating.digest([file]) != first


@pytest.mark.parametrize("content", ["", "{", "[]", '"text"'])
def test_a_damaged_memory_is_ignored(tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "a", "one")
    expected = locating.digest([file])
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    write(tmp_path / "cache" / "digests.json", content)
    assert locating.digest([file]) == expected
    assert expected in (tmp_path / "cache" / "digests.json").read_text()


def test_an_unwritable_cache_is_silently_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "a", "one")
    monkeypatch.setenv("BENCH_CACHE", str(file))  # a file where a folder should be: fails for root too
    assert locating.digest([file]) == locating.digest([file])


def test_a_file_that_vanished_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"data: .*gone cannot be read"):
        locating.digest([tmp_path / "gone"])


def fetch(root: Path, get: object) -> None:
    locating.fetch("set", root, "folder", url="https://example.org/set.tgz", size="1 MB", get=get)  # type: ignore[arg-type]


def test_a_download_arrives_whole_and_says_nothing_on_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def get(scratch: Path) -> None:
        print("progress")
        write(scratch / "folder" / "jpg" / "1", "new")

    old = write(tmp_path / "folder" / "jpg" / "1", "old")
    fetch(tmp_path, get)
    assert old.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    out, err = capsys.readouterr()
    assert out == ""
    assert "set: downloading 1 MB from https://example.org/set.tgz" in err
    assert "progress" in err


@pytest.mark.parametrize(
    "error", [urllib.error.URLError("no route\nto host"), RuntimeError("File not found or corrupted."), EOFError()]
)
def test_a_failed_download_leaves_nothing_and_says_what_to_do(tmp_path: Path, error: Exception) -> None:
    def get(scratch: Path) -> None:
        write(scratch / "folder" / "train", "half of it")
        raise error

    with pytest.raises(BenchError) as caught:
        fetch(tmp_path / "new", get)
    text = str(caught.value)
    assert "\n" not in text
    for part in (
        "set: not found",
        "https://example.org/set.tgz",
        str(tmp_path / "new" / "folder"),
        "--data",
        "BENCH_DATA",
    ):
        assert part in text
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("dataset", [CIFAR100(), Flowers102()])
def test_a_download_without_network_says_what_to_do(
    dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(BenchError) as caught:
        dataset.download(tmp_path)
    text = str(caught.value)
    assert "\n" not in text
    for part in ("Name or service not known", dataset.facts().source, str(tmp_path), "--data PATH", "BENCH_DATA"):
        assert part in text
    assert capsys.readouterr().out == ""
    assert dataset.locate([tmp_path]) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_digest_of_all_flowers_is_quick_the_second_time(flowers_root: Path) -> None:
    files = Flowers102().locate([flowers_root])
    assert files
    first = locating.digest(files)
    start = time.perf_counter()
    assert locating.digest(files) == first
    # 0.1 s on two slow cores; reading the images again takes a second and more.
    assert time.perf_counter() - start < 0.5
