"""What the bridges to other libraries have in common: which attack, its parameters, its norms, its target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from harness.errors import BenchError, unknown
from harness.hookspecs import hookimpl
from harness.types import NORMS, Batch, Problem, Threat
from plugins.bridges.contained import contained
from plugins.bridges.signatures import REQUIRED, Parameter, parameters_of
from plugins.overrides import Overrides

if TYPE_CHECKING:
    from torch import Tensor, nn

    from harness.randomness import SampleRandom

STEPS = ("steps", "max_iter", "n_iter", "num_steps", "max_iterations", "iter", "nb_iter", "num_iter_set", "n_queries")
"""What libraries call the number of iterations; for estimates of time alone."""


class Entry(NamedTuple):
    """What is known of one attack.

    norms: those it can be asked for. minimum_norm: it looks for the smallest perturbation. budget: the parameter that
    eps is given as. access: as of any attack. targets: it has a targeted form; only_targets: it has no other. alone:
    it takes one image at a time. needs: one of its parameters has no default.
    """

    norms: tuple[str, ...]
    minimum_norm: bool = False
    budget: str = ""
    access: str = "gradient"
    targets: bool = False
    only_targets: bool = False
    alone: bool = False
    needs: bool = False


def fixed(*norms: str, budget: str = "eps", **facts: Any) -> Entry:
    """An attack that is given eps and stays inside."""
    return Entry(norms, budget=budget, **facts)


def smallest(*norms: str, **facts: Any) -> Entry:
    """An attack that looks for the smallest perturbation in one of these norms."""
    return Entry(norms, minimum_norm=True, **facts)


def unmeasured(**facts: Any) -> Entry:
    """An attack in L0, or of no norm: what it makes is measured, and counts where it lies inside eps."""
    return Entry(NORMS, minimum_norm=True, **facts)


class Task(NamedTuple):
    """What a library is asked for: ``y`` are the labels, or the classes wanted if ``targeted``."""

    module: nn.Module
    x: Tensor
    y: Tensor
    norm: str
    eps: float
    classes: int
    seed: int
    targeted: bool


@dataclass(frozen=True)
class Bridge:
    """A base: subclasses name the library and say how it is called (``images``).

    package: what is imported; project: what is installed; folder: where in the package the attacks are defined.
    entries: the attacks that can be used; refused: those that cannot, with the reason; aliases: other names of the
    first. owned: parameters that the harness sets.
    """

    name: str = ""
    parameters: Mapping[str, Any] = field(default_factory=Overrides)
    target: Literal["", "random", "least_likely", "second"] = ""

    package: ClassVar[str]
    project: ClassVar[str]
    folder: ClassVar[str]
    entries: ClassVar[Mapping[str, Entry]]
    refused: ClassVar[Mapping[str, str]] = {}
    aliases: ClassVar[Mapping[str, str]] = {}
    owned: ClassVar[frozenset[str]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.aliases.get(self.name, self.name))
        if self.name in self.refused:
            raise ValueError(f"{self.title} cannot be used here: it {self.refused[self.name]}")
        if self.name not in self.entries:
            raise unknown(f"attack of {self.project}", self.name, {*self.entries, *self.aliases})
        if self.target and not self.entry.targets:
            raise ValueError(f"target: got {self.target!r}; {self.title} has no targeted form, leave target out")
        if self.entry.only_targets and not self.target:
            raise ValueError(f"{self.title} has a targeted form alone; set target to random, least_likely or second")
        object.__setattr__(self, "parameters", Overrides(self._checked(self.parameters)))

    @property
    def entry(self) -> Entry:
        return self.entries[self.name]

    @property
    def title(self) -> str:
        """Library and attack, for a reader."""
        return f"{self.project} {self.name}"

    @property
    def norms(self) -> tuple[str, ...]:
        return self.entry.norms

    @property
    def minimum_norm(self) -> bool:
        return self.entry.minimum_norm

    @property
    def access(self) -> str:
        return self.entry.access

    @property
    def targeted(self) -> bool:
        return bool(self.target)

    @property
    def library(self) -> str:
        """Name and version of what computes the images. Raises BenchError where it is not installed."""
        try:
            return f"{self.project} {version(self.project)}"
        except PackageNotFoundError:
            raise BenchError(
                f"{self.project} is not installed; pip install 'adversarial-bench[bridges]' gets it"
            ) from None

    @property
    def steps(self) -> int:
        """Iterations, as far as the library calls them by a usual name; for estimates of time."""
        defaults = {p.name: p.default for p in self.offered()}
        values = (self.parameters.get(name, defaults.get(name)) for name in STEPS)
        return next((max(1, value) for value in values if isinstance(value, int)), 1)

    def signature(self) -> tuple[Parameter, ...]:
        """All that the attack takes, the harness's own included."""
        return parameters_of(self.package, self.folder, self.name)

    def offered(self) -> list[Parameter]:
        """The parameters that a user may set."""
        owned = self.owned | ({self.entry.budget, "norm"} if self.entry.budget else set())
        return [p for p in self.signature() if p.name not in owned and not p.name.startswith("*")]

    def describe(self) -> list[tuple[str, ...]]:
        """The attack's own parameters as rows: name, type, default, the value here."""
        rows: list[tuple[str, ...]] = [("parameter", "type", "default", "value here")]
        for p in (p for p in self.offered() if p.kinds or p.choices):
            default = "needed" if p.default is REQUIRED else repr(p.default)
            here = repr(self.parameters[p.name]) if p.name in self.parameters else ""
            rows.append((p.name, p.type, default, here))
        return rows

    def images(self, task: Task, given: dict[str, Any]) -> Tensor:
        """Adversarial images (N, C, H, W); ``given``: the parameters by the library's names."""
        raise NotImplementedError

    def takes(self, name: str) -> bool:
        """Whether the attack has such a parameter."""
        return any(p.name == name for p in self.signature())

    def budgeted(self, eps: float) -> dict[str, float]:
        """eps by the library's name, where the attack is given one."""
        return {p.spelled: eps for p in self.signature() if p.name == self.entry.budget}

    @hookimpl
    def perturb(self, problem: Problem, batch: Batch, threat: Threat, random: SampleRandom) -> Tensor:
        import torch

        with contained():
            first = slice(None) if self.target else slice(1)
            with torch.no_grad():
                clean = problem.module(batch.x[first])  # how many classes there are no library finds out by itself
            y = self._wanted(batch.y, clean, random)
            # Global generators were seeded for this batch; a library that seeds itself does so from them.
            seed = int(torch.randint(2**31 - 1, ()))
            task = Task(problem.module, batch.x, y, threat.norm, threat.eps, clean.shape[1], seed, self.targeted)
            parts = [self.images(part, self._given(part)).detach().to(batch.x) for part in self._parts(task)]
            return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _parts(self, task: Task) -> list[Task]:
        if not self.entry.alone:
            return [task]
        places = [slice(k, k + 1) for k in range(len(task.y))]
        return [task._replace(x=task.x[place], y=task.y[place]) for place in places]

    def _wanted(self, y: Tensor, clean: Tensor, random: SampleRandom) -> Tensor:
        if not self.target:
            return y
        from plugins.targets import target_of

        return target_of(self.target, y, clean, random)

    def _given(self, task: Task) -> dict[str, Any]:
        """The parameters as the library spells them: the user's, and what the model and the harness decide."""
        spelled = {p.name: p.spelled for p in self.signature()}
        values = dict(self.parameters)
        own = {"n_classes": task.classes, "num_classes": task.classes, "seed": task.seed, "verbose": False}
        values |= {name: value for name, value in own.items() if name in spelled and name in self.owned}
        return {spelled[name]: tuple(v) if isinstance(v, list) else v for name, v in values.items()}

    def _checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters in their stored form. Raises BenchError for an unknown name, ValueError for a wrong value."""
        if not given and not self.entry.needs:
            return {}
        offered = {p.name: p for p in self.offered()}
        found: dict[str, Any] = {}
        for name, value in given.items():
            if name not in offered:
                raise unknown(f"parameters of {self.title}", name, offered)
            try:
                found[name] = offered[name].checked(value)
            except ValueError as error:
                raise ValueError(f"parameters.{name} of {self.title}: {error}") from None
        missing = [p.name for p in offered.values() if p.default is REQUIRED and p.name not in found]
        if missing:
            raise ValueError(f"{self.title} has no default for {missing[0]}; set parameters.{missing[0]}")
        return found
