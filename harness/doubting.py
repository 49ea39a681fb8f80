"""Checks that cost passes: other attacks on a few samples, whose success would say that a number is too good.

Carlini et al., "On evaluating adversarial robustness", 2019; Tramer et al., "On adaptive attacks to adversarial example
defenses", NeurIPS 2020.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.assault import Assault
from harness.attacking import propose
from harness.looking import Look
from harness.types import Batch, Threat

if TYPE_CHECKING:
    from torch import nn

POWER = {"Linf": 0.0, "L2": 0.5, "L1": 1.0}
"""By norm, how the budget that can turn every image grey grows with the number of values in an image."""


def fooled(module: nn.Module, assault: Assault, batch: Batch) -> int:
    """How many of these samples the attack turns."""
    assert assault.threat is not None
    x_adv = assault.threat.project(propose(module, assault, batch), batch.x)
    return int(Look(module, len(batch.y))(x_adv, batch, {}, gradient=False).fooled.sum())


def unlimited(assault: Assault, shape: Sequence[int]) -> Assault | None:
    """The same attack with a budget that can turn every image grey, where nothing is right but by chance.

    None for one that has no budget.
    """
    threat = assault.threat
    if threat is None or threat.norm not in POWER or assault.minimum_norm:
        return None
    eps = 0.5 * math.prod(shape) ** POWER[threat.norm]
    return replace(assault, threat=Threat(threat.norm, eps), final_iterate=False)
