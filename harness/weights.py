"""Putting weights from elsewhere into a module, or saying in one line why they do not fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.artifacts import read_tensors
from harness.errors import BenchError

if TYPE_CHECKING:
    from torch import Tensor, nn


def read(path: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises BenchError for a missing or truncated one."""
    if not Path(path).is_file():
        raise BenchError(f"weights {path}: no such file; give the path of a safetensors file")
    return read_tensors(Path(path))[0]


def transfer(module: nn.Module, tensors: Mapping[str, Tensor], classes: int, where: str) -> list[str]:
    """Copies tensors by name into ``module``; returns the names left as they were initialised.

    Only the classifier may differ: a tensor whose first dimension is the number of classes here and something else
    there. Anything else missing or of another shape raises BenchError naming it.
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
    module.load_state_dict(fitting, strict=False)
    return left
