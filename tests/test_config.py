"""registry.toml and the command line make a request: layers, inheritance, settings, and every mistake in one line."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import config
from harness.config import resolve
from harness.errors import BenchError
from harness.layers import entry, merge, profiled, read, with_settings
from harness.report.reference import published
from harness.request import Options
from harness.types import KINDS

pytestmark = pytest.mark.usefixtures("workplace")

PROFILES = ("tiny", "small", "report")
TABLES = st.recursive(
    st.integers() | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
).filter(lambda value: isinstance(value, dict))


def error_of(options: Options) -> str:
    with pytest.raises(BenchError) as caught:
        resolve(options)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    return text


def error_with(*settings: str) -> str:
    return error_of(Options(settings=settings))


def own(text: str, name: str = "registry.toml") -> str:
    Path(name).write_text(text)
    return name


# --- merging


@given(below=TABLES, above=TABLES)
def test_merging_changes_neither_table(below: Any, above: Any) -> None:
    before = copy.deepcopy((below, above))
    merge(below, above)
    assert (below, above) == before


@given(table=TABLES)
def test_merging_with_nothing_or_with_itself_is_the_same(table: Any) -> None:
    assert merge(table, {}) == merge({}, table) == merge(table, table) == table


def leaves(table: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for key, value in table.items():
        found |= leaves(value, (*path, key)) if isinstance(value, dict) and value else {(*path, key): value}
    return found


@given(below=TABLES, above=TABLES)
def test_the_upper_table_wins_and_the_rest_stays(below: Any, above: Any) -> None:
    merged = leaves(merge(below, above))
    upper = {path: value for path, value in leaves(above).items() if value != {}}
    assert upper.items() <= merged.items()
    # A value under or over one of the upper table's is replaced with it; every other one stays.
    for path, value in leaves(below).items():
        touched = any(path[: len(p)] == p or p[: len(path)] == path for p in leaves(above))
        assert touched or merged[path] == value


@given(a=TABLES, b=TABLES, c=TABLES)
def test_layers_may_be_merged_from_either_end_where_they_agree_on_what_is_a_table(a: Any, b: Any, c: Any) -> None:
    kinds: dict[tuple[str, ...], bool] = {}
    for table in (a, b, c):
        for path, is_table in shape(table).items():
            if kinds.setdefault(path, is_table) != is_table:
                return
    assert merge(merge(a, b), c) == merge(a, merge(b, c))


def shape(table: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], bool]:
    found: dict[tuple[str, ...], bool] = {}
    for key, value in table.items():
        found[*path, key] = isinstance(value, dict)
        found |= shape(value, (*path, key)) if isinstance(value, dict) else {}
    return found


# --- like


def test_like_inherits_along_a_chain_and_overrides() -> None:
    tables = {
        "attacks": {
            "a": {"component": "pgd", "steps": 7, "alpha": 0.1},
            "b": {"like": "a", "steps": 9},
            "c": {"like": "b", "alpha": 0.2},
        }
    }
    assert entry(tables, "attacks", "c") == {"component": "pgd", "steps": 9, "alpha": 0.2}


def test_like_inherits_from_a_bare_component() -> None:
    assert entry({"attacks": {"mine": {"like": "pgd", "steps": 3}}}, "attacks", "mine") == {
        "component": "pgd",
        "steps": 3,
    }


def test_like_merges_tables_inside_key_by_key() -> None:
    tables = {"models": {"a": {"training": {"lr": 1, "epochs": 2}}, "b": {"like": "a", "training": {"epochs": 3}}}}
    assert entry(tables, "models", "b")["training"] == {"lr": 1, "epochs": 3}


@pytest.mark.parametrize("others", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "b", "b": "c", "c": "b"}])
def test_like_in_a_circle_is_refused(others: dict[str, str]) -> None:
    with pytest.raises(BenchError, match="goes round in a circle"):
        entry({"attacks": {name: {"like": other} for name, other in others.items()}}, "attacks", "a")


def test_like_of_an_unknown_entry_names_the_nearest() -> None:
    options = Options(attacks=["pgd_restarts"], settings=["attacks.pgd_restarts.like=pgdd"])
    assert "no such name 'pgdd'; did you mean pgd" in error_of(options)


def test_a_profile_is_laid_over_before_like_is_followed() -> None:
    own("[profiles.mine.models.resnet_original]\nwidth = 0.25\n")
    # resnet_noisy is like resnet_original and not named in the profile.
    parameters = resolve(Options(profile="mine", models=["resnet_noisy"])).models["resnet_noisy"].parameters
    assert parameters["width"] == 0.25


def test_a_setting_is_laid_over_before_like_is_followed() -> None:
    request = resolve(Options(attacks=["pgd_restarts"], settings=["attacks.pgd.steps=3"]))
    assert request.attacks["pgd_restarts"].parameters["steps"] == 3
    assert request.attacks["pgd_restarts"].parameters["restarts"] == 5


# --- the user's registry


def test_the_registry_of_the_folder_extends_the_packaged_one() -> None:
    own('[attacks.weak]\ncomponent = "pgd"\nsteps = 1\n\n[run]\nseeds = [3]\n')
    request = resolve(Options(attacks=["weak", "pgd"]))
    assert request.attacks["weak"].component.steps == 1
    assert request.attacks["pgd"].component.steps == 10
    assert request.run.seeds == (3,)


def test_a_named_registry_replaces_that_of_the_folder() -> None:
    own("[run]\nseeds = [3]\n")
    own("[run]\nlimit = 5\n", "other.toml")
    run = resolve(Options(registry="other.toml")).run
    assert (run.seeds, run.limit) == ((0,), 5)


def test_a_profile_wins_over_the_user_s_entry_and_the_command_line_over_both() -> None:
    own('[run]\neps = "1/255"\n')
    assert resolve(Options()).run.eps == (24 / 255,)
    assert resolve(Options(profile="small")).run.eps == (1 / 255,)
    assert resolve(Options(settings=["run.eps=0.5"])).run.eps == (0.5,)
    assert resolve(Options(settings=["run.eps=0.5"], eps="2/255")).run.eps == (2 / 255,)


def test_a_profile_of_one_s_own() -> None:
    own(
        '[profiles.mine.run]\nmatrix = "short"\n[matrices.short]\nmodels = ["resnet_original"]\n'
        'attacks = ["clean"]\ndefenses = ["none"]\nmetrics = ["accuracy"]\n'
    )
    request = resolve(Options(profile="mine"))
    assert (request.profile, request.matrix.models, request.matrix.attacks) == (
        "mine",
        ("resnet_original",),
        ("clean",),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[run]\neps = = 3\n", "(at line 2, column 7): 'eps = = 3'"),
        ("[run\n", "(at line 1, column 5): '[run'"),
        ("[modles.x]\n", "no such name 'modles'; did you mean models"),
        ("models = 3\n", "models must be a table, got 3"),
        ("[models]\nx = 3\n", "models.x must be a table, got 3"),
        ("[matrices]\nx = []\n", "matrices.x must be a table, got []"),
        ("[profiles]\nx = 3\n", "profiles.x must be a table, got 3"),
        ("[profiles.x.modles.y]\n", "profiles.x: section: no such name 'modles'; did you mean models"),
        ("[profiles.x.models]\ny = 3\n", "models.y must be a table, got 3"),
        ("[run]\nep = 3\n", "run: key: no such name 'ep'; did you mean eps"),
        ("[matrices.report]\nattack = []\n", "matrices.report: key: no such name 'attack'; did you mean attacks"),
    ],
)
def test_a_mistake_in_the_registry_is_one_line(text: str, message: str) -> None:
    own(text)
    assert message in error_of(Options())


def test_a_registry_that_is_not_text_is_one_line() -> None:
    Path("registry.toml").write_bytes(b"about = '\xff'")
    assert "cannot be read" in error_of(Options())


def test_a_named_registry_must_exist() -> None:
    assert error_of(Options(registry="none.toml")).startswith("--registry none.toml: no such file")


# --- --set


def test_a_setting_is_toml_where_it_can_be_and_text_elsewhere() -> None:
    settings = ["attacks.pgd.steps=20", "attacks.pgd.alpha=1/255", "attacks.pgd.random_start=false"]
    settings += ["models.resnet_original.training.augment=['crop', 'flip']", "models.vit_ft.dataset=digits"]
    settings += [" attacks.fgsm_too.component = 'fgsm' "]
    request = resolve(Options(settings=settings, attacks=["pgd", "fgsm_too"]))
    pgd = request.attacks["pgd"].component
    assert (pgd.steps, pgd.alpha, pgd.random_start) == (20, 1 / 255, False)
    assert request.models["resnet_original"].recipe.augment == ("crop", "flip")
    assert request.models["vit_ft"].dataset == "digits"
    assert request.attacks["fgsm_too"].component_name == "fgsm"


def test_the_last_setting_wins_and_the_tables_stay() -> None:
    tables = read()
    before = copy.deepcopy(tables)
    changed = with_settings(tables, ["attacks.pgd.steps=20", "attacks.pgd.steps=30"])
    assert changed["attacks"]["pgd"] == {"steps": 30}
    assert tables == before


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("attacks.pgd.steps", "KEY=VALUE is needed"),
        ("steps=3", "KEY=VALUE is needed"),
        ("attacks..steps=3", "KEY=VALUE is needed"),
        ("=3", "KEY=VALUE is needed"),
        ("atacks.pgd.steps=3", "section: no such name 'atacks'; did you mean attacks"),
        ("profiles.tiny.run.limit=3", "section: no such name 'profiles'"),
        ("attacks.pgd.stepz=3", "attacks.pgd: key: no such name 'stepz'; did you mean steps?"),
        ("models.vit_ft.trainin.lr=3", "models.vit_ft: key: no such name 'trainin'; did you mean training"),
        ("models.vit_ft.training.epoch=3", "models.vit_ft.training: key: no such name 'epoch'; did you mean epochs"),
        ("attacks.pgd.steps=many", "attacks.pgd.steps: got 'many': expected int, got str"),
        ("attacks.pgd.steps=0", "attacks.pgd: steps and restarts: got 0"),
        ("attacks.pgd.alpha=nan", "attacks.pgd.alpha: got nan; a finite number"),
        ("attacks.pgd=3", "attacks.pgd must be a table, got 3"),
        ("attacks.pgd.like=3", "attacks.pgd.like must be a name, got 3"),
        ("attacks.pgd.component=['fgsm']", "attacks.pgd.component must be a name, got ['fgsm']"),
        ("attacks.pgd.component=fsgm", "component of attacks: no such name 'fsgm'; did you mean fgsm"),
        ("models.vit_ft.training=3", "models.vit_ft.training: got 3; a table is needed"),
        ("models.vit_ft.hardening=3", "models.vit_ft.hardening: got 3; a table is needed"),
        ("defenses.pgd_at.training=3", "defenses.pgd_at.training: got 3; a table is needed"),
        ("models.vit_ft.training.patience=0", "models.vit_ft.training: patience: got 0; 1 or more"),
        ("models.vit_ft.training.lr=inf", "models.vit_ft.training.lr: got inf; a finite number"),
        (
            "models.vit_ft.training.optimizer=adagrad",
            "models.vit_ft.training.optimizer: got 'adagrad'; adam, adamw or sgd is needed",
        ),
        ("models.vit_ft.dataset=digit", "no such name 'digit'; did you mean digits"),
        ("models.vit_ft.dataset=", "models.vit_ft: no dataset"),
        ("models.vit_ft.start=vit_scrach", "models: no such name 'vit_scrach'; did you mean"),
        ("defenses.pgd_at.eps=-1", "defenses.pgd_at: eps: got -1"),
        ("datasets.digits.classes=[1]", "at least two are needed"),
        ("matrices.report=3", "matrices.report must be a table"),
        ("matrices.report.models=[]", "matrices.report: no models"),
        ("matrices.report.attacks=['pdg']", "--attacks: no such name 'pdg'; did you mean pgd"),
        ("matrices.report.metrics=['acuracy']", "--metrics: no such name 'acuracy'; did you mean accuracy"),
        ("run.matrix=repotr", "--matrix: no such name 'repotr'; did you mean report"),
        ("run.seeds=[1.5]", "--seeds: got 1.5; a whole number"),
        ("run.seeds=[true]", "--seeds: got True; a whole number"),
        ("run.limit=1.5", "run.limit: got 1.5: expected int"),
        ("run.batch_size=0", "run.batch_size: got 0; 1 or more"),
        ("run.threads=-1", "run.threads: got -1; 0 or more"),
        ("run.norm=L3", "--norm: no such name 'L3'; did you mean L2"),
    ],
)
def test_a_mistaken_setting_is_one_line(setting: str, message: str) -> None:
    assert message in error_with(setting)


# --- options


def test_metrics_of_the_options_stand_in_the_place_of_the_matrix_s() -> None:
    request = resolve(Options(metrics=["accuracy", "top_k_accuracy:3", "accuracy"]))
    assert list(request.metrics) == ["accuracy", "top_k_accuracy:3"]
    assert request.metrics["top_k_accuracy:3"].parameters == {"k": 3}
    assert request.matrix.models == resolve(Options()).matrix.models
    assert "attack_success_rate" in resolve(Options()).metrics


@pytest.mark.parametrize(
    ("text", "eps"),
    [
        ("8/255", (8 / 255,)),
        ("0, 4/255,8/255 ", (0.0, 4 / 255, 8 / 255)),
        ("0.5", (0.5,)),
        ("8/255,8/255", (8 / 255,)),
    ],
)
def test_budgets(text: str, eps: tuple[float, ...]) -> None:
    assert resolve(Options(eps=text)).run.eps == eps


@pytest.mark.parametrize("text", ["-8/255", "eight", "8/0", "inf", "nan", "8/255;4/255"])
def test_a_budget_that_is_none_is_refused(text: str) -> None:
    assert error_of(Options(eps=text)).startswith("--eps: got")


def test_another_norm_needs_its_own_budget() -> None:
    assert "give --eps too" in error_of(Options(norm="L2"))
    run = resolve(Options(norm="L2", eps="0.5")).run
    assert (run.norm, run.eps) == ("L2", (0.5,))
    assert resolve(Options(norm="Linf")).run.eps == (24 / 255,)
    assert resolve(Options(norm="L1", eps="12")).run.norm == "L1"
    assert "no such name 'L3'" in error_of(Options(norm="L3", eps="1"))


@pytest.mark.parametrize(("text", "seeds"), [("0", (0,)), ("0, 1,5", (0, 1, 5)), ("2,2", (2,)), (str(2**63 - 1),) * 2])
def test_seeds(text: str, seeds: Any) -> None:
    wanted = seeds if isinstance(seeds, tuple) else (int(seeds),)
    assert resolve(Options(seeds=text)).run.seeds == wanted


@pytest.mark.parametrize("text", ["", ",", "-1", "1.5", "one", str(2**63)])
def test_seeds_that_are_none_are_refused(text: str) -> None:
    assert error_of(Options(seeds=text)).startswith("--seeds: ")


def test_the_limit() -> None:
    assert resolve(Options(limit="7")).run.limit == 7
    assert resolve(Options(profile="small")).run.limit == 1000
    for text in ("0", "-3", "1.5", "all"):
        assert error_of(Options(limit=text)).startswith("--limit: got")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(profile="tinny"), "--profile: no such name 'tinny'; did you mean tiny?"),
        (Options(matrix="repot"), "--matrix: no such name 'repot'; did you mean report?"),
        (Options(models=["vit_tf"]), "--models: no such name 'vit_tf'; did you mean vit_ft"),
        (Options(attacks=["pdg"]), "--attacks: no such name 'pdg'; did you mean pgd"),
        (Options(defenses=["pgd_ta"]), "--defenses: no such name 'pgd_ta'; did you mean pgd_at?"),
        (Options(models=["resnet18"]), "models.resnet18: no dataset"),
    ],
)
def test_an_unknown_name_gets_the_nearest(options: Options, message: str) -> None:
    assert message in error_of(options)


def test_names_given_twice_count_once() -> None:
    assert resolve(Options(attacks=["fgsm", "clean", "fgsm"])).matrix.attacks == ("fgsm", "clean")


def test_models_that_start_others_are_part_of_the_request() -> None:
    request = resolve(Options(models=["vit_ft"]))
    assert list(request.models) == ["vit_ft", "vit_source"]
    assert list(request.datasets) == ["digits_target", "digits_source"]
    assert request.matrix.models == ("vit_ft",)


@pytest.mark.parametrize("starts", [("vit_ft",), ("vit_source", "vit_ft"), ("vit_source", "vit_scratch", "vit_source")])
def test_starts_in_a_circle_are_refused(starts: tuple[str, ...]) -> None:
    chain = ["vit_ft", *starts]
    settings = [f"models.{name}.start={other}" for name, other in zip(chain, starts, strict=False)]
    message = error_of(Options(models=["vit_ft"], settings=settings))
    assert "start goes round in a circle: " + " -> ".join(chain) in message


# --- the packaged registry


@pytest.mark.parametrize("profile", PROFILES)
def test_every_packaged_entry_resolves_in_every_profile(profile: str) -> None:
    tables = profiled(read(), profile)
    for kind in KINDS:
        for name in tables[kind]:
            assert config.configure(tables, kind, name).fault == ""
    request = resolve(Options(profile=profile))
    assert len(request.matrix.models) * len(request.matrix.attacks) * len(request.matrix.defenses) == 24


def test_every_packaged_profile_is_tested_here() -> None:
    assert tuple(read()["profiles"]) == PROFILES


def test_the_profile_report_is_the_study_as_far_as_it_states_its_settings(study: dict[str, Any]) -> None:
    stated, request = study["settings"], resolve(Options(profile="report"))
    resnet, vit, hardening = stated["resnet"], stated["vit"], stated["adversarial_training"]
    recipe = request.models["resnet_original"].recipe
    assert (recipe.epochs, recipe.batch_size, recipe.lr) == (resnet["epochs"], resnet["batch"], resnet["lr"])
    assert (recipe.weight_decay, recipe.patience) == (resnet["weight_decay"], resnet["early_stop_patience"])
    assert recipe.optimizer == resnet["optimizer"].lower()
    assert "RandomCrop(32, padding 4), RandomHorizontalFlip, AutoAugment" in resnet["augmentation"]
    assert (recipe.augment, recipe.crop_padding) == (("crop", "flip", "autoaugment"), 4)
    assert recipe.noise_variance == 0
    assert "variance 0.05" in resnet["noise"]
    assert request.models["resnet_noisy"].recipe.noise_variance == 0.05
    assert request.models["resnet_original"].component.width == 1
    for name, epochs in vit["epochs"].items():
        model = request.models[name]
        assert (model.recipe.epochs, model.recipe.batch_size, model.recipe.lr) == (epochs, vit["batch"], vit["lr"])
        assert model.component.architecture == "vit_base_patch16_224"
        assert model.component.pretrained == (name == "vit_ft")
    assert (request.datasets["cifar100"].component.validation, request.datasets["flowers102"].component.size) == (
        0.1,
        224,
    )

    attacks = stated["attacks"]
    assert [attacks[name].partition("; ")[2] for name in ("eps", "alpha", "steps")] == [
        "8/255 taken",
        "2/255 taken",
        "10 taken",
    ]
    assert (request.run.norm, request.run.eps) == ("Linf", (8 / 255,))
    pgd, defense = request.attacks["pgd"].component, request.defenses["pgd_at"]
    assert (pgd.alpha, pgd.steps) == (2 / 255, 10)
    trained = (defense.component.eps, defense.component.alpha, defense.component.steps)
    assert trained == (8 / 255, 2 / 255, attacks["steps_in_training"])
    assert defense.training["epochs"] == hardening["epochs"]
    assert (defense.training["lr"], defense.training["optimizer"]) == (hardening["lr"], hardening["optimizer"].lower())


def test_the_published_table_is_that_of_the_study(study: dict[str, Any]) -> None:
    attacks = ("clean", "fgsm", "pgd")
    figures = published("report")
    assert {
        model: [figures[model][defense][attack] for defense in ("none", "pgd_at") for attack in attacks]
        for model in figures
    } == study["rows"]


def test_published_figures_must_be_numbers() -> None:
    own("[references.mine.model.none]\nclean = 'high'\n")
    with pytest.raises(BenchError, match=r"references\.mine: got .*expected float.*, got str"):
        published("mine")
