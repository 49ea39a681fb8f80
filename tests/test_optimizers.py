"""The optimizers are torch's, to the last bit, also when one is taken up from the other's state."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness import optimizers


def stepped(kind: Any, settings: dict[str, Any], state: dict[str, Any] | None) -> tuple[Tensor, Any]:
    """Weights after three steps from seed 0, the optimizer begun in ``state``; and its state then."""
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(5, 4))
    optimizer = kind([{"params": [weight]}], **settings)
    if state:
        optimizer.load_state_dict(state)
    for _ in range(3):
        optimizer.zero_grad()
        assert weight.grad is None
        (weight.sin() * torch.randn(5, 4)).sum().backward()
        optimizer.step()
    assert torch.is_grad_enabled()
    return weight.detach(), optimizer.state_dict()


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
@pytest.mark.parametrize("fused", [False, True])
def test_a_step_is_torchs(name: str, fused: bool) -> None:
    ours, wanted = getattr(optimizers, name), getattr(torch.optim, name)
    settings: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.01, "fused": fused}
    settings |= {"momentum": 0.9, "nesterov": True} if name == "SGD" else {}
    weight, state = stepped(ours, settings, None)
    theirs, their_state = stepped(wanted, settings, None)
    assert torch.equal(weight, theirs)
    assert state["param_groups"] == their_state["param_groups"]
    assert torch.equal(stepped(ours, settings, their_state)[0], stepped(wanted, settings, state)[0])
    assert not torch.equal(stepped(ours, settings, state)[0], weight)
    assert isinstance(ours([nn.Parameter(torch.zeros(1))]), wanted)
