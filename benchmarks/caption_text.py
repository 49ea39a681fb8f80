"""How many Persian captions a second become words, on one core. Bar: 8,000.

Run: python -m benchmarks.caption_text [--captions FILE] [--repeats 7].
Cold: no word remembered, as for the first captions of a process; warm: every word seen before. Against hazm's
normaliser on whole captions, which alone is part of the work. Reading hazm's list of words is not counted. The file is
JSON, {image: [{"fa": caption, ...}, ...]}; without one, the COCO captions among the shared data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.caption_options import parser, shared
from benchmarks.timing import Runs, interleaved, machine
from harness.captioning import text


def main() -> None:
    options = parser(__doc__, repeats=7)
    options.add_argument("--captions", type=Path, default=shared() / "coco-fa" / "text_only_val2017.json")
    asked = options.parse_args()
    if not asked.captions.is_file():
        raise SystemExit(f"{asked.captions} is not there; name a file of captions by --captions")
    images = json.loads(asked.captions.read_text(encoding="utf-8"))
    captions = [caption["fa"] for found in images.values() for caption in found]
    contenders: dict[str, Callable[[], Any]] = {
        "ours, cold": partial(by_ours, captions, cold=True),
        "ours, warm": partial(by_ours, captions, cold=False),
        "hazm alone": partial(by_hazm, captions),
    }
    interleaved(contenders, 1)
    runs = interleaved(contenders, asked.repeats)
    if runs["ours, cold"].last != runs["ours, warm"].last:
        raise SystemExit("words remembered are not those made anew")
    different = len({word for caption in runs["ours, cold"].last for word in caption})
    print(f"{len(captions)} captions, {different} different words; captions a second")
    for name, found in runs.items():
        print(f"  {name:11}{_rate(found, len(captions))}")
    print(f"medians [extremes] of {asked.repeats} interleaved repetitions, one before them")
    print(machine(("hazm",)))


def by_ours(captions: Sequence[str], *, cold: bool) -> list[list[str]]:
    if cold:
        text._normal.cache_clear()
    return list(text.cleaned(captions, "fa"))


def by_hazm(captions: Sequence[str]) -> list[str]:
    return list(map(text._normaliser(), captions))


def _rate(runs: Runs, count: int) -> str:
    return f"{count / runs.median:8.0f} [{count / max(runs.seconds):.0f}, {count / min(runs.seconds):.0f}]"


if __name__ == "__main__":
    main()
