"""Rules of attacks, each looked at in every norm that the attack says it supports."""

from __future__ import annotations

import functools
import random
import resource
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness import registry
from harness.assault import Assault, Log
from harness.attacking import ModelProblem, propose
from harness.contract.rule import Candidate, DoesNotApply, need, rule
from harness.judging import Trial, judge
from harness.looking import Counted
from harness.material import BUDGETS, SHAPE, Tally, images, right, small
from harness.randomness import SampleRandom
from harness.tasks import classification as task
from harness.types import SEVERITY, Batch, Threat
from harness.undisturbed import seed_global, undisturbed

ALIKE = 1e-4
"""Pixels of an image made in another batch that differ by more are others; the passes of another batch round apart."""
OTHERS = 0.02
"""Share of pixels that may be others: where a gradient is all but zero its sign is decided by rounding."""


def threats(candidate: Candidate) -> list[Threat | None]:
    """A budget in each norm; None where nothing is attacked."""
    return [BUDGETS[norm] for norm in candidate.component.norms] or [None]


def assault(candidate: Candidate, threat: Threat | None, seed: int = 0) -> Assault:
    return Assault(candidate.component, candidate.name, threat, seed)


def made(candidate: Candidate, threat: Threat | None, *, seed: int = 0, batch: Batch | None = None) -> Tensor:
    """Images as the attack proposes them, (N, C, H, W)."""
    module = small()
    with undisturbed(module):
        return propose(module, assault(candidate, threat, seed), right() if batch is None else batch)


@dataclass(frozen=True)
class Seen:
    """One attack on ``right()`` under one budget, with all that is looked at beside it; rules share it.

    seconds: of wall time. memory: by which the peak of the process rose, MiB. disturbed: which global state changed.
    """

    threat: Threat | None
    x_adv: Tensor
    given: Batch
    log: Log
    seconds: float
    memory: float
    disturbed: tuple[str, ...]

    def __str__(self) -> str:
        return self.threat.norm if self.threat else "no budget"


@functools.lru_cache(maxsize=8)
def seen(candidate: Candidate) -> tuple[Seen, ...]:
    """What it does to ``right()`` in each of its norms."""
    found = []
    for threat in threats(candidate):
        given, log, module = Batch(*(tensor.clone() for tensor in right())), Log(), small()
        with undisturbed(module):
            before, peak, began = _global_state(), _peak(), time.perf_counter()
            x_adv = propose(module, assault(candidate, threat), given, log)
            seconds, memory, after = time.perf_counter() - began, _peak() - peak, _global_state()
        disturbed = tuple(name for name, value in after.items() if value != before[name])
        found.append(Seen(threat, x_adv, given, log, seconds, memory, disturbed))
    return tuple(found)


def by_step(candidate: Candidate) -> bool:
    return not candidate.hooks.offers("perturb")


def named(threat: Threat | None) -> str:
    return threat.norm if threat else "no budget"


@rule("attacks", "it says which norms it supports, which components it must beat, and how many steps it takes")
def declared(candidate: Candidate) -> str:
    norms = candidate.component.norms
    strange = [norm for norm in norms if norm not in BUDGETS]
    need(not strange, f"norms: {strange} are none; {', '.join(BUDGETS)} are")
    beaten = candidate.says("stronger_than", ())
    missing = set(beaten) - set(registry.names("attacks"))
    need(not missing, f"stronger_than: no attack is called {', '.join(sorted(missing))}")
    if by_step(candidate):
        for name in ("steps", "restarts"):
            need(candidate.says(name, 0) >= 1, f"{name}: {candidate.says(name)}; a step attack needs 1 or more")
    return f"norms {', '.join(norms) or 'none'}; stronger than {', '.join(beaten) or 'none'}"


@rule("attacks", "it proposes a finite float32 image for each image, and another one unless it attacks nothing")
def images_made(candidate: Candidate) -> str:
    told = []
    for one in seen(candidate):  # which refuses what is no image, or not finite
        changed = int((one.x_adv != right().x).flatten(1).any(1).sum())
        need(changed == 0 or one.threat, f"{changed} images differ though no norm is supported")
        need(changed or not one.threat, f"{one}: no image differs from what it was")
        told.append(f"{one}: {changed} of {len(one.x_adv)} changed")
    return "; ".join(told)


@rule("attacks", "what it proposes lies inside the budget")
def budget(candidate: Candidate) -> str:
    if candidate.says("minimum_norm", False):
        raise DoesNotApply("it looks for the smallest perturbation, whatever the budget")
    _needs_own_loop(candidate)
    told = []
    for one in seen(candidate):
        if one.threat and one.threat.norm != SEVERITY:
            size, eps = float(one.threat.size(one.x_adv - right().x).max()), one.threat.eps
            need(size <= eps * (1 + 1e-4) + 1e-6, f"{one}: {size:.6g}, eps is {eps:.6g}")
            told.append(f"{one}: {size:.4g} of {eps:.4g}")
    if not told:
        raise DoesNotApply("no budget binds it: it attacks nothing, or corrupts")
    return "; ".join(told)


def _needs_own_loop(candidate: Candidate) -> None:
    if by_step(candidate):
        raise DoesNotApply("the engine projects what a step attack proposes")


@rule("attacks", "what it proposes lies in [0, 1]")
def box(candidate: Candidate) -> str:
    _needs_own_loop(candidate)
    low = min(float(one.x_adv.min()) for one in seen(candidate))
    high = max(float(one.x_adv.max()) for one in seen(candidate))
    need(low >= 0 and high <= 1, f"pixels from {low:.6g} to {high:.6g}")
    return f"pixels from {low:.3g} to {high:.3g}"


@rule("attacks", "where it follows gradients it fools, or raises the mean loss, or lowers the mean margin")
def harm(candidate: Candidate) -> str:
    if candidate.says("access", "gradient") == "scores":
        raise DoesNotApply("it follows no gradient")
    told = []
    for one in seen(candidate):
        if one.threat and one.threat.norm != SEVERITY:
            (_, *clean), (fooled, *attacked) = _standing(right().x), _standing(one.x_adv)
            fell = f"{one}: {fooled} fooled, loss {clean[0]:.4g} to {attacked[0]:.4g}"
            need(fooled or attacked[0] > clean[0] or attacked[1] < clean[1], fell)
            told.append(fell)
    if not told:
        raise DoesNotApply("it attacks nothing, or corrupts")
    return "; ".join(told)


@torch.no_grad()
def _standing(x: Tensor) -> tuple[int, float, float]:
    """How many of ``right()`` are fooled by images in their place, their mean loss and mean margin."""
    logits, y = small()(x), right().y
    own = logits.gather(1, y[:, None])
    margin = own - logits.scatter(1, y[:, None], float("-inf")).amax(1, keepdim=True)
    return int((logits.argmax(1) != y).sum()), float(task.loss(logits, y).mean()), float(margin.mean())


@rule("attacks", "the seed decides what it proposes, whatever the global generators did before")
def seed(candidate: Candidate) -> str:
    for one in seen(candidate):
        _draw()
        need(torch.equal(made(candidate, one.threat), one.x_adv), f"{one}: other images under the same seed")
    return "the same bits twice"


@rule("attacks", "the same images in other batches and in another order are made into the same images", slow=True)
def batch_independence(candidate: Candidate) -> str:
    order = torch.arange(len(right().y)).flip(0)
    told = []
    for one in seen(candidate):
        parts = torch.empty_like(one.x_adv)
        for rows in order.split(5):  # type: ignore[no-untyped-call]
            parts[rows] = made(candidate, one.threat, batch=right().select(rows))
        other = ((parts - one.x_adv).abs() > ALIKE).flatten(1).float().mean(1)
        count = int((other > OTHERS).sum())
        what = f"{one}: {count} of {len(other)} images are others"
        if count and not by_step(candidate):
            raise DoesNotApply(f"{what}; an attack with a loop of its own need not promise it")
        need(not count, f"{what}; random numbers from `random` belong to the sample, global ones to the batch")
        told.append(f"{one}: at most {float(other.max()):.1%} of an image's pixels differ")
    return "; ".join(told)


@rule("attacks", "it takes a batch of one image")
def one_sample(candidate: Candidate) -> str:
    for threat in threats(candidate):
        x_adv = made(candidate, threat, batch=right().select(torch.tensor([4])))
        need(x_adv.shape == (1, *SHAPE), f"{named(threat)}: shape {tuple(x_adv.shape)}")
    return f"shape {(1, *SHAPE)}"


@rule("attacks", "of a batch of no images it makes none")
def empty_batch(candidate: Candidate) -> str:
    for threat in threats(candidate):
        x_adv = made(candidate, threat, batch=right().select(torch.arange(0)))
        need(x_adv.shape == (0, *SHAPE), f"{named(threat)}: shape {tuple(x_adv.shape)}")
    return f"shape {(0, *SHAPE)}"


@rule("attacks", "it writes nothing into the images and labels that it is given")
def input_untouched(candidate: Candidate) -> str:
    for one in seen(candidate):
        given = one.given if by_step(candidate) else _alone(candidate, one.threat)[0]
        for name, before, after in zip(("x", "y", "ids"), right(), given, strict=True):
            need(torch.equal(before, after), f"{one}: batch.{name} is not what it was")
    return "images, labels and ids are what they were"


def _alone(candidate: Candidate, threat: Threat | None) -> tuple[Batch, int, int]:
    """A loop of its own as it is, without what the harness does around it: its batch, images counted, images seen."""
    given = Batch(*(tensor.clone() for tensor in right()))
    with undisturbed(tally := Tally(small())):
        counted = Counted(tally, right(), by_gradient=assault(candidate, threat).by_gradient)
        seed_global(0, given.ids)
        random = SampleRandom(0, given.ids)
        candidate.hooks.perturb(problem=ModelProblem(counted), batch=given, threat=threat, random=random)
    return given, counted.forwards, tally.images


@rule("attacks", "weights, buffers, modes, gradients and gradient flags of the model are what they were")
def model_untouched(candidate: Candidate) -> str:
    for threat in threats(candidate):
        module, samples = small().train(), replace(images(12, shape=SHAPE), labels=right().y)
        module.features[1].eval()  # frozen on purpose
        weights = {key: tensor.clone() for key, tensor in module.state_dict().items()}
        modes = [part.training for part in module.modules()]
        outcome = judge(Trial(module, (assault(candidate, threat),), 5), samples)
        with undisturbed(module, weights=True) as notes:
            propose(module, assault(candidate, threat), right())
        for note in (*outcome.notes, *notes):
            need(False, f"{named(threat)}: {note.code}: {note.text}")
        changed = [key for key, tensor in module.state_dict().items() if not torch.equal(tensor, weights[key])]
        need(not changed, f"{named(threat)}: {', '.join(changed)} changed")
        need([part.training for part in module.modules()] == modes, f"{named(threat)}: training flags changed")
        flags = [parameter.grad is None and parameter.requires_grad for parameter in module.parameters()]
        need(all(flags), f"{named(threat)}: gradients or gradient flags of {flags.count(False)} parameters changed")
    return f"{len(weights)} tensors, {len(modes)} modes"


@rule("attacks", "global random generators and torch's global settings are what they were")
def global_state(candidate: Candidate) -> str:
    for one in seen(candidate):
        need(not one.disturbed, f"{one}: {', '.join(one.disturbed)} changed")
    return ", ".join(_global_state())


@rule("attacks", "every pass of an attack with a loop of its own goes through the counted model")
def counted(candidate: Candidate) -> str:
    if by_step(candidate):
        raise DoesNotApply("the passes of a step attack are the engine's")
    told = []
    for threat in threats(candidate):
        given, paid, shown = _alone(candidate, threat)
        need(paid == shown, f"{named(threat)}: the model saw {shown} images, {paid} were counted")
        told.append(f"{named(threat)}: {paid / len(given.y):g} forwards an image")
    return "; ".join(told)


@rule("attacks", "it works where the model is, on an accelerator too")
def device(candidate: Candidate) -> str:
    there = _accelerator()
    if there is None:
        wrong = [str(one.x_adv.device) for one in seen(candidate) if one.x_adv.device.type != "cpu"]
        need(not wrong, f"images on {', '.join(wrong)}, the model is on the CPU")
        return "the CPU; there is no accelerator here"
    batch = Batch(*(tensor.to(there) for tensor in right()))
    for threat in threats(candidate):
        with undisturbed(module := small().to(there)):
            x_adv = propose(module, assault(candidate, threat), batch)
        need(x_adv.device.type == there, f"{named(threat)}: images on {x_adv.device}, the model is on {there}")
    return f"the CPU, {there}"


@rule("attacks", "its time, passes and memory are measured")
def cost(candidate: Candidate) -> str:
    return "; ".join(
        f"{one}: {1000 * one.seconds / (n := len(one.x_adv)):.3g} ms, {one.log.forwards / n:.3g} forwards, "
        f"{one.log.backwards / n:.3g} backwards an image, peak memory +{one.memory:.0f} MiB"
        for one in seen(candidate)
    )


def _draw() -> None:
    torch.rand(3)
    np.random.rand(3)  # noqa: NPY002, the global generator is what is meant
    random.random()


def _peak() -> float:
    """The most memory that the process had so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _accelerator() -> str | None:
    found = [("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())]
    return next((name for name, available in found if available), None)


def _global_state() -> dict[str, Any]:
    return {
        "torch's generator": torch.get_rng_state().tolist(),
        "numpy's generator": str(np.random.get_state()),  # noqa: NPY002
        "random's generator": random.getstate(),
        "default dtype": torch.get_default_dtype(),
        "gradient mode": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
    }
