"""Everything a plugin can do, on one screen.

A component is a frozen dataclass named in an entry-point group (``bench.datasets``, ``bench.models``,
``bench.attacks``, ``bench.defenses``, ``bench.metrics``). Its fields are its parameters. It marks the methods below
that it offers with ``@hookimpl``; pluggy refuses a misspelt hook or an unknown argument when the component is loaded,
and a hook may leave out arguments it does not need, so this file can grow without breaking anybody.

Import heavy packages inside the methods that use them: planning imports every component that a run names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from harness.types import (
    Batch,
    CaptionedSplit,
    CaptionOutcome,
    Evaluation,
    Facts,
    Outcome,
    Preparation,
    Problem,
    Score,
    Split,
    State,
    Threat,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.randomness import SampleRandom

hookspec = pluggy.HookspecMarker("bench")
hookimpl = pluggy.HookimplMarker("bench")

VERSION, OLDEST = 1, 1
"""The version of this boundary, and the oldest that is still understood. A component may say by ``boundary:
ClassVar[int]`` which one it was written for, and is refused where that is neither; VERSION rises with every hook,
argument or attribute that comes, OLDEST when one goes."""

NOT_IN_KEY: Mapping[str, str] = {"key": "never"}
"""Metadata of a dataclass field that decides no number: where files lie (their bytes count), what a licence says."""
ADDED_LATER: Mapping[str, str] = {"key": "unless default"}
"""Metadata of a field that came after results were stored: with its default all is as it was, the content key too."""


class Datasets:
    @hookspec(firstresult=True)
    def facts(self, roots: Sequence[Path]) -> Facts:
        """Shape, classes, split sizes, licence and citation, without reading an image.

        roots: folders searched for data, for what only its files can tell.
        """

    @hookspec(firstresult=True)
    def locate(self, roots: Sequence[Path]) -> Sequence[Path] | None:
        """The files whose bytes make this data set, under these folders; None where one is missing."""

    @hookspec(firstresult=True)
    def download(self, root: Path) -> None:
        """Fetch the files into ``root``, checksums verified. Raises BenchError saying what to get from where."""

    @hookspec(firstresult=True)
    def load(self, files: Sequence[Path]) -> Mapping[str, Split | CaptionedSplit]:
        """The splits ``train``, ``validation`` and ``test`` in memory."""


class Models:
    """Optional attribute ``weights: str``: a local safetensors file to start from; its digest is part of the key.

    ``task: ClassVar[str]``: "captioning" for a module that is a ``harness.types.Captioner``.
    """

    @hookspec(firstresult=True)
    def sources(self) -> Sequence[Path]:
        """Files from outside that decide the weights (a hub's cached file). Optional."""

    @hookspec(firstresult=True)
    def build(self, preparation: Preparation) -> nn.Module:
        """A module from pixels (N, C, H, W) in [0, 1] to logits (N, K), normalisation and resizing inside.

        Of a captioner: what ``harness.types.Captioner`` says, for the words of ``preparation.vocabulary``.
        """


class Attacks:
    """``norms: ClassVar[tuple[str, ...]]``, those supported; empty: no perturbation, no threat model.
    ``stronger_than: ClassVar[tuple[str, ...]]``, components that this one must beat, or a verdict says so.
    ``access: ClassVar[str]``: "gradient", or "scores" for an attack that sees nothing but logits (black box).
    ``minimum_norm: ClassVar[bool]``: looks for the smallest perturbation, whatever the eps; judged at any eps at once.
    ``targeted: ClassVar[bool]``: wants certain classes, so what fell at a small eps is attacked again at a larger one.
    ``keeps_best: ClassVar[bool]``: a look whose loss is not above ``state["best_loss"]`` changes nothing but the next
    proposal, so several may be looked at together. What is told of one guessed to be refused is a loss of -inf.
    Any of these may be a property, where it depends on the fields. ``library: str``, "torchattacks 3.5.1": what
    computes the images; part of the content key. ``describe()``: rows for ``bench info``, beside the fields.
    ``tasks: ClassVar[tuple[str, ...]]``: "captioning" among them where no class is looked at; else classification only.
    ``only_asks: ClassVar[bool]``: its own loop calls the model and changes nothing of it; it gets the fast form.
    A step attack has fields ``steps`` and ``restarts`` and gives ``start`` and ``step``; any other gives ``perturb``.
    The engine evaluates ``x_adv``, keeps the first image that fools (of a ``minimum_norm`` attack the smallest), and
    takes finished samples out: N changes from call to call, and samples at different iterations stand side by side.
    """

    @hookspec(firstresult=True)
    def rounds(self, classes: int) -> int:
        """How many restarts make sense for a model of so many classes. Optional; else ``restarts``."""

    @hookspec(firstresult=True)
    def start(self, batch: Batch, threat: Threat, random: SampleRandom, clean: Tensor, restart: Tensor) -> State:
        """The state before the first iteration: tensors with first dimension N, ``x_adv`` among them.

        clean: the logits (N, K) of the images as they are. restart: which try this is of each sample, (N,) from 0.
        """

    @hookspec(firstresult=True)
    def needs_gradient(self, iteration: Tensor) -> Tensor:
        """Which of these iterations (N,) need a gradient, as booleans (N,). Optional; else all but the last look."""

    @hookspec(firstresult=True)
    def loss(self, logits: Tensor, batch: Batch, state: State) -> Tensor:
        """What the attack raises, differentiable in the logits: (N, K) -> (N,). Optional; else the task's loss."""

    @hookspec(firstresult=True)
    def step(
        self, state: State, found: Evaluation, batch: Batch, threat: Threat, random: SampleRandom, iteration: Tensor
    ) -> State:
        """One iteration for N samples, given what was found at ``state["x_adv"]``. iteration: (N,) from 0."""

    @hookspec(firstresult=True)
    def perturb(self, problem: Problem, batch: Batch, threat: Threat | None, random: SampleRandom) -> Tensor:
        """Adversarial images (N, C, H, W) float32 in [0, 1] by any means."""


class Defenses:
    """Gives ``objective`` (then the model is trained further), ``wrap``, both, or neither (the undefended row).

    ``tasks: ClassVar[tuple[str, ...]]``, as of attacks.
    """

    @hookspec(firstresult=True)
    def objective(self, problem: Problem, batch: Batch, random: SampleRandom) -> Tensor:
        """Loss of each sample (N,), differentiable in the weights, minimised while hardening."""

    @hookspec(firstresult=True)
    def passes(self) -> float:
        """Forward-and-backward passes an objective costs per sample, plain training being 1. For time estimates."""

    @hookspec(firstresult=True)
    def wrap(self, module: nn.Module) -> nn.Module:
        """The model as deployed: pixels in, logits out. Gradients are taken through it."""


class Metrics:
    """``unit: ClassVar[str]``, ``higher_is_better: ClassVar[bool | None]``.

    ``task: ClassVar[str]``: "captioning" for one that gets a CaptionOutcome, "" for one that takes either.
    """

    @hookspec(firstresult=True)
    def measure(self, outcome: Outcome | CaptionOutcome, facts: Facts) -> Score | None:
        """A number with its interval from per-sample outcomes; None where it does not apply. facts: of the data set."""


SPECS: Mapping[str, Any] = {
    "datasets": Datasets,
    "models": Models,
    "attacks": Attacks,
    "defenses": Defenses,
    "metrics": Metrics,
}
NEEDED: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "datasets": (("facts", "locate", "load"),),
    "models": (("build",),),
    "attacks": (("perturb",), ("start", "step")),
    "defenses": ((),),
    "metrics": (("measure",),),
}
"""Hooks without which a component cannot be asked: all of one of these groups."""
