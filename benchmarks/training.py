"""An epoch of adversarial training (PGD-4, Linf 8/255): the harness against a plain loop around torchattacks.

Run: python -m benchmarks.training [--n 2560] [--repeats 5].
The same network (ResNet-18 of width 1/4, fresh each time), CIFAR-100 coarse, Adam, batch 128, no augmentation. Ours is
``harness.training.train`` with the objective of ``pgd_at``; the images a second are those of its telemetry, the epoch
without validation and checkpoint. The plain loop is timed alike.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.peers import quiet
from benchmarks.subjects import cifar100_coarse
from benchmarks.timing import Runs, machine, ratio
from harness import boundary
from harness.data import Data
from harness.lessons import ClassLessons
from harness.recipe import Recipe
from harness.training import Training, train
from plugins.defenses.pgd_at import PGDAdversarialTraining
from plugins.networks import Normalised, resnet18

BATCH, STEPS, EPS, LR = 128, 4, 8 / 255, 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2560, help="images of the epoch")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    quiet()
    data = cifar100_coarse()
    network = resnet18(data.facts.shape[0], len(data.facts.classes), 16)
    fresh = Normalised(network, data.mean, data.std)
    runs = {"ours": Runs(), "torchattacks": Runs()}
    for _ in range(asked.repeats):
        for name, epoch in (("ours", ours), ("torchattacks", plain)):
            runs[name].seconds.append(epoch(copy.deepcopy(fresh), data, asked.n))
    print(f"one epoch of PGD-{STEPS} training, Linf 8/255, n = {asked.n}, batch {BATCH}")
    for name, found in runs.items():
        speed = asked.n / found.median
        print(f"  {name:13}{found}  {speed:6.1f} images/s, {ratio(found, runs['ours']):.2f} x the time of ours")
    print(f"medians [extremes] of {asked.repeats} interleaved repetitions")
    print(machine(("torch", "torchattacks")))


def ours(module: nn.Module, data: Data, n: int) -> float:
    """Seconds of the epoch alone."""
    hooks = boundary.bind("defenses", PGDAdversarialTraining(eps=EPS, steps=STEPS))
    recipe = Recipe(epochs=1, batch_size=BATCH, lr=LR, samples_per_epoch=n)
    with tempfile.TemporaryDirectory() as folder:
        training = Training(
            module=module,
            recipe=recipe,
            lessons=ClassLessons(
                data.splits["train"],
                data.splits["validation"].limited(64),
                lambda problem, batch, random: hooks.objective(problem=problem, batch=batch, random=random),
                seed=0,
                batch_size=BATCH,
            ),
            seed=0,
            checkpoint=Path(folder, "checkpoint"),
        )
        _, history = train(training)
    return n / history[0]["images_per_second"]


def plain(module: nn.Module, data: Data, n: int) -> float:
    """Seconds of the loop that a user of torchattacks writes."""
    import torchattacks

    samples = data.splits["train"]
    attack = torchattacks.PGD(module, eps=EPS, alpha=2.5 * EPS / STEPS, steps=STEPS, random_start=True)
    optimizer = torch.optim.Adam(module.parameters(), LR)
    module.train()
    began = time.perf_counter()
    for index in torch.randperm(len(samples))[:n].split(BATCH):
        batch = samples.take(index)
        loss = F.cross_entropy(module(attack(batch.x, batch.y)), batch.y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
