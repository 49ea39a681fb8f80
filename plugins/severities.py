"""How strong a common corruption is."""

from __future__ import annotations

from harness.errors import BenchError
from harness.types import Threat


def severity_of(threat: Threat, name: str) -> int:
    """The severity as a whole number from 1 to 5. Raises BenchError for any other."""
    if threat.eps not in (1, 2, 3, 4, 5):
        raise BenchError(f"attack {name}: got severity {threat.eps:g}; 1, 2, 3, 4 or 5 is needed")
    return int(threat.eps)
