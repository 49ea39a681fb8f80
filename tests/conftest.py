"""Real data for the tests, and a cache folder that is not the user's.

The data is not part of the repository. It is looked for in ``BENCH_SHARED_DATA``, else in ``../shared/data`` beside
the repository. Without it the tests that need it are skipped with a reason that starts "no real data:"; where ``CI`` is
set they fail instead.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import pytest
from filelock import FileLock

_CIFAR_MD5 = {
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
}


@pytest.fixture(autouse=True)
def _environment_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.delenv("BENCH_DATA", raising=False)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("BENCH_SHARED_DATA") or beside)
    if not folder.is_dir():
        _no_real_data(f"{folder} is not there")
    return folder


@pytest.fixture(scope="session")
def cifar_root(shared_data: Path) -> Path:
    """A folder that holds ``cifar-100-python``; unpacked once for all test runs of this user on this machine."""
    packed = shared_data / "cifar-100-packed"
    if not (packed / "unpack.py").is_file():
        _no_real_data(f"{packed} has no unpack.py")
    root = Path(tempfile.gettempdir(), f"adversarial-bench-{getpass.getuser()}", "cifar-100")
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".lock"):
        if not _intact(root / "cifar-100-python", _CIFAR_MD5):
            subprocess.run([sys.executable, packed / "unpack.py", root], check=True, stdout=subprocess.DEVNULL)
    return root


@pytest.fixture(scope="session")
def flowers_root(shared_data: Path) -> Path:
    """A folder that holds ``flowers-102``, every image 64 x 64."""
    if not (shared_data / "flowers-102" / "setid.mat").is_file():
        _no_real_data(f"{shared_data} has no flowers-102")
    return shared_data


def _no_real_data(what: str) -> NoReturn:
    reason = f"no real data: {what}; name its folder in BENCH_SHARED_DATA"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def _intact(folder: Path, sums: Mapping[str, str]) -> bool:
    return all(
        (folder / name).is_file() and hashlib.md5((folder / name).read_bytes()).hexdigest() == wanted
        for name, wanted in sums.items()
    )
