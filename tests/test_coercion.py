"""Values of a file or a command line become typed fields, or one line that says where and what is wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.coercion import coerce, describe, fill, signature
from harness.errors import BenchError


@dataclass(frozen=True)
class Component:
    steps: int = 10
    alpha: float | None = None
    mode: Literal["fast", "exact"] = "fast"
    classes: tuple[int, ...] = ()
    scales: tuple[float, ...] = ()
    flag: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps: got {self.steps}; 1 or more is needed")


@pytest.mark.parametrize(
    ("value", "hint", "wanted"),
    [
        ("8/255", float, 8 / 255),
        (" 8 / 255 ", float, 8 / 255),
        ("8/255", float | None, 8 / 255),
        ("0.03", float, 0.03),
        ("1e-3", float, 0.001),
        (1, float, 1.0),
        ("8/255", str, "8/255"),
        ("8/255", str | float, "8/255"),
        (None, float | None, None),
        (None, int | None, None),
        ([1, 2], tuple[int, ...], (1, 2)),
        ((), tuple[int, ...], ()),
        ("exact", Literal["fast", "exact"], "exact"),
        (True, bool, True),
    ],
)
def test_a_value_becomes_its_type(value: Any, hint: Any, wanted: Any) -> None:
    made = coerce(value, hint, "here")
    assert made == wanted
    assert type(made) is type(wanted)


@pytest.mark.parametrize(
    ("value", "hint", "reason"),
    [
        ("eight", float, "a number or a fraction such as 8/255"),
        ("8/0", float, "a number or a fraction"),
        ("8/255/2", float, "a number or a fraction"),
        ("1e999/3", float, "a number or a fraction"),
        ("", float, "a number or a fraction"),
        ("nan", float, "a finite number"),
        ("-inf", float | None, "a finite number"),
        (math.inf, float, "a finite number"),
        ([0.5, math.nan], tuple[float, ...], "a finite number"),
        (None, float, "expected float, got null"),
        (True, float, "expected float, got bool"),
        (2.0, int, "expected int, got float"),
        ("2", int, "expected int, got str"),
        (True, int, "expected int, got bool"),
        (1, bool, "expected bool, got int"),
        (3, str, "expected str, got int"),
        ([1, "2"], tuple[int, ...], "expected int, got str"),
        (1, tuple[int, ...], "expected array, got int"),
        ("slow", Literal["fast", "exact"], "fast or exact is needed"),
    ],
)
def test_another_type_is_refused_with_place_and_value(value: Any, hint: Any, reason: str) -> None:
    with pytest.raises(BenchError) as caught:
        coerce(value, hint, "attacks.pgd.alpha")
    assert str(caught.value).startswith("attacks.pgd.alpha: got ")
    assert str(value) in str(caught.value)
    assert reason in str(caught.value)


@given(numerator=st.integers(-(10**6), 10**6), denominator=st.integers(1, 10**6))
def test_a_fraction_is_the_nearest_float(numerator: int, denominator: int) -> None:
    assert coerce(f"{numerator}/{denominator}", float, "eps") == numerator / denominator


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_a_printed_number_reads_back(value: float) -> None:
    assert coerce(repr(value), float, "eps") == value


@given(text=st.text(max_size=12))
def test_any_text_is_a_finite_number_or_one_line(text: str) -> None:
    try:
        made = coerce(text, float, "eps")
    except BenchError as error:
        made = str(error)
    assert math.isfinite(made) if isinstance(made, float) else len(made.splitlines()) == 1


def test_a_table_fills_a_component() -> None:
    table = {"steps": 3, "alpha": "2/255", "classes": [1, 2], "mode": "exact"}
    assert fill(Component, table, "attacks.pgd") == Component(3, 2 / 255, "exact", (1, 2))
    assert table == {"steps": 3, "alpha": "2/255", "classes": [1, 2], "mode": "exact"}


def test_no_table_gives_the_defaults() -> None:
    assert fill(Component, {}, "attacks.pgd") == Component()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"stepz": 3}, "attacks.pgd: key: no such name 'stepz'; did you mean steps?"),
        ({"trainin": 3}, "attacks.pgd: key: no such name 'trainin'; did you mean training?"),
        ({"steps": 0}, "attacks.pgd: steps: got 0; 1 or more is needed"),
        ({"steps": "3"}, "attacks.pgd.steps: got '3': expected int, got str"),
        (3, "attacks.pgd: got 3; a table is needed"),
        ([["steps", 3]], "attacks.pgd: got [['steps', 3]]; a table is needed"),
    ],
)
def test_a_wrong_table_is_refused(table: Any, message: str) -> None:
    with pytest.raises(BenchError) as caught:
        fill(Component, table, "attacks.pgd", also=("training",))
    assert str(caught.value) == message


def test_the_signature_leaves_out_what_cannot_be_set() -> None:
    assert list(signature(Component)) == ["steps", "alpha", "mode", "classes", "scales", "flag", "name"]


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (float | None, "float | None"),
        (Literal["fast", "exact"], "'fast' | 'exact'"),
        (tuple[int, ...], "tuple[int, ...]"),
        (int, "int"),
    ],
)
def test_a_type_is_described_as_it_is_written(hint: Any, text: str) -> None:
    assert describe(hint) == text
