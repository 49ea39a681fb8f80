"""``bench list`` and ``bench info``: what there is, and everything about one of them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import boundary, coercion, config, layers, locating, registry
from harness.errors import BenchError, unknown
from harness.recipe import Recipe
from harness.report.columns import columns
from harness.request import AttackConfig, Configured, DefenseConfig, ModelConfig
from harness.types import CAPTIONING, KINDS, Facts

if TYPE_CHECKING:
    from harness.analysis.parameters import Group

SECTIONS = (*KINDS, "matrices", "profiles")
CLASS_FACTS = ("library", "norms", "access", "minimum_norm", "stronger_than", "unit", "higher_is_better")
LANGUAGES = {"fa": "Persian", "en": "English"}


def listing(kind: str | None, profile: str, path: str | None) -> str:
    """Names by kind with the component behind each and the distribution it comes from. Imports no plugin."""
    if kind is not None and kind not in SECTIONS:
        raise unknown("bench list", kind, SECTIONS)
    tables = layers.read(path)
    shown = layers.profiled(tables, profile)
    parts = [
        _section(section, tables if section == "profiles" else shown) for section in ([kind] if kind else SECTIONS)
    ]
    return "\n\n".join([*parts, *(f"note: {clash}" for clash in registry.clashes())])


def description(
    kind: str,
    name: str,
    profile: str,
    path: str | None,
    settings: Sequence[str],
    *,
    data: Sequence[str] = (),
    artifacts: str = "artifacts",
) -> str:
    """Docstring, source, and each parameter with type, default and the value that this configuration gives it.

    Of a data set also what its splits are made of, where it is at hand: in the folders of ``data`` and those that are
    always searched. Of a model also how many parameters it has.
    """
    made = _configured(kind, name, profile, path, settings)
    if isinstance(made, AttackConfig) and made.members:
        return _ensemble(made, profile)
    found = registry.find(kind, made.component_name)
    lines = [
        f"{name} ({kind}, profile {profile})",
        f"component  {made.component_name}",
        f"source     {found.entry_point.value} of {found.distribution} {found.version}",
    ]
    if made.fault:
        return "\n".join([*lines, f"broken     {made.fault}"])
    component = made.component
    lines += ["", inspect.cleandoc(type(component).__doc__ or "No docstring."), ""]
    lines += [columns(rows)] if (rows := _parameters(component)) else ["no parameters"]
    lines += ["", columns(component.describe())] if hasattr(component, "describe") else []
    lines += _class_facts(component)
    if isinstance(made, ModelConfig):
        lines += [
            "",
            f"dataset = {made.dataset}" + (f", start = {made.start}" if made.start else ""),
            _recipe(made.recipe),
        ]
        lines += [_changes("hardening", made.hardening)] if made.hardening else []
        lines += ["", *_sized(made, _tables(profile, path, settings), data)]
    if isinstance(made, DefenseConfig) and made.training:
        lines += ["", _changes("training", made.training)]
    if kind == "datasets":
        lines += ["", *_facts(made, data, artifacts)]
    return "\n".join(lines)


def as_json(
    kind: str,
    name: str,
    profile: str,
    path: str | None,
    settings: Sequence[str],
    *,
    data: Sequence[str] = (),
    artifacts: str = "artifacts",
) -> str:
    """The same as one JSON object; a ``fault`` stands in place of what cannot be told."""
    made = _configured(kind, name, profile, path, settings)
    told: dict[str, Any] = {"kind": kind, "name": name, "profile": profile, "component": made.component_name}
    if isinstance(made, AttackConfig) and made.members:
        told |= {"members": [member.name for member in made.members]}
        told |= {"fault": made.fault} if made.fault else {"norms": made.norms, "stronger_than": made.stronger_than}
        return _dumped(told)
    found = registry.find(kind, made.component_name)
    told |= {"source": found.entry_point.value, "distribution": found.distribution, "version": found.version}
    if made.fault:
        return _dumped({**told, "fault": made.fault})
    told |= {"description": inspect.getdoc(type(made.component)), "parameters": made.parameters}
    if hasattr(made.component, "describe"):
        told["described"] = made.component.describe()
    told |= {fact: getattr(made.component, fact) for fact in CLASS_FACTS if hasattr(made.component, fact)}
    if isinstance(made, ModelConfig):
        from harness.report import parameters

        told |= {"dataset": made.dataset, "start": made.start, "training": asdict(made.recipe)}
        told |= {"hardening": made.hardening}
        told["size"] = _or_fault(lambda: parameters.as_data(*_size(made, _tables(profile, path, settings), data)))
    if isinstance(made, DefenseConfig):
        told |= {"training": made.training}
    if kind == "datasets":
        told["facts"] = _or_fault(lambda: _told(made, data)._asdict())
        told["contents"] = _or_fault(lambda: _contents(made, data, artifacts))
    return _dumped(told)


def figures(
    kind: str,
    name: str,
    profile: str,
    path: str | None,
    settings: Sequence[str],
    *,
    data: Sequence[str] = (),
    artifacts: str = "artifacts",
    out: Path,
) -> list[Path]:
    """The files of figures drawn of a data set. Raises BenchError where it is not at hand or matplotlib is missing."""
    from harness.report import splits

    made = _configured(kind, name, profile, path, settings)
    if kind != "datasets":
        raise BenchError(f"--figures: {kind} have no figures; bench info datasets NAME --figures draws a data set")
    if made.fault:
        raise BenchError(made.fault)
    splits.check_drawing()
    found = splits.contents(made, data, artifacts)
    if found is None:
        raise BenchError(f"dataset {name}: {_not_at_hand(data)}")
    return splits.draw(found, out)


def _configured(kind: str, name: str, profile: str, path: str | None, settings: Sequence[str]) -> Configured:
    if kind not in KINDS:
        raise unknown("bench info", kind, KINDS)
    tables = _tables(profile, path, settings)
    layers.check(tables, kind, name, kind)
    return config.configure(tables, kind, name)


def _tables(profile: str, path: str | None, settings: Sequence[str]) -> layers.Table:
    return layers.with_settings(layers.profiled(layers.read(path), profile), settings)


def _size(made: ModelConfig, tables: layers.Table, data: Sequence[str]) -> tuple[list[Group], str]:
    """Parameters by groups of layers, and what they are counted for. Raises BenchError where they cannot be told."""
    from harness.report import parameters

    dataset = config.configure(tables, "datasets", made.dataset) if made.dataset else None
    return parameters.counted(made, dataset, data)


def _sized(made: ModelConfig, tables: layers.Table, data: Sequence[str]) -> list[str]:
    from harness.report import parameters

    try:
        return parameters.lines(*_size(made, tables, data))
    except BenchError as error:
        return [f"parameters: {error}"]


def _ensemble(made: AttackConfig, profile: str) -> str:
    """What an ensemble consists of; each member has a description of its own."""
    rows = [("member", "component", "source")]
    rows += [(m.name, m.component_name, f"{m.distribution} {m.version}") for m in made.members]
    lines = [
        f"{made.name} (attacks, profile {profile})",
        "",
        "The worst case over its members, each on the samples that still stand.",
        "",
        columns(rows),
    ]
    if made.fault:
        return "\n".join([*lines, "", f"broken     {made.fault}"])
    facts = [f"norms = {made.norms!r}", f"stronger_than = {made.stronger_than!r}"]
    return "\n".join([*lines, "", *facts, "", f"bench info attacks {made.members[0].name} tells about one of them"])


def _section(section: str, tables: layers.Table) -> str:
    if section not in KINDS:
        entries = tables.get(section, {})
        return "\n".join([section, *(f"  {name}{_about(section, entries[name])}" for name in entries)])
    rows = []
    for name in layers.available(tables, section):
        table = layers.entry(tables, section, name)
        if members := table.get("members"):
            rows.append((f"  {name}", " + ".join(map(str, members)), ""))
            continue
        component = table["component"]
        known = component in registry.names(section)
        origin = registry.find(section, component).distribution if known else "not installed"
        rows.append(
            (f"  {name}", component if component != name else "", "" if origin == registry.BUILT_IN else origin)
        )
    return "\n".join([section, columns(rows)])


def _about(section: str, table: layers.Table) -> str:
    if section == "profiles":
        about = table.get("run", {}).get("about", "")
        return f": {about}" if about else ""
    return ": " + " x ".join(str(len(table.get(kind, ()))) + " " + kind for kind in ("models", "attacks", "defenses"))


def _parameters(component: Any) -> list[tuple[str, ...]]:
    hints = coercion.signature(type(component))
    made = {f.name: f.default_factory() for f in fields(component) if f.default_factory is not MISSING}
    defaults = {f.name: f.default for f in fields(component)} | made
    rows: list[tuple[str, ...]] = [("parameter", "type", "default", "value here")]
    for name, hint in hints.items():
        value = getattr(component, name)
        default = "" if defaults[name] is MISSING else repr(defaults[name])
        changed = "" if value == defaults[name] else repr(value)
        rows.append((name, coercion.describe(hint), default, changed))
    return rows if len(rows) > 1 else []


def _class_facts(component: Any) -> list[str]:
    facts = [f"{name} = {getattr(component, name)!r}" for name in CLASS_FACTS if hasattr(component, name)]
    return ["", *facts] if facts else []


def _recipe(recipe: Recipe) -> str:
    return "training = " + ", ".join(f"{f.name} {getattr(recipe, f.name)}" for f in fields(recipe))


def _changes(table: str, values: Mapping[str, Any]) -> str:
    return f"{table} = " + ", ".join(f"{name} {value}" for name, value in values.items())


def _facts(made: Configured, data: Sequence[str], artifacts: str) -> list[str]:
    """What a data set states, and what its splits are made of; in place of what cannot be told, why and what to do."""
    try:
        return [*_stated(_told(made, data)), "", *_splits(made, data, artifacts)]
    except BenchError as error:
        return [f"data: {error}"]


def _told(made: Configured, data: Sequence[str]) -> Facts:
    """What a data set states. Raises BenchError."""
    facts: Facts = boundary.bind("datasets", made.component).facts(roots=locating.roots(data))
    return facts


def _stated(facts: Facts) -> list[str]:
    sizes = ", ".join(f"{split} {count}" for split, count in facts.sizes.items())
    groups = f" in {len(set(facts.groups))} groups" if facts.groups else ""
    answers = f"{len(facts.classes)} classes{groups}"
    if facts.task == CAPTIONING:
        answers = f"captions in {LANGUAGES.get(facts.language, facts.language)}"
    return [
        f"images {facts.shape[0]} x {facts.shape[1]} x {facts.shape[2]}, {answers}, {sizes}",
        f"source: {facts.source}",
        f"licence: {facts.licence}",
        f"citation: {facts.citation}",
    ]


def _splits(made: Configured, data: Sequence[str], artifacts: str) -> list[str]:
    from harness.report import splits

    try:
        found = splits.contents(made, data, artifacts)
    except BenchError as error:
        return [f"data: {error}"]
    return splits.lines(found) if found else [f"data: {_not_at_hand(data)}"]


def _contents(made: Configured, data: Sequence[str], artifacts: str) -> Mapping[str, Any]:
    from harness.report import splits

    found = splits.contents(made, data, artifacts)
    if found is None:
        raise BenchError(_not_at_hand(data))
    return splits.as_data(found)


def _or_fault(tell: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    try:
        return tell()
    except BenchError as error:
        return {"fault": str(error)}


def _dumped(told: Mapping[str, Any]) -> str:
    return json.dumps(told, indent=2, ensure_ascii=False, default=str)


def _not_at_hand(data: Sequence[str]) -> str:
    return (
        f"not found in {', '.join(map(str, locating.roots(data)))}; bench run downloads it where it can, or name the "
        "folder that holds it with --data PATH or BENCH_DATA"
    )
