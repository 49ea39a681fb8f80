"""Published figures of the registry, to stand beside measured ones, and what a matrix of it wants to see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness import layers
from harness.coercion import coerce, fill
from harness.errors import unknown
from harness.report.captions import Published
from harness.report.layout import Reference
from harness.request import Matrix

Figures = Mapping[str, Mapping[str, Mapping[str, float | Mapping[str, float]]]]


def published(name: str, registry: str | None = None) -> Reference:
    """Percent of accuracy by model, defense and attack.

    Raises BenchError for a name that the registry does not have, and for figures that are none.
    """
    found: Any = _split(name, registry, tables=False)
    return found


def published_sentences(name: str, registry: str | None = None) -> Published:
    """The figures of captioners by model, defense, attack and metric. Raises BenchError as ``published``."""
    found: Any = _split(name, registry, tables=True)
    return found


def matrix(name: str, registry: str | None = None) -> Matrix:
    """The names of a matrix. Raises BenchError for one that the registry does not have."""
    matrices = layers.read(registry).get("matrices", {})
    if name not in matrices:
        raise unknown("--matrix", name, matrices)
    found: Matrix = fill(Matrix, matrices[name], f"matrices.{name}")
    return found


def _split(name: str, registry: str | None, *, tables: bool) -> dict[str, dict[str, dict[str, Any]]]:
    references = layers.read(registry).get("references", {})
    if name not in references:
        raise unknown("--reference", name, references)
    figures: Figures = coerce(references[name], Figures, f"references.{name}")
    kept: dict[str, dict[str, dict[str, Any]]] = {}
    for model, defenses in figures.items():
        for defense, attacks in defenses.items():
            for attack, found in attacks.items():
                if isinstance(found, Mapping) is tables:
                    kept.setdefault(model, {}).setdefault(defense, {})[attack] = found
    return kept
