"""The models that are attacked: trained once from real images with a fixed seed, then kept.

Run: python -m benchmarks.subjects. Trains what is not there (about 3 to 5 minutes each on two idle cores) and prints
clean and robust accuracy of all. Weights lie in the user's temporary folder, under ``VERSION``.

``undefended``  ResNet-18 of width 1/4 on CIFAR-100's 20 super-classes, Linf 8/255: PGD leaves next to nothing.
``robust``      ResNet-18 of width 1/8 on the same data, adversarially trained at the eps that it is attacked with, Linf
                4/255 (FGSM from a random start: Wong, Rice and Kolter, ICLR 2020).
``beyond``      ResNet-18 of width 1/8 on Fashion-MNIST, trained in the same way at 0.1, attacked at 0.14, where PGD-10
                leaves about a third and most that fall do so late: the worst case for an engine that lets them go.
``hidden``      the first with logits a thousand times as large: the cross-entropy of most samples is 0 in float32 and
                so is its gradient; the order of the logits, hence every prediction, is the same. A false defense.
"""

from __future__ import annotations

import argparse
import getpass
import gzip
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.timing import machine, timed
from harness.augmenting import augment
from harness.data import Data, Samples, on_device
from harness.randomness import SampleRandom
from harness.recipe import Recipe
from harness.types import Batch, Facts, Split, Threat
from plugins.datasets.cifar100 import CIFAR100
from plugins.networks import Normalised, resnet18

VERSION = "1"  # of everything that decides the weights
NAMES = ("undefended", "robust", "hidden", "beyond")
FASHION = Path("/usr/share/datasets/fashion-mnist")
CACHE = Path(tempfile.gettempdir(), f"adversarial-bench-{getpass.getuser()}")


class Subject(NamedTuple):
    """A model (pixels in [0, 1] -> logits) in evaluation mode, test samples for it, and the Linf eps of the attack."""

    name: str
    module: nn.Module
    samples: Samples
    eps: float


@dataclass(frozen=True)
class Plan:
    """How a model is made. eps_train 0: on the images as they are."""

    data: Callable[[], Data]
    width: int
    epochs: int
    lr: float
    augment: tuple[str, ...]
    eps_train: float
    eps: float


def subjects(names: Sequence[str] = NAMES, n: int | None = None) -> list[Subject]:
    """These subjects, each with a fixed random subset of ``n`` of its test samples (None: all)."""
    return [_subject(name, n) for name in names]


def _subject(name: str, n: int | None) -> Subject:
    if name == "hidden":
        found = _subject("undefended", n)
        return Subject(name, Louder(found.module, 1e3).eval(), found.samples, found.eps)
    plan = PLANS[name]
    data = plan.data()
    return Subject(name, _trained(name, plan, data), data.splits["test"].limited(n), plan.eps)


class Louder(nn.Module):
    """A model whose logits are multiplied: the same predictions, and a cross-entropy that says nothing."""

    def __init__(self, module: nn.Module, factor: float) -> None:
        super().__init__()
        self.module, self.factor = module, factor

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.module(x)
        return logits * self.factor


def _trained(name: str, plan: Plan, data: Data) -> nn.Module:
    path = CACHE / "subjects" / f"{name}-{VERSION}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = resnet18(data.facts.shape[0], len(data.facts.classes), plan.width)
    module = Normalised(network, data.mean, data.std)
    with FileLock(path.with_suffix(".lock")):
        if not path.is_file():
            seconds, _ = timed(lambda: _train(module, plan, data.splits["train"]))
            print(f"{name}: trained for {plan.epochs} epochs in {seconds:.0f} s", file=sys.stderr)
            save_file(module.state_dict(), path)
    module.load_state_dict(load_file(path))
    return module.eval()


def _train(module: nn.Module, plan: Plan, train: Samples, batch_size: int = 128) -> None:
    """Adam with one cycle; a loop of its own, so that a change of the harness's leaves these weights alone."""
    module.to(memory_format=torch.channels_last)
    recipe = Recipe(augment=plan.augment)  # type: ignore[arg-type]
    steps = plan.epochs * (len(train) // batch_size)
    optimizer = torch.optim.Adam(module.parameters(), plan.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.lr, total_steps=steps + 1)
    generator = torch.Generator().manual_seed(0)
    for epoch in range(plan.epochs):
        order = torch.randperm(len(train), generator=generator)
        for index in order[: len(train) // batch_size * batch_size].split(batch_size):
            batch = train.take(index)
            x = augment(train.images[index], batch.ids, recipe, 0, epoch).contiguous(memory_format=torch.channels_last)
            if plan.eps_train:
                x = _fast(module, batch._replace(x=x), plan.eps_train, epoch)
            loss = F.cross_entropy(module(x), batch.y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    module.to(memory_format=torch.contiguous_format)


def _fast(module: nn.Module, batch: Batch, eps: float, epoch: int) -> Tensor:
    """One step of 1.25 eps from a random point of the ball: adversarial images (N, C, H, W)."""
    threat = Threat("Linf", eps)
    module.eval().requires_grad_(False)
    x_adv = threat.uniform(batch.x, SampleRandom(0, batch.ids).at(step=epoch)).requires_grad_()
    (slope,) = torch.autograd.grad(F.cross_entropy(module(x_adv), batch.y), x_adv)
    module.train().requires_grad_(True)
    return threat.project(x_adv.detach() + 1.25 * eps * slope.sign(), batch.x)


def cifar100_coarse() -> Data:
    """CIFAR-100 with its 20 super-classes, from the packed copy in ``BENCH_SHARED_DATA`` or beside the repository."""
    dataset = CIFAR100(labels="coarse")
    root = CACHE / "cifar-100"
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".lock"):
        files = dataset.locate([root])
        if files is None:
            beside = Path(__file__).resolve().parents[2] / "shared" / "data"
            packed = Path(os.environ.get("BENCH_SHARED_DATA") or beside) / "cifar-100-packed"
            if not (packed / "unpack.py").is_file():
                raise SystemExit(f"{packed} has no unpack.py; name the folder of real data in BENCH_SHARED_DATA")
            subprocess.run([sys.executable, packed / "unpack.py", root], check=True, stdout=subprocess.DEVNULL)
            files = dataset.locate([root])
    assert files is not None
    return on_device(dataset.facts(), dataset.load(files), torch.device("cpu"), "cifar100")


def fashion_mnist() -> Data:
    """Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017) as Debian's package has it: 60,000 / 10,000 images of 28 x 28."""
    if not FASHION.is_dir():
        raise SystemExit(f"{FASHION} is not there; apt-get install dataset-fashion-mnist")
    train, test = (_idx(part) for part in ("train", "t10k"))
    facts = Facts((1, 28, 28), tuple(map(str, range(10))), {}, "MIT", "", str(FASHION))
    return on_device(facts, {"train": train, "validation": test, "test": test}, torch.device("cpu"), "fashion")


def _idx(part: str) -> Split:
    images = gzip.decompress((FASHION / f"{part}-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((FASHION / f"{part}-labels-idx1-ubyte.gz").read_bytes())[8:]
    y = np.frombuffer(labels, np.uint8).astype(np.int64)
    x = np.frombuffer(images, np.uint8).reshape(-1, 1, 28, 28).copy()  # torch wants it writable
    return Split(x, y, np.arange(len(y), dtype=np.int64))


PLANS = {
    "undefended": Plan(cifar100_coarse, 16, 3, 5e-3, ("crop", "flip"), 0.0, 8 / 255),
    "robust": Plan(cifar100_coarse, 8, 4, 5e-3, ("flip",), 4 / 255, 4 / 255),
    "beyond": Plan(fashion_mnist, 8, 1, 5e-3, (), 0.1, 0.14),
}


def main() -> None:
    from benchmarks.peers import stands, torchattacks_pgd
    from harness.statistics import rate

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--names", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--eps", type=float, help="instead of each subject's own")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    for name, module, samples, eps in subjects(asked.names, asked.n):
        eps = asked.eps or eps
        clean = stands(module, samples, samples.images.float() / 255, 256)
        robust = stands(module, samples, torchattacks_pgd(module, samples, eps, 10, 256), 256)
        for what, right in (("clean", clean), (f"PGD-10, Linf {255 * eps:.3g}/255", robust)):
            found = rate(int(right.sum()), len(right))
            print(f"{name:12} {what:24} {100 * found.value:5.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]")
    print(f"n = {asked.n}; {machine(('torch', 'torchattacks'))}")


if __name__ == "__main__":
    main()
