"""What goes into the store and comes out of it, as plain values. Imports nothing heavy."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from harness.types import Status


def now() -> str:
    """The time as ISO 8601 text in UTC; of fixed width, so that text order is time order."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class RunStatus(StrEnum):
    """What became of a run."""

    RUNNING = "running"
    OK = "ok"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class RunRecord:
    """One invocation of ``bench run``: what was asked, with which software, on which machine.

    ``pid`` and ``host`` tell later whether a run that never finished is still alive.
    """

    id: str
    command: str
    profile: str
    device: str
    git_revision: str = ""
    versions: Mapping[str, Any] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)
    seeds: Sequence[int] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    started: str = field(default_factory=now)
    pid: int = field(default_factory=os.getpid)
    host: str = field(default_factory=socket.gethostname)


class CellLabel(NamedTuple):
    """The names under which a run shows a cell. Two labels may point to one content key.

    ``norm`` and ``eps`` (pixel units) are None for an attack that perturbs nothing.
    """

    position: int
    cell_key: str
    profile: str
    dataset: str
    model: str
    defense: str
    attack: str
    norm: str | None
    eps: float | None
    seed: int


class CellState(NamedTuple):
    """What the store already has of a cell: its status, its scores' content keys by the metric's name.

    ``verified`` says that its facts tell so.
    """

    status: Status
    metrics: Mapping[str, str]
    verified: bool = False


@dataclass(frozen=True)
class CellRecord:
    """One attacked cell, under its content key.

    ``subject`` is shared by the cells that attack the same weights on the same samples, ``family`` by those among them
    that differ in eps alone; ``attack`` is the component's name and ``stronger_than`` the components it must beat.
    ``access`` is what the attack may see of the model: "gradient", "scores", or "" where nothing is attacked. ``n``
    samples were judged (0 where there are no numbers), ``passes`` forward and backward passes were spent in
    ``seconds``. ``document`` is what the key was made from. ``reason`` says why a cell is not ok.
    """

    key: str
    run_id: str
    status: Status
    device: str
    subject: str
    attack: str
    norm: str | None = None
    eps: float | None = None
    stronger_than: Sequence[str] = ()
    n: int = 0
    seconds: float = 0.0
    passes: float = 0.0
    reason: str | None = None
    document: Mapping[str, Any] = field(default_factory=dict)
    created: str = field(default_factory=now)
    family: str = ""
    access: str = ""


class ScoreRecord(NamedTuple):
    """One metric of one cell: value with its 95 % interval (None where there is none); ``unit`` as the metric says.

    A value of None says that the metric does not apply to this cell, or with a ``reason`` that it failed.

    ``metric_key`` is the content key of the metric, so that a changed metric is measured again.
    """

    metric: str
    metric_key: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    unit: str
    reason: str = ""


@dataclass(frozen=True)
class StepRecord:
    """One fit or hardening with its training telemetry; ``seconds`` and ``passes`` feed the time estimates."""

    key: str
    kind: str
    label: str
    status: Status
    run_id: str
    device: str
    seconds: float = 0.0
    passes: float = 0.0
    reason: str | None = None
    document: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    created: str = field(default_factory=now)


class Sibling(NamedTuple):
    """A cell as its siblings see it: same weights, same samples, another attack or budget. ``accuracy`` in [0, 1].

    ``access`` and ``family`` as in ``CellRecord``.
    """

    key: str
    attack: str
    norm: str | None
    eps: float | None
    accuracy: float
    n: int
    stronger_than: tuple[str, ...]
    access: str = ""
    family: str = ""
