"""What models of the transformers library have in common: their files, and weights that are put into a network."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import BenchError
from plugins.image_processors import PROCESSORS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from plugins.networks import Normalised

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
WEIGHTS = ("model.safetensors", INDEX, "pytorch_model.bin")
HERE = {"local_files_only": True, "trust_remote_code": False}


def check_installed(component: str, extra: str = "transformers") -> None:
    if importlib.util.find_spec("transformers") is None:
        raise BenchError(
            f"model {component}: the package transformers is not installed; pip install 'adversarial-bench[{extra}]'"
        )


def library() -> Any:
    import transformers

    return transformers


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without progress bars and reports of what was loaded: what is wrong with it is told in one line here."""
    logging = library().utils.logging
    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def order(names: Mapping[int, str], classes: Sequence[str]) -> list[int] | None:
    """Which output stands for each class of the data, by the names that a configuration gives its outputs.

    None where they stand in the data's order, and where the names do not tell: each class must be the name of one
    output, or one of its names between commas, whatever the case, blanks and underscores.
    """
    known = [(place, {_plain(part) for part in (name, *name.split(","))}) for place, name in sorted(names.items())]
    found = [[place for place, called in known if _plain(name) in called] for name in classes]
    places = [places[0] for places in found if len(places) == 1]
    if len(known) != len(classes) or sorted(places) != list(range(len(classes))) or places == sorted(places):
        return None
    return places


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").casefold().split())


# --- files


def local(weights: Path) -> list[Path]:
    """The files of a folder that ``save_pretrained`` made: config.json first, the weights last."""
    folder = weights.parent
    if not (folder / CONFIG).is_file():
        raise BenchError(f"model {weights}: no {CONFIG} beside it; the folder that save_pretrained writes is needed")
    beside = [folder / CONFIG, *(folder / name for name in PROCESSORS if (folder / name).is_file())]
    parts = [folder / name for name in _parts(weights)] if weights.suffix == ".json" else []
    if missing := [part for part in parts if not part.is_file()]:
        raise BenchError(f"model {weights}: names {missing[0]}, which is not there; copy it there")
    return [*beside, *parts, weights]


def from_hub(name: str, advice: str, *, fill: bool) -> list[Path]:
    """The same of a repository of the hub; not to ``fill`` a network, without the weights."""
    from plugins import hub

    if not fill:
        beside = (hub.optional(name, name, file, advice) for file in PROCESSORS)
        return [hub.huggingface(name, name, CONFIG, advice), *filter(None, beside)]
    found = next(filter(None, (hub.optional(name, name, file, advice) for file in WEIGHTS)), None)
    if found is None:
        raise BenchError(f"model {name}: its repository has none of {', '.join(WEIGHTS)}; choose another model")
    names = [CONFIG, *(_parts(found) if found.name == INDEX else [])]
    config, *parts = (hub.huggingface(name, name, file, advice) for file in names)
    beside = (hub.optional(name, name, file, advice) for file in PROCESSORS)
    return [config, *filter(None, beside), *parts, found]


def check_no_folder(architecture: str) -> None:
    """Raises BenchError for a folder that is given in the place of a name."""
    if Path(architecture).is_dir():
        raise BenchError(
            f"model {architecture}: a folder; set weights = {architecture.rstrip('/')}/model.safetensors "
            "and leave architecture out"
        )


def tensors(files: Sequence[Path]) -> dict[str, Tensor]:
    """Those of the weights, which are the last of the files or what that one is the index of."""
    from harness.weights import read

    index = files[-1].suffix == ".json"
    parts = [files[-1].parent / name for name in _parts(files[-1])] if index else [files[-1]]
    found = {name: tensor for part in parts for name, tensor in read(str(part)).items()}
    parallel = all(name.startswith("module.") for name in found)
    return {name.removeprefix("module."): tensor for name, tensor in found.items()} if parallel else found


def _parts(index: Path) -> list[str]:
    """The names of the files that hold the weights, from their index."""
    try:
        return sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise BenchError(f"model {index}: not an index of weights; fetch it again") from error


# --- networks


def filled(kind: Any, config: Any, files: Sequence[Path], model: str, new: Sequence[str] = ()) -> nn.Module:
    """A network of this class with the weights of the files, in single precision. new: tensors that they need not have.

    Raises BenchError for weights of another architecture.
    """
    from plugins.networks import one_line

    try:
        network, told = kind.from_pretrained(
            None, config=config, state_dict=tensors(files), ignore_mismatched_sizes=True, output_loading_info=True
        )
    except BenchError:
        raise
    except Exception as error:  # of a configuration that does not hold together, or of weights for another one
        raise BenchError(f"model {model}: cannot be built: {one_line(error)}") from error
    for name, *shapes in sorted(told["mismatched_keys"], key=str):
        if name not in new:
            there, here = (tuple(shape) for shape in shapes)
            raise BenchError(f"model {model}: {name} needs shape {here}, got {there}; the same architecture is needed")
    if missing := sorted(set(told["missing_keys"]) - set(new)):
        raise BenchError(f"model {model}: {missing[0]} is not among the weights; the same architecture is needed")
    filled_network: nn.Module = network.float()  # weights may be kept in half precision
    there_not = {name for name, *_ in told["mismatched_keys"]} | set(told["missing_keys"])
    filled_network.new = tuple(sorted(there_not))  # type: ignore[assignment]  # see plugins.networks.Normalised
    return filled_network


def check_channels(module: Normalised, model: str, channels: int) -> None:
    """Raises BenchError for images of neither one channel nor as many as the network takes."""
    if channels not in (1, module.mean.shape[1]):
        raise BenchError(
            f"model {model}: takes {module.mean.shape[1]} channels, the data has {channels}; choose a data "
            "set with as many or with one"
        )


def interpolation(network: nn.Module, stated: Any, size: tuple[int, int]) -> dict[str, Any]:
    """What a transformer is told that sees another size than the ``stated`` one of its position embeddings."""
    same = stated is None or size == ((stated, stated) if isinstance(stated, int) else tuple(stated))
    takes = "interpolate_pos_encoding" in inspect.signature(network.forward).parameters
    return {"interpolate_pos_encoding": True} if takes and not same else {}
