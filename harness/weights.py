"""Putting weights from elsewhere into a module, or saying in one line why they do not fit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.artifacts import read_tensors
from harness.errors import BenchError

if TYPE_CHECKING:
    from torch import Tensor, nn

SAVED_BY_TORCH = (".pt", ".pth", ".bin", ".ckpt", ".tar")
INSIDE = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model", "net", "network")
"""Where training scripts put the weights in what they save, in the order of preference: timm's and more."""

REMEDY = "save the model's state_dict() as a safetensors file"


def read(path: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a state_dict that torch.save wrote, alone or in a checkpoint.

    Which of the two a file is, its first bytes tell. Of the latter nothing is unpickled but tensors, numbers and
    records of options, so no code in it is run. Raises BenchError for a missing or truncated file, and for one that
    holds more.
    """
    if not Path(path).is_file():
        raise BenchError(f"weights {path}: no such file; give the path of a safetensors file")
    return _unpickled(path) if _is_torchs(Path(path)) else read_tensors(Path(path))[0]


def _is_torchs(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:] == b"{":  # where safetensors begins its header
        return False
    return head.startswith((b"PK", b"\x80")) or path.suffix in SAVED_BY_TORCH


def _unpickled(path: str) -> dict[str, Tensor]:
    import warnings

    import torch

    try:
        with torch.serialization.safe_globals(_harmless()), warnings.catch_warnings(action="ignore"):
            found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged pickle any
        raise BenchError(f"weights {path}: {_reason(error)}; {REMEDY}") from error
    tensors = _state(found)
    if tensors is None:
        has = f"; it holds {', '.join(map(str, found))[:200]}" if isinstance(found, Mapping) and found else ""
        raise BenchError(f"weights {path}: no state_dict{has}; {REMEDY}")
    return {str(name): tensor for name, tensor in tensors.items()}


def _harmless() -> list[Any]:
    """What checkpoints hold beside tensors and is data alone: options, and the numbers of NumPy."""
    import argparse

    import numpy as np

    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in (*np.typecodes["AllInteger"], *np.typecodes["Float"], "?")]
    return [argparse.Namespace, np.dtype, *kinds, scalar, (scalar, "numpy.core.multiarray.scalar")]


def _reason(error: Exception) -> str:
    if "TorchScript" in str(error):
        return "a TorchScript archive, which is code"
    if named := re.search(r"GLOBAL (\S+)", str(error)):
        return f"more in it than tensors: {named[1]}, and code is not run"
    return f"damaged, or more in it than tensors ({type(error).__name__})"


def _state(found: Any) -> Mapping[Any, Tensor] | None:
    """The weights in what was saved: it, or what it has under a usual name, or the only weights that it has."""
    import torch

    if not isinstance(found, Mapping):
        return None
    if found and all(isinstance(value, torch.Tensor) for value in found.values()):
        return found
    inside = next((found[key] for key in INSIDE if isinstance(found.get(key), Mapping)), None)
    if inside is not None:
        return _state(inside)
    states = [state for value in found.values() if (state := _state(value)) is not None]
    return states[0] if len(states) == 1 else None


def matched(tensors: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """The tensors under a network's own ``names``, where what wrapped it put something before all of them.

    ``module.`` of DataParallel, ``_orig_mod.`` of torch.compile, ``model.`` of Lightning, or any other.
    """
    own = set(names)
    if not own.isdisjoint(tensors):
        return dict(tensors)
    before = Counter(
        name[:place]
        for name in tensors
        for place in range(1, len(name))
        if name[place - 1] == "." and name[place:] in own
    )
    prefix = before.most_common(1)[0][0] if before else ""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def transfer(module: nn.Module, tensors: Mapping[str, Tensor], classes: int, where: str) -> list[str]:
    """Copies tensors by name into ``module``; returns the names left as they were initialised.

    Only the classifier may differ: a tensor whose first dimension is the number of classes here and something else
    there. Anything else missing, of another shape, or left over raises BenchError naming it.
    """
    own = module.state_dict()
    tensors = matched(tensors, own)
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
