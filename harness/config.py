"""registry.toml and the command line -> a request: frozen, typed, with every unknown key refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Literal, get_args

from harness import boundary, registry
from harness.coercion import coerce, fill, signature
from harness.errors import BenchError, unknown
from harness.layers import REST, Table, check, entry, inline, merge, profiled, read, toml_value, with_settings
from harness.recipe import Recipe
from harness.request import AttackConfig, Configured, DefenseConfig, Matrix, ModelConfig, Options, Request, on_dataset
from harness.settings import RunSettings, run_settings
from harness.types import AIMS, SEVERITY


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
        component_class = boundary.load(kind, component_name)
        component_fields = signature(component_class)
        clash = set(component_fields) & set(HARNESS_KEYS.get(kind, ()))
        if clash:
            raise BenchError(f"plugin {component_name!r} ({kind}): the harness owns the name {clash.pop()!r}")
    except BenchError as error:
        return maker(*common, None, dict(table), fault=str(error), **extra)
    _name_first_field(kind, name, table, component_fields)
    component = fill(component_class, table, where, also=HARNESS_KEYS.get(kind, ()))
    try:
        boundary.bind(kind, component)
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
        handed = isinstance(tables.get("attacks", {}).get(member), AttackConfig)  # by code, and no ensemble
        if not handed and "members" in entry(tables, "attacks", member):
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


HARNESS_KEYS = {
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
    if "weights" not in signature(boundary.load("models", component)):
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
    chosen = {f.name: getattr(options, f.name) or getattr(matrix, f.name) for f in fields(Matrix)}
    matrix = Matrix(**{kind: tuple(dict.fromkeys(names)) for kind, names in chosen.items()})
    for kind in ("models", "datasets", "attacks", "defenses", "metrics"):
        if not getattr(matrix, kind) and kind not in ("metrics", "datasets"):
            raise BenchError(f"matrices.{name}: no {kind}; set them in the registry or by --{kind} A,B")
        for wanted in getattr(matrix, kind):
            if kind == "attacks":
                wanted = wanted.partition("@")[0]
            check(tables, kind, wanted, f"--{kind}")
    return matrix
