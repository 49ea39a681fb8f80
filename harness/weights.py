"""Putting weights from elsewhere into a module, or saying in one line why they do not fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.artifacts import read_tensors
from harness.errors import BenchError

if TYPE_CHECKING:
    from torch import Tensor, nn

SAVED_BY_TORCH = (".pt", ".pth", ".bin")
INSIDE = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Where training scripts put the weights in what they save, in the order of preference; timm's."""


def read(path: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a state_dict written by torch.save (.pt, .pth, .bin).

    Of the latter nothing but tensors is unpickled, so no code in it is run. Raises BenchError for a missing or
    truncated file, and for one that holds more than tensors.
    """
    if not Path(path).is_file():
        raise BenchError(f"weights {path}: no such file; give the path of a safetensors file")
    return _unpickled(path) if Path(path).suffix in SAVED_BY_TORCH else read_tensors(Path(path))[0]


def _unpickled(path: str) -> dict[str, Tensor]:
    import pickle

    import torch

    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise BenchError(
            f"weights {path}: damaged, or more in it than tensors ({type(error).__name__}); save the model's "
            "state_dict() as a safetensors file"
        ) from error
    if isinstance(found, Mapping):
        found = next((found[key] for key in INSIDE if isinstance(found.get(key), Mapping)), found)
    if not isinstance(found, Mapping) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise BenchError(f"weights {path}: no state_dict; save the model's state_dict() as a safetensors file")
    return {str(name).removeprefix("module."): tensor for name, tensor in found.items()}  # DataParallel's prefix


def transfer(module: nn.Module, tensors: Mapping[str, Tensor], classes: int, where: str) -> list[str]:
    """Copies tensors by name into ``module``; returns the names left as they were initialised.

    Only the classifier may differ: a tensor whose first dimension is the number of classes here and something else
    there. Anything else missing, of another shape, or left over raises BenchError naming it.
    """
    own = module.state_dict()
    fitting = {name: t for name, t in tensors.items() if name in own and t.shape == own[name].shape}
    left = [name for name in own if name not in fitting]
    for name in left:
        head = own[name].ndim > 0 and own[name].shape[0] == classes
        got = tuple(tensors[name].shape) if name in tensors else "nothing"
        same_rest = name in tensors and tensors[name].shape[1:] == own[name].shape[1:]
        if not (head and same_rest):
            raise BenchError(
                f"{where}: {name} needs shape {tuple(own[name].shape)}, got {got}; the same architecture is needed"
            )
    if over := [name for name in tensors if name not in own]:
        # The blocks of a deeper network of the same kind would else be dropped without a word.
        raise BenchError(f"{where}: has {over[0]}, which is not here; the same architecture is needed")
    module.load_state_dict(fitting, strict=False)
    return left
