"""Other libraries' attacks through the bridges: do they all run, and what does the bridge cost.

Run: python -m benchmarks.bridges [--only cover overhead] [--n 20] [--repeats 31].

cover     every attack of every bridge is a cell of ``bench run`` on the digits (an undefended ResNet, its first n test
          samples), each in the first norm that it supports, with few iterations. Cells are ok, or failed with the
          reason that the store has; anything else is an error of the harness. What is under way after MINUTES is left
          out and named.
overhead  the same call by the library itself on the module, and through the bridge on the counted module, in
          evaluation mode with frozen weights; in turn, the first one in turn too. A ResNet-18 of width 1/8 on 64 random
          images of 32 x 32. Printed: the median of the pairs' ratios with its 95 % interval (order statistics).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from scipy.stats import binom
from torch import Tensor, nn

from benchmarks.peers import PACKAGES, quiet
from benchmarks.timing import Runs, machine
from harness.assault import Assault
from harness.attacking import propose
from harness.types import Batch, Threat
from harness.undisturbed import seed_global, undisturbed
from plugins.bridges.advlib import Advlib, without_visdom
from plugins.bridges.art import Art
from plugins.bridges.autoattack import AutoAttack
from plugins.bridges.bridge import Bridge
from plugins.bridges.foolbox import Foolbox
from plugins.bridges.torchattacks import Torchattacks
from plugins.networks import resnet18

BRIDGES: dict[str, type[Bridge]] = {
    "torchattacks": Torchattacks,
    "foolbox": Foolbox,
    "art": Art,
    "advlib": Advlib,
    "autoattack": AutoAttack,
}
FEW = {
    **dict.fromkeys(("steps", "max_iter", "n_iter", "max_iterations", "nb_steps", "iter"), 20),
    **dict.fromkeys(("n_queries", "num_steps", "max_eval", "directions"), 100),
    **dict.fromkeys(("binary_search_steps", "num_trial", "init_eval", "k", "repeats", "restarts"), 5),
    "query_limit": 1000,
}
EPS = {"Linf": "24/255", "L2": "1.0", "L1": "8"}
MINUTES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=("cover", "overhead"), default=["cover", "overhead"])
    parser.add_argument("--n", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=31)
    parser.add_argument("--leave-out", nargs="*", default=[], help="attacks that take too long, as LIBRARY:NAME")
    asked = parser.parse_args()
    if "overhead" in asked.only and os.environ.get("MALLOC_MMAP_MAX_") != "0":
        # Whether glibc gives memory back between calls, to be faulted in again, is luck and up to a tenth of the time.
        keeping = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.bridges", *sys.argv[1:]], os.environ | keeping)
    torch.set_num_threads(1)
    quiet()
    if "cover" in asked.only:
        cover(asked.n, asked.leave_out)
    if "overhead" in asked.only:
        overhead(asked.repeats)
    print(machine((*PACKAGES, "adv-lib")))


def cover(n: int, left_out: list[str]) -> None:
    groups: dict[tuple[str, str], list[str]] = {}
    lines: list[str] = []
    for library, bridge in BRIDGES.items():
        for name, entry in bridge.entries.items():
            full = f"{library}:{name}"
            if full in left_out:
                continue
            extra: dict[str, Any] = {"target": "second"} if entry.only_targets else {}
            known = bridge(name, {"steps": 5} if entry.needs else {}, extra.get("target", "")).offered()
            few = {p.name: FEW[p.name] for p in known if p.name in FEW and "int" in p.kinds}
            body = "".join(f'\n{key} = "{value}"' for key, value in extra.items())
            body += "".join(f"\nparameters.{key} = {value}" for key, value in few.items())
            lines.append(f'[attacks."{full}"]{body}')
            groups.setdefault((library, entry.norms[0]), []).append(full)
    cells: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "registry.toml").write_text("\n".join(lines))
        for (library, norm), names in groups.items():
            began, slow, left = time.perf_counter(), list[str](), list(names)
            while left:
                finished = _bench(folder, *_request(left, norm, n)) is not None
                left = [] if finished else _left(folder, left)
                slow += left[:1]  # the one that was under way
                left = left[1:]
            print(
                f"{library}, {norm}: {len(names)} attacks in {time.perf_counter() - began:.0f} s; not done in "
                f"{MINUTES} minutes: {', '.join(slow) or 'none'}",
                flush=True,
            )
        cells = _cells(folder)
    failed = {cell["attack"]: cell["reasons"][0]["text"] for cell in cells if cell["status"] == "failed"}
    done = [cell for cell in cells if cell["status"] == "ok"]
    late = [cell["attack"] for cell in cells if cell["status"] == "interrupted"]
    print(f"\n{len(cells)} attacks through the bridges: {len(done)} ok, {len(failed)} failed with a reason")
    for name, reason in failed.items():
        print(f"  {name}: {reason}")
    print(f"not done in {MINUTES} minutes: {', '.join(late) or 'none'}; left out: {', '.join(left_out) or 'none'}")
    print(f"asked for: {sum(map(len, groups.values()))}; neither: {len(cells) - len(done) - len(failed) - len(late)}")


def _cells(folder: str) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(_bench(folder, "table", "--format", "json", "--metric", "accuracy") or "")
    return cells


def _left(folder: str, names: list[str]) -> list[str]:
    """Which of these have no result, in the order in which they are run."""
    done = {cell["attack"] for cell in _cells(folder) if cell["status"] in ("ok", "failed")}
    return [name for name in names if name not in done]


def _request(names: list[str], norm: str, n: int) -> list[str]:
    matrix = ["--models", "resnet_original", "--defenses", "none", "--attacks", ",".join(names)]
    return ["run", *matrix, "--limit", str(n), "--norm", norm, "--eps", EPS[norm]]


def _bench(folder: str, *arguments: str) -> str | None:
    """What it prints; None where it took too long."""
    command = [sys.executable, "-c", "from cli import main; main()", *arguments]
    running = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, told = running.communicate(timeout=60 * MINUTES)
    except subprocess.TimeoutExpired:
        running.terminate()  # what it has finished is stored
        running.communicate()
        return None
    if running.returncode not in (0, 1):  # 1: cells have failed
        raise SystemExit(f"bench {' '.join(arguments)[:80]}: {told[-2000:]}")
    return out


def overhead(repeats: int) -> None:
    torch.manual_seed(0)
    module = _network()
    x = torch.rand(64, 3, 32, 32)
    with torch.no_grad():
        batch = Batch(x, module(x).argmax(1), torch.arange(64))
    print(f"\nbridge over the library's own call, processor time: median of {repeats} pairs and its 95 % interval")
    for label, (component, threat, direct) in CASES.items():
        runs = (Runs(), Runs())
        for round_ in range(repeats + 1):
            for contender in (0, 1) if round_ % 2 else (1, 0):  # neither is always the second
                began = time.process_time()
                if contender:
                    propose(module, Assault(component, label, threat, 0), batch)
                else:
                    seed_global(0, batch.ids)
                    with undisturbed(module):
                        direct(module, x, batch.y)
                if round_:  # the first is warming up
                    runs[contender].seconds.append(time.process_time() - began)
        ratios = sorted(bridged / direct for direct, bridged in zip(*(run.seconds for run in runs), strict=True))
        outside = int(binom.ppf(0.025, repeats, 0.5))
        low, high = ratios[max(0, outside - 1)], ratios[min(repeats - 1, repeats - outside)]
        print(
            f"  {label:36}{runs[0].median:7.3f} s {runs[1].median:7.3f} s   {median(ratios) - 1:+.1%} "
            f"[{low - 1:+.1%}, {high - 1:+.1%}]",
            flush=True,
        )


def _network() -> nn.Module:
    module: nn.Module = resnet18(3, 10, width=8)
    return module.eval()


def _torchattacks(module: nn.Module, x: Tensor, y: Tensor) -> Any:
    import torchattacks

    return torchattacks.PGD(module, eps=8 / 255, alpha=2 / 255, steps=10)(x, y)


def _foolbox(module: nn.Module, x: Tensor, y: Tensor) -> Any:
    import foolbox

    model = foolbox.PyTorchModel(module, bounds=(0, 1), device="cpu")
    return foolbox.attacks.LInfFMNAttack(steps=10).run(model, x, foolbox.criteria.Misclassification(y))


def _art(module: nn.Module, x: Tensor, y: Tensor) -> Any:
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    loss = nn.CrossEntropyLoss()
    classifier = PyTorchClassifier(module, loss, (3, 32, 32), 10, clip_values=(0.0, 1.0), device_type="cpu")
    attack = ProjectedGradientDescentPyTorch(
        classifier, eps=8 / 255, eps_step=2 / 255, max_iter=10, batch_size=len(x), verbose=False
    )
    return attack.generate(x.numpy(), y.numpy())


def _advlib(module: nn.Module, x: Tensor, y: Tensor) -> Any:
    with without_visdom():
        from adv_lib.attacks import ddn

    return ddn(module, x, y, steps=10)


def _autoattack(module: nn.Module, x: Tensor, y: Tensor) -> Any:
    import pyautoattack

    attack = pyautoattack.AutoAttack(module, version="custom", attacks=["apgd-ce"], eps=2 / 255, seed=0)
    attack.apgd.n_iter = 10
    return attack.run_standard_evaluation(x, y, batch_size=len(x))


def _deepfool(module: nn.Module, x: Tensor, y: Tensor) -> Any:
    import torchattacks

    return torchattacks.DeepFool(module, steps=2)(x, y)


def _square(module: nn.Module, x: Tensor, y: Tensor) -> Any:
    import torchattacks

    return torchattacks.Square(module, eps=2 / 255, n_queries=40, seed=0)(x, y)


LINF, L2 = Threat("Linf", 8 / 255), Threat("L2", 0.5)
CASES: dict[str, tuple[Bridge, Threat, Callable[[nn.Module, Tensor, Tensor], Any]]] = {
    "torchattacks PGD": (Torchattacks("PGD", {"steps": 10, "alpha": "2/255"}), LINF, _torchattacks),
    "torchattacks DeepFool": (Torchattacks("DeepFool", {"steps": 2}), L2, _deepfool),
    "torchattacks Square": (Torchattacks("Square", {"n_queries": 40}), Threat("Linf", 2 / 255), _square),
    "foolbox LInfFMNAttack": (Foolbox("LInfFMNAttack", {"steps": 10}), LINF, _foolbox),
    "ART ProjectedGradientDescentPyTorch": (
        Art("ProjectedGradientDescentPyTorch", {"max_iter": 10, "eps_step": "2/255"}),
        LINF,
        _art,
    ),
    "adv-lib ddn": (Advlib("ddn", {"steps": 10}), L2, _advlib),
    "autoattack apgd-ce": (AutoAttack("apgd-ce", {"n_iter": 10}), Threat("Linf", 2 / 255), _autoattack),
}


if __name__ == "__main__":
    main()
