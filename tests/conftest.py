"""Real data for the tests, and a cache folder that is not the user's.

The data is not part of the repository. It is looked for in ``BENCH_SHARED_DATA``, else in ``../shared/data`` beside
the repository. Without it the tests that need it are skipped with a reason that starts "no real data:"; where ``CI`` is
set they fail instead.

Also a throw-away plugin distribution, and the command.
"""

from __future__ import annotations

import functools
import gc
import getpass
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from filelock import FileLock

from harness import registry
from harness.store.records import CellLabel, CellRecord, RunRecord, RunStatus, ScoreRecord, StepRecord
from harness.types import Outcome, Status

_CIFAR_MD5 = {
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
}


_LONGEST = ("test_study_resnets.py", "test_study_vits.py", "test_run.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that tests spread over processes end at about the same time."""
    items.sort(key=lambda item: _LONGEST.index(item.path.name) if item.path.name in _LONGEST else len(_LONGEST))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported here stays: to look through it at each garbage collection took two seconds of each process."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # or else some libraries complain of leaks


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


@pytest.fixture(scope="session")
def study(shared_data: Path) -> dict[str, Any]:
    """What the study that the profile ``report`` reproduces says of its image classifiers."""
    report = shared_data.parent / "reference" / "report.json"
    if not report.is_file():
        _no_real_data(f"{report} is not there")
    found: dict[str, Any] = json.loads(report.read_text())["classification"]
    return found


@pytest.fixture(scope="session")
def _store_to_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from harness.store.store import open_store  # SQLAlchemy and alembic, for the tests that need results only

    path = tmp_path_factory.mktemp("store") / "results.db"
    numbers, zeros = np.arange(4, dtype=np.int64), np.zeros(4)
    outcome = Outcome(numbers, numbers, numbers, numbers, zeros, zeros, zeros, zeros, zeros, seconds=2.0)
    label = CellLabel(0, "cell1", "tiny", "digits", "resnet_original", "none", "clean", None, None, 0)
    measured: dict[str, Any] = {"n": 4, "seconds": 2.0, "passes": 4.0}
    with open_store(str(path)) as store:
        store.begin_run(RunRecord("run1", "bench run", "tiny", "cpu"))
        store.label_cells("run1", [label])
        cell = CellRecord("cell1", "run1", Status.OK, "cpu", "subject1", "clean", **measured)
        store.save_cell(cell, outcome, [ScoreRecord("accuracy", "metric1", 0.75, 0.3, 0.95, 4, "fraction")], [])
        step = StepRecord("fit1", "fit", "tiny/resnet_original", Status.OK, "run1", "cpu", seconds=3.0, passes=100.0)
        store.save_step(step)
        store.finish_run("run1", RunStatus.OK)
    return path


@pytest.fixture
def small_store(_store_to_copy: Path, workplace: Path) -> Path:
    """``results.db`` in the workplace: one finished cell, and a fit of 0.03 s a pass."""
    return Path(shutil.copy(_store_to_copy, workplace / "results.db"))


@pytest.fixture
def plugin_distribution(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Path]]:
    """Installs a distribution for one test: ``install("stranger", SOURCE, attacks={"odd": "Odd"})``.

    It is a folder with the module ``stranger.py`` and ``stranger-1.0.dist-info``, on ``sys.path`` and, for processes
    started by the test, in ``PYTHONPATH``. An entry of None stands for the module itself. The folder is returned.
    """
    modules: list[str] = []

    def install(name: str, source: str, **kinds: Mapping[str, str | None]) -> Path:
        folder = tmp_path_factory.mktemp(name)
        (folder / f"{name}.py").write_text(textwrap.dedent(source))
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines: list[str] = []
        for kind, entries in kinds.items():
            lines += [f"[bench.{kind}]", *(f"{e} = {name}" + (f":{c}" if c else "") for e, c in entries.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        modules.append(name)
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        registry.discover.cache_clear()
        return folder

    yield install
    for name in modules:
        sys.modules.pop(name, None)
    registry.discover.cache_clear()


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one: no registry.toml, no data and no results lie in it."""
    folder = tmp_path / "workplace"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def bench(workplace: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command in ``workplace``, in this process."""
    from commands import in_process  # torch, for the tests that run something only

    return functools.partial(in_process, workplace)


@pytest.fixture
def bench_process(workplace: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The same in a process of its own, for what a plugin or a signal does to a process."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cli", *arguments]
        return subprocess.run(command, cwd=workplace, capture_output=True, text=True, timeout=300, check=False)

    return call


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
