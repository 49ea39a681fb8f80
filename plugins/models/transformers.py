"""Any image classifier of Hugging Face's transformers, by name or from a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import BenchError, unknown
from harness.hookspecs import hookimpl
from harness.types import Preparation
from plugins import huggingface
from plugins.figures import described
from plugins.overrides import Overrides

if TYPE_CHECKING:
    from torch import nn

    from plugins.image_processors import Preprocessing
    from plugins.networks import Crop

ADVICE = (
    "put it, config.json and preprocessor_config.json from there into one folder: the model is then hf:FOLDER, or "
    "weights = FOLDER/model.safetensors"
)
INSTEAD = "give its entries as overrides to a kind of model, for example architecture = vit"


@dataclass(frozen=True)
class Transformers:
    """An image classifier of the transformers library (Wolf et al., 2020), its head made for the data set's classes.

    architecture: a kind of model, for example vit or convnextv2, from scratch in transformers' own sizes; or a name on
    the hub, for example google/vit-base-patch16-224, for that configuration. pretrained: start from the hub's weights.
    weights: a local model.safetensors to start from instead, in the folder that save_pretrained made: the config.json
    and preprocessor_config.json beside it are taken with it, and ``architecture`` is not looked at. (Of weights in
    several files the model.safetensors.index.json.) overrides: entries of the configuration to change, for example
    { hidden_size = 64, num_hidden_layers = 3 }. image_size: what the network sees (None: its own size for pretrained
    weights, else the data's).
    preprocessing: "own" resizes and crops as the weights' image processor does, which is measured on an image and not
    assumed; "whole" shows the network the whole image, stretched bilinearly. Images of the network's size are left as
    they are by both.
    Pretrained networks are normalised as their image processor does, others by the data's figures. A network of three
    channels sees grey images three times. Only the classifier may be new where weights are given; one that is not, and
    whose configuration calls its outputs as the data calls its classes, answers in the data's order.
    """

    architecture: str = "vit"
    pretrained: bool = False
    weights: str = ""
    overrides: Mapping[str, Any] = field(default_factory=Overrides)
    image_size: int | None = None
    preprocessing: Literal["own", "whole"] = "own"

    def __post_init__(self) -> None:
        object.__setattr__(self, "overrides", Overrides(self.overrides))
        if self.image_size is not None and self.image_size < 1:
            raise ValueError(f"image_size: got {self.image_size}; at least 1 pixel is needed")

    @hookimpl
    def sources(self) -> Sequence[Path]:
        # The weights file itself is one of the key already.
        return [file for file in self._files() if not self.weights or file != Path(self.weights)]

    @hookimpl
    def build(self, preparation: Preparation) -> nn.Module:
        from plugins.image_processors import preprocessing
        from plugins.networks import Normalised, Unwrapped, tried

        fill = not preparation.outline
        facts, name, files = preparation.facts, self._name, self._files(fill=fill)
        classes, starts = len(facts.classes), bool(self.weights or self.pretrained)
        with huggingface.quiet():
            config = self._configuration(files, classes)
            own = preprocessing(files[0].parent, name) if starts else None
            size = self._size(config, own, facts.shape)
            if not starts:
                _set(config, "num_channels", facts.shape[0], self.overrides)
                _set(config, "image_size", size[0], self.overrides)
            network = self._network(config, files if starts and fill else [])
        told = huggingface.interpolation(network, _of(config, "image_size", None), size)
        module = Normalised(
            Unwrapped(
                network,
                flipped=own is not None and own.flipped,
                order=None if getattr(network, "new", ()) else huggingface.order(config.id2label, facts.classes),
                **told,
            ),
            own.mean if own else _figures(preparation.mean, config),
            own.std if own else _figures(preparation.std, config),
            size,
            self._crop(own, size),
        )
        module.new = getattr(network, "new", ())
        huggingface.check_channels(module, name, facts.shape[0])
        advice = "set image_size to what it is made for, or change its configuration with overrides"
        return tried(module, name, facts.shape, classes, advice)

    def describe(self) -> list[tuple[str, str]]:
        """What it does to images, for `bench info`: as measured on its image processor where it has weights."""
        from plugins.image_processors import preprocessing

        starts = bool(self.weights or self.pretrained)
        if not starts:
            return described(None, None, (self.image_size, self.image_size) if self.image_size else None, None)
        try:
            with huggingface.quiet():
                own = preprocessing(self._files(fill=False)[0].parent, self._name)
        except BenchError as error:
            return [("preprocessing", str(error))]
        size = (self.image_size, self.image_size) if self.image_size else own.size
        rows = described(own.mean, own.std, size, self._crop(own, size))
        return [*rows, ("  channels", "blue, green, red")] if own.flipped else rows

    @property
    def _name(self) -> str:
        return self.weights or self.architecture

    # --- files

    def _files(self, *, fill: bool = True) -> list[Path]:
        """The files that decide the model, config.json first, the weights last; empty for a kind of model.

        Not to ``fill`` it: of the hub's without the weights.
        """
        huggingface.check_installed("transformers")
        if self.weights:
            return huggingface.local(Path(self.weights))
        if "/" not in self.architecture:
            if self.pretrained:
                raise BenchError(
                    f"model {self.architecture}: a kind of model, which has no weights; name one on the hub, for "
                    "example google/vit-base-patch16-224, or set weights = FOLDER/model.safetensors"
                )
            return []
        huggingface.check_no_folder(self.architecture)
        if self.pretrained:
            return huggingface.from_hub(self.architecture, ADVICE, fill=fill)
        from plugins import hub

        return [hub.huggingface(self.architecture, self.architecture, huggingface.CONFIG, INSTEAD)]

    # --- what the files say

    def _configuration(self, files: Sequence[Path], classes: int) -> Any:
        """The configuration with its overrides and this number of classes."""
        from plugins.networks import one_line

        auto = huggingface.library()
        kinds = auto.models.auto.modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

        def made(**changed: Any) -> Any:
            if files:
                return auto.AutoConfig.from_pretrained(files[0].parent, **huggingface.HERE, **changed)
            return auto.AutoConfig.for_model(self.architecture, **changed)

        if not files and self.architecture not in kinds:
            raise unknown("architecture (transformers)", self.architecture, kinds)
        try:
            plain = made()
            known = {*plain.to_dict(), *plain.attribute_map}
            if strange := [name for name in self.overrides if name not in known]:
                raise unknown(f"model {self._name}: overrides", strange[0], known)
            config = made(**self.overrides)
            config.num_labels = classes
        except BenchError:
            raise
        except Exception as error:  # each kind of model checks its configuration in its own way
            raise BenchError(f"model {self._name}: its configuration is refused: {one_line(error)}") from error
        if config.model_type not in kinds:
            raise BenchError(f"model {self._name}: {config.model_type} is no image classifier of transformers")
        return config

    def _size(self, config: Any, own: Preprocessing | None, shape: tuple[int, int, int]) -> tuple[int, int]:
        if self.image_size is None and own is not None:
            return own.size
        stated = self.overrides.get("image_size") if own is None else None
        side = self.image_size or stated or shape[-1]
        return (side, side) if isinstance(side, int) else (int(side[0]), int(side[1]))

    def _crop(self, own: Preprocessing | None, size: tuple[int, int]) -> Crop | None:
        """The processor's, in proportion where the network sees another size."""
        if own is None or self.preprocessing == "whole":
            return None
        share = [new / old for new, old in zip(size, own.size, strict=True)]
        to = own.crop.resize
        resize = round(to * min(share)) if isinstance(to, int) else (round(to[0] * share[0]), round(to[1] * share[1]))
        return own.crop._replace(resize=resize)

    def _network(self, config: Any, files: Sequence[Path]) -> nn.Module:
        from plugins.networks import one_line

        try:
            if not files:
                auto = huggingface.library().AutoModelForImageClassification
                network: nn.Module = auto.from_config(config, trust_remote_code=False)
                return network.float()
            heads, kind = _heads(config)
        except Exception as error:  # of a configuration that does not hold together
            raise BenchError(f"model {self._name}: cannot be built: {one_line(error)}") from error
        return huggingface.filled(kind, config, files, self._name, sorted(heads))


def _heads(config: Any) -> tuple[set[str], Any]:
    """The names of tensors whose shape depends on the number of classes, and the network's class."""
    import copy

    import torch

    auto = huggingface.library().AutoModelForImageClassification
    other = copy.deepcopy(config)
    other.num_labels = config.num_labels + 1
    with torch.device("meta"):
        one, two = (auto.from_config(c, trust_remote_code=False) for c in (config, other))
    shapes = {name: tensor.shape for name, tensor in two.state_dict().items()}
    return {name for name, tensor in one.state_dict().items() if tensor.shape != shapes[name]}, type(one)


def _of(config: Any, entry: str, default: Any) -> Any:
    """An entry of the configuration, or of the one for images inside it (CLIP)."""
    return getattr(getattr(config, "vision_config", config), entry, default)


def _set(config: Any, entry: str, value: int, stated: Mapping[str, Any]) -> None:
    inner = getattr(config, "vision_config", config)
    if entry not in stated and hasattr(inner, entry):
        setattr(inner, entry, value)


def _figures(data: Sequence[float], config: Any) -> list[float]:
    """The data's, once for each channel of the network."""
    return list(data) * int(_of(config, "num_channels", 3)) if len(data) == 1 else list(data)
