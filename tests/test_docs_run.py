"""The pages do what they say: their Python runs, their commands can be given.

The Python blocks of a page are run one after the other, as a reader would paste them. A comment
``<!-- not run: WHY -->`` on the line above a block leaves it out.
"""

from __future__ import annotations

import re
import shlex
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import cli

TOP = Path(__file__).resolve().parents[1]
PAGES = [TOP / "README.md", TOP / "CONTRIBUTING.md", *sorted((TOP / "docs").glob("*.md"))]
BLOCK = re.compile(r"^(?P<before>[^\n]*)\n+```python\n(?P<code>.*?)^```$", re.M | re.S)
PLUGIN = "--plugin"
COMMAND = re.compile(r"^(?: {4}|\$ )?bench (?P<rest>[a-z].*)$")


def blocks(page: Path) -> Iterator[tuple[int, str]]:
    """The Python of a page: the line that a block begins in, and its code."""
    text = page.read_text()
    for found in BLOCK.finditer(text):
        if not re.fullmatch(r"<!-- not run: .+ -->", found["before"].strip()):
            yield text.count("\n", 0, found.start("code")) + 1, found["code"]


def commands(page: Path) -> Iterator[str]:
    """What stands after ``bench`` in lines of fenced or indented blocks."""
    fenced = False
    for line in page.read_text().replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif (found := COMMAND.match(line)) and (fenced or line.startswith("    ")):
            yield found["rest"]


WITH_CODE = [page for page in PAGES if any(blocks(page))]
GIVEN = [(page, command) for page in PAGES for command in commands(page)]


def test_blocks_and_commands_are_seen() -> None:
    assert {"api.md", "plugins.md", "figures.md"} <= {page.name for page in WITH_CODE}
    assert len(GIVEN) > 40
    text = "a\n\n```python\nx = 1\n```\n<!-- not run: slow -->\n```python\nx = 2\n```\n```toml\nx = 3\n```\n"
    assert [found["code"] for found in BLOCK.finditer(text)] == ["x = 1\n", "x = 2\n"]


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType(f"page_{page.stem.lower()}")  # of its own, for dataclasses look their module up
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for line, code in blocks(page):
        padded = "\n" * line + code  # so that a traceback names the line of the page
        exec(compile(padded, str(page), "exec", dont_inherit=True), vars(module))


@pytest.mark.parametrize(("page", "command"), GIVEN, ids=lambda value: getattr(value, "name", value))
def test_a_command_of_a_page_can_be_given(page: Path, command: str) -> None:
    """It is parsed, and not run: every command, option and argument exists, and numbers are numbers."""
    name, *arguments = shlex.split(command, comments=True)
    group = typer.main.get_command(cli.app)
    assert name in group.commands  # type: ignore[attr-defined]
    called = group.commands[name]  # type: ignore[attr-defined]
    if PLUGIN in arguments:  # its file is read at once, and here there is none
        assert any(PLUGIN in option.opts for option in called.params)
        place = arguments.index(PLUGIN)
        del arguments[place : place + 2]
    called.make_context(name, arguments)
