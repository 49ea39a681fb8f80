"""``harness.attack``: one attack on one batch, as the engine makes it and the judge sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.errors import BenchError
from harness.types import SEVERITY

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.request import AttackConfig
    from harness.types import Batch, Threat


class Attacked(NamedTuple):
    """What became of a batch, sample by sample; unpacks in this order.

    x_adv: float32 (N, C, H, W) inside budget and box. success: whether the sample is classified wrongly now, booleans
    (N,); of a targeted attack too. prediction: the class of x_adv, int64 (N,). forwards, backwards: passes that each
    sample cost, int64 (N,), the first look among them.
    """

    x_adv: Tensor
    success: Tensor
    prediction: Tensor
    forwards: Tensor
    backwards: Tensor


def attack(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    attack: Any,
    *,
    eps: float | str = 8 / 255,
    norm: str = "Linf",
    severity: float = 3.0,
    seed: int = 0,
    ids: Tensor | None = None,
    final_iterate: bool = False,
    query_budget: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    registry: str | None = None,
    **parameters: Any,
) -> Attacked:
    """Adversarial images of one batch, on the batch's device; the model is as it was afterwards.

    model: a module from pixels in [0, 1] to logits (N, K). x: floats (N, C, H, W) in [0, 1]. y: classes (N,). attack: a
    name as on the command line, with its parameters behind it, or a component. eps: the budget in pixel units.
    severity: of a common corruption. mean, std: of each channel, where the module wants normalised images.

    As in an evaluation, samples that are wrong already stay as they are, one that is fooled leaves with the image that
    fooled it, and restarts are for those that stand. With ``final_iterate`` every sample takes every step and the last
    one counts, as for adversarial training. seed, ids: random numbers belong to a sample, which is its place in
    the batch unless ids (N,) say which it is. Raises BenchError, one line, for what cannot be attacked.
    """
    from harness.api.evaluating import own_words
    from harness.api.given import normalising

    with own_words():
        made = _made(attack, parameters, registry)
        batch = _batch(model, x, y, ids)
        model = normalising(model, mean, std)
        threat = _threat(made, norm, eps, severity)
        options: dict[str, Any] = {"final_iterate": final_iterate, "query_budget": query_budget}
        return _attacked(model, made, batch, threat, seed, options)


def _made(attack: Any, parameters: Mapping[str, Any], registry: str | None) -> AttackConfig:
    from harness import config, layers
    from harness.api import given

    tables = layers.read(registry)
    if parameters:
        if not isinstance(attack, str):
            raise BenchError(f"attack: {type(attack).__name__} has its parameters; leave out {', '.join(parameters)}")
        attack = (attack, parameters)
    names = given.names("attacks", [attack], tables)
    base = attack[0] if isinstance(attack, tuple) else names[0]
    layers.check(tables, "attacks", base.partition("@")[0], "attack")
    made = config.attack(tables, names[0])
    if made.fault:
        raise BenchError(made.fault)
    if made.surrogate or made.aim:
        raise BenchError(
            f"attack {made.name}: has a {'surrogate' if made.surrogate else 'target in captions'}; leave it"
        )
    return made


def _batch(model: Any, x: Any, y: Any, ids: Any) -> Batch:
    import torch

    from harness.api.samples import CHANNELS, check_range, labels_of
    from harness.types import Batch

    if not isinstance(model, torch.nn.Module):
        raise BenchError(f"model: got {type(model).__name__}; a torch module is needed")
    if not isinstance(x, torch.Tensor) or not isinstance(y, torch.Tensor):
        raise BenchError(f"x and y: got {type(x).__name__} and {type(y).__name__}; tensors are needed")
    if x.ndim != 4 or 0 in x.shape:
        raise BenchError(f"x: shape {tuple(x.shape)}; (N, C, H, W) with one image or more is needed")
    if x.shape[1] not in CHANNELS and x.shape[-1] in CHANNELS:
        raise BenchError(f"x: shape {tuple(x.shape)} has its channels last; give x.permute(0, 3, 1, 2)")
    if not x.is_floating_point():
        raise BenchError(f"x: {x.dtype}; floats in [0, 1] are needed: x.float() / 255 of 8-bit levels")
    if x.requires_grad:
        raise BenchError("x: requires a gradient, which nobody will take here; give x.detach()")
    device = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), x.device)
    if device != x.device:
        raise BenchError(f"x: is on {x.device}, the model on {device}; give x.to({str(device)!r})")
    check_range(x, "x")
    labels = torch.from_numpy(labels_of(y, len(x), "y")).to(x.device)
    ids = torch.arange(len(x), device=x.device) if ids is None else ids.to(x.device)
    if ids.shape != labels.shape or ids.dtype != torch.int64:
        raise BenchError(f"ids: {ids.dtype} of shape {tuple(ids.shape)}; int64 of shape ({len(x)},) is needed")
    return Batch(x.float().clamp(0, 1), labels, ids)


def _threat(made: AttackConfig, norm: str, eps: float | str, severity: float) -> Threat | None:
    from harness.coercion import coerce
    from harness.errors import unknown
    from harness.types import NORMS, Threat

    if SEVERITY in made.norms:
        return Threat(SEVERITY, coerce(severity, float, "severity"))
    if not any(part.component.norms for part in made.parts):
        return None
    if norm not in NORMS:
        raise unknown("norm", norm, NORMS)
    if norm not in made.norms:
        raise BenchError(f"attack {made.name}: does not support {norm}; it supports {', '.join(made.norms) or 'none'}")
    found = coerce(eps, float, "eps")
    if found < 0 or (norm == "Linf" and found > 1):
        hint = f"; did you mean {found:g}/255?" if found > 1 else ""
        raise BenchError(f"eps: got {found:g}; a budget in pixel units is needed, in Linf from 0 to 1{hint}")
    return Threat(norm, found)


def _attacked(
    model: nn.Module, made: AttackConfig, batch: Batch, threat: Threat | None, seed: int, options: Mapping[str, Any]
) -> Attacked:
    import torch

    from harness.api.samples import check_classes
    from harness.assault import Assault
    from harness.attacking import attack
    from harness.folding import folded
    from harness.looking import Look
    from harness.randomness import derive
    from harness.standing import Fresh
    from harness.subject import REPEATS
    from harness.tasks import classification as task
    from harness.undisturbed import seed_global, undisturbed
    from harness.validity import REPEATED

    with torch.inference_mode(False), torch.enable_grad(), undisturbed(model):
        x_adv, cost = batch.x.clone(), torch.zeros(len(batch.y), 2, dtype=torch.int64, device=batch.y.device)
        # No loss is wanted, and none can be taken of labels that have not been held against the logits yet.
        look = Look(model, len(batch.y), lambda logits, batch, state: logits[:, 0], max(p.eot for p in made.parts))

        def logits_of(some: Batch) -> Tensor:
            return look(some.x, some, {}, gradient=False).logits

        everywhere = torch.arange(len(batch.y), device=batch.y.device)
        logits = _first(logits_of, model, batch)
        check_classes(batch.y, logits.shape[1], "y")
        prediction = task.predict(logits)
        cost[:, 0] += look.draws
        few = batch.select(everywhere[:REPEATS])
        difference = (logits_of(few) - logits[:REPEATS]).abs().max() / logits.abs().max().clamp(min=1e-12)
        fast = folded(model, few.x) if threat is not None and difference <= REPEATED else None
        for part in made.parts:
            if threat is None:
                break
            standing = everywhere if options["final_iterate"] else (prediction == batch.y).nonzero().squeeze(1)
            if not len(standing):
                break
            assault = Assault(
                part.component,
                part.name,
                threat,
                derive(seed, "attack", part.component_name),
                draws=part.eot,
                **options,
            )
            assault = replace(assault, inside_suffices=assault.minimum_norm and len(made.parts) > 1)
            left = batch.select(standing)
            seed_global(assault.seed, left.ids)
            clean = logits_of(left) if assault.needs_clean else None
            module = fast or model if assault.only_asks else model
            fresh = Fresh(left, standing, clean)
            for finished in attack(module, assault, [fresh], len(standing), logits.shape[1]):
                x_adv[finished.place] = _inside(threat, assault.minimum_norm, finished.x_adv, batch.x[finished.place])
                cost[finished.place] += finished.cost[:, :2]
            prediction[standing] = task.predict(logits_of(left._replace(x=x_adv[standing])))
        return Attacked(x_adv, prediction != batch.y, prediction, cost[:, 0], cost[:, 1])


def _first(look: Callable[[Batch], Tensor], model: nn.Module, batch: Batch) -> Tensor:
    """The first logits. Raises BenchError for a module that does not take such images."""
    import torch

    from harness.api.checking import not_taken

    try:
        return look(batch)
    except (BenchError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # foreign code, which has errors of every type
        raise not_taken("model", model, batch.x, error) from error


def _inside(threat: Threat, minimum_norm: bool, proposal: Tensor, x: Tensor) -> Tensor:
    """What counts of a proposal: projected; of one that is as small as can be the image itself where it is too far."""
    if not minimum_norm:
        return threat.project(proposal, x)
    inside = threat.size(proposal - x) <= threat.eps * (1 + 1e-6)
    return proposal.where(inside.view(-1, 1, 1, 1), x)
