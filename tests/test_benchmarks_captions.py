"""The benchmarks of captions, with sizes that say nothing about speed: they run, and what they check holds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from photographs import photograph
from PIL import Image

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


def measured(name: str, *options: object) -> str:
    command = [sys.executable, "-m", f"benchmarks.{name}", *map(str, options)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_an_epoch_from_kept_features_has_the_losses_of_encoding_anew(tmp_path: Path) -> None:
    folder = tmp_path / "coco-fa"
    folder.mkdir()
    said = ["یک گل سرخ در باغ", "گل زیبا"]
    for number in range(20):
        Image.fromarray(photograph()[5 * number :][:200, 20 * number :][:, :200]).save(folder / f"{number}.png")
    entries = [{"image": f"{number}.png", "captions": said} for number in range(20)]
    (folder / "captions.json").write_text(json.dumps(entries), encoding="utf-8")
    small = ("--encoder", "small", "--weights", "", "--size", 32, "--batch", 8, "--repeats", 1)
    shown = measured("caption_features", "--data", tmp_path, *small)
    assert "16 images, 32 captions" in shown
    seconds = {name: float(found) for name, found in re.findall(r"^  (each \w+|kept) +([\d.]+) s", shown, re.M)}
    assert set(seconds) == {"kept", "each image", "each caption"}
    assert "losses of 4 batches" in shown


def test_a_run_from_the_file_reads_every_image_and_stays_small(tmp_path: Path) -> None:
    sizes = ("--images", 150, "--features", 64, "--batch", 16, "--steps", 2, "--held", 20, 40, "--peer-steps", 1)
    shown = measured("caption_memory", "--scratch", tmp_path, *sizes)
    assert "150 images read, 2 batches of 16 learnt" in shown
    peaks = [float(found) for found in re.findall(r"peak +(\d+) MB, anon", shown)]
    assert len(peaks) == 4
    assert all(100 < peak < 2000 for peak in peaks)
    assert list(tmp_path.iterdir()) == []
