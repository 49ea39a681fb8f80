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
TABLES = ("training", "hardening", "overrides")
"""Keys of a component that are tables, so that keys of theirs come after them."""
SECTIONS = (*SETTABLE, "profiles", "references", "plugins")
REST = ":"
"""The key of an entry under which stands what a name ``COMPONENT:REST`` gives the component's first field."""
PLAIN = "plain"
"""The profile that changes nothing: the registry as it stands."""
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
    registry.plug("registry", _plugin_files(tables.pop("plugins", {}), own))
    return tables


def _plugin_files(table: Table, own: Path) -> list[Path]:
    """The files of ``[plugins]``, whose paths begin at the folder of the registry that names them."""
    where = f"registry {own}: plugins"
    for key in table:
        if key != "files":
            raise unknown(f"{where}: key", key, ("files",))
    files = table.get("files", [])
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise BenchError(f"{where}.files: got {files!r}; a list of paths of Python files is needed")
    return [own.parent / file for file in files]


def profiled(tables: Table, profile: str) -> Table:
    """The registry as a profile changes it."""
    profiles = {PLAIN: {}, **tables.get("profiles", {})}
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
    """All names of a kind that can be asked for: configurations and bare components. Beside them ``COMPONENT:REST``."""
    return sorted({*tables.get(kind, {}), *registry.names(kind)})


def inline(kind: str, name: str) -> tuple[str, str] | None:
    """The component and the rest of a name ``COMPONENT:REST`` such as ``timm:resnet18``; None for any other."""
    component, colon, rest = name.partition(":")
    return (component, rest) if colon and component in registry.names(kind) else None


def check(tables: Table, kind: str, name: str, where: str) -> None:
    """Raises BenchError, one line that begins with ``where``, for a name that cannot be asked for."""
    own = tables.get(kind, {}).get(name)
    told = own is not None and (":" not in name or not own.keys().isdisjoint(("component", "like", "members")))
    if told or name in registry.names(kind):
        return
    found = inline(kind, name)
    if found is None and ".py" in name and kind == "models":
        raise BenchError(f"{where}: {name!r} is no name of a model; of a file of yours it is file:{name}")
    if found is None and ":" in name:
        raise unknown(f"{where}: {name}: component", name.partition(":")[0], registry.names(kind))
    if found is None:
        raise unknown(where, name, available(tables, kind))
    if not found[1].strip():
        raise BenchError(f"{where}: {name!r} has nothing after the colon; {found[0]}:WHICH is needed, or {found[0]}")


def entry(tables: Table, kind: str, name: str, seen: tuple[str, ...] = ()) -> Table:
    """The table of one configuration with ``like`` followed; ``component`` is always set."""
    check(tables, kind, name, kind)
    own = tables.get(kind, {}).get(name, {})
    for key in ("like", "component"):
        if not isinstance(own.get(key, ""), str):
            raise BenchError(f"registry: {kind}.{name}.{key} must be a name, got {own[key]!r}")
    other = own.get("like")
    if other is None:
        component, rest = inline(kind, name) or (name, None)
        if rest is None or own.get("component", component) != component:
            return {"component": name, **own}
        return {"component": component, REST: rest, **own}
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
        if section in ("run", "plugins"):
            continue
        for name, entry_ in value.items():
            if not isinstance(entry_, dict):
                raise BenchError(f"{where}: {section}.{name} must be a table, got {entry_!r}")
            if section == "profiles" and "plugins" in entry_:
                raise BenchError(
                    f"{where}: profiles.{name}.plugins: files of plugins hold for every profile; use [plugins]"
                )
            if section == "profiles":
                _check_sections(entry_, f"{where}: profiles.{name}")


def _setting(text: str) -> Table:
    """``models.vit_ft.training.epochs=3`` -> nested tables. The value is TOML where it can be, else text."""
    keys, raw = _keys(text)
    if not all(keys) or len(keys) < 2:
        raise BenchError(f"--set {text}: KEY=VALUE is needed, for example --set attacks.pgd.steps=20")
    if keys[0] not in SETTABLE:
        raise unknown(f"--set {text}: section", keys[0], SETTABLE)
    found: Any = toml_value(raw)
    for key in reversed(keys):
        found = {key: found}
    return found


def toml_value(text: str) -> Any:
    """What a text says as a value of TOML, or the text itself where it is none."""
    try:
        return tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def _keys(text: str) -> tuple[list[str], str]:
    """The dotted key of ``KEY=VALUE`` and the text of the value.

    The key is TOML's, so names may be quoted: ``models."timm:vit_tiny.augreg_in21k".image_size``. Names that TOML would
    have quoted only for a colon or a slash need no quotes here.
    """
    parts = text.split("=")
    for place in range(1, len(parts)):  # a quoted name may hold an equals sign itself
        try:
            table = tomllib.loads("=".join(parts[:place]).strip() + " = 0")
        except tomllib.TOMLDecodeError:
            continue
        keys: list[str] = []
        while isinstance(table, dict) and len(table) == 1:
            key, table = next(iter(table.items()))
            keys.append(key)
        return keys, "=".join(parts[place:])
    path, equals, raw = text.partition("=")
    if '"' in path or "'" in path:
        raise BenchError(f'--set {text}: quotes are left open or out of place; write SECTION."NAME".KEY=VALUE')
    keys = path.strip().split(".") if equals else []
    if len(keys) > 3 and ":" in keys[1] and keys[2] not in TABLES:
        # The dots of such a name would be taken for keys, and what is set for something that nobody asks for.
        place = next((at for at, key in enumerate(keys) if at > 1 and key in TABLES), len(keys) - 1)
        right = ".".join([keys[0], f'"{".".join(keys[1:place])}"', *keys[place:]])
        raise BenchError(f"--set {text}: a name with dots stands in quotes: '{right}={raw}'")
    return keys, raw


def dotted(*keys: str) -> str:
    """A key of ``--set`` with the quotes that it needs: ``models."file:./a.py".mean``."""
    if all(key.replace(":", "").replace("-", "_").isidentifier() for key in keys):
        return ".".join(keys)
    return ".".join(key if key.isidentifier() else f'"{key}"' for key in keys)
