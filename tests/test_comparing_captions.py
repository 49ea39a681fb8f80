"""Captioners side by side on the images that both attack, and in a table beside a base model."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cells import Filler, key

from harness.captioning.scores import bleu_counts, bleu_of, document_frequencies, paired
from harness.errors import BenchError
from harness.report.against import compare_with
from harness.report.comparing import compare, report
from harness.report.selecting import select
from harness.report.table import render
from harness.statistics import holm
from harness.store.queries import captioning_datasets, leaderboard
from harness.store.reading import Reader, open_reader
from harness.store.store import Store, open_store
from harness.types import CaptionOutcome, Corpus

N = 60
RANDOM = np.random.default_rng(0)
WORDS = list("abcdefgh")
REFERENCES = tuple(tuple(" ".join(RANDOM.choice(WORDS, 6)) for _ in range(2)) for _ in range(N))
FREQUENCIES = document_frequencies(REFERENCES)


def spoilt(every: int) -> list[str]:
    """The first reference of each image, every so many with another beginning."""
    return [("h h h " + a[6:]) if k % every == 0 else a for k, (a, _) in enumerate(REFERENCES)]


BASE, ALIKE, WORSE = spoilt(4), spoilt(5), spoilt(2)


def captions(said: Sequence[str], ids: Any = None, **changes: Any) -> CaptionOutcome:
    zeros = np.zeros(len(said))
    common: dict[str, Any] = dict.fromkeys(("loss", "linf", "l2", "forwards", "backwards", "proposal_size"), zeros)
    corpus = Corpus(frozenset(), frozenset(), FREQUENCIES, N)
    ids = np.arange(len(said)) if ids is None else ids
    texts = tuple(REFERENCES[k % N] for k in ids.tolist())
    more = {**common, "bleu_counts": bleu_counts(said, texts), **changes}
    return CaptionOutcome(ids, texts, tuple(said), tuple(said), corpus=corpus, seconds=1.0, **more)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(str(tmp_path / "results.db")) as opened:
        yield opened


@pytest.fixture
def reader(store: Store, tmp_path: Path) -> Iterator[Reader]:
    fill = Filler(store)
    for number, (model, said) in enumerate({"base": BASE, "alike": ALIKE, "worse": WORSE}.items()):
        fill.cell(0xA0 + number, [True] * N, model, captions=captions(said), dataset="scenes")
    half = np.arange(0, N, 2)[::-1].copy()
    fill.cell(0xB0, [True] * 30, "half", captions=captions([WORSE[k] for k in half], half), dataset="scenes")
    fill.cell(0xB1, [True] * N, "strangers", captions=captions(BASE, np.arange(N) + N), dataset="scenes")
    fill.cell(0xB2, [True] * N, "elsewhere", captions=captions(BASE), dataset="photographs")
    fill.cell(0xB3, [True] * N, "classes")
    with open_reader(str(tmp_path / "results.db")) as opened:
        yield opened


def between(reader: Reader, a: str, b: str, format: str = "rich") -> str:
    return report(compare(reader, *(select(reader, f"{name}/none/pgd") for name in (a, b))), format)


def test_a_comparison_is_the_paired_bootstrap_of_the_captions(reader: Reader) -> None:
    data = json.loads(between(reader, "base", "worse", "json"))
    expected = paired(bleu_counts(BASE, REFERENCES), bleu_counts(WORSE, REFERENCES), bleu_of(4))
    assert data["difference"] == pytest.approx(expected._asdict())
    assert data["a"]["bleu4"]["value"] == pytest.approx(bleu_of(4)(bleu_counts(BASE, REFERENCES).sum(0)))
    assert (data["n"], data["different"], data["a"]["model"]) == (N, True, "base")
    shown = between(reader, "worse", "base")
    assert "They can be told apart: B has the higher BLEU-4 on the same images." in shown
    assert f"n = {N} (95 % interval, paired bootstrap), p = " in shown
    assert f"-{100 * expected.value:.1f}" in shown


def test_images_are_paired_by_their_number_in_whatever_order(reader: Reader) -> None:
    data = json.loads(between(reader, "half", "worse", "json"))
    assert data["n"] == 30
    assert data["difference"]["value"] == pytest.approx(0.0, abs=1e-12)
    assert not data["different"]
    shown = between(reader, "half", "worse")
    assert "Only the 30 images that both attack are compared; A has 30, B has 60." in shown
    assert "They cannot be told apart by BLEU-4 with 30 images." in shown


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("strangers", "share no image whose caption was held against its references"),
        ("elsewhere", "photographs; cells on the same data are needed"),
        ("classes", "cells on the same data are needed"),
    ],
)
def test_what_cannot_be_paired_is_refused(reader: Reader, other: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        between(reader, "base", other)


def test_captions_of_an_older_store_are_not_guessed(store: Store, tmp_path: Path, reader: Reader) -> None:
    reader.close()
    with closing(sqlite3.connect(tmp_path / "results.db")) as connection, connection:
        cleared = connection.execute("UPDATE captions SET bleu_counts = NULL WHERE cell_key = ?", (key(0xA1),))
        assert cleared.rowcount == N
    message = "those of an older store with --fresh"
    with open_reader(str(tmp_path / "results.db")) as opened, pytest.raises(BenchError, match=message):
        between(opened, "base", "alike")


def test_the_table_tells_how_far_each_is_from_a_base(reader: Reader) -> None:
    rows = leaderboard(reader)
    found = compare_with(reader, rows, "base")
    named = {place[2]: contrast for place, contrast in found.sentences.items()}
    assert set(named) == {"alike", "worse"}  # half of the images, other images, other data: not comparable
    assert not found.contrasts
    truth = {
        name: paired(bleu_counts(said, REFERENCES), bleu_counts(BASE, REFERENCES), bleu_of(4))
        for name, said in {"alike": ALIKE, "worse": WORSE}.items()
    }
    adjusted = dict(zip(truth, holm([one.p_value for one in truth.values()]), strict=True))
    for name, contrast in named.items():
        assert contrast.difference == pytest.approx(truth[name].value)
        assert contrast.p == pytest.approx(adjusted[name])
    assert named["worse"].significant


def test_the_mark_stands_in_the_column_of_bleu(store: Store, tmp_path: Path) -> None:
    from harness.store.records import CellRecord, ScoreRecord
    from harness.types import Status

    fill = Filler(store)
    for number, (model, said) in enumerate({"base": BASE, "worse": WORSE}.items()):
        fill.cell(0xC0 + number, [True] * N, model, captions=captions(said), dataset="scenes")
        record = CellRecord(key(0xC0 + number), "r1", Status.OK, "cpu", "s", "pgd", "Linf", 8 / 255, n=N)
        scores = [ScoreRecord("bleu4", "k", 0.5, 0.4, 0.6, N, "fraction"),
                  ScoreRecord("cider_d", "k", 2.0, 1.0, 3.0, N, "points")]  # fmt: skip
        store.save_cell(record, captions(said), scores, [])
    with open_reader(str(tmp_path / "results.db")) as opened:
        rows, captioned = leaderboard(opened), captioning_datasets(opened)
        against = compare_with(opened, rows, "base")
        shown = render(rows, format="markdown", captioned=captioned, order=("cider_d", "bleu4"), against=against)
        data = json.loads(render(rows, format="json", captioned=captioned, against=against))
    line = next(line for line in shown.splitlines() if "vs base" in line)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1] == ""
    assert cells[2].startswith("-")
    assert cells[2].endswith("*")
    assert "points of BLEU-4 more or less than base, on the same images" in shown
    told = {(one["model"], one["metric"]): one["against_p"] for one in data}
    assert told["worse", "bleu4"] < 0.05
    assert told["worse", "cider_d"] is None
    assert told["base", "bleu4"] is None
