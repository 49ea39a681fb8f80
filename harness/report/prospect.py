"""What ``bench run`` says before and after: the first line, the graph of a dry run, the summary."""

from __future__ import annotations

import json
from typing import Any

from harness.devices import cores
from harness.estimate import needed
from harness.progress import spell
from harness.report.columns import columns
from harness.run import Prospect, Summary
from harness.steps import CellStep, FitStep, TrainingStep
from harness.types import Status


def first_line(found: Prospect) -> str:
    """Profile, data, device, cells to do and about how long."""
    by_source: dict[str, list[str]] = {}
    for step in found.plan.data:
        by_source.setdefault(step.facts.source if step.facts else "broken", []).append(step.config.name)
    data = ", ".join(f"{' + '.join(names)} ({source})" for source, names in by_source.items())
    threads = found.plan.request.run.threads or cores()
    device = f"cpu, {threads} of {cores()} cores" if found.device == "cpu" else found.device
    count = len(found.plan.cells)
    cells = f"{count} cell{'s' * (count != 1)}"
    todo = f"{cells}, {len(found.todo)} to do" if found.todo else f"{cells}, all finished before"
    parts = [f"profile {found.plan.request.profile}", f"data {data}", f"device {device}", todo]
    if found.todo:
        parts.append(f"about {spell(found.seconds)}")
    return "bench run: " + " | ".join(parts)


def graph(found: Prospect) -> str:
    """Every step and cell with its key, cached or to do, and the seconds expected."""
    fits, hardenings, _ = needed(found.todo, found.finished)
    steps: list[TrainingStep] = [*fits, *hardenings]
    todo = {step.key for step in steps} | {cell.key for cell in found.todo}
    lines = [("step", "key", "state", "expected")]
    lines += [(f"load {step.config.name}", step.key[:12], "ready", "") for step in found.plan.data]
    trained: list[TrainingStep] = [*found.plan.fits, *found.plan.hardenings]
    lines += [_line(found, f"{s.label}, {_training(s)}", s, todo, s.key in found.finished) for s in trained]
    lines += [_line(found, c.label, c, todo, _done(found, c)) for c in found.plan.cells]
    return columns(lines)


def as_json(found: Prospect) -> str:
    """The dry run as one JSON object on one line: its cells with key, state and seconds expected."""
    fits, hardenings, _ = needed(found.todo, found.finished)
    steps: list[TrainingStep] = [*fits, *hardenings]
    shown = [{"step": s.label, "kind": s.kind, "key": s.key, "seconds": found.estimate.step(s)} for s in steps]
    todo = {cell.key for cell in found.todo}
    cells = [{**_coordinates(c, found), "key": c.key, "cached": c.key not in todo} for c in found.plan.cells]
    return json.dumps(
        {
            "profile": found.plan.request.profile,
            "device": found.device,
            "seconds": found.seconds,
            "steps": shown,
            "cells": cells,
        }
    )


def summary(ended: Summary) -> str:
    """How a run ended, in a line, and what to do next."""
    counts = ", ".join(f"{count} {status}" for status, count in sorted(ended.counts.items()))
    scores = f", {ended.unmeasured} score{'s' * (ended.unmeasured > 1)} failed" if ended.unmeasured else ""
    text = f"run {ended.run_id}: {counts} ({ended.cached} cached){scores} in {spell(ended.seconds)}"
    if ended.interrupted:
        return f"{text}; interrupted: the same command goes on from here"
    return f"{text}; see: bench table"


def summary_json(ended: Summary, store: str) -> str:
    """How a run ended, as one JSON object on one line; its cells as in ``bench table --format json``."""
    from harness.report.table import flat
    from harness.store.queries import leaderboard
    from harness.store.reading import open_reader

    with open_reader(store) as reader:
        rows = list(flat(leaderboard(reader, run=ended.run_id)))
    counts = {str(status): ended.counts.get(status, 0) for status in Status}
    return json.dumps(
        {
            "run": ended.run_id,
            "counts": counts,
            "cached": ended.cached,
            "unmeasured": ended.unmeasured,
            "seconds": round(ended.seconds, 3),
            "cells": rows,
        }
    )


def _line(found: Prospect, name: str, step: Any, todo: set[str], finished: bool) -> tuple[str, str, str, str]:
    state = "to do" if step.key in todo else "cached" if finished else "not needed"
    expected = found.estimate.step(step) if step.key in todo else None
    return name, step.key[:12], state, spell(expected) if step.key in todo else ""


def _training(step: TrainingStep) -> str:
    """That a model is trained is told before it is, for weights of one's own would be lost by it."""
    epochs = (step.model.recipe if isinstance(step, FitStep) else step.recipe).epochs
    return f"{epochs} epoch{'s' * (epochs != 1)}" if epochs else "as it is loaded"


def _done(found: Prospect, cell: CellStep) -> bool:
    return cell.key not in {c.key for c in found.todo}


def _coordinates(cell: CellStep, found: Prospect) -> dict[str, Any]:
    return {
        "dataset": cell.hardened.fit.data.config.name,
        "model": cell.hardened.fit.model.name,
        "defense": cell.hardened.defense.name,
        "attack": cell.attack.name,
        "norm": cell.threat.norm if cell.threat else None,
        "eps": cell.threat.eps if cell.threat else None,
        "seed": cell.seed,
        "seconds": found.estimate.step(cell),
    }
