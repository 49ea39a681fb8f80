"""``bench new``: what it writes can be installed, keeps the contract, and stands in the table four commands later."""

from __future__ import annotations

import ast
import json
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from outsider import Outsider

from harness.errors import BenchError
from harness.scaffold.writing import TEMPLATES, write
from harness.single_file import announced

TOP = Path(__file__).resolve().parents[1]
KINDS = tomllib.loads((TEMPLATES / "kinds.toml").read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_is_written_whole(kind: str, tmp_path: Path) -> None:
    written = write(kind, "foo", tmp_path)
    assert written.folder == tmp_path / f"foo_{kind}"
    assert {str(path.relative_to(written.folder)) for path in written.folder.rglob("*") if path.is_file()} == set(
        written.files
    )
    project = tomllib.loads((written.folder / "pyproject.toml").read_text())["project"]
    assert project["entry-points"] == {f"bench.{KINDS[kind]['plural']}": {"foo": f"foo_{kind}:Foo"}}
    assert list(tmp_path.iterdir()) == [written.folder]
    # What is left to be filled in is GitHub's.
    texts = [(written.folder / file).read_text().replace("${{ vars.", "") for file in written.files]
    assert "$" not in "".join(texts)
    assert len(written.commands) + 1 <= 5
    (entry,) = announced(written.folder / f"foo_{kind}.py")
    assert (entry.kind, entry.name) == (KINDS[kind]["plural"], "foo")


@pytest.mark.parametrize("kind", KINDS)
def test_a_runner_installs_the_harness_and_then_the_package(kind: str, tmp_path: Path) -> None:
    folder = write(kind, "foo", tmp_path).folder
    (job,) = yaml.safe_load((folder / ".github" / "workflows" / "test.yml").read_text())["jobs"].values()
    commands = [step["run"] for step in job["steps"] if "run" in step]
    needed = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["dependencies"]
    assert commands == [
        f"pip install \"${{{{ vars.ADVERSARIAL_BENCH || '{needed[0]}' }}}}\"",
        'pip install -e ".[test]"',
        "pytest",
        f"bench check foo --kind {KINDS[kind]['plural']}",
    ]
    assert "`ADVERSARIAL_BENCH`" in (folder / "README.md").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_the_source_is_short_and_imports_little_of_the_harness(kind: str, tmp_path: Path) -> None:
    written = write(kind, "foo", tmp_path)
    source = (written.folder / f"foo_{kind}.py").read_text()
    found = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    names = [alias.name for node in found if (node.module or "").startswith("harness") for alias in node.names]
    assert 1 <= len(names) <= 3
    assert len(source.splitlines()) <= 50
    assert max(map(len, source.splitlines())) <= 120


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("atack", "foo", "no such name 'atack'; did you mean attack"),
        ("attack", "my-attack", "got 'my-attack'; small letters"),
        ("attack", "Foo", "got 'Foo'; small letters"),
        ("attack", "2fast", "got '2fast'; small letters"),
        ("attack", "../foo", "got '../foo'; small letters"),
        ("attack", "class", "got 'class'; small letters"),
        ("attack", "", "got ''; small letters"),
        ("attack", "pgd", "'pgd' is that of adversarial-bench already"),
        ("model", "vit_ft", "'vit_ft' is that of the registry already"),
        ("attack", "a" * 300, "cannot be written: File name too long"),
        ("attack", "there", "there_attack exists already"),
    ],
)
def test_a_bad_name_is_refused_and_nothing_is_written(kind: str, name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "there_attack").mkdir()
    with pytest.raises(BenchError, match=message):
        write(kind, name, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["there_attack"]


def test_a_name_of_ones_own_registry_is_taken(workplace: Path) -> None:
    (workplace / "registry.toml").write_text('[attacks.mine]\ncomponent = "pgd"\n')
    with pytest.raises(BenchError, match="'mine' is that of the registry already"):
        write("attack", "mine", workplace)


def test_a_place_that_nothing_can_be_written_to_is_refused() -> None:
    with pytest.raises(BenchError, match=r"^bench new attack: /proc/foo_attack cannot be written: .*another place"):
        write("attack", "foo", Path("/proc"))


def test_a_place_with_a_space_is_quoted_for_the_shell(tmp_path: Path) -> None:
    place = tmp_path / "my plugins"
    place.mkdir()
    written = write("attack", "foo", place)
    assert shlex.split(written.commands[0]) == ["pip", "install", "-e", str(written.folder)]


def test_what_is_written_has_the_style_of_the_harness(tmp_path: Path) -> None:
    for kind in KINDS:
        write(kind, f"my_{kind}", tmp_path)
    for command in (["ruff", "check"], ["ruff", "format", "--check"]):
        tried = in_order(tmp_path, *command, "--no-cache", "--config", str(TOP / "pyproject.toml"), ".")
        assert tried.returncode == 0, tried.stdout


@pytest.mark.slow  # half a minute where `make types`, whose cache it takes, has not been run
def test_what_is_written_has_types_that_fit(tmp_path: Path) -> None:
    folders = [write(kind, f"my_{kind}", tmp_path).folder for kind in KINDS]
    typed = in_order(TOP, "mypy", *(str(folder / f"{folder.name}.py") for folder in folders))
    assert typed.returncode == 0, typed.stdout


def in_order(place: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=place, capture_output=True, text=True, timeout=600, check=False
    )


def test_a_place_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"--into .*: no such folder"):
        write("attack", "foo", tmp_path / "none")


class Packages(NamedTuple):
    """Somebody's environment with a package of each kind, and the commands that were printed when they were made."""

    outsider: Outsider
    commands: Mapping[str, Sequence[Sequence[str]]]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    outsider, commands = Outsider(tmp_path_factory.mktemp("outsider")), {}
    for kind in KINDS:
        first, *lines = outsider.bench("new", kind, f"my_{kind}").splitlines()
        assert first.startswith(f"my_{kind}_{kind}: ")
        install, *commands[kind] = [shlex.split(line) for line in lines]
        assert install == ["pip", "install", "-e", f"my_{kind}_{kind}"]
    outsider.install(*(outsider.place / f"my_{kind}_{kind}" for kind in KINDS))
    return Packages(outsider, commands)


@pytest.mark.slow
def test_what_is_installed_is_listed_and_keeps_the_contract(packages: Packages) -> None:
    listed = packages.outsider.bench("list")
    assert all(f"  my_{kind} " in listed for kind in KINDS)
    tests = [f"my_{kind}_{kind}" for kind in KINDS]
    tested = packages.outsider.python("-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", *tests)
    assert tested.returncode == 0, tested.stdout
    assert "failed" not in tested.stdout
    assert "passed" in tested.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_commands_that_it_prints_lead_to_a_row_of_the_table(kind: str, packages: Packages) -> None:
    check, run, show = packages.commands[kind]
    assert [command[:2] for command in (check, run, show)] == [["bench", word] for word in ("check", "run", "table")]
    packages.outsider.bench(*check[1:])
    few = ("--limit", "60", "--set", "models.resnet_original.training.epochs=1")
    place = ("--store", f"{kind}.db")
    packages.outsider.bench(*run[1:], *few, *place)
    found = json.loads(packages.outsider.bench(*show[1:], *place, "--format", "json"))
    names = ("dataset", "model", "attack", "defense", "metric")
    assert any(f"my_{kind}" in [row.get(column) for column in names] for row in found), found
    assert all(row["status"] == "ok" for row in found)
