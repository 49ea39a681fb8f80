"""Any image classifier of torchvision, by name."""

from __future__ import annotations

import re
import types
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import BenchError, unknown
from harness.hookspecs import ADDED_LATER, hookimpl
from harness.types import Preparation
from plugins.figures import check_figures, described

if TYPE_CHECKING:
    from torch import Tensor, nn

    from plugins.networks import Crop

AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
"""Networks with classifiers that only their authors' training used, and what their tensors' names begin with."""

DENSE_LAYER = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d\.)")
"""How the published files of densenets spell what is called ``norm1`` today."""


@dataclass(frozen=True)
class Torchvision:
    """A classifier of the torchvision library (TorchVision maintainers 2016), its head made for the data set's classes.

    architecture: torchvision's name, such as resnet50; with the name of its weights, resnet50.IMAGENET1K_V2, it sets
    ``pretrained`` too. pretrained: the name of its weights to start from, for example IMAGENET1K_V1; true or
    DEFAULT is the best of them. weights: a local file of this architecture to start from
    instead, safetensors or a state_dict written by torch.save. image_size: what the network sees (None: its own size
    for pretrained weights, else the data's). drop_rate: probability of each dropout layer; None leaves torchvision's.
    preprocessing: "own" resizes and crops as torchvision does where it evaluates the weights; "whole" shows the network
    the whole image, stretched bilinearly. Images of the network's size are left as they are by both.
    mean, std: what each channel is normalised by. Left out, pretrained networks have their own mean and standard
    deviation (of a local file: those of the weights that ``pretrained`` names), others the data's. Grey images are seen
    three times. Auxiliary classifiers are left out.
    """

    architecture: str = "resnet50"
    pretrained: bool | str = False
    weights: str = ""
    image_size: int | None = None
    drop_rate: float | None = None
    preprocessing: Literal["own", "whole"] = "own"
    mean: tuple[float, ...] = field(default=(), metadata=ADDED_LATER)
    std: tuple[float, ...] = field(default=(), metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        architecture, dot, tag = self.architecture.partition(".")
        if dot and self.pretrained not in (False, tag):
            raise ValueError(f"pretrained: got {self.pretrained!r}, and {tag} in the architecture; give one of them")
        if dot:
            object.__setattr__(self, "architecture", architecture)
            object.__setattr__(self, "pretrained", tag)
        check_figures(self.mean, self.std)
        if self.image_size is not None and self.image_size < 1:
            raise ValueError(f"image_size: got {self.image_size}; at least 1 pixel is needed")
        if self.drop_rate is not None and not 0 <= self.drop_rate < 1:
            raise ValueError(f"drop_rate: got {self.drop_rate}; a probability below 1 is needed")

    @hookimpl
    def sources(self) -> Sequence[Path]:
        return [self._hub_file()] if self.pretrained and not self.weights else []

    @hookimpl
    def build(self, preparation: Preparation) -> nn.Module:
        from plugins.networks import Normalised, of_channels, tried

        facts, name = preparation.facts, self.architecture
        if facts.shape[0] not in (1, 3):
            raise BenchError(
                f"model {name}: torchvision's networks take three channels, the data has {facts.shape[0]}; "
                "choose a data set of 3 or 1, or a network of timm"
            )
        classes, published = len(facts.classes), self._published()
        own = published.transforms() if self.pretrained or self.weights else None
        size = self.image_size or (own.crop_size[0] if own else facts.shape[-1])
        network, new = self._network(classes, size, fill=not preparation.outline)
        figures = (own.mean, own.std) if own else (preparation.mean, preparation.std)
        mean, std = (self.mean, self.std) if self.mean else figures
        crop = self._crop(own, size)
        module = Normalised(network, of_channels(name, mean, 3), of_channels(name, std, 3), (size, size), crop)
        module.new = tuple(new)
        return tried(module, name, facts.shape, classes, self._advice())

    def describe(self) -> list[tuple[str, str]]:
        """What it does to images, for `bench info`: as its weights' own transforms say where it has weights."""
        published = self._published()
        own = published.transforms() if self.pretrained or self.weights else None
        if own is None:
            return described(self.mean, self.std, (self.image_size, self.image_size) if self.image_size else None, None)
        size = self.image_size or own.crop_size[0]
        return described(self.mean or own.mean, self.std or own.std, (size, size), self._crop(own, size))

    def _crop(self, own: Any, size: int) -> Crop | None:
        from plugins.networks import Crop

        if own is None or self.preprocessing != "own":
            return None
        return Crop(round(own.resize_size[0] * size / own.crop_size[0]), own.interpolation.value)

    def _network(self, classes: int, size: int, *, fill: bool) -> tuple[nn.Module, list[str]]:
        """The network, and the names of tensors that its weights did not have."""
        from torchvision import models

        from harness.weights import transfer
        from plugins.networks import too_small

        file = (self.weights or (str(self._hub_file()) if self.pretrained else "")) if fill else ""
        given: dict[str, Any] = {"num_classes": classes}
        if self.architecture in AUXILIARY:
            # Their weights were trained on pixels in [-1, 1]; told so, they bring what torchvision's transforms give
            # there themselves.
            given |= {"aux_logits": False, "init_weights": not file, "transform_input": bool(file)}
        if self.architecture.startswith("vit_"):
            given["image_size"] = size
        if self.architecture.startswith("maxvit"):
            given["input_size"] = (size, size)
        try:
            network: nn.Module = models.get_model(self.architecture, weights=None, **given)
        except (ValueError, RuntimeError, AssertionError) as error:
            raise too_small(self.architecture, (size, size), error, self._advice()) from error
        _without_versions(network)
        self._set_dropout(network)
        if not file:
            return network, []
        where = f"model {self.architecture}: weights {file} do not fit"
        return network, transfer(network, self._tensors(network, file, size), classes, where)

    def _tensors(self, network: nn.Module, file: str, size: int) -> dict[str, Tensor]:
        """What the file holds for this network, under the names of today."""
        import torch

        from harness.weights import matched, read

        tensors = matched(read(file), network.state_dict())
        tensors = {DENSE_LAYER.sub(r"\1\2", name): tensor for name, tensor in tensors.items()}
        left_out = AUXILIARY.get(self.architecture, ())
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(left_out)}
        for name in network.state_dict():
            if name.endswith("num_batches_tracked"):  # files of before 2018 have none, and nothing depends on it
                tensors.setdefault(name, torch.tensor(0))
        return _at_size(network, tensors, size)

    def _set_dropout(self, network: nn.Module) -> None:
        from torch import nn

        if self.drop_rate is None:
            return
        layers = [module for module in network.modules() if isinstance(module, nn.Dropout)]
        if not layers:
            raise BenchError(f"model {self.architecture}: has no dropout layer; leave drop_rate out")
        for layer in layers:
            layer.p = self.drop_rate

    def _published(self) -> Any:
        """torchvision's entry for the weights asked for, the default ones where none are."""
        from torchvision import models

        if self.architecture not in (known := models.list_models(module=models)):
            raise unknown("architecture (torchvision)", self.architecture, known)
        entries = models.get_model_weights(self.architecture)
        name = self.pretrained if isinstance(self.pretrained, str) and self.pretrained else "DEFAULT"
        if name not in entries.__members__:
            raise unknown(f"pretrained (torchvision {self.architecture})", name, entries.__members__)
        return entries[name]

    def _advice(self) -> str:
        least, usual = self._published().meta["min_size"][0], self._published().transforms().crop_size[0]
        return f"set image_size, for example to {usual} (its weights need {least} or more), or another architecture"

    def _hub_file(self) -> Path:
        """The published weights in torch's local cache, fetched if need be. Raises BenchError saying what to get."""
        import torch

        from plugins import hub

        return hub.address(self.architecture, self._published().url, Path(torch.hub.get_dir(), "checkpoints"))


def _at_size(network: Any, tensors: dict[str, Tensor], size: int) -> dict[str, Tensor]:
    """A vision transformer's position embeddings interpolated (bicubic) where they are of another image size."""
    from torchvision.models import VisionTransformer
    from torchvision.models.vision_transformer import interpolate_embeddings

    if not isinstance(network, VisionTransformer) or "encoder.pos_embedding" not in tensors:
        return tensors
    try:
        stretched: dict[str, Tensor] = interpolate_embeddings(size, network.patch_size, tensors)
    except (ValueError, RuntimeError):
        return tensors  # of no square grid; what takes the tensors over will tell its shape
    return stretched


def _without_versions(network: nn.Module) -> None:
    """Lets MNASNet take tensors without the version of its code, which no safetensors file carries.

    It asks for one to mend files of before 2019, which do not have the shapes of today.
    """
    from torch import nn
    from torchvision.models import MNASNet

    if isinstance(network, MNASNet):
        network._load_from_state_dict = types.MethodType(nn.Module._load_from_state_dict, network)
