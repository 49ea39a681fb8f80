"""How a model is trained, as data. The loop that follows it is ``training``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Augmentation = Literal["crop", "flip", "autoaugment"]


@dataclass(frozen=True)
class Recipe:
    """The ``training`` table of a model.

    epochs 0 keeps the weights as they are. ``samples_per_epoch``: each epoch takes that many images of the shuffled
    training split (None: all). ``validation_samples``: a fixed random part of the validation split (None: all).
    ``warmup``: share of all steps with a rising rate; ``one_cycle`` also cycles momentum (Adam: beta1), as torch does.
    ``patience``: epochs without a better validation accuracy before stopping (None: never); the best epoch's weights
    are kept. ``noise_variance``: Gaussian noise added to training images in pixel space, cut to [0, 1]. Raises
    ValueError for a value out of range.
    """

    epochs: int = 10
    batch_size: int = 128
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.9
    schedule: Literal["constant", "plateau", "cosine", "one_cycle", "linear"] = "constant"
    warmup: float = 0.0
    patience: int | None = None
    augment: tuple[Augmentation, ...] = ()
    crop_padding: int = 4
    noise_variance: float = 0.0
    samples_per_epoch: int | None = None
    validation_samples: int | None = None

    def __post_init__(self) -> None:
        lowest = {
            "epochs": 0,
            "batch_size": 1,
            "weight_decay": 0,
            "noise_variance": 0,
            "crop_padding": 0,
            "momentum": 0,
        }
        for name, low in lowest.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name}: got {getattr(self, name)}; {low} or more is needed")
        if self.lr <= 0:
            raise ValueError(f"lr: got {self.lr}; more than 0 is needed")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup: got {self.warmup}; a share of all steps in [0, 1) is needed")
        for name in ("patience", "samples_per_epoch", "validation_samples"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name}: got {value}; 1 or more is needed")
