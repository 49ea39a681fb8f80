"""``bench new``: a package of one component that can be installed, in a folder of its own."""

from __future__ import annotations

import keyword
import re
import shutil
import tempfile
import tomllib
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from string import Template

from harness import registry
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
    folder that exists.
    """
    kinds = tomllib.loads((TEMPLATES / "kinds.toml").read_text(encoding="utf-8"))
    if kind not in kinds:
        raise unknown("bench new", kind, kinds)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise BenchError(
            f"bench new {kind}: got {name!r}; small letters, 0 to 9 and _, a letter first, are needed, for example "
            f"my_{kind}"
        )
    plural = kinds[kind]["plural"]
    if name in registry.names(plural):
        owner = registry.find(plural, name).distribution
        raise BenchError(f"bench new {kind}: {name!r} is that of {owner} already; choose another name, my_{name} say")
    module = f"{name}_{kind}"
    folder = into / module
    if folder.exists():
        raise BenchError(f"bench new {kind}: {folder} exists already; choose another name, or another place by --into")
    if not into.is_dir():
        raise BenchError(f"--into {into}: no such folder; name one that exists")
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
    }
    made = Path(tempfile.mkdtemp(prefix=f".{module}-", dir=into))
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
    commands = (f"pip install -e {folder}", f"bench check {name} --kind {plural}", words["run"], words["show"])
    return Written(folder, tuple(files), commands)
