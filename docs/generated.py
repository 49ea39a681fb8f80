"""The pages of the site that are made of the program itself: its commands and its components.

A hook of mkdocs. Links to files beside the pages go to the repository's own, which is all that a clone has.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import fields
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


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, text in (("commands.md", commands()), ("components.md", components())):
        files.append(File.generated(config, name, content=text))
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
    """Every built-in component: what it is, its parameters with types and defaults."""
    from harness import boundary, registry
    from harness.types import KINDS

    parts = [
        "# Components\n\nWhat models, data sets, attacks, defenses and metrics are made of. One with parameters is "
        "a named configuration of [registry.toml](registry.md); `bench info KIND NAME` shows one of them with all "
        "that is known of it.\n"
    ]
    for kind in KINDS:
        parts.append(f"## {kind.capitalize()}\n")
        for name in registry.names(kind):
            if registry.find(kind, name).built_in:
                parts += described(name, boundary.load(kind, name))
    return "\n".join(parts)


def described(name: str, component: Any) -> Iterator[str]:
    from harness.coercion import describe, signature

    yield f"### {name}\n"
    yield re.sub(r"``(.+?)``", r"`\1`", cleandoc(component.__doc__ or "")) + "\n"
    hints = signature(component)
    if hints:
        yield "| parameter | type | default |\n|---|---|---|"
        for field in fields(component):
            if field.name in hints:
                value = getattr(component(), field.name)
                kind = describe(hints[field.name]).replace("|", "\\|")
                yield f"| `{field.name}` | {kind} | `{value!r}` |"
        yield ""
