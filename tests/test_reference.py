"""The reference of the site, made of the program: each key has a type, a default, a meaning, and its entries work."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
from pages import TOP

from harness import boundary, config, layers, registry
from harness.coercion import signature
from harness.recipe import Recipe
from harness.request import Matrix
from harness.settings import RunSettings
from harness.types import KINDS


def _generated() -> Any:
    spec = importlib.util.spec_from_file_location("generated", TOP / "docs" / "generated.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generated = _generated()
BUILT_IN = [(kind, name) for kind in KINDS for name in registry.names(kind) if registry.find(kind, name).built_in]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of the rows of all tables, without their heads."""
    for line in text.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


@pytest.mark.parametrize(("kind", "name"), BUILT_IN)
def test_a_component_has_a_row_for_each_parameter_and_an_entry_that_works(kind: str, name: str) -> None:
    component = boundary.load(kind, name)
    text = "\n".join(generated.described(kind, name, component))
    found = list(rows(text))
    assert [row[0] for row in found] == [f"`{key}`" for key in signature(component)]
    assert all(len(row) == 4 and all(row) for row in found), found
    entry = tomllib.loads(text.partition("```toml\n")[2].partition("```")[0])
    made = config.configure(entry, kind, f"my_{name}")
    assert not made.fault
    assert made.component == component()


@pytest.mark.parametrize(
    ("section", "keys"),
    [
        ("[run]", [field.name for field in fields(RunSettings)]),
        ("[matrices.NAME]", [field.name for field in fields(Matrix)]),
        ("training and hardening", [field.name for field in fields(Recipe)]),
        *((f"[{kind}.NAME]", sorted({*keys} - {"component", "like"})) for kind, keys in config.HARNESS_KEYS.items()),
    ],
)
def test_every_key_of_a_section_has_a_type_a_default_and_a_meaning(section: str, keys: list[str]) -> None:
    text = generated.reference().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    found = list(rows(text))
    assert sorted(row[0].strip("`") for row in found) == sorted(keys)
    assert all(len(row) == 4 and all(row) for row in found), found
    for row in found:
        assert tomllib.loads(f"value = {row[2].strip('`')}")


def test_every_section_of_a_registry_is_there() -> None:
    sections = re.findall(r"^## \[(\w+)", generated.reference(), re.M)
    assert sorted(sections) == sorted(layers.SECTIONS)


def test_a_meaning_is_the_first_sentence_and_that_of_a_class_above_where_there_is_none() -> None:
    class Above:
        """What it is.

        steps: how many, in all (Some et al., 2020). More of that. alpha, ``beta``: two sizes;
        and so on.
        """

    class Below(Above):
        """Another. beta: its own."""

    meanings = generated.meanings_of(Below, ("steps", "alpha", "beta"))
    assert meanings == {
        "steps": "how many, in all (Some et al., 2020)",
        "alpha": "two sizes; and so on",
        "beta": "its own",
    }


def test_types_and_values_are_written_as_toml_has_them() -> None:
    assert generated.words(int | None) == 'whole number | `"none"`'
    assert generated.words(tuple[float, ...]) == "list of number"
    for value in (True, 'a\\b"ل', [1, 2.5], {"a": 1, "b": ["c"]}):
        assert tomllib.loads(f"value = {generated.toml(value)}") == {"value": value}
    assert generated.toml(None) == '"none"'
