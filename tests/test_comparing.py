"""Two cells side by side, and a table beside a base model: the tests, the words, the marks."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from cells import Filler, key
from scipy.stats import binomtest

from harness.errors import BenchError
from harness.report.against import Against, Contrast, check_metric, compare_with, coordinate
from harness.report.comparing import compare, report
from harness.report.layout import p_text
from harness.report.selecting import select
from harness.report.table import FIELDS, render
from harness.statistics import holm, mcnemar, paired_difference, rate, samples_needed
from harness.store.queries import leaderboard
from harness.store.reading import Reader, open_reader
from harness.store.store import Store, open_store
from harness.types import Reason, Verdict

ROOT = Path(__file__).parent.parent
N = 200
RANDOM = np.random.default_rng(0)
BASE = (RANDOM.random(N) < 0.5).tolist()
ALIKE = [right != (sample % 11 == 0) for sample, right in enumerate(BASE)]
BETTER = [right or lucky for right, lucky in zip(BASE, (RANDOM.random(N) < 0.5).tolist(), strict=True)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(str(tmp_path / "results.db")) as opened:
        yield opened


@pytest.fixture
def reader(store: Store, tmp_path: Path) -> Iterator[Reader]:
    """A store of a base model, one like it, one better, and cells that cannot be compared with it."""
    fill = Filler(store)
    for index, (model, right) in enumerate({"base": BASE, "alike": ALIKE, "better": BETTER}.items()):
        fill.cell(0xA00000 + index, right, model)
        fill.cell(0xA00010 + index, BASE if model != "better" else BETTER, model, "fgsm")
    fill.cell(0xB00000, BASE[:150], "half")
    fill.cell(0xB00001, BETTER, "elsewhere", dataset="cifar100")
    fill.cell(0xB00002, None, "broken")
    fill.cell(0xB00003, BETTER, "relabelled", changes={"label": np.ones(N, np.int64)})
    fill.cell(0xB00004, BASE, "doubted", reasons=[Reason("few", Verdict.SUSPECT, "few samples")])
    fill.cell(0xB00005, BASE, "other", changes={"ids": np.arange(N) + 1000})
    with open_reader(str(tmp_path / "results.db")) as opened:
        yield opened


def between(reader: Reader, a: str, b: str, format: str = "rich") -> str:
    rows = [select(reader, text if "/" in text else f"{text}/none/pgd") for text in (a, b)]
    return report(compare(reader, *rows), format)


# --- two cells


def test_a_comparison_is_that_of_the_arrays(reader: Reader) -> None:
    data = json.loads(between(reader, "better", "base", "json"))
    test = mcnemar(BETTER, BASE)
    assert (data["a_only"], data["b_only"], data["p_value"]) == (test.a_only, test.b_only, test.p_value)
    assert data["both"] + data["a_only"] == sum(BETTER)
    assert data["neither"] == sum(not a and not b for a, b in zip(BETTER, BASE, strict=True))
    assert data["a"]["accuracy"] == rate(sum(BETTER), N)._asdict()
    wanted = paired_difference(BETTER, BASE)
    assert data["difference"]["value"] == pytest.approx(wanted.value)
    assert [data["difference"][side] for side in ("low", "high")] == pytest.approx([wanted.low, wanted.high], abs=0.02)
    assert (data["n"], data["different"], data["a"]["key"]) == (N, True, key(0xA00002))
    assert data["samples_needed"] == samples_needed(test.a_only / N, 0.0)


def test_what_differs_is_said_in_words(reader: Reader) -> None:
    text = between(reader, "better", "base")
    assert "A  better/none/pgd:Linf:8/255  a00002eeeeee  ok" in text
    assert "A wrong        0" in text
    assert "p < 0.0001 (chi-squared" in text
    assert text.endswith("They can be told apart: A is right more often on the same samples.")
    assert "B is right more often" in between(reader, "base", "better")
    assert "Only the" not in text


def test_what_does_not_differ_says_how_many_samples_would(reader: Reader) -> None:
    text, data = between(reader, "alike", "base"), json.loads(between(reader, "alike", "base", "json"))
    assert not data["different"]
    assert data["exact"]
    assert data["p_value"] == pytest.approx(binomtest(data["a_only"], data["a_only"] + data["b_only"]).pvalue)
    assert (
        f"cannot be told apart with 200 samples; a difference of this size needs about {data['samples_needed']}" in text
    )
    assert "(exact binomial)" in text
    same = between(reader, "alike/none/fgsm", "base/none/fgsm")
    assert same.endswith("They cannot be told apart: each is right as often as the other.")
    assert "A - B = +0.0 points [+0.0, +0.0]" in same


def test_a_handful_of_samples_is_never_told_that_it_is_enough(store: Store, tmp_path: Path) -> None:
    fill = Filler(store)
    fill.cell(1, [True] * 5, "a")
    fill.cell(2, [False] * 5, "b")
    with open_reader(str(tmp_path / "results.db")) as reader:
        assert "needs a few more (" in between(reader, "a", "b")


def test_only_shared_samples_count_and_it_says_how_many(reader: Reader) -> None:
    text, data = between(reader, "half", "better"), json.loads(between(reader, "half", "better", "json"))
    assert "Only the 150 samples that both attack are compared; A has 150, B has 200." in text
    assert data["n"] == data["a"]["accuracy"]["n"] == 150
    assert data["b"]["accuracy"]["value"] == sum(BETTER[:150]) / 150


def test_a_doubt_goes_along(reader: Reader) -> None:
    assert between(reader, "better", "doubted").endswith("\nBut B cannot be trusted as it stands; see `bench show`.")


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ("broken", "base", "broken/none/pgd:Linf:8/255 is failed and has no samples; see `bench show b00002eeeeee`"),
        ("base", "elsewhere", "attacks digits, .* cifar100; cells on the same data are needed"),
        ("base", "other", "share no sample; attack the same ones"),
        ("base", "relabelled", "200 of 200 shared samples have other labels"),
    ],
)
def test_what_cannot_be_compared_is_refused(reader: Reader, a: str, b: str, message: str) -> None:
    with pytest.raises(BenchError, match=message) as caught:
        between(reader, a, b)
    assert "\n" not in str(caught.value)
    with pytest.raises(BenchError, match="did you mean json"):
        between(reader, "base", "better", "jsno")


def test_one_data_set_under_two_names_is_one(store: Store, tmp_path: Path) -> None:
    fill, document = Filler(store), {"samples": {"data": "d"}}
    fill.cell(1, BASE, "a", dataset="digits", document=document)
    fill.cell(2, BETTER, "b", dataset="alias", document=document)
    with open_reader(str(tmp_path / "results.db")) as reader:
        assert json.loads(between(reader, "a", "b", "json"))["different"]


@pytest.mark.parametrize(("p", "text"), [(0.00001, "< 0.0001"), (0.0123, "= 0.012"), (1.0, "= 1"), (0.5, "= 0.5")])
def test_a_p_value_has_two_figures(p: float, text: str) -> None:
    assert p_text(p) == text


# --- a table beside a base model


def test_cells_on_the_samples_of_the_base_are_tested_as_one_family(reader: Reader) -> None:
    rows = leaderboard(reader)
    found = compare_with(reader, rows, "base")
    by_name = {(place[2], place[4]): contrast for place, contrast in found.contrasts.items()}
    assert set(by_name) == {
        ("alike", "pgd"),
        ("alike", "fgsm"),
        ("better", "pgd"),
        ("better", "fgsm"),
        ("doubted", "pgd"),
    }
    p_values = [mcnemar(a, BASE).p_value for a in (ALIKE, BASE, BETTER, BETTER, BASE)]
    adjusted = dict(zip(("alike", "alike fgsm", "better", "better fgsm", "doubted"), holm(p_values), strict=True))
    assert by_name["better", "pgd"] == Contrast((sum(BETTER) - sum(BASE)) / N, pytest.approx(adjusted["better"]))
    assert by_name["alike", "pgd"].p == pytest.approx(adjusted["alike"])
    assert [name for name, contrast in by_name.items() if contrast.significant] == [
        ("better", "pgd"),
        ("better", "fgsm"),
    ]


def test_the_difference_stands_under_the_model(reader: Reader) -> None:
    rows = [row for row in leaderboard(reader) if row.model in ("base", "alike", "better")]
    text = render(rows, format="rich", against=compare_with(reader, rows, "base"))
    lines = text.splitlines()
    under = {lines[i - 1].split()[0]: line.split()[2:] for i, line in enumerate(lines) if line.startswith("  vs base ")}
    points = f"{100 * (sum(BETTER) - sum(BASE)) / N:+.1f}*"
    assert under == {"alike": [f"{100 * (sum(ALIKE) - sum(BASE)) / N:+.1f}", "+0.0"], "better": [points, points]}
    assert "vs base: points more or less than base in the same column" in text
    assert "Holm-adjusted over all 4 differences of the table" in text
    assert "vs base" in render(rows, format="markdown", against=compare_with(reader, rows, "base"))
    assert "vs base" not in render(rows, format="rich")


def test_programs_get_the_difference_and_its_p(reader: Reader) -> None:
    rows = leaderboard(reader)
    found = compare_with(reader, rows, "base")
    data = {(item["model"], item["attack"]): item for item in json.loads(render(rows, format="json", against=found))}
    assert data["better", "pgd"]["against_difference"] == (sum(BETTER) - sum(BASE)) / N
    assert data["better", "pgd"]["against_p"] == found.contrasts[coordinate(rows[4])].p
    for model in ("base", "half", "elsewhere", "broken", "relabelled", "other"):
        assert data[model, "pgd"]["against_difference"] is data[model, "pgd"]["against_p"] is None
    table = list(csv.DictReader(StringIO(render(rows, format="csv"))))
    assert FIELDS[-2:] == ("against_difference", "against_p")
    assert {row["against_p"] for row in table} == {""}


def test_over_several_seeds_every_one_must_differ(store: Store, tmp_path: Path) -> None:
    fill = Filler(store)
    for seed, right in enumerate((BETTER, BETTER)):
        fill.cell(10 + seed, BASE, "base", seed=seed)
        fill.cell(20 + seed, right, "better", seed=seed)
        fill.cell(30 + seed, right if seed else BASE, "once", seed=seed)
    with open_reader(str(tmp_path / "results.db")) as reader:
        rows = leaderboard(reader)
        text = render(rows, format="rich", against=compare_with(reader, rows, "base"))
    difference = 100 * (sum(BETTER) - sum(BASE)) / N
    lines = [line.split()[2] for line in text.splitlines() if line.startswith("  vs base ")]
    assert lines == [f"{difference:+.1f}*", f"{difference / 2:+.1f}"]


def test_where_nothing_can_be_compared_it_says_so(reader: Reader) -> None:
    rows = leaderboard(reader)
    text = render(rows, format="rich", against=compare_with(reader, rows, "elsewhere"))
    assert "vs base: no other model was measured on the samples of elsewhere" in text
    with pytest.raises(BenchError, match="--against: no such name 'bsae'; did you mean base"):
        compare_with(reader, rows, "bsae")
    with pytest.raises(BenchError, match="--against compares accuracies, not queries"):
        check_metric("queries")
    check_metric("accuracy")
    assert "vs" not in render(rows, format="rich", metric="queries", against=Against("base", {}))


def test_a_table_alone_needs_no_numpy(reader: Reader) -> None:
    code = "import sys, harness.report.table; assert not {'numpy', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
