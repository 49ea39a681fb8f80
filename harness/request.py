"""What a run is asked for, resolved: named configurations of components, the matrix of them, the options given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.recipe import Recipe
from harness.settings import RunSettings
from harness.types import SEVERITY


@dataclass(frozen=True)
class Matrix:
    """The ``[matrices.NAME]`` tables: names whose cross product is run, and the metrics taken of each cell.

    models: names of models. datasets: those that every model is taken on, in the place of its own; empty: its own.
    attacks: names of attacks; ATTACK@MODEL makes the images on another model. defenses: names of defenses.
    metrics: what is taken of each cell.
    """

    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    defenses: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()


@dataclass(frozen=True)
class Configured:
    """A named configuration of a component. ``fault`` says why the component is None when its plugin is broken."""

    kind: str
    name: str
    component_name: str
    distribution: str
    version: str
    component: Any
    parameters: Mapping[str, Any]
    fault: str = ""


@dataclass(frozen=True)
class ModelConfig(Configured):
    """A model with what the harness does to it: data, recipe, where its weights start, how it is hardened.

    dataset: what it is trained and attacked on. start: another model that it begins from; empty: from scratch, or from
    its component's weights. training: the recipe, see below. hardening: what a defense that trains changes of it for
    this model. pass_ms: expected milliseconds of a forward and backward pass of a sample, for estimates of time alone.
    moved: its data set is one that the matrix gives to every model.
    """

    dataset: str = ""
    moved: bool = False
    start: str = ""
    recipe: Recipe = field(default_factory=Recipe)
    training: Mapping[str, Any] = field(default_factory=dict)
    hardening: Mapping[str, Any] = field(default_factory=dict)
    pass_ms: float | None = None

    @property
    def label(self) -> str:
        """What tells it from the same model on other data."""
        return on_dataset(self.name, self.dataset) if self.moved else self.name


def on_dataset(model: str, dataset: str) -> str:
    """The name in a request of a model that the matrix gives a data set."""
    return f"{model} on {dataset}"


@dataclass(frozen=True)
class AttackConfig(Configured):
    """An attack with how the harness runs it, or an ensemble of attacks, whose component is None.

    eot: looks averaged at each point. surrogate: another model that the images are made on, empty for the one attacked.
    aim: what it wants of captions, "caption" a certain one, "keyword" a certain word; empty for any other. members: an
    ensemble's attacks, tried in turn on what still stands.
    """

    eot: int = 1
    surrogate: str = ""
    aim: str = ""
    members: tuple[AttackConfig, ...] = ()

    @property
    def parts(self) -> tuple[AttackConfig, ...]:
        """The members of an ensemble, or the attack itself."""
        return self.members or (self,)

    @property
    def norms(self) -> tuple[str, ...]:
        """The norms that every part supports."""
        first, *rest = self.parts
        return tuple(norm for norm in first.component.norms if all(norm in part.component.norms for part in rest))

    @property
    def stronger_than(self) -> tuple[str, ...]:
        """Components that it must beat: those of its parts, and the parts of an ensemble.

        None from a surrogate, and none where it wants something of its own.
        """
        if self.surrogate or self.aim:
            return ()
        beaten = [name for part in self.parts for name in getattr(part.component, "stronger_than", ())]
        return tuple(dict.fromkeys([*(part.component_name for part in self.members), *beaten]))

    @property
    def access(self) -> str:
        """What it sees of the model: "gradient", "scores" where no part sees more, nothing where it is another one."""
        if self.surrogate or SEVERITY in self.norms:
            return ""
        kinds = {getattr(part.component, "access", "gradient") for part in self.parts}
        return "scores" if kinds == {"scores"} else "gradient"

    @property
    def minimum_norm(self) -> bool:
        return not self.members and bool(getattr(self.component, "minimum_norm", False))

    @property
    def targeted(self) -> bool:
        return bool(self.aim) or any(getattr(part.component, "targeted", False) for part in self.parts)


@dataclass(frozen=True)
class DefenseConfig(Configured):
    """A defense with the part of the training recipe that it changes.

    training: what it changes of the model's recipe, see below.
    """

    training: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """Everything a run needs to know, resolved. ``models`` also holds those only used to start others."""

    profile: str
    run: RunSettings
    matrix: Matrix
    datasets: Mapping[str, Configured]
    models: Mapping[str, ModelConfig]
    attacks: Mapping[str, AttackConfig]
    defenses: Mapping[str, DefenseConfig]
    metrics: Mapping[str, Configured]
    probe: AttackConfig | None = None


@dataclass(frozen=True)
class Options:
    """The command line, as far as it decides what is run. None: not given.

    weights: a file that the one model of the run begins with. surrogate: a model that every attack's images are made
    on. transfer: those of every model, on every model.
    """

    profile: str = "tiny"
    matrix: str | None = None
    models: Sequence[str] | None = None
    datasets: Sequence[str] | None = None
    weights: str | None = None
    attacks: Sequence[str] | None = None
    defenses: Sequence[str] | None = None
    metrics: Sequence[str] | None = None
    eps: str | None = None
    norm: str | None = None
    seeds: str | None = None
    limit: str | None = None
    device: str | None = None
    severity: str | None = None
    query_budget: str | None = None
    precision: str | None = None
    domain: str | None = None
    final_iterate: bool = False
    verify: bool = False
    surrogate: str | None = None
    transfer: bool = False
    settings: Sequence[str] = ()
    registry: str | None = None
