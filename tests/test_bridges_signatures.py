"""Which attacks the bridges have, what they say of them, and what they refuse; no library is imported."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from harness import boundary
from harness.coercion import fill
from harness.config import resolve
from harness.errors import BenchError
from harness.keys import key_of
from harness.report.catalogue import as_json, description
from harness.request import Options
from plugins.bridges.advlib import Advlib
from plugins.bridges.art import Art
from plugins.bridges.autoattack import AutoAttack
from plugins.bridges.foolbox import Foolbox
from plugins.bridges.signatures import parameters_of
from plugins.bridges.torchattacks import Torchattacks

BRIDGES: dict[str, Any] = {
    "torchattacks": Torchattacks,
    "foolbox": Foolbox,
    "art": Art,
    "advlib": Advlib,
    "autoattack": AutoAttack,
}
EVERY = [(name, attack) for name, bridge in BRIDGES.items() for attack in bridge.entries]


def exported(package: str, file: str) -> set[str]:
    """The names that a package's file imports from its own modules."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse((Path(spec.origin).parent / file).read_text())
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {
        alias.name for node in nodes if node.level or (node.module or "").startswith(package) for alias in node.names
    }


@pytest.mark.parametrize(
    ("bridge", "file", "other"),
    [
        (Torchattacks, "__init__.py", set()),
        (Foolbox, "attacks/__init__.py", {"Attack"}),
        (Art, "attacks/evasion/__init__.py", set()),
        (Advlib, "attacks/__init__.py", set()),
    ],
)
def test_every_attack_of_the_library_is_there_or_refused_with_a_reason(bridge: Any, file: str, other: set[str]) -> None:
    known = {*bridge.entries, *bridge.refused}
    assert exported(bridge.package, file) - other - known == set()
    assert set(bridge.entries) & set(bridge.refused) == set()
    for name, reason in bridge.refused.items():
        with pytest.raises(BenchError, match=f"{name} cannot be used here: it {reason[:20]}"):
            fill(bridge, {"name": name}, "attacks.x")


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_every_attack_has_parameters_that_take_their_own_defaults(kind: str, name: str) -> None:
    bridge = BRIDGES[kind]
    entry = bridge.entries[name]
    table: dict[str, Any] = {"name": name}
    table |= {"target": "second"} if entry.only_targets else {}
    table |= {"parameters": {"steps": 5}} if entry.needs else {}
    component = fill(bridge, table, "attacks.x")
    assert component.norms
    assert component.steps >= 1
    budgets = [p.name for p in component.signature() if p.name == entry.budget]
    assert budgets or entry.budget in ("", "epsilon") or bridge is AutoAttack
    for p in component.offered():
        if isinstance(p.default, bool | int | float) and p.default != float("inf"):
            assert p.checked(p.default) == p.default
    given = {p.name: p.default for p in component.offered() if isinstance(p.default, int)}
    again = fill(bridge, {**table, "parameters": {**table.get("parameters", {}), **given}}, "attacks.x")
    back = fill(bridge, json.loads(json.dumps({**table, "parameters": again.parameters})), "attacks.x")
    assert (back, hash(back)) == (again, hash(again))


@pytest.mark.parametrize(
    ("bridge", "table", "text"),
    [
        (Torchattacks, {"name": "CWW"}, "no such name 'CWW'; did you mean CW"),
        (Torchattacks, {"name": "CW", "parameters": {"step": 3}}, "no such name 'step'; did you mean steps"),
        (Torchattacks, {"name": "CW", "parameters": {"steps": 1.5}}, "got 1.5; int is needed"),
        (Torchattacks, {"name": "CW", "parameters": {"c": "much"}}, "got 'much'; float is needed"),
        (Torchattacks, {"name": "PGD", "parameters": {"random_start": 1}}, "got 1; bool is needed"),
        (Torchattacks, {"name": "PGD", "parameters": {"eps": 0.1}}, "no such name 'eps'"),
        (Torchattacks, {"name": "DeepFool", "target": "second"}, "has no targeted form"),
        (Foolbox, {"name": "GenAttack"}, "has a targeted form alone; set target"),
        (Foolbox, {"name": "VirtualAdversarialAttack"}, "no default for steps; set parameters.steps"),
        (Foolbox, {"name": "L2FMNAttack", "parameters": {"init_attack": "x"}}, "an object of the library"),
        (Foolbox, {"name": "EADAttack", "parameters": {"decision_rule": "L3"}}, "got 'L3'; 'EN' or 'L1' is needed"),
        (Advlib, {"name": "sigma_zero", "parameters": {"tau_0": float("inf")}}, "got inf; float is needed"),
        (Art, {"name": "SquareAttack", "parameters": {"p_init": None}}, "got None; float is needed"),
    ],
)
def test_what_does_not_fit_is_one_line(bridge: Any, table: dict[str, Any], text: str) -> None:
    with pytest.raises(BenchError, match=text) as told:
        fill(bridge, table, "attacks.x")
    assert "\n" not in str(told.value)


def test_two_ways_to_write_a_value_are_one() -> None:
    one = fill(Torchattacks, {"name": "PGD", "parameters": {"alpha": "1/4"}}, "x")
    other = fill(Torchattacks, {"name": "PGD", "parameters": {"alpha": 0.25}}, "x")
    assert one == other
    whole, real = (fill(Torchattacks, {"name": "CW", "parameters": {"c": c}}, "x") for c in (1, 1.0))
    assert key_of({"p": whole.parameters}) == key_of({"p": real.parameters})
    assert Foolbox("LinfPGD") == Foolbox("LinfProjectedGradientDescentAttack") == Foolbox("PGD")


def test_signatures_are_those_that_python_tells_of_the_imported_class() -> None:
    told = {p.name: p.default for p in parameters_of("torchattacks", "attacks", "PGD")}
    assert told == {"model": told["model"], "eps": 8 / 255, "alpha": 2 / 255, "steps": 10, "random_start": True}
    inherited = {p.name for p in parameters_of("foolbox", "attacks", "L2RepeatedAdditiveGaussianNoiseAttack")}
    assert inherited == {"repeats", "check_trivial"}


@pytest.mark.parametrize(
    "name", [*(f"{kind}:{attack}" for kind, attack in EVERY[:1]), "art:SquareAttack", "advlib:ddn"]
)
def test_info_lists_the_attack_s_own_parameters(name: str) -> None:
    text = description("attacks", name, "tiny", None, [])
    component = name.partition(":")[0]
    table = [p.name for p in BRIDGES[component](name.partition(":")[2]).offered() if p.kinds or p.choices]
    assert table
    assert all(f"\n{parameter} " in text for parameter in table)
    assert "library = " in text
    assert json.loads(as_json("attacks", name, "tiny", None, []))["described"][0][0] == "parameter"


def test_a_matrix_names_them_in_one_line_and_the_version_is_in_the_key() -> None:
    setting = 'attacks."torchattacks:CW".parameters.c=2'
    request = resolve(Options(attacks=["torchattacks:CW", "foolbox:FGSM"], norm="L2", eps="0.5", settings=[setting]))
    made = request.attacks["torchattacks:CW"]
    assert made.component == Torchattacks("CW", {"c": 2.0})
    assert made.minimum_norm
    assert made.norms == ("L2",)
    from harness.plan import _document

    assert _document("attack", made)["library"] == made.component.library
    assert "library" not in _document("attack", resolve(Options(attacks=["pgd"])).attacks["pgd"])


def test_planning_and_info_import_no_library() -> None:
    code = (
        "import sys; from harness.report.catalogue import description\n"
        "for name in ('torchattacks:CW', 'foolbox:L2PGD', 'art:DeepFool', 'advlib:ddn', 'autoattack:standard'):\n"
        "    description('attacks', name, 'tiny', None, [])\n"
        "print(sorted({n.partition('.')[0] for n in sys.modules}))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert set(ast.literal_eval(told)) & {"torch", "torchattacks", "foolbox", "art", "adv_lib", "pyautoattack"} == set()


def test_they_are_components_under_their_short_names() -> None:
    assert {name: boundary.load("attacks", name) for name in BRIDGES} == BRIDGES
