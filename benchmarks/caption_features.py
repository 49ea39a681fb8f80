"""One epoch of a caption decoder's training from kept features, against encoding every batch anew. Bar: 8 times.

Run: python -m benchmarks.caption_features [--data FOLDER] [--weights FILE] [--batch 32] [--repeats 5] [--threads 1].
Real photographs and captions from FOLDER/coco-fa, 224 px, the frozen EfficientNet-lite0 of the weights and the decoder
of profile small; ``--encoder NAME --weights ''`` measures another one with random weights. Every contender is
``harness.training.train`` with the same batches, words and dropout; seconds are its telemetry's, without validation:

kept         features from the file, as the harness does it; its parts are printed too
each image   no features: the images of a batch encoded, each once, as the harness does where it keeps none
each caption the image of every caption of a batch encoded, as the usual loop over shuffled captions does

Images are decoded before and held in memory for the last two, which favours them. The losses are compared in the same
run: with those of encoding anew, and with the same rounded to half precision, which must be equal but for float32.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.caption_options import parser, shared
from benchmarks.timing import Runs, machine, ratio, timed
from harness.artifacts import Artifacts
from harness.attacking import ModelProblem
from harness.captioning import features
from harness.captioning.data import CaptionData, CaptionSamples, on_device
from harness.captioning.lessons import CaptionLessons
from harness.lessons import Taken
from harness.recipe import Recipe
from harness.tasks import captioning as task
from harness.training import Training, train
from harness.types import Batch, Preparation
from plugins.captioning.network import AttentiveCaptioner
from plugins.datasets.coco_fa import CocoFa
from plugins.models.captioner import LSTMCaptioner

BAR, LONGEST = 8.0, 20
SMALL = (128, 256, 128)  # the widths of profile small; those of the published study are twice as large
ROUNDING = 1e-5  # relative, of losses from features that were rounded alike


@dataclass(frozen=True)
class Watched(CaptionLessons):
    """Lessons that note how many seconds of them went by in reading and in the forward pass."""

    spent: dict[str, float] = field(default_factory=lambda: {"reading": 0.0, "forward": 0.0})

    def batches(self, places: Sequence[Tensor], recipe: Recipe, epoch: int) -> Iterator[Batch]:
        found = super().batches(places, recipe, epoch)
        for _ in places:
            seconds, batch = timed(partial(next, found))
            self.spent["reading"] += seconds
            yield batch

    def learn(self, problem: ModelProblem, batch: Batch, recipe: Recipe, epoch: int, progress: float) -> Taken:
        began = time.perf_counter()
        taken = super().learn(problem, batch, recipe, epoch, progress)
        self.spent["forward"] += time.perf_counter() - began
        return taken


@dataclass(frozen=True)
class EachCaption(CaptionLessons):
    """The image of every caption is encoded, however often it stands in the batch. rounded: to half precision."""

    rounded: bool = False

    def learn(self, problem: ModelProblem, batch: Batch, recipe: Recipe, epoch: int, progress: float) -> Taken:
        module = problem.module.module
        assert isinstance(module, AttentiveCaptioner)
        found = module.encode(batch.x[self.train.owners(batch.ids)[1]])
        losses, logits = module.objective(found.half().float() if self.rounded else found, batch.y, progress)
        return Taken(losses, float(task.right(logits, batch.y).sum()), logits.shape[-1])


@dataclass(frozen=True)
class Learnt:
    """Seconds of an epoch, and the mean loss so far after each of its batches."""

    seconds: float
    losses: tuple[float, ...]

    def differs(self, other: Learnt) -> float:
        """The largest relative difference of the losses."""
        return max(abs(a - b) / abs(b) for a, b in zip(self.losses, other.losses, strict=True))


def main() -> None:
    options = parser(__doc__, batch=32, repeats=5, threads=1, size=224)
    options.add_argument("--data", type=Path, default=shared(), help="folder that holds coco-fa")
    weights = shared() / "weights" / "tf_efficientnet_lite0_imagenet1k.safetensors"
    options.add_argument("--weights", default=str(weights), help="of the encoder; empty for random ones")
    options.add_argument("--encoder", default="tf_efficientnet_lite0")
    options.add_argument("--widths", type=int, nargs=3, default=SMALL, help="of words, LSTM and attention")
    options.add_argument("--limit", type=int, help="images to learn from, for a quick look")
    asked = options.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    dataset = CocoFa(path=str(asked.data / "coco-fa"), size=asked.size)
    data = on_device(dataset.facts(()), dataset.load(dataset.locate(())), torch.device("cpu"), "coco_fa")
    module = captioner(asked.encoder, asked.weights, asked.size, asked.widths, data)
    samples, check = (in_memory(data.splits[split].limited(n)) for split, n in (("train", asked.limit), ("test", 2)))
    recipe = Recipe(epochs=1, batch_size=asked.batch, weight_decay=1e-6, clip_norm=5.0, fused=True)
    with tempfile.TemporaryDirectory() as folder:
        filling, (kept, kept_check) = timed(partial(with_features, (samples, check), module, folder, asked.batch))
        given, given_kept = (samples, check, 0, asked.batch, LONGEST), (kept, kept_check, 0, asked.batch, LONGEST)
        alike = epoch(EachCaption(*given, rounded=True), module, recipe)  # warms up, too
        watched = Watched(*given_kept)
        epoch(watched, module, recipe)
        watched.spent.update(reading=0.0, forward=0.0)
        lessons = {"kept": watched, "each image": CaptionLessons(*given), "each caption": EachCaption(*given)}
        runs = {name: Runs() for name in lessons}
        for _ in range(asked.repeats):
            for name, contender in lessons.items():
                runs[name].last = epoch(contender, module, recipe)
                runs[name].seconds.append(runs[name].last.seconds)
    steps = len(runs["kept"].last.losses)
    shape = f"{module.grid[0] * module.grid[1]} x {module.encoder.width}"
    print(f"{asked.encoder}, {shape} features, {asked.size} px; words, LSTM, attention: {asked.widths}")
    print(f"{len(samples)} images, {len(samples.tokens)} captions, {len(data.vocabulary)} words, batch {asked.batch}")
    for name, found in runs.items():
        print(f"  {name:13}{found}  {ratio(found, runs['kept']):.2f} x the time of kept")
    parts = {name: seconds / asked.repeats for name, seconds in watched.spent.items()}
    rest = sum(runs["kept"].seconds) / asked.repeats - sum(parts.values())
    described = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in parts.items())
    print(f"of kept, a mean: {described}, backward and optimizer {rest:.2f} s; {steps} steps")
    print(f"filling the cache once: {filling:.2f} s for {len(samples) + len(check)} images")
    kept_losses = runs["kept"].last
    print(
        f"losses of {steps} batches: {kept_losses.differs(alike):.1e} from encoded anew and rounded (at most "
        f"{ROUNDING:.0e}), {kept_losses.differs(runs['each caption'].last):.1e} from encoded anew"
    )
    if kept_losses.differs(alike) > ROUNDING:
        raise SystemExit("the losses from kept features are not those of encoding anew")
    print(f"bar {BAR:.0f}: {'met' if ratio(runs['each caption'], runs['kept']) >= BAR else 'not met'} by each caption")
    print(f"medians [extremes] of {asked.repeats} interleaved epochs, one before them; {asked.threads} threads")
    print(machine(("torch", "timm", "torchvision")))


def captioner(encoder: str, weights: str, size: int, widths: Sequence[int], data: CaptionData) -> AttentiveCaptioner:
    """The captioner of this frozen encoder and of these widths, for these words."""
    words, lstm, attention = widths
    model = LSTMCaptioner(
        encoder=encoder,
        encoder_weights=weights,
        frozen=True,
        image_size=size,
        embed_dim=words,
        decoder_dim=lstm,
        attention_dim=attention,
    )
    module = model.build(Preparation(data.facts, data.mean, data.std, data.vocabulary))
    assert isinstance(module, AttentiveCaptioner)
    return module


def in_memory(samples: CaptionSamples) -> CaptionSamples:
    """The same with its images, and no others, as an array."""
    return replace(samples, images=np.asarray(samples.images[samples.rows]), rows=np.arange(len(samples)))


def with_features(
    splits: Sequence[CaptionSamples], module: AttentiveCaptioner, folder: str, batch: int
) -> list[CaptionSamples]:
    artifacts = Artifacts(Path(folder))
    found = []
    for place, samples in enumerate(splits):

        def read(rows: np.ndarray[tuple[int], np.dtype[np.int64]], samples: CaptionSamples = samples) -> Tensor:
            return samples.pixels(torch.from_numpy(rows))

        kept = features.kept(artifacts, str(place), module.encode, read, len(samples), batch)
        found.append(replace(samples, features=kept))
    return found


def epoch(lessons: CaptionLessons, module: AttentiveCaptioner, recipe: Recipe) -> Learnt:
    """The first epoch of a fresh copy of the module."""
    losses: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        training = Training(
            copy.deepcopy(module),
            recipe,
            lessons,
            seed=0,
            checkpoint=Path(folder, "checkpoint"),
            on_batch=lambda epoch, done, of, loss: losses.append(loss),
        )
        _, history = train(training)
    return Learnt(len(lessons) / history[0]["images_per_second"], tuple(losses))


if __name__ == "__main__":
    main()
