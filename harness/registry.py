"""Finding components: names without importing anything, and one import for the one that is asked for."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass, is_dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from harness.errors import BenchError, unknown
from harness.types import KINDS

BUILT_IN = "adversarial-bench"


@dataclass(frozen=True)
class Found:
    """One component as its distribution announces it; nothing is imported yet."""

    kind: str
    name: str
    entry_point: EntryPoint
    distribution: str
    version: str

    @property
    def built_in(self) -> bool:
        return self.distribution == BUILT_IN


@functools.cache
def discover() -> dict[tuple[str, str], tuple[Found, ...]]:
    """Every announced component by kind and name. The first of each is the one that counts; built-ins come first."""
    found: dict[tuple[str, str], dict[str, Found]] = {}
    distributions: dict[
        int, tuple[str, str]
    ] = {}  # a name costs a parsed metadata file: one for each, not one a plugin
    groups = entry_points()
    for kind in KINDS:
        for entry in groups.select(group=f"bench.{kind}"):
            same = found.setdefault((kind, entry.name), {})
            if id(entry.dist) not in distributions:
                distributions[id(entry.dist)] = (
                    (entry.dist.name, entry.dist.version) if entry.dist else ("unknown", "0")
                )
            same.setdefault(entry.value, Found(kind, entry.name, entry, *distributions[id(entry.dist)]))
    return {
        key: tuple(sorted(same.values(), key=lambda f: (not f.built_in, f.distribution))) for key, same in found.items()
    }


def names(kind: str) -> list[str]:
    """The names of all components of a kind. Imports no plugin."""
    return sorted(name for found_kind, name in discover() if found_kind == kind)


def clashes() -> list[str]:
    """One sentence for each name that more than one distribution announces."""
    return [
        f"{kind}: {name!r} is that of {same[0].distribution}, not of {', '.join(f.distribution for f in same[1:])}"
        for (kind, name), same in discover().items()
        if len(same) > 1
    ]


def find(kind: str, name: str) -> Found:
    """The announcement of a component. Raises BenchError with the nearest names."""
    if (kind, name) not in discover():
        raise unknown(f"component of {kind}", name, names(kind))
    return discover()[kind, name][0]


def load(kind: str, name: str) -> type[Any]:
    """The component's class: exactly one plugin module is imported. Raises BenchError for a broken plugin."""
    found = find(kind, name)
    try:
        component = found.entry_point.load()
    except Exception as error:
        raise BenchError(
            f"plugin {name!r} ({kind}, from {found.distribution} {found.version}) cannot be imported: "
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
        ) from error
    _check(found, component)
    return component


def bind(kind: str, component: object) -> Any:
    """The component's hooks, checked by pluggy against ``hookspecs``: call them by name and keyword.

    Raises BenchError naming the hook for one that is misspelt or takes an unknown argument.
    """
    import pluggy

    from harness import hookspecs

    manager = pluggy.PluginManager("bench")
    manager.add_hookspecs(hookspecs.SPECS[kind])
    try:
        manager.register(component, name=type(component).__name__)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        reason = " ".join(str(error).split())
        raise BenchError(f"plugin {type(component).__name__} ({kind}) breaks the boundary: {reason}") from error
    return manager.hook


def offers(hooks: Any, name: str) -> bool:
    """Whether a bound component gives this hook."""
    return bool(getattr(hooks, name).get_hookimpls())


def takes(hooks: Any, name: str, argument: str) -> bool:
    """Whether a bound component's hook asks for this argument."""
    return any(argument in impl.argnames for impl in getattr(hooks, name).get_hookimpls())


def _check(found: Found, component: object) -> None:
    where = f"plugin {found.name!r} ({found.kind}, from {found.distribution})"
    if not (inspect.isclass(component) and is_dataclass(component)):
        raise BenchError(f"{where}: {found.entry_point.value} is {component!r}; a frozen dataclass is needed")
    if not component.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise BenchError(f"{where}: the dataclass must be frozen, for its fields are part of the content key")
    if found.kind == "attacks" and not isinstance(getattr(component, "norms", None), tuple):
        raise BenchError(f"{where}: norms is missing; a tuple of the norms supported is needed, empty for none")
