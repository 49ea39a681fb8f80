"""The contract as a library: each rule is broken by something that breaks it, and ``bench check`` says so."""

from __future__ import annotations

import json
import sys
import unittest
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import cli
from harness import registry
from harness.contract import RULES, Candidate, Result, State, assert_contract, check, rules
from harness.contract.checking import rules_of
from harness.errors import BenchError

torch.set_num_threads(1)

TOP = Path(__file__).resolve().parents[1]
HEAD = """
import random
from dataclasses import dataclass
from typing import ClassVar

import numpy
import torch
from torch import nn

from harness.hookspecs import hookimpl
from harness.types import Facts, Score, Split


class _Attack:
    norms: ClassVar[tuple[str, ...]] = ("Linf",)

    @hookimpl
    def perturb(self, problem, batch, threat, random):
        found = problem.evaluate(batch.x, batch, gradient=True)
        return threat.project(batch.x + threat.eps * found.gradient.sign(), batch.x)
"""
ATTACK = '''
@dataclass(frozen=True)
class Mine(_Attack):
    """One step of the whole budget along the sign."""

    strength: float = 1.0
'''
PERTURB = """
    @hookimpl
    def perturb(self, problem, batch, threat, random):
        found = problem.evaluate(batch.x, batch, gradient=True)
        x_adv = threat.project(batch.x + threat.eps * found.gradient.sign(), batch.x)
"""
WRAPS = '''
@dataclass(frozen=True)
class Mine:
    """Deploys the model in some way."""

    @hookimpl
    def wrap(self, module):
        return {}
'''
TRAINS = '''
@dataclass(frozen=True)
class Mine:
    """Trains the model in some way."""

    @hookimpl
    def objective(self, problem, batch, random):
        return {}

    @hookimpl
    def passes(self):
        return {}
'''
METRIC = '''
@dataclass(frozen=True)
class Mine:
    """A number of each outcome, made up."""

    unit: ClassVar[str] = {}
    higher_is_better: ClassVar[bool | None] = True

    @hookimpl
    def measure(self, outcome):
        return {}
'''
MODEL = '''
class _Network(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.head = nn.Linear(size, 4)

    def forward(self, x):
        logits = self.head(x.flatten(1))
        return {}


@dataclass(frozen=True)
class Mine:
    """A network of one layer, more or less."""

    @hookimpl
    def build(self, preparation):
        module = _Network(3 * 16 * 16)
        {}
        return module
'''
DATA = '''
@dataclass(frozen=True)
class Mine:
    """Random images, a row of each class."""

    @hookimpl
    def facts(self):
        sizes = {{"train": 4, "validation": 4, "test": 4}}
        return Facts((1, 4, 4), {classes}, sizes, "CC0-1.0", "nobody", "nowhere")

    @hookimpl
    def locate(self, roots):
        return {files}

    @hookimpl
    def load(self, files):
        generator = numpy.random.default_rng({seed})
        images = generator.integers(0, 256, (4, 1, 4, 4)).astype(numpy.uint8)
        ids = {ids}
        return {{name: Split(images, numpy.array([0, 1, 0, 1]), ids[name]) for name in ids}}
'''
IDS = '{name: numpy.arange(4) + 4 * k for k, name in enumerate(("train", "validation", "test"))}'
GOOD_DATA = {"classes": '("a", "b")', "files": "[]", "seed": "0", "ids": IDS}


def data(**other: str) -> str:
    return DATA.format(**{**GOOD_DATA, **other})


BREAKS = {
    # every component
    "fits": ("attacks", ATTACK.replace("(frozen=True)", "")),
    "documented": ("attacks", ATTACK.replace("One step of the whole budget along the sign.", "Steps.")),
    "defaults": ("attacks", ATTACK.replace("strength: float = 1.0", "strength: float")),
    "parameters": ("attacks", ATTACK.replace("float = 1.0", "tuple = (1, (2, 3))")),
    "representation": ("attacks", ATTACK + '\n    def __repr__(self):\n        return "Mine()"\n'),
    # attacks
    "declared": ("attacks", ATTACK + '\n    stronger_than: ClassVar[tuple[str, ...]] = ("no_such_attack",)\n'),
    "images_made": ("attacks", ATTACK + PERTURB + "        return batch.x\n"),
    "budget": ("attacks", ATTACK + PERTURB + "        return (x_adv + threat.eps / 2).clamp(0, 1)\n"),
    "box": ("attacks", ATTACK + PERTURB + "        return batch.x + threat.eps * found.gradient.sign()\n"),
    "harm": ("attacks", ATTACK + PERTURB + "        return (2 * batch.x - x_adv).clamp(0, 1)\n"),
    "seed": (
        "attacks",
        ATTACK + PERTURB + "        generator = numpy.random.default_rng()\n"
        "        return batch.x + (x_adv - batch.x) * generator.random()\n",
    ),
    "one_sample": ("attacks", ATTACK + PERTURB + "        return x_adv.squeeze(0)\n"),
    "input_untouched": ("attacks", ATTACK + PERTURB + "        batch.x.copy_(x_adv)\n        return x_adv\n"),
    "model_untouched": (
        "attacks",
        ATTACK + PERTURB + "        problem.module.train()\n        problem.module(batch.x)\n        return x_adv\n",
    ),
    "global_state": (
        "attacks",
        ATTACK + PERTURB + "        torch.backends.cudnn.benchmark = True\n        return x_adv\n",
    ),
    "counted": ("attacks", ATTACK + PERTURB + "        problem.module.module(batch.x)\n        return x_adv\n"),
    # data sets
    "facts": ("datasets", data(classes='("a", "a")')),
    "files": ("datasets", data(files='["/no/such/file"]')),
    "contents": ("datasets", data(classes='("a", "b", "c")')),
    "splits_apart": ("datasets", data(ids='dict.fromkeys(("train", "validation", "test"), numpy.arange(4))')),
    "repeatable": ("datasets", data(ids=IDS.replace("numpy.arange(4)", "numpy.random.default_rng().permutation(4)"))),
    # models
    "logits": ("models", MODEL.format("logits.double()", "")),
    "answers_repeat": ("models", MODEL.format("logits + torch.rand_like(logits)", "")),
    "neighbours": ("models", MODEL.format("logits - logits.mean(0)", "")),
    "gradients": ("models", MODEL.format("logits.detach() + 0 * x.sum()", "")),
    "initial_weights": (
        "models",
        MODEL.format("logits", "module.head.weight.data.fill_(numpy.random.default_rng().random())"),
    ),
    "captioner": ("models", MODEL.format("logits", "") + '\n    task: ClassVar[str] = "captioning"\n'),
    # defenses
    "objective": ("defenses", TRAINS.format("problem.loss(batch.x, batch).mean()", "1.0")),
    "passes": ("defenses", TRAINS.format("problem.loss(batch.x, batch)", "0.5")),
    "deployed": ("defenses", WRAPS.format("lambda x: module(x)")),
    # metrics
    "unit": ("metrics", METRIC.format('""', "Score(0.5, None, None, 1)")),
    "scores": ("metrics", METRIC.format('"fraction"', "Score(0.5, 0.6, 0.7, 1)")),
}
GIVEN = {"defaults": {"strength": 1.0}}
# What nothing of a plugin's can break here: the engine's own promise, an accelerator, and a measurement.
UNBROKEN = {"batch_independence", "empty_batch", "device", "cost"}


@pytest.fixture
def plug(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    def write(source: str) -> Path:
        path = tmp_path / "mine.py"
        path.write_text(HEAD + source)
        registry.plug("--plugin", [path])
        return path

    yield write
    registry.plug("--plugin", [])


def one(kind: str, rule: str) -> Result:
    (claim,) = [claim for claim in rules(kind, "mine", **GIVEN.get(rule, {})) if str(claim) == rule]
    return claim.result()


def test_every_rule_is_broken_below() -> None:
    assert {rule.name for rule in RULES} == {*BREAKS, *UNBROKEN}
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all(rule.sentence for rule in RULES)


def test_the_page_tells_every_rule_and_shows_the_example_as_it_is() -> None:
    page = (TOP / "docs" / "plugins.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert sorted(rows) == sorted(f"| `{rule.name}` | {rule.sentence} |" for rule in RULES)
    assert (TOP / "examples" / "ni_fgsm.py").read_text() in page


@pytest.mark.parametrize("rule", BREAKS)
def test_a_rule_is_broken_by_what_breaks_it(
    rule: str, plug: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    kind, source = BREAKS[rule]
    plug(source)
    found = one(kind, rule)
    assert found.state is State.FAILED, found
    assert found.detail
    assert "\n" not in found.detail


GOOD = {
    "attacks": ATTACK,
    "datasets": data(),
    "models": MODEL.format("logits", ""),
    "defenses": TRAINS.format("problem.loss(batch.x, batch)", "1.0"),
    "metrics": METRIC.format('"fraction"', "Score(0.5, 0.4, 0.7, 1)"),
}


@pytest.mark.parametrize("kind", GOOD)
def test_what_breaks_nothing_keeps_the_contract(kind: str, plug: Callable[[str], Path]) -> None:
    plug(GOOD[kind])
    assert_contract(kind, "mine")
    states = {found.rule: found.state for found in check(Candidate(kind, "mine"))}
    assert states.keys() == {rule.name for rule in rules_of(kind)}
    assert State.FAILED not in states.values()
    assert State.OK in states.values()


def test_a_step_attack_that_draws_for_the_batch_is_found(plug: Callable[[str], Path]) -> None:
    plug(
        '''
@dataclass(frozen=True)
class Mine:
    """Random images around the batch, of one generator."""

    steps: int = 1

    restarts: ClassVar[int] = 1
    norms: ClassVar[tuple[str, ...]] = ("Linf",)

    @hookimpl
    def start(self, batch, threat):
        generator = torch.Generator().manual_seed(0)
        return {"x_adv": batch.x + 0.01 * torch.randn(batch.x.shape, generator=generator)}

    @hookimpl
    def step(self, state):
        return state
'''
    )
    found = one("attacks", "batch_independence")
    assert found.state is State.FAILED
    assert "of 12 images are others" in found.detail
    assert one("attacks", "seed").state is State.OK


def test_the_first_broken_rules_are_named(plug: Callable[[str], Path]) -> None:
    plug(ATTACK + PERTURB + "        return batch.x + threat.eps * found.gradient.sign() * 2\n")
    with pytest.raises(AssertionError, match=r"attacks mine: budget .*: Linf: 0\.06274\d+, eps is 0\.0313725; box "):
        assert_contract("attacks", "mine")


def test_other_images_under_the_same_ids_are_found(plug: Callable[[str], Path]) -> None:
    plug(data(seed=""))
    assert one("datasets", "repeatable").detail == "train: other images the second time"


def test_a_hook_that_gives_the_wrong_thing_breaks_one_rule(plug: Callable[[str], Path]) -> None:
    plug(ATTACK + PERTURB + "        return x_adv.numpy()\n")
    found = {result.rule: result for result in check(Candidate("attacks", "mine"))}
    assert [rule for rule, result in found.items() if result.state is State.FAILED] == ["images_made"]
    assert "threat, random) gave a ndarray of shape (12, 3, 32, 32)" in found["images_made"].detail
    assert found["global_state"].detail == "cannot be told, for images_made is broken"


def test_what_the_engine_sees_to_does_not_apply_to_a_step_attack() -> None:
    states = {result.rule: result.state for result in check(Candidate("attacks", "fgsm"))}
    assert {rule for rule in ("budget", "box") if states[rule] is State.OTHER} == {"budget", "box"}


def test_a_rule_that_does_not_apply_is_a_skipped_test() -> None:
    (claim,) = [claim for claim in rules("attacks", "fgsm") if str(claim) == "counted"]
    with pytest.raises(unittest.SkipTest, match="the engine's"):
        claim.assert_holds()


def test_parameters_are_given_by_name_and_wrong_ones_are_refused() -> None:
    first, *_ = rules("attacks", "pgd", steps=3)
    assert first.candidate.component.steps == 3
    with pytest.raises(BenchError, match="did you mean steps"):
        assert_contract("attacks", "pgd", stepz=3)
    with pytest.raises(BenchError, match="did you mean pgd"):
        assert_contract("attacks", "pdg")
    with pytest.raises(BenchError, match="did you mean attacks"):
        rules("attack", "pgd")


def bench(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


@pytest.mark.slow
@pytest.mark.usefixtures("workplace")
def test_check_prints_a_row_a_rule(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], plug: Callable[[str], Path]
) -> None:
    path = plug(ATTACK)
    assert bench(monkeypatch, "check", "fgsm", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["holds"], told["kind"], told["distribution"]) == (True, "attacks", "adversarial-bench")
    assert [rule["rule"] for rule in told["rules"]] == [rule.name for rule in rules_of("attacks")]
    path.write_text(HEAD + BREAKS["counted"][1])
    assert bench(monkeypatch, "check", "mine", "--plugin", str(path), "--set", "attacks.mine.strength=0.5") == 1
    out = capsys.readouterr().out
    assert "strength=0.5" in out
    assert "the model saw 24 images, 12 were counted" in out
    assert "counted is broken: every pass of an attack" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("pdg", "bench check: no such name 'pdg'; did you mean pgd"),
        ("pgd --kind atacks", "--kind: no such name 'atacks'; did you mean attacks"),
        ("pgd --kind defenses", "bench check: defenses: no such name 'pgd'; did you mean pgd_at"),
        ("pgd --set attacks.pgd.stepz=1", "did you mean steps"),
        ("autoattack --kind attacks --set attacks.autoattack.like=none", "no such name"),
    ],
)
@pytest.mark.usefixtures("workplace")
def test_a_mistake_of_check_is_one_line(
    arguments: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(monkeypatch, "check", *arguments.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
