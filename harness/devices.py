"""Which device a run uses, decided without importing torch where there can be no accelerator."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from harness.errors import BenchError


def resolve(wanted: str) -> str:
    """``cpu``, ``cuda``, ``cuda:1`` or ``mps``. Raises BenchError for a device that is not there."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", wanted):
        raise BenchError(f"--device {wanted}: no such device; auto, cpu, cuda, cuda:N or mps is needed")
    if wanted == "cpu" or (wanted == "auto" and not _may_have_accelerator()):
        return "cpu"
    import torch

    if wanted in ("auto", "mps") and torch.backends.mps.is_available():
        return "mps"
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "auto":
        return "cuda" if count else "cpu"
    if wanted == "mps" or int(wanted.partition(":")[2] or 0) >= count:
        raise BenchError(f"--device {wanted}: torch sees no such device here ({count} CUDA devices); use --device cpu")
    return wanted


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _may_have_accelerator() -> bool:
    nvidia = Path("/proc/driver/nvidia/version").exists() or Path("/dev/kfd").exists() or Path("/dev/dxg").exists()
    return nvidia or platform.system() != "Linux"
