"""How a model is trained, as data. The loop that follows it is ``training``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from harness import keys
from harness.hookspecs import ADDED_LATER

Augmentation = Literal["crop", "flip", "autoaugment"]


@dataclass(frozen=True)
class Recipe:
    """The ``training`` table of a model.

    ``epochs``: 0 keeps the weights as they are. ``batch_size``: samples of a step. ``optimizer``: sgd is with
    Nesterov's momentum. ``lr``: the highest rate. ``weight_decay``: the optimizer's. ``momentum``: of sgd alone.
    ``schedule``: how the rate changes; plateau falls with the validation accuracy, cosine and linear end at 0.
    ``augment``: changes of training images, in the order crop, flip, autoaugment. ``crop_padding``: zeros around an
    image that is cropped. ``samples_per_epoch``: each epoch takes that many images of the shuffled training split
    (None: all). ``validation_samples``: a fixed random part of the validation split (None: all). ``warmup``: share of
    all steps with a rising rate; ``one_cycle`` also cycles momentum (Adam: beta1), as torch does. ``patience``: epochs
    without a better validation accuracy before stopping (None: never); the best epoch's weights are kept.
    ``noise_variance``: Gaussian noise added to training images in pixel space, cut to [0, 1].

    ``label_smoothing``: share of the probability that training targets spread over all classes; validation is
    without. ``ema``: decay of an exponential moving average of the weights, which then are what is validated and
    kept (0: none). ``precision``: of the forward passes of the training loss; weights, validation and the making of
    adversarial images stay float32. ``clip_norm``: the most that the gradient's L2 norm may be (None: any).
    ``plateau_factor``: what the schedule ``plateau`` multiplies the rate with after three epochs that were no better.
    ``channels_last``: the memory order of images and convolutions. ``fused``: Adam goes once through the memory for a
    step and not a dozen times, with other last digits; worth it where layers are wide and steps short. Raises
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
    label_smoothing: float = field(default=0.0, metadata=ADDED_LATER)
    ema: float = field(default=0.0, metadata=ADDED_LATER)
    precision: Literal["float32", "bfloat16"] = field(default="float32", metadata=ADDED_LATER)
    channels_last: bool = field(default=True, metadata=ADDED_LATER)
    clip_norm: float | None = field(default=None, metadata=ADDED_LATER)
    plateau_factor: float = field(default=0.5, metadata=ADDED_LATER)
    fused: bool = field(default=False, metadata=ADDED_LATER)

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
        for name in ("lr", "clip_norm"):
            if (value := getattr(self, name)) is not None and value <= 0:
                raise ValueError(f"{name}: got {value}; more than 0 is needed")
        if not 0 < self.plateau_factor < 1:
            raise ValueError(f"plateau_factor: got {self.plateau_factor}; a share between 0 and 1 is needed")
        shares = {"warmup": "a share of all steps", "label_smoothing": "a share", "ema": "a decay such as 0.999, or 0,"}
        for name, what in shares.items():
            if not 0 <= (value := getattr(self, name)) < 1:
                raise ValueError(f"{name}: got {value}; {what} in [0, 1) is needed")
        for name in ("patience", "samples_per_epoch", "validation_samples"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name}: got {value}; 1 or more is needed")

    def deciding(self) -> dict[str, Any]:
        """The fields that decide the weights, for content keys; with what has changed in the meaning of some."""
        document = keys.deciding(fields(self), asdict(self))
        if "autoaugment" in self.augment:
            document["autoaugment"] = 2  # 1 drew from a generator of torch for each image
        if self.schedule == "plateau" and self.warmup:
            document["plateau_warmup"] = 2  # 1 had none
        return document
