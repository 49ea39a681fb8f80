"""Published figures of the registry, to stand beside measured ones."""

from __future__ import annotations

from harness import layers
from harness.coercion import coerce
from harness.errors import unknown
from harness.report.layout import Reference


def published(name: str, registry: str | None = None) -> Reference:
    """Percent by model, defense and attack.

    Raises BenchError for a name that the registry does not have, and for figures that are none.
    """
    references = layers.read(registry).get("references", {})
    if name not in references:
        raise unknown("--reference", name, references)
    found: Reference = coerce(references[name], Reference, f"references.{name}")
    return found
