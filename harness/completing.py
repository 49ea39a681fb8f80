"""What a shell offers for names on the command line. Imports no plugin and no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from typer import Context  # noqa: TC002 - typer reads the annotation

from harness.errors import BenchError
from harness.types import KINDS

Complete = Callable[[str], list[str]]


def of_kind(kind: str) -> Complete:
    """Configurations and components of a kind, after each comma anew."""

    def named() -> Iterable[str]:
        from harness.layers import available, read

        return available(read(), kind)

    return _listed(named)


def of_section(section: str) -> Complete:
    """Names of a section of the registry: matrices, profiles, references."""

    def named() -> Iterable[str]:
        from harness.layers import read

        return read().get(section, {})

    return _listed(named)


def kinds(incomplete: str) -> list[str]:
    return [kind for kind in KINDS if kind.startswith(incomplete)]


def of_the_kind_before(context: Context, incomplete: str) -> list[str]:
    """Names of the kind that the argument before says."""
    return of_kind(str(context.params.get("kind", "")))(incomplete)


def _listed(named: Callable[[], Iterable[str]]) -> Complete:
    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        try:
            return [f"{before}{comma}{name}" for name in named() if name.startswith(last)]
        except BenchError:  # a registry with a mistake has nothing to offer; the command says what it is
            return []

    return complete
