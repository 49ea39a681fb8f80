"""What a cell was made from: the documents of the attack, the defense and the trainings before it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from harness.store.details import fits_by_label, step_details
from harness.store.queries import Row
from harness.store.reading import Reader


def lineage(reader: Reader, row: Row, document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The steps behind a cell, its attacks first, each as far as it is stored: see ``_link`` for the keys.

    A defense that trains nothing is no stored step; the fit before it is then looked for by its label, and taken if
    there is just one of this seed. The first step of a surrogate model is of the kind ``surrogate``.
    """
    inputs = document.get("inputs", {})
    hardened = step_details(reader, inputs.get("hardened") or "")
    surrogate = step_details(reader, inputs.get("surrogate") or "")
    steps = list(_upwards(reader, hardened)) if hardened else _by_label(reader, row)
    other = list(_upwards(reader, surrogate)) if surrogate else []
    return [*_attacks(row, document), *steps, *({**link, "kind": "surrogate"} for link in other[:1]), *other[1:]]


def _attacks(row: Row, document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One link for each attack that the cell tries; cells of the first schema know of one only."""
    parts = document.get("attack") or ([document] if document.get("component") else [])
    for part in parts:
        averaged = {"eot": part["eot"]} if part.get("eot", 1) != 1 else {}
        yield _link("attack", row.key, {**part, "parameters": {**(part.get("parameters") or {}), **averaged}})


def _upwards(reader: Reader, step: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A step and those that it begins with."""
    document = json.loads(step["document"])
    yield _link(step["kind"], step["key"], document, step)
    inputs = document.get("inputs", {})
    before = inputs.get("fit") or inputs.get("start")
    earlier = step_details(reader, before) if before else None
    if earlier is not None:
        yield from _upwards(reader, earlier)


def _by_label(reader: Reader, row: Row) -> list[dict[str, Any]]:
    fits = fits_by_label(reader, f"{row.profile}/{row.model}")
    of_seed = [fit for fit in fits if json.loads(fit["document"]).get("seed", row.seed) == row.seed]
    if len(of_seed) != 1:
        return []
    first, *rest = _upwards(reader, of_seed[0])
    return [first | {"by_label": True}, *rest]


def _link(kind: str, key: str, document: Mapping[str, Any], step: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Kind, key, component, distribution, parameters and recipe; for a training also its label and seconds."""
    return {
        "kind": kind,
        "key": key,
        "component": document.get("component", ""),
        "distribution": document.get("distribution", ""),
        "parameters": document.get("parameters") or {},
        "recipe": document.get("recipe") or {},
        "label": step["label"] if step else None,
        "seconds": step["seconds"] if step else None,
        "by_label": False,
    }
