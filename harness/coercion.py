"""Values of a TOML file or a command line -> the fields of a dataclass, with an error that says where."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields
from fractions import Fraction
from typing import Any, TypeVar

from harness.errors import BenchError, unknown

T = TypeVar("T")


def signature(component: Any) -> dict[str, Any]:
    """Field names and types of a component, in order."""
    try:
        hints = typing.get_type_hints(component)
    except Exception as error:
        raise BenchError(f"{component.__name__}: a field's type cannot be resolved: {error}") from error
    return {f.name: hints[f.name] for f in fields(component) if f.init}


def fill(component: type[T], table: Mapping[str, Any], where: str, also: Sequence[str] = ()) -> T:
    """An instance from a table; unknown keys and wrong types are refused. ``also``: keys allowed beside the fields."""
    if not isinstance(table, Mapping):
        raise BenchError(f"{where}: got {table!r}; a table is needed")
    hints = signature(component)
    for key in table:
        if key not in hints:
            raise unknown(f"{where}: key", key, [*hints, *also])
    values = {key: coerce(value, hints[key], f"{where}.{key}") for key, value in table.items()}
    try:
        return component(**values)
    except (TypeError, ValueError) as error:
        raise BenchError(f"{where}: {error}") from error


def coerce(value: Any, hint: Any, where: str) -> Any:
    """The value as its type. Fractions such as "8/255" are numbers wherever a float is asked for.

    Raises BenchError for another type, and for nan and infinity, of which no content key can be made.
    """
    if value == "none" and types.NoneType in typing.get_args(hint):
        return None  # TOML has no word for it
    import msgspec  # here, because listing names needs no types

    if isinstance(value, str) and _takes_float(hint):
        value = _fraction(value, where)
    if typing.get_origin(hint) is typing.Literal and value not in typing.get_args(hint):
        *most, last = map(str, typing.get_args(hint))
        raise BenchError(f"{where}: got {value!r}; {', '.join(most)} or {last} is needed")
    try:
        made = msgspec.convert(value, hint, strict=True)
    except msgspec.ValidationError as error:
        reason = str(error).replace("`", "").partition(" - at ")[0]
        raise BenchError(f"{where}: got {value!r}: {reason[0].lower()}{reason[1:]}") from error
    for number in made if isinstance(made, list | tuple) else (made,):
        if isinstance(number, float) and not math.isfinite(number):
            raise BenchError(f"{where}: got {value!r}; a finite number is needed")
    return made


def describe(hint: Any) -> str:
    """A type as a reader writes it: ``float | None``, ``"cosine" | "plateau"``."""
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(repr(value) for value in typing.get_args(hint))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " | ".join(describe(arm) for arm in typing.get_args(hint))
    return (
        "None"
        if hint is type(None)
        else getattr(hint, "__name__", str(hint))
        if not typing.get_args(hint)
        else str(hint)
    )


def _takes_float(hint: Any) -> bool:
    arms = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    return float in arms and str not in arms


def _fraction(text: str, where: str) -> float:
    try:
        return float(Fraction(text.replace(" ", ""))) if "/" in text else float(text)
    except (ValueError, ArithmeticError):
        raise BenchError(f"{where}: got {text!r}; a number or a fraction such as 8/255 is needed") from None
