"""A plugin that is one file: ``--plugin FILE`` puts its components beside those of packages."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import boundary, config, layers, registry
from harness.errors import BenchError
from harness.keys import key_of
from harness.plan import build
from harness.report.catalogue import listing
from harness.request import Options
from harness.single_file import announced, snake_case

pytestmark = pytest.mark.usefixtures("workplace")

MINE = '''
from dataclasses import dataclass
from typing import ClassVar

from harness.hookspecs import hookimpl


class _Base:
    norms: ClassVar[tuple[str, ...]] = ("Linf",)

    @hookimpl
    def perturb(self, batch, threat):
        return threat.project(batch.x + self.strength * threat.eps, batch.x)


@dataclass(frozen=True)
class MyShift(_Base):
    """Adds the whole budget to each pixel. strength: as a share of it."""

    strength: float = 1.0


@dataclass(frozen=True)
class Worst:
    """The worst class. least: images that it needs."""

    least: int = 1

    name: ClassVar[str] = "worst_class"
    unit: ClassVar[str] = "fraction"
    higher_is_better: ClassVar[bool | None] = True

    @hookimpl
    def measure(self, outcome):
        from harness.statistics import rate

        return rate(int(outcome.correct.sum()), len(outcome.label))


class Helper:
    pass
'''
RUN = ("run", "--models", "resnet_original", "--defenses", "none", "--set", "models.resnet_original.training.epochs=1")


@pytest.fixture
def mine() -> Iterator[Path]:
    path = Path("my_attack.py")
    path.write_text(MINE)
    yield path
    registry.plug("--plugin", [])


def test_components_are_found_without_running_the_file(mine: Path) -> None:
    mine.write_text("raise RuntimeError('no licence')\n" + MINE)
    found = [(entry.kind, entry.name, entry.class_name) for entry in announced(mine)]
    assert found == [("attacks", "my_shift", "MyShift"), ("metrics", "worst_class", "Worst")]
    registry.plug("--plugin", [mine])
    assert "my_shift" in registry.names("attacks")
    assert "my_attack.py" in listing("attacks", "tiny", None)
    fault = config.configure({}, "attacks", "my_shift").fault
    assert "plugin 'my_shift' (attacks, from my_attack.py " in fault
    assert "cannot be imported: RuntimeError: no licence" in fault


@pytest.mark.parametrize(
    ("name", "expected"),
    [("HalfSteps", "half_steps"), ("NIFGSM", "nifgsm"), ("PGDLinf", "pgd_linf"), ("VGG16Net", "vgg16_net"), ("A", "a")],
)
def test_a_class_gives_its_name_in_snake_case(name: str, expected: str) -> None:
    assert snake_case(name) == expected


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ('name: ClassVar[str] = "other"', "other"),
        ("name = 'other'", "other"),
        ('name: str = "other"', "worst"),
        ('other = name = "third"', "third"),
    ],
)
def test_a_line_of_the_class_gives_its_name_unless_it_is_a_parameter(line: str, name: str, mine: Path) -> None:
    mine.write_text(MINE.replace('name: ClassVar[str] = "worst_class"', line))
    assert [entry.name for entry in announced(mine)] == ["my_shift", name]


def test_the_bytes_of_the_file_are_in_the_content_key(mine: Path) -> None:
    def key(text: str) -> str:
        mine.write_text(text)
        registry.plug("--plugin", [mine])
        request = config.resolve(Options(models=["resnet_original"], attacks=["my_shift"], defenses=["none"]))
        (cell,) = build(request, [], download=False).cells
        assert not cell.fault
        assert cell.document["attack"][0]["distribution"].startswith("my_attack.py ")
        assert cell.key == key_of(cell.document)
        return cell.key

    first = key(MINE)
    assert key(MINE) == first
    assert key(MINE.replace("self.strength * threat", "2 * self.strength * threat")) != first
    assert key(MINE) == first


def test_an_edited_file_is_run_anew(mine: Path) -> None:
    registry.plug("--plugin", [mine])
    first = boundary.load("attacks", "my_shift")
    assert boundary.load("attacks", "my_shift") is first
    mine.write_text(MINE.replace("strength: float = 1.0", "strength: float = 0.5"))
    registry.plug("--plugin", [mine])
    assert boundary.load("attacks", "my_shift")().strength == 0.5


def test_the_files_of_one_command_are_gone_in_the_next(mine: Path) -> None:
    registry.plug("--plugin", [mine])
    registry.plug("--plugin", [])
    assert "my_shift" not in registry.names("attacks")


WRONG = {
    "is not there": (None, "cannot be read: No such file"),
    "is not Python": ("def", "is not Python, line 1"),
    "has nothing in it": ("x = 1\n", "no component in it"),
    "misspells its only hook": (MINE.replace("def measure", "def mesure"), "'mesure'; did you mean measure"),
    "is of two kinds": (MINE.replace("class Worst", "class Worst(_Base)"), "has hooks of attacks and metrics"),
    "takes a name": (MINE.replace('"worst_class"', '"accuracy"'), "metrics 'accuracy' is that of adversarial-bench"),
    "is no text": ("x = 1\0\n", "is not Python: source code string cannot contain null bytes"),
    "inherits in a circle": ("class A(B): ...\nclass B(A): ...\n", "no component in it"),
    "has a name with a space": (MINE.replace('"worst_class"', '"worst class"'), "got 'worst class'; a word"),
    "has a name that is not written down": (MINE.replace('"worst_class"', "NAME"), "Worst: name: got NAME; a word"),
    "has a name that is no text": (MINE.replace('"worst_class"', "3"), "Worst: name: got 3; a word"),
    "has two classes of a name": (MINE + "\n\nclass Worst:\n    pass\n", "has two classes Worst, line "),
    "takes its own name": (
        MINE + "\n\nclass Best(Worst):\n    name: ClassVar[str] = 'worst_class'\n",
        "metrics 'worst_class' is that of my_attack",
    ),
}


@pytest.mark.parametrize(("source", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_file_is_refused_in_one_line(source: str | None, message: str, mine: Path) -> None:
    mine.unlink()
    if source is not None:
        mine.write_text(source)
    before = registry.names("attacks")
    with pytest.raises(BenchError, match=r"^plugin file ") as error:
        registry.plug("--plugin", [mine])
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert registry.names("attacks") == before


def test_a_registry_names_files_beside_itself(mine: Path) -> None:
    folder = Path("study")
    folder.mkdir()
    mine.rename(folder / "my_attack.py")
    (folder / "registry.toml").write_text(
        '[plugins]\nfiles = ["my_attack.py"]\n[attacks.half]\ncomponent = "my_shift"\nstrength = 0.5\n'
    )
    try:
        tables = layers.read(str(folder / "registry.toml"))
        assert config.configure(tables, "attacks", "half").parameters == {"strength": 0.5}
        layers.read()
        assert "my_shift" not in registry.names("attacks")
    finally:
        registry.plug("registry", [])


@pytest.mark.parametrize("table", ['files = "my_attack.py"', "files = [1]", "fils = []", 'files = ["none.py"]'])
def test_a_wrong_table_of_plugins_is_refused(table: str) -> None:
    Path("registry.toml").write_text(f"[plugins]\n{table}\n")
    with pytest.raises(BenchError, match=r"plugins|none\.py"):
        layers.read()


@pytest.mark.slow
def test_it_runs_from_the_command_line(mine: Path, bench: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    def ok(*arguments: str) -> str:
        ended = bench(*arguments)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    plugin = ("--plugin", "./my_attack.py")
    run = (*RUN, "--attacks", "clean,my_shift", "--limit", "50", *plugin)
    ok(*run)
    assert "2 cached" not in ok(*run, "--metrics", "accuracy,worst_class")  # measured on what is finished
    assert "2 cached" in ok(*run, "--metrics", "accuracy,worst_class")
    rows = json.loads(ok("table", "--metric", "worst_class", "--format", "json", *plugin))
    assert {row["attack"] for row in rows} == {"clean", "my_shift"}
    assert "Adds the whole budget" in ok("info", "attacks", "my_shift", *plugin)
    refused = bench("list", "attacks", "--plugin", "none.py")
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith("bench: error: plugin file ")
    assert "none.py: cannot be read: No such file" in line


@pytest.mark.slow
def test_listing_a_file_runs_nothing_of_it(mine: Path) -> None:
    mine.write_text("import torch\n" + MINE)
    spy = "import sys, cli; sys.argv = ['bench', 'list', '--plugin', 'my_attack.py']\ntry: cli.main()\n"
    spy += "except SystemExit: print('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", spy], capture_output=True, text=True, check=True)
    assert "my_shift" in ended.stdout
    assert ended.stdout.splitlines()[-1] == "False"
