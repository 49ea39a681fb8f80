"""Published figures of the registry, to stand beside measured ones."""

from __future__ import annotations

from collections.abc import Mapping

from harness import config
from harness.coercion import coerce
from harness.errors import unknown

Published = Mapping[str, Mapping[str, Mapping[str, float]]]


def published(name: str, registry: str | None = None) -> Published:
    """Percent by model, defense and attack. Raises BenchError for a name that the registry does not have, or for figures that are none."""
    references = config.read(registry).get("references", {})
    if name not in references:
        raise unknown("--reference", name, references)
    published: Published = coerce(references[name], Published, f"references.{name}")
    return published
