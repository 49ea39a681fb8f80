"""A table of settings as a field of a component."""

from __future__ import annotations

import json
from typing import Any


class Overrides(dict[str, Any]):
    """Entries by name: a mapping that a frozen component can be hashed with."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(json.dumps(self, sort_keys=True))
