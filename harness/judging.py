"""The judge: clips to budget and box, predicts again, and keeps what happened to each sample."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from harness import registry
from harness.attacking import ModelProblem, check_proposal, propose, seed_global, undisturbed
from harness.data import Samples
from harness.errors import BenchError
from harness.randomness import SampleRandom
from harness.tasks import classification as task
from harness.types import Batch, Outcome, Reason, Threat, norm_of


class Trial(NamedTuple):
    """One attack component against one model on one set of samples."""

    module: nn.Module
    attack: Any
    name: str
    threat: Threat | None
    seed: int
    batch_size: int


def judge(trial: Trial, samples: Samples, progress: Callable[[int, float], None] = lambda done, rate: None) -> Outcome:
    """Attacks and judges every sample, batch by batch; memory grows with the batch only.

    ``progress`` is told how many samples are done and the accuracy so far. Raises BenchError where the attack's
    proposal or the model's logits cannot be judged (wrong shape, dtype, NaN).
    """
    began = time.perf_counter()
    hooks = registry.bind("attacks", trial.attack)
    parts: list[dict[str, np.ndarray[Any, Any]]] = []
    notes: dict[str, Reason] = {}
    done = right = 0
    for batch in samples.batches(trial.batch_size):
        part, found = _judge_batch(trial, hooks, batch)
        parts.append(part)
        notes |= {note.code: note for note in found}
        done += len(batch.y)
        right += int((part["prediction"] == part["label"]).sum())
        progress(done, right / done)
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    low, high = columns.pop("low"), columns.pop("high")
    return Outcome(
        **columns,
        proposal_low=float(low.min()),
        proposal_high=float(high.max()),
        seconds=time.perf_counter() - began,
        notes=list(notes.values()),
    )


def _judge_batch(trial: Trial, hooks: Any, batch: Batch) -> tuple[dict[str, Any], list[Reason]]:
    with undisturbed(trial.module, weights=True) as notes:
        problem = ModelProblem(trial.module)
        seed_global(trial.seed, batch.ids)
        given = Batch(*(tensor.clone() for tensor in batch))  # an attack may write into what it was given
        x_adv = propose(problem, hooks, trial.attack, given, trial.threat, SampleRandom(trial.seed, batch.ids))
        x_adv = check_proposal(x_adv, batch.x, trial.name)
    cost = problem.module
    delta = x_adv - batch.x
    norm = trial.threat.norm if trial.threat else "Linf"
    clipped = trial.threat.project(x_adv, batch.x) if trial.threat else batch.x
    with undisturbed(trial.module):
        prediction = predict(trial.module, clipped)
        clean = prediction if trial.threat is None else predict(trial.module, batch.x)
    kept = clipped - batch.x
    return {
        "ids": _array(batch.ids),
        "label": _array(batch.y),
        "clean_prediction": _array(clean),
        "prediction": _array(prediction),
        "linf": _array(norm_of(kept, "Linf").double()),
        "l2": _array(norm_of(kept, "L2").double()),
        "forwards": np.full(len(batch.y), cost.forwards / len(batch.y)),
        "backwards": np.full(len(batch.y), cost.backwards / len(batch.y)),
        "proposal_size": _array(norm_of(delta, norm).double()),
        "low": _array(x_adv.flatten(1).amin(1).double()),
        "high": _array(x_adv.flatten(1).amax(1).double()),
    }, notes


def predict(module: nn.Module, x: Tensor) -> Tensor:
    """Classes (N,) of images (N, C, H, W). Raises BenchError for logits that are not numbers."""
    with torch.no_grad():
        logits = module(x)
    if logits.ndim != 2 or len(logits) != len(x):
        raise BenchError(f"model: gives logits of shape {tuple(logits.shape)}; ({len(x)}, classes) is needed")
    bad = int((~logits.isfinite()).any(1).sum())
    if bad:
        raise BenchError(f"nan: model: logits of {bad} of {len(x)} images are NaN or Inf")
    return task.predict(logits)


def _array(tensor: Tensor) -> Any:
    return tensor.cpu().numpy()
