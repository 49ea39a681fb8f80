"""What plugins give back and say of themselves, held against what the boundary asks for. Names no plugin.

A look gets what a hook gave and what it was given, and says what is wrong, or None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsFloat

from harness.types import ANY_TASK, CAPTIONING, NORMS, SEVERITY, CaptionedSplit, Facts, Split

if TYPE_CHECKING:
    from torch import Tensor

SPLITS = ("train", "validation", "test")


class Wrong(NamedTuple):
    """What was got, and what is expected."""

    got: str
    expected: str


Look = Callable[[Any, Mapping[str, Any]], Wrong | None]


def told(value: Any) -> str:
    """A value as a message names it: its type, with shape and dtype of arrays."""
    if value is None or isinstance(value, bool):
        return repr(value)
    name = type(value).__name__
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"a {name} of shape {tuple(value.shape)}, {value.dtype}"
    if isinstance(value, str | int | float):
        return f"{name} {value!r}"
    if isinstance(value, Mapping):
        return f"a {name} with {', '.join(map(str, value)) or 'nothing'}"
    return f"a {name} of {len(value)}" if isinstance(value, tuple | list) else f"a {name}"


# --- data sets


def _facts(result: Any, given: Mapping[str, Any]) -> Wrong | None:
    if not isinstance(result, Facts):
        return Wrong(told(result), "a harness.types.Facts")
    if not (isinstance(result.shape, Sequence) and len(result.shape) == 3 and all(map(_is_count, result.shape))):
        return Wrong(f"shape {result.shape!r}", "(C, H, W), whole numbers above 0,")
    sizes = result.sizes
    if not (isinstance(sizes, Mapping) and all(_is_count(sizes.get(split)) for split in SPLITS)):
        return Wrong(f"sizes {sizes!r}", f"the number of images of {', '.join(SPLITS)}, each above 0,")
    if result.task not in ANY_TASK:
        return Wrong(f"task {result.task!r}", " or ".join(ANY_TASK))
    if result.task != CAPTIONING and not (isinstance(result.classes, Sequence) and len(result.classes) > 1):
        return Wrong(f"classes {result.classes!r}", "a tuple of the names of two classes or more")
    return None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _paths(result: Any, given: Mapping[str, Any]) -> Wrong | None:
    fits = isinstance(result, list | tuple) and all(isinstance(path, Path) for path in result)
    return (
        None if fits or result is None else Wrong(told(result), "a list of pathlib.Path, or None where one is missing,")
    )


def _sources(result: Any, given: Mapping[str, Any]) -> Wrong | None:
    return Wrong(told(result), "a list of pathlib.Path") if _paths(result, given) else None


def _splits(result: Any, given: Mapping[str, Any]) -> Wrong | None:
    if not isinstance(result, Mapping):
        return Wrong(told(result), f"a dict of the splits {', '.join(SPLITS)}")
    for name, split in result.items():
        if not isinstance(split, Split | CaptionedSplit):
            return Wrong(f"{told(split)} for {name}", "a harness.types.Split (of captions a CaptionedSplit)")
    return None


# --- models and defenses


def _module(result: Any, given: Mapping[str, Any]) -> Wrong | None:
    from torch import nn

    return None if isinstance(result, nn.Module) else Wrong(told(result), "a torch module")


def _objective(result: Any, given: Mapping[str, Any]) -> Wrong | None:
    return _rows(result, len(given["batch"].y), "a loss of each sample, a tensor of")


def _passes(result: Any, given: Mapping[str, Any]) -> Wrong | None:
    return None if _is_number(result) and result > 0 else Wrong(told(result), "a number of passes above 0")


# --- attacks


def _images(result: Any, given: Mapping[str, Any]) -> Wrong | None:
    from torch import Tensor

    x: Tensor = given["batch"].x
    if isinstance(result, Tensor) and result.shape == x.shape and result.dtype == x.dtype:
        return None
    return Wrong(told(result), f"a tensor of shape {tuple(x.shape)}, {x.dtype},")


def _state(result: Any, given: Mapping[str, Any]) -> Wrong | None:
    from torch import Tensor

    if not isinstance(result, dict) or "x_adv" not in result:
        return Wrong(told(result), "a dict of tensors with x_adv")
    count = len(given["batch"].y)
    for name, value in result.items():
        if not isinstance(value, Tensor) or value.ndim == 0 or len(value) != count:
            return Wrong(f"{told(value)} for state[{name!r}]", f"a tensor with a row for each of {count} samples")
    wrong = _images(result["x_adv"], given)
    return Wrong(f"{wrong.got} for state['x_adv']", wrong.expected) if wrong else None


def _loss(result: Any, given: Mapping[str, Any]) -> Wrong | None:
    return _rows(result, len(given["logits"]), "what is raised for each sample, a tensor of")


def _which(result: Any, given: Mapping[str, Any]) -> Wrong | None:
    wrong = _rows(result, len(given["iteration"]), "booleans, a tensor of")
    return wrong or (None if str(result.dtype) == "torch.bool" else Wrong(told(result), "a tensor of booleans"))


def _rounds(result: Any, given: Mapping[str, Any]) -> Wrong | None:
    return None if _is_count(result) else Wrong(told(result), "a whole number of restarts above 0")


def _rows(result: Any, count: int, what: str) -> Wrong | None:
    from torch import Tensor

    if isinstance(result, Tensor) and result.shape == (count,):
        return None
    return Wrong(told(result), f"{what} shape ({count},),")


# --- metrics


def _score(result: Any, given: Mapping[str, Any]) -> Wrong | None:
    if result is None:
        return None
    if not (isinstance(result, tuple) and len(result) == 4):
        return Wrong(told(result), "a harness.types.Score (value, low, high, n), or None where it does not apply,")
    value, low, high, n = result
    if not _is_number(value) or not all(bound is None or _is_number(bound) for bound in (low, high)):
        return Wrong(f"a score {tuple(result)}", "a finite value, with low and high or None for each,")
    return None if _is_count(n) else Wrong(f"n = {n!r}", "the number of samples behind the score")


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, SupportsFloat) and math.isfinite(float(value))


LOOKS: Mapping[str, Mapping[str, Look]] = {
    "datasets": {"facts": _facts, "locate": _paths, "load": _splits},
    "models": {"sources": _sources, "build": _module},
    "attacks": {
        "rounds": _rounds,
        "start": _state,
        "step": _state,
        "loss": _loss,
        "needs_gradient": _which,
        "perturb": _images,
    },
    "defenses": {"objective": _objective, "passes": _passes, "wrap": _module},
    "metrics": {"measure": _score},
}
"""What is looked at, by kind and hook."""


# --- what components say of themselves


def _one_of(*allowed: Any) -> tuple[Callable[[Any], bool], str]:
    return lambda value: any(value is one or value == one for one in allowed), " or ".join(map(repr, allowed))


def _among(*allowed: str) -> tuple[Callable[[Any], bool], str]:
    return lambda value: isinstance(value, tuple) and set(value) <= set(allowed), f"a tuple of {', '.join(allowed)}"


def _flag() -> tuple[Callable[[Any], bool], str]:
    return lambda value: isinstance(value, bool), "True or False"


def _texts() -> tuple[Callable[[Any], bool], str]:
    return lambda value: isinstance(value, tuple) and all(isinstance(one, str) for one in value), "a tuple of names"


def _text() -> tuple[Callable[[Any], bool], str]:
    return lambda value: isinstance(value, str), "a text"


SAYS: Mapping[str, Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "datasets": {},
    "models": {"task": _one_of(*ANY_TASK), "weights": _text()},
    "attacks": {
        "norms": _among(*NORMS, SEVERITY),
        "stronger_than": _texts(),
        "access": _one_of("gradient", "scores"),
        "tasks": _among(*ANY_TASK),
        **dict.fromkeys(("minimum_norm", "targeted", "keeps_best", "only_asks"), _flag()),
    },
    "defenses": {"tasks": _among(*ANY_TASK)},
    "metrics": {"unit": _text(), "higher_is_better": _one_of(True, False, None), "task": _one_of("", *ANY_TASK)},
}
"""Attributes that a component may have, whether a value is one, and what is."""


def said_wrong(kind: str, component: Any, *, by_step: bool = False) -> Wrong | None:
    """The first attribute of a component that says what cannot be. by_step: a step attack must say how many."""
    for name, (fits, expected) in SAYS[kind].items():
        value = getattr(component, name, None)
        if hasattr(component, name) and not fits(value):
            return Wrong(f"{name} is {value!r}", expected)
    for name in ("steps", "restarts") if by_step else ():
        value = getattr(component, name, None)
        if not _is_count(value):
            return Wrong(f"{name} is {value!r}", "of a step attack a whole number above 0")
    return None
