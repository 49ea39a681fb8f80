"""registry.toml and the command line -> a request: frozen, typed, with every unknown key refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from harness import registry
from harness.coercion import coerce, fill, signature
from harness.errors import BenchError, unknown
from harness.layers import REST, Table, check, entry, inline, merge, profiled, read, toml_value, with_settings
from harness.recipe import Recipe
from harness.settings import RunSettings, run_settings
from harness.types import AIMS, SEVERITY


@dataclass(frozen=True)
class Matrix:
    """The ``[matrices.NAME]`` tables: names whose cross product is run, and the metrics taken of each cell.

    datasets: those that every model is taken on, in the place of its own; empty: its own.
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
    aim: what it wants of captions, "caption" a certain one, "keyword" a certain word; empty for any other. members:
    tried in turn on what still stands.
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
    """A defense with the part of the training recipe that it changes."""

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


def resolve(options: Options, given: Table | None = None) -> Request:
    """The request that a command line makes. Raises BenchError for anything unknown, mistyped or out of range.

    given: tables over all others, from code; an entry may be a Configured, whose component is an object at hand.
    """
    tables = with_settings(profiled(read(options.registry), options.profile), options.settings)
    tables = merge(tables, given or {})
    run = run_settings(tables.get("run", {}), options)
    matrix = _matrix(tables, run.matrix, options)
    if options.weights is not None:
        tables = _with_weights(tables, matrix, options.weights, options.settings)
    return _components(tables, options.profile, run, _on_surrogates(tables, matrix, options))


def configure(tables: Table, kind: str, name: str) -> Configured:
    """One configuration, its component made. A broken plugin gives a Configured with a fault, not an error."""
    own = tables.get(kind, {}).get(name)
    if isinstance(own, Configured):
        return own
    table = entry(tables, kind, name)
    where = f"{kind}.{name}"
    if kind == "attacks" and "members" in table:
        return _ensemble(tables, name, table)
    component_name = table.pop("component")
    found = registry.find(kind, component_name)
    extra, maker = _harness_keys(kind, table, where)
    common = (kind, name, component_name, found.distribution, found.version)
    try:
        component_class = registry.load(kind, component_name)
        component_fields = signature(component_class)
        clash = set(component_fields) & set(_HARNESS_KEYS.get(kind, ()))
        if clash:
            raise BenchError(f"plugin {component_name!r} ({kind}): the harness owns the name {clash.pop()!r}")
    except BenchError as error:
        return maker(*common, None, dict(table), fault=str(error), **extra)
    _name_first_field(kind, name, table, component_fields)
    component = fill(component_class, table, where, also=_HARNESS_KEYS.get(kind, ()))
    try:
        registry.bind(kind, component)
    except BenchError as error:
        return maker(*common, None, dict(table), fault=str(error), **extra)
    if kind == "models" and getattr(component, "weights", None):
        extra["start"] = ""  # weights named by hand are what to begin with
    if inline(kind, name) and _brings_weights(component) and "epochs" not in extra["training"]:
        extra["recipe"] = replace(extra["recipe"], epochs=0)
    parameters = {f.name: getattr(component, f.name) for f in fields(component)}
    return maker(*common, component, parameters, **extra)


def _brings_weights(component: Any) -> bool:
    return bool(getattr(component, "weights", "") or getattr(component, "pretrained", False))


def _name_first_field(kind: str, name: str, table: Table, component_fields: Mapping[str, Any]) -> None:
    """Gives the first field of a component what stands after the colon of ``COMPONENT:REST``, in ``table``."""
    rest = table.pop(REST, None)
    if rest is None:
        return
    if not component_fields:
        raise BenchError(f"{kind}.{name}: this component has no parameters; leave out what stands after the colon")
    first, hint = next(iter(component_fields.items()))
    if first in table and inline(kind, name):
        raise BenchError(
            f"{kind}.{name}: its name says what {first} is, got {table[first]!r} as well; give one of them"
        )
    table.setdefault(first, rest if hint is str or str in get_args(hint) else toml_value(rest))


def attack(tables: Table, name: str) -> AttackConfig:
    """One attack; ``pgd@resnet_noisy`` is ``pgd`` with its images made on the model ``resnet_noisy``."""
    base, at, surrogate = name.partition("@")
    if at and not surrogate:
        raise BenchError(f"attack {name}: no surrogate after the @; name a model, for example {base}@MODEL")
    made = configure(tables, "attacks", base)
    assert isinstance(made, AttackConfig)
    return replace(made, name=name, surrogate=surrogate or made.surrogate)


def _ensemble(tables: Table, name: str, table: Table) -> AttackConfig:
    """An attack that consists of others: ``members = ["pgd", "square"]``."""
    where = f"attacks.{name}"
    own = {key: table.pop(key) for key in ("members", "eot", "surrogate") if key in table}
    table.pop("component")
    for key in table:
        raise unknown(f"{where}: key", key, ("like", "members", "eot", "surrogate"))
    names = coerce(own["members"], tuple[str, ...], f"{where}.members")
    if len(names) < 2:
        raise BenchError(f"{where}.members: got {list(names)}; two or more attacks are needed")
    for member in names:  # before they are made, for an ensemble may name itself
        if "members" in entry(tables, "attacks", member):
            raise BenchError(f"{where}.members: {member} is an ensemble itself; name its members")
    found = [configure(tables, "attacks", member) for member in names]
    members = tuple(member for member in found if isinstance(member, AttackConfig))
    for made in members:
        if made.surrogate:
            raise BenchError(f"{where}.members: {made.name} has a surrogate; give the ensemble one instead")
    if "eot" in own:
        eot = _eot(own["eot"], where)
        members = tuple(replace(member, eot=eot) for member in members)
    fault = next((member.fault for member in members if member.fault), "")
    surrogate = coerce(own.get("surrogate", ""), str, f"{where}.surrogate")
    return AttackConfig("attacks", name, name, "", "", None, {}, fault, surrogate=surrogate, members=members)


def _eot(value: Any, where: str) -> int:
    eot: int = coerce(value, int, f"{where}.eot")
    if eot < 1:
        raise BenchError(f"{where}.eot: got {eot}; 1 or more looks at each point are needed")
    return eot


_HARNESS_KEYS = {
    "attacks": ("component", "like", "eot", "surrogate", "aim", "members"),
    "models": ("component", "like", "dataset", "start", "training", "hardening", "pass_ms"),
    "defenses": ("component", "like", "training"),
}


def _harness_keys(kind: str, table: Table, where: str) -> tuple[Table, Any]:
    """Takes the keys that are the harness's own out of a table: (their values, the class to make)."""
    if kind == "models":
        training = table.pop("training", {})
        hardening = table.pop("hardening", {})
        recipe = fill(Recipe, training, f"{where}.training")
        fill(Recipe, hardening, f"{where}.hardening")
        return {
            "dataset": coerce(table.pop("dataset", ""), str, f"{where}.dataset"),
            "start": coerce(table.pop("start", ""), str, f"{where}.start"),
            "recipe": recipe,
            "training": training,
            "hardening": hardening,
            "pass_ms": coerce(table.pop("pass_ms", None), float | None, f"{where}.pass_ms"),
        }, ModelConfig
    if kind == "attacks":
        surrogate = coerce(table.pop("surrogate", ""), str, f"{where}.surrogate")
        aim = coerce(table.pop("aim", ""), Literal["", *AIMS], f"{where}.aim")
        return {"eot": _eot(table.pop("eot", 1), where), "surrogate": surrogate, "aim": aim}, AttackConfig
    if kind == "defenses":
        training = table.pop("training", {})
        fill(Recipe, training, f"{where}.training")
        return {"training": training}, DefenseConfig
    return {}, Configured


def _components(tables: Table, profile: str, run: RunSettings, matrix: Matrix) -> Request:
    attacks = {name: attack(tables, name) for name in matrix.attacks}
    models: dict[str, ModelConfig] = {}
    surrogates = [a.surrogate for a in attacks.values() if a.surrogate]
    for name in surrogates:
        check(tables, "models", name, "surrogate")
    waiting = [*matrix.models, *surrogates]
    while waiting:
        name = waiting.pop(0)
        if name not in models:
            model = configure(tables, "models", name)
            assert isinstance(model, ModelConfig)
            models[name] = model
            waiting += [model.start] if model.start else []
            if not model.dataset and (not matrix.datasets or name not in (*matrix.models, *surrogates)):
                raise BenchError(f"models.{name}: no dataset; name one by --datasets NAME, or set it in the registry")
    _check_starts(models)
    if matrix.datasets:
        models, matrix = _on_datasets(models, matrix, surrogates)
    made = {
        kind: {name: configure(tables, kind, name) for name in wanted}
        for kind, wanted in {
            "datasets": dict.fromkeys(model.dataset for model in models.values()),
            "defenses": matrix.defenses,
            "metrics": matrix.metrics,
        }.items()
    }
    probe = _probe(tables, run.probe) if run.verify and run.probe else None
    return Request(profile, run, matrix, models=models, attacks=attacks, probe=probe, **made)  # type: ignore[arg-type]


def _probe(tables: Table, name: str) -> AttackConfig:
    made = attack(tables, name)
    if made.members or made.surrogate:
        raise BenchError(f"run.probe: {name} is an ensemble or has a surrogate; a single attack is needed")
    return made


def _on_surrogates(tables: Table, matrix: Matrix, options: Options) -> Matrix:
    """The matrix with its attacks moved to the surrogates that the command line names; "clean" stays as it is."""
    if options.surrogate is not None and options.transfer:
        raise BenchError("--surrogate and --transfer: got both; --transfer takes every model for a surrogate already")
    surrogates = matrix.models if options.transfer else (options.surrogate,) if options.surrogate else ()
    if not surrogates:
        return matrix
    names: list[str] = []
    for name in matrix.attacks:
        made = attack(tables, name)
        moves = not made.surrogate and (made.fault or set(made.norms) - {SEVERITY})
        names += [f"{name}@{surrogate}" for surrogate in surrogates] if moves else [name]
    return replace(matrix, attacks=tuple(names))


def _on_datasets(
    models: Mapping[str, ModelConfig], matrix: Matrix, surrogates: Sequence[str]
) -> tuple[dict[str, ModelConfig], Matrix]:
    """Every model of the matrix, and every surrogate, on each data set; those that others start from stay as well."""
    made: dict[str, ModelConfig] = {}
    for name in dict.fromkeys((*matrix.models, *surrogates)):
        for dataset in matrix.datasets:
            made[on_dataset(name, dataset)] = replace(models[name], dataset=dataset, moved=True, pass_ms=None)
    waiting = [model.start for model in made.values() if model.start]
    while waiting:
        name = waiting.pop()
        made[name] = models[name]
        waiting += [models[name].start] if models[name].start else []
    names = tuple(on_dataset(name, dataset) for dataset in matrix.datasets for name in matrix.models)
    return made, replace(matrix, models=names)


def _with_weights(tables: Table, matrix: Matrix, weights: str, settings: Sequence[str]) -> Table:
    """The registry with a file of weights given to the one model of a matrix, which is not trained unless set so."""
    if len(matrix.models) != 1:
        raise BenchError(f"--weights: got {len(matrix.models)} models; name the one they are of by --models NAME")
    name = matrix.models[0]
    component = entry(tables, "models", name)["component"]
    if "weights" not in signature(registry.load("models", component)):
        raise BenchError(f"--weights {weights}: {component}, the component of {name}, takes no file of weights")
    given = {"models": {name: {"weights": weights, "training": {"epochs": 0}}}}
    return with_settings(merge(tables, given), settings)


def _check_starts(models: Mapping[str, ModelConfig]) -> None:
    for name in models:
        seen, at = [name], models[name].start
        while at:
            if at in seen:
                raise BenchError(f"models.{name}: start goes round in a circle: {' -> '.join([*seen, at])}")
            seen.append(at)
            at = models[at].start


def _matrix(tables: Table, name: str, options: Options) -> Matrix:
    matrices = tables.get("matrices", {})
    if name not in matrices:
        raise unknown("--matrix", name, matrices)
    matrix = fill(Matrix, matrices[name], f"matrices.{name}")
    chosen = {f.name: getattr(options, f.name, None) or getattr(matrix, f.name) for f in fields(Matrix)}
    matrix = Matrix(**{kind: tuple(dict.fromkeys(names)) for kind, names in chosen.items()})
    for kind in ("models", "datasets", "attacks", "defenses", "metrics"):
        if not getattr(matrix, kind) and kind not in ("metrics", "datasets"):
            raise BenchError(f"matrices.{name}: no {kind}; set them in the registry or by --{kind} A,B")
        for wanted in getattr(matrix, kind):
            if kind == "attacks":
                wanted = wanted.partition("@")[0]
            check(tables, kind, wanted, f"--{kind}" if kind != "metrics" else kind)
    return matrix
