"""How many parameters a module has, group by group of its layers. Needs no values: a module of torch's meta device will
do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

LEVELS = 3
ROWS = 32


@dataclass(frozen=True)
class Group:
    """Parameters below one name. ``level``: 0 for parts of the whole, 1 for parts of those, and so on.

    kind: the class of the layer, with how many of them where the name stands for several alike in a row ("0-11").
    """

    name: str
    kind: str
    level: int
    count: int
    trainable: int


@dataclass(frozen=True)
class _Part:
    """Modules alike that are counted as one, or a single parameter, which has none."""

    name: str
    kind: str
    level: int
    parameters: tuple[nn.Parameter, ...]
    modules: tuple[nn.Module, ...] = ()

    @property
    def trainable(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters if parameter.requires_grad)


def groups(module: nn.Module, levels: int = LEVELS, rows: int = ROWS) -> list[Group]:
    """Every parameter in exactly one group of level 0; a shared one in the group where it comes first.

    The next level, of at most ``levels``, is told of all groups or of none, as long as there are at most ``rows`` in
    all. Layers that only hand on to another one are left out, and what is frozen is not taken apart.
    """
    parts = list(_parts((module,), 0, {id(parameter) for parameter in module.parameters()}))
    for level in range(levels - 1):
        opened: list[_Part] = []
        for part in parts:
            opened.append(part)
            if part.level == level and part.trainable and part.modules:
                opened += _parts(part.modules, level + 1, {id(parameter) for parameter in part.parameters})
        if len(opened) > rows or len(opened) == len(parts):
            break
        parts = opened
    return [
        Group(part.name, part.kind, part.level, sum(p.numel() for p in part.parameters), part.trainable)
        for part in parts
    ]


def _parts(modules: Sequence[nn.Module], level: int, left: set[int]) -> Iterator[_Part]:
    """What modules alike consist of: their own parameters, then their layers, those of one name taken together.

    left: which parameters are not counted yet, by ``id``; those that are leave it.
    """
    while inner := _handed_on(modules):
        modules = inner
    children = [name for name, child in modules[0].named_children() if _has_any(child)]
    if level and not children:
        return  # a single layer, whose weight and bias are told as one
    for name, _ in modules[0].named_parameters(recurse=False):
        own = [dict(m.named_parameters(recurse=False))[name] for m in modules]
        found = _new(own, left)
        if found:
            yield _Part(name, "Parameter", level, found)
    for _, names in groupby(_numbered(modules[0], children), key=lambda pair: pair[0]):
        same = [name for _, name in names]
        layers = tuple(m.get_submodule(name) for m in modules for name in same)
        found = _new([parameter for layer in layers for parameter in layer.parameters()], left)
        if found:
            kind = type(layers[0]).__name__ + (f" x {len(layers)}" if len(layers) > 1 else "")
            yield _Part(same[0] + (f"-{_number(same[-1])}" if len(same) > 1 else ""), kind, level, found, layers)


def _handed_on(modules: Sequence[nn.Module]) -> tuple[nn.Module, ...]:
    """The one layer of each that has all its parameters; nothing where there is no such one."""
    inner = []
    for module in modules:
        children = [child for child in module.children() if _has_any(child)]
        if len(children) != 1 or next(module.parameters(recurse=False), None) is not None:
            return ()
        inner.append(children[0])
    return tuple(inner)


def _numbered(module: nn.Module, names: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Names with the number of their run: those of layers alike in a row that are called by successive numbers."""
    run = 0
    yield from ((run, name) for name in names[:1])
    for before, name in pairwise(names):
        number = _number(before)
        successive = number and name == f"{before.removesuffix(number)}{int(number) + 1}"
        if not (successive and _shape(module.get_submodule(before)) == _shape(module.get_submodule(name))):
            run += 1
        yield run, name


def _number(name: str) -> str:
    """The digits that a name ends in."""
    return name[len(name.rstrip("0123456789")) :]


def _has_any(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _shape(module: nn.Module) -> tuple[object, ...]:
    return (type(module), *((name, p.shape, p.requires_grad) for name, p in module.named_parameters()))


def _new(parameters: Sequence[nn.Parameter], left: set[int]) -> tuple[nn.Parameter, ...]:
    """Those of them that are left, each once, taken away from there."""
    found = []
    for parameter in parameters:
        if id(parameter) in left:
            left.remove(id(parameter))
            found.append(parameter)
    return tuple(found)
