"""The one error a user is meant to read. Everything else is a bug and keeps its traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BenchError(Exception):
    """One line for the user: who complains, what was got, what is allowed, what to do. Exit code 2."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows in the place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class BrokenPlugin(BenchError):
    """A plugin is not what the boundary asks for. Its own cells fail with this line; a run goes on beside them."""


def unknown(what: str, got: str, allowed: Iterable[str]) -> BenchError:
    """The error for a name that does not exist, with the nearest names that do."""
    names = sorted(allowed)
    near = difflib.get_close_matches(got, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names) or 'none'}"
    return BenchError(f"{what}: no such name {got!r}; {hint}")
