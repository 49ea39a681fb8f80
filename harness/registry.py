"""Finding components: names without importing any, and one import for the one that is asked for."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from harness.errors import BenchError, unknown
from harness.single_file import FileEntry, announced
from harness.types import KINDS

BUILT_IN = "adversarial-bench"
_plugged: dict[str, tuple[Path, ...]] = {}
_origins: dict[type, Found] = {}


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

    @property
    def title(self) -> str:
        """Name, kind, and where it is from, as messages have it."""
        return f"plugin {self.name!r} ({self.kind}, from {self.distribution} {self.version})"


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


def imported(found: Found) -> Any:
    """What an announcement names: exactly one plugin module is imported. Raises whatever that raises."""
    component = found.entry_point.load()
    if inspect.isclass(component):
        _origins[component] = found
    return component


def origin(component: type) -> Found | None:
    """The announcement that a class was imported for; None for one that was handed over by code."""
    return _origins.get(component)
