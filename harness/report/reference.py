"""Published figures of the registry, to stand beside measured ones."""

from __future__ import annotations

from collections.abc import Mapping

from harness import config
from harness.errors import unknown


def published(name: str, registry: str | None = None) -> Mapping[str, Mapping[str, Mapping[str, float]]]:
    """Percent by model, defense and attack. Raises BenchError for a name that the registry does not have."""
    references = config.read(registry).get("references", {})
    if name not in references:
        raise unknown("--reference", name, references)
    return references[name]
