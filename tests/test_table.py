"""The leaderboard as text: shape, marks, escapes, widths; and what it must not import."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import BenchError
from harness.report.layout import number_text
from harness.report.table import FIELDS, FORMATS, metric_read, render
from harness.store.queries import Row, StoredScore
from harness.types import Reason, Verdict, eps_text

ROOT = Path(__file__).parent.parent
LINF8 = ("Linf", 8 / 255)
SIX = [("none", "clean"), ("none", "fgsm"), ("none", "pgd"), ("pgd_at", "clean"), ("pgd_at", "fgsm"), ("pgd_at", "pgd")]
STUDY = {"none": {"clean": 67.14, "fgsm": 11.67, "pgd": 1.77}, "pgd_at": {"clean": 4.81, "fgsm": 44.57, "pgd": 24.23}}


def score(value: float, metric: str = "accuracy", unit: str = "fraction") -> StoredScore:
    return StoredScore(metric, value, value - 0.02, value + 0.02, 500, unit)


def row(position: int, model: str, defense: str, attack: str, value: float | None = None, **changes: Any) -> Row:
    norm, eps = (None, None) if attack == "clean" else LINF8
    names = ("small", "cifar100", model, defense, attack, norm, eps, 0, position)
    scores = () if value is None else (score(value),)
    return Row(*names, "ok", "ok", 500, (), scores, f"key{position}", "r1")._replace(**changes)


def study(*models: str) -> list[Row]:
    """Six cells a model: measured half a point under the study, the third suspect, the fourth invalid."""
    found = []
    for number, model in enumerate(models):
        for index, (defense, attack) in enumerate(SIX):
            found.append(row(6 * number + index, model, defense, attack, STUDY[defense][attack] / 100 - 0.005))
    doubts = {2: Reason("few", Verdict.SUSPECT, "too few"), 3: Reason("clean", Verdict.INVALID, "below | adversarial")}
    return [
        item._replace(verdict=str(doubts[i % 6].verdict), reasons=(doubts[i % 6],)) if i % 6 in doubts else item
        for i, item in enumerate(found)
    ]


def failed(position: int, model: str, defense: str, attack: str, status: str = "failed") -> Row:
    reason = Reason(status, Verdict.INVALID, "out of\nmemory")
    return row(position, model, defense, attack, status=status, verdict="invalid", n=0, reasons=(reason,))


@given(k=st.integers(1, 254), error=st.floats(-5e-10, 5e-10))
def test_a_budget_in_255ths_is_written_so(k: int, error: float) -> None:
    assert eps_text(k / 255 + error) == f"{k}/255"


@given(eps=st.floats(0.0, 20.0))
def test_a_budget_reads_back(eps: float) -> None:
    number, _, of = eps_text(eps).partition("/")
    assert float(number) / float(of or 1) == pytest.approx(eps, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(
    ("eps", "text"), [(0.0, "0"), (1.0, "1"), (2.0, "2"), (0.5, "0.5"), (0.03, "0.03"), (8 / 255, "8/255")]
)
def test_other_budgets(eps: float, text: str) -> None:
    assert eps_text(eps) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.9124, "fraction", "91.2"),
        (1.0, "fraction", "100.0"),
        (0.5, "", "0.500"),
        (999.9, "", "1000"),
        (123.4, "", "123"),
    ],
)
def test_numbers(value: float, unit: str, text: str) -> None:
    assert number_text(value, unit) == text


def test_the_shape_is_a_line_a_model_and_a_group_a_defense() -> None:
    text = render(study("resnet", "vit"), format="rich")
    title, groups, heads, _, first, second, *notes = text.splitlines()
    assert title == "accuracy (%), profile small: cifar100; Linf 8/255; n = 500; seed 0; [95 % interval]"
    assert groups.split() == ["none", "pgd_at"]
    assert heads.split() == ["model", "clean", "fgsm", "pgd", "clean", "fgsm", "pgd"]
    assert first.startswith("resnet  66.6 [64.6, 68.6]")
    assert "? 1.3 [" in first
    assert "! 4.3 [" in second
    assert notes == [
        "? suspect; ! invalid",
        "? resnet / none / pgd; vit / none / pgd: too few",
        "! resnet / pgd_at / clean; vit / pgd_at / clean: below | adversarial",
    ]


def test_undefended_stays_first_when_it_is_run_again() -> None:
    again = [row(i, "resnet", "none", attack, 0.5, run="r2") for i, attack in enumerate(("clean", "fgsm", "pgd"))]
    text = render([*study("resnet")[3:], *again], format="rich")
    assert text.splitlines()[1].split() == ["none", "pgd_at"]


@pytest.mark.parametrize("width", [40, 80, 120, 160, 200])
def test_no_number_is_broken_at_any_width(width: int) -> None:
    rows = [*study("resnet_original", "resnet_noisy"), failed(12, "vit", "none", "pgd")]
    text = render(rows, format="rich", width=width, reference={"resnet_noisy": STUDY})
    assert max(map(len, text.splitlines())) <= width
    table = text.split("intervals are left out")[0]
    for number in ("66.6", "11.2", "? 1.3", "! 4.3", "44.1", "23.7", "x failed", "67.1", "-0.5"):
        assert number in table
    assert "…" not in text
    assert ("[64.6, 68.6]" in text) == (width >= 160)
    assert ("intervals are left out" in text) == (width < 160)


def test_a_cell_without_a_number_shows_why_and_no_number() -> None:
    rows = [row(0, "m", "none", "clean", 0.9), failed(1, "m", "none", "fgsm"), failed(2, "m", "none", "pgd", "skipped")]
    rows += [failed(3, "m", "none", "apgd", "interrupted"), row(4, "m", "none", "square")]
    text = render(rows, format="rich")
    assert text.splitlines()[4].split("  ")[-1].endswith("n/a")
    assert re.search(r"x failed +- +\.\.\. +n/a", text)
    assert "x failed; ... not finished; - skipped" in text
    assert "x m / none / fgsm: out of memory" in text


def test_several_budgets_are_told_in_the_header() -> None:
    rows = [row(i, "m", "none", "pgd", 0.5, eps=eps) for i, eps in enumerate((2 / 255, 0.03))]
    text = render(rows, format="rich")
    assert "Linf 2/255, Linf 0.03; n = 500" in text
    assert re.search(r"pgd +pgd\n(model +)Linf 2/255 +Linf 0.03", text)
    assert "| none pgd Linf 2/255 | none pgd Linf 0.03 |" in render(rows, format="markdown")


def test_several_seeds_give_mean_and_deviation() -> None:
    rows = [row(i, "m", "none", "pgd", value, seed=i) for i, value in enumerate((0.4, 0.5, 0.6))]
    assert "50.0 ± 10.0 (3)" in render(rows, format="rich")
    rows[2] = failed(2, "m", "none", "pgd")._replace(seed=2)
    text = render(rows, format="rich")
    assert "45.0 ± 7.1 (2 of 3)" in text
    assert "x m / none / pgd, seed 2: out of memory" in text


def test_a_reference_stands_under_its_model_with_the_difference() -> None:
    text = render(study("resnet", "vit"), format="rich", reference={"vit": STUDY}, width=80)
    assert re.search(r"vit .*\n +reference +67.1 +11.7 +1.8 +4.8 +44.6 +24.2\n +difference( +-0.5){6}", text)
    assert len(re.findall("reference", text)) == 1
    data = json.loads(render(study("resnet", "vit"), format="json", reference={"vit": STUDY}))
    assert [item["reference"] for item in data[5:8]] == [None, 0.6714, 0.1167]


def test_another_metric_has_its_own_unit() -> None:
    rows = [row(0, "m", "none", "pgd", scores=(score(0.5), score(123.4, "queries", "passes")))]
    text = render(rows, format="rich", metric="queries")
    assert text.startswith("queries (passes), profile small")
    assert "123 [123, 123]" in text


def test_json_is_one_object_a_cell_and_metric() -> None:
    rows = [
        row(0, "m", "none", "clean", scores=(score(0.5), score(7.0, "queries", "passes"))),
        failed(1, "m", "none", "pgd"),
    ]
    data = json.loads(render(rows, format="json"))
    assert [(item["attack"], item["metric"], item["value"]) for item in data] == [
        ("clean", "accuracy", 0.5),
        ("clean", "queries", 7.0),
        ("pgd", "accuracy", None),
    ]
    assert all(tuple(item) == FIELDS for item in data)
    assert (data[0]["norm"], data[0]["eps"], data[0]["unit"]) == (None, None, "fraction")
    assert data[2]["reasons"] == [{"code": "failed", "verdict": "invalid", "text": "out of\nmemory"}]
    assert (data[2]["status"], data[2]["low"], data[2]["high"], data[2]["n"]) == ("failed", None, None, 0)
    table = list(csv.DictReader(StringIO(render(rows, format="csv"))))
    assert json.loads(table[2]["reasons"]) == data[2]["reasons"]
    assert (table[0]["value"], table[2]["value"]) == ("0.5", "")
    assert json.loads(render([], format="json")) == []


def test_markdown_and_latex_escape_names() -> None:
    rows = [row(0, "a|b", "none", "clean", 0.5), row(1, "50%_&{x}", "none", "clean", 0.5)]
    lines = render(rows, format="markdown").splitlines()
    assert lines[2] == "| model | none clean |"
    assert lines[4] == r"| a\|b | 50.0 \[48.0, 52.0\] |"
    text = render(rows, format="latex")
    assert r"50\%\_\&\{x\} & 50.0 {[}48.0, 52.0] \\" in text
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1


def test_latex_groups_span_their_columns() -> None:
    text = render(study("resnet"), format="latex")
    assert r" & \multicolumn{3}{c}{none} & \multicolumn{3}{c}{pgd\_at} \\" in text
    assert r"\cmidrule(lr){2-4}\cmidrule(lr){5-7}" in text


def test_a_long_table_is_cut_and_says_so() -> None:
    rows = study(*(f"model{i}" for i in range(7)))
    text = render(rows, format="rich", rows_limit=5)
    assert "model4" in text
    assert "model5" not in text
    assert text.endswith("2 more rows; --rows 0 shows all, --format csv or json writes all")
    assert "model6" in render(rows, format="rich", rows_limit=0)
    assert "model6" in render(rows, format="markdown", rows_limit=5)


def test_names_are_not_markup_and_colour_is_asked_for() -> None:
    rows = [row(0, "[bold]m[/bold] :smile:", "none", "clean", 0.5, verdict="invalid")]
    assert "[bold]m[/bold] :smile:" in render(rows, format="rich")
    assert "\x1b[" not in render(rows, format="rich")
    assert "\x1b[31m" in render(rows, format="rich", color=True)


def test_a_table_reads_one_metric_and_a_list_reads_all() -> None:
    assert [metric_read(format, None) for format in ("rich", "latex", "json", "csv")] == [
        "accuracy",
        "accuracy",
        None,
        None,
    ]
    assert metric_read("rich", "queries") == metric_read("json", "queries") == "queries"


def test_an_unknown_format_names_the_near_ones() -> None:
    with pytest.raises(BenchError, match="did you mean markdown"):
        render([], format="markdwn")
    assert render([], format="rich") == "no cells"


@pytest.mark.parametrize("format", FORMATS)
def test_reading_and_rendering_import_nothing_heavy(tmp_path: Path, format: str) -> None:
    from harness.store.store import open_store

    open_store(str(tmp_path / "results.db")).close()
    code = (
        "import sys\n"
        "from harness.store.reading import open_reader\n"
        "from harness.store.queries import Row, StoredScore, leaderboard, rates\n"
        "from harness.report.table import render\n"
        f"with open_reader({str(tmp_path / 'results.db')!r}) as reader:\n"
        "    leaderboard(reader), rates(reader)\n"
        "scores = (StoredScore('accuracy', 0.5, None, None, 5, 'fraction'),)\n"
        "row = Row('p', 'd', 'm', 'none', 'clean', None, None, 0, 0, 'ok', 'ok', 5, (), scores, 'k', 'r')\n"
        f"assert '0.5' in render([row], format={format!r}) or '50.0' in render([row], format={format!r})\n"
        "heavy = {'sqlalchemy', 'alembic', 'numpy', 'torch'} | (set() if "
        + repr(format)
        + " == 'rich' else {'rich'})\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
