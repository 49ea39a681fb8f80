"""What CELL means on the command line: the beginning of a content key, or MODEL/DEFENSE/ATTACK[:NORM][:EPS]."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from harness.coercion import coerce
from harness.errors import BenchError, unknown
from harness.report.layout import threat_text
from harness.store.queries import Row, cells_by_key, leaderboard
from harness.store.reading import Reader
from harness.types import NORMS, SEVERITY, eps_text

KEY = re.compile(r"[0-9a-f]{6,64}")
FORM = "the first 6 or more characters of a key, or MODEL/DEFENSE/ATTACK[:NORM][:EPS], are needed"
LISTED = 6  # candidates named in an error


class Wanted(NamedTuple):
    """A cell by its names; norm and eps where they were given."""

    names: tuple[str, ...]
    norm: str | None = None
    eps: float | None = None


def select(reader: Reader, text: str, *, seed: int | None = None, profile: str | None = None) -> Row:
    """The one cell that ``text`` means, as its newest run shows it.

    Raises BenchError, with the candidates, where there is none or more than one.
    """
    found = _by_names(reader, text) if "/" in text else _by_key(reader, text)
    kept = [row for row in found if seed in (None, row.seed) and profile in (None, row.profile)]
    if not kept:
        there = sorted({f"profile {row.profile}, seed {row.seed}" for row in found})
        raise BenchError(f"{text}: not with this --profile and --seed; stored: {'; '.join(there)}")
    if len({row.key for row in kept}) > 1:
        raise _ambiguous(text, kept)
    return kept[-1]


def name(row: Row) -> str:
    """A cell as ``select`` reads it: MODEL/DEFENSE/ATTACK:NORM:EPS."""
    threat = threat_text(row.norm, row.eps).replace(" ", ":")
    return f"{row.model}/{row.defense}/{row.attack}" + (f":{threat}" if threat else "")


def parse(text: str, names: tuple[str, ...] | None = None) -> Wanted:
    """Names, norm and budget of MODEL/DEFENSE/ATTACK[:NORM][:EPS]. Raises BenchError for anything else.

    names: those that it begins with, where they are known.
    """
    head, *rest = (text if names is None else text.removeprefix("/".join(names))).split(":")
    names = names or tuple(head.split("/"))
    if len(names) != 3 or not all(names) or len(rest) > 2:
        raise BenchError(f"{text}: {FORM}")
    norms = {norm.lower(): norm for norm in (*NORMS, SEVERITY)}
    norm: str | None = None
    eps: float | None = None
    for part in rest:
        if not part[:1].isalpha():
            eps = coerce(part, float, f"{text}: eps")
        elif part.lower() in norms:
            norm = norms[part.lower()]
        else:
            raise unknown(f"{text}: norm", part, norms.values())
    return Wanted(names, norm, eps)


def _by_key(reader: Reader, text: str) -> list[Row]:
    if not KEY.fullmatch(text.lower()):
        raise BenchError(f"{text}: {FORM}")
    found = cells_by_key(reader, text.lower())
    if not found:
        raise BenchError(f"{text}: no cell has a key that begins so; `bench table --format json` lists them")
    return found


def _by_names(reader: Reader, text: str) -> list[Row]:
    found = leaderboard(reader)
    for names in dict.fromkeys((row.model, row.defense, row.attack) for row in found):
        # Names may hold slashes and colons themselves (hf:org/name): what is stored tells where they end.
        threat = text.removeprefix("/".join(names))
        if threat != text and (not threat or threat[0] == ":"):
            wanted = parse(text, names)
            break
    else:
        wanted = parse(text)
    for what, value in zip(("model", "defense", "attack"), wanted.names, strict=True):
        found = _narrowed(found, f"{text}: {what}", what, value)
    if wanted.norm is not None:
        found = _narrowed(found, f"{text}: norm", "norm", wanted.norm)
    if wanted.eps is None:
        return found
    kept = [row for row in found if row.eps is not None and math.isclose(row.eps, wanted.eps, rel_tol=1e-5)]
    if not kept:
        known = sorted({row.eps for row in found if row.eps is not None})
        raise BenchError(f"{text}: no such budget; stored: {', '.join(map(eps_text, known)) or 'no perturbation'}")
    return kept


def _narrowed(rows: Sequence[Row], where: str, field: str, value: str) -> list[Row]:
    kept = [row for row in rows if getattr(row, field) == value]
    if not kept:
        raise unknown(where, value, {getattr(row, field) or "no perturbation" for row in rows})
    return kept


def _ambiguous(text: str, rows: Sequence[Row]) -> BenchError:
    """The candidates by what they differ in, and their keys, which always tell them apart."""
    differing = [f for f in ("profile", "dataset", "seed") if len({getattr(row, f) for row in rows}) > 1]
    by_key = {row.key: row for row in rows}
    shown = [
        ", ".join([name(row), *(f"{f} {getattr(row, f)}" for f in differing), f"key {key[:12]}"])
        for key, row in by_key.items()
    ]
    more = f"; and {len(shown) - LISTED} more" if len(shown) > LISTED else ""
    return BenchError(f"{text}: {len(shown)} cells are meant: {'; '.join(shown[:LISTED])}{more}")
