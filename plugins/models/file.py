"""A network from a Python file of one's own."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import BenchError, unknown
from harness.hookspecs import NOT_IN_KEY, hookimpl
from harness.types import Preparation
from plugins.figures import check_figures, described

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class File:
    """What a function of a Python file returns: a torch module from pixels (N, C, H, W) in [0, 1] to logits (N, K).

    file: path of the file, alone or as FILE.py:FUNCTION. function: a function or class in it. Of the arguments
    classes (K), channels (C), size (H, or (H, W) where they differ) and shape (C, H, W) it is given those that it
    names. weights: a state_dict to begin with, safetensors or written by torch.save, in the names of what it returns.
    mean, std: a figure for each channel, where it wants normalised images. image_size: what it wants images resized to
    (bilinear, the whole image). pretrained: the function loads weights itself, so that it is not trained unless that
    is asked for.

    The file's bytes, those of the Python files beside it that it imports, and those of the weights are in the content
    key; what else the function reads is not.
    """

    file: str = field(default="", metadata=NOT_IN_KEY)
    function: str = "build"
    weights: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    image_size: int | None = None
    pretrained: bool = False

    def __post_init__(self) -> None:
        path, colon, function = self.file.rpartition(":")
        if colon and function.isidentifier():
            object.__setattr__(self, "file", path)
            object.__setattr__(self, "function", function)
        check_figures(self.mean, self.std)
        if self.image_size is not None and self.image_size < 1:
            raise ValueError(f"image_size: got {self.image_size}; at least 1 pixel is needed")

    @hookimpl
    def sources(self) -> Sequence[Path]:
        return _with_neighbours(self._path())

    @hookimpl
    def build(self, preparation: Preparation) -> nn.Module:
        from harness.weights import read, transfer
        from plugins.networks import Normalised, of_channels, tried

        facts = preparation.facts
        channels, classes = facts.shape[0], len(facts.classes)
        network, new = self._made(facts.shape, classes), []
        if self.weights and not preparation.outline:
            new = transfer(network, read(self.weights), classes, f"{self._name}: weights {self.weights}")
        size = (self.image_size, self.image_size) if self.image_size else None
        mean = of_channels(self._name, self.mean or (0.0,), channels)
        std = of_channels(self._name, self.std or (1.0,), channels)
        module = Normalised(network, mean, std, size)
        module.new = tuple(new)
        return tried(module, self._name, facts.shape, classes, "set image_size to what it is made for, or mend it")

    def describe(self) -> list[tuple[str, str]]:
        size = (self.image_size, self.image_size) if self.image_size else None
        return described(self.mean or (0.0,), self.std or (1.0,), size, None)

    @property
    def _name(self) -> str:
        return f"{self.file}:{self.function}"

    def _path(self) -> Path:
        path = Path(self.file).expanduser()
        if not self.file or not path.is_file():
            raise BenchError(
                f"model file:{self.file}: no such file; FILE.py:FUNCTION is needed, for example ./net.py:build"
            )
        return path

    def _made(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        from torch import nn

        path = self._path()
        with _importing_from(path.absolute().parent):
            function = self._function(path)
            size = shape[1] if shape[1] == shape[2] else shape[1:]
            offered = {"classes": classes, "channels": shape[0], "size": size, "shape": shape}
            try:
                named = inspect.signature(function).parameters
                made = function(**{name: value for name, value in offered.items() if name in named})
            except Exception as error:  # foreign code, which has errors of every type
                raise BenchError(f"model {self._name}: {_line_of(error, path)}") from error
        if not isinstance(made, nn.Module):
            raise BenchError(f"model {self._name}: returned {type(made).__name__}; a torch.nn.Module is needed")
        return made

    def _function(self, path: Path) -> Any:
        name = f"bench_file_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise BenchError(f"model {self._name}: not a Python file; a name that ends in .py is needed")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses and pickle look their module up
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise BenchError(f"model {self._name}: cannot be imported: {_line_of(error, path)}") from error
        found = getattr(module, self.function, None)
        if not callable(found):
            own = [n for n, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == name]
            raise unknown(f"model {path}: function", self.function, own)
        return found


def _line_of(error: Exception, path: Path) -> str:
    """What went wrong, and in which line of the file."""
    from plugins.networks import one_line

    trace, line = error.__traceback__, getattr(error, "lineno", None)
    while trace:
        if Path(trace.tb_frame.f_code.co_filename) == path.absolute():
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{type(error).__name__}: {one_line(error)}" + (f" (line {line})" if line else "")


@contextlib.contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """With the files of a folder importable, and forgotten afterwards: another folder may have the same names."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            module = sys.modules[name]
            places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
            if any(place and folder in Path(place).parents for place in places):
                del sys.modules[name]


def _with_neighbours(path: Path) -> list[Path]:
    """A file and those beside it that it imports, and that these import; found without running any of it."""
    found, waiting, folder = [path], [path], path.parent
    while waiting:
        for name in _imported(waiting.pop()):
            parts = name.split(".")
            places = [folder.joinpath(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)]
            places += [folder.joinpath(*parts[:depth]).with_suffix(".py") for depth in range(1, len(parts) + 1)]
            new = [place for place in places if place.is_file() and place not in found]
            found += new
            waiting += new
    return found


def _imported(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        raise BenchError(f"model file {path}: {error}") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # Relative ones of a package are looked for from the folder too: its own files are in the key then.
            module = node.module or ""
            yield from (".".join(filter(None, (module, alias.name))) for alias in node.names)
