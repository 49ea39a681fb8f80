"""Any image classifier of timm, by name."""

from __future__ import annotations

import contextlib
import logging
import math
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import BenchError, unknown
from harness.hookspecs import ADDED_LATER, hookimpl
from harness.types import Preparation
from plugins.figures import check_figures, described

if TYPE_CHECKING:
    from torch import nn

    from plugins.networks import Crop


GEOMETRY = ("patch_size", "embed_dim", "depth", "num_heads", "drop_rate")


@dataclass(frozen=True)
class Timm:
    """A model of the timm library (Wightman 2019), its head made for the data set's classes.

    architecture: timm's name, for example vit_base_patch16_224. A name with a tag, vit_base_patch16_224.augreg_in21k,
    is that of weights, and sets ``pretrained``. pretrained: start from the hub's weights. weights: a
    local safetensors file of this architecture to start from instead. image_size: what the network sees (None: its own
    size for pretrained weights, else the data's); images are resized inside the model. patch_size, embed_dim, depth,
    num_heads, drop_rate: as timm's vision transformers take them, left out for architectures that do not; None leaves
    timm's value.
    preprocessing: "whole" shows pretrained networks the whole image, stretched bilinearly; "own" resizes and crops as
    timm does where it evaluates the weights. Images of the network's size are left as they are by both.
    mean, std: what each channel is normalised by. Left out, pretrained networks have their own mean and standard
    deviation, others the data's.
    """

    architecture: str = "vit_base_patch16_224"
    pretrained: bool = False
    weights: str = ""
    image_size: int | None = None
    patch_size: int | None = None
    embed_dim: int | None = None
    depth: int | None = None
    num_heads: int | None = None
    drop_rate: float | None = None
    preprocessing: Literal["whole", "own"] = "whole"
    mean: tuple[float, ...] = field(default=(), metadata=ADDED_LATER)
    std: tuple[float, ...] = field(default=(), metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        check_figures(self.mean, self.std)
        if "." in self.architecture:
            object.__setattr__(self, "pretrained", True)

    @hookimpl
    def sources(self) -> Sequence[Path]:
        return [self._hub_file()] if self.pretrained and not self.weights else []

    @hookimpl
    def build(self, preparation: Preparation) -> nn.Module:
        from plugins.networks import Normalised, of_channels, tried

        facts, own = preparation.facts, self._config()
        channels = facts.shape[0]
        if not (self.pretrained or self.weights):
            size, crop, mean, std = self.image_size or facts.shape[-1], None, preparation.mean, preparation.std
        else:
            size = self.image_size or own.input_size[-1]
            crop, mean, std = self._crop(own, size), own.mean, own.std
            channels = len(mean) if channels == 1 else channels  # grey images are seen that many times
        if len(mean) != channels:
            raise BenchError(
                f"model {self.architecture}: pretrained on {len(mean)} channels, the data has {channels}; "
                "choose a data set with as many or with one, or pretrained = false"
            )
        if self.mean:
            mean = tuple(of_channels(self.architecture, self.mean, channels))
            std = tuple(of_channels(self.architecture, self.std, channels))
        network, new = self._network(channels, len(facts.classes), size, fill=not preparation.outline)
        module = Normalised(network, mean, std, (size, size), crop)
        module.new = new
        advice = f"set image_size, for example to {own.input_size[-1]}, or choose another architecture"
        return tried(module, self.architecture, facts.shape, len(facts.classes), advice)

    def describe(self) -> list[tuple[str, str]]:
        """What it does to images, for `bench info`: by the weights' own configuration where it has weights."""
        own = self._config()
        if not (self.pretrained or self.weights):
            return described(self.mean, self.std, (self.image_size, self.image_size) if self.image_size else None, None)
        size = self.image_size or own.input_size[-1]
        return described(self.mean or own.mean, self.std or own.std, (size, size), self._crop(own, size))

    def _crop(self, own: Any, size: int) -> Crop | None:
        """What timm's own evaluation does to an image: ``timm.data.create_transform``."""
        from plugins.networks import Crop

        if self.preprocessing == "whole":
            return None
        resize = math.floor(size / (own.crop_pct or 0.875))
        if own.crop_mode == "border" or resize < size:
            raise BenchError(
                f"model {self.architecture}: timm pads images for it, which preprocessing = own cannot; "
                "set preprocessing = whole"
            )
        return Crop((resize, resize) if own.crop_mode == "squash" else resize, own.interpolation)

    def _network(self, channels: int, classes: int, size: int, *, fill: bool) -> tuple[nn.Module, tuple[str, ...]]:
        """The network, and the name of its classifier where its weights have one of other classes."""
        from harness.weights import matched, read
        from plugins.networks import one_line

        file = (self.weights or (str(self._hub_file()) if self.pretrained else "")) if fill else ""
        given: dict[str, Any] = {name: getattr(self, name) for name in GEOMETRY if getattr(self, name) is not None}
        given |= {"pretrained": bool(file), "in_chans": channels, "num_classes": classes}
        new: tuple[str, ...] = ()
        if file:
            # timm drops the file's head unless the file has as many classes as timm's own weights: told the truth, it
            # keeps a head that fits.
            name = f"{self._config().classifier}.weight"
            tensors = matched(read(file), [name])
            head = tensors.get(name)
            given["pretrained_cfg_overlay"] = {"state_dict": dict(tensors)}
            if head is not None:
                given["pretrained_cfg_overlay"]["num_classes"] = len(head)
                new = (name,) if len(head) != classes else ()
        try:
            with _left_over() as over:
                network = _create(self.architecture, size, given)
            if file and self.weights:
                _check_names(network, tensors, over)
            return network, new
        except (RuntimeError, TypeError, ValueError, AssertionError, KeyError) as error:
            origin = f"weights {file} do not fit" if file else "cannot be built"
            raise BenchError(f"model {self.architecture}: {origin}: {one_line(error)}") from error

    def _config(self) -> Any:
        import timm

        if not timm.is_model(self.architecture.partition(".")[0]):
            raise unknown("architecture (timm)", self.architecture, timm.list_models())
        return timm.get_pretrained_cfg(self.architecture) or timm.models.PretrainedCfg()

    def _hub_file(self) -> Path:
        """The hub's weights in the local cache, fetched if need be. Raises BenchError saying what to get."""
        from plugins import hub

        config = self._config()
        name, file = config.hf_hub_id, config.hf_hub_filename or "model.safetensors"
        if not name:
            raise BenchError(
                f"model {self.architecture}: timm has no pretrained weights for it; give yours by --weights PATH"
            )
        return hub.huggingface(self.architecture, name, file, "give it by --weights PATH")


def _check_names(network: nn.Module, names: Collection[str], over: Collection[str]) -> None:
    """Raises ValueError unless the file has every parameter but the classifier's, and no other."""
    heads = network.pretrained_cfg.get("classifier") or ()  # type: ignore[union-attr, operator]
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    missing = [name for name, _ in network.named_parameters() if name not in names and not name.startswith(heads)]
    if missing:
        raise ValueError(f"{len(missing)} of its tensors are not in the file, {missing[0]} first")
    if strange := [name for name in over if not name.startswith(heads)]:
        # The blocks of a deeper network of the same kind would else be dropped without a word.
        raise ValueError(f"{len(strange)} tensors of the file are not in it, {strange[0]} first")


@contextlib.contextmanager
def _left_over() -> Iterator[list[str]]:
    """The names of tensors that timm, while it fills a network, finds no place for; it only logs them."""
    found: list[str] = []

    def note(record: logging.LogRecord) -> bool:
        told = re.match(r"Unexpected keys \((.*?)\) found", record.getMessage())
        found.extend(told[1].split(", ") if told else [])
        return told is None

    log = logging.getLogger("timm.models._builder")
    log.addFilter(note)
    try:
        yield found
    finally:
        log.removeFilter(note)


def _create(architecture: str, size: int, given: dict[str, Any]) -> nn.Module:
    """timm's model, told image size and geometry as far as its kind takes them: transformers do, convolutions not."""
    import timm

    geometry = {"img_size": size, **{name: given.pop(name) for name in GEOMETRY if name in given}}
    while True:
        try:
            return timm.create_model(architecture, **geometry, **given)
        except TypeError as error:
            refused = [name for name in geometry if f"keyword argument '{name}'" in str(error)]
            if not refused:
                raise
            del geometry[refused[0]]
