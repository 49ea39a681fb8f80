"""The wheel holds all that runs need, and the lock file agrees with what is declared."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).resolve().parents[1]
LOCK = (TOP / "requirements.lock").read_text()


def declared() -> dict[str, Any]:
    return tomllib.loads((TOP / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=TOP, check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


@pytest.mark.slow
def test_the_wheel_holds_every_source_file_and_the_registry(wheel: zipfile.ZipFile) -> None:
    inside = set(wheel.namelist())
    sources = {
        path.relative_to(TOP).as_posix()
        for package in ("harness", "plugins")
        for path in (TOP / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources - inside == set()
    assert {"cli.py", "harness/registry.toml"} <= inside
    assert not {name for name in inside if name.startswith(("tests", "docs", "registry.toml"))}


@pytest.mark.slow
def test_every_entry_point_names_a_file_of_the_wheel(wheel: zipfile.ZipFile) -> None:
    inside = set(wheel.namelist())
    groups = declared()["project"]["entry-points"]
    assert set(groups) == {"bench.datasets", "bench.models", "bench.attacks", "bench.defenses", "bench.metrics"}
    for group, entries in groups.items():
        for name, value in entries.items():
            module = value.split(":")[0]
            folder, _, file = module.rpartition(".")
            assert folder in (f"plugins.{group.removeprefix('bench.')}", "plugins.bridges")
            assert file.startswith(name)  # numpy is in numpy_arrays
            assert module.replace(".", "/") + ".py" in inside


def test_every_declared_dependency_is_locked_with_hashes() -> None:
    project = declared()["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    wanted = {re.split(r"[^A-Za-z0-9_-]", line)[0].lower().replace("_", "-") for line in lines}
    locked = re.findall(r"^([a-z0-9-]+)==", LOCK, re.MULTILINE)
    assert wanted - set(locked) == set()
    assert all("--hash=sha256:" in block for block in re.split(r"\n(?=[a-z])", LOCK) if "==" in block)


def test_the_lock_names_no_place_to_download_from() -> None:
    assert "://" not in LOCK
    assert "index-url" not in LOCK


def test_the_version_of_the_citation_is_that_of_the_distribution() -> None:
    cited = re.search(r"^version: (.+)$", (TOP / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited
    assert cited[1] == declared()["project"]["version"]
