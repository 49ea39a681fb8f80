"""The one door to the packages of the extra ``figures``."""

from __future__ import annotations

import importlib
from typing import Any

from harness.errors import BenchError


def library(module: str) -> Any:
    """A module of matplotlib or captum, imported. Raises BenchError where the package is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise BenchError(
            f"figures: the package {package} is not installed; pip install 'adversarial-bench[figures]'"
        ) from error
