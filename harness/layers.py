"""registry.toml, layer by layer, as plain tables: the packaged one, the user's, the profile, ``--set``.

Only then is ``like`` resolved, so what inherits from an entry inherits what the profile made of it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import registry
from harness.errors import BenchError, unknown
from harness.types import KINDS

PACKAGED = (Path(__file__).parent / "registry.toml", Path(__file__).parent.parent / "registry.toml")
SETTABLE = (*KINDS, "matrices", "run")
SECTIONS = (*SETTABLE, "profiles", "references")
Table = dict[str, Any]


def read(path: str | None = None) -> Table:
    """The packaged registry under the user's (``path``, else ./registry.toml)."""
    packaged = next(candidate for candidate in PACKAGED if candidate.exists())
    tables = _parse(packaged)
    own = Path(path) if path else Path("registry.toml")
    if path and not own.is_file():
        raise BenchError(f"--registry {path}: no such file; give the path of a registry.toml")
    if own.is_file() and not own.samefile(packaged):
        tables = merge(tables, _parse(own))
    return tables


def profiled(tables: Table, profile: str) -> Table:
    """The registry as a profile changes it."""
    profiles = tables.get("profiles", {})
    if profile not in profiles:
        raise unknown("--profile", profile, profiles)
    return merge({k: v for k, v in tables.items() if k != "profiles"}, profiles[profile])


def with_settings(tables: Table, settings: Sequence[str]) -> Table:
    """The registry as ``--set KEY=VALUE`` options change it."""
    for setting in settings:
        tables = merge(tables, _setting(setting))
        _check_sections(tables, f"--set {setting}")
    return tables


def merge(below: Table, above: Table) -> Table:
    """Tables merged key by key, ``above`` winning; neither is changed."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def available(tables: Table, kind: str) -> list[str]:
    """All names of a kind that can be asked for: configurations and bare components."""
    return sorted({*tables.get(kind, {}), *registry.names(kind)})


def entry(tables: Table, kind: str, name: str, seen: tuple[str, ...] = ()) -> Table:
    """The table of one configuration with ``like`` followed; ``component`` is always set."""
    section = tables.get(kind, {})
    if name not in section:
        if name in registry.names(kind):
            return {"component": name}
        raise unknown(kind, name, available(tables, kind))
    own = section[name]
    for key in ("like", "component"):
        if not isinstance(own.get(key, ""), str):
            raise BenchError(f"registry: {kind}.{name}.{key} must be a name, got {own[key]!r}")
    other = own.get("like")
    if other is None:
        return {"component": name, **own}
    if other == name or other in seen:
        raise BenchError(f"registry: {kind}.{name}: like = {other!r} goes round in a circle")
    return merge(entry(tables, kind, other, (*seen, name)), {k: v for k, v in own.items() if k != "like"})


def _parse(path: Path) -> Table:
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = _line_of(str(error), text)
        raise BenchError(f"registry {path}: {error}{f': {line!r}' if line else ''}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"registry {path}: cannot be read: {error}") from error
    _check_sections(tables, f"registry {path}")
    return tables


def _line_of(message: str, text: str) -> str:
    """The offending line of a TOML error, whose message ends in ``(at line 3, column 8)``."""
    _, _, tail = message.partition("at line ")
    number = tail.partition(",")[0]
    lines = text.splitlines()
    return lines[int(number) - 1].strip() if number.isdigit() and int(number) <= len(lines) else ""


def _check_sections(tables: Table, where: str) -> None:
    for section, value in tables.items():
        if section not in SECTIONS:
            raise unknown(f"{where}: section", section, SECTIONS)
        if not isinstance(value, dict):
            raise BenchError(f"{where}: {section} must be a table, got {value!r}")
        if section == "run":
            continue
        for name, entry_ in value.items():
            if not isinstance(entry_, dict):
                raise BenchError(f"{where}: {section}.{name} must be a table, got {entry_!r}")
            if section == "profiles":
                _check_sections(entry_, f"{where}: profiles.{name}")


def _setting(text: str) -> Table:
    """``models.vit_ft.training.epochs=3`` -> nested tables. The value is TOML where it can be, else text."""
    path, equals, raw = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys) or len(keys) < 2:
        raise BenchError(f"--set {text}: KEY=VALUE is needed, for example --set attacks.pgd.steps=20")
    if keys[0] not in SETTABLE:
        raise unknown(f"--set {text}: section", keys[0], SETTABLE)
    try:
        value = tomllib.loads(f"value = {raw.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw.strip()
    for key in reversed(keys):
        value = {key: value}
    return value
