"""Interleaved repetitions, medians, and the line that says on which machine and with which versions."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass
class Runs:
    """Wall times in seconds of the repetitions of one contender, and what the last of them gave."""

    seconds: list[float] = field(default_factory=list)
    last: Any = None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        return f"{self.median:8.2f} s [{min(self.seconds):.2f}, {max(self.seconds):.2f}]"


def interleaved(contenders: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, Runs]:
    """Runs A B C A B C ...: whatever else the machine does meets all of them alike."""
    runs = {name: Runs() for name in contenders}
    for _ in range(repeats):
        for name, contender in contenders.items():
            seconds, runs[name].last = timed(contender)
            runs[name].seconds.append(seconds)
    return runs


def timed(call: Callable[[], T]) -> tuple[float, T]:
    """Wall time in seconds, and what the call gave."""
    began = time.perf_counter()
    result = call()
    return time.perf_counter() - began, result


def ratio(one: Runs, other: Runs) -> float:
    """Median over the repetitions of how many times as long as ``other`` the contender ``one`` took beside it."""
    return statistics.median(a / b for a, b in zip(one.seconds, other.seconds, strict=True))


def machine(packages: Sequence[str]) -> str:
    """Processor, cores and memory, and the versions of Python and of these packages."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    hardware = f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB; {platform.platform()}"
    return f"{hardware}; Python {platform.python_version()}, {versions}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.is_file() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
