"""What a request may ask for beside one budget: from the command line through the plan to the stored outcomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cli
from harness import locating, plan
from harness import run as flow
from harness.config import resolve
from harness.errors import BenchError
from harness.progress import Reporter
from harness.request import Options
from harness.steps import CellStep, Plan
from harness.types import SEVERITY, Outcome, Status

pytestmark = pytest.mark.usefixtures("workplace")

FOUR, EIGHT, SIXTEEN = 4 / 255, 8 / 255, 16 / 255
N = 40
TRAINING = ("models.resnet_original.training.epochs=2",)
SHORT = (
    *("attacks.fmn.steps=10", "attacks.fmn.restarts=1", "attacks.square.queries=20", "attacks.square_probe.queries=20"),
    *("attacks.apgd_ce.steps=4", "attacks.apgd_t.steps=3", "attacks.apgd_t.n_target_classes=2", "attacks.pgd.steps=5"),
    *("attacks.fab_t.iterations=2", "attacks.fab_t.n_target_classes=2", "attacks.pgd_eot.eot=3"),
)


def built(*changes: str, **options: Any) -> Plan:
    wanted = {"models": ["resnet_original"], "attacks": ["pgd"], "defenses": ["none"], **options}
    return plan.build(resolve(Options(settings=changes, **wanted)), locating.roots(), download=False)


def cell(*changes: str, **options: Any) -> CellStep:
    (only,) = built(*changes, **options).cells
    return only


def eps_of(cells: Sequence[CellStep]) -> list[float | None]:
    return [found.threat.eps if found.threat else None for found in cells]


def refused(*changes: str, **options: Any) -> str:
    with pytest.raises(BenchError) as caught:
        built(*changes, **options)
    (line,) = str(caught.value).splitlines()
    return line


class Heard(Reporter):
    """Keeps which steps were begun and what was said."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.lines: list[str] = []

    def step(self, label: str, seconds: float | None) -> None:
        self.steps.append(label)

    def say(self, text: str) -> None:
        self.lines.append(text)

    @property
    def attacked(self) -> list[str]:
        return [label for label in self.steps if " / " in label]

    @property
    def trained(self) -> list[str]:
        return [label for label in self.steps if label.startswith("fit ")]


@dataclass
class Ran:
    """One run: its cells, what it did, what the store then has of each cell."""

    cells: tuple[CellStep, ...]
    summary: flow.Summary
    heard: Heard
    outcomes: dict[tuple[str, float | None], Outcome]
    scores: dict[tuple[str, float | None], dict[str, float]]
    reasons: dict[tuple[str, float | None], dict[str, str]]


@dataclass
class Bench:
    """The program in this process: one store, trained weights that are shared by all tests."""

    artifacts: Path
    store: Path
    told: list[Ran] = field(default_factory=list)

    def __call__(self, *changes: str, fresh: bool = False, **options: Any) -> Ran:
        from harness.store.queries import leaderboard
        from harness.store.reading import open_reader
        from harness.store.store import open_store

        options = {"models": ["resnet_original"], "defenses": ["none"], "limit": str(N), **options}
        places, heard = flow.Places((), str(self.store), str(self.artifacts)), Heard()
        prospect = flow.prospect(Options(settings=(*TRAINING, *SHORT, *changes), **options), places, fresh=fresh)
        summary = flow.execute(prospect, places, "bench run", heard, fresh=fresh)
        cells = prospect.plan.cells
        with open_store(places.store) as store, open_reader(places.store) as reader:
            rows = {(row.attack, row.eps): row for row in leaderboard(reader, run=summary.run_id)}
            ok = [(row, place) for place, row in rows.items() if row.status == "ok"]
            outcomes = {place: store.outcome(row.key) for row, place in ok}
        scores = {place: {s.metric: s.value for s in row.scores} for row, place in ok}
        reasons = {place: {reason.code: reason.text for reason in row.reasons} for place, row in rows.items()}
        return Ran(cells, summary, heard, outcomes, scores, reasons)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Artifacts in which resnet_original and resnet_noisy are trained."""
    folder = tmp_path_factory.mktemp("matrix")
    ran = Bench(folder / "artifacts", folder / "results.db")(
        models=["resnet_original", "resnet_noisy"], attacks=["clean"]
    )
    assert ran.summary.counts == {Status.OK: 2}
    return folder / "artifacts"


@pytest.fixture
def bench_here(trained: Path, workplace: Path) -> Bench:
    return Bench(trained, workplace / "results.db")


# --- several budgets


def test_budgets_rise_whatever_the_order_given_and_each_rests_on_the_one_before() -> None:
    cells = built(eps="16/255,4/255,8/255").cells
    assert eps_of(cells) == [FOUR, EIGHT, SIXTEEN]
    assert [c.before for c in cells] == [None, cells[0], cells[1]]
    assert [c.key for c in cells] == [c.key for c in built(eps="4/255,8/255,16/255,8/255").cells]
    assert len({c.family for c in cells}) == 1


def test_a_budget_after_a_smaller_one_has_another_key_than_alone() -> None:
    small, large = built(eps="8/255,16/255").cells
    assert small.key == cell(eps="8/255").key
    assert large.key != cell(eps="16/255").key
    assert large.family == cell(eps="16/255").family
    assert large.key != built(eps="4/255,16/255").cells[1].key


def test_each_attack_and_model_has_a_curve_of_its_own() -> None:
    cells = built(
        eps="8/255,16/255", attacks=["clean", "fgsm", "pgd"], models=["resnet_original", "resnet_noisy"]
    ).cells
    for found in cells:
        if found.before:
            assert found.before.subject == found.subject
            assert found.before.attack == found.attack
    assert [found.before is not None for found in cells] == [False, False, True, False, True] * 2


NO_CHAIN: Sequence[dict[str, Any]] = (
    {"final_iterate": True},
    {"attacks": ["fmn"]},
    {"attacks": ["pgd@resnet_noisy"]},
    {"attacks": ["pgd_targeted"]},
    {"attacks": ["gaussian_noise"], "severity": "1,3"},
)


@pytest.mark.parametrize("options", NO_CHAIN, ids=lambda options: " ".join(map(str, options.values())))
def test_what_has_no_chain(options: dict[str, Any]) -> None:
    cells = built(eps="8/255,16/255", **options).cells
    assert len(cells) == 2
    assert [found.before for found in cells] == [None, None]


@pytest.mark.slow
def test_what_fell_at_a_smaller_budget_is_not_attacked_again(bench_here: Bench) -> None:
    ran = bench_here(attacks=["pgd", "autoattack"], eps="16/255,8/255")
    for attack in ("pgd", "autoattack"):
        small, large = ran.outcomes[attack, EIGHT], ran.outcomes[attack, SIXTEEN]
        fell = ~small.correct
        assert 0 < fell.sum() < N
        assert (large.forwards[fell] == 0).all()
        assert (large.backwards[fell] == 0).all()
        assert (large.forwards[~fell] > 0).all()
        assert (large.prediction[fell] == small.prediction[fell]).all()
        assert (large.linf[fell] == small.linf[fell]).all()
        assert not large.correct[fell].any()


@pytest.mark.slow
def test_another_budget_computes_what_is_missing(bench_here: Bench) -> None:
    bench_here(attacks=["clean", "pgd"], eps="8/255")
    more = bench_here(attacks=["clean", "pgd"], eps="8/255,16/255")
    assert more.summary.cached == 2
    assert more.heard.attacked == ["resnet_original / none / pgd Linf 16/255"]
    # A smaller one comes before all others: their keys, and with them their numbers, are those of another curve.
    again = bench_here(attacks=["clean", "pgd"], eps="4/255,8/255,16/255")
    assert (again.summary.cached, len(again.heard.attacked)) == (1, 3)
    assert bench_here(attacks=["clean", "pgd"], eps="8/255,16/255").summary.cached == 3


BREAKS_AT_SMALL_EPS = """
    from dataclasses import dataclass
    from typing import ClassVar

    from harness.hookspecs import hookimpl


    @dataclass(frozen=True)
    class Fragile:
        norms: ClassVar[tuple[str, ...]] = ("Linf",)

        @hookimpl
        def perturb(self, batch, threat):
            if threat.eps < 0.02:
                raise RuntimeError("too small for me")
            return (batch.x + threat.eps).clamp(0, 1)
"""


@pytest.mark.slow
def test_a_failed_budget_fails_the_larger_ones_and_is_named(
    bench_here: Bench, plugin_distribution: Callable[..., Path]
) -> None:
    plugin_distribution("stranger", BREAKS_AT_SMALL_EPS, attacks={"fragile": "Fragile"})
    ran = bench_here(attacks=["fragile", "fgsm"], eps="4/255,8/255,16/255")
    assert ran.summary.counts == {Status.FAILED: 3, Status.OK: 3}
    assert ran.summary.exit_code == 1
    assert "too small for me" in ran.reasons["fragile", FOUR]["failed"]
    assert ran.reasons["fragile", EIGHT]["failed"].startswith("eps 0.01569 of the same curve comes first")
    assert ran.reasons["fragile", SIXTEEN]["failed"].startswith("eps 0.03137 of the same curve comes first")
    assert bench_here(attacks=["fragile"], eps="8/255,16/255").summary.counts == {Status.OK: 2}


# --- the smallest perturbation


@pytest.mark.slow
def test_one_search_answers_for_every_budget(bench_here: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.executors import local

    judged: list[str] = []

    def counting(trial: Any, *arguments: Any) -> Outcome:
        judged.append(trial.members[0].name)
        return judge(trial, *arguments)

    judge = local.judge
    monkeypatch.setattr(local, "judge", counting)
    first = bench_here(attacks=["fmn"], eps="8/255,16/255")
    later = bench_here(attacks=["fmn"], eps="4/255,8/255,16/255")
    assert judged == ["fmn"]
    assert (first.summary.cached, later.summary.cached) == (0, 2)
    outcomes = [later.outcomes["fmn", eps] for eps in (FOUR, EIGHT, SIXTEEN)]
    for eps, outcome in zip((FOUR, EIGHT, SIXTEEN), outcomes, strict=True):
        assert (outcome.proposal_size == outcomes[0].proposal_size).all()
        assert (outcome.correct == (outcome.clean_correct & (outcome.proposal_size > eps * (1 + 1e-6)))).all()
    assert outcomes[0].correct.sum() > outcomes[2].correct.sum()
    assert len({later.scores["fmn", eps]["median_distance"] for eps in (FOUR, EIGHT, SIXTEEN)}) == 1


@pytest.mark.slow
def test_another_search_is_not_taken_for_this_one(bench_here: Bench) -> None:
    bench_here(attacks=["fmn"], eps="8/255")
    for change in ({"limit": "30"}, {"query_budget": "9"}, {"models": ["resnet_noisy"]}):
        assert len(bench_here(attacks=["fmn"], eps="16/255", **change).heard.attacked) == 1


# --- ensembles

ENSEMBLES = {
    "an unknown member": (["attacks.e.members=['pdg', 'fgsm']"], "attacks: no such name 'pdg'; did you mean pgd"),
    "one member": (["attacks.e.members=['pgd']"], "attacks.e.members: got ['pgd']; two or more attacks are needed"),
    "no member": (["attacks.e.members=[]"], "attacks.e.members: got []; two or more"),
    "not a list": (["attacks.e.members=3"], "attacks.e.members"),
    "an ensemble inside": (["attacks.e.members=['autoattack', 'fgsm']"], "autoattack is an ensemble itself"),
    "itself inside": (["attacks.e.members=['e', 'fgsm']"], "attacks.e.members: e is an ensemble itself"),
    "another key": (["attacks.e.members=['pgd', 'fgsm']", "attacks.e.steps=3"], "attacks.e: key: no such name 'steps'"),
    "eot of 0": (["attacks.e.members=['pgd', 'fgsm']", "attacks.e.eot=0"], "attacks.e.eot: got 0; 1 or more"),
    "a member's surrogate": (
        ["attacks.e.members=['pgd', 'fgsm']", "attacks.pgd.surrogate='resnet_noisy'"],
        "attacks.e.members: pgd has a surrogate; give the ensemble one instead",
    ),
}


@pytest.mark.parametrize(("changes", "message"), ENSEMBLES.values(), ids=ENSEMBLES.keys())
def test_a_mistaken_ensemble_is_one_line(changes: Sequence[str], message: str) -> None:
    assert message in refused(*changes, attacks=["e"])


def test_the_key_of_an_ensemble_depends_on_its_members() -> None:
    key = cell(attacks=["autoattack"]).key
    assert cell("attacks.apgd_ce.steps=7", attacks=["autoattack"]).key != key
    assert cell("attacks.square.queries=7", attacks=["autoattack"]).key != key
    assert cell("attacks.pgd.steps=7", attacks=["autoattack"]).key == key
    assert cell("attacks.autoattack.eot=2", attacks=["autoattack"]).key != key
    swapped = "attacks.autoattack.members=['apgd_t', 'apgd_ce', 'fab_t', 'square']"
    assert cell(swapped, attacks=["autoattack"]).key != key


def test_an_ensemble_supports_the_norms_of_all_its_members() -> None:
    assert cell(attacks=["autoattack"], norm="L2", eps="0.5").skip == ""
    skipped = cell(attacks=["autoattack"], norm="L1", eps="5").skip
    assert skipped == "attack autoattack does not support L1; it supports Linf, L2"


@pytest.mark.slow
def test_an_ensemble_leaves_no_more_than_each_member(bench_here: Bench) -> None:
    members = ["apgd_ce", "apgd_t", "fab_t", "square"]
    ran = bench_here(attacks=[*members, "autoattack"], eps="16/255")
    best = ran.outcomes["autoattack", SIXTEEN]
    for member in members:
        assert not (best.correct & ~ran.outcomes[member, SIXTEEN].correct).any(), member
    told = best.facts["members"]
    assert [name for name, _, _ in told] == members[: len(told)]
    assert [share for _, share, _ in told] == sorted((share for _, share, _ in told), reverse=True)
    assert told[-1][1] == best.correct.mean()


# --- random models, queries, precision


def test_looks_averaged_are_part_of_the_key() -> None:
    assert len({cell(f"attacks.pgd.eot={eot}").key for eot in (1, 2, 3)}) == 3
    assert cell("attacks.pgd.eot=1").key == cell().key
    assert cell("attacks.pgd.eot=20").key == cell(attacks=["pgd_eot"]).key


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        (["attacks.pgd.eot=0"], {}, "attacks.pgd.eot: got 0; 1 or more looks"),
        (["attacks.pgd.eot=x"], {}, "attacks.pgd.eot: got 'x'"),
        ([], {"attacks": ["pgd_eot"], "query_budget": "5"}, "eot = 20 looks at each point, --query-budget 5 allows"),
        (["attacks.autoattack.eot=9"], {"attacks": ["autoattack"], "query_budget": "5"}, "eot = 9 looks"),
        ([], {"query_budget": "0"}, "--query-budget: got 0; forward passes a sample, 1 or more"),
        ([], {"query_budget": "five"}, "--query-budget: got 'five'; a whole number"),
        ([], {"precision": "float16"}, "float16"),
        ([], {"severity": "6"}, "--severity: got 6; whole numbers from 1 to 5"),
        ([], {"severity": "1,1.5"}, "--severity: got 1.5; whole numbers from 1 to 5"),
        ([], {"severity": "mild"}, "--severity: got 'mild'"),
        ([], {"surrogate": "resnet_nosy"}, "surrogate: no such name 'resnet_nosy'; did you mean resnet_noisy"),
        ([], {"attacks": ["pgd@vit_tf"]}, "surrogate: no such name 'vit_tf'; did you mean vit_ft"),
        ([], {"attacks": ["pgd@"]}, "attack pgd@: no surrogate after the @"),
        ([], {"attacks": ["pdg@resnet_noisy"]}, "--attacks: no such name 'pdg'; did you mean pgd"),
        ([], {"surrogate": "vit_ft", "transfer": True}, "--surrogate and --transfer: got both"),
        (["run.probe=squre"], {"verify": True}, "attacks: no such name 'squre'; did you mean square"),
        (["run.probe=autoattack"], {"verify": True}, "run.probe: autoattack is an ensemble"),
    ],
)
def test_a_mistake_is_one_line(changes: Sequence[str], options: dict[str, Any], message: str) -> None:
    assert message in refused(*changes, **options)


def test_how_it_is_attacked_is_part_of_the_key_but_of_no_clean_cell_s() -> None:
    for option in ({"query_budget": "5"}, {"precision": "bfloat16"}, {"final_iterate": True}):
        assert cell(**option).key != cell().key
        assert cell(attacks=["clean"], **option).key == cell(attacks=["clean"]).key
    assert cell(precision="float32").key == cell(verify=True).key == cell().key


QUERIES = 5


@pytest.mark.slow
def test_a_budget_of_queries_is_kept_for_each_sample(bench_here: Bench) -> None:
    attacks = ["fgsm", "pgd", "mi_fgsm", "square", "fab_t", "apgd_ce", "torchattacks_pgd"]
    ran = bench_here(attacks=[*attacks, "pgd_eot"], eps="8/255", query_budget=str(QUERIES))
    for attack in attacks:
        assert ran.outcomes[attack, EIGHT].forwards.max() <= QUERIES + 1, attack  # and the judge's look at the image
    # One point is worth three looks of attack and judge; another would be one query too many.
    assert ran.outcomes["pgd_eot", EIGHT].forwards.max() <= QUERIES + 3


@pytest.mark.slow
@pytest.mark.parametrize("attack", ["apgd_t", "pgd_targeted", "fmn"])
def test_a_look_at_the_clean_image_is_a_query_too(bench_here: Bench, attack: str) -> None:
    ran = bench_here(attacks=[attack], eps="8/255", query_budget=str(QUERIES))
    assert ran.outcomes[attack, EIGHT].forwards.max() <= QUERIES + 1


@pytest.mark.slow
def test_an_ensemble_has_one_budget_of_queries(bench_here: Bench) -> None:
    ran = bench_here(attacks=["autoattack"], eps="8/255", query_budget=str(QUERIES))
    assert ran.outcomes["autoattack", EIGHT].forwards.max() <= QUERIES + 1


@pytest.mark.slow
def test_lower_precision_is_held_against_float32(bench_here: Bench) -> None:
    ran = bench_here(attacks=["pgd"], eps="8/255", precision="bfloat16")
    assert 0 <= ran.outcomes["pgd", EIGHT].facts["precision_gap"] < 0.2
    full = bench_here(attacks=["pgd"], eps="8/255")
    assert "precision_gap" not in full.outcomes["pgd", EIGHT].facts
    assert abs(full.scores["pgd", EIGHT]["accuracy"] - ran.scores["pgd", EIGHT]["accuracy"]) < 0.1


# --- images made on another model


def test_a_surrogate_moves_attacks_and_neither_clean_nor_corruptions() -> None:
    made = built(attacks=["clean", "pgd", "gaussian_noise"], surrogate="resnet_noisy")
    assert [c.attack.name for c in made.cells] == ["clean", "pgd@resnet_noisy", "gaussian_noise"]
    assert [c.surrogate.model.name if c.surrogate else "" for c in made.cells] == ["", "resnet_noisy", ""]
    assert [fit.model.name for fit in made.fits] == ["resnet_original", "resnet_noisy"]
    assert made.cells[1].key == cell(attacks=["pgd@resnet_noisy"]).key != cell().key
    assert made.cells[1].key == cell("attacks.pgd.surrogate=resnet_noisy").key
    assert cell("models.resnet_noisy.training.epochs=1", attacks=["pgd@resnet_noisy"]).key != made.cells[1].key


def test_a_surrogate_in_the_registry_stays_where_the_command_names_another() -> None:
    Path("registry.toml").write_text('[attacks.moved]\nlike = "pgd"\nsurrogate = "resnet_noisy"\n')
    made = built(attacks=["moved", "fgsm"], surrogate="resnet_original")
    assert [(c.attack.name, c.attack.surrogate) for c in made.cells] == [
        ("moved", "resnet_noisy"),
        ("fgsm@resnet_original", "resnet_original"),
    ]


def test_transfer_takes_every_model_for_a_surrogate() -> None:
    models = ["resnet_original", "resnet_noisy"]
    made = built(models=models, attacks=["clean", "pgd"], transfer=True)
    assert [(c.hardened.model.name, c.attack.name) for c in made.cells] == [
        (model, attack) for model in models for attack in ("clean", *(f"pgd@{other}" for other in models))
    ]
    assert len({c.key for c in made.cells}) == 6
    assert not [c for c in made.cells if c.skip]


def test_a_surrogate_of_other_data_is_skipped_with_a_reason() -> None:
    found = cell(models=["vit_ft"], surrogate="resnet_noisy")
    assert found.skip == "surrogate resnet_noisy is trained on digits, the model attacked on digits_target"
    # The reason names the data, and a starting model of the surrogate is no obstacle.
    assert cell(models=["vit_scratch"], attacks=["pgd@vit_ft"]).skip == ""


@pytest.mark.slow
def test_a_surrogate_outside_the_matrix_is_trained(workplace: Path) -> None:
    bench = Bench(workplace / "artifacts", workplace / "results.db")
    cheap = ("models.resnet_original.training.epochs=1", "models.resnet_noisy.training.samples_per_epoch=200")
    ran = bench(*cheap, attacks=["pgd@resnet_noisy", "fgsm"], eps="16/255")
    assert set(ran.heard.trained) == {"fit resnet_original", "fit resnet_noisy"}
    assert {c.hardened.model.name for c in ran.cells} == {"resnet_original"}
    assert ran.summary.counts == {Status.OK: 2}
    assert bench(*cheap, attacks=["pgd@resnet_noisy"], eps="16/255").summary.cached == 1


@pytest.mark.slow
def test_images_made_elsewhere_are_weaker_and_say_nothing_of_gradients(bench_here: Bench) -> None:
    ran = bench_here(attacks=["pgd", "pgd@resnet_noisy", "autoattack@resnet_noisy"], eps="16/255")
    moved, own = ran.outcomes["pgd@resnet_noisy", SIXTEEN], ran.outcomes["pgd", SIXTEEN]
    assert moved.correct.sum() > own.correct.sum()
    assert set(ran.reasons["pgd@resnet_noisy", SIXTEEN]) <= {"few_samples"}
    # Each member works on what stands on the model attacked.
    assert ran.outcomes["autoattack@resnet_noisy", SIXTEEN].correct.sum() <= moved.clean_correct.sum()


# --- corruptions


def test_a_corruption_has_severities_in_the_place_of_a_norm() -> None:
    made = built(attacks=["clean", "gaussian_noise", "pgd"], severity="3,1")
    assert [(c.threat.norm, c.threat.eps) if c.threat else None for c in made.cells] == [
        None,
        (SEVERITY, 1),
        (SEVERITY, 3),
        ("Linf", 24 / 255),
    ]
    assert len(built(attacks=["gaussian_noise"], norm="L2", eps="0.5").cells) == 1
    assert eps_of(built("run.eps=[]", attacks=["gaussian_noise"]).cells) == [3]


@pytest.mark.slow
def test_corruptions_are_judged_by_severity(bench_here: Bench) -> None:
    ran = bench_here(attacks=["gaussian_noise"], severity="1,5", limit="120")
    mild, harsh = ran.outcomes["gaussian_noise", 1], ran.outcomes["gaussian_noise", 5]
    assert mild.l2.mean() < harsh.l2.mean()
    assert mild.correct.sum() >= harsh.correct.sum()
    assert set(ran.reasons["gaussian_noise", 5]) <= {"few_samples"}
    assert (mild.backwards == 0).all()


# --- the checks that cost passes


@pytest.mark.slow
def test_verifying_does_a_finished_cell_again_and_then_no_more(bench_here: Bench) -> None:
    how: dict[str, Any] = {"attacks": ["clean", "pgd", "fmn", "gaussian_noise"], "eps": "8/255,16/255"}
    plain = bench_here(**how)
    assert not any(outcome.facts["verified"] for outcome in plain.outcomes.values())
    assert all(outcome.quantised_prediction is None for outcome in plain.outcomes.values())
    verified = bench_here(verify=True, **how)
    assert verified.summary.cached == 0
    assert [c.key for c in verified.cells] == [c.key for c in plain.cells]
    assert bench_here(verify=True, **how).summary.cached == bench_here(**how).summary.cached == 6
    for place, outcome in verified.outcomes.items():
        assert outcome.facts["verified"]
        assert (outcome.correct == plain.outcomes[place].correct).all(), place
    for eps in (EIGHT, SIXTEEN):
        outcome = verified.outcomes["pgd", eps]
        assert outcome.quantised_prediction is not None
        assert "quantised_accuracy" in verified.scores["pgd", eps]
        assert outcome.facts["probed"] == outcome.correct.sum()
        assert outcome.facts["unlimited"] == outcome.clean_correct.sum()
    assert "probed" not in verified.outcomes["clean", None].facts
    assert "probed" not in verified.outcomes["gaussian_noise", 3].facts  # the probe knows no severities


@pytest.mark.slow
def test_the_probe_is_the_run_s(bench_here: Bench) -> None:
    none = bench_here("run.probe=''", attacks=["pgd"], eps="8/255", verify=True)
    assert "probed" not in none.outcomes["pgd", EIGHT].facts
    # A probe that sees gradients turns what one step of the attack left standing.
    weak, strong = ("attacks.pgd.steps=1", "attacks.pgd.alpha=0.001"), "run.probe=apgd_ce"
    found = bench_here(*weak, strong, attacks=["pgd"], eps="16/255", verify=True)
    assert found.outcomes["pgd", SIXTEEN].facts["probe_fooled"] > 2
    assert "black_box_stronger" in found.reasons["pgd", SIXTEEN]


@pytest.mark.slow
def test_a_search_at_the_boundary_raises_no_doubt_about_the_judge(bench_here: Bench) -> None:
    ran = bench_here("attacks.fmn.steps=100", "attacks.fmn.restarts=4", attacks=["fmn"], eps="16/255", limit="60")
    assert "predictions_differ" not in ran.reasons["fmn", SIXTEEN]


@pytest.mark.slow
@pytest.mark.parametrize("members", ["['fgsm', 'fmn']", "['fmn', 'fgsm']"])
def test_a_member_that_looks_for_the_smallest_perturbation_keeps_the_budget(bench_here: Bench, members: str) -> None:
    ran = bench_here(f"attacks.e.members={members}", attacks=["e", "fmn", "fgsm"], eps="8/255")
    outcome = ran.outcomes["e", EIGHT]
    assert np.array_equal(outcome.correct, ran.outcomes["fgsm", EIGHT].correct & ran.outcomes["fmn", EIGHT].correct)
    assert "over_budget" not in ran.reasons["e", EIGHT]
    assert outcome.linf.max() <= EIGHT + 1e-6
    assert "median_distance" not in ran.scores["e", EIGHT]


# --- exit codes


@pytest.mark.parametrize(
    "arguments",
    [
        "--severity 6",
        "--query-budget 0",
        "--precision float16",
        "--surrogate resnet_nosy",
        "--surrogate resnet_noisy --transfer",
        "--attacks pgd@",
        "--set attacks.pgd.eot=0",
        "--attacks pgd_eot --query-budget 5",
        "--attacks e --set attacks.e.members=['pgd']",
        "--attacks e --set attacks.e.members=['e','pgd']",
        "--verify --set run.probe=squre",
    ],
)
def test_bad_input_is_exit_code_2_and_one_line(
    arguments: str, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "run", *arguments.split()])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("bench: error: ")
    assert list(workplace.iterdir()) == []
