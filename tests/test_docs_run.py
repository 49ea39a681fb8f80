"""The pages do what they say: every block of every page is run, in order, in one folder for each page.

Commands go to a shell as they stand, Python is executed, and tables of a registry are added to ``./registry.toml`` and
made into components. A comment ``<!-- not run: WHY -->`` on the line above a block leaves it out; NOT_RUN holds why.
"""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
import types
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from pages import PAGES, Block, blocks, blocks_of, commands
from reader import Reader, arrays, light, network, photographs, saved

import cli
from harness import config, layers, registry
from harness.request import Options
from harness.types import KINDS

PLUGIN = "--plugin"
BLOCKS = [block for page in PAGES for block in blocks(page)]
RUN = [block for block in BLOCKS if not block.reason]
GIVEN = [(block, command) for block in BLOCKS if block.kind == "shell" for command in commands(block)]
NOT_RUN = {
    "a drawing": 2,
    "a table, which tests/test_run.py holds against a run": 1,
    "bench new writes such tests, and tests/test_scaffold.py runs them": 1,
    "captions, which tests/test_docs.py looks for in the data": 1,
    "minutes of work, however few images it learns from": 1,
    "the tests themselves": 2,
    "weights of a hub": 2,
}
"""Every reason for which blocks are left out, with how many. A new one is a promise that no CI can keep the block."""
REAL = ("README.md", "captions.md", "datasets.md", "registry.md", "report.md")
"""Pages that want real data."""
USUAL = {"models": ("resnet_noisy", "vit_ft")}
MATRICES: dict[str, dict[str, tuple[str, ...]]] = {
    "README.md": {},
    "figures.md": {"models": ("vit_ft",), "attacks": ("clean", "pgd")},
}
"""What is left of the usual matrix on these pages, where it is not USUAL."""
FINISHED = ("metrics.md",)
"""Pages that speak of a run that has been made."""


def test_every_block_is_run_or_says_why_not() -> None:
    assert Counter(block.reason for block in BLOCKS if block.reason) == NOT_RUN
    assert {block.kind for block in RUN} <= {"shell", "python", "toml"}
    assert len(RUN) > 40
    assert len(GIVEN) > 60


def test_blocks_are_seen_as_a_page_shows_them() -> None:
    text = """a

```python
x = 1
```
<!-- not run: slow -->
```toml
x = 2
```

    bench run \\
        --verify

* an item

    of two paragraphs

```
drawn

    inside
```
"""
    found = list(blocks_of(text, Path("page.md")))
    assert [block.kind for block in found] == ["python", "toml", "shell", "text"]
    assert [block.line for block in found] == [4, 8, 11, 19]
    assert [block.reason for block in found] == ["", "slow", "", ""]
    assert found[0].text == "x = 1\n"
    assert list(commands(found[2])) == ["run      --verify"]
    assert found[3].text == "drawn\n\n    inside\n"


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    made = Reader(tmp_path_factory.mktemp("reader"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, cifar_root: Path, flowers_root: Path, shared_data: Path) -> Path:
    """One folder of all real data."""
    folder = tmp_path_factory.mktemp("data")
    for place in (cifar_root / "cifar-100-python", flowers_root / "flowers-102", shared_data / "coco-fa"):
        (folder / place.name).symlink_to(place)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(b.page == page for b in RUN)], ids=lambda p: p.name)
def test_a_page_runs(
    page: Path, reader: Reader, workplace: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if page.name in REAL:
        data: Path = request.getfixturevalue("data")
        reader.has(data)
        own_files(page.name, reader, workplace, data)
    reader.sits_down(workplace, light(MATRICES.get(page.name, USUAL)))
    if page.name in FINISHED:
        reader.pastes(Block(page, 1, "sh", "bench run", ""), workplace)
    module = types.ModuleType(f"page_{page.stem.lower()}")  # of its own, for dataclasses look their module up
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in (block for block in RUN if block.page == page):
        if block.kind == "shell":
            reader.pastes(block, workplace)
        elif block.kind == "toml":
            add_to_registry(block, workplace / "registry.toml")
        else:
            if named := re.match(r"# (\w+\.py)\n", block.text):  # the file that the page has it saved in
                (workplace / named[1]).write_text(block.text)
            padded = "\n" * (block.line - 1) + block.text  # so that a traceback names the line of the page
            exec(compile(padded, str(page), "exec", dont_inherit=True), vars(module))


def own_files(page: str, reader: Reader, place: Path, data: Path) -> None:
    """What a page takes for granted: a network, photographs and arrays of the reader's own, and what is in capitals."""
    if page in ("README.md", "registry.md"):
        network(place)
        photographs(reader.home / "photos", data)
    if page in ("datasets.md", "registry.md"):
        arrays(place)
        photographs(place / "photos" / "pets", data)
        saved(place / "photos" / "pets", place / "saved" / "pets")
    (place / "FOLDER").symlink_to(data)


def add_to_registry(block: Block, path: Path) -> None:
    """Adds tables to a registry; what they name is made, and matrices are resolved."""
    with path.open("a") as file:
        file.write(block.text)
    tables = layers.profiled(layers.read(), "tiny")
    try:
        for section, entries in tomllib.loads(block.text).items():
            for name in entries if section in KINDS else ():
                assert not config.configure(tables, section, name).fault, f"{block}: {section}.{name}"
            for name in entries if section == "matrices" else ():
                config.resolve(Options(matrix=name))
    finally:
        registry.plug("registry", [])


@pytest.mark.parametrize(("block", "command"), GIVEN, ids=str)
def test_a_command_of_a_page_can_be_given(block: Block, command: str) -> None:
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
