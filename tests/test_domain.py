"""``domain = "normalised"`` makes a widespread mistake again, exactly: attacks are handed normalised images."""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from networks import Linear, batch_of, digits
from torch import Tensor, nn

from harness import locating, plan
from harness import run as flow
from harness.artifacts import Artifacts
from harness.assault import Assault
from harness.attacking import ModelProblem, propose
from harness.building import build_module
from harness.config import resolve
from harness.domain import Normalised, inner
from harness.errors import BenchError
from harness.judging import Trial, judge
from harness.progress import Reporter
from harness.randomness import SampleRandom
from harness.request import Options
from harness.steps import CellStep, Plan
from harness.store.queries import Row, leaderboard
from harness.store.reading import open_reader
from harness.store.store import open_store
from harness.types import Batch, Outcome, Status, Threat
from plugins.attacks.fgsm import FGSM
from plugins.attacks.pgd import PGD
from plugins.attacks.torchattacks_fgsm import TorchattacksFGSM
from plugins.attacks.torchattacks_pgd import TorchattacksPGD
from plugins.defenses.pgd_at import PGDAdversarialTraining

pytestmark = pytest.mark.usefixtures("workplace")

EPS, ALPHA, STEPS = 24 / 255, 6 / 255, 10
CHEAP = ("models.resnet_original.training.epochs=2", "models.resnet_original.hardening.epochs=1")


def domain() -> Normalised:
    return Normalised(digits().mean, digits().std)


class Normalising(nn.Module):
    """Pixels -> normalised images -> the logits of a network that takes those."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(domain().enter(x))
        return logits


@functools.cache
def bare(seed: int = 0) -> nn.Module:
    """A network of normalised digits, without a normalisation of its own."""
    train = batch_of(digits().splits["train"])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        weights = list(network.parameters())
        for _ in range(8):
            for index in torch.randperm(len(train.y)).split(32):
                loss = F.cross_entropy(network(domain().enter(train.x[index])), train.y[index])
                for weight, slope in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                    weight.data -= 0.1 * slope
    return network.eval().requires_grad_(False)


def handed() -> Batch:
    """The test digits as the attack library gets them."""
    test = batch_of(digits().splits["test"])
    return test._replace(x=domain().enter(test.x))


# --- the same as the library


Library = Callable[[nn.Module], Callable[[Tensor, Tensor], Tensor]]


def library_fgsm(network: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    import torchattacks

    return torchattacks.FGSM(network, eps=EPS)


def library_pgd(network: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    import torchattacks

    return torchattacks.PGD(network, eps=EPS, alpha=ALPHA, steps=STEPS, random_start=False)


OURS = [(FGSM(), library_fgsm), (PGD(STEPS, ALPHA, random_start=False), library_pgd)]
THEIRS = [(TorchattacksFGSM(), library_fgsm), (TorchattacksPGD(STEPS, ALPHA, random_start=False), library_pgd)]
ATTACKS = [*OURS, *THEIRS]


def judged(attack: Any, *, crafted_on: nn.Module | None = None) -> tuple[Outcome, Tensor]:
    """What the judge says of the test digits under an attack in the normalised domain, and the images."""
    module, threat = domain().through(Normalising(bare()).eval()), Threat("Linf", EPS)
    elsewhere = None if crafted_on is None else domain().through(Normalising(crafted_on).eval())
    assault = Assault(attack, "attack", threat, 0, final_iterate=True)
    outcome = judge(Trial(module, [assault], 128, elsewhere), replace(digits().splits["test"], domain=domain()))
    images = propose(elsewhere or module, assault, handed())
    return outcome, threat.project(images, handed().x)


@pytest.mark.slow  # importing torchattacks takes seconds
@pytest.mark.parametrize(("attack", "library"), ATTACKS, ids=["fgsm", "pgd", "torchattacks_fgsm", "torchattacks_pgd"])
def test_the_outcome_is_that_of_torchattacks_on_normalised_tensors(attack: Any, library: Library) -> None:
    x, y, _ = handed()
    expected = library(bare())(x, y)
    outcome, images = judged(attack)
    torch.testing.assert_close(images, expected, atol=1e-5, rtol=0)
    says = bare()(expected).argmax(1).numpy()
    assert (outcome.prediction != says).sum() <= 1  # a logit in a thousand lies within rounding of another
    assert outcome.linf == pytest.approx((expected - x).abs().flatten(1).amax(1).numpy(), abs=1e-5)
    assert (outcome.clean_prediction == bare()(x).argmax(1).numpy()).all()
    assert 0 < (says != outcome.clean_prediction).sum() < len(y)


@pytest.mark.slow  # importing torchattacks takes seconds
@pytest.mark.parametrize(("attack", "library"), OURS, ids=["fgsm", "pgd"])
def test_our_attacks_leave_about_what_the_library_s_do(attack: Any, library: Library) -> None:
    x, y, _ = handed()
    expected = (bare()(library(bare())(x, y)).argmax(1) == y).float().mean()
    assert judged(attack)[0].correct.mean() == pytest.approx(float(expected), abs=0.03)


@pytest.mark.slow
def test_a_surrogate_is_handed_normalised_images_too() -> None:
    x, y, _ = handed()
    expected = library_fgsm(bare(seed=1))(x, y)
    outcome, images = judged(TorchattacksFGSM(), crafted_on=bare(seed=1))
    torch.testing.assert_close(images, expected, atol=1e-5, rtol=0)
    assert (outcome.prediction != bare()(expected).argmax(1).numpy()).sum() <= 1


@pytest.mark.slow
def test_most_of_an_image_is_cut_off_whatever_the_budget() -> None:
    images = library_fgsm(bare())(*handed()[:2])
    x = handed().x
    outside = (x < 0) | (x > 1)
    assert domain().cut_off(batch_of(digits().splits["test"]).x) == pytest.approx(float(outside.float().mean()))
    assert outside.float().mean() > 0.5
    assert ((images - x).abs()[outside] > EPS).float().mean() > 0.5
    assert (images >= 0).all()
    assert (images <= 1).all()


# --- the domain itself


def test_a_model_fed_with_normalised_images_says_what_it_says_of_pixels() -> None:
    pixels = batch_of(digits().splits["test"]).x
    module = Normalising(bare())
    torch.testing.assert_close(domain().through(module)(domain().enter(pixels)), module(pixels))


def test_channels_have_their_own_mean_and_deviation() -> None:
    found = Normalised((0.1, 0.2, 0.3), (0.5, 0.25, 0.125))
    x = torch.rand(2, 3, 4, 4)
    for channel in range(3):
        expected = (x[:, channel] - found.mean[channel]) / found.std[channel]
        torch.testing.assert_close(found.enter(x)[:, channel], expected)
    torch.testing.assert_close(found.through(nn.Conv2d(3, 3, 1))(found.enter(x)).shape, x.shape)


def test_the_weights_inside_have_the_names_of_the_plain_model() -> None:
    module = Normalising(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    state = inner(dict(domain().through(module).state_dict()))
    assert list(state) == list(module.state_dict())
    module.load_state_dict(state)


# --- hardening


@pytest.mark.parametrize("label", [0, 1])
def test_adversarial_training_sees_images_cut_off(label: int) -> None:
    """One step on a linear model: the gradient's sign is known, and with it the images and the loss."""
    mean, std = 0.3, 0.4
    weight = torch.tensor([[[2.0, -1.0], [0.5, -3.0]]])
    pixels = torch.tensor([[[[0.0, 1.0], [0.45, 0.6]]]])
    found = Normalised((mean,), (std,))
    batch = Batch(found.enter(pixels), torch.tensor([label]), torch.tensor([7]))
    defense = PGDAdversarialTraining(eps=0.1, steps=1, random_start=False)
    problem = ModelProblem(found.through(Linear(weight, 0.2)))
    loss = defense.objective(problem=problem, batch=batch, random=SampleRandom(0, batch.ids))

    sign = 1 if label == 0 else -1  # towards the other class
    x_adv = (batch.x + 0.1 * sign * weight.sign()).clamp(0, 1)
    score = (weight * (x_adv * std + mean)).sum() + 0.2
    torch.testing.assert_close(loss.sum(), F.softplus(sign * score))
    loss.sum().backward()
    slope = sign * torch.sigmoid(sign * score) * (x_adv[0] * std + mean)
    torch.testing.assert_close(problem.module.module.module.weight.grad, slope)


SEEN = """
    from dataclasses import dataclass, field

    from harness.hookspecs import hookimpl
    from harness.types import Threat
    from plugins.attacks.pgd import PGD

    SEEN = []


    @dataclass(frozen=True)
    class Watching:
        eps: float = 0.1

        @hookimpl
        def objective(self, problem, batch, random):
            x_adv = problem.perturb(PGD(steps=2), batch, Threat("Linf", self.eps), random)
            SEEN.append((batch.x.detach().clone(), batch.ids.clone(), x_adv))
            return problem.loss(x_adv, batch)
"""


@pytest.mark.slow
@pytest.mark.parametrize("which", ["pixels", "normalised"])
def test_the_objective_is_handed_what_the_domain_says(
    which: str, workplace: Path, plugin_distribution: Callable[..., Path]
) -> None:
    plugin_distribution("watcher", SEEN, defenses={"watching": "Watching"})
    run("models.resnet_original.training.epochs=1", "models.resnet_original.hardening.epochs=1", domain=which,
        attacks=["clean"], defenses=["watching"], limit="20")  # fmt: skip
    import watcher  # type: ignore[import-not-found]

    splits = digits().splits
    pixels = {int(i): x for split in ("train", "validation") for x, _, ids in [batch_of(splits[split])]
              for i, x in zip(ids, x, strict=True)}  # fmt: skip
    rehearsed, *seen = watcher.SEEN
    assert len(rehearsed[1]) == 2
    assert {int(i) for _, ids, _ in seen for i in ids} == set(pixels)
    for x, ids, x_adv in seen:
        plain = torch.stack([pixels[int(i)] for i in ids])
        expected = domain().enter(plain) if which == "normalised" else plain
        torch.testing.assert_close(x, expected)
        assert 0 <= float(x_adv.min()) <= float(x_adv.max()) <= 1
        far = ((x_adv - x).abs() > 0.1 + 1e-5).float().mean()
        assert far > 0.4 if which == "normalised" else far == 0


# --- keys


def built(**options: Any) -> Plan:
    wanted = {"models": ["resnet_original"], "attacks": ["clean", "fgsm", "pgd@resnet_noisy"]}
    return plan.build(resolve(Options(**{**wanted, **options})), locating.roots(), download=False)


def by_place(made: Plan) -> dict[tuple[str, str], CellStep]:
    return {(cell.hardened.defense.name, cell.attack.name): cell for cell in made.cells}


def test_what_has_nothing_to_do_with_the_domain_keeps_its_key() -> None:
    default, pixels, normalised = built(), built(domain="pixels"), built(domain="normalised")
    assert [cell.document for cell in pixels.cells] == [cell.document for cell in default.cells]
    for cell in pixels.cells:
        assert "domain" not in cell.document
        assert "domain" not in cell.hardened.document
    assert [fit.key for fit in normalised.fits] == [fit.key for fit in pixels.fits]
    assert by_place(normalised)["none", "clean"].key == by_place(pixels)["none", "clean"].key


def test_attacked_cells_and_hardenings_say_their_domain() -> None:
    pixels, normalised = by_place(built()), by_place(built(domain="normalised"))
    for place, cell in normalised.items():
        assert cell.document.get("domain") == (None if cell.threat is None else "normalised")
        assert cell.hardened.document.get("domain") == ("normalised" if cell.hardened.trains else None)
        assert (cell.key == pixels[place].key) == (place == ("none", "clean"))
        assert (cell.hardened.key == pixels[place].hardened.key) == (not cell.hardened.trains)
    assert normalised["pgd_at", "clean"].document["inputs"] != pixels["pgd_at", "clean"].document["inputs"]


def test_the_last_iterate_counts_and_no_budget_rests_on_another() -> None:
    made = built(domain="normalised", eps="4/255,8/255")
    assert made.request.run.final_iterate
    for cell in made.cells:
        assert cell.before is None
        assert cell.document["final_iterate"] == (cell.threat is not None)
    assert not built().request.run.final_iterate
    assert [c.key for c in built(domain="normalised", final_iterate=True).cells] == [
        c.key for c in built(domain="normalised").cells
    ]


def test_another_domain_is_refused(bench: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    with pytest.raises(BenchError, match="domain: got 'nonsense'"):
        built(domain="nonsense")
    ended = bench("run", "--domain", "nonsense")
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("bench: error: run.domain: got 'nonsense'")


# --- a run


@dataclass
class Ran:
    """Cells by (defense, attack): the plan's, what the table has of each, the outcome; and where all that lies."""

    cells: Mapping[tuple[str, str], CellStep]
    rows: Mapping[tuple[str, str], Row]
    outcomes: Mapping[tuple[str, str], Outcome]
    summary: flow.Summary


def run(*changes: str, **options: Any) -> Ran:
    """One run in the current folder."""
    places, wanted = flow.Places(), {"models": ["resnet_original"], **options}
    found = flow.prospect(Options(settings=changes, **wanted), places)
    summary = flow.execute(found, places, "bench run", Reporter())
    with open_store(places.store) as store, open_reader(places.store) as reader:
        rows = {(row.defense, row.attack): row for row in leaderboard(reader, run=summary.run_id)}
        outcomes = {place: store.outcome(row.key) for place, row in rows.items()}
    return Ran(by_place(found.plan), rows, outcomes, summary)


OVER = ("none", "clean"), ("none", "torchattacks_fgsm"), ("pgd_at", "clean"), ("pgd_at", "torchattacks_fgsm")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran, Ran]:
    """A folder in which the same was run of pixels and in the normalised domain, and both runs."""
    folder = tmp_path_factory.mktemp("domain")
    attacks = ["clean", "torchattacks_fgsm", "torchattacks_fgsm@resnet_noisy"]
    options = {"attacks": attacks, "eps": "24/255", "limit": "300"}
    cheap = (*CHEAP, "models.resnet_noisy.training.epochs=2")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, run(*cheap, **options), run(*cheap, domain="normalised", **options)


@pytest.fixture
def there(both: tuple[Path, Ran, Ran], monkeypatch: pytest.MonkeyPatch) -> tuple[Ran, Ran]:
    """Both runs, their folder the current one."""
    monkeypatch.chdir(both[0])
    return both[1:]


def plain(cell: CellStep, *, surrogate: bool = False) -> nn.Module:
    """The plain model of a cell, or its surrogate, with the weights that are kept."""
    step = cell.surrogate if surrogate else cell.hardened if cell.hardened.trains else cell.hardened.fit
    assert step is not None
    found = Artifacts(Path("artifacts")).load(step.kind, step.key)
    assert found is not None
    module = build_module(cell.hardened.fit, digits().mean, digits().std)
    module.load_state_dict(found[0])
    return module.eval()


@pytest.mark.slow
def test_every_cell_is_finished_and_the_clean_undefended_one_is_shared(there: tuple[Ran, Ran]) -> None:
    for ran in there:
        assert ran.summary.counts == {Status.OK: 6}
    assert [ran.summary.cached for ran in there] == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("place", OVER, ids="/".join)
def test_a_run_is_what_torchattacks_makes_of_the_network_without_its_normalisation(
    there: tuple[Ran, Ran], place: tuple[str, str]
) -> None:
    """And so the weights of hardening stand under the names of the plain model."""
    cell, outcome = there[1].cells[place], there[1].outcomes[place]
    x, y, _ = batch = batch_of(digits().splits["test"].limited(300))
    assert (batch.ids.numpy() == outcome.ids).all()
    network = plain(cell).network
    x = domain().enter(x)
    made = library_fgsm(network)(x, y) if cell.threat else x
    with torch.no_grad():
        says = network(made).argmax(1).numpy()
    assert (outcome.prediction != says).mean() <= 0.01


@pytest.mark.slow
def test_a_run_hands_the_surrogate_normalised_images(there: tuple[Ran, Ran]) -> None:
    place = "pgd_at", "torchattacks_fgsm@resnet_noisy"
    cell, outcome = there[1].cells[place], there[1].outcomes[place]
    x, y, _ = batch_of(digits().splits["test"].limited(300))
    made = library_fgsm(plain(cell, surrogate=True).network)(domain().enter(x), y)
    with torch.no_grad():
        says = plain(cell).network(made).argmax(1).numpy()
    assert (outcome.prediction != says).mean() <= 0.01
    assert (outcome.prediction != outcome.clean_prediction).any()


@pytest.mark.slow
def test_attacked_and_hardened_cells_are_invalid_and_say_what_was_cut_off(there: tuple[Ran, Ran]) -> None:
    pixels, normalised = there
    x = domain().enter(batch_of(digits().splits["test"].limited(300)).x[:256])
    share = ((x < 0) | (x > 1)).float().mean()
    for place, row in normalised.rows.items():
        reasons = {reason.code: reason for reason in row.reasons}
        if place == ("none", "clean"):
            assert "normalised_domain" not in reasons
            assert row.verdict == "ok"
            continue
        assert row.verdict == "invalid"
        text = reasons["normalised_domain"].text
        assert f"{share:.0%} of their values lay outside [0, 1] and were cut off" in text
        assert ("eps 0.09412" in text) == (place[1] != "clean")
        assert ("hardened" in text) == (place[1] == "clean")
    for row in pixels.rows.values():
        assert "normalised_domain" not in {reason.code for reason in row.reasons}


@pytest.mark.slow
def test_hardening_in_the_other_domain_gives_other_weights(there: tuple[Ran, Ran]) -> None:
    weights = [plain(ran.cells["pgd_at", "clean"]).state_dict() for ran in there]
    assert list(weights[0]) == list(weights[1])
    assert any((weights[0][name] != weights[1][name]).any() for name in weights[0])


@pytest.mark.slow
def test_show_explains_it(there: tuple[Ran, Ran], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    import cli

    key = there[1].cells["none", "torchattacks_fgsm"].key
    told = {}
    for more in ([], ["--json"]):
        monkeypatch.setattr("sys.argv", ["bench", "show", key, *more])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
        told[bool(more)] = capsys.readouterr().out
    words = " ".join(told[False].split())
    assert "normalised_domain (invalid): the attack was handed normalised images" in words
    assert "Leave `domain` at pixels" in words
    codes = {reason["code"]: reason["verdict"] for reason in json.loads(told[True])["reasons"]}
    assert codes["normalised_domain"] == "invalid"


@pytest.mark.slow
def test_the_mistake_puts_clean_accuracy_below_adversarial_accuracy(workplace: Path) -> None:
    """Seen on one core: clean 77.3 %, FGSM 94.2 % of n = 449; of pixels 97, 82, and 74 % under PGD."""
    found = {}
    for which in ("pixels", "normalised"):
        ran = run(domain=which, attacks=["clean", "fgsm", "pgd"])
        found[which] = {
            place: next(score for score in row.scores if score.metric == "accuracy") for place, row in ran.rows.items()
        }
    wrong, right = found["normalised"], found["pixels"]
    assert wrong["pgd_at", "clean"].high < wrong["pgd_at", "fgsm"].low
    assert "clean_below_adversarial" in {reason.code for reason in ran.rows["pgd_at", "fgsm"].reasons}
    for defense in ("none", "pgd_at"):
        clean, fgsm, pgd = (right[defense, attack].value for attack in ("clean", "fgsm", "pgd"))
        assert clean >= fgsm >= pgd
