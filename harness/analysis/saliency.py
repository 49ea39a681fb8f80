"""Where a model looks: Grad-CAM for convolutions, attention roll-out for vision transformers.

Every map is (N, H, W) of the images' own size, in [0, 1] for each image.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.errors import BenchError
from harness.figures.library import library
from harness.undisturbed import undisturbed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RESIDUAL = 0.5


class Saliency(NamedTuple):
    """Maps (N, H, W), float32 in [0, 1], and the classes (N,) that they speak for."""

    maps: NDArray[np.float32]
    classes: NDArray[np.int64]


def grad_cam(
    module: nn.Module, x: Tensor, classes: Tensor | None = None, *, layer: str = "", batch: int = 64
) -> Saliency:
    """What speaks for a class in the last spatial map: its channels, weighted by their mean gradient of the logit.

    x: (N, C, H, W) in [0, 1]. classes: (N,), by default the predicted ones. layer: name of the submodule whose output
    is looked at; left out, ``spatial_layer`` finds it. Negative evidence is cut off, the rest enlarged bilinearly and
    divided by its maximum; a map without positive evidence is 0. Raises BenchError where captum is not installed or
    where the layer does not give a map. Selvaraju et al., "Grad-CAM", ICCV 2017; captum.
    """
    method = library("captum.attr").LayerGradCam
    with _looking(module):
        target = _layer(module, layer or spatial_layer(module, x[:1]))
        attribution = method(module, target)

        def explain(images: Tensor, chosen: Tensor) -> Tensor:
            found: Tensor = attribution.attribute(images, chosen, relu_attributions=True)
            if found.dim() != 4:
                raise BenchError(f"Grad-CAM: layer {layer} gives {found.dim() - 2} spatial dimensions; 2 are needed")
            return found[:, 0]

        return _in_batches(module, x, classes, batch, explain, from_zero=True)


def attention_rollout(
    module: nn.Module,
    x: Tensor,
    classes: Tensor | None = None,
    *,
    gradient: bool = False,
    residual: float = RESIDUAL,
    batch: int = 16,
) -> Saliency:
    """How much each patch reaches the class token (or the mean of the patches) through all attention layers.

    Each layer's attention, averaged over heads, is mixed with ``residual`` times the identity for the skip connection,
    and the layers are multiplied (Abnar and Zuidema, "Quantifying attention flow in transformers", ACL 2020). That says
    nothing about a class; ``gradient`` weights each head's attention by the gradient of the class's logit, keeps what
    is positive and adds up the layers (Chefer et al., "Generic attention-model explainability", ICCV 2021).

    x: (N, C, H, W) in [0, 1]. classes: (N,), by default the predicted ones. Fused attention is switched off meanwhile.
    Maps are enlarged bilinearly and stretched to [0, 1]. Raises BenchError for a network without global attention.
    """
    with _looking(module), attention_recorded(module) as record:

        def explain(images: Tensor, chosen: Tensor) -> Tensor:
            record.clear()
            logits = module(images)
            _check_attention(record)
            joint = _relevance(record, logits, chosen) if gradient else rollout(record, residual)
            return _over_patches(module, joint, images)

        return _in_batches(module, x, classes, batch, explain, from_zero=False)


def saliency(module: nn.Module, x: Tensor, classes: Tensor | None = None, *, batch: int = 16) -> Saliency:
    """Roll-out weighted by gradients for a network with attention, Grad-CAM for any other."""
    if has_attention(module):
        return attention_rollout(module, x, classes, gradient=True, batch=batch)
    return grad_cam(module, x, classes, batch=batch)


# --- layers


def spatial_layer(module: nn.Module, x: Tensor) -> str:
    """Name of the last submodule to finish whose output is a spatial map; pooling does not count, nor what runs twice.

    x: (1, C, H, W). Raises BenchError where no output has more than one place.
    """
    if any(str(getattr(m, "output_fmt", "")).endswith("NHWC") for m in module.modules()):
        raise BenchError("Grad-CAM: the network keeps channels last; it explains networks that keep them first")
    finished: list[tuple[str, bool]] = []
    pooled: list[Any] = []

    def note(name: str) -> Callable[..., None]:
        def hook(part: nn.Module, args: Any, output: Any) -> None:
            spatial = isinstance(output, Tensor) and output.dim() == 4 and math.prod(output.shape[2:]) > 1
            if "Pool" in type(part).__name__:
                pooled.append(output)
            finished.append((name, spatial and not any(output is one for one in pooled)))  # nor what ends in pooling

        return hook

    handles = [part.register_forward_hook(note(name)) for name, part in module.named_modules() if name]
    try:
        with undisturbed(module), torch.no_grad():
            module(x.to(_device(module, x)))
    finally:
        for handle in handles:
            handle.remove()
    names = [name for name, _ in finished]
    for name, spatial in reversed(finished):
        if spatial and names.count(name) == 1:
            return name
    raise BenchError("Grad-CAM: no layer of the network gives a spatial map; name one with layer")


def _layer(module: nn.Module, name: str) -> nn.Module:
    parts = dict(module.named_modules())
    if name not in parts:
        known = ", ".join(list(parts)[-5:])
        raise BenchError(f"Grad-CAM: the network has no layer {name!r}; its last ones are {known}")
    return parts[name]


# --- attention


def has_attention(module: nn.Module) -> bool:
    """Whether roll-out knows how to read the attention of the network."""
    return bool(_fusable(module)) or _configured(module) is not None


@contextlib.contextmanager
def attention_recorded(module: nn.Module) -> Iterator[list[Tensor]]:
    """A list that each forward pass appends its attention to, layer by layer: (N, heads, T, T), rows summing to 1.

    Vision transformers with a flag for fused attention compute it step by step meanwhile, and models with a
    configuration of their own are asked for their attentions; afterwards both are as they were. Raises BenchError for
    any other network.
    """
    record: list[Tensor] = []
    with contextlib.ExitStack() as stack:
        if fusable := _fusable(module):
            for part in fusable:
                stack.callback(setattr, part, "fused_attn", part.fused_attn)
                part.fused_attn = False
                hook = part.attn_drop.register_forward_hook(lambda part, args, output: record.append(output))
                stack.callback(hook.remove)
        elif (network := _configured(module)) is not None:
            config = network.config
            stack.callback(network.set_attn_implementation, config._attn_implementation)
            network.set_attn_implementation("eager")
            stack.callback(setattr, config, "output_attentions", config.output_attentions)
            config.output_attentions = True
            hook = network.register_forward_hook(lambda part, args, output: record.extend(output.attentions or ()))
            stack.callback(hook.remove)
        else:
            raise BenchError("attention roll-out: the network has no attention that can be read; take Grad-CAM")
        yield record


def _fusable(module: nn.Module) -> list[Any]:
    return [
        m for m in module.modules() if hasattr(m, "fused_attn") and isinstance(getattr(m, "attn_drop", 0), nn.Module)
    ]


def _configured(module: nn.Module) -> Any:
    """The outermost network with a configuration of its own (transformers), or None."""
    return next((m for m in module.modules() if hasattr(m, "set_attn_implementation") and hasattr(m, "config")), None)


def _check_attention(record: list[Tensor]) -> None:
    sizes = {tuple(attention.shape[2:]) for attention in record}
    if len(sizes) != 1 or len({length for size in sizes for length in size}) != 1:
        what = "was given" if not record else f"of sizes {sorted(sizes)} does not join all patches"
        raise BenchError(f"attention roll-out: attention {what}; it needs the same tokens in all layers, take Grad-CAM")


def rollout(attention: list[Tensor], residual: float = RESIDUAL) -> Tensor:
    """What flows from token to token through all layers: L times (N, heads, T, T) -> (N, T, T), rows summing to 1."""
    identity = torch.eye(attention[0].shape[-1], device=attention[0].device)
    joint = identity.expand(len(attention[0]), -1, -1)
    for layer in attention:
        joint = ((1 - residual) * layer.detach().float().mean(1) + residual * identity) @ joint
    return joint


def _relevance(attention: list[Tensor], logits: Tensor, classes: Tensor) -> Tensor:
    """R <- R + mean over heads of (gradient * attention)+ R from the identity (Chefer et al., ICCV 2021): (N, T, T)."""
    gradients = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), attention)
    joint = torch.eye(attention[0].shape[-1], device=logits.device).expand(len(logits), -1, -1)
    for layer, gradient in zip(attention, gradients, strict=True):
        joint = joint + (gradient * layer.detach()).clamp(min=0).float().mean(1) @ joint
    return joint


def _over_patches(module: nn.Module, joint: Tensor, images: Tensor) -> Tensor:
    """The patches' part in what the head reads, laid out as they lie in the image: (N, T, T) -> (N, h, w)."""
    tokens = joint.shape[-1]
    rows, columns = _patch_grid(module, tokens, images)
    prefix = tokens - rows * columns
    averaged = any(getattr(m, "global_pool", "") == "avg" for m in module.modules())
    read = joint[:, prefix:].mean(1) if prefix == 0 or averaged else joint[:, 0]
    return read[:, prefix:].reshape(-1, rows, columns)


def _patch_grid(module: nn.Module, tokens: int, images: Tensor) -> tuple[int, int]:
    """Rows and columns of patches: from the patches' convolution where its stride tells, else the largest square."""
    sizes = {getattr(m, "grid_size", None) for m in module.modules()}
    for size in sizes:
        if isinstance(size, tuple) and len(size) == 2 and 0 <= tokens - size[0] * size[1] <= MOST_PREFIX_TOKENS:
            return int(size[0]), int(size[1])
    side = math.isqrt(tokens)
    if tokens - side**2 > MOST_PREFIX_TOKENS:
        raise BenchError(f"attention roll-out: {tokens} tokens are no square of patches; take Grad-CAM")
    return side, side


MOST_PREFIX_TOKENS = 8
"""Class, distillation and register tokens that stand before the patches."""


# --- around both


@contextlib.contextmanager
def _looking(module: nn.Module) -> Iterator[None]:
    with undisturbed(module), torch.enable_grad():
        yield


def _in_batches(
    module: nn.Module,
    x: Tensor,
    classes: Tensor | None,
    batch: int,
    explain: Callable[[Tensor, Tensor], Tensor],
    *,
    from_zero: bool,
) -> Saliency:
    """Coarse maps of ``explain`` (n, h, w), enlarged and scaled, batch by batch."""
    device = _device(module, x)
    maps, spoken = [], []
    for start in range(0, len(x), batch):
        images = x[start : start + batch].to(device)
        if classes is None:
            with torch.no_grad():
                chosen = module(images).argmax(1)
        else:
            chosen = classes[start : start + batch].to(device)
        coarse = explain(images.detach().clone().requires_grad_(True), chosen)  # frozen weights alone make no graph
        maps.append(scaled(coarse.detach().float(), (x.shape[-2], x.shape[-1]), from_zero=from_zero).cpu())
        spoken.append(chosen.cpu())
    return Saliency(torch.cat(maps).numpy(), torch.cat(spoken).numpy())


def scaled(coarse: Tensor, size: tuple[int, int], *, from_zero: bool) -> Tensor:
    """Coarse maps enlarged bilinearly, each brought to [0, 1]: (N, h, w) -> (N, H, W).

    from_zero: 0 stays 0, for evidence; else the smallest value becomes 0, for shares, whose level says nothing.
    """
    large = F.interpolate(coarse[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    if not from_zero:
        large = large - large.amin((1, 2), keepdim=True)
    most = large.amax((1, 2), keepdim=True)
    return torch.where(most > 0, large / most.clamp(min=torch.finfo(large.dtype).tiny), 0.0).clamp(0.0, 1.0)


def _device(module: nn.Module, x: Tensor) -> torch.device:
    first = next(module.parameters(), None)
    return x.device if first is None else first.device
