"""``harness.evaluate``: objects at hand, the numbers of the command line, and a module that stays as it is."""

from __future__ import annotations

import copy
import json
import os
import re
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from networks import digits, small
from torch import Tensor, nn

import harness
from harness import BenchError, Results, evaluate
from harness.api import fingerprint
from harness.hookspecs import hookimpl
from harness.types import Batch, Evaluation, State, Threat

Bench = Callable[..., "subprocess.CompletedProcess[str]"]
N = 60
NET = small(channels=1, classes=10)
X = digits().splits["test"].images[:N]
with torch.no_grad():
    Y = NET(X.float() / 255).argmax(1)  # right without an attack, so that there is something to fool


@dataclass(frozen=True)
class HalfSteps:
    """Gradient ascent whose step halves each time. steps: iterations."""

    steps: int = 3

    restarts: ClassVar[int] = 1
    norms: ClassVar[tuple[str, ...]] = ("Linf",)

    @hookimpl
    def start(self, batch: Batch) -> State:
        return {"x_adv": batch.x, "alpha": batch.x.new_ones(len(batch.y), 1, 1, 1)}

    @hookimpl
    def step(self, state: State, found: Evaluation, batch: Batch, threat: Threat) -> State:
        alpha = state["alpha"] / 2
        assert found.gradient is not None
        return {"x_adv": state["x_adv"] + alpha * threat.eps * threat.steepest(found.gradient), "alpha": alpha}


def attacked(model: Any = NET, data: Any = (X, Y), attacks: Any = ("clean", "fgsm"), **options: Any) -> Results:
    return evaluate(model, data, attacks, progress=False, **{"eps": "24/255", **options})


@pytest.fixture(scope="module")
def found() -> Results:
    return attacked(attacks=("clean", "fgsm", "pgd"))


# --- what comes out


def test_cells_come_in_order_with_their_numbers(found: Results) -> None:
    assert [str(cell) for cell in found] == [
        "model/none/clean",
        "model/none/fgsm:Linf:24/255",
        "model/none/pgd:Linf:24/255",
    ]
    clean, fgsm, pgd = found
    assert clean.accuracy == 1.0
    assert clean.accuracy > fgsm.accuracy >= pgd.accuracy
    score = pgd.score("accuracy")
    assert score.n == pgd.n == N
    assert score.low is not None
    assert score.high is not None
    assert score.low <= score.value <= score.high
    assert score.value == float(np.mean(pgd.outcome.correct))
    assert pgd.outcome.linf.max() <= 24 / 255 + 1e-6


def test_a_cell_is_found_by_what_names_it_alone(found: Results) -> None:
    assert found["pgd"] == found[2] == found[-1] == found["model", "pgd"] == found["none/pgd"] == found[str(found[2])]
    assert found["fgsm", 24 / 255] == found["fgsm", "24/255"] == found[1]
    assert found[:2] == [found[0], found[1]]
    with pytest.raises(BenchError, match=r"results\['none'\]: several cells; there are model/none/clean, "):
        found["none"]
    with pytest.raises(BenchError, match=r"results\['apgd'\]: no such cell; there are "):
        found["apgd"]
    with pytest.raises(IndexError):
        found[3]
    with pytest.raises(BenchError, match="model/none/clean: ok, has no bleu4; has accuracy, "):
        found["clean"].score("bleu4")


def test_it_shows_itself_as_a_table_and_in_notebooks_as_html(found: Results) -> None:
    text = str(found.table())
    assert str(found) == repr(found) == repr(found.table()) == text
    assert text.startswith("accuracy (%), profile plain: data; Linf 24/255; n = 60; seed 0")
    assert "100.0 [94.0, 100.0]" in text
    html = found._repr_html_()
    assert html == found.table()._repr_html_()
    assert html.count("<tr>") == 3
    assert "<th>model</th>" in html
    assert ">100.0 [94.0, 100.0]</td>" in html
    assert html.count("<table>") == html.count("</table>") == 1
    assert str(found.table("seconds")).startswith("seconds")
    assert found.table(format="markdown").startswith("**accuracy (%)")
    assert len(json.loads(found.table(format="json"))) == sum(len(cell.scores) for cell in found)
    with pytest.raises(BenchError, match="metric: no such name 'acuracy'; did you mean accuracy"):
        found.table("acuracy")


def test_in_a_notebook_the_text_is_text(found: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    before = str(found)
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert str(found) == str(found.table()) == before


def test_a_cell_shows_itself_in_a_line(found: Results) -> None:
    assert re.fullmatch(r"Cell\(dataset='data', model='model', .*, status='ok', .*, n=60\)", repr(found["pgd"]))


def test_an_error_in_a_notebook_is_one_line() -> None:
    with pytest.raises(BenchError) as caught:
        attacked(NET, (X.float(), Y))
    (line,) = caught.value._render_traceback_()
    assert line == f"BenchError: {caught.value}"


def test_names_are_escaped_in_html() -> None:
    assert "&lt;b&gt;" in attacked({"<b>": NET}, attacks="clean")._repr_html_()


def test_a_data_frame_has_a_row_for_each_cell_and_metric(found: Results) -> None:
    pytest.importorskip("pandas")
    frame = found.to_pandas()
    row = frame[(frame.attack == "pgd") & (frame.metric == "accuracy")].iloc[0]
    assert row.value == found["pgd"].accuracy
    assert (row.n, row.status, row.eps, row.norm) == (N, "ok", 24 / 255, "Linf")
    assert (row.verdict, row.reasons) == ("suspect", found["pgd"].reasons[0].text)  # of so few samples
    assert len(frame) == sum(len(cell.scores) for cell in found)
    assert {"low", "high", "reasons", "unit", "seed", "key"} <= set(frame.columns)


def test_doubts_and_failures_are_told_and_raise_nothing() -> None:
    class Flat(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return NET(x).detach() * 1.0

    class Fragile(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) > 4:
                raise ValueError("too many")
            logits: Tensor = NET(x)
            return logits

    results = attacked({"flat": Flat(), "fragile": Fragile()}, attacks="fgsm")
    flat, fragile = results
    assert flat.verdict == "invalid"
    assert "zero_gradients" in {reason.code for reason in flat.reasons}
    assert (fragile.status, fragile.scores) == ("failed", {})
    with pytest.raises(BenchError, match=r"fragile/none/fgsm.*: failed, has no accuracy: ValueError: too many"):
        _ = fragile.accuracy
    with pytest.raises(BenchError, match="failed, has no outcome"):
        _ = fragile.outcome
    frame = results.to_pandas()
    assert frame[frame.model == "fragile"].iloc[0].reasons == "ValueError: too many"


# --- what goes in


@pytest.mark.parametrize("form", ["float tensors", "arrays", "channels last", "lists of labels", "dataset", "loader"])
def test_the_form_of_the_data_changes_nothing(form: str, found: Results) -> None:
    from torch.utils.data import DataLoader, TensorDataset

    pixels = X.float() / 255
    data: dict[str, Any] = {
        "float tensors": (pixels, Y),
        "arrays": (X.numpy(), Y.numpy()),
        "channels last": (X.numpy().transpose(0, 2, 3, 1), Y.numpy()),
        "lists of labels": (pixels.double(), Y.tolist()),
        "dataset": TensorDataset(pixels, Y),
        "loader": DataLoader(TensorDataset(pixels, Y), 7, shuffle=True),
    }
    (cell,) = attacked(data=data[form], attacks="pgd")
    assert cell.key == found["pgd"].key  # of the same images, labels and ids
    assert np.array_equal(cell.outcome.prediction, found["pgd"].outcome.prediction)


def test_images_that_are_no_8_bit_levels_are_not_rounded() -> None:
    class Sees(nn.Module):
        """Right where the images are exactly what they were."""

        def forward(self, x: Tensor) -> Tensor:
            exact = (x.flatten(1).sum(1) - TOTAL[: len(x)]).abs() < 1e-4 * 64
            return torch.stack([exact, ~exact], 1).float() + 0 * x.flatten(1).sum(1, keepdim=True)

    x = torch.full((8, 1, 8, 8), 0.5 / 255) + torch.arange(8).view(-1, 1, 1, 1) / 255
    TOTAL = x.flatten(1).sum(1)
    assert attacked(Sees(), (x, torch.zeros(8, dtype=torch.int64)), "clean", batch_size=8)["clean"].accuracy == 1.0


def test_attacks_are_names_pairs_components_and_mappings_of_these() -> None:
    results = attacked(attacks=["clean", ("pgd", {"steps": 3}), HalfSteps(), HalfSteps(steps=5), HalfSteps])
    assert [cell.attack for cell in results] == ["clean", "pgd(steps=3)", "half_steps", "half_steps(steps=5)"]
    assert results["half_steps"].accuracy < 1
    named = attacked(attacks={"mine": HalfSteps(), "theirs": "pgd", "short": ("pgd", {"steps": 3})})
    assert [cell.attack for cell in named] == ["mine", "theirs", "short"]
    assert named["mine"].key == results["half_steps"].key
    assert named["short"].key == results["pgd(steps=3)"].key


def test_a_plugins_component_is_the_same_as_its_name(found: Results) -> None:
    from plugins.attacks.pgd import PGD

    (cell,) = attacked(attacks=[PGD()])
    assert (cell.attack, cell.key) == ("pgd", found["pgd"].key)


def test_a_list_of_attacks_under_a_name_is_an_ensemble() -> None:
    from plugins.attacks.fgsm import FGSM

    parts = attacked(attacks=[("pgd", {"steps": 2}), FGSM()])
    (both,) = attacked(attacks={"both": [("pgd", {"steps": 2}), FGSM()]})
    assert both.attack == "both"
    assert np.array_equal(both.outcome.correct, parts[0].outcome.correct & parts[1].outcome.correct)


def test_a_module_may_be_a_surrogate() -> None:
    results = attacked({"a": NET, "b": small(1, channels=1, classes=10)}, attacks=("clean", "pgd@a"))
    assert results["b", "pgd@a"].status == "ok"
    assert results["a", "pgd@a"].accuracy < results["a", "clean"].accuracy


def test_normalised_modules_are_told_their_mean_and_deviation(found: Results) -> None:
    class Inside(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = NET(x * 0.25 + 0.5)
            return logits

    (cell,) = attacked(Inside(), attacks="pgd", mean=[0.5], std=[0.25])
    assert np.mean(cell.outcome.prediction == found["pgd"].outcome.prediction) > 0.95  # but for rounding


@pytest.mark.slow
def test_a_module_and_the_same_one_in_a_file_have_the_same_outcomes_to_the_last_digit(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    file = tmp_path / "net.py"
    file.write_text(
        "from torch import nn\n"
        "def build(channels, classes):\n"
        "    return nn.Sequential(nn.Conv2d(channels, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(288, classes))\n"
    )
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(288, 10))
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    told = {"mean": [0.31], "std": [0.37]}
    y = net((X.float() / 255 - 0.31) / 0.37).argmax(1)  # right without an attack
    filed = (f"file:{file}:build", {"weights": str(tmp_path / "net.safetensors"), **told})
    module = attacked(net, (X, y), "pgd,square", eps="2/255", **told)
    for cell, other in zip(module, attacked(filed, (X, y), "pgd,square", eps="2/255"), strict=True):
        assert 0 < cell.accuracy < 1
        for name in ("prediction", "linf", "l2", "forwards", "backwards", "confidence"):
            assert np.array_equal(getattr(cell.outcome, name), getattr(other.outcome, name)), name


def test_limit_takes_the_samples_that_the_command_takes() -> None:
    from torch.utils.data import TensorDataset

    whole, part = attacked(attacks="pgd"), attacked(attacks="pgd", limit=20)
    few = attacked(attacks="pgd", limit=20, data=TensorDataset(X, Y))
    outcome = part["pgd"].outcome
    assert len(outcome.ids) == 20
    assert np.array_equal(outcome.ids, few["pgd"].outcome.ids)
    assert np.array_equal(outcome.prediction, few["pgd"].outcome.prediction)
    assert np.array_equal(outcome.prediction, whole["pgd"].outcome.prediction[outcome.ids])


class Answering(nn.Module):
    """Answers with a record, as the models of transformers do."""

    def forward(self, x: torch.Tensor) -> Any:
        return types.SimpleNamespace(logits=NET(x))


@pytest.mark.parametrize(
    ("model", "data", "options", "message"),
    [
        (NET, None, {}, "data: none given; model needs some"),
        (3, (X, Y), {}, "model: got int; a torch module, a name, a pair"),
        ([NET, NET], (X, Y), {}, "several are called 'model'; give a mapping"),
        ("resnet_nosiy", (X, Y), {}, "model: no such name 'resnet_nosiy'; did you mean resnet_noisy"),
        ("resnet_noisy", (X, Y), {}, "data: has test samples alone, and fit resnet_noisy trains; give a pair"),
        (NET, (X, Y), {"defenses": "pgd_at"}, "data: has test samples alone, and harden model by pgd_at trains"),
        (NET, (X, Y), {"attacks": "pgdd"}, "attacks: no such name 'pgdd'; did you mean pgd"),
        (NET, (X, Y), {"attacks": [("pgd", {"stepz": 3})]}, "key: no such name 'stepz'; did you mean steps"),
        (NET, (X, Y), {"attacks": [3]}, "attacks: got int; a name, a pair"),
        (NET, (X, Y), {"attacks": []}, "attacks: none given"),
        (NET, (X, Y), {"metrics": ["acuracy"]}, "metrics: no such name 'acuracy'; did you mean accuracy"),
        (NET, (X, Y), {"eps": 8}, "eps 8: larger than the whole pixel range .* did you mean 8/255"),
        (NET, (X, Y), {"eps": None, "norm": "L2"}, "norm L2: eps 8/255 of the profile is meant for Linf; give eps too"),
        (NET, (X, Y), {"query_budget": 0}, "^query_budget: got 0"),
        (NET, (X, Y), {"limit": 0}, "^limit: got 0"),
        (NET, (X, Y), {"device": "cuda:99"}, "device cuda:99: torch sees no such device here"),
        (NET, (X, Y), {"mean": [0.5]}, "mean and std: got mean alone; both are needed"),
        (NET, (X, Y), {"mean": [0.5], "std": [0]}, "std above 0"),
        ("resnet_noisy", None, {"mean": [0.5], "std": [1]}, "the model 'resnet_noisy' brings its own"),
        (NET, (X, Y), {"classes": 3}, "classes: 3 given; 10 different ones are needed"),
        (NET, (X, Y + 9), {}, "labels run to 16, the model gives 10 logits; 0 to 9 is needed"),
        (nn.Identity(), (X, Y), {}, r"answers images of shape \(1, 1, 8, 8\) with \(1, 1, 8, 8\); logits \(N, K\)"),
        (small(), (X, Y), {}, r"model model: does not take images of shape \(1, 1, 8, 8\) \(RuntimeError"),
        (small(), "digits", {}, r"model model: does not take images of shape \(1, 1, 8, 8\) \(RuntimeError"),
        (copy.deepcopy(NET).half(), (X, Y), {}, r"; its weights are torch.float16, .* give module.float\(\)"),
        (
            Answering(),
            (X, Y),
            {},
            r"with SimpleNamespace; logits \(N, K\) are needed; give a module that returns its .log",
        ),
        (NET.forward, (X, Y), {"mean": [0.5], "std": [1]}, "model: got method; a torch module, a name"),
        (small(channels=1), "digits", {}, "model model: gives 5 logits; digits has 10 classes"),
        (NET, "digitz", {}, "no such name 'digitz'; did you mean digits"),
    ],
)
def test_what_cannot_be_run_is_one_line(model: Any, data: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchError, match=message) as told:
        attacked(model, data, **options)
    assert "\n" not in str(told.value)
    assert "--" not in str(told.value)


# --- what stays


@pytest.mark.slow
def test_a_module_is_afterwards_what_it_was() -> None:
    module = small(channels=1, classes=10).train()
    module.features[1].eval()  # frozen on purpose
    module.head.bias.requires_grad_(False)
    module.head.weight.grad = torch.ones_like(module.head.weight)
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    modes, flags = ([m.training for m in module.modules()], [p.requires_grad for p in module.parameters()])
    generator, threads = torch.get_rng_state(), torch.get_num_threads()
    data = (X, Y), (X, Y)
    training = {"training": {"epochs": 1}}
    attacked(module, data, ("fgsm", "torchattacks_pgd"), defenses=["none", ("pgd_at", training)], device="cpu")
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    assert [m.training for m in module.modules()] == modes
    assert [p.requires_grad for p in module.parameters()] == flags
    assert module.head.weight.grad.eq(1).all()
    assert module.features[0].weight.grad is None
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.get_num_threads() == threads


def test_gradients_may_be_off_where_it_is_called(found: Results) -> None:
    with torch.no_grad():
        assert attacked(attacks="pgd")["pgd"].accuracy == found["pgd"].accuracy
    with torch.inference_mode():
        assert attacked(attacks="pgd")["pgd"].accuracy == found["pgd"].accuracy


def test_a_module_that_deepcopy_refuses_is_copied_all_the_same() -> None:
    net = nn.Sequential(nn.Flatten(), nn.utils.weight_norm(nn.Linear(64, 10)))
    net(X.float())  # weight norm keeps what it computed
    assert attacked(net, attacks="fgsm")["fgsm"].status == "ok"
    net.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(BenchError, match=r"model: Sequential cannot be copied .*TypeError.*lock"):
        attacked(net, attacks="fgsm")


def test_nothing_is_left_behind_without_a_store(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(workplace))
    results = attacked(attacks="clean")
    assert list(workplace.iterdir())
    assert results["clean"].outcome.correct.all()
    del results
    assert list(workplace.iterdir()) == []


@pytest.mark.slow
def test_threads_may_evaluate_at_the_same_time(found: Results) -> None:
    module, told = small(channels=1, classes=10), []
    threads = [
        threading.Thread(target=lambda: told.append(attacked(module, attacks="pgd")["pgd"].outcome)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 4
    assert all(np.array_equal(one.prediction, found["pgd"].outcome.prediction) for one in told)


# --- a store


def test_a_store_does_nothing_twice_and_can_be_read_again(workplace: Path) -> None:
    first = attacked(store="results.db")
    second = attacked(store="results.db", attacks=("clean", "fgsm", "pgd"))
    assert sorted(path.name for path in workplace.iterdir()) == ["artifacts", "results.db"]
    runs = {cell.key: cell for cell in second}
    assert [runs[cell.key].outcome.seconds for cell in first] == [cell.outcome.seconds for cell in first]
    stored = harness.results("results.db")
    assert [(c.key, c.scores) for c in stored] == [(c.key, c.scores) for c in second]
    assert stored.table() == second.table()
    assert len(harness.results("results.db", run=first.rows[0].run)) == 2
    with pytest.raises(BenchError, match="no results yet at"):
        harness.results("nothing.db")
    with pytest.raises(BenchError, match="profile: no such name"):
        harness.results("results.db", profile="small")
    with pytest.raises(BenchError, match="figures: of results that evaluate returned"):
        stored.figures("figures")


def test_other_weights_and_other_code_have_other_keys() -> None:
    def key(module: nn.Module) -> str:
        found: str = attacked(module, attacks="clean")["clean"].key
        return found

    changed = small(channels=1, classes=10)
    with torch.no_grad():
        changed.head.bias[0] += 1e-6
    assert key(small(channels=1, classes=10)) == key(NET.train()) == key(NET.eval())
    assert key(changed) != key(NET)
    assert fingerprint.of_state(changed) != fingerprint.of_state(NET)
    assert fingerprint.of_structure(changed) == fingerprint.of_structure(NET)


def test_the_structure_is_parts_code_and_what_they_keep() -> None:
    def made(source: str, **kept: Any) -> nn.Module:
        names: dict[str, Any] = {"nn": nn, "__name__": "one"}
        exec(f"class One(nn.Module):\n  def forward(self, x):\n    return {source}", names)
        module: nn.Module = names["One"]()
        vars(module).update(kept)
        return module

    told = [
        made("x"),
        made("x * 2"),
        made("x", scale=1.0),
        made("x", scale=2.0),
        made("x", scale=[2.0, torch.ones(2)]),
        made("x", scale=[2.0, torch.zeros(2)]),
        made("x", function=lambda x: x + 1),
        made("x", function=lambda x: x + 2),
        made("x in {'a', 'b', 'c'}"),
        nn.Sequential(made("x")),
        nn.Dropout(0.1),
        nn.Dropout(0.2),
    ]
    digests = [fingerprint.of_structure(module) for module in told]
    assert len(set(digests)) == len(told)
    again = [fingerprint.of_structure(made("x")), fingerprint.of_structure(made("x", scale=1.0).eval())]
    assert again == [digests[0], digests[2]]
    hooked = made("x")
    hooked.register_forward_hook(lambda module, inputs, output: output * 2)
    assert fingerprint.of_structure(hooked) != digests[0]


@pytest.mark.slow
def test_a_digest_is_the_same_in_another_process() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from networks import small\nfrom harness.api import fingerprint\n"
        "class One(type(small())):\n  def forward(self, x):\n    return x if self.training in {'a', 'b', 'c'} else x\n"
        "net = small(channels=1, classes=10); print(fingerprint.of_state(net), fingerprint.of_structure(net), "
        "fingerprint.of_class(One))"
    )
    top = Path(__file__).parents[1]
    told = [
        subprocess.run([sys.executable, "-c", code], cwd=top, env=None, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    state, structure, _ = told[0].stdout.split()
    assert told[0].stdout == told[1].stdout
    assert (state, structure) == (fingerprint.of_state(NET), fingerprint.of_structure(NET))


# --- Ctrl-C


class Interrupting(nn.Module):
    """The network, until all its copies together have been asked so often: then Ctrl-C comes."""

    asked: ClassVar[list[int]] = [0]

    def __init__(self, after: int) -> None:
        super().__init__()
        self.net, self.after = small(channels=1, classes=10), after

    def forward(self, x: Tensor) -> Tensor:
        if x.mean() >= 0:  # no other form of the model can be made of what depends on the images
            self.asked[0] += 1
        if self.asked[0] == self.after:
            signal.raise_signal(signal.SIGINT)
        logits: Tensor = self.net(x)
        return logits


@pytest.fixture
def _listening() -> Iterator[None]:
    """What a shell starts in the background inherits an ignored SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_listening")
def test_ctrl_c_gives_what_was_finished_and_leaves_the_module_alone() -> None:
    module = Interrupting(after=60).train()
    with pytest.raises(harness.Interrupted) as stopped:
        attacked(module, attacks=["clean", ("pgd", {"steps": 500, "restarts": 9})], eps=1e-6)
    clean, pgd = stopped.value.results
    assert (clean.status, clean.accuracy) == ("ok", 1.0)
    assert pgd.status == "interrupted"
    assert isinstance(stopped.value, KeyboardInterrupt)
    assert module.training
    assert all(p.requires_grad for p in module.parameters())


def test_progress_is_told_or_not(capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(NET, (X, Y), "clean", progress=False)
    assert capsys.readouterr() == ("", "")
    evaluate(NET, (X, Y), "clean")
    out, told = capsys.readouterr()
    assert out == ""
    assert "model / none / clean: 100.0 % accuracy, n = 60" in told


# --- the command line, and what trains


@pytest.mark.slow
def test_the_numbers_are_those_of_the_command(bench_process: Bench, workplace: Path) -> None:
    short = "models.resnet_noisy.training.epochs=1"
    options = ("--models", "resnet_noisy", "--defenses", "none", "--limit", "100", "--set", short)
    ended = bench_process("run", "--quiet", *options)
    assert ended.returncode == 0, ended.stderr
    command = harness.results("results.db")
    given: dict[str, Any] = {"limit": 100, "settings": [short], "progress": False}
    cached = evaluate("resnet_noisy", store="results.db", **given)
    assert cached.rows == tuple(row._replace(run=cached.rows[0].run) for row in command.rows)
    again = evaluate("resnet_noisy", **given)
    assert [cell.key for cell in again] == [cell.key for cell in command]

    # The same network as a module, and from a file of one's own.
    from safetensors.torch import load_file, save_file

    from harness.types import Facts, Preparation
    from plugins.models.resnet18 import ResNet18

    (weights,) = Path("artifacts", "fit").glob("*/weights.safetensors")
    facts = Facts((1, 8, 8), tuple("0123456789"), {}, "", "", "")
    module = ResNet18(width=0.125).build(Preparation(facts, (0.5,), (0.5,)))
    module.load_state_dict(load_file(weights))
    save_file(module.state_dict(), "net.safetensors")
    Path("net.py").write_text(
        "from harness.types import Facts, Preparation\nfrom plugins.models.resnet18 import ResNet18\n"
        "def build():\n"
        "    facts = Facts((1, 8, 8), tuple('0123456789'), {}, '', '', '')\n"
        "    return ResNet18(width=0.125).build(Preparation(facts, (0.5,), (0.5,)))\n"
    )
    test = digits().splits["test"]
    parameters = {"weights": "net.safetensors", "training": {"epochs": 0}}
    others = {
        "module on a data set": evaluate(module, "digits", eps="24/255", limit=100, progress=False),
        "module on arrays": evaluate(
            module, (test.images, test.labels, test.ids), eps="24/255", limit=100, progress=False
        ),
        "file": evaluate(("file:./net.py:build", parameters), "digits", eps="24/255", limit=100, progress=False),
    }
    for where, results in {"again": again, **others}.items():
        assert len(results) == len(command) == 3
        for one, other in zip(command, results, strict=True):
            mine, theirs = one.outcome, other.outcome
            for name in ("ids", "label", "clean_prediction", "prediction", "forwards", "backwards"):
                assert np.array_equal(getattr(mine, name), getattr(theirs, name)), (where, one.attack, name)
            assert np.allclose(mine.linf, theirs.linf, atol=1e-6)


@pytest.mark.slow
def test_a_module_is_hardened_and_drawn(workplace: Path) -> None:
    data = digits()
    train, test = ((data.splits[name].images, data.splits[name].labels) for name in ("train", "test"))
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(train[0].float() / 255), train[1]).backward()
        optimizer.step()
    recipe = {"eps": "24/255", "training": {"lr": 5e-3, "epochs": 8}}
    results = evaluate(
        {"net": net},
        (train, test),
        attacks=("clean", "pgd"),
        defenses={"none": "none", "hardened": ("pgd_at", recipe)},
        eps="24/255",
        limit=200,
        progress=False,
    )
    assert results["none", "clean"].accuracy > 0.85
    assert results["hardened", "pgd"].accuracy > results["none", "pgd"].accuracy + 0.1
    drawn = results.figures(workplace / "figures", ["overview", "gallery"], samples=2)
    assert {path.suffix for path in drawn} == {".png", ".pdf"}
    assert all(path.is_file() for path in drawn)


@pytest.mark.slow
def test_captioners_are_run_by_name() -> None:
    few = ["models.caption_frequent.dataset=shapes_fa"]
    results = evaluate("caption_frequent", attacks="clean", metrics=["bleu4"], limit=20, settings=few, progress=False)
    assert 0 < results["clean"].score("bleu4").value < 1
    assert "bleu4" in str(results)
    with pytest.raises(BenchError, match="is of captions, whose outcomes need their references"):
        _ = results["clean"].outcome


# --- the package


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, harness; dir(harness); harness.BenchError; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "harness.errors" in told
    assert not {"torch", "numpy", "sqlalchemy", "rich", "harness.api"} & set(told)


def test_the_package_offers_what_it_names() -> None:
    assert set(harness.__all__) <= set(dir(harness))
    assert all(callable(getattr(harness, name)) for name in harness.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'evalute'"):
        _ = harness.evalute  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_package_is_typed_where_it_is_used(tmp_path: Path) -> None:
    top = Path(harness.__file__).parents[1]
    assert (top / "harness" / "py.typed").is_file()
    assert (top / "plugins" / "py.typed").is_file()
    (tmp_path / "used.py").write_text(
        "import harness\nfound = harness.evaluate('resnet_noisy')\nreveal_type(found)\nreveal_type(found['pgd'])\n"
        "reveal_type(found['pgd'].accuracy)\nharness.evaluate('resnet_noisy', esp=1)\nharness.evalute('resnet_noisy')\n"
    )
    environment = {**os.environ, "MYPYPATH": str(top)}
    mypy = [sys.executable, "-m", "mypy", "--follow-imports=silent", "--cache-dir", str(tmp_path / "cache"), "used.py"]
    told = subprocess.run(mypy, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False).stdout
    revealed = re.findall('Revealed type is "(?:.*\\.)?(.*)"', told)
    assert revealed == ["Results", "Cell", "float"]
    assert 'Unexpected keyword argument "esp"' in told
    assert 'Module has no attribute "evalute"' in told
