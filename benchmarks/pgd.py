"""PGD-10 (Linf) against torchattacks, foolbox and ART, and against the time that the passes alone need.

Run: python -m benchmarks.pgd [--n 1000] [--repeats 5] [--subjects undefended robust] [--frozen] [--channels-last].

Everybody attacks and judges the same samples of the same module in evaluation mode, as a training leaves it;
repetitions are interleaved. Each takes the better of the batch sizes 64 and 256, measured before. Two floors, of
passes that do nothing else, with the faster of the engine's form of the model and the plain one and the best batch
size of 32, 64, 128, 256:

floor         the forwards and backwards that the engine counted, a forward at the speed of forwards alone
strict floor  the gradients that it counted, a forward and a backward each, and nothing else

With --frozen its weights require no gradient, which foolbox and ART would else compute with every step. With
--channels-last it is in that memory format. None of the peers asks its user for either; the engine sees to both.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.ours import ours_form, ours_pgd
from benchmarks.peers import BATCH_SIZES, PACKAGES, PEERS, PGD, pgd_stands, quiet
from benchmarks.subjects import Subject, subjects
from benchmarks.timing import Runs, interleaved, machine, ratio, timed
from harness.data import Samples
from harness.statistics import rate

STEPS = 10
SIZES = (32, 64, 128, 256)  # tried for the floor
Attack = Callable[[Samples, int], Any]


class Floor(NamedTuple):
    """The fastest way to push samples through: a form of the model and a batch size."""

    form: str
    module: nn.Module
    batch_size: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--subjects", nargs="+", default=["undefended", "robust"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS, help="none: the floor alone")
    parser.add_argument("--frozen", action="store_true")
    parser.add_argument("--channels-last", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    quiet()
    for subject in subjects(asked.subjects, asked.n):
        subject.module.requires_grad_(not asked.frozen)
        if asked.channels_last:
            subject.module.to(memory_format=torch.channels_last)
        _measure(subject, asked.repeats, asked.peers)
    layout = "channels last" if asked.channels_last else "as built"
    layout += ", frozen" if asked.frozen else ""
    print(f"\nmodule {layout}; {asked.threads} threads; medians [extremes] of {asked.repeats} interleaved repetitions")
    print(machine(PACKAGES))


def _measure(subject: Subject, repeats: int, peers: Sequence[str]) -> None:
    name, module, samples, eps = subject
    print(f"\n{name}: PGD-{STEPS}, Linf {255 * eps:.3g}/255, n = {len(samples)}", flush=True)
    attacks: dict[str, Attack] = {"ours": lambda part, size: ours_pgd(module, part, eps, STEPS, size)}
    for peer, attack in ((peer, PEERS[peer]) for peer in peers):
        attacks[peer] = partial(_peer, attack, module, eps)
    sizes = {contender: _best_size(contender, attack, samples) for contender, attack in attacks.items()}
    contenders: dict[str, Callable[[], Any]] = {
        contender: lambda c=contender: attacks[c](samples, sizes[c]) for contender in attacks
    }
    gradient, forward = _fastest(module, samples, _gradients), _fastest(module, samples, _forwards)
    contenders["gradients"] = lambda: _gradients(gradient.module, samples, gradient.batch_size)
    contenders["forwards"] = lambda: _forwards(forward.module, samples, forward.batch_size)
    runs = interleaved(contenders, repeats)
    for contender, size in sizes.items():
        right = runs[contender].last.correct if contender == "ours" else runs[contender].last
        found = rate(int(right.sum()), len(right))
        accuracy = f"robust {100 * found.value:5.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"
        times = ratio(runs[contender], runs["ours"])
        print(f"  {contender:13} batch {size:3} {runs[contender]}  {times:5.2f} x ours  {accuracy}")
    _print_floors(runs, gradient, forward)


def _peer(attack: PGD, module: nn.Module, eps: float, samples: Samples, size: int) -> Tensor:
    return pgd_stands(attack, module, samples, eps, STEPS, size)


def _best_size(name: str, attack: Attack, samples: Samples) -> int:
    attack(samples.limited(8), 8)  # imports, and whatever else is done once
    seconds = {size: min(timed(lambda size=size: attack(samples, size))[0] for _ in "ab") for size in BATCH_SIZES}
    shown = ", ".join(f"{size}: {took:.2f} s" for size, took in seconds.items())
    print(f"  {name:13} by batch size {shown}", flush=True)
    return min(seconds, key=lambda size: seconds[size])


def _print_floors(runs: Mapping[str, Runs], gradient: Floor, forward: Floor) -> None:
    """Whole floors are taken repetition by repetition, so that a slow moment of the machine meets both sides."""
    outcome = runs["ours"].last
    forwards, backwards = float(outcome.forwards.mean()), float(outcome.backwards.mean())
    one, both = runs["forwards"].seconds, runs["gradients"].seconds
    floor = Runs([forwards * f + backwards * max(0.0, g - f) for f, g in zip(one, both, strict=True)])
    strict = Runs([backwards * g for g in both])
    print(f"  passes a sample, as the engine counts: {forwards:.2f} forwards, {backwards:.2f} backwards")
    for what, runs_of in (("floor", floor), ("strict floor", strict)):
        print(f"  {what:23} {runs_of}  engine takes {ratio(runs['ours'], runs_of):5.2f} x")
    n = len(outcome.label)
    for what, found in (("gradients", gradient), ("forwards", forward)):
        print(f"  {what}: {n / runs[what].median:.0f} a second, {found.form} model, batch {found.batch_size}")


def _fastest(module: nn.Module, samples: Samples, passes: Callable[[nn.Module, Samples, int], None]) -> Floor:
    """The better of two measurements each, on at most 512 samples."""
    few = samples.limited(512)
    choices = [Floor(*form, size) for form in (("engine's", ours_form(module)), ("plain", module)) for size in SIZES]
    return min(choices, key=lambda c: min(timed(lambda c=c: passes(c.module, few, c.batch_size))[0] for _ in "ab"))


def _forwards(module: nn.Module, samples: Samples, batch_size: int) -> None:
    with torch.inference_mode():
        for batch in samples.batches(batch_size):
            module(batch.x)


def _gradients(module: nn.Module, samples: Samples, batch_size: int) -> None:
    """A gradient of each image, the weights left out."""
    for batch in samples.batches(batch_size):
        x = batch.x.requires_grad_()
        torch.autograd.grad(F.cross_entropy(module(x), batch.y, reduction="sum"), x)


if __name__ == "__main__":
    main()
