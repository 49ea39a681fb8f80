"""The pages name everything that the program can show."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import registry
from harness.layers import read
from harness.report.explanations import EXPLANATIONS, explanation

TOP = Path(__file__).resolve().parents[1]
VERDICTS = (TOP / "docs" / "verdicts.md").read_text()
ATTACKS = (TOP / "docs" / "attacks.md").read_text()
DATASETS = (TOP / "docs" / "datasets.md").read_text()
BUILT_IN = [
    name for name in registry.names("attacks") if registry.find("attacks", name).distribution == "adversarial-bench"
]


def emitted() -> Iterator[str]:
    """The codes of every Reason that the harness makes; what is filled in stands as NAME, or buffers and weights."""
    for file in ("validity", "undisturbed"):
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


def test_the_codes_are_seen() -> None:
    assert {"few_samples", "weaker_than_NAME", "buffers_changed", "eps_zero_not_clean"} <= set(CODES)
    assert len(CODES) == 19


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
    component = registry.load("attacks", name)
    (row,) = [line for line in ATTACKS.splitlines() if line.startswith(f"| `{name}` |")]
    _, _, norms, sees, *_ = (part.strip() for part in row.split("|"))
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
    component = registry.load("datasets", name)()
    if not getattr(component, "path", "its own"):
        return  # states nothing before it is told where the images are
    facts = component.facts()
    channels, height, width = facts.shape
    assert f"| {channels} x {height} x {width} |" in row.replace("size", str(getattr(component, "size", "")))
    groups = f" in {len(set(facts.groups))} groups" if facts.groups else ""
    assert f"| {len(facts.classes)}{groups} |" in row
    assert re.findall(r"[\d,]+\d", row.split("|")[4]) == [f"{count:,}" for count in facts.sizes.values()]
    assert facts.licence.removesuffix("research use").rstrip("; ").replace(" by the authors", "") in row
