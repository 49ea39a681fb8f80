"""The pages of the site that are made of the program itself: its commands, its components, the keys of a registry.

A hook of mkdocs. Links to files beside the pages go to the repository's own, which is all that a clone has.
"""

from __future__ import annotations

import json
import re
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

TOP = Path(__file__).resolve().parents[1]
if str(TOP) not in sys.path:
    sys.path.insert(0, str(TOP))

OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./[^)]+)\)")

HEAD = """# Reference of registry.toml

Every table and key with its type, default and meaning. [registry.toml](registry.md) tells how they work together.
"""
OF_A_COMPONENT = (
    "`component` names the component (left out: it is called as the entry), `like` another entry of the same kind to "
    "take everything over from. The keys of each component: [components](components.md)."
)
OTHER_SECTIONS = """## [profiles.NAME]

Any of the tables above, laid over them where `--profile NAME` is given: `[profiles.tiny.models.vit_ft]`.

## [plugins]

| key | type | default | meaning |
|---|---|---|---|
| `files` | list of text | `[]` | files with components of your own; paths from the folder of the registry |

## [references.NAME.MODEL]

Published results, for `--reference NAME`: of each defense a table of attacks in percent; of captioners, for each
attack, a table of metrics.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, made in (("commands.md", commands), ("components.md", components), ("reference.md", reference)):
        files.append(File.generated(config, name, content=made()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """A link out of docs/ has no target on the site: its text stays."""
    return OUTSIDE.sub(r"\1", markdown)


def commands() -> str:
    """Every command with its arguments and options, as ``--help`` knows them."""
    import typer
    from typer.cli import get_docs_for_click

    import cli

    command = typer.main.get_command(cli.app)
    with command.make_context("bench", [], resilient_parsing=True) as context:
        text = get_docs_for_click(obj=command, ctx=context, name="bench", title="Commands")
    return (
        text.replace("**Usage**:", "Usage:").replace("**Arguments**:", "Arguments:").replace("**Options**:", "Options:")
    )


def components() -> str:
    """Every built-in component: what it is, what it works on, its parameters, and its entry in a registry."""
    from harness import boundary, registry
    from harness.types import KINDS

    parts = [
        "# Components\n\nWhat models, data sets, attacks, defenses and metrics are made of. One with parameters is "
        "a named configuration of [registry.toml](reference.md); `bench info KIND NAME` shows one of them with all "
        "that is known of it. The entries shown set defaults: leave out what you do not change.\n"
    ]
    for kind in KINDS:
        parts.append(f"## {kind.capitalize()}\n")
        for name in registry.names(kind):
            if registry.find(kind, name).built_in:
                parts += described(kind, name, boundary.load(kind, name))
    return "\n".join(parts)


def described(kind: str, name: str, component: Any) -> Iterator[str]:
    yield f"### {name}\n"
    yield as_markdown(cleandoc(component.__doc__ or "")) + "\n"
    known = dict(facts(kind, component()))
    if known:
        yield " · ".join(f"**{what}** {value}" for what, value in known.items()) + "\n"
    yield from table(component)
    yield f"```toml\n{example(kind, name, component)}```\n"


def facts(kind: str, component: Any) -> Iterator[tuple[str, str]]:
    """What a component says of itself beside its parameters."""
    if kind == "attacks":
        norms = getattr(component, "norms", ())
        yield "norms", ", ".join(norms) or "none: nothing is perturbed"
        if norms and "severity" not in norms:
            yield "sees", getattr(component, "access", "gradient")
        for flag in ("targeted", "minimum_norm"):
            if getattr(component, flag, False):
                yield flag.replace("_", " "), "yes"
        if beaten := getattr(component, "stronger_than", ()):
            yield "must beat", ", ".join(beaten)
    if kind == "metrics":
        better = component.higher_is_better
        yield "unit", component.unit
        yield "better", "neither" if better is None else "higher" if better else "lower"
    if kind != "datasets":
        own = getattr(component, "tasks", None) or (getattr(component, "task", "classification"),)
        yield "task", ", ".join(own) if all(own) else "any"


def example(kind: str, name: str, component: Any) -> str:
    """An entry of a registry with every parameter at its default, under a name of its own."""
    from harness.coercion import signature

    lines = [f"[{kind}.my_{name}]", f'component = "{name}"']
    lines += [f"{key} = {toml(getattr(component(), key))}" for key in signature(component)]
    if kind == "models":
        lines.append(f'dataset = "{"digits" if getattr(component, "task", "") != "captioning" else "shapes_fa"}"')
    return "\n".join(lines) + "\n"


def reference() -> str:
    """Every key of registry.toml, from the dataclasses that its tables are made into."""
    from harness import config
    from harness.recipe import Recipe
    from harness.request import AttackConfig, DefenseConfig, Matrix, ModelConfig
    from harness.settings import RunSettings
    from harness.types import KINDS

    made_into = {"models": ModelConfig, "attacks": AttackConfig, "defenses": DefenseConfig}
    parts = [HEAD, "## [run]\n\nWhat holds for every cell of a run.\n", *table(RunSettings)]
    parts += ["## [matrices.NAME]\n\nWhat is crossed with what, and measured.\n", *table(Matrix)]
    for kind in KINDS:
        parts.append(f"## [{kind}.NAME]\n\n{OF_A_COMPONENT}\n")
        keys = config.HARNESS_KEYS.get(kind, ())
        parts += table(made_into[kind], keys) if keys else ()
    parts += [
        "## training and hardening\n\nHow weights are learnt. A defense that trains uses the model's `training`, "
    ]
    parts[-1] += "changed by its own `training`, changed by the model's `hardening`.\n"
    return "\n".join([*parts, *table(Recipe), OTHER_SECTIONS])


def table(made_into: Any, keys: Sequence[str] = ()) -> Iterator[str]:
    """The fields of a dataclass: type, default, and the meaning that its docstring, or that of a class above, gives."""
    from harness.coercion import signature

    hints = {
        key: hint for key, hint in signature(made_into).items() if not keys or key in {*keys} - {"component", "like"}
    }
    if not hints:
        return
    meanings = meanings_of(made_into, tuple(hints))
    defaults = {field.name: default(field) for field in fields(made_into)}
    yield "| key | type | default | meaning |\n|---|---|---|---|"
    for key, hint in hints.items():
        cells = (f"`{key}`", words(hint), f"`{toml(defaults[key])}`", as_markdown(meanings.get(key, "")))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""


def default(field: Any) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def meanings_of(made_into: Any, keys: Sequence[str]) -> dict[str, str]:
    """What docstrings say of these keys, as ``key: meaning.`` or ``key, another: meaning.``; the first sentence."""
    names = "|".join(keys)
    marked = re.compile(rf"(?<![\w.])((?:{names})(?:(?:, | and )(?:{names}))*): ")
    found: dict[str, str] = {}
    for owner in made_into.__mro__:
        doc = " ".join(cleandoc(vars(owner).get("__doc__") or "").replace("``", "").split())
        pieces = marked.split(doc)[1:]
        for names_, text in zip(pieces[::2], pieces[1::2], strict=True):
            sentence = re.split(r"(?<!al)\.(?:\s|$)", text, maxsplit=1)[0].strip().rstrip(";,")
            for key in re.split(r", | and ", names_):
                found.setdefault(key, sentence)
    return found


def words(hint: Any) -> str:
    """A type as somebody reads it who writes TOML."""
    arms, origin = typing.get_args(hint), typing.get_origin(hint)
    if origin is typing.Literal:
        return " | ".join(f"`{toml(value)}`" for value in arms)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(words(arm) for arm in arms)
    if origin is tuple:
        return f"list of {words(arms[0])}"
    if origin in (dict, Mapping):
        return "table"
    plain = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): '`"none"`'}
    return plain.get(hint, "name")  # of another entry


def toml(value: Any) -> str:
    """A value as TOML; None is the text "none", for which TOML has no word."""
    if value is None:
        return '"none"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    return repr(value)


def as_markdown(text: str) -> str:
    return re.sub(r"``(.+?)``", r"`\1`", text)
