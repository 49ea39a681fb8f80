"""A request -> the graph of steps, each with a content key, everything checked before anything heavy starts.

key(step) = SHA-256 of canonical JSON of its kind and version, the component and its distribution, its resolved
parameters, the keys of the steps it depends on, and what else changes the numbers. Names from the registry are labels
and no part of a key: two names for one and the same thing share it, and whatever differs in anything never does.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness import boundary, keys, locating, registry
from harness.coercion import fill
from harness.errors import BenchError, BrokenPlugin
from harness.keys import key_of
from harness.layers import merge
from harness.recipe import Recipe
from harness.request import AttackConfig, Configured, ModelConfig, Request, on_dataset
from harness.steps import CellStep, DataStep, FitStep, HardenStep, Plan
from harness.types import CAPTIONING, CLASSIFICATION, SEVERITY, Threat

VERSIONS = {"data": 1, "fit": 2, "harden": 2, "attack": 2, "judge": 2, "measure": 1, "text": 1, "captions": 2}
PRECISION = "float32"
RETIRING = 0.5
"""Share of its steps that an attack is expected to need where fooled samples leave; for time estimates alone."""


def build(request: Request, roots: Sequence[Path], *, download: bool) -> Plan:
    """The plan of a request. Raises BenchError for missing data, files that cannot be read, a budget out of range."""
    _check_budget(request)
    planner = _Planner(request, {n: data_step(c, roots, download=download) for n, c in request.datasets.items()})
    cells = tuple(
        cell
        for seed in request.run.seeds
        for model in request.matrix.models
        for defense in request.matrix.defenses
        for cell in planner.cells(model, defense, seed)
    )
    return Plan(request, cells, tuple(registry.clashes()))


@dataclass
class _Planner:
    request: Request
    data: Mapping[str, DataStep]
    fits: dict[tuple[str, int], FitStep] = field(default_factory=dict)

    @property
    def _domain(self) -> dict[str, str]:
        """What a key says of the domain: nothing where that is the right one."""
        domain = self.request.run.domain
        return {} if domain == "pixels" else {"domain": domain}

    def fit(self, name: str, seed: int) -> FitStep:
        if (name, seed) in self.fits:
            return self.fits[name, seed]
        model = self.request.models[name]
        data = self.data[model.dataset]
        start = self.fit(model.start, seed) if model.start else None
        sources, fault = _sources(model)
        _check_task(model, data)
        if self._domain and data.facts and data.facts.task == CAPTIONING:
            raise BenchError(f"--domain {self.request.run.domain}: models.{name} writes captions; leave --domain out")
        document = {
            **_document("fit", model),
            "recipe": model.recipe.deciding(),
            "inputs": {"data": data.key, "start": start.key if start else None},
            "sources": locating.digest(sources, named=False) if sources else None,
            "seed": seed,
        }
        if data.facts and data.facts.task == CAPTIONING:
            document["captions"] = VERSIONS["captions"]
        # What the weights file is called changes nothing; its digest stands under "sources".
        document["parameters"] = {k: v for k, v in document["parameters"].items() if k != "weights"}
        fault = fault or data.fault or (start.fault if start else "")
        passes = _epoch_samples(model.recipe, data) * model.recipe.epochs
        step = FitStep(key_of(document), document, model, data, start, seed, passes, fault)
        self.fits[name, seed] = step
        return step

    def harden(self, name: str, defense_name: str, seed: int) -> HardenStep:
        fit = self.fit(name, seed)
        defense = self.request.defenses[defense_name]
        hooks = boundary.bind("defenses", defense.component) if not defense.fault else None
        trains = hooks is not None and hooks.offers("objective")
        table = merge(merge(dict(fit.model.training), dict(defense.training)), dict(fit.model.hardening))
        recipe = fill(Recipe, table, f"training of {name} under {defense_name}") if trains else Recipe(epochs=0)
        document = {
            **_document("harden", defense),
            "recipe": recipe.deciding() if trains else None,
            "inputs": {"fit": fit.key, "data": fit.data.key},
            "seed": seed,
        }
        if trains:
            document |= self._domain
        fault = fit.fault or defense.fault
        cost = 1.0 if trains else 0.0
        if trains and hooks and hooks.offers("passes"):
            try:
                cost = hooks.passes()
            except BrokenPlugin as error:
                fault = fault or str(error)
        passes = cost * recipe.epochs * _epoch_samples(recipe, fit.data)
        return HardenStep(key_of(document), document, fit, defense, recipe, seed, passes, trains, fault)

    def cells(self, model: str, defense: str, seed: int) -> list[CellStep]:
        hardened = self.harden(model, defense, seed)
        made: list[CellStep] = []
        for attack in map(self.request.attacks.__getitem__, self.request.matrix.attacks):
            before: CellStep | None = None
            for threat in self._threats(attack):
                cell = self._cell(hardened, attack, threat, seed, before)
                made.append(cell)
                before = cell if self._is_chained(attack) and not cell.skip else None
        return made

    def _threats(self, attack: AttackConfig) -> list[Threat | None]:
        run = self.request.run
        if not attack.fault and SEVERITY in attack.norms:
            return [Threat(SEVERITY, level) for level in run.severities]
        if not attack.fault and not any(part.component.norms for part in attack.parts):
            return [None]
        return [Threat(run.norm, eps) for eps in run.eps]

    def _is_chained(self, attack: AttackConfig) -> bool:
        """Whether what is fooled at a small eps counts at a larger one: in the worst case over attacks it does."""
        if attack.fault or attack.surrogate or self.request.run.final_iterate:
            return False
        return not (attack.minimum_norm or attack.targeted or SEVERITY in attack.norms)

    def _cell(
        self, hardened: HardenStep, attack: AttackConfig, threat: Threat | None, seed: int, before: CellStep | None
    ) -> CellStep:
        run, facts = self.request.run, hardened.fit.data.facts
        n = min(run.limit or facts.sizes["test"], facts.sizes["test"]) if facts else 0
        samples = {"data": hardened.fit.data.key, "split": "test", "n": n}
        subject = key_of({"hardened": hardened.key, "samples": samples, "seed": seed})
        surrogate = self._surrogate(attack.surrogate, hardened.model, seed) if attack.surrogate else None
        document = {
            "kind": "attack",
            "attack": [_attack_document(part) for part in attack.parts],
            "judge": VERSIONS["judge"],
            "inputs": {"hardened": hardened.key, "surrogate": surrogate.key if surrogate else None},
            "samples": samples,
            "final_iterate": run.final_iterate,
            "query_budget": run.query_budget,
            "precision": run.precision,
            "seed": seed,
        }
        document |= self._domain
        captions = facts is not None and facts.task == CAPTIONING
        if captions:
            document["decoding"] = {name: getattr(run, name) for name in ("beam", "longest", "length_penalty")}
        if threat is None:  # nothing is attacked: how does not matter
            document |= {"final_iterate": False, "query_budget": None, "precision": PRECISION}
            document.pop("domain", None)
        family = key_of({**document, "norm": threat.norm if threat else None})
        document |= {"threat": asdict(threat) if threat else None, "before": before.key if before else None}
        key = key_of(document)
        metrics = {
            name: key_of({**_document("measure", metric), "inputs": {"cell": key}})
            for name, metric in self.request.metrics.items()
        }
        fault = hardened.fault or attack.fault or (surrogate.fault if surrogate else "")
        return CellStep(
            key,
            document,
            subject,
            hardened,
            attack,
            threat,
            seed,
            n,
            passes=n * (self._steps(attack) + 0.7),
            metrics=metrics,
            family=family,
            before=before,
            surrogate=surrogate,
            fault=fault,
            skip="" if fault else _unsuited(attack, threat, hardened, surrogate),
        )

    def _surrogate(self, name: str, attacked: ModelConfig, seed: int) -> FitStep:
        """The model that images are made on: on the data of the one attacked, where the matrix gives that."""
        moved = on_dataset(name, attacked.dataset)
        return self.fit(moved if moved in self.request.models else name, seed)

    def _steps(self, attack: AttackConfig) -> float:
        """Forward-and-backward passes a sample is expected to cost, as far as the components' fields tell."""
        if attack.fault:
            return 0.0
        steps = sum(_steps(part) for part in attack.parts)
        leaves = not (self.request.run.final_iterate or attack.minimum_norm or attack.surrogate)
        steps *= RETIRING if leaves and steps > 1 else 1.0
        return min(steps, float(self.request.run.query_budget or steps))


def _unsuited(attack: AttackConfig, threat: Threat | None, hardened: HardenStep, surrogate: FitStep | None) -> str:
    """Why an attack does not apply here, if it does not."""
    facts = hardened.fit.data.facts
    for part in (*attack.parts, hardened.defense):
        able = getattr(part.component, "tasks", (CLASSIFICATION,))
        if facts and facts.task not in able:
            made = f"{part.kind.removesuffix('s')} {part.name} is made for {' and '.join(able)}"
            return f"{made}; {hardened.fit.data.config.name} asks for {facts.task}"
    if facts and facts.task == CAPTIONING and (surrogate or attack.members):
        what = "a surrogate" if surrogate else "several attacks"
        return f"attack {attack.name} needs {what}; captions are attacked by one attack on the captioner itself"
    if threat and attack.access == "gradient" and not getattr(hardened.model.component, "likelihood", True):
        return f"attack {attack.name} raises a loss; {hardened.model.name} repeats captions, which have none"
    for part in attack.parts:
        if part.aim and not (facts and facts.task == CAPTIONING):
            return f"attack {part.name} aims at a {part.aim}; {hardened.fit.data.config.name} asks for classes"
        if part.aim and attack.access != "gradient":
            return f"attack {part.name} aims at a {part.aim}, but follows no gradient that leads there"
    if threat and threat.norm not in attack.norms:
        return f"attack {attack.name} does not support {threat.norm}; it supports {', '.join(attack.norms) or 'none'}"
    if surrogate and surrogate.data.key != hardened.fit.data.key:
        own, other = hardened.fit.data.config.name, surrogate.data.config.name
        return f"surrogate {attack.surrogate} is trained on {other}, the model attacked on {own}"
    return ""


def _document(kind: str, config: Configured) -> dict[str, Any]:
    return {
        "kind": kind,
        "step_version": VERSIONS[kind],
        "component": config.component_name,
        "distribution": f"{config.distribution} {config.version}",
        "parameters": deciding(config),
        "precision": PRECISION,
        "torch": _torch_version(),
        **({"library": config.component.library} if hasattr(type(config.component), "library") else {}),
    }


def _attack_document(part: AttackConfig) -> dict[str, Any]:
    return {**_document("attack", part), "eot": part.eot, **({"aim": part.aim} if part.aim else {})}


def deciding(config: Configured) -> dict[str, Any]:
    """The parameters of a component that decide numbers."""
    return keys.deciding(fields(config.component) if config.component is not None else (), config.parameters)


@functools.cache
def _torch_version() -> str:
    """Major and minor. Asking costs a parsed metadata file, and every step and score asks."""
    return ".".join(version("torch").split(".")[:2])


def data_step(config: Configured, roots: Sequence[Path], *, download: bool) -> DataStep:
    """The step of one data set. Raises BenchError where it lies in none of the folders and is not (to be) downloaded.

    Looking for it costs a listing of its folder, its digest the reading of what was never hashed before.
    """
    document = {k: v for k, v in _document("data", config).items() if k not in ("torch", "precision")}
    if config.fault:
        return DataStep(key_of(document), document, config, fault=config.fault)
    try:
        return _located(config, document, roots, download=download)
    except BrokenPlugin as error:
        return DataStep(key_of(document), document, config, fault=str(error))


def _located(config: Configured, document: dict[str, Any], roots: Sequence[Path], *, download: bool) -> DataStep:
    hooks = boundary.bind("datasets", config.component)
    files = hooks.locate(roots=roots)
    if files is None and download:
        hooks.download(root=roots[-1])
        files = hooks.locate(roots=roots)
    if files is None:
        raise BenchError(
            f"dataset {config.name}: not found in {', '.join(map(str, roots))}; get it from "
            f"{hooks.facts(roots=roots).source} and name the folder that holds it with --data PATH or BENCH_DATA "
            "(bench run tries the download)"
        )
    document["digest"] = locating.digest(files)
    facts = hooks.facts(roots=roots)
    if facts.task == CAPTIONING:
        document["text"] = VERSIONS["text"]
    return DataStep(key_of(document), document, config, tuple(files), facts)


def _sources(model: ModelConfig) -> tuple[list[Path], str]:
    """Files that decide the weights, and the fault of a broken plugin. Raises BenchError for a missing file."""
    if model.fault:
        return [], model.fault
    hooks = boundary.bind("models", model.component)
    try:
        found = list(hooks.sources()) if hooks.offers("sources") else []
    except BrokenPlugin as error:
        return [], str(error)
    if weights := getattr(model.component, "weights", ""):
        path = Path(weights)
        if not path.is_file():
            raise BenchError(f"models.{model.name}.weights: {weights}: no such file; give that of a file of weights")
        found.append(path)
    return found, ""


def _check_task(model: ModelConfig, data: DataStep) -> None:
    """Raises BenchError for a captioner on classes, and for a classifier on captions."""
    task = getattr(model.component, "task", CLASSIFICATION)
    if not model.fault and data.facts and data.facts.task != task:
        raise BenchError(
            f"models.{model.name}: a model for {task}; its dataset {model.dataset} is one for {data.facts.task}; name "
            f"another dataset by --set models.{model.name}.dataset=NAME"
        )


def _check_budget(request: Request) -> None:
    run = request.run
    needs = [a.name for a in request.attacks.values() if a.fault or set(a.norms) - {SEVERITY}]
    for attack in request.attacks.values():
        for part in attack.parts:
            if run.query_budget is not None and part.eot > run.query_budget:
                raise BenchError(
                    f"attack {part.name}: eot = {part.eot} looks at each point, --query-budget {run.query_budget} "
                    "allows fewer; raise the budget or lower eot"
                )
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


def _steps(attack: AttackConfig) -> float:
    if not attack.component.norms:
        return 0.0
    steps = float(getattr(attack.component, "steps", 1) * getattr(attack.component, "restarts", 1)) * attack.eot
    return steps if attack.access == "gradient" else steps / 2
