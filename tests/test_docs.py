"""The pages name everything that the program can show."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from pages import PAGES, TOP, blocks
from typer.main import get_command

import cli
from harness import boundary, registry
from harness.hookspecs import SPECS
from harness.illustration.drawing import KINDS, STORED
from harness.layers import read
from harness.recipe import Recipe
from harness.report.explanations import EXPLANATIONS, explanation
from harness.settings import RunSettings

VERDICTS = (TOP / "docs" / "verdicts.md").read_text()
ATTACKS = (TOP / "docs" / "attacks.md").read_text()
DATASETS = (TOP / "docs" / "datasets.md").read_text()
FIGURES = (TOP / "docs" / "figures.md").read_text()
METRICS = (TOP / "docs" / "metrics.md").read_text()
REGISTRY = (TOP / "docs" / "registry.md").read_text()
PLUGINS = (TOP / "docs" / "plugins.md").read_text()
DESIGN = (TOP / "docs" / "design.md").read_text()
BUILT_IN = [
    name for name in registry.names("attacks") if registry.find("attacks", name).distribution == "adversarial-bench"
]


def emitted() -> Iterator[str]:
    """The codes of every Reason that the harness makes; what is filled in stands as NAME, or buffers and weights."""
    for file in ("validity", "undisturbed", "preprocessing"):
        for node in ast.walk(ast.parse((TOP / "harness" / f"{file}.py").read_text())):
            if not (isinstance(node, ast.Call) and ast.unparse(node.func) == "Reason"):
                continue
            code = node.args[0]
            if isinstance(code, ast.Constant):
                yield str(code.value)
            elif "_changed" in ast.unparse(code):
                yield from ("buffers_changed", "weights_changed")
            else:
                assert isinstance(code, ast.JoinedStr)
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "NAME" for part in code.values)


CODES = sorted(set(emitted()))
GENERATED = {"commands.md", "components.md", "reference.md"}
"""Pages of the site that are made of the program and lie in no folder."""


def options_of(command: str) -> set[str]:
    found = get_command(cli.app).commands[command]  # type: ignore[attr-defined]
    return {option for parameter in found.params for option in parameter.opts}


def test_the_codes_are_seen() -> None:
    assert {"few_samples", "weaker_than_NAME", "buffers_changed", "eps_zero_not_clean"} <= set(CODES)
    assert len(CODES) == 21


@pytest.mark.parametrize("code", CODES)
def test_every_doubt_stands_in_the_table_and_is_explained(code: str) -> None:
    rows = [line for line in VERDICTS.splitlines() if line.startswith("|") and f"`{code}`" in line.split("|")[1]]
    assert len(rows) == 1
    assert "suspect" in rows[0] or "invalid" in rows[0]
    assert explanation(code)


def test_the_page_says_what_the_program_says() -> None:
    words = " ".join(VERDICTS.split())
    for code, text in EXPLANATIONS.items():
        shown = f"{code}NAME" if code.endswith("_") else code
        assert f"**`{shown}`** {text}" in words, code


def test_the_page_names_no_doubt_that_does_not_exist() -> None:
    named = {
        code
        for line in VERDICTS.splitlines()
        if line.startswith("| `")
        for code in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    assert named == set(CODES)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_attack_stands_in_the_table_with_its_norms_and_what_it_sees(name: str) -> None:
    component = boundary.load("attacks", name)
    (row,) = [line for line in ATTACKS.splitlines() if line.startswith(f"| `{name}` |")]
    _, _, norms, sees, *_ = (part.strip() for part in row.split("|"))
    if isinstance(component.norms, property):
        assert (norms, sees) == ("by attack", "by attack")
        return
    assert norms == (", ".join(component.norms) or "none")
    threat = {"Linf", "L2", "L1"} & set(component.norms)
    assert sees == (getattr(component, "access", "gradient") if threat else "")


def test_every_named_attack_stands_on_the_page() -> None:
    for name, entry in read()["attacks"].items():
        if entry.get("component") != "corruption":
            assert f"`{name}`" in ATTACKS, name


@pytest.mark.parametrize("name", [n for n in registry.names("datasets") if registry.find("datasets", n).built_in])
def test_every_data_set_stands_in_the_table_as_it_states_itself(name: str) -> None:
    (row,) = [line for line in DATASETS.splitlines() if line.startswith(f"| `{name}` |")]
    component = boundary.load("datasets", name)()
    if not getattr(component, "path", "its own"):
        return  # states nothing before it is told where the images are
    facts = component.facts()
    channels, height, width = facts.shape
    assert f"| {channels} x {height} x {width} |" in row.replace("size", str(getattr(component, "size", "")))
    groups = f" in {len(set(facts.groups))} groups" if facts.groups else ""
    assert f"| {len(facts.classes)}{groups} |" in row
    assert re.findall(r"[\d,]+\d", row.split("|")[4]) == [f"{count:,}" for count in facts.sizes.values()]
    assert facts.licence.removesuffix("research use").rstrip("; ").replace(" by the authors", "") in row


@pytest.mark.slow
def test_the_captions_that_the_page_shows_are_drawn() -> None:
    dataset = boundary.load("datasets", "shapes_fa")()
    splits = boundary.bind("datasets", dataset).load(files=[])
    said = {caption for split in splits.values() for captions in split.captions for caption in captions}
    (shown,) = [block.text for block in blocks(TOP / "docs" / "datasets.md") if block.reason.startswith("captions")]
    assert set(shown.splitlines()) <= said


def rows_of(page: str, title: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    section = page.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    assert lines, title
    return [[part.strip() for part in line.split("|")[1:-1]] for line in lines[2:]]


def test_every_kind_of_figure_stands_in_the_table_with_what_it_needs() -> None:
    rows = {row[0].strip("`"): row[-1] for row in rows_of(FIGURES, "Kinds")}
    assert list(rows) == list(KINDS)
    assert {kind for kind, needed in rows.items() if needed in ("results", "telemetry")} == set(STORED)
    for kind in KINDS:
        assert f"`{kind}`" in FIGURES.partition("## How they are computed")[2].partition("\n## ")[0], kind


def test_every_function_that_the_figures_page_names_is_there() -> None:
    named = [re.findall(r"`([\w.]+)`", " ".join(row[1:])) for row in rows_of(FIGURES, "Your own data")]
    for data, *others in filter(None, named):
        module = data.rpartition(".")[0]
        for name in (data, *others):
            module, _, function = name.rpartition(".") if "." in name else (module, "", name)
            if module:
                source = (TOP / "harness" / f"{module.replace('.', '/')}.py").read_text()
                assert f"\ndef {function}(" in source, name


@pytest.mark.parametrize("name", read()["metrics"])
def test_every_metric_stands_in_the_table_as_it_states_itself(name: str) -> None:
    table = METRICS.partition("| name |")[2].partition("\n\n")[0]
    (row,) = [line for line in table.splitlines() if f"`{name}`" in line.split("|")[1]]
    _, _, component, unit, _, better, *_ = (part.strip() for part in row.split("|"))
    found = component.partition("`")[2].partition("`")[0]
    assert found == read()["metrics"][name].get("component", name)
    stated = boundary.load("metrics", found)
    assert unit == stated.unit
    assert better == {True: "higher", False: "lower", None: ""}[stated.higher_is_better]


def test_every_metric_of_the_page_is_in_the_registry() -> None:
    table = METRICS.partition("| name |")[2].partition("\n\n")[0]
    named = {name for line in table.splitlines() for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert named == set(read()["metrics"])
    assert {registry.find("metrics", name).built_in for name in registry.names("metrics")} == {True}
    assert {name for name in registry.names("metrics") if f"`{name}`" not in table} == set()


def test_every_setting_of_a_run_stands_in_the_table() -> None:
    short = _keys_of_run()
    assert sorted(short) == sorted(field.name for field in fields(RunSettings))
    assert {key for row in rows_of(REGISTRY, "`[run]`") for key in re.findall(r"`(\w+)`", row[0])} == set(short)
    options = {option for row in rows_of(REGISTRY, "`[run]`") for option in re.findall(r"`(--\w[\w-]*)`", row[2])}
    assert {option for option in options if option not in options_of("run")} == set()


def _keys_of_run() -> list[str]:
    (row,) = [line for line in REGISTRY.splitlines() if line.startswith("| `[run]` |")]
    return row.split("|")[2].partition(";")[0].strip(" `").split()


def test_every_key_of_a_training_stands_in_the_table_or_beside_its_own() -> None:
    section = REGISTRY.partition("\n## `training`\n")[2]
    for field in fields(Recipe):
        assert f"`{field.name}`" in section, field.name


@pytest.mark.parametrize(
    ("kind", "hook"), [(kind, name) for kind, spec in SPECS.items() for name in vars(spec) if not name.startswith("_")]
)
def test_every_hook_stands_on_the_plugins_page(kind: str, hook: str) -> None:
    assert re.search(rf"`{hook}(\(|`)", PLUGINS), kind


@pytest.mark.parametrize("name", re.findall(r"``(\w+): ClassVar", inspect.getdoc(SPECS["attacks"]) or ""))
def test_every_attribute_of_an_attack_stands_on_the_plugins_page(name: str) -> None:
    assert f"{name}: ClassVar" in PLUGINS


def test_every_module_of_the_harness_stands_in_the_design() -> None:
    named = {name for row in rows_of(DESIGN, "The flow") for name in re.findall(r"`([^`]+)`", row[0])}
    named = {name.removeprefix("harness/") for name in named}
    files = {path.name for path in (TOP / "harness").glob("*.py")} - {"__init__.py"}
    folders = {path.parent.name for path in (TOP / "harness").glob("*/__init__.py")}
    assert files - named == set()
    assert folders - {name.partition("/")[0] for name in named} == set()
    assert {name for name in named if not (TOP / "harness" / name).exists()} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert link.startswith("https://") or link in GENERATED or (page.parent / link).exists(), link


def test_the_readme_names_every_page() -> None:
    readme = (TOP / "README.md").read_text()
    for page in (TOP / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in readme or page.name == "index.md", page.name  # it is the site's README


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_of_commands_exist(page: Path) -> None:
    """Every option that a line beginning with ``bench COMMAND`` gives."""
    text = page.read_text().replace("\\\n", " ")
    for command, rest in re.findall(r"^ *bench (\w+)(.*)$", text, re.M):
        known = options_of(command)
        for option in re.findall(r"(?<!\S)--[\w-]+", rest.partition("#")[0]):
            assert option in known, f"bench {command} {option}"
