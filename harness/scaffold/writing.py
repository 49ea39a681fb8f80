"""``bench new``: a package of one component that can be installed, in a folder of its own."""

from __future__ import annotations

import keyword
import re
import shlex
import shutil
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from string import Template

from harness import layers, registry
from harness.errors import BenchError, unknown

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Written:
    """A new package: its folder, its files in it, and the commands that come next."""

    folder: Path
    files: tuple[str, ...]
    commands: tuple[str, ...]


def write(kind: str, name: str, into: Path) -> Written:
    """Writes the package of a component into a new folder of ``into``, whole or not at all.

    kind: in the singular, "attack" for one. Raises BenchError for a name that cannot be one or is taken, and for a
    folder that exists or cannot be made.
    """
    kinds = tomllib.loads((TEMPLATES / "kinds.toml").read_text(encoding="utf-8"))
    if kind not in kinds:
        raise unknown("bench new", kind, kinds)
    plural = kinds[kind]["plural"]
    _check_name(kind, plural, name)
    if not into.is_dir():
        raise BenchError(f"--into {into}: no such folder; name one that exists")
    module = f"{name}_{kind}"
    folder = into / module
    words = {
        "kind": kind,
        "plural": plural,
        "name": name,
        "module": module,
        "distribution": module.replace("_", "-"),
        "classname": "".join(part.capitalize() for part in name.split("_")),
        "version": version(registry.BUILT_IN),
        "says": kinds[kind]["says"],
    }
    words |= {step: Template(kinds[kind][step]).substitute(words) for step in ("run", "show")}
    files = {
        f"{module}.py": f"{kind}.py.txt",
        "tests/test_contract.py": "test.py.txt",
        "pyproject.toml": "pyproject.toml.txt",
        "README.md": "README.md.txt",
        ".github/workflows/test.yml": "test.yml.txt",
        ".gitignore": "gitignore.txt",
    }
    try:
        if folder.exists():
            raise BenchError(
                f"bench new {kind}: {folder} exists already; choose another name, or another place by --into"
            )
        _make(folder, files, words)
    except OSError as error:
        raise BenchError(
            f"bench new {kind}: {folder} cannot be written: {error.strerror}; choose another name, or another place by "
            "--into"
        ) from error
    install = f"pip install -e {shlex.quote(str(folder))}"
    return Written(folder, tuple(files), (install, f"bench check {name} --kind {plural}", words["run"], words["show"]))


def _check_name(kind: str, plural: str, name: str) -> None:
    """Raises BenchError for a name that Python would not take, or that a component or the registry has already."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise BenchError(
            f"bench new {kind}: got {name!r}; small letters, 0 to 9 and _, a letter first, are needed, for example "
            f"my_{kind}"
        )
    if name in layers.available(layers.read(), plural):
        owner = registry.find(plural, name).distribution if name in registry.names(plural) else "the registry"
        raise BenchError(f"bench new {kind}: {name!r} is that of {owner} already; choose another name, my_{name} say")


def _make(folder: Path, files: Mapping[str, str], words: Mapping[str, str]) -> None:
    """Fills the templates of ``files`` in, beside the folder at first, so that a part of it is never seen."""
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        made.chmod(0o755)
        for path, template in files.items():
            text = Template((TEMPLATES / template).read_text(encoding="utf-8")).substitute(words)
            (made / path).parent.mkdir(parents=True, exist_ok=True)
            (made / path).write_text(text, encoding="utf-8")
        made.rename(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
