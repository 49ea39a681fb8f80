"""No defense: the undefended rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness.types import ANY_TASK


@dataclass(frozen=True)
class Undefended:
    """Leaves the model as it was trained."""

    tasks: ClassVar[tuple[str, ...]] = ANY_TASK
