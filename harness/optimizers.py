"""torch's optimizers as they are called here: eagerly, so without the compiler, whose import costs seconds."""

from __future__ import annotations

from inspect import unwrap
from typing import Any

import torch


def eager(kind: type[torch.optim.Optimizer]) -> Any:
    """The same optimizer, whose methods do not import ``torch._dynamo`` to tell it not to compile them."""
    plain: dict[str, Any] = {
        name: unwrap(getattr(kind, name)) for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    }
    # What is unwrapped of a step switches gradients off too.
    return type(kind.__name__, (kind,), {**plain, "step": torch.no_grad()(unwrap(kind.step))})


SGD, Adam, AdamW = map(eager, (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW))
