"""Components are found without importing them, and a broken one is named and leaves the rest alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import boundary, config, registry
from harness.errors import BenchError
from harness.hookspecs import OLDEST, VERSION
from harness.report.catalogue import listing
from harness.request import Options
from harness.types import KINDS

Install = Callable[..., Path]

GOOD = """
    from dataclasses import dataclass
    from typing import ClassVar

    from harness.hookspecs import hookimpl


    @dataclass(frozen=True)
    class Odd:
        strength: float = 1.0

        norms: ClassVar[tuple[str, ...]] = ("Linf",)

        @hookimpl
        def perturb(self, batch):
            return batch.x
"""

BROKEN = {
    "raises on import": ('raise RuntimeError("no licence\\nfound")', "Odd", "RuntimeError: no licence"),
    "imports what is not there": ("import no_such_package", "Odd", "No module named 'no_such_package'"),
    "is not Python": ("def", "Odd", "SyntaxError"),
    "lacks the class": (GOOD, "Even", "AttributeError"),
    "is a module": (GOOD, None, "a frozen dataclass is needed"),
    "is no dataclass": (GOOD.replace("@dataclass(frozen=True)", ""), "Odd", "a frozen dataclass is needed"),
    "does not say its norms": (GOOD.replace("norms: Class", "names: Class"), "Odd", "norms is missing"),
    "is not frozen": (GOOD.replace("(frozen=True)", ""), "Odd", "must be frozen"),
    "misspells a hook": (GOOD.replace("def perturb", "def pertrub"), "Odd", "pertrub"),
    "asks for an unknown argument": (GOOD.replace("(self, batch)", "(self, batch, budget)"), "Odd", "budget"),
    "gives no hook": (GOOD.replace("@hookimpl", ""), "Odd", "its perturb is not marked @hookimpl"),
    "lacks what is needed": (
        GOOD.replace("def perturb(self, batch)", "def start(self, batch)"),
        "Odd",
        "lacks perturb(self, problem, batch, threat, random); or else step(self, state, found, batch, ",
    ),
    "says what was expected": (
        GOOD.replace("(self, batch)", "(self, batch, budget)"),
        "Odd",
        "found perturb(self, batch, budget), where 'budget' is unknown; expected perturb(self, problem, batch, threat,",
    ),
    "says which hook is near": (GOOD.replace("def perturb", "def pertrub"), "Odd", "did you mean perturb"),
    "is for another boundary": (
        GOOD.replace("norms: Class", "boundary: ClassVar[int] = 99\n        norms: Class"),
        "Odd",
        "made for version 99 of the boundary, this harness has",
    ),
    "has a type that nobody knows": (GOOD.replace("strength: float", 'strength: "Flaot"'), "Odd", "Flaot"),
}


@pytest.fixture
def nothing_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "plugins"]:
        monkeypatch.delitem(sys.modules, module)


@pytest.mark.usefixtures("nothing_imported")
def test_names_are_found_without_importing_a_plugin(plugin_distribution: Install) -> None:
    plugin_distribution("stranger", "raise RuntimeError", attacks={"odd": "Odd"})
    assert "odd" in registry.names("attacks")
    assert {"clean", "fgsm", "pgd"} < set(registry.names("attacks"))
    assert all(registry.names(kind) for kind in KINDS)
    assert not [name for name in sys.modules if name.partition(".")[0] in ("plugins", "stranger")]


@pytest.mark.usefixtures("nothing_imported")
def test_one_plugin_is_imported_for_the_one_asked_for() -> None:
    assert boundary.load("attacks", "fgsm").__name__ == "FGSM"
    assert {name for name in sys.modules if name.startswith("plugins.")} == {"plugins.attacks", "plugins.attacks.fgsm"}


@pytest.mark.parametrize(("name", "near"), [("pdg", "pgd"), ("torchattack_pgd", "torchattacks_pgd"), ("fgms", "fgsm")])
def test_an_unknown_name_gets_the_nearest(name: str, near: str) -> None:
    with pytest.raises(BenchError, match=rf"component of attacks: no such name '{name}'; did you mean .*\b{near}\b"):
        registry.find("attacks", name)


def test_an_unknown_name_without_a_near_one_gets_all() -> None:
    with pytest.raises(BenchError, match="known: none, pgd_at"):
        registry.find("defenses", "zzz")


def test_a_distribution_adds_a_component(plugin_distribution: Install) -> None:
    plugin_distribution("stranger", GOOD, attacks={"odd": "Odd"})
    made = config.configure({"attacks": {"odd": {"strength": "1/2"}}}, "attacks", "odd")
    assert not made.fault
    assert (made.distribution, made.version, made.parameters) == ("stranger", "1.0", {"strength": 0.5})
    assert boundary.bind("attacks", made.component).offers("perturb")
    assert not boundary.bind("attacks", made.component).offers("step")


@pytest.mark.parametrize(("source", "entry", "error"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_plugin_is_named_with_its_error(
    source: str, entry: str | None, error: str, plugin_distribution: Install
) -> None:
    plugin_distribution("stranger", source, attacks={"odd": entry})
    told = config.configure({}, "attacks", "odd").fault
    assert error in told
    assert "odd" in told.lower()
    assert "\n" not in told
    assert config.configure({}, "attacks", "pgd").fault == ""
    assert "odd" in listing("attacks", "tiny", None)


@pytest.mark.parametrize(
    ("kind", "lacks"),
    [
        ("datasets", "facts(self, roots), locate(self, roots), load(self, files)"),
        ("models", "build(self, preparation)"),
        ("metrics", "measure(self, outcome, facts)"),
    ],
)
def test_what_every_component_of_a_kind_needs(kind: str, lacks: str, plugin_distribution: Install) -> None:
    source = """
        from dataclasses import dataclass

        @dataclass(frozen=True)
        class Odd:
            strength: float = 1.0
    """
    plugin_distribution("stranger", source, **{kind: {"odd": "Odd"}})
    told = config.configure({}, kind, "odd").fault
    assert told == f"plugin 'odd' ({kind}, from stranger 1.0) breaks the boundary: lacks {lacks}"


def test_an_attack_of_two_shapes_is_refused(plugin_distribution: Install) -> None:
    both = (
        GOOD
        + """
        @hookimpl
        def start(self, batch):
            return {"x_adv": batch.x}

        @hookimpl
        def step(self, state):
            return state
    """
    )
    plugin_distribution("stranger", both, attacks={"odd": "Odd"})
    assert "gives both perturb and start with step; one of them" in config.configure({}, "attacks", "odd").fault


def test_the_boundary_of_this_harness_is_understood(plugin_distribution: Install) -> None:
    for version in range(OLDEST, VERSION + 1):
        source = GOOD.replace("norms: Class", f"boundary: ClassVar[int] = {version}\n        norms: Class")
        plugin_distribution(f"stranger{version}", source, attacks={f"odd{version}": "Odd"})
        assert config.configure({}, "attacks", f"odd{version}").fault == ""


def test_a_field_with_a_name_of_the_harness_is_a_fault(plugin_distribution: Install) -> None:
    source = """
        from dataclasses import dataclass

        @dataclass(frozen=True)
        class Odd:
            training: int = 3
    """
    plugin_distribution("stranger", source, models={"odd": "Odd"})
    assert "the harness owns the name 'training'" in config.configure({}, "models", "odd").fault


@pytest.mark.usefixtures("workplace")
def test_a_request_goes_on_beside_a_broken_plugin(plugin_distribution: Install) -> None:
    plugin_distribution("stranger", "raise RuntimeError('no licence')", attacks={"odd": "Odd"})
    request = config.resolve(Options(attacks=["fgsm", "odd"]))
    assert "no licence" in request.attacks["odd"].fault
    assert request.attacks["odd"].component is None
    assert request.attacks["fgsm"].component is not None


def test_a_built_in_wins_a_clash_and_it_is_said(plugin_distribution: Install) -> None:
    # "aaa" sorts before the built-in distribution: it is not the alphabet that decides.
    plugin_distribution("aaa", GOOD, attacks={"pgd": "Odd"})
    assert boundary.load("attacks", "pgd").__module__ == "plugins.attacks.pgd"
    assert registry.clashes() == ["attacks: 'pgd' is that of adversarial-bench, not of aaa"]
    assert "note: attacks: 'pgd' is that of adversarial-bench, not of aaa" in listing(None, "tiny", None)


def test_between_strangers_the_first_by_name_wins_and_it_is_said(plugin_distribution: Install) -> None:
    plugin_distribution("zebra", GOOD, attacks={"odd": "Odd"})
    plugin_distribution("antelope", GOOD, attacks={"odd": "Odd"})
    assert registry.find("attacks", "odd").distribution == "antelope"
    assert registry.clashes() == ["attacks: 'odd' is that of antelope, not of zebra"]


def test_there_is_no_clash_between_kinds(plugin_distribution: Install) -> None:
    plugin_distribution("stranger", GOOD, defenses={"pgd": "Odd"})
    assert registry.clashes() == []
    assert registry.names("defenses") == ["none", "pgd", "pgd_at"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_built_in_component_loads_and_keeps_the_boundary(kind: str) -> None:
    for name in registry.names(kind):
        made: Any = config.configure({}, kind, name)
        assert made.fault == ""
        assert registry.find(kind, name).built_in
