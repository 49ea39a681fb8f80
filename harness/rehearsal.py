"""What is tried before anything heavy starts, so that what cannot work is told now and not after hours of training.

Models that are still to be trained or loaded are built and asked about two images. Attacks, defenses and metrics of
others than the harness are called as the run will call them, on a network of two convolutions and a few random images
of the data's shape. What they give back that is not what the boundary asks for becomes the fault of the cells that need
it. Whatever else goes wrong in a rehearsal is told when it happens in the run: the network is not the one that an
attack was made for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from harness import boundary, gives
from harness.assault import Assault
from harness.attacking import ModelProblem, propose
from harness.building import build_module, check_head
from harness.errors import BenchError, BrokenPlugin
from harness.estimate import needed
from harness.material import CLASSES, batch_of, images, outcomes, sentences, small
from harness.randomness import SampleRandom
from harness.registry import BUILT_IN
from harness.request import AttackConfig, Configured
from harness.steps import CellStep, FitStep, HardenStep
from harness.types import CAPTIONING, CLASSIFICATION, Batch, Facts, Threat
from harness.undisturbed import undisturbed

IMAGES = 2
LOOKS = 64
"""After so many passes an attack that is still going has shown enough."""


def rehearsed(cells: Sequence[CellStep], finished: Collection[str]) -> tuple[CellStep, ...]:
    """The cells, those that need a broken plugin with its fault. ``finished``: keys of steps that need not be made.

    Raises BenchError for weights and parameters that do not fit a model, and for a head that nothing trains.
    """
    stage = _Stage({fit.key for fit in needed(cells, finished)[0]})
    return tuple(cell if cell.fault or cell.skip else replace(cell, fault=stage.fault(cell)) for cell in cells)


def rehearsed_metrics(metrics: Mapping[str, Configured]) -> dict[str, Configured]:
    """The metrics, broken ones with their fault."""
    return {name: replace(metric, fault=metric.fault or _metric(metric)) for name, metric in metrics.items()}


@dataclass
class _Stage:
    """Remembers what was tried: the fault of each, empty where there is none."""

    to_make: Collection[str]
    faults: dict[object, str] = field(default_factory=dict)

    def fault(self, cell: CellStep) -> str:
        for what, attempt in self._parts(cell):
            if what not in self.faults:
                self.faults[what] = attempt()
            if self.faults[what]:
                return self.faults[what]
        return ""

    def _parts(self, cell: CellStep) -> Iterator[tuple[object, Callable[[], str]]]:
        facts = cell.hardened.data.facts
        if facts is None or facts.task != CLASSIFICATION:  # a captioner is built for words that are not read yet
            return
        for fit in (step for first in cell.fits for step in first.chain if step.key in self.to_make):
            yield fit.key, lambda fit=fit: _model(fit)  # type: ignore[misc]
        if _foreign(cell.hardened.defense):
            yield cell.hardened.key, lambda: _defense(cell.hardened, facts)
        for part in filter(_foreign, cell.attack.parts):
            shape = (part.name, cell.threat, facts.shape, len(facts.classes))
            yield shape, lambda part=part: _attack(part, cell.threat, facts)  # type: ignore[misc]


def _foreign(config: Configured) -> bool:
    return config.component is not None and config.distribution != BUILT_IN


def _model(fit: FitStep) -> str:
    facts = fit.data.facts
    assert facts is not None
    channels = facts.shape[0]
    try:
        module = build_module(fit, [0.0] * channels, [1.0] * channels)
        check_head(fit, module)
    except BrokenPlugin as error:
        return str(error)
    except BenchError:
        raise
    except Exception:  # a bug in a plugin: it is the reason of its cells when they are run
        return ""
    return _fault(lambda: _check_answer(f"models.{fit.model.name}", module, facts))


def _check_answer(who: str, module: nn.Module, facts: Facts) -> None:
    """Raises BrokenPlugin for what are no logits of the data's classes."""
    with undisturbed(module), torch.no_grad():
        logits = module(_pixels(facts).x)
    fits = isinstance(logits, Tensor) and logits.is_floating_point() and logits.ndim == 2 and len(logits) == IMAGES
    wanted = len(facts.classes)
    if not fits or logits.shape[1] < wanted:
        raise BrokenPlugin(
            f"{who}: its module gives {gives.told(logits)} for {IMAGES} images; logits of shape ({IMAGES}, {wanted}) "
            f"are expected, one for each of {wanted} classes"
        )


def _defense(step: HardenStep, facts: Facts) -> str:
    hooks, who = boundary.bind("defenses", step.defense.component), f"defenses.{step.defense.name}"
    batch = _pixels(facts)
    if hooks.offers("objective"):
        problem, random = ModelProblem(_network(facts).train()), SampleRandom(0, batch.ids)
        if fault := _fault(lambda: hooks.objective(problem=problem, batch=batch, random=random)):
            return fault
    if not hooks.offers("wrap"):
        return ""
    return _fault(lambda: _check_answer(who, hooks.wrap(module=_network(facts)), facts))


def _attack(part: AttackConfig, threat: Threat | None, facts: Facts) -> str:
    module, assault = _Patient(_network(facts)).eval(), Assault(part.component, part.name, threat, 0)

    def once() -> None:
        if assault.hooks.offers("rounds"):
            assault.hooks.rounds(classes=len(facts.classes))
        propose(module, assault, _pixels(facts))

    with undisturbed(module):
        return _fault(once)


def _metric(metric: Configured) -> str:
    if not _foreign(metric):
        return ""
    facts = Facts((3, 8, 8), tuple("abcde"[:CLASSES]), dict.fromkeys(gives.SPLITS, 40), "none", "nobody", "nowhere")
    captions = getattr(metric.component, "task", CLASSIFICATION) == CAPTIONING
    outcome = sentences()[0] if captions else outcomes()[0]
    return _fault(lambda: boundary.bind("metrics", metric.component).measure(outcome=outcome, facts=facts))


def _fault(attempt: Callable[[], object]) -> str:
    """The line of a plugin that turns out to be broken; whatever else goes wrong does not count."""
    try:
        attempt()
    except BrokenPlugin as error:
        return str(error)
    except (_Enough, Exception):
        return ""
    return ""


def _network(facts: Facts) -> nn.Module:
    return small(channels=facts.shape[0], classes=len(facts.classes), dropout=0.0)


def _pixels(facts: Facts) -> Batch:
    return batch_of(images(IMAGES, shape=facts.shape, classes=len(facts.classes)))


class _Enough(BaseException):
    """Not an Exception, so that no plugin catches it."""


class _Patient(nn.Module):
    """A network that is asked a number of times and no more."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.asked = network, 0

    def forward(self, x: Tensor) -> Tensor:
        self.asked += 1
        if self.asked > LOOKS:
            raise _Enough
        logits: Tensor = self.network(x)
        return logits
