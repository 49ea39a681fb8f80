"""How long ``bench`` takes to answer: start-up, and a table from a store of 10,000 cells.

Run: python -m benchmarks.startup [--cells 10000] [--repeats 7]. Bar: ``bench table`` at most 0.7 s.
Prints medians in milliseconds, with the machine and the versions they were measured with.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.timing import machine
from harness.store.records import CellLabel, CellRecord, RunRecord, ScoreRecord
from harness.store.store import Store, open_store
from harness.types import Outcome, Reason, Status, Verdict

ROOT = Path(__file__).parent.parent
DEFENSES = ("undefended", "adversarial_training")
ATTACKS = (("clean", None, None), ("fgsm", "Linf", 8 / 255), ("pgd", "Linf", 8 / 255))
PER_MODEL = len(DEFENSES) * len(ATTACKS)
SAMPLES = 4  # a table does not read the outcomes
PACKAGES = ("typer", "rich", "sqlalchemy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=7)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.db"
        with open_store(str(path)) as store:
            fill(store, asked.cells)
        _report(asked.cells, {name: measure(c, asked.repeats) for name, c in commands(path).items()})


def fill(store: Store, count: int) -> None:
    """One run of ``count`` cells: models x defenses x attacks, five scores each, a doubt about every tenth."""
    store.begin_run(RunRecord("startup", "benchmarks.startup", "full", "cpu"))
    labels = list(_labels(count))
    store.label_cells("startup", labels)
    for label in labels:
        accuracy = random.Random(label.position).random()
        doubts = [Reason("few", Verdict.SUSPECT, "too few samples")] if label.position % 10 == 0 else []
        store.save_cell(_cell(label), _outcome(), list(_scores(accuracy)), doubts)
    store.finish_run("startup", "ok")


def _labels(count: int) -> Iterator[CellLabel]:
    for position in range(count):
        model, rest = divmod(position, PER_MODEL)
        defense, attack = divmod(rest, len(ATTACKS))
        names = ("full", "cifar100", f"model_{model:05}", DEFENSES[defense])
        yield CellLabel._make((position, f"{position:064}", *names, *ATTACKS[attack], 0))


def _cell(label: CellLabel) -> CellRecord:
    subject = f"{label.model}/{label.defense}"
    document = {"attack": label.attack, "parameters": {"steps": 10}, "parent": "0" * 64, "torch": "2.7"}
    threat = (label.norm, label.eps)
    return CellRecord(
        label.cell_key, "startup", Status.OK, "cpu", subject, label.attack, *threat, n=SAMPLES, document=document
    )


def _outcome() -> Outcome:
    whole, real = np.arange(SAMPLES), np.linspace(0.0, 1.0, SAMPLES)
    return Outcome(whole, whole, whole, whole, real, real, real, real, real)


def _scores(accuracy: float) -> Iterator[ScoreRecord]:
    yield ScoreRecord("accuracy", "a", accuracy, max(0.0, accuracy - 0.03), min(1.0, accuracy + 0.03), 1000, "fraction")
    for metric in ("attack_success_rate", "perturbation", "passes", "seconds"):
        yield ScoreRecord(metric, metric, 20 * accuracy, None, None, 1000, "")


def commands(path: Path) -> Mapping[str, Sequence[str]]:
    """What is measured: name to argument list. ``bench`` is the one installed beside this Python."""
    installed = Path(sys.executable).parent / "bench"
    bench = [str(installed)] if installed.exists() else [sys.executable, "-m", "cli"]
    return {
        "python -c pass": [sys.executable, "-c", "pass"],
        "bench --help": [*bench, "--help"],
        "bench list": [*bench, "list"],
        "bench table": [*bench, "table", "--store", str(path)],
        "bench table --format json": [*bench, "table", "--store", str(path), "--format", "json"],
    }


def measure(command: Sequence[str], repeats: int) -> float | str:
    """Median wall time in seconds of a command, after one run that warms the file cache; its error where it fails."""
    # An installed bench has its bytecode; a developer's setting must not have it compiled anew each time.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        seconds.append(time.perf_counter() - start)
        if done.returncode:
            return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return statistics.median(seconds[1:])


def _report(cells: int, medians: Mapping[str, float | str]) -> None:
    print(f"{cells} cells in the store; median wall time")
    for name, found in medians.items():
        print(f"  {name:28} {found if isinstance(found, str) else f'{1000 * found:7.0f} ms'}")
    print(machine(PACKAGES))


if __name__ == "__main__":
    main()
