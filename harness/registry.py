"""Finding components: names without importing anything, and one import for the one that is asked for."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from harness.errors import BenchError, unknown
from harness.single_file import FileEntry, announced
from harness.types import KINDS

BUILT_IN = "adversarial-bench"
_plugged: dict[str, tuple[Path, ...]] = {}


@dataclass(frozen=True)
class Found:
    """One component as its distribution announces it; nothing is imported yet."""

    kind: str
    name: str
    entry_point: EntryPoint | FileEntry
    distribution: str
    version: str

    @property
    def built_in(self) -> bool:
        return self.distribution == BUILT_IN


def plug(origin: str, paths: Sequence[str | Path]) -> None:
    """Has the components of these Python files stand beside those of packages. ``origin``: who names the files.

    The files replace those that the same origin named before. Raises BenchError for a file that announces nothing, and
    for a name that is taken: a file never stands in for something else.
    """
    files = tuple(dict.fromkeys(Path(path).resolve() for path in paths))  # whatever the current folder is later
    if files or _plugged.get(origin):
        before = _plugged.get(origin, ())
        _plugged[origin] = files
        discover.cache_clear()  # also where the files are the same: they may have been edited
        try:
            discover()
        except BenchError:
            _plugged[origin] = before
            raise


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
    for own in _of_files():
        taken = found.setdefault((own.kind, own.name), {})
        if taken:
            other = next(iter(taken.values()))
            raise BenchError(
                f"plugin file {own.entry_point.value}: {own.kind} {own.name!r} is that of {other.distribution}; say "
                f'another by a line in the class: name: ClassVar[str] = "my_{own.name}"'
            )
        taken[own.entry_point.value] = own
    return {
        key: tuple(sorted(same.values(), key=lambda f: (not f.built_in, f.distribution))) for key, same in found.items()
    }


def _of_files() -> list[Found]:
    paths = dict.fromkeys(path for paths in _plugged.values() for path in paths)
    return [
        Found(entry.kind, entry.name, entry, path.name, entry.digest) for path in paths for entry in announced(path)
    ]


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
    check(found, component)
    return component


def bind(kind: str, component: object) -> Any:
    """The component's hooks, checked by pluggy against ``hookspecs``: call them by name and keyword.

    Raises BenchError naming the hook for one that is misspelt, takes an unknown argument, or is missing.
    """
    import pluggy

    from harness import hookspecs

    manager = pluggy.PluginManager("bench")
    manager.add_hookspecs(hookspecs.SPECS[kind])
    try:
        manager.register(component, name=type(component).__name__)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        reason = _misfit(kind, component) or " ".join(str(error).split())
        raise BenchError(f"plugin {type(component).__name__} ({kind}) breaks the boundary: {reason}") from error
    missing = _missing(kind, manager.hook)
    if missing:
        unmarked = [name for name in vars(hookspecs.SPECS[kind]) if callable(vars(type(component)).get(name))]
        unmarked = [name for name in unmarked if not name.startswith("_") and not offers(manager.hook, name)]
        hint = f"; its {unmarked[0]} is not marked @hookimpl" if unmarked else ""
        raise BenchError(f"plugin {type(component).__name__} ({kind}) breaks the boundary: {missing}{hint}")
    return manager.hook


def _missing(kind: str, hooks: Any) -> str:
    """What a component would have to give beside what it gives; empty where that is enough."""
    from harness.hookspecs import NEEDED

    ways = NEEDED[kind]
    whole = [way for way in ways if all(offers(hooks, name) for name in way)]
    if len(whole) > 1:
        return f"gives both {' and '.join(' with '.join(way) for way in whole)}; one of them is needed"
    lacking = [", ".join(expected(kind, name) for name in way if not offers(hooks, name)) for way in ways]
    return "" if whole else f"lacks {'; or else '.join(lacking)}"


def _misfit(kind: str, component: object) -> str:
    """Which marked method pluggy refuses, with what is found and what is expected; empty where none is seen."""
    from harness.hookspecs import SPECS

    known = [name for name in vars(SPECS[kind]) if not name.startswith("_")]
    for name, method in inspect.getmembers(type(component), lambda part: hasattr(part, "bench_impl")):
        if name not in known:
            return f"found {written(method)}; {unknown('hook', name, known)}"
        allowed = inspect.signature(getattr(SPECS[kind], name)).parameters
        wrong = [argument for argument in inspect.signature(method).parameters if argument not in allowed]
        if wrong:
            return f"found {written(method)}, where {wrong[0]!r} is unknown; expected {expected(kind, name)}, or less"
    return ""


def expected(kind: str, hook: str) -> str:
    """A hook as a plugin may write it at most: ``perturb(self, problem, batch, threat, random)``."""
    from harness.hookspecs import SPECS

    return written(getattr(SPECS[kind], hook))


def written(method: Any) -> str:
    """A method's name and the names of its arguments."""
    return f"{method.__name__}({', '.join(inspect.signature(method).parameters)})"


def offers(hooks: Any, name: str) -> bool:
    """Whether a bound component gives this hook."""
    return bool(getattr(hooks, name).get_hookimpls())


def takes(hooks: Any, name: str, argument: str) -> bool:
    """Whether a bound component's hook asks for this argument."""
    return any(argument in impl.argnames for impl in getattr(hooks, name).get_hookimpls())


def check(found: Found, component: object) -> None:
    """Raises BenchError for what is no frozen dataclass, is of another boundary, or is an attack without norms."""
    where = f"plugin {found.name!r} ({found.kind}, from {found.distribution})"
    if not (inspect.isclass(component) and is_dataclass(component)):
        raise BenchError(f"{where}: {found.entry_point.value} is {component!r}; a frozen dataclass is needed")
    if not component.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise BenchError(f"{where}: the dataclass must be frozen, for its fields are part of the content key")
    from harness.hookspecs import OLDEST, VERSION

    made_for = getattr(component, "boundary", VERSION)
    if made_for not in range(OLDEST, VERSION + 1):
        raise BenchError(
            f"{where}: is made for version {made_for} of the boundary, this harness has {VERSION} and knows those from "
            f"{OLDEST} on; install the harness that it was made for, or a version of it made for this one"
        )
    if found.kind == "attacks" and not isinstance(getattr(component, "norms", None), tuple | property):
        raise BenchError(f"{where}: norms is missing; a tuple of the norms supported is needed, empty for none")
