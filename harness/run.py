"""The program's table of contents: request, plan, what is missing, run it, store it, sum up."""

from __future__ import annotations

import contextlib
import platform
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness import config, devices, locating, plan, provenance
from harness.artifacts import Artifacts
from harness.estimate import Estimate, needed
from harness.layers import Table
from harness.progress import Reporter
from harness.request import Options
from harness.steps import CellStep, Plan, TrainingStep
from harness.store.queries import cell_states, rates
from harness.store.reading import open_if_any
from harness.store.records import CellLabel, CellState, RunRecord, RunStatus
from harness.types import Status

if TYPE_CHECKING:
    from harness.store.store import Store


@dataclass(frozen=True)
class Places:
    """Where things lie: data folders to search first, the store (path or URL), the folder of artifacts."""

    data: Sequence[str] = ()
    store: str = "results.db"
    artifacts: str = "artifacts"


@dataclass(frozen=True)
class Prospect:
    """A plan held against what is finished: cells to do, the device, about how long it will take."""

    plan: Plan
    states: Mapping[str, CellState]
    todo: tuple[CellStep, ...]
    finished: frozenset[str]
    device: str
    estimate: Estimate
    seconds: float | None


@dataclass(frozen=True)
class Summary:
    """How a run ended: cells by status, how many of them were there already, seconds of wall time.

    unmeasured: scores of finished cells whose metric failed.
    """

    run_id: str
    counts: Mapping[Status, int]
    cached: int
    seconds: float
    interrupted: bool = False
    unmeasured: int = 0

    @property
    def exit_code(self) -> int:
        if self.interrupted:
            return 130
        return 1 if self.counts.get(Status.FAILED) or self.unmeasured else 0


def prospect(
    options: Options, places: Places, *, fresh: bool = False, dry: bool = False, given: Table | None = None
) -> Prospect:
    """What a command line would do. Changes nothing on disk but downloads (unless ``dry``). Imports no torch.

    given: what code hands over beside it, see ``config.resolve``.
    """
    request = config.resolve(options, given)
    device = devices.resolve(request.run.device)
    made = plan.build(request, locating.roots(places.data), download=not dry)
    states, measured = _known(places.store, made)
    finished = frozenset() if fresh else _finished_steps(made, Path(places.artifacts))
    verify = request.run.verify
    todo = tuple(cell for cell in _unique(made.cells) if fresh or not _complete(cell, states.get(cell.key), verify))
    estimate = Estimate(measured, request.profile, device.partition(":")[0])
    seconds = _expected(todo, states, finished, estimate, fresh)
    return Prospect(made, states, todo, finished, device, estimate, seconds)


def execute(found: Prospect, places: Places, command: str, reporter: Reporter, *, fresh: bool = False) -> Summary:
    """Runs what a prospect says is to do and stores it. The same command later goes on where this one stopped."""
    from harness.store.store import open_store

    began = time.monotonic()
    if found.todo:
        found = _rehearsed(found)  # first, so that what is refused leaves nothing behind
    artifacts = Artifacts(Path(places.artifacts))
    with open_store(places.store) as store:
        store.reap()
        record = _run_record(found, command)
        store.begin_run(record)
        store.label_cells(record.id, _labels(found.plan))
        ended, interrupted, unmeasured = _run_cells(found, store, artifacts, record.id, reporter, fresh=fresh)
        counts = Counter(ended.get(cell.key) or found.states[cell.key].status for cell in found.plan.cells)
        failed = counts[Status.FAILED] or unmeasured
        status = RunStatus.INTERRUPTED if interrupted else RunStatus.FAILED if failed else RunStatus.OK
        store.finish_run(record.id, status)
    cached = sum(cell.key not in ended for cell in found.plan.cells)
    return Summary(record.id, counts, cached, time.monotonic() - began, interrupted, unmeasured)


def _rehearsed(found: Prospect) -> Prospect:
    """With the faults of plugins that do not give what they are to give. Raises BenchError for weights that misfit."""
    from harness import rehearsal

    request = found.plan.request
    metrics = rehearsal.rehearsed_metrics(request.metrics)
    made = replace(found.plan, request=replace(request, metrics=metrics))
    return replace(found, plan=made, todo=rehearsal.rehearsed(found.todo, found.finished))


def _run_cells(
    found: Prospect, store: Store, artifacts: Artifacts, run_id: str, reporter: Reporter, *, fresh: bool
) -> tuple[dict[str, Status], bool, int]:
    """What became of the cells that were to do, whether it was interrupted, and how many scores failed."""
    if not found.todo:
        return {}, False, 0
    import torch

    from harness.executors.local import Local

    request, ended = found.plan.request, dict[str, Status]()
    torch.set_num_threads(request.run.threads or devices.cores())
    device = torch.device(found.device)
    executor = Local(
        run_id,
        store,
        artifacts,
        reporter,
        found.estimate,
        device,
        request.run,
        request.metrics,
        request.probe,
        fresh,
    )
    reporter.begin(found.seconds)
    try:
        with _terminated_as_interrupted():
            for cell in found.todo:
                ended[cell.key] = executor.run(cell, found.states.get(cell.key))
    except KeyboardInterrupt:
        left = [cell for cell in found.todo if cell.key not in ended]
        unfinished = [cell for cell in left if not _is_ok(found.states.get(cell.key))]
        executor.interrupt(unfinished)
        return ended | {cell.key: Status.INTERRUPTED for cell in unfinished}, True, executor.unmeasured
    finally:
        reporter.close()
    return ended, False, executor.unmeasured


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """A polite kill ends a run as Ctrl-C does: what is finished is stored, the rest is marked.

    Signals reach the main thread alone; a run in another one is left to whoever started it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _known(store: str, made: Plan) -> tuple[dict[str, CellState], Mapping[tuple[str, str, str], float]]:
    """What the store has of the plan's cells, and measured rates; nothing where there is no store yet."""
    reader = open_if_any(store)
    if reader is None:
        return {}, {}
    with reader:
        return cell_states(reader, [cell.key for cell in made.cells]), rates(reader)


def _finished_steps(made: Plan, root: Path) -> frozenset[str]:
    steps: list[TrainingStep] = [*made.fits, *made.hardenings]
    return frozenset(step.key for step in steps if (root / step.kind / step.key / "step.json").exists())


def _complete(cell: CellStep, state: CellState | None, verify: bool) -> bool:
    if cell.skip:
        return state is not None and state.status is Status.SKIPPED
    if state is not None and verify and not state.verified:
        return False
    return state is not None and state.status is Status.OK and state.metrics.items() >= cell.metrics.items()


def _is_ok(state: CellState | None) -> bool:
    return state is not None and state.status is Status.OK


def _unique(cells: Sequence[CellStep]) -> list[CellStep]:
    return list({cell.key: cell for cell in cells}.values())


def _expected(
    todo: Sequence[CellStep], states: Mapping[str, CellState], finished: frozenset[str], estimate: Estimate, fresh: bool
) -> float | None:
    attacked = [cell for cell in todo if fresh or not _is_ok(states.get(cell.key))]
    fits, hardenings, cells = needed(attacked, finished)
    return estimate.total([*fits, *hardenings, *cells])


def _labels(made: Plan) -> list[CellLabel]:
    return [
        CellLabel(
            position,
            cell.key,
            made.request.profile,
            cell.hardened.fit.data.config.name,
            cell.hardened.fit.model.name,
            cell.hardened.defense.name,
            cell.attack.name,
            cell.threat.norm if cell.threat else None,
            cell.threat.eps if cell.threat else None,
            cell.seed,
        )
        for position, cell in enumerate(made.cells)
    ]


def _run_record(found: Prospect, command: str) -> RunRecord:
    request = found.plan.request
    hardware = {**provenance.hardware(), "device": found.device, "machine": platform.machine()}
    if found.todo and found.device.startswith("cuda"):
        import torch

        hardware["accelerator"] = torch.cuda.get_device_name(torch.device(found.device))
    return RunRecord(
        id=uuid.uuid4().hex[:12],
        command=command,
        profile=request.profile,
        device=found.device,
        git_revision=provenance.git_revision(),
        versions=provenance.versions(),
        hardware=hardware,
        seeds=request.run.seeds,
        settings={"run": asdict(request.run), "matrix": asdict(request.matrix)},
    )
