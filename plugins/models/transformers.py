"""Any image classifier of Hugging Face's transformers, by name or from a folder."""

from __future__ import annotations

import contextlib
import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from harness.errors import BenchError, unknown
from harness.hookspecs import hookimpl
from harness.types import Preparation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from plugins.networks import Crop

CONFIG = "config.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
INDEX = "model.safetensors.index.json"
WEIGHTS = ("model.safetensors", INDEX, "pytorch_model.bin")
ADVICE = (
    "give it as `--set models.NAME.weights=FOLDER/model.safetensors`, with the repository's config.json and "
    "preprocessor_config.json in the same folder"
)
HERE = {"local_files_only": True, "trust_remote_code": False}
INSTEAD = "give its entries as overrides to a kind of model, for example architecture = vit"
INTERPOLATION = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, which image processors are configured with."""

AGREEMENT = 4 / 255
"""Difference in pixel units allowed between an image processor and what stands in for it: the former rounds to 8 bits
after resizing, at most twice. Another interpolation or crop differs tenfold on the image that they are compared on."""


class Overrides(dict[str, Any]):
    """Entries of a configuration: a mapping that a frozen component can be hashed with."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(json.dumps(self, sort_keys=True))


class Preprocessing(NamedTuple):
    """What an image processor does: size (H, W) of its images, how they are brought to it, per-channel figures in the
    order red, green, blue, and whether it turns that order round."""

    size: tuple[int, int]
    crop: Crop
    mean: list[float]
    std: list[float]
    flipped: bool


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
    channels sees grey images three times. Only the classifier may be new where weights are given.
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
        from plugins.networks import Normalised, Unwrapped, tried

        facts, name, files = preparation.facts, self._name, self._files()
        classes, starts = len(facts.classes), bool(self.weights or self.pretrained)
        with _quiet():
            config = self._configuration(files, classes)
            own = self._preprocessing(files[0].parent) if starts else None
            size = self._size(config, own, facts.shape)
            if not starts:
                _set(config, "num_channels", facts.shape[0], self.overrides)
                _set(config, "image_size", size[0], self.overrides)
            network = self._network(config, files if starts else [])
        module = Normalised(
            Unwrapped(network, flipped=own is not None and own.flipped, **_interpolation(network, config, size)),
            own.mean if own else _figures(preparation.mean, config),
            own.std if own else _figures(preparation.std, config),
            size,
            self._crop(own, size),
        )
        if facts.shape[0] not in (1, module.mean.shape[1]):
            raise BenchError(
                f"model {name}: takes {module.mean.shape[1]} channels, the data has {facts.shape[0]}; choose a data "
                "set with as many or with one"
            )
        advice = "set image_size to what it is made for, or change its configuration with overrides"
        return tried(module, name, facts.shape, classes, advice)

    @property
    def _name(self) -> str:
        return self.weights or self.architecture

    # --- files

    def _files(self) -> list[Path]:
        """The files that decide the model, config.json first, the weights last; empty for a kind of model."""
        _check_installed()
        if self.weights:
            return self._local(Path(self.weights))
        if "/" not in self.architecture:
            if self.pretrained:
                raise BenchError(
                    f"model {self.architecture}: a kind of model, which has no weights; name one on the hub, for "
                    "example google/vit-base-patch16-224, or set weights = FOLDER/model.safetensors"
                )
            return []
        if Path(self.architecture).is_dir():
            raise BenchError(
                f"model {self.architecture}: a folder; set weights = {self.architecture.rstrip('/')}/model.safetensors "
                "and leave architecture out"
            )
        if self.pretrained:
            return self._from_hub()
        from plugins import hub

        return [hub.huggingface(self.architecture, self.architecture, CONFIG, INSTEAD)]

    def _local(self, weights: Path) -> list[Path]:
        folder = weights.parent
        if not (folder / CONFIG).is_file():
            raise BenchError(
                f"model {weights}: no {CONFIG} beside it; the folder that save_pretrained writes is needed"
            )
        beside = [folder / CONFIG, *(folder / name for name in PROCESSORS if (folder / name).is_file())]
        parts = [folder / name for name in _parts(weights)] if weights.suffix == ".json" else []
        if missing := [part for part in parts if not part.is_file()]:
            raise BenchError(f"model {weights}: names {missing[0]}, which is not there; copy it there")
        return [*beside, *parts, weights]

    def _from_hub(self) -> list[Path]:
        from plugins import hub

        name = self.architecture
        found = next(filter(None, (hub.optional(name, name, file, ADVICE) for file in WEIGHTS)), None)
        if found is None:
            raise BenchError(f"model {name}: its repository has none of {', '.join(WEIGHTS)}; choose another model")
        names = [CONFIG, *(_parts(found) if found.name == INDEX else [])]
        config, *parts = (hub.huggingface(name, name, file, ADVICE) for file in names)
        beside = (hub.optional(name, name, file, ADVICE) for file in PROCESSORS)
        return [config, *filter(None, beside), *parts, found]

    # --- what the files say

    def _configuration(self, files: Sequence[Path], classes: int) -> Any:
        """The configuration with its overrides and this number of classes."""
        from plugins.networks import one_line

        auto = _library()
        kinds = auto.models.auto.modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

        def made(**changed: Any) -> Any:
            if files:
                return auto.AutoConfig.from_pretrained(files[0].parent, **HERE, **changed)
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

    def _preprocessing(self, folder: Path) -> Preprocessing:
        from plugins.networks import one_line

        if not any((folder / name).is_file() for name in PROCESSORS):
            raise BenchError(
                f"model {self._name}: no {PROCESSORS[0]} beside {CONFIG}, so what its images are normalised with is "
                "not known; save its image processor there"
            )
        try:
            return measured(_library().AutoImageProcessor.from_pretrained(folder, **HERE))
        except Exception as error:
            raise BenchError(f"model {self._name}: its image processor: {one_line(error)}") from error

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
                auto = _library().AutoModelForImageClassification
                network: nn.Module = auto.from_config(config, trust_remote_code=False)
                return network.float()
            heads, kind = _heads(config)
            network, told = kind.from_pretrained(
                None, config=config, state_dict=_tensors(files), ignore_mismatched_sizes=True, output_loading_info=True
            )
        except BenchError:
            raise
        except Exception as error:  # of a configuration that does not hold together, or of weights for another one
            raise BenchError(f"model {self._name}: cannot be built: {one_line(error)}") from error
        for name, *shapes in sorted(told["mismatched_keys"], key=str):
            if name not in heads:
                there, here = (tuple(shape) for shape in shapes)
                raise BenchError(
                    f"model {self._name}: {name} needs shape {here}, got {there}; the same architecture is needed"
                )
        if missing := sorted(set(told["missing_keys"]) - heads):
            raise BenchError(
                f"model {self._name}: {missing[0]} is not among the weights; the same architecture is needed"
            )
        return network.float()  # weights may be kept in half precision


def measured(processor: Any) -> Preprocessing:
    """What an image processor does to images, found out by giving it some. Raises BenchError where it does more.

    Black and white images tell what it multiplies by and adds, whatever rescaling and normalising that comes from.
    How it resizes and crops is told by its entries in one of a few ways; the one that gives the processor's own answer
    to a coloured image, at twice its width, is right.
    """
    import numpy as np
    import torch

    from plugins.networks import fitted

    flipped = bool(getattr(processor, "do_flip_channel_order", False))
    size, low = _flat(processor, 0, (64, 128))
    other, high = _flat(processor, 255, (96, 96))
    if size != other:
        raise BenchError(f"{type(processor).__name__} leaves images in their own ratio; a size for all is needed")
    std = 1 / (high - low)
    mean = -low * std
    tile = np.random.default_rng(0).integers(64, 192, (8, 16, 3), dtype=np.uint8)
    # Edges, which interpolations treat differently, and no extremes: what overshoots them is cut in several ways.
    image = tile.repeat(8, axis=0).repeat(8, axis=1)
    theirs = _processed(processor, image) * std[:, None, None] + mean[:, None, None]
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    for crop in _candidates(processor.to_dict(), size):
        ours = fitted(pixels, size, crop)[0]
        ours = ours.flip(0) if flipped else ours
        if ours.shape == theirs.shape and float((ours - theirs).abs().amax()) <= AGREEMENT:
            figures = [values.flip(0) if flipped else values for values in (mean, std)]
            return Preprocessing(size, crop, figures[0].tolist(), figures[1].tolist(), flipped)
    raise BenchError(
        f"{type(processor).__name__} does something to images that cannot be done here; only resizing, cropping and "
        "normalising can"
    )


def _flat(processor: Any, value: int, shape: tuple[int, int]) -> tuple[tuple[int, int], Tensor]:
    """Size (H, W) of the processor's answer to an image of one value, and its value in each channel (C,)."""
    import numpy as np

    answer = _processed(processor, np.full((*shape, 3), value, dtype=np.uint8))
    return (answer.shape[1], answer.shape[2]), answer.flatten(1).double().mean(1).float()


def _processed(processor: Any, image: NDArray[np.uint8]) -> Tensor:
    """(H, W, 3) uint8 -> what the network is given, (C, H, W)."""
    answer: Tensor = processor(images=image, input_data_format="channels_last", return_tensors="pt")["pixel_values"][0]
    if answer.ndim != 3:
        raise BenchError(f"{type(processor).__name__} gives no image but a tensor of shape {tuple(answer.shape)}")
    return answer.float()


def _candidates(entries: Mapping[str, Any], size: tuple[int, int]) -> Iterator[Crop]:
    """The ways of resizing that a processor's entries may mean, by what classes of processors make of them."""
    from plugins.networks import Crop

    interpolation = INTERPOLATION.get(int(entries.get("resample") or 0), "bicubic")
    asked = entries.get("size") or {}
    yield Crop(size, interpolation)
    if asked.get("height") and asked.get("width"):
        yield Crop((asked["height"], asked["width"]), interpolation)
    if edge := asked.get("shortest_edge"):
        shares = (1.0, 1 / (entries.get("crop_pct") or 1.0), 256 / 224)  # as it is; ConvNeXt's; LeViT's
        yield from (Crop(int(share * edge), interpolation) for share in shares if int(share * edge) >= max(size))


def _heads(config: Any) -> tuple[set[str], Any]:
    """The names of tensors whose shape depends on the number of classes, and the network's class."""
    import copy

    import torch

    auto = _library().AutoModelForImageClassification
    other = copy.deepcopy(config)
    other.num_labels = config.num_labels + 1
    with torch.device("meta"):
        one, two = (auto.from_config(c, trust_remote_code=False) for c in (config, other))
    shapes = {name: tensor.shape for name, tensor in two.state_dict().items()}
    return {name for name, tensor in one.state_dict().items() if tensor.shape != shapes[name]}, type(one)


def _tensors(files: Sequence[Path]) -> dict[str, Tensor]:
    from harness.weights import read

    index = files[-1].suffix == ".json"
    parts = [files[-1].parent / name for name in _parts(files[-1])] if index else [files[-1]]
    return {name: tensor for part in parts for name, tensor in read(str(part)).items()}


def _parts(index: Path) -> list[str]:
    """The names of the files that hold the weights, from their index."""
    try:
        return sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise BenchError(f"model {index}: not an index of weights; fetch it again") from error


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


def _interpolation(network: nn.Module, config: Any, size: tuple[int, int]) -> dict[str, bool]:
    """What a transformer is told where it sees another size than its position embeddings are for."""
    import inspect

    stated = _of(config, "image_size", None)
    same = stated is None or size == ((stated, stated) if isinstance(stated, int) else tuple(stated))
    takes = "interpolate_pos_encoding" in inspect.signature(network.forward).parameters
    return {"interpolate_pos_encoding": True} if takes and not same else {}


def _check_installed() -> None:
    if importlib.util.find_spec("transformers") is None:
        raise BenchError(
            "model transformers: the package transformers is not installed; pip install "
            "'adversarial-bench[transformers]'"
        )


def _library() -> Any:
    import transformers

    return transformers


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without progress bars and reports of what was loaded: what is wrong with it is told in one line here."""
    logging = _library().utils.logging
    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()
