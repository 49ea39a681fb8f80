"""What a person sees while a run goes on: a live display on a terminal, plain lines elsewhere, or nothing."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO


class Reporter:
    """Told by the executor what happens; this one says nothing. ``share``: part of the step done, in [0, 1]."""

    def begin(self, seconds: float | None) -> None:
        """The run begins; it is expected to take so many seconds."""

    def step(self, label: str, seconds: float | None) -> None:
        """A step begins."""

    def advance(self, share: float, text: str) -> None:
        """The step at hand has come so far."""

    def say(self, text: str) -> None:
        """A line worth keeping."""

    def close(self) -> None:
        """The run is over."""


class Lines(Reporter):
    """One plain line for each thing that ends, for logs and pipes; a sign of life every half minute in between."""

    def __init__(self, stream: TextIO | None = None, quiet_s: float = 30.0) -> None:
        """stream: None is standard error as it is now, which may not be what it was when this file was imported."""
        self._stream, self._quiet_s = stream or sys.stderr, quiet_s
        self._label, self._spoke = "", time.monotonic()

    def step(self, label: str, seconds: float | None) -> None:
        self._label = label

    def advance(self, share: float, text: str) -> None:
        if time.monotonic() - self._spoke > self._quiet_s:
            self.say(f"{self._label}: {share:.0%} {text}")

    def say(self, text: str) -> None:
        self._spoke = time.monotonic()
        print(text, file=self._stream, flush=True)


class Live(Reporter):
    """Two bars of rich: the whole run, weighed by expected seconds, and the step at hand with its loss and accuracy."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            console=Console(stderr=True, highlight=False),
            transient=True,
        )
        self._all = self._progress.add_task("all", total=1.0, text="")
        self._now = self._progress.add_task("", total=1.0, text="", visible=False)
        self._expected: float | None = None
        self._weight = self._finished = 0.0
        self._began = time.monotonic()

    def begin(self, seconds: float | None) -> None:
        self._expected = seconds
        self._progress.start()

    def step(self, label: str, seconds: float | None) -> None:
        self._finished += self._weight
        self._weight = (seconds or 0.0) / self._expected if self._expected else 0.0
        self._progress.update(self._now, description=label, completed=0.0, text="", visible=True)

    def advance(self, share: float, text: str) -> None:
        self._progress.update(self._now, completed=share, text=text)
        overall = min(1.0, self._finished + self._weight * share)
        self._progress.update(self._all, completed=overall, text=self._eta(overall))

    def say(self, text: str) -> None:
        self._progress.console.print(text, markup=False)

    def close(self) -> None:
        self._progress.stop()

    def _eta(self, overall: float) -> str:
        elapsed = time.monotonic() - self._began
        if not self._expected:
            return ""
        # The estimate is trusted at first, what was measured more and more.
        measured = elapsed * (1 - overall) / overall if overall > 0 else self._expected
        left = (1 - overall) * self._expected * (1 - overall) + measured * overall
        return f"about {spell(left)} left"


def choose(*, quiet: bool) -> Reporter:
    """The display that suits where standard error goes."""
    if quiet:
        return Reporter()
    return Live() if sys.stderr.isatty() else Lines()


def spell(seconds: float | None) -> str:
    """A duration as a person says it: ``40 s``, ``3 min 20 s``, ``2 h 05 min``, ``4 days``; ``an unknown time``."""
    if seconds is None:
        return "an unknown time"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole / 86400:.0f} days"


def percent(value: Any) -> str:
    return f"{100 * value:.1f} %"
