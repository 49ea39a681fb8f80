"""Content-addressed files: safetensors and JSON, written beside and moved into place, never pickled.

torch and safetensors are imported where tensors are: planning only asks what exists.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness.errors import BenchError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

T = TypeVar("T")
Tensors = dict[str, "Tensor"]


class Artifacts:
    """A folder of finished steps, ``ROOT/KIND/KEY/``, and of checkpoints of unfinished ones.

    Raises BenchError when the folder cannot be written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            root.mkdir(parents=True, exist_ok=True)
            probe = root / f".write-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise BenchError(
                f"--artifacts {root}: cannot be written ({error.strerror}); name another folder"
            ) from error

    def folder(self, kind: str, key: str) -> Path:
        return self.root / kind / key

    def has(self, kind: str, key: str) -> bool:
        return (self.folder(kind, key) / "step.json").exists()

    def record(self, kind: str, key: str) -> dict[str, Any] | None:
        """What a finished step says of itself, without its tensors; None where there is none that can be read."""
        try:
            found: dict[str, Any] = json.loads((self.folder(kind, key) / "step.json").read_text())
        except (OSError, ValueError):
            return None
        return found

    def save(self, kind: str, key: str, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """A finished step: weights and record appear together or not at all."""
        from safetensors.torch import save_file

        self._put(kind, key, record, partial(save_file, _plain(tensors)))

    def save_arrays(self, kind: str, key: str, arrays: Mapping[str, NDArray[Any]], record: Mapping[str, Any]) -> None:
        """The same for a step that makes numpy arrays; needs no torch."""
        from safetensors.numpy import save_file

        self._put(kind, key, record, partial(save_file, dict(arrays)))

    def _put(self, kind: str, key: str, record: Mapping[str, Any], write: Callable[[Path], object]) -> None:
        folder = self.folder(kind, key)
        beside = folder.with_name(f"{folder.name}.tmp-{os.getpid()}")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        weights = beside / "weights.safetensors"
        write(weights)
        document = {**record, "sha256": {weights.name: _sha256(weights)}}
        (beside / "step.json").write_text(json.dumps(document, indent=1, allow_nan=False))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(beside, folder)

    def load(self, kind: str, key: str) -> tuple[Tensors, dict[str, Any]] | None:
        """A finished step, or None where there is none or its bytes are not what was written."""
        return self._get(kind, key, lambda path: read_tensors(path)[0])

    def load_arrays(self, kind: str, key: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """The same for what ``save_arrays`` wrote; needs no torch."""
        from safetensors.numpy import load

        return self._get(kind, key, lambda path: load(path.read_bytes()))

    def _get(self, kind: str, key: str, read: Callable[[Path], T]) -> tuple[T, dict[str, Any]] | None:
        from safetensors import SafetensorError

        folder = self.folder(kind, key)
        try:
            record = json.loads((folder / "step.json").read_text())
            weights = folder / "weights.safetensors"
            if _sha256(weights) != record["sha256"][weights.name]:
                return None
            return read(weights), record
        except (OSError, ValueError, KeyError, TypeError, BenchError, SafetensorError):
            return None

    def forget(self, kind: str, key: str) -> None:
        shutil.rmtree(self.folder(kind, key), ignore_errors=True)
        self.checkpoint(key).unlink(missing_ok=True)

    def checkpoint(self, key: str) -> Path:
        return self.root / "checkpoints" / f"{key}.safetensors"

    @contextlib.contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """Holds a lock on one step, so that two runs never train the same thing at once. Released when killed."""
        import filelock

        path = self.root / "locks" / key
        path.parent.mkdir(exist_ok=True)
        with filelock.FileLock(path):
            yield


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Tensors and JSON facts in one file, replaced in one move: a kill leaves the old one or the new one."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(f".tmp-{os.getpid()}")
    save_file(_plain(tensors), beside, metadata={"facts": json.dumps(facts)})
    os.replace(beside, path)


def read_checkpoint(path: Path) -> tuple[Tensors, dict[str, Any]] | None:
    """What ``write_checkpoint`` wrote, or None where there is nothing readable."""
    if not path.exists():
        return None
    try:
        tensors, metadata = read_tensors(path)
        return tensors, json.loads(metadata["facts"])
    except (BenchError, KeyError, ValueError):
        return None


def read_tensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    """All tensors and the metadata of a safetensors file. Raises BenchError for one that is not whole."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            # Cloned because the file is memory-mapped, and it may be replaced while the tensors live.
            return {name: file.get_tensor(name).clone() for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise BenchError(
            f"weights {path}: not a whole safetensors file ({error}); fetch or convert it again"
        ) from error


def _plain(tensors: Mapping[str, Tensor]) -> Tensors:
    return {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in tensors.items()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_of(module: nn.Module) -> Tensors:
    """The module's parameters and buffers by name, detached copies on the CPU."""
    return _plain(module.state_dict())
