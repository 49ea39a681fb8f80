"""Naming one cell on the command line: by key and by names, and what is said where that is not one cell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cells import Filler, key
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import BenchError
from harness.report.selecting import Wanted, name, parse, select
from harness.store.reading import Reader, open_reader
from harness.store.store import open_store
from harness.types import NORMS


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    place = str(tmp_path_factory.mktemp("store") / "results.db")
    with open_store(place) as store:
        old = Filler(store, "r0", started="2025-01-01")
        old.cell(0x111111, [True], "vit", "clean", norm=None, eps=None)
        fill = Filler(store, "r1", started="2025-01-02")
        fill.cell(0xABCDEF, [True, False], "vit", "clean", norm=None, eps=None)
        fill.cell(0xABCDE0, [True], "vit", "pgd")
        fill.cell(0xABC001, [True], "vit", "pgd", eps=16 / 255)
        fill.cell(0xABC002, [True], "vit", "pgd", norm="L2", eps=0.5)
        fill.cell(0xABC003, [True], "resnet", "pgd", seed=0)
        fill.cell(0xABC004, [True], "resnet", "pgd", seed=1)
        fill.cell(0xABC005, None, "resnet", "fgsm")
        fill.cell(0xABC005, None, "alias", "fgsm")
        fill.cell(0xABC006, [True], "resnet", "pgd", profile="small")
    with open_reader(place) as opened:
        yield opened


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("abcdef", 0xABCDEF),
        ("ABCDE0", 0xABCDE0),
        (key(0xABC001), 0xABC001),
        ("111111", 0x111111),  # older than what the table shows
        ("vit/none/clean", 0xABCDEF),
        ("vit/none/pgd:8/255", 0xABCDE0),
        ("vit/none/pgd:Linf:8/255", 0xABCDE0),
        ("vit/none/pgd:16/255:linf", 0xABC001),
        ("vit/none/pgd:0.0627451", 0xABC001),
        ("vit/none/pgd:L2", 0xABC002),
        ("vit/none/pgd:.5", 0xABC002),
        ("alias/none/fgsm", 0xABC005),
    ],
)
def test_a_cell_is_found(reader: Reader, text: str, number: int) -> None:
    assert select(reader, text).key == key(number)


def test_seed_and_profile_narrow(reader: Reader) -> None:
    found = {
        (seed, profile): select(reader, "resnet/none/pgd", seed=seed, profile=profile).key
        for seed, profile in ((1, None), (0, "tiny"), (None, "small"))
    }
    assert found == {(1, None): key(0xABC004), (0, "tiny"): key(0xABC003), (None, "small"): key(0xABC006)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vti/none/pgd", "vti/none/pgd: model: no such name 'vti'; did you mean vit?"),
        ("vit/nnoe/pgd", "defense: no such name 'nnoe'; did you mean none?"),
        ("vit/none/pdg", "attack: no such name 'pdg'; did you mean pgd?"),
        ("vit/none/pgd:9/255", "no such budget; stored: 8/255, 16/255, 0.5"),
        ("vit/none/clean:9/255", "no such budget; stored: no perturbation"),
        ("vit/none/pgd:L1", "norm: no such name 'L1'"),
        ("vit/none/pgd:Lin", "norm: no such name 'Lin'; did you mean Linf"),
        ("vit/none/pgd:8/x", "vit/none/pgd:8/x: eps"),
        ("vit/none", "MODEL/DEFENSE/ATTACK"),
        ("vit//pgd", "MODEL/DEFENSE/ATTACK"),
        ("a/b/c/d", "MODEL/DEFENSE/ATTACK"),
        ("vit/none/pgd:1:2:3", "MODEL/DEFENSE/ATTACK"),
        ("abc", "the first 6 or more characters of a key"),
        ("vit", "the first 6 or more characters of a key"),
        ("abcd%%", "the first 6 or more characters of a key"),
        ("123456", "no cell has a key that begins so"),
        ("vit/none/pgd", f"3 cells are meant: vit/none/pgd:Linf:8/255, key {key(0xABCDE0)[:12]}; vit/none/pgd:Linf:16"),
        ("resnet/none/pgd", "3 cells are meant: resnet/none/pgd:Linf:8/255, profile tiny, seed 0, key"),
    ],
)
def test_what_is_not_one_cell_is_one_line(reader: Reader, text: str, message: str) -> None:
    with pytest.raises(BenchError) as caught:
        select(reader, text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_seed_that_is_not_stored_names_those_that_are(reader: Reader) -> None:
    with pytest.raises(BenchError, match="stored: profile small, seed 0; profile tiny, seed 0; profile tiny, seed 1"):
        select(reader, "resnet/none/pgd", seed=7)


def test_many_candidates_are_cut(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "results.db")) as store:
        fill = Filler(store)
        for seed in range(9):
            fill.cell(0xABC000 + seed, [True], seed=seed)
    with open_reader(str(tmp_path / "results.db")) as reader, pytest.raises(BenchError, match=r"9 cells.*and 3 more$"):
        select(reader, "m/none/pgd")


def test_every_name_that_is_shown_can_be_typed(reader: Reader) -> None:
    for number in (0xABCDEF, 0xABCDE0, 0xABC001, 0xABC002):
        row = select(reader, key(number))
        assert select(reader, name(row)).key == row.key


words = st.text("abcdefgh_", min_size=1, max_size=6)


@given(names=st.tuples(words, words, words), norm=st.none() | st.sampled_from(NORMS), k=st.none() | st.integers(0, 255))
def test_parsing_undoes_writing(names: tuple[str, str, str], norm: str | None, k: int | None) -> None:
    parts = ["/".join(names), *([norm] if norm else []), *([] if k is None else [f"{k}/255"])]
    assert parse(":".join(parts)) == Wanted(names, norm, None if k is None else pytest.approx(k / 255))  # type: ignore[arg-type]
