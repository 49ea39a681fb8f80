"""The engine of this repository, behind the functions that the measurements call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from harness.assault import Assault
from harness.data import Samples
from harness.folding import folded
from harness.judging import Trial, judge
from harness.types import Outcome, Threat
from harness.undisturbed import undisturbed
from plugins.attacks.apgd_ce import APGDCE
from plugins.attacks.apgd_t import APGDT
from plugins.attacks.fmn import FMN
from plugins.attacks.pgd import PGD
from plugins.attacks.square import Square

if TYPE_CHECKING:
    from torch import Tensor, nn


def ours_pgd(module: nn.Module, samples: Samples, eps: float, steps: int, batch_size: int) -> Outcome:
    """PGD as the peers do it, judged: the judge's own forwards are within ``Outcome.seconds``."""
    assault = Assault(PGD(steps=steps), "pgd", Threat("Linf", eps), 0)
    return judge(Trial(module, (assault,), batch_size), samples)


def ours_form(module: nn.Module) -> nn.Module:
    """The form of a module in evaluation mode that the engine really runs: what the floor is measured with."""
    with undisturbed(module):
        first = next(p for p in module.buffers())
        channels = first.shape[1] if first.ndim == 4 else 3
        form = folded(module, torch.rand(8, channels, 32, 32))
    return module if form is None else form


def ours_autoattack(module: nn.Module, samples: Samples, eps: float, batch_size: int = 128) -> Outcome:
    """AutoAttack standard. ``Outcome.facts["members"]``: (name, robust accuracy, seconds) of each."""
    from plugins.attacks.fab_t import FABT

    threat = Threat("Linf", eps)
    parts = {"apgd-ce": APGDCE(), "apgd-t": APGDT(), "fab-t": FABT(), "square": Square()}
    assaults = [Assault(part, name, threat, 0) for name, part in parts.items()]
    return judge(Trial(module, assaults, batch_size), samples)


def ours_fmn(module: nn.Module, samples: Samples, norm: str) -> Tensor:
    """The smallest perturbation found for each sample by FMN of 100 steps, in this norm: (N,), infinite for none."""
    assault = Assault(FMN(steps=100), "fmn", Threat(norm, 0.0), 0)
    outcome = judge(Trial(module, (assault,), 128), samples)
    return torch.from_numpy(outcome.proposal_size)
