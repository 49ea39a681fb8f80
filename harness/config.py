"""registry.toml and the command line -> a request: frozen, typed, with every unknown key refused.

Layers, later ones win: the packaged registry, the user's registry, the profile, ``--set`` and the other options.
Only then is ``like`` resolved, so what inherits from an entry inherits what the profile made of it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from harness import registry
from harness.coercion import coerce, fill, signature
from harness.errors import BenchError, unknown
from harness.recipe import Recipe
from harness.types import KINDS, NORMS

PACKAGED = (Path(__file__).parent / "registry.toml", Path(__file__).parent.parent / "registry.toml")
SETTABLE = (*KINDS, "matrices", "run")
SECTIONS = (*SETTABLE, "profiles", "references")
Table = dict[str, Any]


@dataclass(frozen=True)
class RunSettings:
    """The ``[run]`` table: what holds for every cell. Sizes are counts; ``eps`` is in pixel units on [0, 1].

    threads: of torch on the CPU; 0 takes every core.
    """

    matrix: str = "report"
    norm: str = "Linf"
    eps: tuple[float, ...] = ()
    seeds: tuple[int, ...] = (0,)
    limit: int | None = None
    batch_size: int = 256
    device: str = "auto"
    threads: int = 0
    about: str = ""


@dataclass(frozen=True)
class Matrix:
    """The ``[matrices.NAME]`` tables: names whose cross product is run, and the metrics taken of each cell."""

    models: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    defenses: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()


@dataclass(frozen=True)
class Configured:
    """A named configuration of a component. ``fault`` says why the component is None when its plugin is broken."""

    kind: str
    name: str
    component_name: str
    distribution: str
    version: str
    component: Any
    parameters: Mapping[str, Any]
    fault: str = ""


@dataclass(frozen=True)
class ModelConfig(Configured):
    """A model with what the harness does to it: data, recipe, where its weights start, how it is hardened."""

    dataset: str = ""
    start: str = ""
    recipe: Recipe = field(default_factory=Recipe)
    training: Mapping[str, Any] = field(default_factory=dict)
    hardening: Mapping[str, Any] = field(default_factory=dict)
    pass_ms: float | None = None


@dataclass(frozen=True)
class DefenseConfig(Configured):
    """A defense with the part of the training recipe that it changes."""

    training: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """Everything a run needs to know, resolved. ``models`` also holds those only used to start others."""

    profile: str
    run: RunSettings
    matrix: Matrix
    datasets: Mapping[str, Configured]
    models: Mapping[str, ModelConfig]
    attacks: Mapping[str, Configured]
    defenses: Mapping[str, DefenseConfig]
    metrics: Mapping[str, Configured]


@dataclass(frozen=True)
class Options:
    """The command line, as far as it decides what is run. None: not given."""

    profile: str = "tiny"
    matrix: str | None = None
    models: Sequence[str] | None = None
    attacks: Sequence[str] | None = None
    defenses: Sequence[str] | None = None
    eps: str | None = None
    norm: str | None = None
    seeds: str | None = None
    limit: str | None = None
    device: str | None = None
    settings: Sequence[str] = ()
    registry: str | None = None


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


def resolve(options: Options) -> Request:
    """The request that a command line makes. Raises BenchError for anything unknown, mistyped or out of range."""
    tables = with_settings(profiled(read(options.registry), options.profile), options.settings)
    run = _run_settings(tables.get("run", {}), options)
    matrix = _matrix(tables, run.matrix, options)
    return _components(tables, options.profile, run, matrix)


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


def configure(tables: Table, kind: str, name: str) -> Configured:
    """One configuration, its component made. A broken plugin gives a Configured with a fault, not an error."""
    table = entry(tables, kind, name)
    where = f"{kind}.{name}"
    component_name = table.pop("component")
    found = registry.find(kind, component_name)
    extra, maker = _harness_keys(kind, table, where)
    common = (kind, name, component_name, found.distribution, found.version)
    try:
        component_class = registry.load(kind, component_name)
        component_fields = signature(component_class)
        clash = set(component_fields) & set(_HARNESS_KEYS.get(kind, ()))
        if clash:
            raise BenchError(f"plugin {component_name!r} ({kind}): the harness owns the name {clash.pop()!r}")
    except BenchError as error:
        return maker(*common, None, dict(table), fault=str(error), **extra)
    component = fill(component_class, table, where, also=_HARNESS_KEYS.get(kind, ()))
    try:
        registry.bind(kind, component)
    except BenchError as error:
        return maker(*common, None, dict(table), fault=str(error), **extra)
    if kind == "models" and getattr(component, "weights", None):
        extra["start"] = ""  # weights named by hand are what to begin with
    parameters = {f.name: getattr(component, f.name) for f in fields(component)}
    return maker(*common, component, parameters, **extra)


_HARNESS_KEYS = {
    "models": ("component", "like", "dataset", "start", "training", "hardening", "pass_ms"),
    "defenses": ("component", "like", "training"),
}


def _harness_keys(kind: str, table: Table, where: str) -> tuple[Table, Any]:
    """Takes the keys that are the harness's own out of a table: (their values, the class to make)."""
    if kind == "models":
        training = table.pop("training", {})
        hardening = table.pop("hardening", {})
        recipe = fill(Recipe, training, f"{where}.training")
        fill(Recipe, hardening, f"{where}.hardening")
        return {
            "dataset": coerce(table.pop("dataset", ""), str, f"{where}.dataset"),
            "start": coerce(table.pop("start", ""), str, f"{where}.start"),
            "recipe": recipe,
            "training": training,
            "hardening": hardening,
            "pass_ms": coerce(table.pop("pass_ms", None), float | None, f"{where}.pass_ms"),
        }, ModelConfig
    if kind == "defenses":
        training = table.pop("training", {})
        fill(Recipe, training, f"{where}.training")
        return {"training": training}, DefenseConfig
    return {}, Configured


def _components(tables: Table, profile: str, run: RunSettings, matrix: Matrix) -> Request:
    models: dict[str, ModelConfig] = {}
    waiting = list(matrix.models)
    while waiting:
        name = waiting.pop(0)
        if name not in models:
            model = configure(tables, "models", name)
            assert isinstance(model, ModelConfig)
            models[name] = model
            waiting += [model.start] if model.start else []
            if not model.dataset:
                raise BenchError(
                    f"models.{name}: no dataset; set it in the registry or by --set models.{name}.dataset=NAME"
                )
    _check_starts(models)
    made = {
        kind: {name: configure(tables, kind, name) for name in wanted}
        for kind, wanted in {
            "datasets": dict.fromkeys(model.dataset for model in models.values()),
            "attacks": matrix.attacks,
            "defenses": matrix.defenses,
            "metrics": matrix.metrics,
        }.items()
    }
    return Request(profile, run, matrix, models=models, **made)  # type: ignore[arg-type]


def _check_starts(models: Mapping[str, ModelConfig]) -> None:
    for name in models:
        seen, at = [name], models[name].start
        while at:
            if at in seen:
                raise BenchError(f"models.{name}: start goes round in a circle: {' -> '.join([*seen, at])}")
            seen.append(at)
            at = models[at].start


def _run_settings(table: Table, options: Options) -> RunSettings:
    table = dict(table)
    if options.norm is not None and options.eps is None and options.norm != table.get("norm", "Linf"):
        raise BenchError(
            f"--norm {options.norm}: eps {table.get('eps')} of the profile is meant for {table.get('norm', 'Linf')}; "
            "give --eps too (for example --norm L2 --eps 0.5)"
        )
    given = {"norm": options.norm, "eps": options.eps, "seeds": options.seeds, "limit": options.limit}
    given |= {"matrix": options.matrix, "device": options.device}
    for key, value in given.items():
        if value is not None:
            table[key] = _split(value) if key in ("eps", "seeds") else value
    if isinstance(table.get("limit"), str):
        table["limit"] = _whole(table["limit"], "--limit")
    if "seeds" in table:
        table["seeds"] = list(dict.fromkeys(_whole(seed, "--seeds") for seed in _as_list(table["seeds"])))
    if "eps" in table:
        table["eps"] = list(dict.fromkeys(coerce(eps, float, "--eps") for eps in _as_list(table["eps"])))
    run = fill(RunSettings, table, "run")
    if run.norm not in NORMS:
        raise unknown("--norm", run.norm, NORMS)
    for eps in run.eps:
        if eps < 0:
            raise BenchError(f"--eps: got {eps:g}; a budget in pixel units, 0 or more, for example 8/255, is needed")
    if run.limit is not None and run.limit < 1:
        raise BenchError(f"--limit: got {run.limit}; a number of samples, 1 or more, is needed")
    for name, low in (("batch_size", 1), ("threads", 0)):
        if (got := getattr(run, name)) < low:
            raise BenchError(f"run.{name}: got {got}; {low} or more is needed")
    if not run.seeds:
        raise BenchError("--seeds: none given; one or more whole numbers are needed")
    for seed in run.seeds:
        if not 0 <= seed < 2**63:  # more than a database's integers hold
            raise BenchError(f"--seeds: got {seed}; whole numbers from 0 to 2**63 - 1 are needed")
    return run


def _matrix(tables: Table, name: str, options: Options) -> Matrix:
    matrices = tables.get("matrices", {})
    if name not in matrices:
        raise unknown("--matrix", name, matrices)
    matrix = fill(Matrix, matrices[name], f"matrices.{name}")
    chosen = {f.name: getattr(options, f.name, None) or getattr(matrix, f.name) for f in fields(Matrix)}
    matrix = Matrix(**{kind: tuple(dict.fromkeys(names)) for kind, names in chosen.items()})
    for kind in ("models", "attacks", "defenses", "metrics"):
        if not getattr(matrix, kind) and kind != "metrics":
            raise BenchError(f"matrices.{name}: no {kind}; set them in the registry or by --{kind} A,B")
        for wanted in getattr(matrix, kind):
            if wanted not in available(tables, kind):
                raise unknown(f"--{kind}" if kind != "metrics" else kind, wanted, available(tables, kind))
    return matrix


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


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _whole(value: Any, where: str) -> int:
    try:
        return int(value) if isinstance(value, str) else coerce(value, int, where)
    except (ValueError, BenchError):
        raise BenchError(f"{where}: got {value!r}; a whole number is needed") from None
