"""Objects of code as components and configurations, which the plan and the executor take like any other."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import boundary, registry
from harness.api import fingerprint
from harness.errors import BenchError
from harness.hookspecs import NOT_IN_KEY, hookimpl
from harness.layers import Table
from harness.recipe import Recipe
from harness.request import AttackConfig, Configured, DefenseConfig, ModelConfig
from harness.single_file import snake_case
from harness.types import Facts, Split, eps_text

if TYPE_CHECKING:
    from torch import nn

    from harness.api.samples import Given

BY_CODE = "by code"
"""The distribution of what is handed over as an object."""
MAKERS: Mapping[str, Any] = {"attacks": AttackConfig, "defenses": DefenseConfig, "metrics": Configured}


@dataclass(frozen=True)
class GivenModel:
    """A torch module as it is. state, structure: digests of its tensors, and of its parts with their code."""

    state: str
    structure: str
    module: Any = field(repr=False, compare=False, metadata=NOT_IN_KEY)

    @hookimpl
    def build(self) -> nn.Module:
        return copied(self.module)


@dataclass(frozen=True)
class GivenData:
    """Images in memory. digest: of their bytes, labels and ids."""

    digest: str
    classes: tuple[str, ...]
    splits: Any = field(repr=False, compare=False, metadata=NOT_IN_KEY)

    @hookimpl
    def facts(self) -> Facts:
        test = self.splits["test"].images
        channels, height, width = test.shape[1:]
        sizes = {name: len(split.labels) for name, split in self.splits.items()}
        return Facts(
            (channels, height, width), self.classes, sizes, "none", "none", "the caller", pixels=str(test.dtype)
        )

    @hookimpl
    def locate(self) -> Sequence[Path]:
        return []  # nothing lies in files: the digest tells what it is

    @hookimpl
    def load(self) -> Mapping[str, Split]:
        return dict(self.splits)


def model(label: str, module: nn.Module, dataset: str) -> ModelConfig:
    """A module under a name, with the weights that it has; nothing is trained but by a defense."""
    told = {"state": fingerprint.of_state(module), "structure": fingerprint.of_structure(module)}
    component = GivenModel(**told, module=module)
    recipe = Recipe(epochs=0)
    return ModelConfig("models", label, "module", BY_CODE, "1", component, told, dataset=dataset, recipe=recipe)


def data(label: str, given: Given, classes: Sequence[str]) -> Configured:
    """Images in memory under a name."""
    arrays = [array for split in given.splits.values() for array in split]
    told = {"digest": fingerprint.of_arrays(*arrays), "classes": tuple(classes)}
    component = GivenData(**told, splits=given.splits)  # type: ignore[arg-type]
    return Configured("datasets", label, "arrays", BY_CODE, "1", component, told)


def names(kind: str, items: Any, tables: Table) -> list[str]:
    """The names under which items are asked for; what a name alone does not say is written into ``tables``.

    An item is a name as on the command line, a pair (name, parameters), or a component; with a mapping its keys are the
    names, and a list of attacks under a name is their ensemble. Raises BenchError for anything else.
    """
    if isinstance(items, str):
        items = [name.strip() for name in items.split(",") if name.strip()]
    if is_pair(items) or not isinstance(items, Mapping | Iterable):
        items = [items]
    pairs = items.items() if isinstance(items, Mapping) else ((None, item) for item in items)
    table = tables.setdefault(kind, {})
    found = [
        _ensemble(label, item, tables)
        if kind == "attacks" and label is not None and isinstance(item, list)
        else _name(kind, label, item, table)
        for label, item in pairs
    ]
    if not found:
        raise BenchError(f"{kind}: none given; one or more names, pairs (name, parameters) or components are needed")
    return found


def _ensemble(label: str, members: list[Any], tables: Table) -> str:
    """Attacks one after the other under one name, each on what still stands."""
    tables["attacks"][label] = {"members": names("attacks", members, tables)}
    return label


def _name(kind: str, label: str | None, item: Any, table: Table) -> str:
    if isinstance(item, str):
        if label is None or label == item:
            return item
        item = (item, {})
    if is_pair(item):
        base, parameters = item
        if label is None and not parameters:
            return base
        label = label or f"{base}({', '.join(_texts(parameters))})"
        table[label] = {"like": base, **parameters}
        return label
    if inspect.isclass(item) and is_dataclass(item):
        item = item()
    if not is_dataclass(item):
        raise BenchError(
            f"{kind}: got {type(item).__name__}; a name, a pair (name, parameters) or a component is needed, and a "
            "component is a frozen dataclass with hooks (docs/plugins.md)"
        )
    made = configured(kind, item, label)
    table[made.name] = made
    return made.name


def configured(kind: str, component: Any, label: str | None = None) -> Configured:
    """A component at hand under a name: its own as it is announced where it is, else its class's in snake case.

    Raises BenchError for what breaks the boundary.
    """
    announced = _announced(kind, type(component))
    name = announced.name if announced else getattr(type(component), "name", snake_case(type(component).__name__))
    known = announced or registry.Found(
        kind,
        name,
        EntryPoint(name, f"{type(component).__module__}:{type(component).__qualname__}", f"bench.{kind}"),
        BY_CODE,
        fingerprint.of_class(type(component))[:12],  # one that was edited is another one
    )
    boundary.check(known, type(component))
    boundary.bind(kind, component)
    own = fields(component)
    changed = {f.name: getattr(component, f.name) for f in own if not _is_default(f, getattr(component, f.name))}
    shown = f"{name}({', '.join(_texts(changed))})" if changed else name
    parameters = {f.name: getattr(component, f.name) for f in own}
    return MAKERS[kind](kind, label or shown, name, known.distribution, known.version, component, parameters)


def normalising(module: nn.Module, mean: Sequence[float] | None, std: Sequence[float] | None) -> nn.Module:
    """The module as one from pixels in [0, 1], where it wants (x - mean) / std; itself where neither is given."""
    if mean is None and std is None:
        return module
    if mean is None or std is None:
        raise BenchError(f"mean and std: got {'std' if mean is None else 'mean'} alone; both are needed")
    if len(mean) != len(std) or not all(value > 0 for value in std):
        raise BenchError(f"mean and std: got {list(mean)} and {list(std)}; one of each channel, std above 0, is needed")
    from harness.domain import Normalising

    return Normalising(module, mean, std)


def copied(module: nn.Module) -> nn.Module:
    """A copy that shares nothing with the module. Raises BenchError for one that cannot be copied."""
    from torch import Tensor

    kept: dict[int, Any] = {}
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, Tensor) and not value.is_leaf:  # what weight norm computes and copying refuses
                kept[id(value)] = value.detach().clone()
    try:
        return copy.deepcopy(module, kept)
    except Exception as error:  # foreign code
        reason = " ".join(str(error).split())[:200]
        raise BenchError(
            f"model: {type(module).__name__} cannot be copied ({type(error).__name__}: {reason}); what is attacked is "
            "a copy, so that yours stays as it is: keep out of the module what copy.deepcopy refuses"
        ) from error


def is_pair(item: Any) -> bool:
    """Whether this is a name with parameters."""
    return isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str) and isinstance(item[1], Mapping)


def _announced(kind: str, component: type) -> registry.Found | None:
    """Where a class is a plugin's, that plugin, so that results are shared with those asked for by name."""
    value = f"{component.__module__}:{component.__qualname__}"
    for found_kind, name in registry.discover():
        if found_kind == kind and registry.find(kind, name).entry_point.value == value:
            return registry.find(kind, name)
    return None


def _is_default(one: Any, value: Any) -> bool:
    made = one.default_factory() if one.default_factory is not MISSING else one.default
    return made is not MISSING and bool(made == value)


def _texts(parameters: Mapping[str, Any], above: str = "") -> Iterable[str]:
    for name, value in parameters.items():
        if isinstance(value, Mapping):
            yield from _texts(value, f"{above}{name}.")
        else:
            yield f"{above}{name}={eps_text(value) if isinstance(value, float) else value}"
