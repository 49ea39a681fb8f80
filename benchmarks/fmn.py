"""Minimum-norm attacks: how far FMN's median distance is from the truth, and from foolbox's DeepFool and FMN.

Run: python -m benchmarks.fmn [--n 64] [--repeats 5] [--steps 100].

linear   ten random linear classes on 1 x 8 x 8 images: the distance to the nearest boundary is known in closed form,
         the margin between two classes over the dual norm of the difference of their weights. The samples are so near
         to it that the box [0, 1] does not matter.
network  the subject ``undefended``, over the samples that it classifies rightly; none knows the truth, less is better.

foolbox 3.3.4 never projects in L2 (``L2FMNAttack.project`` divides the norms by themselves, so every step stays whole);
beside it stands the same attack with the projection that is meant.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.ours import ours_fmn
from benchmarks.peers import quiet, stands
from benchmarks.subjects import subjects
from benchmarks.timing import Runs, interleaved, machine, ratio
from harness.data import Samples
from harness.types import NORMS, norm_of

DUAL = {"Linf": 1.0, "L2": 2.0, "L1": float("inf")}
PEERS = {
    "foolbox FMN": {"Linf": "LInfFMNAttack", "L2": "L2FMNAttack", "L1": "L1FMNAttack"},
    "the same, mended": {"L2": "L2FMNAttack"},
    "foolbox DeepFool": {"Linf": "LinfDeepFoolAttack", "L2": "L2DeepFoolAttack"},
}
Contenders = Mapping[str, Callable[[], Tensor]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100, help="of foolbox's FMN")
    parser.add_argument("--without-ours", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    quiet()
    module, samples = linear(asked.n)
    foolbox_distance("L2DeepFoolAttack", module, samples, "L2")  # imports, and whatever else is done once
    _measure("linear", module, samples, asked)
    (subject,) = subjects(["undefended"], 4 * asked.n)
    right = stands(subject.module, subject.samples, subject.samples.images.float() / 255, 256).nonzero()[: asked.n, 0]
    s = subject.samples
    subject.module.requires_grad_(False)
    _measure("network", subject.module, Samples(s.images[right], s.labels[right], s.ids[right]), asked)
    print(f"\nmedians [extremes] of {asked.repeats} interleaved repetitions; {machine(('torch', 'foolbox'))}")


def linear(n: int) -> tuple[nn.Module, Samples]:
    """A linear model and ``n`` samples labelled by itself, each with its nearest boundary inside the box."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(64, 10)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(10, 64, generator=generator))
        layer.bias.copy_(-layer.weight.sum(1) / 2)  # grey is where all boundaries meet
    module = nn.Sequential(nn.Flatten(), layer).eval().requires_grad_(False)
    images = torch.randint(102, 154, (100 * n, 1, 8, 8), dtype=torch.uint8, generator=generator)
    labels = module(images.float() / 255).argmax(1)
    samples = Samples(images, labels, torch.arange(len(images)))
    distance = truth(module, samples, "L1")  # mostly one pixel's, which lies within 0.1 of grey
    near = ((distance > 0.2) & (distance < 0.4)).nonzero()[:n, 0]
    if len(near) < n:
        raise SystemExit(f"only {len(near)} of {n} samples are near a boundary")
    return module, Samples(images[near], labels[near], samples.ids[near])


def truth(module: nn.Module, samples: Samples, norm: str) -> Tensor:
    """The distance to the nearest boundary of a linear model: (N,)."""
    weight = module[1].weight.double()  # type: ignore[index]
    logits = (samples.images.double() / 255).flatten(1) @ weight.T + module[1].bias.double()  # type: ignore[index]
    own = samples.labels[:, None]
    margins = logits.gather(1, own) - logits  # (N, K)
    slopes = torch.linalg.vector_norm(weight[samples.labels][:, None] - weight, DUAL[norm], dim=2)
    return (margins / slopes).scatter(1, own, float("inf")).amin(1)


def foolbox_distance(
    kind: str, module: nn.Module, samples: Samples, norm: str, mended: bool = False, **options: Any
) -> Tensor:
    """Distances that an attack of foolbox finds: (N,), infinite where its image does not fool."""
    import foolbox
    from foolbox.attacks.gradient_descent_base import clip_lp_norms

    model = foolbox.PyTorchModel(module, bounds=(0, 1), device=samples.labels.device)
    batch = samples.take(torch.arange(len(samples)))
    attack = getattr(foolbox.attacks, kind)(**options)
    if mended:
        attack.project = lambda x, x0, epsilon: x0 + clip_lp_norms(x - x0, norm=epsilon, p=2)
    x_adv = attack.run(model, batch.x, foolbox.Misclassification(batch.y))
    size = norm_of(x_adv - batch.x, norm)
    return size.where(~stands(module, samples, x_adv, len(samples)), float("inf"))


def _measure(name: str, module: nn.Module, samples: Samples, asked: argparse.Namespace) -> None:
    for norm in NORMS:
        contenders = _contenders(module, samples, norm, asked)
        runs = interleaved(contenders, asked.repeats)
        exact = truth(module, samples, norm) if name == "linear" else None
        told = "" if exact is None else f", true median {float(exact.median()):.5f}"
        print(f"\n{name}, {norm}, n = {len(samples)}{told}")
        for contender, found in runs.items():
            _print(contender, found, runs.get("ours"), exact)


def _contenders(module: nn.Module, samples: Samples, norm: str, asked: argparse.Namespace) -> Contenders:
    contenders: dict[str, Any] = {} if asked.without_ours else {"ours": lambda: ours_fmn(module, samples, norm)}
    for peer, kinds in PEERS.items():
        if norm in kinds:
            options = {"steps": asked.steps} if "FMN" in kinds[norm] else {}
            options |= {"mended": "mended" in peer}
            contenders[peer] = lambda kind=kinds[norm], options=options: foolbox_distance(
                kind, module, samples, norm, **options
            )
    return contenders


def _print(contender: str, found: Runs, ours: Runs | None, exact: Tensor | None) -> None:
    distance = found.last.double()
    line = f"  {contender:17}{found}  median {float(distance.median()):.5f}, fooled {int(distance.isfinite().sum())}"
    if exact is not None:
        off = float(distance.median() / exact.median()) - 1
        line += f", {100 * off:+.2f} % off, worst sample {100 * float((distance / exact - 1).amax()):+.2f} %"
    if ours is not None and ours is not found:
        less = float((ours.last.double() <= distance * (1 + 1e-4)).double().mean())
        line += f"; {ratio(found, ours):.2f} x the time of ours, ours no farther for {100 * less:.0f} %"
    print(line, flush=True)


if __name__ == "__main__":
    main()
