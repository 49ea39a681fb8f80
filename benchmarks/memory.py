"""Peak memory of an evaluation (clean and PGD-10) of 1,000 samples against 50,000.

Run: python -m benchmarks.memory [--sizes 1000 50000]. Bar: the peak of 50,000 within 300 MB of that of 1,000.
Each size is a process of its own, and this one imports no torch: what a process weighed when it started another counts
as the other's peak (ru_maxrss). The images, random uint8 of 3 x 32 x 32, are held in memory and thus within the peak;
the difference is shown with and without them.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

from benchmarks.timing import machine

ROOT = Path(__file__).parent.parent
SHAPE = (3, 32, 32)
CLASSES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs=2, default=[1_000, 50_000])
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        print(json.dumps(evaluate(asked.child, asked.batch_size)))
        return
    peaks = {}
    for n in asked.sizes:
        command = [sys.executable, "-m", "benchmarks.memory", "--child", str(n), "--batch-size", str(asked.batch_size)]
        found = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
        peaks[n] = found["peak"]
        print(
            f"n = {n:6}: peak {found['peak']:7.1f} MB, of it {found['images']:6.1f} MB images; before the attack "
            f"{found['before']:7.1f} MB; {found['seconds']:.1f} s",
            flush=True,
        )
    few, many = asked.sizes
    raw, held = peaks[many] - peaks[few], _megabytes(many) - _megabytes(few)
    print(f"difference {raw:.1f} MB; beyond the images {raw - held:.1f} MB; bar 300 MB")
    print(f"eps 8/255, batch {asked.batch_size}, n of repetitions 1; {machine(('torch', 'numpy'))}")


def evaluate(n: int, batch_size: int) -> dict[str, float]:
    """Attacks a tiny network on ``n`` samples: peak resident memory in MB (1e6 bytes) and seconds."""
    import torch
    from torch import nn

    from benchmarks.ours import ours_pgd
    from harness.assault import Assault
    from harness.data import Samples
    from harness.judging import Trial, judge
    from plugins.attacks.clean import Clean

    torch.set_num_threads(2)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, *SHAPE), dtype=torch.uint8, generator=generator)
    samples = Samples(images, torch.randint(0, CLASSES, (n,), generator=generator), torch.arange(n))
    layers = [nn.Conv2d(SHAPE[0], 4, 3, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(256, CLASSES)]
    module = nn.Sequential(*layers).eval()
    before = _peak()
    seconds = judge(Trial(module, (Assault(Clean(), "clean", None, 0),), batch_size), samples).seconds
    seconds += ours_pgd(module, samples, 8 / 255, 10, batch_size).seconds
    return {"peak": _peak(), "before": before, "images": _megabytes(n), "seconds": seconds}


def _megabytes(n: int) -> float:
    return n * SHAPE[0] * SHAPE[1] * SHAPE[2] / 1e6


def _peak() -> float:
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / 1e6 if sys.platform == "darwin" else kilobytes * 1024 / 1e6


if __name__ == "__main__":
    main()
