"""A model made ready to be attacked: the same function, computed faster, or left alone where that cannot be shown.

In evaluation mode a batch norm is an affine map, which the convolution before it can take in; on a CPU convolutions run
faster on channels-last images. Both change nothing but the rounding. Whether that is so for the model at hand is
measured, on logits and on gradients, before the fast form is used.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

LOGITS, GRADIENT = 1e-4, 1e-2
"""Differences allowed between the fast form and the model: of a logit, as a share of the largest; of a sample's
gradient in L2, as a share of its size."""

_BATCH_NORMS: dict[type[Any], type[nn.Module]] = {
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
}


@dataclass(frozen=True)
class _Pair:
    """A convolution of the fast form, and the convolution and batch norm of the model that it stands for."""

    into: Any
    convolution: Any
    norm: Any


class Folded(nn.Module):
    """The module with batch norms folded into convolutions and weights in channels-last order; evaluation mode only.

    Parameters that nothing was folded into are the module's own, so they follow its training; ``refresh`` brings the
    folded ones up to date. Raises ValueError where there is nothing to gain.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.pairs: list[_Pair] = []
        shared = {id(t): t for t in (*module.parameters(), *module.buffers())}
        fast = copy.deepcopy(module, memo=dict(shared))
        fast.eval()
        self.network = _fold(fast, self.pairs)
        if not self.pairs and not any(isinstance(m, nn.Conv2d) for m in self.network.modules()):
            raise ValueError("no convolution in it")
        self.refresh()
        self.eval()

    @torch.no_grad()
    def refresh(self) -> None:
        """Folds the weights as they are now."""
        for pair in self.pairs:
            conv, norm = pair.convolution, pair.norm
            weight, bias = fuse_conv_bn_weights(
                conv.weight,
                conv.bias,
                norm.running_mean,
                norm.running_var,
                norm.eps,
                norm.weight,
                norm.bias,
            )
            order = torch.channels_last if weight.ndim == 4 else torch.contiguous_format
            pair.into.weight = nn.Parameter(weight.contiguous(memory_format=order), requires_grad=False)
            pair.into.bias = nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.network(x)
        return logits


def _fold(module: nn.Module, pairs: list[_Pair]) -> nn.Module:
    """``module`` rewritten by torch.fx where it can be traced, else its children rewritten one by one."""
    try:
        traced = fx.symbolic_trace(module)
    except Exception:  # tracing runs the model's own code on stand-ins, which may raise anything
        for name, child in module.named_children():
            if any(isinstance(m, tuple(_BATCH_NORMS.values())) for m in child.modules()):
                setattr(module, name, _fold(child, pairs))
        return module
    modules: dict[Any, Any] = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        if node.op != "call_module" or not node.args or not isinstance(node.args[0], fx.Node):
            continue
        before, norm = node.args[0], modules[node.target]
        conv = modules.get(before.target) if before.op == "call_module" else None
        if type(norm) is not _BATCH_NORMS.get(type(conv)) or len(before.users) > 1 or norm.running_mean is None:
            continue
        if sum(n.op == "call_module" and n.target == before.target for n in traced.graph.nodes) > 1:
            continue  # a convolution used twice has another norm behind it elsewhere
        pairs.append(_Pair(_put_in_place(traced, before.target, conv), conv, norm))
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
    traced.graph.lint()
    traced.recompile()
    traced.delete_all_unused_submodules()
    return traced


def _put_in_place(traced: fx.GraphModule, target: Any, conv: Any) -> nn.Module:
    """A convolution of its own for the fast form, so that the model's keeps its weights."""
    into: nn.Module = copy.copy(conv)
    into._parameters = dict(conv._parameters)
    into._buffers = dict(conv._buffers)
    traced.add_submodule(target, into)
    return into


def folded(module: nn.Module, x: Tensor) -> Folded | None:
    """The fast form, if at images ``x`` (N, C, H, W) it gives the logits and gradients of the module; else None.

    The module must be in evaluation mode and without randomness.
    """
    try:
        fast = Folded(module)
        close = _close(_look(module, x), _look(fast, x))
    except Exception:  # foreign code on both sides; what cannot be folded is attacked as it is
        return None
    return fast if close else None


def _look(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (N, K), and the gradient of a loss that every logit takes part in: (N, C, H, W)."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        logits = module(x)
        loss = F.cross_entropy(logits, logits.detach().argmin(1), reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x, allow_unused=True)
    return logits.detach(), torch.zeros_like(x) if gradient is None else gradient


def _close(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> bool:
    (logits, gradient), (fast_logits, fast_gradient) = one, other
    if logits.shape != fast_logits.shape or not logits.isfinite().all():
        return False
    if float((logits - fast_logits).abs().amax()) > LOGITS * max(float(logits.abs().amax()), 1e-6):
        return False
    # Of the median sample: rounding may switch a unit that stands at zero, and with it a part of one gradient.
    size = gradient.flatten(1).norm(dim=1).clamp(min=1e-12)
    return float(((gradient - fast_gradient).flatten(1).norm(dim=1) / size).median()) <= GRADIENT
