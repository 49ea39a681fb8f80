"""What the benchmarks of captions share: options by name with their defaults, and where the shared data lie."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def parser(description: str | None, **defaults: int) -> argparse.ArgumentParser:
    """A parser with ``--name N`` for each of ``defaults``; others may be added to it."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in defaults.items():
        found.add_argument(f"--{name}", type=int, default=default)
    return found


def shared() -> Path:
    """The folder of shared data: ``BENCH_SHARED_DATA``, else beside the repository."""
    return Path(os.environ.get("BENCH_SHARED_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
