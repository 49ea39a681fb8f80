"""A distribution of plugins that misbehave in every way costs its own cells and nobody else's numbers."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.store.queries import Row, leaderboard
from harness.store.reading import open_reader
from harness.store.store import open_store

pytestmark = pytest.mark.slow

EPS = 24 / 255  # the budget of the profile tiny

STRANGER = """
    from dataclasses import dataclass
    from typing import ClassVar

    import torch

    from harness.hookspecs import hookimpl


    @dataclass(frozen=True)
    class Raises:
        norms: ClassVar[tuple[str, ...]] = ("Linf",)

        @hookimpl
        def perturb(self, batch):
            raise RuntimeError("out of ideas")


    @dataclass(frozen=True)
    class NaN(Raises):
        @hookimpl
        def perturb(self, batch):
            return batch.x * float("nan")


    @dataclass(frozen=True)
    class Shape(Raises):
        @hookimpl
        def perturb(self, batch):
            return batch.x[:, :, :4]


    @dataclass(frozen=True)
    class Dtype(Raises):
        @hookimpl
        def perturb(self, batch):
            return batch.x.double()


    @dataclass(frozen=True)
    class Greedy(Raises):
        # FGSM with ten times the budget and no box: cut to the budget it is FGSM.
        @hookimpl
        def perturb(self, problem, batch, threat):
            found = problem.evaluate(batch.x, batch, gradient=True)
            return batch.x + 10 * threat.eps * found.gradient.sign()


    @dataclass(frozen=True)
    class Vandal(Raises):
        # Leaves everything it can reach in disorder and hands back what FGSM would.
        @hookimpl
        def perturb(self, problem, batch, threat):
            found = problem.evaluate(batch.x, batch, gradient=True)
            x_adv = threat.project(batch.x + threat.eps * found.gradient.sign(), batch.x)
            torch.manual_seed(0)
            problem.module.train().requires_grad_(True)
            problem.module(torch.rand_like(batch.x) * 9).sum().backward()
            for tensor in (*problem.module.parameters(), *batch):
                tensor.data.zero_()
            return x_adv


    class First(torch.nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, x):
            logits = self.module(x)
            return logits + 1000 * torch.nn.functional.one_hot(torch.tensor(0), logits.shape[1])


    @dataclass(frozen=True)
    class AlwaysFirst:
        @hookimpl
        def wrap(self, module):
            return First(module)
"""

BAD = {
    "bad_raises": r"RuntimeError: out of ideas",
    # As many images as still stood, or a full batch of them.
    "bad_nan": r"nan: attack bad_nan: (\d+) of \1 adversarial images hold NaN or Inf",
    "bad_shape": r"plugin 'bad_shape' \(attacks, from stranger 1\.0\) breaks the boundary: perturb\(self, batch\) gave "
    r"a Tensor of shape \(2, 1, 4, 8\), torch\.float32; a tensor of shape \(2, 1, 8, 8\), torch\.float32, is expected",
    "bad_dtype": r"plugin 'bad_dtype' .* torch\.float64; a tensor of shape \(2, 1, 8, 8\), torch\.float32, is expected",
    "bad_import": r"plugin 'bad_import' \(attacks, from unimportable 1\.0\) cannot be imported: ImportError: no lic\w+",
}
SCORES = ("accuracy", "attack_success_rate", "linf_mean", "linf_max", "l2_mean", "l2_max", "forwards", "backwards")

Bench = Callable[..., subprocess.CompletedProcess[str]]


class Ran(NamedTuple):
    ended: subprocess.CompletedProcess[str]
    rows: dict[tuple[str, str], Row]
    predictions: dict[tuple[str, str], list[int]]


def ran(bench: Bench, workplace: Path, store: str, attacks: str, defenses: str) -> Ran:
    ended = bench(
        *("run", "--models", "resnet_original", "--attacks", attacks, "--defenses", defenses),
        *("--set", "models.resnet_original.training.epochs=1", "--store", store, "--artifacts", f"artifacts-{store}"),
    )
    place = str(workplace / store)
    with open_reader(place) as reader:
        rows = {(row.defense, row.attack): row for row in leaderboard(reader)}
    with open_store(place) as opened:
        predictions = {
            cell: opened.outcome(row.key).prediction.tolist() for cell, row in rows.items() if row.status == "ok"
        }
    return Ran(ended, rows, predictions)


def scores(row: Row) -> dict[str, tuple[float, float | None, float | None, int]]:
    return {s.metric: (s.value, s.low, s.high, s.n) for s in row.scores if s.metric in SCORES}


def test_bad_plugins_cost_their_own_cells_only(
    bench_process: Bench, workplace: Path, plugin_distribution: Callable[..., Path]
) -> None:
    alone = ran(bench_process, workplace, "alone.db", "clean,fgsm,pgd", "none")
    assert alone.ended.returncode == 0, alone.ended.stderr
    entries = {"bad_raises": "Raises", "bad_nan": "NaN", "bad_shape": "Shape", "bad_dtype": "Dtype"}
    entries |= {"greedy": "Greedy", "vandal": "Vandal"}
    plugin_distribution("stranger", STRANGER, attacks=entries, defenses={"always_first": "AlwaysFirst"})
    plugin_distribution("unimportable", 'raise ImportError("no licence")', attacks={"bad_import": "Odd"})
    # The good ones stand among and after the bad ones, which could have spoilt the model by then.
    attacks = "bad_raises,clean,bad_nan,vandal,fgsm,bad_import,bad_shape,greedy,bad_dtype,pgd"
    beside = ran(bench_process, workplace, "beside.db", attacks, "none,always_first")

    assert beside.ended.returncode == 1, beside.ended.stderr
    assert "Traceback" not in beside.ended.stdout + beside.ended.stderr

    for defense in ("none", "always_first"):
        for attack, reason in BAD.items():
            row = beside.rows[defense, attack]
            assert row.status == "failed"
            assert row.scores == ()
            assert len(row.reasons) == 1
            assert re.fullmatch(reason, row.reasons[0].text), row.reasons
            assert row.n == 0

    for cell, row in alone.rows.items():
        other = beside.rows[cell]
        assert (other.status, other.verdict, other.key) == ("ok", row.verdict, row.key)
        assert set(scores(other)) == set(SCORES)
        assert scores(other) == scores(row)
        assert beside.predictions[cell] == alone.predictions[cell]

    greedy, vandal, fgsm = (beside.rows["none", name] for name in ("greedy", "vandal", "fgsm"))
    assert (greedy.status, greedy.verdict) == ("ok", "suspect")
    assert {reason.code for reason in greedy.reasons} == {"over_budget", "outside_domain"}
    assert scores(greedy)["linf_max"][0] <= EPS + 1e-6
    assert beside.predictions["none", "greedy"] == beside.predictions["none", "fgsm"]
    assert (vandal.status, vandal.verdict) == ("ok", "suspect")
    assert {reason.code for reason in vandal.reasons} == {"buffers_changed", "weights_changed"}
    assert scores(vandal)["accuracy"] == scores(fgsm)["accuracy"]

    # A defense that only wraps is trained by nothing and asked at every prediction.
    for attack in ("clean", "fgsm", "pgd"):
        row = beside.rows["always_first", attack]
        assert row.status == "ok"
        assert set(beside.predictions["always_first", attack]) == {0}
        assert 0 < scores(row)["accuracy"][0] < 0.2
