"""Random search with squares, which sees nothing but logits."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.hookspecs import hookimpl
from harness.types import Batch, Evaluation, State, Threat
from plugins.margins import margin

if TYPE_CHECKING:
    from torch import Tensor

    from harness.randomness import SampleRandom

SCHEDULE = (
    (0, 1),
    (11, 2),
    (51, 4),
    (201, 8),
    (501, 16),
    (1001, 32),
    (2001, 64),
    (4001, 128),
    (6001, 256),
    (8001, 512),
)
"""From which of 10 000 queries on the share of the pixels is divided by how much."""


@functools.cache
def sides(queries: int, p_init: float, height: int, width: int, least: int) -> tuple[int, ...]:
    """The side of the square that is tried at each query, in pixels; odd where it is at least 3 (L2)."""
    found = []
    for query in range(queries):
        place = int(query / queries * 10_000)
        share = p_init / next(part for start, part in reversed(SCHEDULE) if place >= start)
        side = max(round((share * height * width) ** 0.5), least)
        found.append(min(side + (least > 1 and side % 2 == 0), height, width))
    return tuple(found)


@dataclass(frozen=True)
class Square:
    """Changes a random square at a time and keeps what raises the margin. Black box: logits, no gradients.

    queries: forward passes a sample that a try may take. p_init: share of the pixels in the first square; it falls by
    the paper's schedule, stretched to ``queries``. restarts: tries, each on the samples that still stand.
    Andriushchenko, Croce, Flammarion and Hein, "Square attack: a query-efficient black-box adversarial attack via
    random search", ECCV 2020. As in the paper, and not in AutoAttack, squares reach the lower and the right edge.
    """

    queries: int = 5000
    p_init: float = 0.8
    restarts: int = 1

    access: ClassVar[str] = "scores"
    keeps_best: ClassVar[bool] = True
    norms: ClassVar[tuple[str, ...]] = ("Linf", "L2")

    def __post_init__(self) -> None:
        if self.queries < 2 or self.restarts < 1:
            raise ValueError(f"queries and restarts: got {self.queries} and {self.restarts}; 2 and 1 are the least")
        if not 0 < self.p_init <= 1:
            raise ValueError(f"p_init: got {self.p_init}; a share of the pixels, more than 0 and at most 1, is needed")

    @property
    def steps(self) -> int:
        """The first query is for where it starts."""
        return self.queries - 1

    @hookimpl
    def start(self, batch: Batch, threat: Threat, random: SampleRandom) -> State:
        x = batch.x
        delta = _stripes(x, threat.eps, random) if threat.norm == "Linf" else _tiles(x, threat.eps, random)
        x_adv = threat.project(x + delta, x)
        return {"x_adv": x_adv, "best": x_adv, "best_loss": x.new_full((len(x),), float("-inf")), "won": batch.y < 0}

    @hookimpl
    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return margin(logits, batch.y)

    @hookimpl
    def step(
        self, state: State, found: Evaluation, batch: Batch, threat: Threat, random: SampleRandom, iteration: Tensor
    ) -> State:
        x = batch.x
        better = found.loss > state["best_loss"]
        best = state["x_adv"].where(better.view(-1, 1, 1, 1), state["best"])
        least = 1 if threat.norm == "Linf" else 3
        table = sides(self.steps, self.p_init, x.shape[2], x.shape[3], least)
        side = iteration.new_tensor([table[i] for i in iteration.tolist()])  # (N,)
        tried = _square(best, side, threat, random) if threat.norm == "Linf" else _moved(best, x, side, threat, random)
        won = found.fooled | state["won"]  # stays where it is: only where every step is wanted does it come so far
        return {
            "x_adv": best.where(won.view(-1, 1, 1, 1), threat.project(tried, x)),
            "best": best,
            "best_loss": found.loss.where(better, state["best_loss"]),
            "won": won,
        }


def _signs(drawn: Tensor) -> Tensor:
    """-1 or 1, by numbers from [0, 1)."""
    return 1 - 2 * (drawn < 0.5).to(drawn)


def _corner(side: Tensor, like: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """The upper left corner of a square of this side, anywhere in the image, by two numbers of each: (N,), (N,)."""
    top, left = ((drawn[:, i] * (like.shape[2 + i] - side + 1)).long() for i in range(2))
    return top, left


def _inside(top: Tensor, left: Tensor, side: Tensor, like: Tensor) -> Tensor:
    """Which pixels lie in the square: (N, 1, H, W)."""
    down, across = ((like.new_ones(like.shape[2 + i]).cumsum(0) - 1)[None] for i in range(2))
    rows, columns = (
        (place >= start[:, None]) & (place < (start + side)[:, None]) for place, start in ((down, top), (across, left))
    )
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def _stripes(x: Tensor, eps: float, random: SampleRandom) -> Tensor:
    """Vertical stripes of height eps, one pixel wide, each channel of its own sign: (N, C, H, W)."""
    return eps * _signs(random.uniform(0.0, 1.0, (x.shape[1], 1, x.shape[3]))).to(x).expand_as(x)


def _square(best: Tensor, side: Tensor, threat: Threat, random: SampleRandom) -> Tensor:
    """One square of each sample set to plus or minus eps, by channel; the projection takes off what is too much."""
    drawn = random.uniform(0.0, 1.0, (2 + best.shape[1],)).to(best)  # in one go: numbers cost more than what they do
    top, left = _corner(side, best, drawn)
    signs = _signs(drawn[:, 2:])[:, :, None, None]  # (N, C, 1, 1)
    return best + 2 * threat.eps * signs * _inside(top, left, side, best)


@functools.cache
def _hill(height: int, width: int) -> tuple[tuple[float, ...], ...]:
    """Falls off from the middle of a rectangle: sums of 1 / (t + 1)^2 over the rings t at and outside a pixel."""
    rings = max(height, width) // 2 + 1
    outside = [[max(abs(i - height // 2), abs(j - width // 2)) for j in range(width)] for i in range(height)]
    raw = [[sum((t + 1) ** -2 for t in range(ring, rings)) for ring in row] for row in outside]
    size = sum(value**2 for row in raw for value in row) ** 0.5
    return tuple(tuple(value / size for value in row) for row in raw)


@functools.cache
def _pattern(side: int) -> tuple[tuple[float, ...], ...]:
    """A hill above a hollow, (side, side), of L2 norm one."""
    half = side // 2
    size = (2.0 if half else 1.0) ** 0.5
    upper, lower = (_hill(half, side) if half else ()), _hill(side - half, side)
    return tuple(
        tuple(sign * value / size for value in row) for sign, part in ((1.0, upper), (-1.0, lower)) for row in part
    )


def _tiles(x: Tensor, eps: float, random: SampleRandom) -> Tensor:
    """Five by five tiles, each a pattern of random sign in each channel; the whole of L2 norm eps: (N, C, H, W)."""
    height, width = x.shape[2:]
    side = max(min(height, width) // 5, 1)
    pattern, delta = x.new_tensor(_pattern(side)), x.new_zeros(x.shape)
    for top in range(height % side // 2, height - side + 1, side):
        for left in range(width % side // 2, width - side + 1, side):
            drawn = random.uniform(0.0, 1.0, (1 + x.shape[1], 1, 1)).to(x)
            tile = pattern.T.where(drawn[:, :1] < 0.5, pattern) * _signs(drawn[:, 1:])
            delta[:, :, top : top + side, left : left + side] = tile
    return eps * delta / delta.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def _moved(best: Tensor, x: Tensor, side: Tensor, threat: Threat, random: SampleRandom) -> Tensor:
    """What one square holds is taken away and put, with what is left of eps, as a pattern into another square."""
    delta = best - x
    channels = x.shape[1]
    drawn = random.uniform(0.0, 1.0, (5 + channels,)).to(x)
    to, source = _corner(side, x, drawn[:, :2]), _corner(side, x, drawn[:, 2:4])
    inside, emptied = _inside(*to, side, x), _inside(*source, side, x)
    left = (threat.eps**2 - delta.square().sum((1, 2, 3), keepdim=True)).clamp(min=0.0) / channels
    energy = (left + (delta * (inside | emptied)).square().sum((2, 3), keepdim=True)).sqrt()  # (N, C, 1, 1)
    old = delta * inside
    old = old / (old.square().sum((2, 3), keepdim=True).sqrt() + 1e-12)
    new = old + _placed(to, side, drawn[:, 4] < 0.5, x) * _signs(drawn[:, 5:])[:, :, None, None]
    new = new / (new.square().sum((2, 3), keepdim=True).sqrt() + 1e-12) * energy
    delta = new.where(inside, delta * ~emptied)
    return x + threat.eps * delta / (delta.square().sum((1, 2, 3), keepdim=True).sqrt() + 1e-12)


def _placed(corner: tuple[Tensor, Tensor], side: Tensor, turned: Tensor, x: Tensor) -> Tensor:
    """The pattern of each sample's side at its corner, its axes exchanged where ``turned``: (N, 1, H, W)."""
    whole = x.new_zeros(len(x), 1, *x.shape[2:])
    for length in set(side.tolist()):
        pattern = x.new_tensor(_pattern(length))
        index = (side == length).nonzero()  # (M, 1)
        step = index.new_ones(length).cumsum(0) - 1
        rows, columns = (start[index] + step for start in corner)  # (M, length)
        content = pattern.T.where(turned[index, None], pattern)  # (M, length, length)
        whole[index[:, :, None], 0, rows[:, :, None], columns[:, None, :]] = content
    return whole
