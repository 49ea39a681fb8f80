"""PGD-10 on a GPU: images a second and share of the peak, against torchattacks and foolbox.

Run: python -m benchmarks.device --peak-tflops 989 [--n 1024] [--repeats 5]. Ends with 2 where there is no CUDA GPU.

ResNet-18 of width 1 on 32 x 32, and timm's vit_base_patch16_224, random weights and images, in float32 and bfloat16
(the module converts, everybody attacks the same). The peak is one figure for both types: give that of bfloat16.
Operations are torch's count of one forward and backward with frozen weights, ten of them an image, no other pass.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.ours import ours_pgd
from benchmarks.peers import foolbox_pgd, pgd_stands, quiet, torchattacks_pgd
from benchmarks.timing import interleaved, machine, ratio
from harness.data import Samples
from plugins.networks import Normalised, resnet18

STEPS, EPS = 10, 8 / 255
PEERS = {"torchattacks": torchattacks_pgd, "foolbox": foolbox_pgd}


class InType(nn.Module):
    """A module run in another floating-point type between float32 pixels and float32 logits."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module, self.dtype = module.to(dtype), dtype

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.module(x.to(self.dtype))
        return logits.float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peak-tflops", type=float, required=True)
    parser.add_argument("--n", type=int, default=1024)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        print("benchmarks.device: torch sees no CUDA GPU; this measurement needs one", file=sys.stderr)
        raise SystemExit(2)
    quiet()
    torch.manual_seed(0)
    for name, network, size in (("resnet18", resnet18(3, 100, 64), 32), ("vit_base_patch16_224", _vit(), 224)):
        for dtype in (torch.float32, torch.bfloat16):
            module = InType(Normalised(network, [0.5] * 3, [0.25] * 3), dtype).cuda().eval().requires_grad_(False)
            _measure(f"{name}, {dtype}", module, size, asked)
    print(
        f"\n{torch.cuda.get_device_name()}, peak {asked.peak_tflops:g} TFLOP/s as given; batch {asked.batch_size}; ",
        end="",
    )
    print(f"medians [extremes] of {asked.repeats} interleaved repetitions, one before them")
    print(machine(("torch", "timm", "torchattacks", "foolbox")))


def _measure(name: str, module: nn.Module, size: int, asked: argparse.Namespace) -> None:
    images = torch.randint(0, 256, (asked.n, 3, size, size), dtype=torch.uint8, device="cuda")
    samples = Samples(images, torch.zeros(asked.n, dtype=torch.int64, device="cuda"), torch.arange(asked.n).cuda())
    contenders: dict[str, Any] = {"ours": lambda: ours_pgd(module, samples, EPS, STEPS, asked.batch_size)}
    for peer, attack in PEERS.items():
        contenders[peer] = lambda attack=attack: pgd_stands(
            attack, module, samples, EPS, STEPS, asked.batch_size
        ).cpu()  # waits for the device
    interleaved(contenders, 1)
    runs = interleaved(contenders, asked.repeats)
    work = STEPS * operations(module, samples.take(torch.arange(8).cuda()).x)
    print(f"\n{name}: PGD-{STEPS}, Linf {255 * EPS:.3g}/255, n = {asked.n}, {work / 1e9:.1f} GFLOP an image")
    for contender, found in runs.items():
        speed = asked.n / found.median
        peak = 100 * speed * work / (asked.peak_tflops * 1e12)
        times = ratio(found, runs["ours"])
        print(f"  {contender:13}{found}  {speed:8.1f} images/s  {peak:5.1f} % of the peak  {times:.2f} x ours")


def operations(module: nn.Module, x: Tensor) -> float:
    """Floating-point operations of one gradient of one image, a multiplication and an addition being two."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        torch.autograd.grad(module(x.requires_grad_()).sum(), x)
    return counter.get_total_flops() / len(x)


def _vit() -> nn.Module:
    import timm

    network: nn.Module = timm.create_model("vit_base_patch16_224", num_classes=100)
    return network


if __name__ == "__main__":
    main()
