"""Everything about one cell, and that every doubt the harness can raise is explained."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cells import Filler, key

from harness.report.explanations import EXPLANATIONS, explanation
from harness.report.selecting import select
from harness.report.showing import as_json, as_text, gather
from harness.store.reading import Reader, open_reader
from harness.store.records import CellLabel, ScoreRecord, StepRecord
from harness.store.store import open_store
from harness.types import Reason, Status, Verdict

ROOT = Path(__file__).parent.parent
WEAK = Reason("weaker_than_fgsm", Verdict.SUSPECT, "pgd leaves 60 %,\nfgsm only 50 %")
OWN = Reason("of_a_plugin", Verdict.SUSPECT, "something of its own")


def document(component: str, inputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"component": component, "distribution": "adversarial-bench 0.1.0", "inputs": inputs, "seed": 0, **more}


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """A cell with everything, an undefended one, a failed one, one that was never reached."""
    hardware = {"system": "Linux", "processor": "EPYC", "cores": 2, "memory": 8 * 2**30}
    recipe = {"epochs": 7, "lr": 0.2, "augment": []}
    with open_store(str(tmp_path / "results.db")) as store:
        fill = Filler(store, versions={"torch": "2.15"}, hardware=hardware, git_revision="abc123", started="2025-01-02")
        for step in (
            StepRecord("fit0", "fit", "tiny/source", Status.OK, "r1", "cpu", 9.0, document=document("timm", {})),
            StepRecord(
                "fit1", "fit", "tiny/m", Status.OK, "r1", "cpu", 3.0, document=document("vit", {"start": "fit0"})
            ),
            StepRecord(
                "hard1", "harden", "tiny/m", Status.OK, "r1", "cpu", 5.0,
                document=document("madry", {"fit": "fit1"}, recipe=recipe, parameters={"eps": 24 / 255}),
            ),
        ):  # fmt: skip
            store.save_step(step)
        parameters = {"steps": 10, "alpha": 2 / 255, "loss": None}
        made = document("pgd", {"hardened": "hard1"}, parameters=parameters, samples={"split": "test", "n": 4})
        facts = {"verified": True, "shift": 0.0012, "eps": 8 / 255}
        fill.cell(
            0xAAAAAA, [True, False, True, True], defense="at", reasons=[WEAK, OWN], document=made,
            changes={"facts": facts}, access="gradient", family="f1",
        )  # fmt: skip
        store.save_scores(key(0xAAAAAA), [ScoreRecord("passes", "p", 10.0, None, None, 4, "passes")])
        fill.cell(0xBBBBBB, [True], document=document("pgd", {"hardened": "unstored"}))
        fill.cell(0xCCCCCC, None, attack="fgsm")
        label = CellLabel(99, key(0xDDDDDD), "tiny", "digits", "m", "none", "never", None, None, 0)
        store.label_cells("r1", [label])
    with open_reader(str(tmp_path / "results.db")) as opened:
        yield opened


def shown(reader: Reader, text: str) -> tuple[str, dict[str, Any]]:
    found = gather(reader, select(reader, text))
    return as_text(found), json.loads(as_json(found))


def test_a_cell_is_shown_with_everything(reader: Reader) -> None:
    text, data = shown(reader, "m/at/pgd")
    flat = " ".join(text.split())
    for piece in (
        "cell m / at / pgd",
        "data digits, n = 4 of the test split",
        "threat Linf 8/255, sees gradient",
        "profile tiny, seed 0",
        "verdict suspect",
        f"key {key(0xAAAAAA)}",
        "weaker_than_fgsm (suspect): pgd leaves 60 %, fgsm only 50 % A simpler attack",
        "accuracy 75.0 % [0.0, 100.0] n = 4",
        "passes 10.0 passes n = 4",
        "forwards 10 10 10",
        "backwards 5 5 5",
        "2 s on cpu for 4 samples, 0.5 s a sample",
        "verified true",
        "shift 0.0012",
        "eps 8/255",
        "attack: pgd of adversarial-bench 0.1.0, key aaaaaaeeeeee parameters: alpha 2/255, loss none, steps 10",
        "defense: madry of adversarial-bench 0.1.0, key hard1, trained in 5 s parameters: eps 24/255",
        "recipe: augment none, epochs 7, lr 0.2",
        "model tiny/m: vit of adversarial-bench 0.1.0, key fit1, trained in 3 s",
        "model tiny/source: timm of adversarial-bench 0.1.0, key fit0, trained in 9 s",
        "command bench run --models m",
        "revision abc123",
        "versions torch 2.15",
        "hardware EPYC, 2 cores, 8.0 GiB, Linux",
    ):
        assert piece in flat
    assert "found by its name" not in flat
    assert [link["kind"] for link in data["lineage"]] == ["attack", "harden", "fit", "fit"]
    assert [reason["explanation"] for reason in data["reasons"]] == [EXPLANATIONS["weaker_than_"], None]
    assert (data["facts"]["verified"], data["family"], data["access"]) == (True, "f1", "gradient")
    assert data["cost"]["seconds_per_sample"] == 0.5
    assert data["provenance"]["run"] == data["run"] == "r1"


def test_lines_are_short_and_items_whole(reader: Reader) -> None:
    lines = shown(reader, "m/at/pgd")[0].splitlines()
    assert max(map(len, lines)) <= 110
    assert lines == [line.rstrip() for line in lines]
    assert "\xa0" not in "".join(lines)


def test_a_model_that_no_training_defends_is_found_by_its_name(reader: Reader) -> None:
    text, data = shown(reader, "m/none/pgd")
    assert "key fit1, trained in 3 s, found by its name" in text
    assert [link["by_label"] for link in data["lineage"]] == [False, True, False]


def test_every_attack_of_a_cell_and_its_surrogate_are_shown(tmp_path: Path) -> None:
    parts = [document("first", {}, eot=1), document("second", {}, eot=4, parameters={"steps": 3})]
    inputs = {"hardened": "fit1", "surrogate": "fit0"}
    made = {"attack": parts, "inputs": inputs, "precision": "bfloat16", "query_budget": None, "final_iterate": False}
    with open_store(str(tmp_path / "results.db")) as store:
        fill = Filler(store)
        for name in ("fit1", "fit0"):
            step = StepRecord(name, "fit", f"tiny/{name}", Status.OK, "r1", "cpu", 1.0, document=document("vit", {}))
            store.save_step(step)
        fill.cell(1, [True], document=made)
    with open_reader(str(tmp_path / "results.db")) as reader:
        text, data = shown(reader, "m/none/pgd")
    assert [(link["kind"], link["component"]) for link in data["lineage"]] == [
        ("attack", "first"),
        ("attack", "second"),
        ("fit", "vit"),
        ("surrogate", "vit"),
    ]
    assert "parameters: steps 3, eot 4" in text
    assert "surrogate tiny/fit0: vit" in text
    assert "protocol  precision bfloat16, query_budget none, final_iterate false" in text


def test_a_cell_without_numbers_shows_why(reader: Reader) -> None:
    text, data = shown(reader, "m/none/fgsm")
    assert "failed (invalid): out of memory\n    The cell ended with an error" in text
    assert (data["scores"], data["cost"], data["n"], data["facts"]) == ([], None, 0, {})
    assert "cost" not in text
    text, data = shown(reader, "m/none/never")
    assert "interrupted (invalid): not reached by its run" in text
    assert "threat   no perturbation" in text
    assert (data["provenance"], data["status"]) == (None, "interrupted")


def test_the_run_that_measured_is_told_from_the_one_that_shows(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "results.db")) as store:
        Filler(store, "r1", started="2025-01-01").cell(1, [True])
        later = Filler(store, "r2", started="2025-01-02")
        store.label_cells("r2", [CellLabel(9, key(1), "tiny", "digits", "m", "none", "pgd", "Linf", 8 / 255, 0)])
        later.cell(2, [True], "n")
    with open_reader(str(tmp_path / "results.db")) as reader:
        text, data = shown(reader, "m/none/pgd")
    assert "r1 of 2025-01-01 UTC, shown by r2" in text
    assert (data["run"], data["provenance"]["run"]) == ("r2", "r1")


# --- explanations


def test_an_explanation_is_two_sentences() -> None:
    for code, text in EXPLANATIONS.items():
        sentences = re.split(r"(?<=\.) (?=[A-Z])", text)
        assert len(sentences) == 2, code
        assert text.endswith(".")
    assert explanation("weaker_than_anything") == EXPLANATIONS["weaker_than_"]
    assert explanation("weaker") is explanation("") is None


def emitted() -> Iterator[tuple[str, str]]:
    """Each code that the harness gives a Reason, as a pattern, with the file that does."""
    for path in sorted((ROOT / "harness").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Reason") and node.args:
                yield from ((pattern, path.name) for pattern in _patterns(node.args[0]))


def _patterns(code: ast.expr) -> list[str]:
    """A literal as it is, an f-string with anything in its gaps, both sides of a choice; a variable says nothing."""
    if isinstance(code, ast.Constant) and isinstance(code.value, str):
        return [re.escape(code.value)]
    if isinstance(code, ast.JoinedStr):
        return ["".join(re.escape(part.value) if isinstance(part, ast.Constant) else ".*" for part in code.values)]  # type: ignore[arg-type]
    return [*_patterns(code.body), *_patterns(code.orelse)] if isinstance(code, ast.IfExp) else []


def test_every_doubt_of_the_harness_is_explained() -> None:
    found = list(emitted())
    assert {"unchanged", "weaker_than_.*"} <= {pattern for pattern, _ in found}
    unexplained = [place for place in found if not any(re.fullmatch(place[0], code) for code in EXPLANATIONS)]
    assert unexplained == []
    for status in Status:
        assert status is Status.OK or explanation(status)


def test_showing_imports_nothing_heavy() -> None:
    code = "import sys, harness.report.showing; assert not {'numpy', 'torch', 'sqlalchemy', 'rich'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
