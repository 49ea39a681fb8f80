"""A request -> the graph of steps, each with a content key, everything checked before anything heavy starts.

key(step) = SHA-256 of canonical JSON of its kind and version, the component and its distribution, its resolved
parameters, the keys of the steps it depends on, and what else changes the numbers. Names from the registry are labels
and no part of a key: two names for one and the same thing share it, and whatever differs in anything never does.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness import locating, registry
from harness.coercion import fill
from harness.config import Configured, DefenseConfig, ModelConfig, Request, merge
from harness.errors import BenchError
from harness.recipe import Recipe
from harness.types import Facts, Threat

VERSIONS = {"data": 1, "fit": 1, "harden": 1, "attack": 1, "judge": 1, "measure": 1}
PRECISION = "float32"


@dataclass(frozen=True)
class DataStep:
    """One data set: where its bytes are and what is known of it. ``facts`` is None when the plugin is broken."""

    key: str
    document: Mapping[str, Any]
    config: Configured
    files: tuple[Path, ...] = ()
    facts: Facts | None = None
    fault: str = ""


@dataclass(frozen=True)
class FitStep:
    """One model trained (or loaded) on one data set. ``passes``: forward-and-backward passes of samples."""

    key: str
    document: Mapping[str, Any]
    model: ModelConfig
    data: DataStep
    start: FitStep | None
    seed: int
    passes: float
    fault: str = ""

    kind = "fit"

    @property
    def before(self) -> FitStep | None:
        """The step whose weights this one begins with."""
        return self.start

    @property
    def label(self) -> str:
        return f"fit {self.model.name}" + (f" seed {self.seed}" if self.seed else "")


@dataclass(frozen=True)
class HardenStep:
    """One fitted model under one defense; ``trains`` when the defense has an objective."""

    key: str
    document: Mapping[str, Any]
    fit: FitStep
    defense: DefenseConfig
    recipe: Recipe
    seed: int
    passes: float
    trains: bool
    fault: str = ""

    kind = "harden"

    @property
    def before(self) -> FitStep:
        """The step whose weights this one begins with."""
        return self.fit

    @property
    def model(self) -> ModelConfig:
        return self.fit.model

    @property
    def data(self) -> DataStep:
        return self.fit.data

    @property
    def label(self) -> str:
        return f"harden {self.fit.model.name} by {self.defense.name}" + (f" seed {self.seed}" if self.seed else "")


TrainingStep = FitStep | HardenStep
"""A step that makes weights."""


@dataclass(frozen=True)
class CellStep:
    """One cell of the matrix: attack, judge, measure. ``n`` test samples; ``metrics`` maps a metric's name to its key.

    ``fault``: a plugin it needs is broken; ``skip``: the attack does not apply here.
    """

    key: str
    document: Mapping[str, Any]
    subject: str
    hardened: HardenStep
    attack: Configured
    threat: Threat | None
    seed: int
    n: int
    passes: float
    metrics: Mapping[str, str]
    fault: str = ""
    skip: str = ""

    @property
    def label(self) -> str:
        parts = [self.hardened.fit.model.name, self.hardened.defense.name, self.attack.name]
        return " / ".join(parts) + (f" seed {self.seed}" if self.seed else "")


@dataclass(frozen=True)
class Plan:
    """The cells of a request in the order they are run: those of one model together."""

    request: Request
    cells: tuple[CellStep, ...]
    notes: tuple[str, ...] = ()

    @property
    def hardenings(self) -> tuple[HardenStep, ...]:
        """The defenses that train, each step once."""
        steps = [cell.hardened for cell in self.cells if cell.hardened.trains]
        return tuple({step.key: step for step in steps}.values())

    @property
    def data(self) -> tuple[DataStep, ...]:
        steps = [fit.data for fit in self.fits]
        return tuple({step.key: step for step in steps}.values())

    @property
    def fits(self) -> tuple[FitStep, ...]:
        found: dict[str, FitStep] = {}
        for cell in self.cells:
            chain: list[FitStep] = []
            fit: FitStep | None = cell.hardened.fit
            while fit:
                chain.append(fit)
                fit = fit.start
            found |= {step.key: step for step in reversed(chain)}
        return tuple(found.values())


def build(request: Request, roots: Sequence[Path], *, download: bool) -> Plan:
    """The plan of a request. Raises BenchError for missing data, files that cannot be read, a budget out of range."""
    _check_budget(request)
    planner = _Planner(request, {n: _data_step(c, roots, download=download) for n, c in request.datasets.items()})
    cells = tuple(
        cell
        for seed in request.run.seeds
        for model in request.matrix.models
        for defense in request.matrix.defenses
        for cell in planner.cells(model, defense, seed)
    )
    return Plan(request, cells, tuple(registry.clashes()))


def key_of(document: Mapping[str, Any]) -> str:
    """The content key of a step's document (64 hexadecimal digits)."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class _Planner:
    request: Request
    data: Mapping[str, DataStep]
    fits: dict[tuple[str, int], FitStep] = field(default_factory=dict)

    def fit(self, name: str, seed: int) -> FitStep:
        if (name, seed) in self.fits:
            return self.fits[name, seed]
        model = self.request.models[name]
        data = self.data[model.dataset]
        start = self.fit(model.start, seed) if model.start else None
        sources, fault = _sources(model)
        document = {
            **_document("fit", model),
            "recipe": asdict(model.recipe),
            "inputs": {"data": data.key, "start": start.key if start else None},
            "sources": locating.digest(sources, named=False) if sources else None,
            "seed": seed,
        }
        # What the weights file is called changes nothing; its digest stands under "sources".
        document["parameters"] = {k: v for k, v in model.parameters.items() if k != "weights"}
        fault = fault or data.fault or (start.fault if start else "")
        passes = _epoch_samples(model.recipe, data) * model.recipe.epochs
        step = FitStep(key_of(document), document, model, data, start, seed, passes, fault)
        self.fits[name, seed] = step
        return step

    def harden(self, name: str, defense_name: str, seed: int) -> HardenStep:
        fit = self.fit(name, seed)
        defense = self.request.defenses[defense_name]
        hooks = registry.bind("defenses", defense.component) if not defense.fault else None
        trains = hooks is not None and registry.offers(hooks, "objective")
        table = merge(merge(dict(fit.model.training), dict(defense.training)), dict(fit.model.hardening))
        recipe = fill(Recipe, table, f"training of {name} under {defense_name}") if trains else Recipe(epochs=0)
        document = {
            **_document("harden", defense),
            "recipe": asdict(recipe) if trains else None,
            "inputs": {"fit": fit.key, "data": fit.data.key},
            "seed": seed,
        }
        cost = (hooks.passes() or 1.0) if trains and hooks else 0.0
        passes = cost * recipe.epochs * _epoch_samples(recipe, fit.data)
        fault = fit.fault or defense.fault
        return HardenStep(key_of(document), document, fit, defense, recipe, seed, passes, trains, fault)

    def cells(self, model: str, defense: str, seed: int) -> list[CellStep]:
        hardened = self.harden(model, defense, seed)
        return [
            self._cell(hardened, attack, threat, seed)
            for attack in map(self.request.attacks.__getitem__, self.request.matrix.attacks)
            for threat in self._threats(attack)
        ]

    def _threats(self, attack: Configured) -> list[Threat | None]:
        run = self.request.run
        if not attack.fault and not attack.component.norms:
            return [None]
        return [Threat(run.norm, eps) for eps in run.eps]

    def _cell(self, hardened: HardenStep, attack: Configured, threat: Threat | None, seed: int) -> CellStep:
        facts = hardened.fit.data.facts
        n = min(self.request.run.limit or facts.sizes["test"], facts.sizes["test"]) if facts else 0
        samples = {"data": hardened.fit.data.key, "split": "test", "n": n}
        subject = key_of({"hardened": hardened.key, "samples": samples, "seed": seed})
        document = {
            **_document("attack", attack),
            "judge": VERSIONS["judge"],
            "inputs": {"hardened": hardened.key},
            "samples": samples,
            "threat": asdict(threat) if threat else None,
            "seed": seed,
        }
        key = key_of(document)
        metrics = {
            name: key_of({**_document("measure", metric), "inputs": {"cell": key}})
            for name, metric in self.request.metrics.items()
        }
        norms = attack.component.norms if not attack.fault else ()
        skip = ""
        if threat and norms and threat.norm not in norms:
            skip = f"attack {attack.name} does not support {threat.norm}; it supports {', '.join(norms)}"
        fault = hardened.fault or attack.fault
        passes = n * (_steps(attack) + 0.7)
        return CellStep(key, document, subject, hardened, attack, threat, seed, n, passes, metrics, fault, skip)


def _document(kind: str, config: Configured) -> dict[str, Any]:
    return {
        "kind": kind,
        "step_version": VERSIONS[kind],
        "component": config.component_name,
        "distribution": f"{config.distribution} {config.version}",
        "parameters": dict(config.parameters),
        "precision": PRECISION,
        "torch": _torch_version(),
    }


@functools.cache
def _torch_version() -> str:
    """Major and minor. Asking costs a parsed metadata file, and every step and score asks."""
    return ".".join(version("torch").split(".")[:2])


def _data_step(config: Configured, roots: Sequence[Path], *, download: bool) -> DataStep:
    document = {k: v for k, v in _document("data", config).items() if k not in ("torch", "precision")}
    if config.fault:
        return DataStep(key_of(document), document, config, fault=config.fault)
    hooks = registry.bind("datasets", config.component)
    files = hooks.locate(roots=roots)
    if files is None and download:
        hooks.download(root=roots[-1])
        files = hooks.locate(roots=roots)
    if files is None:
        raise BenchError(
            f"dataset {config.name}: not found in {', '.join(map(str, roots))}; get it from {hooks.facts().source} and "
            "name the folder that holds it with --data PATH or BENCH_DATA (without --dry-run the download is tried)"
        )
    document["digest"] = locating.digest(files)
    return DataStep(key_of(document), document, config, tuple(files), hooks.facts())


def _sources(model: ModelConfig) -> tuple[list[Path], str]:
    """Files that decide the weights, and the fault of a broken plugin. Raises BenchError for a missing file."""
    if model.fault:
        return [], model.fault
    hooks = registry.bind("models", model.component)
    found = list(hooks.sources() or []) if registry.offers(hooks, "sources") else []
    if weights := getattr(model.component, "weights", ""):
        path = Path(weights)
        if not path.is_file():
            raise BenchError(f"models.{model.name}.weights: {weights}: no such file; give a safetensors file's path")
        found.append(path)
    return found, ""


def _check_budget(request: Request) -> None:
    run = request.run
    needs = [a.name for a in request.attacks.values() if a.fault or a.component.norms]
    if needs and not run.eps:
        raise BenchError(f"attack {needs[0]}: no eps given; use --eps 8/255 or set run.eps in the registry")
    if run.norm == "Linf" and max(run.eps, default=0) > 1:
        eps = max(run.eps)
        raise BenchError(
            f"--eps {eps:g}: larger than the whole pixel range [0, 1] in Linf; pixel units are needed, "
            f"did you mean {eps:g}/255?"
        )


def _epoch_samples(recipe: Recipe, data: DataStep) -> int:
    count = data.facts.sizes["train"] if data.facts else 0
    return min(recipe.samples_per_epoch or count, count)


def _steps(attack: Configured) -> float:
    """Forward-and-backward passes a sample costs, as far as the component's fields tell."""
    if attack.fault or not attack.component.norms:
        return 0.0
    return float(getattr(attack.component, "steps", 1) * getattr(attack.component, "restarts", 1))


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a parameter of type {type(value).__name__} has no canonical form")
