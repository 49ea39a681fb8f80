"""VMI-FGSM and VNI-FGSM against torchattacks on the same random numbers, and against the contract."""

from __future__ import annotations

import pytest
import torch
import torchattacks
from vmi_fgsm import VMIFGSM

from harness.attacking import ModelProblem
from harness.contract import rules
from harness.material import right, small
from harness.types import Threat

THREAT = Threat("Linf", 8 / 255)


@pytest.mark.parametrize("rule", rules("attacks", "vmi_fgsm", steps=3, samples=2), ids=str)
def test_the_contract_is_kept(rule):
    rule.assert_holds()


class FromTorch:
    """Random numbers from torch's global generator, drawn as torchattacks draws them."""

    def uniform(self, low, high, shape):
        return torch.randn(len(right().y), *shape).uniform_(low, high)


@pytest.mark.parametrize(("nesterov", "other"), [(False, torchattacks.VMIFGSM), (True, torchattacks.VNIFGSM)])
def test_it_makes_the_images_of_torchattacks(nesterov, other):
    batch, how = right(), {"steps": 10, "alpha": 2 / 255, "decay": 0.9, "beta": 1.5}
    torch.manual_seed(3)
    theirs = other(small(), eps=THREAT.eps, N=5, **how)(batch.x, batch.y)
    torch.manual_seed(3)
    attack = VMIFGSM(samples=5, nesterov=nesterov, **how)
    ours = attack.perturb(ModelProblem(small()), batch, THREAT, FromTorch())
    assert ((ours - theirs).abs() > 1e-6).float().mean() < 1e-3  # rounding decides the sign of a gradient near zero


def test_without_a_neighbourhood_it_is_mi_fgsm():
    batch = right()
    attack = VMIFGSM(steps=10, alpha=2 / 255, samples=1, beta=0.0)
    ours = attack.perturb(ModelProblem(small()), batch, THREAT, FromTorch())
    theirs = torchattacks.MIFGSM(small(), eps=THREAT.eps, alpha=2 / 255, steps=10, decay=1.0)(batch.x, batch.y)
    assert ((ours - theirs).abs() > 1e-6).float().mean() < 1e-3


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"samples": 0}, {"alpha": 0.0}, {"beta": -1.0}, {"decay": -0.1}])
def test_values_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        VMIFGSM(**wrong)
