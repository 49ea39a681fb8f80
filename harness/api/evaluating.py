"""``harness.evaluate``: a matrix of models, attacks and defenses on objects at hand, as ``bench run`` runs it."""

from __future__ import annotations

import contextlib
import re
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import layers
from harness import run as flow
from harness.api import checking, given, samples
from harness.api.results import Drawing, Results, read
from harness.errors import BenchError
from harness.layers import PLAIN, Table
from harness.progress import Lines, Live, Reporter
from harness.request import Options

if TYPE_CHECKING:
    from torch import nn

DATA = "data"
"""The name of a data set that is handed over as arrays."""
MODEL = "model"
"""The name of a module that is handed over without one."""
MATRIX = "python"
_ALONE = threading.RLock()
"""Held while a matrix runs: threads, random generators and the display of a process are the same for all of it."""
OPTIONS = {"data": "folders", "set": "settings", "severity": "severities"}
"""Options of the command line that are called otherwise here."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C came; ``results`` has the cells that were finished, and with a store the same call goes on from there."""

    def __init__(self, results: Results) -> None:
        super().__init__("interrupted; .results of this exception has what was finished")
        self.results = results


def evaluate(
    model: Any,
    data: Any = None,
    attacks: Any = None,
    defenses: Any = ("none",),
    *,
    eps: float | str | Sequence[float | str] | None = None,
    norm: str | None = None,
    metrics: Sequence[Any] | None = None,
    limit: int | None = None,
    seed: int | Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: Sequence[str] | int | None = None,
    dataset: str = DATA,
    device: Any = None,
    batch_size: int | None = None,
    query_budget: int | None = None,
    final_iterate: bool = False,
    severities: float | Sequence[float] | None = None,
    verify: bool = False,
    profile: str | None = None,
    registry: str | None = None,
    settings: Sequence[str] = (),
    folders: Sequence[str | Path] = (),
    store: str | Path | None = None,
    artifacts: str | Path | None = None,
    fresh: bool = False,
    progress: bool = True,
) -> Results:
    """Attacks models, defended and not, and judges every sample: the numbers of ``bench run``.

    model: a torch module from pixels (N, C, H, W) in [0, 1] to logits (N, K), a name as on the command line, a pair
    (name, parameters), or several: a list of names, a mapping from names to any of these. A module is copied and stays
    as it is. mean, std: of each channel, where the module wants normalised images.

    data: (x, y) or (x, y, ids), a Dataset or a DataLoader: the samples attacked; a pair (train, test) of these, where
    something is trained; a mapping with the keys train, validation and test; a data set's name; None for the data set
    that a named model has. Images are uint8 or floats in [0, 1]. ``dataset`` is what the table calls it, ``classes``
    names its classes, or says how many there are.

    attacks, defenses, metrics: names, pairs (name, parameters), components, or a mapping from names to these; attacks
    and metrics None: those of the registry's matrix.

    eps: budgets in pixel units, 8/255 unless the profile says otherwise. limit: attacks a fixed random part of the
    samples. device: of the module where it is None. profile: None takes "tiny" where all models are names, as the
    command line does, else none. store, artifacts: where results and weights are kept, so that nothing is done
    twice; None: nowhere. Other arguments are the options of ``bench run``; folders are those searched for data.

    Raises BenchError, one line, for what cannot be run, and Interrupted, a KeyboardInterrupt, where Ctrl-C ends it. A
    cell that fails is no error: it has a status, and reasons.
    """
    with _ALONE, own_words(), _surroundings_kept():
        profile = profile or ("tiny" if not any(_is_module(item) for _, item in _models(model)) else PLAIN)
        known = layers.with_settings(layers.profiled(layers.read(registry), profile), settings)
        tables: Table = {"models": {}, "run": {"batch_size": batch_size} if batch_size is not None else {}}
        if profile == PLAIN:
            tables["run"]["threads"] = _threads()
        gathered = None if data is None or isinstance(data, str) else samples.gathered(data, limit)
        label = data if isinstance(data, str) else None if gathered is None else dataset
        models = [(name, _normalising(item, mean, std)) for name, item in _models(model)]
        matrix = {**_matrix_of(known), "models": [_ask(name, item, label, known, tables) for name, item in models]}
        for kind, items in (("attacks", attacks), ("defenses", defenses), ("metrics", metrics)):
            if items is not None:
                matrix[kind] = given.names(kind, items, tables)
        tables["matrices"] = {MATRIX: matrix}
        modules = {name or MODEL: item for name, item in models if _is_module(item)}
        if gathered is not None:
            tables["datasets"] = {dataset: given.data(dataset, gathered, checking.classes(classes, gathered, modules))}
        options = Options(
            profile=profile,
            matrix=MATRIX,
            eps=_listed(eps),
            norm=norm,
            seeds=_listed(seed),
            limit=_listed(limit),
            device=_device(device, modules),
            severity=_listed(severities),
            query_budget=_listed(query_budget),
            final_iterate=final_iterate,
            verify=verify,
            settings=tuple(settings),
            registry=registry,
        )
        scratch = None if store is not None and artifacts is not None else _scratch()
        places = _places(store, artifacts, folders, scratch)
        found = flow.prospect(options, places, fresh=fresh, given=tables)
        if gathered is not None and not gathered.trains:
            checking.check_untrained(found.plan, dataset)
        if gathered is None:
            checking.check_modules(found.plan, modules)
        summary = flow.execute(found, places, "harness.evaluate", _reporter(progress), fresh=fresh)
        again = Drawing(options, places, tables)
        results = read(places.store, run=summary.run_id, drawing=again, scratch=scratch)
    if summary.interrupted:
        raise Interrupted(results)
    return results


def _models(model: Any) -> list[tuple[str | None, Any]]:
    """Every model that is asked for, with its name where it is given one."""
    if isinstance(model, Mapping):
        return [(str(name), item) for name, item in model.items()]
    if isinstance(model, str):
        return [(None, name.strip()) for name in model.split(",") if name.strip()]
    several = isinstance(model, list) or (isinstance(model, tuple) and not given.is_pair(model))
    return [(None, item) for item in model] if several else [(None, model)]


def _is_module(item: Any) -> bool:
    from torch import nn

    return isinstance(item, nn.Module)


def _normalising(item: Any, mean: Sequence[float] | None, std: Sequence[float] | None) -> Any:
    """A module that is given normalised images; a name as it is."""
    if _is_module(item):
        return given.normalising(item, mean, std)
    if (mean is not None or std is not None) and (isinstance(item, str) or given.is_pair(item)):
        raise BenchError(f"mean and std: are of a module of yours; the model {item!r} brings its own")
    return item


def _ask(label: str | None, item: Any, dataset: str | None, known: Table, tables: Table) -> str:
    """The name of a model in the request; what is asked of it is written into ``tables``."""
    if _is_module(item):
        label = label or MODEL
        if dataset is None:
            raise BenchError(f"data: none given; {label} needs some: {samples.FORMS}")
        if label in tables["models"]:
            raise BenchError(f"model: several are called {label!r}; give a mapping from names to modules")
        tables["models"][label] = given.model(label, item, dataset)
        return label
    if not isinstance(item, str) and not given.is_pair(item):
        raise BenchError(
            f"model: got {type(item).__name__}; a torch module, a name, a pair (name, parameters) or a mapping from "
            "names to these is needed"
        )
    layers.check(known, "models", item if isinstance(item, str) else item[0], "model")
    (name,) = given.names("models", [item] if label is None else {label: item}, tables)
    if dataset is not None:
        tables["models"][name] = {**tables["models"].get(name, {}), "dataset": dataset}
    return name


def _matrix_of(known: Table) -> dict[str, Any]:
    """What the matrix of the registry takes where nothing else is said."""
    found: dict[str, Any] = known.get("matrices", {}).get(known.get("run", {}).get("matrix", ""), {})
    return found


def _device(device: Any, modules: Mapping[str, nn.Module]) -> str | None:
    """The device that was named, else that of the first module."""
    if device is None:
        tensors = (tensor for module in modules.values() for tensor in (*module.parameters(), *module.buffers()))
        device = next((tensor.device for tensor in tensors), None)
    return None if device is None else str(device).replace("mps:0", "mps")


def _listed(value: Any) -> str | None:
    """What the command line would say: one value, or several separated by commas. Floats keep every digit."""
    if value is None or isinstance(value, str):
        return value
    return ",".join(map(str, value)) if isinstance(value, Iterable) else str(value)


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)


def _places(
    store: Any, artifacts: Any, folders: Sequence[Any], scratch: tempfile.TemporaryDirectory[str] | None
) -> flow.Places:
    """Where things lie; weights beside a store that is a file, as the command line has them."""
    if store is not None and artifacts is None:
        artifacts = Path("artifacts") if "://" in str(store) else Path(store).expanduser().parent / "artifacts"
    if scratch is not None:
        store = store if store is not None else Path(scratch.name, "results.db")
        artifacts = artifacts if artifacts is not None else Path(scratch.name, "artifacts")
    return flow.Places(tuple(map(str, folders)), str(store), str(artifacts))


def _reporter(progress: bool) -> Reporter:
    """Bars on a terminal and in a notebook, lines elsewhere; nothing where none is wanted."""
    if not progress:
        return Reporter()
    from rich.console import Console

    return Live() if sys.stderr.isatty() or Console(stderr=True).is_jupyter else Lines(sys.stderr)


@contextlib.contextmanager
def _surroundings_kept() -> Iterator[None]:
    """torch's threads, its modes of gradients and the global random generators are afterwards what they were."""
    import torch

    from harness.randomness import generators_kept

    threads = torch.get_num_threads()
    with generators_kept(), torch.inference_mode(False), torch.enable_grad():
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@contextlib.contextmanager
def own_words() -> Iterator[None]:
    """Errors that speak of options of the command line speak of arguments."""
    try:
        yield
    except BenchError as error:
        raise BenchError(in_code(str(error))) from error


def in_code(text: str) -> str:
    """``--query-budget 0`` -> ``query_budget 0``."""
    return re.sub(r"--([a-z][\w-]*)", lambda found: OPTIONS.get(found[1], found[1].replace("-", "_")), text)
