"""Content keys: what of a step's parameters decides numbers, and the digest of its document."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import Field
from pathlib import Path
from typing import Any

from harness.hookspecs import ADDED_LATER, NOT_IN_KEY


def key_of(document: Mapping[str, Any]) -> str:
    """The content key of a step's document (64 hexadecimal digits)."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def deciding(fields: Iterable[Field[Any]], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a dataclass that decide numbers, by its fields' metadata: ``NOT_IN_KEY``, ``ADDED_LATER``."""
    found = dict(values)
    for field in fields:
        rule, value = field.metadata.get("key"), found.get(field.name)
        if rule == NOT_IN_KEY["key"] or (rule == ADDED_LATER["key"] and value == field.default):
            found.pop(field.name, None)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a parameter of type {type(value).__name__} has no canonical form")
