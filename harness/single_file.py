"""A plugin that is one file and no package: its components by name without running it, its bytes in the content key."""

from __future__ import annotations

import ast
import hashlib
import re
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import BenchError, unknown


@dataclass(frozen=True)
class FileEntry:
    """One component of a file, announced as an entry point of a package would announce it."""

    kind: str
    name: str
    class_name: str
    path: Path
    source: bytes = field(repr=False)

    @property
    def value(self) -> str:
        return f"{self.path}:{self.class_name}"

    @property
    def digest(self) -> str:
        """Of the file's bytes: another file is another component, whatever it is called."""
        return hashlib.sha256(self.source).hexdigest()[:16]

    def load(self) -> Any:
        """The class. What the file raises when it is run is raised here."""
        name = f"bench_file_{hashlib.sha256(str(self.path).encode() + self.source).hexdigest()}"
        if name not in sys.modules:
            module = types.ModuleType(name)
            module.__file__ = str(self.path)
            sys.modules[name] = module  # before it is run, for a dataclass looks its module up
            try:
                exec(compile(self.source, str(self.path), "exec"), module.__dict__)
            except BaseException:
                del sys.modules[name]
                raise
        return getattr(sys.modules[name], self.class_name)


def announced(path: Path) -> list[FileEntry]:
    """The components of a file: its classes with methods marked ``@hookimpl``, but for those that begin with ``_``.

    Each is called as its class in snake_case, or as ``name: ClassVar[str] = "..."`` says. Raises BenchError.
    """
    where = f"plugin file {path}"
    try:
        source = path.read_bytes()
        tree = ast.parse(source, filename=str(path))
    except OSError as error:
        raise BenchError(f"{where}: cannot be read: {error.strerror}; give the path of a Python file") from error
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise BenchError(f"{where}: is not Python{line}: {getattr(error, 'msg', error)}") from error
    classes: dict[str, ast.ClassDef] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and classes.setdefault(node.name, node) is not node:
            raise BenchError(f"{where}: has two classes {node.name}, line {node.lineno}; give one another name")
    found: list[FileEntry] = []
    for name, node in classes.items():
        hooks = set(_hooks(node, classes))
        if hooks and not name.startswith("_"):
            kind, called = _kind(hooks, f"{where}: {name}"), _name(node, f"{where}: {name}")
            found.append(FileEntry(kind, called, name, path.resolve(), source))
    if not found:
        raise BenchError(f"{where}: no component in it; a frozen dataclass with methods marked @hookimpl is needed")
    return found


def _hooks(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> Iterator[str]:
    """The methods of a class and of those classes of the file that it inherits from that are marked ``@hookimpl``."""
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in classes and classes[base.id].lineno < node.lineno:
            yield from _hooks(classes[base.id], classes)
    for part in node.body:
        if isinstance(part, ast.FunctionDef):
            marks = (ast.unparse(mark).partition("(")[0].rpartition(".")[2] for mark in part.decorator_list)
            if "hookimpl" in marks:
                yield part.name


def _kind(hooks: set[str], where: str) -> str:
    from harness.hookspecs import SPECS

    known = {hook: kind for kind, spec in SPECS.items() for hook in vars(spec) if not hook.startswith("_")}
    kinds = sorted({known[hook] for hook in hooks if hook in known})
    if not kinds:
        raise unknown(f"{where}: hook", min(hooks), known)
    if len(kinds) > 1:
        raise BenchError(f"{where}: has hooks of {' and '.join(kinds)}; a class is of one kind")
    return kinds[0]


def _name(node: ast.ClassDef, where: str) -> str:
    for part in node.body:
        if _names_it(part):
            given = getattr(part, "value", None)
            if not (isinstance(given, ast.Constant) and isinstance(given.value, str) and given.value.isidentifier()):
                shown = ast.unparse(given) if isinstance(given, ast.expr) else "nothing"
                raise BenchError(f"{where}: name: got {shown}; a word of letters, figures and _ in quotes is needed")
            return given.value
    return snake_case(node.name)


def _names_it(part: ast.stmt) -> bool:
    """Whether it is ``name = ...``, a ClassVar or without a type; one with another type is a parameter."""
    if isinstance(part, ast.AnnAssign):
        return ast.unparse(part.target) == "name" and "ClassVar" in ast.unparse(part.annotation)
    return isinstance(part, ast.Assign) and "name" in map(ast.unparse, part.targets)


def snake_case(name: str) -> str:
    """``HalfSteps`` -> ``half_steps``, ``NIFGSM`` -> ``nifgsm``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
