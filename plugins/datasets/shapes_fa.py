"""Drawn scenes with Persian captions that are true of them: made from a seed, learnt in minutes, every box known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness import splitting
from harness.errors import BenchError
from harness.hookspecs import hookimpl
from harness.types import CAPTIONING, CaptionedSplit, Facts

if TYPE_CHECKING:
    import numpy as np

    from plugins.captions.scenes import Scene

MOST = 7_000
"""Images in all: no scene of two things comes twice, and there are 5,184 of them."""
_OF_TWO = 0.7
"""Share of the scenes that show two things in a relation."""
_SMALLEST, _LARGEST = 32, 512


@dataclass(frozen=True)
class ShapesFa:
    """Drawn shapes (3, size, size) in six colours: a large one above, below, left or right of a small one, or one to
    three equal ones, with captions in Persian.

    train, validation, test: images of each split, 7,000 in all at most. size: side in pixels. references: captions of
    each image, 1 to 3, the same facts in other words, 8 to 14 words each. seed: of scenes and drawings. minimum_count:
    words that are rarer in the training captions are unknown to a captioner. Ids count the images through all splits,
    from 0. Seven scenes in ten show two things; none of these comes twice. The 216 scenes of equal things are dealt out
    to the splits, and those of a split come about equally often, each time drawn anew. So no scene is in two splits,
    and what is said of one in a test is said nowhere in training.
    """

    train: int = 2000
    validation: int = 200
    test: int = 400
    size: int = 64
    references: int = 3
    seed: int = 0
    minimum_count: int = 1

    def __post_init__(self) -> None:
        for name in ("train", "validation", "test", "minimum_count"):
            if (value := getattr(self, name)) < 1:
                raise BenchError(f"shapes_fa: {name}={value!r}; at least 1 is needed")
        if (total := sum(self._sizes.values())) > MOST:
            raise BenchError(f"shapes_fa: train, validation and test are {total} images; at most {MOST} are possible")
        if not _SMALLEST <= self.size <= _LARGEST:
            raise BenchError(f"shapes_fa: size={self.size!r}; {_SMALLEST} to {_LARGEST} pixels are needed")
        if not 1 <= self.references <= 3:
            raise BenchError(f"shapes_fa: references={self.references!r}; 1 to 3 captions of an image are needed")
        if not 0 <= self.seed < 2**32:
            raise BenchError(f"shapes_fa: seed={self.seed!r}; a whole number from 0 to 2**32 - 1 is needed")

    @hookimpl
    def facts(self) -> Facts:
        return Facts(
            shape=(3, self.size, self.size),
            classes=(),
            sizes=self._sizes,
            licence="CC0 1.0",
            citation="none; the scenes are drawn by this program",
            source="drawn from its seed by plugins.captions.scenes",
            task=CAPTIONING,
            language="fa",
            minimum_count=self.minimum_count,
        )

    @hookimpl
    def locate(self) -> Sequence[Path]:
        # What draws the scenes is the data: another drawing is another data set.
        here = Path(__file__)
        return [here, here.parents[1] / "captions" / "scenes.py"]

    @hookimpl
    def download(self) -> None:
        raise BenchError("shapes_fa: scenes.py is missing from the installed package; install adversarial-bench again")

    @hookimpl
    def load(self) -> Mapping[str, CaptionedSplit]:
        import numpy as np

        from plugins.captions import scenes

        random = np.random.RandomState(self.seed)  # its stream stays the same for good
        splits, first = {}, 0
        for split, chosen in self._scenes(random).items():
            count = len(chosen)
            images = np.empty((count, 3, self.size, self.size), np.uint8)
            objects = []
            for row, scene in enumerate(chosen):
                images[row], boxes = scenes.drawn(scene, self.size, random)
                objects.append(boxes)
            captions = tuple(scene.captions(self.references) for scene in chosen)
            ids = np.arange(first, first + count, dtype=np.int64)
            splits[split] = CaptionedSplit(images, captions, ids, tuple(objects))
            first += count
        return splits

    def _scenes(self, random: np.random.RandomState) -> dict[str, list[Scene]]:
        """The scenes of each split, in a random order."""
        from plugins.captions import scenes

        two, equals = scenes.of_two(), scenes.of_equals()
        turn_two = iter(random.permutation(len(two)).tolist())  # never runs out, for at most MOST are asked for
        turn_equals = random.permutation(len(equals)).tolist()
        sizes = list(self._sizes.values())
        dealt = splitting.in_proportion(sizes, len(equals) - len(sizes), [len(equals)] * len(sizes))
        chosen = {}
        for (split, count), more in zip(self._sizes.items(), dealt, strict=True):
            own, turn_equals = turn_equals[: more + 1], turn_equals[more + 1 :]  # one at least
            pairs = splitting.share_of(count, _OF_TWO)
            found = [two[next(turn_two)] for _ in range(pairs)]
            found += [equals[own[k % len(own)]] for k in range(count - pairs)]
            chosen[split] = [found[place] for place in random.permutation(count).tolist()]
        return chosen

    @property
    def _sizes(self) -> dict[str, int]:
        return {"train": self.train, "validation": self.validation, "test": self.test}
