"""Content keys: each cell has its own, and a change reaches the cells that it changes and no others."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import locating, plan
from harness.config import resolve
from harness.errors import BenchError
from harness.keys import key_of
from harness.request import Options
from harness.steps import CellStep, Plan
from harness.types import Threat

pytestmark = pytest.mark.usefixtures("workplace")

Coordinate = tuple[str, str, str]
RESNET_AND_VIT = ("resnet_original", "vit_ft")

KEYS_OF_ANOTHER_PROCESS = """
from harness import locating, plan
from harness.config import resolve
from harness.request import Options
print(*(cell.key for cell in plan.build(resolve(Options()), locating.roots(), download=False).cells))
"""


def built(*changes: str, **options: Any) -> Plan:
    request = resolve(Options(settings=changes, **options))
    return plan.build(request, locating.roots(), download=False)


def name(cell: CellStep) -> Coordinate:
    return cell.hardened.model.name, cell.hardened.defense.name, cell.attack.name


def keys(made: Plan) -> dict[Coordinate, str]:
    found = {name(cell): cell.key for cell in made.cells}
    assert len(found) == len(made.cells)
    return found


def changed(*changes: str, **options: Any) -> set[Coordinate]:
    before, after = keys(built()), keys(built(*changes, **options))
    assert before.keys() == after.keys()
    return {cell for cell in before if before[cell] != after[cell]}


def cells(model: str = "", defense: str = "", attack: str = "") -> set[Coordinate]:
    wanted = (model, defense, attack)
    return {cell for cell in keys(built()) if all(want in ("", got) for want, got in zip(wanted, cell, strict=True))}


def test_the_tiny_profile_has_24_cells_with_24_keys() -> None:
    made = built()
    assert len(made.cells) == len({cell.key for cell in made.cells}) == 24
    assert all(len(cell.key) == 64 for cell in made.cells)
    assert not [cell for cell in made.cells if cell.fault or cell.skip]


def test_cells_share_the_steps_before_them() -> None:
    made = built()
    fits = {cell.hardened.model.name: cell.hardened.fit.key for cell in made.cells}
    assert len(set(fits.values())) == 4
    assert {(cell.hardened.model.name, cell.hardened.fit.key) for cell in made.cells} == set(fits.items())
    assert [step.model.name for step in made.fits].count("vit_source") == 1
    names = [step.model.name for step in made.fits]
    assert names.index("vit_source") < names.index("vit_ft")
    assert {step.defense.name for step in made.hardenings} == {"pgd_at"}
    assert len(made.hardenings) == 4


def test_cells_of_one_model_under_one_defense_and_their_samples_share_a_subject() -> None:
    subjects: dict[tuple[str, ...], set[str]] = {}
    for cell in built().cells:
        subjects.setdefault(name(cell)[:2], set()).add(cell.subject)
    assert {len(found) for found in subjects.values()} == {1}
    assert len(set.union(*subjects.values())) == 8


REACH: Mapping[str, tuple[Sequence[str], Sequence[Mapping[str, str]]]] = {
    "an attack's parameter": (["attacks.pgd.steps=11"], [{"attack": "pgd"}]),
    "another parameter of it": (["attacks.pgd.random_start=false"], [{"attack": "pgd"}]),
    "a defense's parameter": (["defenses.pgd_at.steps=3"], [{"defense": "pgd_at"}]),
    "a defense's recipe": (["defenses.pgd_at.training.weight_decay=0.5"], [{"defense": "pgd_at"}]),
    "a model's recipe under defenses": (
        ["models.vit_scratch.hardening.epochs=3", "models.vit_ft.hardening.epochs=20"],
        [{"model": "vit_scratch", "defense": "pgd_at"}],
    ),
    "a model's width, inherited": (
        ["models.resnet_original.width=0.25"],
        [{"model": "resnet_original"}, {"model": "resnet_noisy"}],
    ),
    "a model's recipe": (["models.resnet_noisy.training.noise_variance=0.1"], [{"model": "resnet_noisy"}]),
    "the recipe of the model it starts from": (["models.vit_source.training.epochs=2"], [{"model": "vit_ft"}]),
    "a dataset's parameter": (
        ["datasets.digits.split_seed=1"],
        [{"model": "resnet_original"}, {"model": "resnet_noisy"}],
    ),
    "a source dataset's parameter": (["datasets.digits_source.split_seed=1"], [{"model": "vit_ft"}]),
    "another component": (["attacks.fgsm.component=torchattacks_fgsm"], [{"attack": "fgsm"}]),
}


@pytest.mark.parametrize(("changes", "reach"), REACH.values(), ids=REACH.keys())
def test_a_change_reaches_its_cells_and_no_others(changes: Sequence[str], reach: Sequence[Mapping[str, str]]) -> None:
    assert changed(*changes) == set.union(*(cells(**part) for part in reach))


def test_the_budget_reaches_every_attack_and_no_clean_cell() -> None:
    assert changed(eps="23/255") == cells() - cells(attack="clean")
    assert changed(norm="L2", eps="24/255") == cells() - cells(attack="clean")


@pytest.mark.parametrize("options", [{"seeds": "1"}, {"limit": "20"}])
def test_the_seed_and_the_samples_reach_every_cell(options: dict[str, str]) -> None:
    assert changed(**options) == cells()


def test_a_limit_changes_no_training_step_and_a_seed_changes_all() -> None:
    def steps(**options: str) -> set[str]:
        made = built(**options)
        return {fit.key for fit in made.fits} | {hardening.key for hardening in made.hardenings}

    assert steps(limit="20") == steps()
    assert not steps(seeds="1") & steps()


def test_a_limit_of_all_samples_is_no_limit() -> None:
    # digits has 449 test images, digits_target half of 714.
    assert changed(limit="449") == set()


@pytest.mark.parametrize(
    "change",
    [
        "run.batch_size=7",
        "run.device='cpu'",
        "run.threads=2",
        "run.about='something else'",
        "models.resnet_original.pass_ms=99",
        "attacks.pgd.steps=10",
        "defenses.none.training.epochs=3",
    ],
)
def test_what_changes_no_number_changes_no_key(change: str) -> None:
    assert changed(change) == set()


def test_the_folder_changes_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(built())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert keys(built()) == before


def test_keys_are_the_same_in_every_process(workplace: Path) -> None:
    command = [sys.executable, "-c", KEYS_OF_ANOTHER_PROCESS]
    environment = os.environ | {"PYTHONHASHSEED": "271828"}
    told = subprocess.run(command, cwd=workplace, env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.split() == [cell.key for cell in built().cells]


def test_a_key_does_not_depend_on_the_order_of_a_document() -> None:
    assert key_of({"a": 1, "b": {"c": 2, "d": 3}}) == key_of({"b": {"d": 3, "c": 2}, "a": 1})
    assert key_of({"a": 1}) != key_of({"a": "1"})


# --- names are labels


def test_a_new_name_changes_no_key() -> None:
    Path("registry.toml").write_text(
        '[models.renamed]\nlike = "vit_ft"\n[attacks.mine]\nlike = "pgd"\n[defenses.at]\nlike = "pgd_at"\n'
    )
    old = built(models=["vit_ft"], attacks=["pgd"], defenses=["pgd_at"]).cells
    new = built(models=["renamed"], attacks=["mine"], defenses=["at"]).cells
    assert [cell.key for cell in new] == [cell.key for cell in old]
    assert new[0].label == "renamed / at / mine Linf 24/255"


PARAMETERS: Mapping[str, Sequence[str]] = {
    "models.resnet_original.width": ("0.125", "0.25"),
    "models.resnet_original.training.epochs": ("12", "3"),
    "models.resnet_original.training.lr": ("1e-2", "2e-2"),
    "models.resnet_original.hardening.epochs": ("7", "2"),
    "datasets.digits.test": ("0.25", "0.5"),
    "defenses.pgd_at.eps": ("24/255", "16/255"),
    "attacks.pgd.steps": ("10", "5"),
    "attacks.pgd.alpha": ("1/255", "0.01"),
    "run.eps": ("24/255", "8/255"),
    "run.seeds": ("[0]", "[1]"),
    "run.limit": ("50", "40"),
}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_equal_content_shares_a_key_and_different_content_never_does(data: st.DataObject) -> None:
    choose = st.fixed_dictionaries({parameter: st.sampled_from(values) for parameter, values in PARAMETERS.items()})
    one, other = data.draw(choose), data.draw(st.one_of(choose, st.just(None)))
    other = other or one

    def key(chosen: Mapping[str, str], order: int) -> str:
        changes = [f"{parameter}={value}" for parameter, value in chosen.items()][::order]
        options = {"models": ["resnet_original"], "attacks": ["pgd"], "defenses": ["pgd_at"]}
        (cell,) = built(*changes, **options).cells
        return cell.key

    assert (key(one, 1) == key(other, -1)) == (one == other)


@pytest.mark.slow
def test_every_single_parameter_tells_keys_apart() -> None:
    options = {"models": ["resnet_original"], "attacks": ["pgd"], "defenses": ["pgd_at"]}
    variants = [
        built(f"{name}={value}", **options).cells[0].key for name, values in PARAMETERS.items() for value in values
    ]
    # What the profile says anyway counts once for all parameters; alpha and limit are not set there.
    said_anyway = [name for name in PARAMETERS if name not in ("attacks.pgd.alpha", "run.limit")]
    assert len(set(variants)) == len(variants) - len(said_anyway) + 1


# --- weights from a file


def test_the_bytes_of_a_weights_file_count_and_its_path_does_not() -> None:
    def key(path: Path) -> str:
        return built(f"models.resnet_original.weights={path}", models=["resnet_original"]).cells[0].key

    first = Path("a.safetensors")
    first.write_bytes(b"one")
    there = Path("other/folder/a.safetensors")
    there.parent.mkdir(parents=True)
    there.write_bytes(b"one")
    before = key(first)
    assert key(there) == before
    assert key(first.absolute()) == before
    assert before != built(models=["resnet_original"]).cells[0].key
    first.write_bytes(b"two")
    assert key(first) != before


def test_the_name_of_a_weights_file_does_not_count() -> None:
    found = set()
    for file in ("a.safetensors", "b.safetensors"):
        Path(file).write_bytes(b"one")
        found.add(built(f"models.resnet_original.weights={file}", models=["resnet_original"]).cells[0].key)
    assert len(found) == 1


def test_a_missing_weights_file_is_one_line() -> None:
    with pytest.raises(BenchError, match=r"models\.vit_ft\.weights: none\.safetensors: no such file"):
        built("models.vit_ft.weights=none.safetensors")


# --- threats, faults and data


def test_several_budgets_give_one_clean_cell() -> None:
    made = built(eps="0,8/255,16/255", models=["resnet_original"])
    assert [(c.attack.name, c.threat) for c in made.cells if c.hardened.defense.name == "none"] == [
        ("clean", None),
        *(("fgsm", Threat("Linf", eps)) for eps in (0, 8 / 255, 16 / 255)),
        *(("pgd", Threat("Linf", eps)) for eps in (0, 8 / 255, 16 / 255)),
    ]
    assert len({cell.key for cell in made.cells}) == 14


def test_several_seeds_give_cells_of_their_own() -> None:
    made = built(seeds="0,1,2")
    assert len({cell.key for cell in made.cells}) == len(made.cells) == 72
    assert {cell.label for cell in made.cells if cell.seed == 2} == {f"{cell.label} seed 2" for cell in built().cells}


def test_a_norm_that_an_attack_does_not_support_is_skipped_with_a_reason() -> None:
    attacks = ["clean", "torchattacks_fgsm", "torchattacks_pgd"]
    made = built(norm="L2", eps="0.5", attacks=attacks, models=["resnet_original"])
    skipped = {cell.attack.name: cell.skip for cell in made.cells if cell.skip}
    assert skipped == {"torchattacks_fgsm": "attack torchattacks_fgsm does not support L2; it supports Linf"}


@pytest.mark.parametrize(("eps", "allowed"), [("1", True), ("1.01", False), ("8", False)])
def test_a_budget_above_the_pixel_range_is_refused(eps: str, allowed: bool) -> None:
    if allowed:
        assert len(built(eps=eps).cells) == 24
    else:
        with pytest.raises(BenchError, match=f"--eps {eps}: larger than the whole pixel range .*{eps}/255"):
            built(eps=eps)
    assert len(built(eps=eps, norm="L2").cells) == 24


def test_attacks_without_a_budget_are_refused_and_the_clean_cell_needs_none() -> None:
    with pytest.raises(BenchError, match="attack fgsm: no eps given"):
        built("run.eps=[]")
    assert len(built("run.eps=[]", attacks=["clean"]).cells) == 8


BREAKS: Mapping[str, tuple[dict[str, Any], set[Coordinate]]] = {
    "attacks": ({"attacks": ["fgsm", "odd"]}, set(itertools.product(RESNET_AND_VIT, ["none", "pgd_at"], ["odd"]))),
    "defenses": ({"defenses": ["odd", "pgd_at"]}, set(itertools.product(RESNET_AND_VIT, ["odd"], ["fgsm"]))),
    "models": ({"settings": "models.vit_ft.component=odd"}, {("vit_ft", d, "fgsm") for d in ("none", "pgd_at")}),
    "datasets": (
        {"settings": "datasets.digits_target.component=odd"},
        {("vit_ft", d, "fgsm") for d in ("none", "pgd_at")},
    ),
}


@pytest.mark.parametrize("kind", BREAKS)
def test_a_broken_plugin_faults_its_cells_and_no_others(kind: str, plugin_distribution: Callable[..., Path]) -> None:
    plugin_distribution("stranger", "raise RuntimeError('no licence')", **{kind: {"odd": "Odd"}})
    options, broken = BREAKS[kind]
    setting = options.get("settings")
    wanted = {"attacks": ["fgsm"], **{k: v for k, v in options.items() if k != "settings"}}
    made = built(*([setting] if setting else []), models=RESNET_AND_VIT, **wanted)
    assert {name(cell) for cell in made.cells if cell.fault} == broken
    assert all("no licence" in cell.fault for cell in made.cells if cell.fault)
    assert len({cell.key for cell in made.cells}) == len(made.cells) > len(broken)


def test_missing_data_says_what_to_do() -> None:
    with pytest.raises(BenchError) as caught:
        built(profile="small")
    text = str(caught.value)
    assert text.startswith("dataset cifar100: not found in data")
    assert "--data PATH or BENCH_DATA" in text
    assert len(text.splitlines()) == 1


def test_clashes_are_notes_of_the_plan(plugin_distribution: Callable[..., Path]) -> None:
    assert built().notes == ()
    plugin_distribution("stranger", "", attacks={"pgd": "Odd"})
    assert built().notes == ("attacks: 'pgd' is that of adversarial-bench, not of stranger",)


def test_another_version_of_a_distribution_changes_the_keys_of_its_components() -> None:
    request = resolve(Options())
    newer = {**request.attacks, "pgd": replace(request.attacks["pgd"], version="99")}
    after = plan.build(replace(request, attacks=newer), locating.roots(), download=False)
    assert {cell for cell, key in keys(built()).items() if key != keys(after)[cell]} == cells(attack="pgd")


def test_every_document_is_what_its_key_was_made_from() -> None:
    for cell in built().cells:
        for step in (cell, cell.hardened, cell.hardened.fit, cell.hardened.fit.data):
            assert key_of(json.loads(json.dumps(step.document))) == step.key
