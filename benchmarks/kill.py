"""Kill a run at random moments, start it again each time, and compare with a run left in peace.

    python benchmarks/kill.py [--kills 10] [-- OPTIONS OF bench run]

Prints when each kill came, what was finished then, and whether the accuracies agree to the last digit with those of an
uninterrupted run and no cell stands in the store twice. Exit code 1 where they do not.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def bench(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Starts a command of ours in a folder of its own, without output."""
    command = [shutil.which("bench", path=str(Path(sys.executable).parent)) or "bench", *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def finish(folder: Path, *arguments: str) -> str:
    process = bench(folder, *arguments)
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"bench {' '.join(arguments)} ended with {process.returncode}")
    return output


def numbers(folder: Path) -> dict[str, Any]:
    """Accuracy, interval and n of each cell by its coordinate."""
    rows = json.loads(finish(folder, "table", "--format", "json", "--metric", "accuracy"))
    coordinates = ("profile", "dataset", "model", "defense", "attack", "norm", "eps", "seed")
    found = {}
    for row in rows:
        place = str([row[name] for name in coordinates])
        if place in found:
            raise SystemExit(f"two cells at {place}")
        found[place] = (row["status"], row["value"], row["low"], row["high"], row["n"], row["key"])
    return found


def kill_often(folder: Path, kills: int, longest: float, seed: int, options: list[str]) -> int:
    """Kills ``kills`` runs at moments in [0, longest] seconds; returns how many were still running when hit."""
    moments = random.Random(seed)
    hit = 0
    for number in range(kills):
        process = bench(folder, "run", *options)
        moment = moments.uniform(0.0, longest)
        try:
            process.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            hit += 1
        process.communicate()
        finished = len(list(folder.glob("artifacts/*/*/step.json")))
        print(f"kill {number + 1:2}: after {moment:5.1f} s, {finished} trainings finished so far", flush=True)
    return hit


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("options", nargs="*", help="options of bench run, after --")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        peaceful, killed = Path(scratch, "peaceful"), Path(scratch, "killed")
        peaceful.mkdir()
        killed.mkdir()
        began = time.monotonic()
        finish(peaceful, "run", *arguments.options)
        whole = time.monotonic() - began
        print(f"uninterrupted: {whole:.1f} s", flush=True)
        # Ten kills within a fifth of a run each leave it unfinished, so that every one of them hits.
        hit = kill_often(killed, arguments.kills, whole / 5, arguments.seed, arguments.options)
        finish(killed, "run", *arguments.options)
        expected, got = numbers(peaceful), numbers(killed)
    same = expected == got
    verdict = "equal to the last digit" if same else "DIFFERENT"
    print(f"{hit} of {arguments.kills} runs were killed; {len(got)} cells, no cell twice, numbers {verdict}")
    for place in expected if not same else ():
        if expected[place] != got.get(place):
            print(f"  {place}: {expected[place]} against {got.get(place)}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
