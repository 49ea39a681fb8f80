"""What plugins give back and say of themselves: told by plugin and hook, with what was got and what is expected."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from harness import boundary, config, gives, plan
from harness.errors import BenchError, BrokenPlugin
from harness.hookspecs import SPECS, hookimpl
from harness.request import Options
from harness.types import Batch, Facts, Score, Split

BATCH = Batch(torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 0, 1]), torch.arange(4))
FACTS = Facts((1, 8, 8), ("a", "b"), {"train": 4, "validation": 2, "test": 2}, "none", "nobody", "nowhere")
SPLIT = Split(np.zeros((2, 1, 8, 8), np.uint8), np.zeros(2, np.int64), np.zeros(2, np.int64))
ROW = torch.zeros(4)


def giving(kind: str, hook: str, result: Any, **says: Any) -> boundary.Hooks:
    """A component whose hook gives this, bound; its other hooks give what they should."""
    fitting: Mapping[str, Mapping[str, Any]] = {
        "datasets": {"facts": FACTS, "locate": [], "load": {"train": SPLIT}},
        "models": {"build": nn.Identity()},
        "attacks": {"start": {"x_adv": BATCH.x}, "step": {"x_adv": BATCH.x}} if hook != "perturb" else {},
        "defenses": {},
        "metrics": {"measure": None},
    }

    def method(name: str, value: Any) -> Any:
        def given(self: object) -> Any:
            return value

        given.__name__ = name
        return hookimpl(given)

    own = {"norms": ("Linf",), "steps": 3, "restarts": 1} if kind == "attacks" else {}
    methods = {name: method(name, value) for name, value in (fitting[kind] | {hook: result}).items()}
    return boundary.bind(kind, make_dataclass("Odd", [], frozen=True, namespace={**own, **says, **methods})())


ASKED: Mapping[str, Mapping[str, Any]] = {
    "facts": {"roots": []},
    "locate": {"roots": []},
    "load": {"files": []},
    "sources": {},
    "build": {"preparation": None},
    "perturb": {"batch": BATCH, "problem": None, "threat": None, "random": None},
    "start": {"batch": BATCH, "threat": None, "random": None, "clean": None, "restart": None},
    "step": {"state": {}, "found": None, "batch": BATCH, "threat": None, "random": None, "iteration": None},
    "loss": {"logits": torch.zeros(4, 2), "batch": BATCH, "state": {}},
    "needs_gradient": {"iteration": ROW},
    "rounds": {"classes": 2},
    "objective": {"problem": None, "batch": BATCH, "random": None},
    "passes": {},
    "wrap": {"module": None},
    "measure": {"outcome": None, "facts": None},
}


@pytest.mark.parametrize(
    ("kind", "hook", "result", "got", "expected"),
    [
        ("datasets", "facts", {"shape": 3}, "a dict with shape", "harness.types.Facts"),
        ("datasets", "facts", FACTS._replace(shape=(8, 8)), "shape (8, 8)", "(C, H, W)"),
        ("datasets", "facts", FACTS._replace(sizes={"train": 4}), "sizes {'train': 4}", "train, validation, test"),
        ("datasets", "facts", FACTS._replace(classes=("a",)), "classes ('a',)", "two classes or more"),
        ("datasets", "facts", FACTS._replace(task="regression"), "task 'regression'", "classification or captioning"),
        ("datasets", "locate", "data.npz", "str 'data.npz'", "a list of pathlib.Path"),
        ("datasets", "locate", ["data.npz"], "a list of 1", "a list of pathlib.Path"),
        ("datasets", "load", [1, 2], "a list of 2", "a dict of the splits train, validation, test"),
        ("datasets", "load", {"train": (1, 2)}, "a tuple of 2 for train", "harness.types.Split"),
        ("models", "sources", "weights.pt", "str 'weights.pt'", "a list of pathlib.Path"),
        ("models", "build", abs, "a builtin_function_or_method", "a torch module"),
        ("attacks", "perturb", None, "None", "a tensor of shape (4, 3, 8, 8), torch.float32"),
        ("attacks", "perturb", BATCH.x.numpy(), "a ndarray of shape (4, 3, 8, 8), float32", "a tensor of shape"),
        ("attacks", "perturb", BATCH.x[:, :1], "a Tensor of shape (4, 1, 8, 8)", "(4, 3, 8, 8)"),
        ("attacks", "perturb", BATCH.x.double(), "torch.float64", "torch.float32"),
        ("attacks", "start", BATCH.x, "a Tensor of shape", "a dict of tensors with x_adv"),
        ("attacks", "start", {"start": BATCH.x}, "a dict with start", "a dict of tensors with x_adv"),
        ("attacks", "step", {"x_adv": BATCH.x[:2]}, "for state['x_adv']", "a row for each of 4 samples"),
        ("attacks", "step", {"x_adv": BATCH.x, "k": 3}, "int 3 for state['k']", "a row for each of 4 samples"),
        ("attacks", "step", {"x_adv": ROW}, "of shape (4,), torch.float32 for state['x_adv']", "(4, 3, 8, 8)"),
        ("attacks", "loss", ROW.mean(), "of shape ()", "shape (4,)"),
        ("attacks", "needs_gradient", True, "True", "booleans, a tensor of shape (4,)"),
        ("attacks", "needs_gradient", ROW, "torch.float32", "a tensor of booleans"),
        ("attacks", "rounds", "many", "str 'many'", "a whole number of restarts above 0"),
        ("attacks", "rounds", 0, "int 0", "above 0"),
        ("defenses", "objective", ROW.mean(), "a Tensor of shape ()", "a loss of each sample, a tensor of shape (4,)"),
        ("defenses", "passes", "one", "str 'one'", "a number of passes above 0"),
        ("defenses", "passes", float("nan"), "float nan", "a number of passes above 0"),
        ("defenses", "wrap", None, "None", "a torch module"),
        ("metrics", "measure", 0.5, "float 0.5", "harness.types.Score (value, low, high, n)"),
        ("metrics", "measure", Score(float("inf"), None, None, 4), "a score (inf, None, None, 4)", "a finite value"),
        ("metrics", "measure", (0.5, 0.1, 0.9, 0), "n = 0", "the number of samples"),
    ],
)
def test_what_a_hook_gives_is_looked_at(kind: str, hook: str, result: Any, got: str, expected: str) -> None:
    hooks = giving(kind, hook, result)
    with pytest.raises(BrokenPlugin) as told:
        getattr(hooks, hook)(**ASKED[hook])
    head, _, rest = str(told.value).partition(f" breaks the boundary: {hook}(self) gave ")
    assert head == f"plugin Odd ({kind})"
    found, _, wanted = rest.partition("; ")
    assert got in found
    assert expected in wanted
    assert wanted.endswith("is expected")


@pytest.mark.parametrize(
    ("kind", "hook", "result"),
    [
        ("datasets", "facts", FACTS),
        ("datasets", "facts", FACTS._replace(task="captioning", classes=())),
        ("datasets", "locate", None),
        ("datasets", "locate", (Path("a"),)),
        ("datasets", "load", {"train": SPLIT, "test": SPLIT}),
        ("models", "sources", []),
        ("models", "build", nn.Identity()),
        ("attacks", "perturb", BATCH.x.clone()),
        ("attacks", "start", {"x_adv": BATCH.x, "rest": torch.zeros(4, 2, 2)}),
        ("attacks", "loss", ROW),
        ("attacks", "needs_gradient", ROW > 0),
        ("attacks", "rounds", 2),
        ("defenses", "objective", ROW),
        ("defenses", "passes", 1),
        ("defenses", "passes", np.float32(2.5)),
        ("defenses", "wrap", nn.Identity()),
        ("metrics", "measure", None),
        ("metrics", "measure", (np.float64(0.5), None, None, 4)),
        ("metrics", "measure", Score(0.5, 0.1, 0.9, 4)),
    ],
)
def test_what_is_right_passes_as_it_is(kind: str, hook: str, result: Any) -> None:
    assert getattr(giving(kind, hook, result), hook)(**ASKED[hook]) is result


def test_every_hook_that_gives_anything_is_looked_at() -> None:
    named = {(kind, hook) for kind, spec in SPECS.items() for hook in vars(spec) if not hook.startswith("_")}
    assert named - {(kind, hook) for kind, looks in gives.LOOKS.items() for hook in looks} == {("datasets", "download")}


@pytest.mark.parametrize(
    ("kind", "attribute", "value", "expected"),
    [
        ("attacks", "norms", ("Linfinity",), "a tuple of Linf, L2, L1, severity"),
        ("attacks", "norms", ["Linf"], "a tuple of"),
        ("attacks", "access", "white-box", "'gradient' or 'scores'"),
        ("attacks", "minimum_norm", 1, "True or False"),
        ("attacks", "stronger_than", "fgsm", "a tuple of names"),
        ("attacks", "tasks", ("detection",), "a tuple of classification, captioning"),
        ("attacks", "steps", "many", "a whole number above 0"),
        ("attacks", "restarts", 0, "a whole number above 0"),
        ("models", "task", "detection", "'classification' or 'captioning'"),
        ("models", "weights", None, "a text"),
        ("defenses", "tasks", ("",), "a tuple of classification, captioning"),
        ("metrics", "higher_is_better", "yes", "True or False or None"),
        ("metrics", "unit", None, "a text"),
    ],
)
def test_what_a_component_says_is_looked_at(kind: str, attribute: str, value: Any, expected: str) -> None:
    hook = "start" if kind == "attacks" else next(iter(gives.LOOKS[kind]))
    with pytest.raises(BrokenPlugin) as told:
        giving(kind, hook, None, **{attribute: value})
    assert f"{attribute} is {value!r}; " in str(told.value)
    assert expected in str(told.value)


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.tuples(), st.lists(st.integers())))
def test_whatever_a_metric_gives_is_a_score_or_told(value: Any) -> None:
    hooks = giving("metrics", "measure", value)
    if value is None:
        assert hooks.measure(outcome=None, facts=FACTS) is None
    else:
        with pytest.raises(BrokenPlugin):
            hooks.measure(outcome=None, facts=FACTS)


@dataclass(frozen=True)
class Raises:
    @hookimpl
    def facts(self) -> Facts:
        raise OSError("no such disk\nand more")

    @hookimpl
    def locate(self) -> list[Path]:
        raise BenchError("datasets.raises: get it from its makers")

    @hookimpl
    def load(self) -> dict[str, Split]:
        raise OSError("no such file")


def test_what_a_hook_raises_while_planning_is_one_line_and_later_it_is_its_own() -> None:
    hooks = boundary.bind("datasets", Raises())
    with pytest.raises(BrokenPlugin, match=r"facts\(self\) raised OSError: no such disk$"):
        hooks.facts(roots=[])
    with pytest.raises(BenchError, match=r"^datasets\.raises: get it from its makers$"):
        hooks.locate(roots=[])
    with pytest.raises(OSError, match="no such file"):
        hooks.load(files=[])


BROKEN_DATA = """
    from dataclasses import dataclass
    from harness.hookspecs import hookimpl

    @dataclass(frozen=True)
    class Disk:
        @hookimpl
        def facts(self):
            raise OSError("no such disk")

        @hookimpl
        def locate(self):
            return []

        @hookimpl
        def load(self):
            return {}
"""


def test_a_data_set_that_breaks_while_planning_costs_its_own_cells(
    plugin_distribution: Callable[..., Path], workplace: Path
) -> None:
    plugin_distribution("stranger", BROKEN_DATA, datasets={"disk": "Disk"})
    options = Options(models=("resnet_original",), datasets=("disk", "digits"), attacks=("clean",), defenses=("none",))
    cells = plan.build(config.resolve(options), [], download=False).cells
    told = "plugin 'disk' (datasets, from stranger 1.0) breaks the boundary: facts(self) raised OSError: no such disk"
    assert [cell.fault for cell in cells] == [told, ""]
