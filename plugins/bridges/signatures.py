"""The parameters of another library's attack, read from its source without importing it.

Importing torchattacks, foolbox or ART takes seconds; planning a run and ``bench info`` need names, types, defaults.
"""

from __future__ import annotations

import ast
import functools
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

REQUIRED = object()
"""The default of a parameter that has none."""
_SPOKEN = ("alpha", "beta", "gamma", "eps", "eta", "mu", "rho", "sigma", "tau", "lambda")
GREEK = dict(zip("αβγεημρστλ", _SPOKEN, strict=True))
PLAIN: Mapping[str, tuple[type, ...]] = {"bool": (bool,), "int": (int,), "float": (int, float), "str": (str,)}
_CONSTANTS = {"np": SimpleNamespace(inf=math.inf), "math": math, "float": float, "__builtins__": {}}


@dataclass(frozen=True)
class Parameter:
    """One parameter. name: in Latin letters; spelled: as the library has it; type: as the library writes it."""

    name: str
    spelled: str
    type: str
    default: Any

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values of a Literal, none elsewhere."""
        found = re.findall(r"Literal\[([^\]]*)\]", self.type)
        return tuple(value for part in found for value in ast.literal_eval(f"({part},)"))

    @property
    def kinds(self) -> tuple[str, ...]:
        """What it takes, of bool, int, float, str, dict, list and None; nothing where it wants an object."""
        text = re.sub(r"\b(Literal|Callable)\[[^\[\]]*\]", "", self.type)
        text = re.sub(r"\b(dict|Dict|tuple|Tuple|list|List|Sequence)\[[^\[\]]*\]", r"\1", text)
        words = set(re.findall(r"\w+", text))
        kinds = [kind for kind in PLAIN if kind in words]
        kinds += ["dict"] if words & {"dict", "Dict"} else []
        kinds += ["list"] if words & {"tuple", "Tuple", "list", "List", "Sequence"} else []
        kinds += ["None"] if words & {"None", "Optional", "NoneType"} or self.default is None else []
        return tuple(kinds) if set(kinds) - {"None"} else ()

    def checked(self, value: Any) -> Any:
        """The value in the one form that is stored. Raises ValueError: what was got, what is allowed."""
        if self.choices and value in self.choices and type(value) in {type(c) for c in self.choices}:
            return value
        if "None" in self.kinds and value in (None, "none"):
            return None
        if "float" in self.kinds and "str" not in self.kinds and isinstance(value, str):
            value = _number(value)
        if isinstance(value, bool):
            fits = "bool" in self.kinds
        elif isinstance(value, list | tuple):
            fits, value = "list" in self.kinds, list(value)
        elif isinstance(value, Mapping):
            fits, value = "dict" in self.kinds, dict(value)
        else:
            fits = any(isinstance(value, PLAIN[kind]) for kind in self.kinds if kind in PLAIN and kind != "bool")
        if not fits or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"got {value!r}; {self.wanted} is needed")
        return float(value) if isinstance(value, int) and "int" not in self.kinds and "float" in self.kinds else value

    @property
    def wanted(self) -> str:
        """What it takes, for a reader."""
        takes = [repr(choice) for choice in self.choices] + list(self.kinds)
        return " or ".join(takes) or "an object of the library, which no table can hold,"


@functools.cache
def parameters_of(package: str, folder: str, name: str) -> tuple[Parameter, ...]:
    """All parameters of a class's constructor, or of a function. Raises ValueError where the library lacks it."""
    node = _definition(package, folder, name)
    if node is None:
        raise ValueError(f"{package} as it is installed has no {name}")
    function = node if isinstance(node, ast.FunctionDef) else _constructor(package, folder, node)
    if function is None:
        return ()
    documented = _documented(ast.get_docstring(node) or "")
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    values: list[ast.expr | None] = [None] * (len(positional) - len(given.defaults))
    pairs = zip([*positional, *given.kwonlyargs], [*values, *given.defaults, *given.kw_defaults], strict=True)
    return tuple(_parameter(argument, value, documented) for argument, value in pairs if argument.arg != "self")


def names_in(package: str, folder: str) -> Sequence[str]:
    """Every class and function that the folder defines."""
    return sorted(_definitions(package, folder))


def latin(name: str) -> str:
    """A name that an English keyboard can write: μ_init -> mu_init."""
    return "".join(GREEK.get(letter, letter) for letter in name)


def _parameter(argument: ast.arg, value: ast.expr | None, documented: Mapping[str, str]) -> Parameter:
    default = REQUIRED if value is None else _value(value)
    kind = _text(argument.annotation) if argument.annotation else documented.get(argument.arg, "")
    if not kind and default is not REQUIRED:
        kind = type(default).__name__
    return Parameter(latin(argument.arg), argument.arg, kind, default)


def _text(annotation: ast.expr) -> str:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return annotation.value
    return ast.unparse(annotation)


def _value(node: ast.expr) -> Any:
    """A default as a value; where it is none that can be computed, as it is written."""
    text = ast.unparse(node)
    try:
        # Arithmetic on constants such as 8 / 255 and float("inf"), in code that is about to be imported anyway.
        return eval(text, dict(_CONSTANTS))
    except Exception:
        return text


def _documented(text: str) -> dict[str, str]:
    """Types that only a docstring tells: ``steps (int): number of steps.``"""
    return dict(re.findall(r"^\s*(\w+) \((bool|int|float|str|tuple)\)", text, re.MULTILINE))


def _number(text: str) -> Any:
    try:
        return float(Fraction(text.replace(" ", ""))) if "/" in text else float(text)
    except (ValueError, ArithmeticError):
        return text


@functools.cache
def _definitions(package: str, folder: str) -> dict[str, Path]:
    """The file of every class and function at the top of a module; what lies higher in the folders counts first."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ValueError(f"{package} is not installed; pip install 'adversarial-bench[bridges]' gets it")
    root = Path(spec.origin).parent / folder
    found: dict[str, Path] = {}
    files = root.rglob("*.py") if root.is_dir() else [root]
    for path in sorted(files, key=lambda p: (len(p.parts), p.name)):
        for name in re.findall(r"^(?:class|def) (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE):
            found.setdefault(name, path)
    return found


def _definition(package: str, folder: str, name: str) -> ast.ClassDef | ast.FunctionDef | None:
    path = _definitions(package, folder).get(name)
    if path is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library's own escape sequences
        nodes = ast.parse(path.read_text(encoding="utf-8")).body
    wanted = (node for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name)
    return next(wanted, None)


def _constructor(package: str, folder: str, node: ast.ClassDef) -> ast.FunctionDef | None:
    """The constructor of a class or of the nearest class it comes from."""
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            return part
    for base in node.bases:
        found = _definition(package, folder, base.id) if isinstance(base, ast.Name) else None
        constructor = _constructor(package, folder, found) if isinstance(found, ast.ClassDef) else None
        if constructor is not None:
            return constructor
    return None
