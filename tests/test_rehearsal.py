"""What is tried before a run: wrong plugins are told before anything is trained, and cost nobody else anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import run as flow
from harness.errors import BenchError
from harness.progress import Reporter
from harness.report.layout import layout
from harness.report.prospect import first_line, graph
from harness.report.showing import as_text, gather
from harness.report.table import render
from harness.request import Options
from harness.store.queries import Row, leaderboard
from harness.store.reading import open_reader
from harness.store.store import open_store

STRANGER = """
    from dataclasses import dataclass
    from typing import ClassVar

    import torch

    from harness.hookspecs import hookimpl


    @dataclass(frozen=True)
    class Array:
        norms: ClassVar[tuple[str, ...]] = ("Linf",)

        @hookimpl
        def perturb(self, batch):
            return batch.x.numpy()


    @dataclass(frozen=True)
    class Picky(Array):
        # Right on the network it was made for, and on no other.
        @hookimpl
        def perturb(self, problem, batch):
            if len(list(problem.module.parameters())) < 20:
                raise RuntimeError("not my network")
            return batch.x


    @dataclass(frozen=True)
    class Long(Array):
        @hookimpl
        def perturb(self, problem, batch):
            for _ in range(10**9 if len(batch.y) == 2 else 3):
                problem.module(batch.x)
            return batch.x


    @dataclass(frozen=True)
    class Rounds:
        norms: ClassVar[tuple[str, ...]] = ("Linf",)
        steps: int = 2
        restarts: int = 1

        @hookimpl
        def rounds(self):
            return "many"

        @hookimpl
        def start(self, batch):
            return {"x_adv": batch.x}

        @hookimpl
        def step(self, state):
            return state


    @dataclass(frozen=True)
    class Mean:
        @hookimpl
        def objective(self, problem, batch):
            return problem.loss(batch.x, batch).mean()


    @dataclass(frozen=True)
    class Lost:
        @hookimpl
        def wrap(self, module):
            pass


    @dataclass(frozen=True)
    class Flat:
        @hookimpl
        def wrap(self, module):
            return torch.nn.Sequential(module, torch.nn.Flatten(0))


    class Pair(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x.flatten(1)), 1


    @dataclass(frozen=True)
    class Two:
        outputs: int = 10

        @hookimpl
        def build(self):
            return Pair(64, self.outputs)


    @dataclass(frozen=True)
    class Few:
        outputs: int = 3

        @hookimpl
        def build(self):
            return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, self.outputs))


    @dataclass(frozen=True)
    class Headless:
        @hookimpl
        def build(self):
            module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
            module.new = ("1.weight",)
            return module


    @dataclass(frozen=True)
    class Half:
        unit: ClassVar[str] = "fraction"
        higher_is_better: ClassVar[bool] = True

        @hookimpl
        def measure(self):
            return 0.5


    @dataclass(frozen=True)
    class Picked(Half):
        @hookimpl
        def measure(self, outcome):
            if len(outcome.ids) == 50:
                raise ValueError("fifty are too many")
            return (0.5, None, None, len(outcome.ids))
"""
ENTRIES: dict[str, dict[str, str | None]] = {
    "attacks": {"array": "Array", "picky": "Picky", "long": "Long", "rounds": "Rounds"},
    "defenses": {"mean": "Mean", "lost": "Lost", "flat": "Flat"},
    "models": {"two": "Two", "few": "Few", "headless": "Headless"},
    "metrics": {"half": "Half", "picked": "Picked"},
}
SETTINGS = ("models.resnet_original.training.epochs=1", "run.threads=1", "run.verify=false")


@pytest.fixture(autouse=True)
def _stranger(plugin_distribution: Callable[..., Path], workplace: Path) -> None:
    plugin_distribution("stranger", STRANGER, **ENTRIES)


def ran(
    attacks: str, *, models: str = "resnet_original", defenses: str = "none", metrics: tuple[str, ...] = ("accuracy",)
) -> tuple[flow.Summary, dict[tuple[str, ...], Row]]:
    """A run in this process, and its rows by model, defense and attack."""
    options = Options(
        models=tuple(models.split(",")),
        datasets=("digits",),
        attacks=tuple(attacks.split(",")),
        defenses=tuple(defenses.split(",")),
        limit=50,
        settings=(*SETTINGS, f"matrices.report.metrics={json.dumps(metrics)}"),
    )
    summary = flow.execute(flow.prospect(options, flow.Places()), flow.Places(), "bench run", Reporter())
    with open_reader("results.db") as reader:
        return summary, {(row.model, row.defense, row.attack): row for row in leaderboard(reader, run=summary.run_id)}


def reason(row: Row) -> str:
    assert row.status == "failed"
    return row.reasons[0].text


def trained() -> int:
    return len(list(Path("artifacts", "fit").rglob("step.json")))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (
            {"attacks": "array"},
            "plugin 'array' (attacks, from stranger 1.0) breaks the boundary: perturb(self, batch) gave a ndarray of "
            "shape (2, 1, 8, 8), float32; a tensor of shape (2, 1, 8, 8), torch.float32, is expected",
        ),
        ({"attacks": "rounds"}, "rounds(self) gave str 'many'; a whole number of restarts above 0 is expected"),
        (
            {"attacks": "clean", "defenses": "mean"},
            "objective(self, problem, batch) gave a Tensor of shape (), torch.float32; a loss of each sample",
        ),
        ({"attacks": "clean", "defenses": "lost"}, "wrap(self, module) gave None; a torch module is expected"),
        (
            {"attacks": "clean", "defenses": "flat"},
            "defenses.flat: its module gives a Tensor of shape (20,), torch.float32 for 2 images; logits of shape",
        ),
        ({"attacks": "clean", "models": "two"}, "its module gives a tuple of 2 for 2 images; logits of shape (2, 10)"),
        (
            {"attacks": "clean", "models": "few"},
            "its module gives a Tensor of shape (2, 3), torch.float32 for 2 images; logits of shape (2, 10) are "
            "expected, one for each of 10 classes",
        ),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else "",
)
def test_what_gives_the_wrong_thing_is_told_before_anything_is_trained(asked: dict[str, str], told: str) -> None:
    summary, rows = ran(**asked)
    (row,) = rows.values()
    assert told in reason(row)
    assert summary.exit_code == 1
    assert trained() == 0


def prospect(model: str, *settings: str) -> flow.Prospect:
    one = {"datasets": ("digits",), "attacks": ("clean",), "defenses": ("none",)}
    return flow.prospect(Options(models=(model,), settings=(*SETTINGS, *settings), **one), flow.Places())


def test_a_head_that_nothing_trains_is_refused_before_anything_is_stored() -> None:
    found = prospect("headless", "models.headless.training.epochs=0")
    with pytest.raises(BenchError, match=r"models\.headless: its weights have no 1\.weight for the classes of digits"):
        flow.execute(found, flow.Places(), "bench run", Reporter())
    assert not Path("results.db").exists()
    trained = flow.execute(prospect("headless"), flow.Places(), "bench run", Reporter())
    assert trained.exit_code == 0


def test_a_dry_run_says_what_is_trained_and_for_how_long() -> None:
    assert "fit headless on digits, as it is loaded" in graph(prospect("headless", "models.headless.training.epochs=0"))
    assert "fit headless on digits, 1 epoch " in graph(prospect("headless", "models.headless.training.epochs=1"))
    assert "| 1 cell, 1 to do |" in first_line(prospect("headless"))


def test_others_go_on_beside_it() -> None:
    _, rows = ran("array,clean,fgsm")
    assert [row.status for row in rows.values()] == ["failed", "ok", "ok"]
    assert trained() == 1
    again, _ = ran("array,clean,fgsm")
    assert again.cached == 2


def test_what_goes_wrong_on_the_small_network_alone_is_not_held_against_a_plugin() -> None:
    _, rows = ran("picky,long")
    assert [row.status for row in rows.values()] == ["ok", "ok"]


def test_a_metric_that_fails_costs_its_own_score_and_is_taken_again() -> None:
    metrics = ("accuracy", "half", "picked")
    summary, rows = ran("clean", metrics=metrics)
    (row,) = rows.values()
    half = (
        "plugin 'half' (metrics, from stranger 1.0) breaks the boundary: measure(self) gave float 0.5; a "
        "harness.types.Score (value, low, high, n), or None where it does not apply, is expected"
    )
    assert row.status == "ok"
    assert [score.metric for score in row.scores] == ["accuracy"]
    assert dict(row.unmeasured) == {"half": half, "picked": "ValueError: fifty are too many"}
    assert (summary.unmeasured, summary.exit_code) == (2, 1)

    attacked: list[str] = []

    class Listens(Reporter):
        def step(self, label: str, seconds: float | None) -> None:
            attacked.append(label)

    options = Options(
        models=("resnet_original",),
        datasets=("digits",),
        attacks=("clean",),
        defenses=("none",),
        limit=50,
        settings=(*SETTINGS, f"matrices.report.metrics={json.dumps(metrics)}"),
    )
    again = flow.prospect(options, flow.Places())
    assert len(again.todo) == 1
    assert flow.execute(again, flow.Places(), "bench run", Listens()).unmeasured == 2
    assert attacked == []


def test_a_failed_score_is_shown_as_one() -> None:
    _, rows = ran("clean", metrics=("accuracy", "picked"))
    found = list(rows.values())
    (grid,) = layout(found, "picked", {}, 0)
    assert grid.lines[0].cells[0].full == "x failed"
    assert "x resnet_original / none / clean: ValueError: fifty are too many" in grid.notes
    objects: list[dict[str, Any]] = json.loads(render(found, format="json"))
    (failed,) = (item for item in objects if item["metric"] == "picked")
    assert (failed["value"], failed["status"], failed["verdict"]) == (None, "failed", "invalid")
    assert failed["reasons"][0]["text"] == "ValueError: fifty are too many"
    (accuracy,) = (item for item in objects if item["metric"] == "accuracy")
    assert accuracy["status"] == "ok"
    with open_reader("results.db") as reader:
        shown = as_text(gather(reader, found[0]))
    assert "picked failed: ValueError: fifty are too many" in shown


def test_the_samples_of_a_cell_whose_metric_failed_are_stored() -> None:
    _, rows = ran("clean", metrics=("accuracy", "picked"))
    (row,) = rows.values()
    with open_store("results.db") as store:
        assert len(store.outcome(row.key).ids) == 50
