"""Other libraries' attacks behind one signature: (module, samples, eps, steps, batch size) -> adversarial images.

PGD everywhere: Linf, a random start, steps of 2.5 eps / steps. The module's weights should be frozen: foolbox and ART
would otherwise spend time on gradients of the weights that nobody uses.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from harness.data import Samples

PGD = Callable[[nn.Module, Samples, float, int, int], Tensor]
PACKAGES = ("torch", "torchattacks", "foolbox", "adversarial-robustness-toolbox", "pyautoattack")
BATCH_SIZES = (64, 256)


def torchattacks_pgd(module: nn.Module, samples: Samples, eps: float, steps: int, batch_size: int) -> Tensor:
    import torchattacks

    attack = torchattacks.PGD(module, eps=eps, alpha=2.5 * eps / steps, steps=steps, random_start=True)
    return torch.cat([attack(batch.x, batch.y) for batch in samples.batches(batch_size)])


def foolbox_pgd(module: nn.Module, samples: Samples, eps: float, steps: int, batch_size: int) -> Tensor:
    """``run`` and not the call, which would spend another forward on judging every batch."""
    import foolbox

    model = foolbox.PyTorchModel(module, bounds=(0, 1), device=samples.labels.device)
    attack = foolbox.attacks.LinfProjectedGradientDescentAttack(abs_stepsize=2.5 * eps / steps, steps=steps)
    return torch.cat([attack.run(model, b.x, b.y, epsilon=eps) for b in samples.batches(batch_size)])


def art_pgd(module: nn.Module, samples: Samples, eps: float, steps: int, batch_size: int) -> Tensor:
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    whole = samples.take(torch.arange(len(samples)))
    classes = module(whole.x[:1]).shape[1]
    estimator = PyTorchClassifier(
        module, nn.CrossEntropyLoss(), tuple(whole.x.shape[1:]), classes, clip_values=(0.0, 1.0), device_type="cpu"
    )
    attack = ProjectedGradientDescentPyTorch(
        estimator,
        eps=eps,
        eps_step=2.5 * eps / steps,
        max_iter=steps,
        num_random_init=1,
        batch_size=batch_size,
        verbose=False,
    )
    return torch.from_numpy(attack.generate(whole.x.numpy(), whole.y.numpy()))


PEERS: dict[str, PGD] = {"torchattacks": torchattacks_pgd, "foolbox": foolbox_pgd, "art": art_pgd}


def stands(module: nn.Module, samples: Samples, x_adv: Tensor, batch_size: int) -> Tensor:
    """Which samples are still predicted rightly: (N,) bool. One forward each."""
    with torch.no_grad():
        predictions = torch.cat([module(part).argmax(1) for part in x_adv.split(batch_size)])
    return predictions == samples.labels


def pgd_stands(peer: PGD, module: nn.Module, samples: Samples, eps: float, steps: int, batch_size: int) -> Tensor:
    """A peer's robust samples (N,), the forward that judges them included."""
    return stands(module, samples, peer(module, samples, eps, steps, batch_size), batch_size)


class Member(NamedTuple):
    """A part of AutoAttack: the share of samples that stand after it, and the seconds until then."""

    name: str
    accuracy: float
    seconds: float


class Evaluated(NamedTuple):
    """What AutoAttack leaves: which samples stand (N,), and its members in their order."""

    stands: Tensor
    members: list[Member]


def autoattack(module: nn.Module, samples: Samples, eps: float, batch_size: int) -> Evaluated:
    """AutoAttack standard (Croce and Hein, ICML 2020) in its authors' code, which the package pyautoattack holds.

    The members' breakdown is read from its log: it returns none.
    """
    from pyautoattack import AutoAttack

    whole = samples.take(torch.arange(len(samples)))
    with _lines("auto-attack") as lines:
        attack = AutoAttack(module, norm="Linf", eps=eps, seed=0, version="standard", device=whole.x.device)
        x_adv, _ = attack.run_standard_evaluation(whole.x, whole.y, batch_size=batch_size)
    found = (re.match(r"robust accuracy after (\S+): ([\d.]+)% \(total time ([\d.]+) s\)", line) for line in lines)
    members = [Member(m[1].lower(), float(m[2]) / 100, float(m[3])) for m in found if m]
    return Evaluated(stands(module, samples, x_adv, batch_size), members)


def torchattacks_autoattack(module: nn.Module, samples: Samples, eps: float, batch_size: int) -> Evaluated:
    """The same attack as torchattacks has it, for comparison: it tells nothing of its members."""
    import torchattacks

    classes = module(samples.images[:1].float() / 255).shape[1]
    attack = torchattacks.AutoAttack(module, norm="Linf", eps=eps, version="standard", n_classes=classes, seed=0)
    x_adv = torch.cat([attack(batch.x, batch.y) for batch in samples.batches(batch_size)])
    return Evaluated(stands(module, samples, x_adv, batch_size), [])


@contextlib.contextmanager
def _lines(logger: str) -> Iterator[list[str]]:
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger(logger)
    level, propagate = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    try:
        yield lines
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate


def quiet() -> None:
    """Nothing of the peers' own talk on the screen, and their global generators seeded."""
    logging.getLogger("art").setLevel(logging.ERROR)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
