"""Resident memory of a caption decoder's training from the kept features of 40,000 images. Bar: 2 GB.

Run: python -m benchmarks.caption_memory [--scratch FOLDER] [--images 40000] [--steps N] [--batch 64] [--threads 1].
49 x 2560 features of half precision are made up and written by ``harness.captioning.features``, 10 GB of them, to a new
folder in FOLDER, which is removed. Then a process of its own learns an epoch with ``harness.training.train`` and the
decoder of the published size: one caption of 10 to 14 words an image, 3992 words. ``--steps`` learns from the first
batches of the shuffled epoch only; the others are read all the same, so that every row is read.

The peer holds features of half precision in memory (``np.load`` as it is) and learns a few steps in the same way, from
as many images as ``--held`` says; its peak at 40,000 is extrapolated by the slope between them.

peak is VmHWM, the largest resident memory; anon and file are the largest RssAnon and RssFile seen every 5 ms: what is
the process's own, and what it has mapped of files, its libraries among them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.caption_options import parser
from benchmarks.timing import machine

if TYPE_CHECKING:
    from harness.captioning.features import Features
    from harness.captioning.lessons import CaptionLessons
    from harness.recipe import Recipe
    from plugins.captioning.network import AttentiveCaptioner

ROOT = Path(__file__).parent.parent
BAR, WORDS, LOCATIONS, INTERVAL = 2000.0, 3992, 49, 0.005
FIELDS = {"VmRSS": "now", "RssAnon": "anon", "RssFile": "file"}


def main() -> None:
    options = parser(__doc__, images=40_000, features=2560, batch=64, threads=1)
    options.add_argument("--steps", type=int, help="batches to learn from; all if left out")
    options.add_argument("--held", type=int, nargs=2, default=[1000, 4000], help="images that the peer holds")
    options.add_argument("--peer-steps", type=int, default=5)
    options.add_argument("--scratch", type=Path, help="folder on a disk with room for the file")
    options.add_argument("--child", choices=("write", "mapped", "held"), help=argparse.SUPPRESS)
    asked = options.parse_args()
    if not Path("/proc/self/status").is_file():
        raise SystemExit("resident memory is read from /proc/self/status, which this system does not have; use Linux")
    if asked.child:
        print(json.dumps(child(asked)))
        return
    with tempfile.TemporaryDirectory(dir=asked.scratch) as folder:
        written = started(asked, folder, "write", asked.images)
        print(f"{asked.images} images, {LOCATIONS} x {asked.features}: a file of {written['size']:.0f} MB, made up")
        print(f"  written     {line(written)}", flush=True)
        ours = started(asked, folder, "mapped", asked.images)
        print(f"  mapped      {line(ours)}; before it {ours['before']:.0f} MB")
        print(f"              {ours['read']} images read, {ours['steps']} batches of {asked.batch} learnt", flush=True)
    peaks = {}
    for n in asked.held:
        with tempfile.TemporaryDirectory(dir=asked.scratch) as folder:
            started(asked, folder, "write", n)
            found = started(asked, folder, "held", n)
        peaks[n] = found["peak"]
        print(f"  held {n:6} {line(found)}; {found['steps']} batches", flush=True)
    few, many = asked.held
    slope = (peaks[many] - peaks[few]) / (many - few)
    whole = peaks[many] + slope * (asked.images - many)
    print(f"  held {asked.images:6} peak {whole:6.0f} MB, extrapolated by {slope:.3f} MB an image")
    print(
        f"bar {BAR:.0f} MB: {'met' if ours['peak'] <= BAR else 'not met'}; the peer needs {whole / ours['peak']:.1f} x"
    )
    print(f"MB of 1e6 bytes, {asked.threads} threads, n of repetitions 1; {machine(('torch', 'numpy'))}")


def started(asked: argparse.Namespace, folder: str, kind: str, images: int) -> dict[str, Any]:
    """What a process of its own found: one that shares this one's memory would be weighed with it."""
    steps = asked.peer_steps if kind == "held" else asked.steps
    given = {"child": kind, "images": images, "scratch": folder, "steps": steps}
    given |= {name: getattr(asked, name) for name in ("features", "batch", "threads")}
    options = [part for name, value in given.items() if value is not None for part in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "benchmarks.caption_memory", *options]
    found: dict[str, Any] = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    return found


def line(found: dict[str, Any]) -> str:
    return (
        f"peak {found['peak']:6.0f} MB, anon {found['anon']:6.0f} MB, file {found['file']:5.0f} MB; "
        f"{found['seconds']:6.1f} s"
    )


def child(asked: argparse.Namespace) -> dict[str, Any]:
    import torch

    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    if asked.child == "write":
        with watched() as found:
            size = write(asked).path.stat().st_size
        return {**found, "size": size / 1e6}
    began = status()["now"]
    module, recipe = captioner(asked.features), settings(asked)
    with watched() as found:
        kept = write(asked) if asked.child == "mapped" else held(asked)
        read, steps = learn(module, recipe, lessons(kept, asked), kept)
    return {**found, "before": began, "read": read, "steps": steps}


def write(asked: argparse.Namespace) -> Features:
    """The features of all images, made up where the folder does not hold them yet."""
    import torch

    from harness.artifacts import Artifacts
    from harness.captioning import features

    def make(rows: Any) -> torch.Tensor:
        return torch.rand(len(rows), LOCATIONS, asked.features)

    return features.kept(Artifacts(asked.scratch), "made-up", lambda x: x, make, asked.images, 64)


def held(asked: argparse.Namespace) -> Features:
    """The same, all of them in memory."""
    import numpy as np
    import torch

    from harness.captioning.features import Features

    class Held(Features):
        def __init__(self, path: Path) -> None:
            self.path, self._mapped = path, np.load(path)

        def read(self, rows: Any) -> torch.Tensor:
            return torch.from_numpy(self._mapped[rows]).float()

    return Held(write(asked).path)


def captioner(features: int) -> AttentiveCaptioner:
    """The decoder of the published size behind an encoder that is never asked."""
    from torch import nn

    from benchmarks.caption_decoder import EMBED, HIDDEN, SIZE
    from plugins.captioning.attention import Additive, Shape
    from plugins.captioning.decoder import Decoder
    from plugins.captioning.encoder import Encoder
    from plugins.captioning.network import AttentiveCaptioner, Weights
    from plugins.captioning.schedules import Schedule

    attention = Additive(Shape(features, HIDDEN, SIZE))
    decoder = Decoder(WORDS, features, attention, embed=EMBED, hidden=HIDDEN, dropout=0.5)
    encoder = Encoder(nn.Conv2d(3, features, 1), (3, 7, 7), "none", frozen=True)
    return AttentiveCaptioner(encoder, decoder, Weights(0.1), Schedule())


def settings(asked: argparse.Namespace) -> Recipe:
    from harness.recipe import Recipe

    learnt = asked.steps and min(asked.images, asked.steps * asked.batch)
    return Recipe(epochs=1, batch_size=asked.batch, weight_decay=1e-6, clip_norm=5.0, samples_per_epoch=learnt)


def lessons(kept: Features, asked: argparse.Namespace) -> CaptionLessons:
    """A caption of 10 to 14 words drawn at random for each image; the first ones validate."""
    import numpy as np
    import torch

    from harness.captioning.data import CaptionSamples
    from harness.captioning.lessons import CaptionLessons
    from harness.captioning.vocabulary import SPECIAL, Vocabulary

    vocabulary = Vocabulary((*SPECIAL, *(f"w{number}" for number in range(len(SPECIAL), WORDS))))
    random, n = np.random.default_rng(0), asked.images
    drawn = [random.integers(len(SPECIAL), WORDS, random.integers(10, 15)) for _ in range(n)]
    references = tuple((" ".join(vocabulary.words[word] for word in words),) for words in drawn)
    images = np.broadcast_to(np.uint8(0), (n, 3, 224, 224))  # never read, and takes no room
    rows = np.arange(n)
    train = CaptionSamples(images, rows, references, rows, vocabulary, torch.device("cpu"), features=kept)
    return CaptionLessons(train, train.limited(asked.batch), 0, asked.batch, 20)


def learn(module: AttentiveCaptioner, recipe: Recipe, lessons: CaptionLessons, kept: Features) -> tuple[int, int]:
    """Learns, then reads the batches of the epoch that were not learnt from: (rows read, steps)."""
    from harness import training
    from harness.training import Training

    read: set[int] = set()
    steps: list[int] = []
    reading = kept.read

    def noted(rows: Any) -> Any:
        read.update(rows.tolist())
        return reading(rows)

    kept.read = noted  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        asked = Training(
            module, recipe, lessons, 0, Path(folder, "checkpoint"), on_batch=lambda *found: steps.append(found[1])
        )
        training.train(asked)
    everything = replace(asked, recipe=replace(recipe, samples_per_epoch=None))
    batches = list(training._batches(training._order(everything, 0), recipe.batch_size))
    for _ in lessons.batches(batches[len(steps) :], recipe, 0):
        pass
    return len(read), len(steps)


def status() -> dict[str, float]:
    """Resident memory of this process now, in MB of 1e6 bytes, and its peak."""
    found = {}
    for entry in Path("/proc/self/status").read_text().splitlines():
        name, _, value = entry.partition(":")
        if name in FIELDS or name == "VmHWM":
            found[FIELDS.get(name, "peak")] = int(value.split()[0]) * 1024 / 1e6
    return found


@contextmanager
def watched() -> Iterator[dict[str, float]]:
    """Fills the dict at the end: the largest of what was seen, and the seconds."""
    found: dict[str, float] = {}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(INTERVAL):
            found.update({name: max(value, found.get(name, 0.0)) for name, value in status().items()})

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    began = time.perf_counter()
    yield found
    seconds = time.perf_counter() - began
    ended.set()
    watcher.join()
    found.update({name: max(value, found.get(name, 0.0)) for name, value in status().items()}, seconds=seconds)


if __name__ == "__main__":
    main()
