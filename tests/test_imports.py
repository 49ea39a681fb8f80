"""Who may import whom, and what the light commands must not import."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import resolve_name
from pathlib import Path
from typing import NamedTuple

import pytest

from harness import registry
from harness.types import KINDS

TOP = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "numpy", "sklearn", "torchvision", "timm", "scipy"}

# Runs a command and says on the last line of standard error which modules it has imported.
SPY = """
import json, sys
sys.argv = ["bench", *sys.argv[1:]]
import cli
try:
    cli.main()
except SystemExit as end:
    assert not end.code, end.code
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


class Import(NamedTuple):
    """One import of one of our modules. ``when``: at import time, in a function, or never (for types only)."""

    importer: str
    imported: str
    when: str


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(TOP).with_suffix("").parts).removesuffix(".__init__")


def sources(*places: str) -> list[Path]:
    found = [path for place in places for path in ((TOP / place).rglob("*.py") if place != "cli.py" else [TOP / place])]
    assert found
    return sorted(found)


MODULES = {module_of(path): path for path in sources("harness", "plugins", "cli.py")}


def imports_of(path: Path) -> Iterator[Import]:
    yield from _imports(ast.parse(path.read_text()), module_of(path), "at once")


def _imports(node: ast.AST, importer: str, when: str) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(importer, alias.name, when) for alias in child.names if alias.name in MODULES)
        elif isinstance(child, ast.ImportFrom):
            package = importer if MODULES[importer].name == "__init__.py" else importer.rpartition(".")[0]
            name = (
                resolve_name("." * child.level + (child.module or ""), package) if child.level else child.module or ""
            )
            inside = [f"{name}.{alias.name}" for alias in child.names]
            found = {module if module in MODULES else name for module in inside}
            yield from (Import(importer, module, when) for module in sorted(found) if module in MODULES)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from _imports(child, importer, "never")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _imports(child, importer, "in a function" if when == "at once" else when)
        else:
            yield from _imports(child, importer, when)


IMPORTS = [found for path in MODULES.values() for found in imports_of(path)]
AT_RUN_TIME = [found for found in IMPORTS if found.when != "never"]


def imported_by(module: str, imports: Sequence[Import] = AT_RUN_TIME) -> set[str]:
    return {found.imported for found in imports if found.importer == module}


def test_the_imports_are_seen() -> None:
    assert Import("harness.plan", "harness.steps", "at once") in IMPORTS
    assert Import("harness.plan", "harness.registry", "at once") in IMPORTS  # `from harness import registry`
    assert Import("cli", "harness.run", "in a function") in IMPORTS
    assert Import("harness.types", "harness.randomness", "never") in IMPORTS
    assert len({found.importer for found in IMPORTS}) > 40


# --- directions

FOUNDATION = {"harness.errors", "harness.types"}
FIRST = FOUNDATION | {
    f"harness.{name}"
    for name in (
        *("hookspecs", "coercion", "keys", "recipe", "layers", "settings", "request", "registry", "single_file"),
        *("gives", "boundary"),
    )
}
ALLOWED = {
    "harness.errors": set[str](),
    "harness.types": set[str](),
    "harness.hookspecs": FOUNDATION,
    "harness.keys": {"harness.hookspecs"},
    "harness.recipe": {"harness.hookspecs", "harness.keys"},
    "harness.coercion": FOUNDATION,
    "harness.single_file": FOUNDATION | {"harness.hookspecs"},
    "harness.registry": FOUNDATION | {"harness.hookspecs", "harness.single_file"},
    "harness.gives": {"harness.types"},
    "harness.boundary": FOUNDATION | {"harness.gives", "harness.hookspecs", "harness.registry"},
    "harness.layers": FOUNDATION | {"harness.registry"},
    "harness.settings": FOUNDATION | {"harness.coercion", "harness.layers"},
    "harness.request": FOUNDATION | {"harness.recipe", "harness.settings"},
    "harness.config": FIRST,
    "harness.steps": FOUNDATION | {"harness.recipe", "harness.request"},
    "harness.plan": FIRST | {"harness.locating", "harness.steps"},
    "harness.estimate": FIRST | {"harness.steps"},
}


@pytest.mark.parametrize("module", ALLOWED)
def test_planning_rests_on_what_stands_below_it(module: str) -> None:
    assert imported_by(module) <= ALLOWED[module]


def test_only_the_command_and_its_text_stand_above_the_flow() -> None:
    assert {found.importer for found in IMPORTS if found.imported == "harness.run"} == {
        "cli",
        "harness.report.prospect",
        "harness.illustration.drawing",
        *("harness.api.evaluating", "harness.api.results"),
    }
    assert {found.importer for found in IMPORTS if found.imported == "cli"} == set()


def test_executors_are_started_by_the_flow_alone() -> None:
    importers = {found.importer for found in IMPORTS if found.imported.startswith("harness.executors.")}
    drawing = {"harness.illustration.drawing", "harness.illustration.modelled"}  # which asks one for models and images
    assert importers <= {"harness.run", "harness.executors", "harness.executors.local", *drawing}


STEPS = (
    *("data", "training", "assault", "attacking", "doubting", "engine", "folding", "judging", "looking", "standing"),
    *("composition", "statistics", "subject", "undisturbed", "validity"),
)


def test_steps_do_not_know_the_plan_nor_what_runs_them() -> None:
    steps = [f"harness.{name}" for name in STEPS]
    above = {f"harness.{name}" for name in ("steps", "plan", "run", "estimate", "request", "config")} | {"cli"}
    for module in steps:
        assert not imported_by(module) & above, module


def test_the_store_knows_nothing_but_nouns() -> None:
    for module in MODULES:
        if module.startswith("harness.store"):
            outside = {name for name in imported_by(module) if not name.startswith("harness.store")}
            assert outside <= FOUNDATION, module


def test_the_harness_never_imports_a_plugin() -> None:
    assert [f for f in IMPORTS if f.importer.startswith("harness") and f.imported.startswith("plugins")] == []
    assert "plugins" not in {word for path in sources("harness") for word in _string_imports(path)}


def _string_imports(path: Path) -> Iterator[str]:
    """First words of the dotted names that a file gives to ``import_module`` or ``__import__``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from (str(a.value).partition(".")[0] for a in node.args if isinstance(a, ast.Constant))


OFFERED = {
    f"harness.{name}"
    for name in (
        *("types", "hookspecs", "errors", "randomness", "statistics", "locating", "splitting", "weights"),
        *("analysis.calibration", "analysis.confusion", "tasks.captioning"),
        *("captioning.vocabulary", "captioning.text", "captioning.scores"),
    )
}


def test_plugins_import_only_what_is_offered_to_them() -> None:
    found = [f for f in IMPORTS if f.importer.startswith("plugins") and f.imported.startswith("harness")]
    assert {f.imported for f in found if f.when != "never"} <= OFFERED
    assert {f.imported for f in found if f.when == "never"} <= OFFERED


def test_there_are_no_import_cycles() -> None:
    graph = {module: imported_by(module, [f for f in IMPORTS if f.when == "at once"]) for module in MODULES}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path, module])
        if module not in done:
            for other in graph[module]:
                visit(other, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())
    assert done == set(MODULES)


# --- names

# Component names that are words of the language, which the harness may use for something else.
WORDS = {"clean", "none", "accuracy", "passes", "seconds", "perturbation", "square", "corruption", "captioner", "bleu"}
WORDS |= {"numpy", "file"}
# Packages whose version is recorded, and an example of what to type: nothing depends on them.
NAMED = {
    *(("harness/provenance.py", package) for package in ("timm", "torchattacks", "torchvision")),
    ("harness/layers.py", "pgd"),
    ("harness/autoaugment.py", "CIFAR10"),  # torchvision's name of the policy
}


def test_the_harness_names_no_component() -> None:
    components = {name for kind in KINDS for name in registry.names(kind)} | {"torchattacks"}
    pattern = re.compile(rf"\b({'|'.join(sorted(components - WORDS))})\b", re.IGNORECASE)
    assert pattern.search("fgsm and PGD")
    found = set()
    for path in sources("harness"):
        place = path.relative_to(TOP).as_posix()
        for text in _code_strings(path):
            found |= {(place, name) for name in pattern.findall(text)}
    assert found == NAMED


def _code_strings(path: Path) -> Iterator[str]:
    """Names and texts that a file's code works with: no comments, no docstrings."""
    tree = ast.parse(path.read_text())
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value
        elif isinstance(node, ast.Name | ast.Attribute):
            yield node.id if isinstance(node, ast.Name) else node.attr


# --- cost


def imported_modules(folder: Path, *arguments: str) -> set[str]:
    command = [sys.executable, "-c", SPY, *arguments]
    told = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    return set(json.loads(told.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    ("command", "unwanted"),
    [
        ("--help", HEAVY | {"sqlalchemy", "rich", "msgspec", "pydantic"}),
        ("list", HEAVY | {"sqlalchemy", "rich", "msgspec", "pydantic"}),
        ("table", HEAVY | {"sqlalchemy"}),
        pytest.param("info attacks pgd", HEAVY | {"sqlalchemy"}, marks=pytest.mark.slow),
        pytest.param("info datasets cifar100", HEAVY | {"sqlalchemy"}, marks=pytest.mark.slow),
        ("run --dry-run", HEAVY | {"sqlalchemy"}),
    ],
)
@pytest.mark.usefixtures("small_store")
def test_a_light_command_imports_nothing_heavy(command: str, unwanted: set[str], workplace: Path) -> None:
    modules = imported_modules(workplace, *command.split())
    assert "typer" in modules  # or else the list is not what it seems
    assert modules & unwanted == set()


@pytest.mark.slow
def test_a_run_on_the_digits_imports_only_what_it_computes_with(workplace: Path) -> None:
    """Training and attacking a residual network, and the intervals of what comes out."""
    cell = ("--models", "resnet_original", "--defenses", "none", "--attacks", "pgd", "--limit", "20")
    modules = imported_modules(workplace, "run", *cell, "--set", "models.resnet_original.training.epochs=1")
    assert {"torch.optim", "plugins.networks", "plugins.metrics.seconds"} <= modules
    libraries = {
        "torchvision",
        "timm",
        "transformers",
        "torchattacks",
        "sklearn",
        "statsmodels",
        "pandas",
        "matplotlib",
    }
    assert modules & (libraries | {"scipy.stats", "torch._dynamo", "sympy"}) == set()


def test_listing_imports_no_plugin(workplace: Path) -> None:
    assert "plugins" not in imported_modules(workplace, "list")
