"""The harness: finds components, plans the matrix, runs what is missing, judges, stores. Names no plugin.

From Python: ``evaluate`` runs a matrix of models, attacks and defenses, ``attack`` one attack on one batch, ``results``
reads a store. They are imported when they are asked for, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.api.crafting import Attacked as Attacked
    from harness.api.crafting import attack as attack
    from harness.api.evaluating import Interrupted as Interrupted
    from harness.api.evaluating import evaluate as evaluate
    from harness.api.results import Cell as Cell
    from harness.api.results import Results as Results
    from harness.api.results import results as results
    from harness.errors import BenchError as BenchError

_OFFERED = {
    "BenchError": "harness.errors",
    "evaluate": "harness.api.evaluating",
    "Interrupted": "harness.api.evaluating",
    "attack": "harness.api.crafting",
    "Attacked": "harness.api.crafting",
    "results": "harness.api.results",
    "Results": "harness.api.results",
    "Cell": "harness.api.results",
}
__all__ = [  # noqa: RUF022
    "BenchError",
    "evaluate",
    "Interrupted",
    "attack",
    "Attacked",
    "results",
    "Results",
    "Cell",
]


if not TYPE_CHECKING:  # else no misspelt name would be noticed

    def __getattr__(name: str) -> Any:
        if name not in _OFFERED:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(_OFFERED[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_OFFERED})
