"""AutoAttack standard (Linf) against its authors' code: robust accuracy, speed, and what each member leaves.

Run: python -m benchmarks.autoattack [--n 200] [--repeats 1] [--subjects undefended robust hidden].

Minutes: each repetition runs both in turn on all subjects. The members' seconds are those since the start.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.ours import ours_autoattack
from benchmarks.peers import PACKAGES, autoattack, quiet, torchattacks_autoattack
from benchmarks.subjects import NAMES, Subject, subjects
from benchmarks.timing import interleaved, machine, ratio
from harness.statistics import rate

if TYPE_CHECKING:
    from numpy.typing import NDArray

PEERS = {"pyautoattack": autoattack, "torchattacks": torchattacks_autoattack}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=200, help="of the peer")
    parser.add_argument("--subjects", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--peers", nargs="*", default=["pyautoattack"], choices=PEERS)
    parser.add_argument("--without-ours", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    quiet()
    for subject in subjects(asked.subjects, asked.n):
        subject.module.requires_grad_(False)
        _measure(subject, asked)
    print(f"\nmedians [extremes] of {asked.repeats} interleaved repetitions; {machine(PACKAGES)}")


def _measure(subject: Subject, asked: argparse.Namespace) -> None:
    name, module, samples, eps = subject
    print(f"\n{name}: AutoAttack standard, Linf {255 * eps:.3g}/255, n = {len(samples)}", flush=True)
    contenders: dict[str, Any] = {} if asked.without_ours else {"ours": lambda: ours_autoattack(module, samples, eps)}
    for peer in asked.peers:
        contenders[peer] = lambda peer=peer: PEERS[peer](module, samples, eps, asked.batch_size)
    runs = interleaved(contenders, asked.repeats)
    right = {contender: _stands(found.last) for contender, found in runs.items()}
    for contender, found in runs.items():
        score = rate(int(right[contender].sum()), len(samples))
        interval = f"[{100 * (score.low or 0):.1f}, {100 * (score.high or 0):.1f}]"
        print(f"  {contender:13}{found}  robust {100 * score.value:5.1f} % {interval}  {_members(found.last)}")
        if "ours" in runs and contender != "ours":
            points = 100 * float(right["ours"].mean() - right[contender].mean())
            apart = int((right["ours"] != right[contender]).sum())
            times = ratio(found, runs["ours"])
            print(f"  {'':13}{times:.2f} x the time of ours; ours leaves {points:+.1f} points more, ", end="")
            print(f"{apart} samples are judged differently")


def _stands(result: Any) -> NDArray[np.bool_]:
    return np.asarray(result.stands if hasattr(result, "stands") else result.correct)


def _members(result: Any) -> str:
    members = result.members if hasattr(result, "members") else result.facts.get("members", ())
    return ", ".join(f"{name} {100 * accuracy:.1f} % {seconds:.1f} s" for name, accuracy, seconds in members)


if __name__ == "__main__":
    main()
