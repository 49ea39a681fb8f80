"""``bench figures``: every kind is drawn, of the numbers that are stored, and nothing is computed or trained again."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import torch
from drawings import assert_legible, words

import cli
from harness import run as flow
from harness.artifacts import Artifacts
from harness.executors.local import Local
from harness.figures.style import file_name
from harness.illustration import stored
from harness.illustration.book import Book, Page, compared, defenses
from harness.illustration.drawing import KINDS, Wanted, draw
from harness.progress import Reporter
from harness.request import Options
from harness.steps import CellStep
from harness.store.store import open_store
from harness.types import Status

if TYPE_CHECKING:
    from matplotlib.figure import Figure

pytestmark = pytest.mark.usefixtures("workplace")

SMALL, LARGE = 4 / 255, 24 / 255
N = 80
SETTINGS = (
    *("models.resnet_original.training.epochs=3", "models.resnet_original.hardening.epochs=1"),
    *("models.resnet_noisy.training.epochs=2", "attacks.pgd.steps=4", "attacks.fmn.steps=10", "attacks.fmn.restarts=1"),
    *("attacks.apgd_ce.steps=3", "attacks.apgd_t.steps=3", "attacks.apgd_t.n_target_classes=2"),
    *("attacks.fab_t.iterations=2", "attacks.fab_t.n_target_classes=2", "attacks.square.queries=20"),
)
ATTACKS = ["clean", "fgsm", "pgd", "fmn", "autoattack", "fgsm@resnet_noisy"]
BASE = {"models": ["resnet_original"], "attacks": ATTACKS, "eps": "4/255,24/255", "limit": str(N)}
FEW = ("--models", "resnet_original", "--attacks", "clean,fgsm", "--eps", "4/255,24/255", "--limit", str(N))
COMMAND = ("figures", *FEW, *(part for setting in SETTINGS for part in ("--set", setting)))
"""Draws six of the cells that are finished."""
OF_SIX = {
    "overview", "eps-resnet_original-Linf", "reliability-resnet_original", "training-resnet_original",
    "saliency-resnet_original-fgsm-Linf-24-255", "landscape-digits", "eigenvalue-digits",
    *(f"classes-resnet_original-{attack}" for attack in ("clean", "fgsm-Linf-4-255", "fgsm-Linf-24-255")),
    *(f"{kind}-resnet_original-{defense}-fgsm-Linf-{eps}-255"
      for kind in ("confusion", "gallery") for defense in ("none", "pgd_at") for eps in (4, 24)),
    *(f"confusion-resnet_original-{defense}-clean" for defense in ("none", "pgd_at")),
}  # fmt: skip


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """The command in this process."""

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr("sys.argv", ["bench", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        return Ended(code, *capsys.readouterr())

    return run


def run(*changes: str, **options: Any) -> flow.Summary:
    """``bench run`` in the current folder."""
    found = flow.prospect(Options(settings=(*SETTINGS, *changes), **{**BASE, **options}), flow.Places())
    summary = flow.execute(found, flow.Places(), "bench run", Reporter())
    assert set(summary.counts) == {Status.OK}
    return summary


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run, whose undefended FGSM cells were attacked in the normalised domain too."""
    folder = tmp_path_factory.mktemp("figures")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run()
        run(domain="normalised", attacks=["clean", "fgsm"], defenses=["none"])
    return folder


@pytest.fixture
def here(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that a test may change, as the current folder."""
    folder = Path(shutil.copytree(finished, tmp_path / "copy"))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def drawn(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of it in which figures were drawn into ``figures``."""
    folder = Path(shutil.copytree(finished, tmp_path_factory.mktemp("drawn") / "copy"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["bench", *COMMAND])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
    return folder


@contextlib.contextmanager
def opened(*changes: str, **options: Any) -> Iterator[tuple[Book, Local]]:
    """The book of the finished cells of a request in the current folder, and an executor for what needs weights."""
    settings = (*SETTINGS, *changes)
    found = flow.prospect(Options(settings=settings, **{**BASE, **options}), flow.Places(), dry=True)
    cells = [c for c in found.plan.cells if c.key in found.states and found.states[c.key].status is Status.OK]
    artifacts = Artifacts(Path("artifacts"))
    with open_store("results.db") as store:
        request, cpu = found.plan.request, torch.device("cpu")
        executor = Local("", store, artifacts, Reporter(), found.estimate, cpu, request.run, request.metrics)
        yield Book(found.plan, cells, store, artifacts, {}), executor


def figures_of(pages: Iterator[Page]) -> dict[str, Figure]:
    made = list(pages)
    found = {file_name(page.name): page.figure for page in made}
    assert len(found) == len(made), "two figures have one name"
    return found


def cell_of(book: Book, defense: str, attack: str, eps: float | None = None) -> CellStep:
    (found,) = [
        cell
        for cell in book.cells
        if (cell.hardened.defense.name, cell.attack.name) == (defense, attack)
        and (cell.threat.eps if cell.threat else None) == eps
    ]
    return found


# --- the command


@pytest.mark.slow
def test_every_kind_is_written_as_png_and_pdf(drawn: Path) -> None:
    files = sorted((drawn / "figures").iterdir())
    assert {path.name for path in files} == {f"{name}.{ending}" for name in OF_SIX for ending in ("png", "pdf")}
    for path in files:
        begins = {".png": b"\x89PNG\r\n", ".pdf": b"%PDF-"}[path.suffix]
        assert path.read_bytes().startswith(begins)
        assert path.stat().st_size > 2000


@pytest.mark.slow
def test_without_weights_what_was_computed_is_drawn_again_and_alike(
    drawn: Path, tmp_path: Path, call: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Path(shutil.copytree(drawn, tmp_path / "copy"))
    monkeypatch.chdir(here)
    for kind in ("fit", "harden"):
        shutil.rmtree(here / "artifacts" / kind)
    kept = {path.name for path in (here / "artifacts" / "analysis").iterdir()}
    kinds = ("gallery", "saliency", "landscape")
    ended = call(*COMMAND, "--kind", ",".join(kinds), "--out", "again")
    assert (ended.code, ended.err) == (0, "")
    again = {path.name: path.read_bytes() for path in (here / "again").iterdir()}
    assert {name.partition("-")[0] for name in again} == {*kinds, "eigenvalue"}
    assert again == {name: (drawn / "figures" / name).read_bytes() for name in again}
    assert {path.name for path in (here / "artifacts" / "analysis").iterdir()} == kept
    assert not list((here / "artifacts").glob("fit/*"))


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_what_needs_weights_says_how_to_get_them_and_trains_nothing(
    damage: str, here: Path, call: Callable[..., Ended]
) -> None:
    for weights in (here / "artifacts").glob("*/*/weights.safetensors"):
        if weights.parts[-3] in ("fit", "harden"):
            shutil.rmtree(weights.parent) if damage == "missing" else weights.write_bytes(weights.read_bytes()[:-9])
    before = sorted((here / "artifacts").rglob("*"))
    ended = call(*COMMAND, "--kind", "overview,gallery,saliency,landscape", "--samples", "3", "--out", "new")
    assert ended.code == 0
    assert {path.name for path in (here / "new").iterdir()} == {"overview.png", "overview.pdf"}
    advice = "no weights in artifacts; bench run --fresh with the same options makes them"
    assert ended.err.splitlines() == [
        f"bench: note: fit resnet_original: {advice}",
        f"bench: note: harden resnet_original by pgd_at: {advice}",
    ]
    assert [path for path in sorted((here / "artifacts").rglob("*")) if "analysis" not in path.parts] == [
        path for path in before if "analysis" not in path.parts
    ]


@pytest.mark.slow
def test_kinds_and_models_are_chosen(here: Path, call: Callable[..., Ended]) -> None:
    ended = call(*COMMAND, "--kind", "overview,eps", "--out", "some")
    assert (ended.code, ended.err) == (0, "")
    assert sorted(path.stem for path in (here / "some").glob("*.png")) == ["eps-resnet_original-Linf", "overview"]
    assert ended.out.splitlines() == [
        f"some/{name}.png, some/{name}.pdf" for name in ("overview", "eps-resnet_original-Linf")
    ]
    command = ["resnet_original,vit_ft" if part == "resnet_original" else part for part in COMMAND]
    assert call(*command, "--kind", "overview", "--out", "both").code == 0  # of vit_ft nothing is finished
    assert [path.stem for path in (here / "both").glob("*.png")] == ["overview"]


@pytest.mark.slow
def test_in_the_normalised_domain_weights_are_left_alone_and_nothing_is_overwritten(
    here: Path, call: Callable[..., Ended]
) -> None:
    ended = call(*COMMAND, "--domain", "normalised", "--defenses", "none", "--out", "wrong", "--kind",
                 "overview,eps,gallery,saliency,landscape")  # fmt: skip
    assert ended.code == 0
    assert sorted(path.stem for path in (here / "wrong").glob("*.png")) == [
        "eps-resnet_original-Linf-normalised",
        "overview-normalised",
    ]
    assert ended.err.splitlines() == [
        "bench: note: invalid, bench show tells why: resnet_original / none / fgsm Linf 4/255, "
        "resnet_original / none / fgsm Linf 24/255",
        "bench: note: gallery, saliency, landscape: drawn of pixels only; leave --domain out",
    ]
    with opened(domain="normalised", attacks=["clean", "fgsm"]) as (book, _):
        (page,) = stored.overviews(book)
        assert "normalised domain" in words(page.figure)
        assert {"resnet_original, normalised domain"} <= set(words(next(stored.eps_curves(book)).figure))


# --- mistakes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kind", "overveiw"], "--kind: no such name 'overveiw'; did you mean overview"),
        (["--kind", ","], "--kind: got ','; one or more names"),
        (["--classes", "seven"], "--classes: no such name 'seven'"),
        (["--samples", "0"], "--samples: got 0; 1 or more images are needed"),
        (["--reference", "repotr"], "--reference: no such name 'repotr'; did you mean report"),
        (["--limit", "7"], "none of the 6 cells of this request is finished in results.db; give bench run the same"),
        (["--store", "other.db"], "none of the 6 cells of this request is finished in other.db"),
        (["--out", "results.db", "--kind", "overview"], "--out results.db: cannot be written"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(here: Path, call: Callable[..., Ended], arguments: Sequence[str], message: str) -> None:
    ended = call(*COMMAND, *arguments)
    assert (ended.code, ended.out) == (2, "")
    (line,) = ended.err.splitlines()
    assert line.startswith(f"bench: error: {message}")
    assert not (here / "figures").exists()
    assert not (here / "other.db").exists()


def test_without_a_run_there_is_nothing_to_draw(workplace: Path, call: Callable[..., Ended]) -> None:
    ended = call(*COMMAND)
    assert ended.code == 2
    (line,) = ended.err.splitlines()
    assert "none of the 6 cells of this request is finished in results.db" in line
    assert not list(workplace.iterdir())


def test_without_matplotlib_it_says_what_to_install(
    call: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    ended = call(*COMMAND)
    assert ended.code == 2
    (line,) = ended.err.splitlines()
    assert line.endswith("the package matplotlib is not installed; pip install 'adversarial-bench[figures]'")


# --- the numbers


@pytest.mark.slow
def test_the_bars_of_the_overview_are_the_accuracies_of_the_store(here: Path) -> None:
    from harness.store.queries import cells_by_key
    from harness.store.reading import open_reader

    with opened() as (book, _):
        book.references = {"resnet_original": {"pgd_at": {"fgsm": 44.57}}}
        figures = figures_of(stored.overviews(book))
    with open_reader("results.db") as reader:
        rows = {row.key: next(s for s in row.scores if s.metric == "accuracy") for row in cells_by_key(reader, "")}
    (axes,) = figures["overview"].axes
    assert_legible(figures["overview"])
    assert axes.get_title() == "resnet_original"
    heights = {bars.get_label(): [bar.get_height() for bar in bars] for bars in axes.containers}
    assert list(heights) == ["none", "pgd_at"]
    for defense, found in heights.items():
        expected = [rows[cell.key].value for cell in book.cells if cell.hardened.defense.name == defense]
        assert found == pytest.approx(expected)
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels[:3] == ["clean", "fgsm\nLinf 4/255", "fgsm\nLinf 24/255"]
    (diamonds,) = [line for line in axes.lines if line.get_label() == "published"]
    assert list(diamonds.get_ydata()) == [0.4457] * 2


@pytest.mark.slow
def test_curves_begin_at_the_clean_accuracy_and_have_every_budget(here: Path) -> None:
    with opened() as (book, _):
        (page,) = stored.eps_curves(book)
        cells = {d: [cell_of(book, d, "clean"), *(cell_of(book, d, "pgd", e) for e in (SMALL, LARGE))]
                 for d in ("none", "pgd_at")}  # fmt: skip
        accuracies = {defense: [book.accuracy(cell).value for cell in found] for defense, found in cells.items()}
    assert page.name == "eps-resnet_original-Linf"
    assert_legible(page.figure)
    lines = {line.get_label(): line for line in page.figure.axes[0].lines}
    assert len(lines) == 2 * 5 + 1  # and chance
    for defense, expected in accuracies.items():
        line = lines[f"{defense} / pgd"]
        assert list(line.get_xdata()) == [0.0, SMALL, LARGE]
        assert list(line.get_ydata()) == pytest.approx(expected)


@pytest.mark.slow
def test_confusion_and_classes_count_the_samples_of_the_store(here: Path) -> None:
    with opened(attacks=["clean", "pgd"]) as (book, _):
        confusions, classes = figures_of(stored.confusions(book)), figures_of(stored.class_accuracies(book))
        pair = [book.outcome(cell_of(book, defense, "pgd", LARGE)) for defense in ("none", "pgd_at")]
    assert len(confusions) == 6
    matrix = confusions["confusion-resnet_original-none-pgd-Linf-24-255"]
    assert_legible(matrix)
    assert "resnet_original / none / pgd Linf 24/255" in words(matrix)
    counts = {(int(t.get_position()[1]), int(t.get_position()[0])): int(t.get_text()) for t in matrix.axes[0].texts}
    found = list(zip(pair[0].label.tolist(), pair[0].prediction.tolist(), strict=True))
    assert counts == {place: found.count(place) for place in set(found)}
    figure = classes["classes-resnet_original-pgd-Linf-24-255"]
    assert "resnet_original / pgd Linf 24/255" in words(figure)
    axes = figure.axes[0]
    order = [int(label.get_text()) for label in axes.get_yticklabels()]
    marks = [line for line in axes.lines if line.get_label() in ("0", "1")]
    for outcome, line in zip(pair, marks, strict=True):
        expected = [outcome.correct[outcome.label == number].mean() for number in order]
        np.testing.assert_allclose(line.get_xdata(), expected)


@pytest.mark.slow
def test_one_defense_alone_is_drawn_alone(here: Path) -> None:
    with opened(attacks=["clean"], defenses=["pgd_at"]) as (book, _):
        (overview,), (classes,) = stored.overviews(book), stored.class_accuracies(book)
        accuracy = book.accuracy(book.cells[0]).value
    (bars,) = overview.figure.axes[0].containers
    assert (bars.get_label(), [bar.get_height() for bar in bars]) == ("pgd_at", [pytest.approx(accuracy)])
    assert "–" not in words(overview.figure)
    assert "resnet_original / pgd_at / clean" in words(classes.figure)


@pytest.mark.slow
def test_reliability_and_training_are_of_what_was_run(here: Path) -> None:
    with opened(attacks=["clean", "pgd"]) as (book, _):
        (reliability,), (training,) = stored.reliabilities(book), stored.trainings(book)
        titles = [axes.get_title() for axes in reliability.figure.axes if axes.get_title()]
        histories = [book.history(step) for step in (book.cells[0].hardened.fit, book.cells[-1].hardened)]
    assert_legible(reliability.figure)
    assert_legible(training.figure)
    assert [title.rpartition("\nECE ")[0] for title in titles] == [
        f"{defense} / {attack}"
        for defense in ("none", "pgd_at")
        for attack in ("clean", "pgd\nLinf 4/255", "pgd\nLinf 24/255")
    ]
    loss = training.figure.axes[0]
    shown = {line.get_label(): list(line.get_ydata()) for line in loss.lines if not line.get_label().startswith("_")}
    expected = [[epoch["validation_loss"] for epoch in history or []] for history in histories]
    assert shown == dict(zip(["fit resnet_original", "harden by pgd_at"], expected, strict=True))
    assert [len(losses) for losses in expected] == [3, 1]


@pytest.mark.slow
def test_seeds_have_figures_of_their_own(workplace: Path) -> None:
    options: dict[str, Any] = {"attacks": ["clean"], "defenses": ["none"], "seeds": "0,1"}
    run("models.resnet_original.training.epochs=1", **options)
    with opened("models.resnet_original.training.epochs=1", **options) as (book, _):
        for kind, name in (("overview", "overview"), ("training", "training-resnet_original"),
                           ("confusion", "confusion-resnet_original-none-clean")):  # fmt: skip
            figures = figures_of(getattr(stored, {"overview": "overviews"}.get(kind, f"{kind}s"))(book))
            assert list(figures) == [name, f"{name}-seed1"]
            if kind != "overview":
                assert [any("seed 1" in word for word in words(figure)) for figure in figures.values()] == [False, True]


@pytest.mark.slow
def test_two_names_of_one_content_are_both_drawn(small_store: Path) -> None:
    """A label belongs to a run: figures of what is stored once under two names are not left out."""
    from test_matrix import built

    made = built("models.twin.like=resnet_original", attacks=["clean"], models=["resnet_original", "twin"])
    assert made.cells[0].key == made.cells[1].key
    with open_store(str(small_store)) as store:
        book = Book(made, made.cells, store, Artifacts(Path("artifacts")), {})
        book._outcomes[made.cells[0].key] = store.outcome("cell1")
        assert [page.name for page in stored.confusions(book)] == [
            "confusion-resnet_original-none-clean",
            "confusion-twin-none-clean",
        ]
        (page,) = stored.overviews(book)
    assert [axes.get_title() for axes in page.figure.axes] == ["resnet_original", "twin"]


# --- galleries, saliency, landscape


def examples(cell: CellStep) -> dict[str, Any]:
    """What a gallery of a cell was drawn of, as it is kept, and the ids of its samples."""
    for folder in Path("artifacts/analysis").iterdir():
        record = json.loads((folder / "step.json").read_text())
        document = record["document"]
        if document["analysis"] == "examples" and document["cell"] == cell.key:
            found = Artifacts(Path("artifacts")).load_arrays("analysis", folder.name)
            assert found is not None
            return {**found[0], "ids": document["ids"]}
    raise AssertionError(f"no examples of {cell.label}")


@pytest.mark.slow
def test_a_gallery_shows_the_adversarial_images_of_its_cell(here: Path) -> None:
    from harness.illustration import modelled

    with opened() as (book, executor):
        figures = figures_of(modelled.galleries(modelled.Laboratory(book, executor, 12)))
        assert book.notes == []
        attacked = [cell for cell in book.cells if cell.threat]
        assert len(figures) == len(attacked) == 2 * 2 * 5
        for cell in attacked:
            assert cell.threat is not None
            found, outcome = examples(cell), book.outcome(cell)
            rows = [outcome.ids.tolist().index(sample) for sample in found["ids"]]
            assert outcome.clean_correct[rows].all()
            assert (found["label"] == outcome.label[rows]).all()
            assert (found["clean_prediction"] == outcome.clean_prediction[rows]).all()
            assert (found["adversarial_prediction"] == outcome.prediction[rows]).all(), cell.label
            size = np.abs(found["adversarial"] - found["clean"]).max((1, 2, 3))
            assert (size <= cell.threat.eps + 1e-6).all()
            assert found["adversarial"].min() >= 0
            assert found["adversarial"].max() <= 1
            inside = outcome.linf[rows] <= cell.threat.eps + 1e-6  # a smallest perturbation may be too large to count
            np.testing.assert_allclose(size, np.where(inside, outcome.linf[rows], 0), atol=1e-5, err_msg=cell.label)
            fooled = found["adversarial_prediction"] != found["label"]
            assert fooled.sum() == min(12, (outcome.clean_correct & ~outcome.correct).sum())
    name = "gallery-resnet_original-none-autoattack-Linf-24-255"
    assert_legible(figures[name])
    found = examples(cell_of(book, "none", "autoattack", LARGE))
    images = [axes.images[0].get_array() for axes in figures[name].axes if axes.images]
    np.testing.assert_allclose(images[1], found["adversarial"][0, 0])
    assert "resnet_original / none / autoattack Linf 24/255" in words(figures[name])


@pytest.mark.slow
def test_a_model_that_is_never_right_has_no_gallery_and_a_note(workplace: Path, call: Callable[..., Ended]) -> None:
    (workplace / "wrong.py").write_text(
        "from torch import nn\n\n\ndef build():\n"
        "    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
        "    nn.init.zeros_(module[1].weight)\n"
        "    nn.init.constant_(module[1].bias[:1], 1.0)\n"
        "    return module\n"
    )  # the class 0, whatever it sees; neither of the two samples is of it
    model = "file:./wrong.py"
    options = (
        "--models",
        model,
        "--datasets",
        "digits",
        "--limit",
        "2",
        "--attacks",
        "clean,fgsm",
        "--defenses",
        "none",
    )
    options += ("--set", f'models."{model}".pretrained=true')
    assert call("run", *options).code == 0
    ended = call("figures", *options, "--kind", "gallery")
    assert ended.err.startswith(
        f"bench: note: gallery: {model} on digits / none / fgsm Linf 24/255: no sample is right"
    )
    assert not (workplace / "figures").exists()


@pytest.mark.slow
def test_images_that_are_not_those_of_the_run_are_noted(here: Path) -> None:
    """Here because the weights are others than those that were attacked."""
    from harness.illustration import modelled

    artifacts = Artifacts(Path("artifacts"))
    with opened(attacks=["fgsm@resnet_noisy"], defenses=["none"]) as (book, executor):
        own, other = book.cells[0].hardened.fit, book.cells[0].surrogate
        assert other is not None
        exchanged = artifacts.load("fit", other.key)
        assert exchanged is not None
        artifacts.save("fit", own.key, *exchanged)
        assert len(list(modelled.galleries(modelled.Laboratory(book, executor)))) == 2
        assert len(book.notes) == 2
        for note in book.notes:
            assert note.endswith("of 10 images, made again, are classified otherwise than in the run")


@pytest.mark.slow
def test_saliency_panels_show_the_classes_chosen_before_and_after_hardening(here: Path) -> None:
    from harness.illustration import modelled

    with opened(attacks=["clean", "fgsm"]) as (book, executor):
        (page,) = modelled.saliencies(modelled.Laboratory(book, executor, classes=("7", "3")))
        (standard,) = modelled.saliencies(modelled.Laboratory(book, executor))
        outcome = book.outcome(cell_of(book, "none", "fgsm", LARGE))
    assert file_name(page.name) == "saliency-resnet_original-fgsm-Linf-24-255"
    assert_legible(page.figure)
    axes = [panel for panel in page.figure.axes if panel.images]
    assert [panel.get_title() for panel in axes[:4]] == ["7, clean", "7, attacked", "3, clean", "3, attacked"]
    assert [axes[place].get_ylabel() for place in (0, 4)] == ["none", "pgd_at"]
    assert "resnet_original / fgsm Linf 24/255: Grad-CAM" in words(page.figure)
    assert (outcome.label == 7).any()
    titles = [panel.get_title() for panel in standard.figure.axes if panel.images]
    assert [title for title in titles if title] == [f"{k}, {w}" for k in (0, 5, 9) for w in ("clean", "attacked")]


# --- other components

STRANGERS = """
    from dataclasses import dataclass

    from harness.hookspecs import hookimpl
    from plugins.datasets.digits import Digits


    @dataclass(frozen=True)
    class Grouped(Digits):
        @hookimpl
        def facts(self):
            return super().facts()._replace(groups=("round", "straight", *["mixed"] * 7, "round"))


    @dataclass(frozen=True)
    class Flat:
        @hookimpl
        def build(self, preparation):
            from torch import nn

            return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


    @dataclass(frozen=True)
    class Upside:
        @hookimpl
        def wrap(self, module):
            from torch import nn

            class Flipped(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.module = module

                def forward(self, x):
                    return self.module(x.flip(2))

            return Flipped()
"""
STRANGE = (
    *("datasets.grouped.component=grouped", "models.flat.component=flat", "models.flat.dataset=grouped"),
    *("models.flat.training.epochs=4", "models.flat.training.lr=0.01", "defenses.upside.component=upside"),
    *("models.flat.hardening.epochs=1", "defenses.pgd_at.eps=8/255"),
)


@pytest.fixture
def strange(workplace: Path, plugin_distribution: Callable[..., Path]) -> dict[str, Any]:
    """A run of a linear model on data with super-classes, with a defense that wraps, one that trains: its options."""
    kinds: dict[str, dict[str, str]] = {
        "datasets": {"grouped": "Grouped"}, "models": {"flat": "Flat"}, "defenses": {"upside": "Upside"}
    }  # fmt: skip
    plugin_distribution("strangers", STRANGERS, **kinds)
    options = {"models": ["flat"], "attacks": ["clean", "fgsm"], "defenses": ["none", "upside", "pgd_at"]}
    run(*STRANGE, eps="24/255", **options)
    return {**options, "eps": "24/255"}


@pytest.mark.slow
def test_a_defense_that_trains_nothing_is_not_taken_for_none(strange: dict[str, Any]) -> None:
    from harness.illustration import modelled

    with opened(*STRANGE, **strange) as (book, executor):
        assert defenses(book.cells) == ["none", "upside", "pgd_at"]
        assert [list(alike) for alike in compared(book.cells)] == [["none", "upside", "pgd_at"]] * 2
        overviews = figures_of(stored.overviews(book))
        accuracy = {d: book.accuracy(cell_of(book, d, "clean")).value for d in ("none", "upside", "pgd_at")}
        classes = figures_of(stored.class_accuracies(book))
        landscapes = figures_of(modelled.landscapes(modelled.Laboratory(book, executor)))
    assert list(overviews) == ["overview-upside", "overview-pgd_at"]
    for name, figure in overviews.items():
        bars = {bars.get_label(): bars[0].get_height() for bars in figure.axes[0].containers}
        other = name.removeprefix("overview-")
        assert bars == {"none": pytest.approx(accuracy["none"]), other: pytest.approx(accuracy[other])}
    assert accuracy["upside"] < accuracy["none"] - 0.2
    assert "classes-flat-upside-clean" in classes
    assert "classes-flat-pgd_at-fgsm-Linf-24-255" in classes
    lines = {line.get_label(): line for line in landscapes["landscape-grouped"].axes[0].lines}
    none, upside = (lines[f"flat / {name}"].get_ydata() for name in ("none", "upside"))
    assert not np.allclose(none, upside)


@pytest.mark.slow
def test_super_classes_have_a_bar_for_each_defense(strange: dict[str, Any]) -> None:
    with opened(*STRANGE, **strange) as (book, _):
        figures = figures_of(stored.superclass_accuracies(book))
        assert book.notes == []
        outcome = book.outcome(cell_of(book, "pgd_at", "clean"))
    figure = figures["superclasses-flat-clean"]
    assert_legible(figure)
    bars = {bars.get_label(): [bar.get_width() for bar in bars] for bars in figure.axes[0].containers}
    assert list(bars) == ["none", "upside", "pgd_at"]
    group = np.array([0, 1, *[2] * 7, 0])
    hits = group[outcome.prediction] == group[outcome.label]
    expected = {n: hits[group[outcome.label] == g].mean() for g, n in enumerate(("round", "straight", "mixed"))}
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert bars["pgd_at"] == pytest.approx([expected[name] for name in names])


@pytest.mark.slow
def test_a_network_without_a_map_has_no_saliency_and_the_rest_is_drawn(strange: dict[str, Any]) -> None:
    places = flow.Places()
    found = flow.prospect(Options(settings=(*SETTINGS, *STRANGE), **{**BASE, **strange}), places, dry=True)
    told: list[str] = []
    made = draw(found, places, Wanted(("saliency", "eps")), Path("figures"), told.append)
    assert [path.name for path in made.files] == ["eps-flat-Linf.png", "eps-flat-Linf.pdf"]
    assert told == ["figures/eps-flat-Linf.png, figures/eps-flat-Linf.pdf"]
    assert len(made.notes) == 3
    for note in made.notes:
        assert note.startswith("saliency: flat / ")
        assert "Grad-CAM" in note


def test_kinds_are_what_the_help_names() -> None:
    kinds = next(p for p in cli.figures.__annotations__.items() if p[0] == "kind")[1]
    for kind in KINDS:
        assert kind in str(kinds)
