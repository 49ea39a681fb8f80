"""Figures of captioners: where they looked for each word, drawn as the sentence is read, of what the run had."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from drawings import assert_legible, texts, words

from harness import run as flow
from harness.artifacts import Artifacts
from harness.captioning.scores import sentence_bleu
from harness.executors.local import Local
from harness.figures.attention import Example, Sentence, attention_panels
from harness.figures.style import RIGHT, WRONG, file_name, look
from harness.figures.training import training_curves
from harness.illustration.book import Book
from harness.illustration.captioned import attentions, ranked
from harness.illustration.drawing import Wanted, draw
from harness.illustration.modelled import Laboratory
from harness.progress import Reporter
from harness.request import Options
from harness.store.store import open_store
from harness.types import Box, Status

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAID = ["یک", "دایره", "قرمز", "بزرگ", "بالای", "یک", "مربع", "آبی", "کوچک", "دیده", "می\u200cشود"]


def example(said: Sequence[str] = SAID, boxes: Sequence[Box] = (), rows: int = 4, columns: int = 6) -> Example:
    """The n-th word looks at location n alone, row by row."""
    image = np.full((3, 40, 60), 0.5, np.float32)
    maps = np.eye(rows * columns, dtype=np.float32)[: len(said) + 1].reshape(-1, rows, columns)
    return Example(["یک دایره", "دو دایره"], [Sentence("clean", image, said, maps, 0.25)], boxes)


def panels(figure: Figure) -> dict[str, list[Any]]:
    """Axes by the word above them, those of the same word in the order they were drawn."""
    found: dict[str, list[Any]] = {}
    for axes in figure.axes:
        found.setdefault(plain(axes.get_title()), []).append(axes)
    return found


def plain(text: str) -> str:
    """Without the marks that make a text run from right to left."""
    return text.strip("\u2067\u2069")


def lines(figure: Figure) -> list[str]:
    return [plain(text) for text in words(figure)]


# --- the drawing


def test_panels_run_as_the_sentence_is_read() -> None:
    for from_right in (True, False):
        figure = attention_panels([example()], from_right=from_right)
        order = sorted(figure.axes, key=lambda axes: axes.get_position().x0, reverse=from_right)
        assert [plain(axes.get_title()) for axes in order] == ["", *SAID]
        assert len(order[0].images) == 1  # the image as it is
        assert "clean, BLEU-4 25.0 %" in words(figure)
        assert {"references", "یک دایره", "دو دایره", " ".join(SAID)} <= set(lines(figure))


@pytest.mark.parametrize("count", [1, 14, pytest.param(30, marks=pytest.mark.slow)])
@pytest.mark.parametrize("from_right", [True, False])
def test_sentences_of_any_length_can_be_read(count: int, from_right: bool) -> None:
    said = [("ساندویچ‌هایشان", "skateboarding", "یک")[k % 3] for k in range(count)]
    both = example(said, rows=6)
    both = both._replace(sentences=[*both.sentences, both.sentences[0]._replace(name="attacked", words=[])])
    figure = attention_panels([both, both], from_right=from_right, title="caption_scheduled_sampling / none / " * 5)
    assert_legible(figure)
    assert len(figure.axes) == 2 * (count + 2)
    with look():
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in texts(figure)]
        places = [axes.get_window_extent() for axes in figure.axes]
    for n, one in enumerate(boxes):
        for other in boxes[n + 1 :]:
            assert not one.padded(-1).overlaps(other.padded(-1))
        for panel in places:
            assert not one.padded(-1).overlaps(panel.padded(-1))
    for n, panel in enumerate(places):
        assert not any(panel.padded(-1).overlaps(other) for other in places[n + 1 :])


@pytest.mark.parametrize(
    ("corner", "right", "below"),
    [((0, 0), False, False), ((0, 5), True, False), ((3, 0), False, True), ((3, 5), True, True)],
)
def test_heat_lies_where_the_attention_is(corner: tuple[int, int], right: bool, below: bool) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    maps = np.zeros((1, 4, 6), np.float32)
    maps[0][corner] = 1.0
    image = np.full((3, 40, 60), 0.5, np.float32)
    for from_right in (True, False):
        figure = attention_panels(
            [Example(["سگ"], [Sentence("clean", image, ["سگ"], maps, 1.0)])], from_right=from_right
        )
        axes = panels(figure)["سگ"][0]
        (peak,) = [line for line in axes.lines if line.get_gid() == "peak"]
        x, y = peak.get_xdata()[0], peak.get_ydata()[0]
        assert (x, y) == pytest.approx((60 * (corner[1] + 0.5) / 6 - 0.5, 40 * (corner[0] + 0.5) / 4 - 0.5))
        peak.set_visible(False)
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., :3].astype(float)
        place = axes.get_window_extent()
        left, top = round(place.x0), round(pixels.shape[0] - place.y1)
        panel = pixels[top : top + round(place.height), left : left + round(place.width)].sum(2)
        inner = panel[2:-2, 2:-2]
        rows, columns = np.nonzero(inner > inner.max() - 5)
        assert (columns.mean() > inner.shape[1] / 2) == right
        assert (rows.mean() > inner.shape[0] / 2) == below


def test_a_box_stands_on_the_panels_of_its_word_alone() -> None:
    figure = attention_panels([example(boxes=[Box("مربع", 0.25, 0.5, 0.5, 1.0), Box("ستاره", 0, 0, 1, 1)])])
    for word, found in panels(figure).items():
        frames = [patch for axes in found for patch in axes.patches if patch.get_gid() == "box"]
        assert len(frames) == (word == "مربع")
        for frame in frames:
            assert frame.get_bbox().extents == pytest.approx([14.5, 19.5, 29.5, 39.5])
    assert any("box" in text for text in words(figure))
    assert not any("box" in text for text in words(attention_panels([example()])))


def test_what_was_wanted_stands_below_what_was_said() -> None:
    both = example()
    attacked = both.sentences[0]._replace(name="attacked", wanted="مربع", reached=True)
    for sentence, told, colour in (
        (attacked, "✓ reached: wanted", RIGHT),
        (attacked._replace(wanted="یک سگ سیاه", reached=False), "✗ missed: wanted", WRONG),
    ):
        figure = attention_panels([both._replace(sentences=[both.sentences[0], sentence])], from_right=True)
        assert_legible(figure)
        found = {plain(text.get_text()): text for text in texts(figure)}
        assert [found[text].get_color() for text in (told, sentence.wanted)] == [colour, colour]
        heights = [found[text].get_position()[1] for text in ("attacked, BLEU-4 25.0 %", told)]
        assert heights[0] > heights[1] == pytest.approx(found[sentence.wanted].get_position()[1])
    colours = [axes.title.get_color() for axes in panels(attention_panels([Example([], [attacked])]))["مربع"]]
    assert colours == [RIGHT]  # the word itself
    assert not any("wanted" in text for text in lines(attention_panels([both])))


def test_a_sentence_that_begins_with_an_unknown_word_runs_from_right_to_left_and_a_dollar_is_no_formula() -> None:
    said = ["<unk>", "قرمز", "$5$"]
    figure = attention_panels([example(said)], from_right=True)
    assert "\u2067<unk> قرمز \\$5\\$\u2069" in words(figure)
    assert_legible(figure)


def test_a_captioners_training_shows_bleu_beside_the_loss() -> None:
    plain = [
        {
            "epoch": n,
            "loss": 1 / n,
            "accuracy": 0.5,
            "validation_loss": 1 / n,
            "validation_accuracy": n / 10,
            "lr": 1e-3,
        }
        for n in (1, 2, 3)
    ]
    history = [{**epoch, "validation_bleu4": bleu} for epoch, bleu in zip(plain, (0.2, 0.4, 0.3), strict=True)]
    figure = training_curves({"fit caption_additive": history})
    assert_legible(figure)
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert labels[:3] == ["loss", "BLEU-4", "accuracy of words"]
    (line,) = [line for line in figure.axes[1].lines if line.get_label() == "fit caption_additive"]
    np.testing.assert_array_equal(line.get_ydata(), [0.2, 0.4, 0.3])
    for axes in figure.axes[:3]:  # the highest BLEU-4 is the best, not the highest accuracy
        (best,) = [line for line in axes.lines if line.get_gid() == "best"]
        np.testing.assert_array_equal(best.get_xdata(), [2])
    assert [axes.get_ylabel() for axes in training_curves({"fit": plain}).axes[:2]] == ["loss", "accuracy"]


# --- which captions are shown


def test_the_bleu_of_a_sentence_is_smoothed_as_nltks_method2() -> None:
    module = pytest.importorskip("nltk.translate.bleu_score")
    captions = ["یک سگ سیاه روی چمن", "یک سگ", "گربه", "", "یک سگ سیاه روی چمن سبز می‌دود", "سگ سگ سگ سگ سگ"]
    references = [["یک سگ سیاه روی چمن سبز می‌دود", "سگ سیاهی روی چمن"]] * len(captions)
    found = sentence_bleu(captions, references)
    for score, caption, truths in zip(found, captions, references, strict=True):
        smooth = module.SmoothingFunction().method2
        split = [truth.split() for truth in truths]
        expected = module.sentence_bleu(split, caption.split(), smoothing_function=smooth)
        assert score == pytest.approx(float(expected), abs=1e-12)
    assert found[3] == 0
    assert found[4] == 1


def test_worst_and_best_are_of_a_hundred_by_lot_and_of_both_none() -> None:
    scores = np.random.default_rng(0).random(300)
    found = ranked(scores)
    assert found == ranked(scores)
    worst, best = scores[found["worst"]], scores[found["best"]]
    assert len(worst) == len(best) == 5
    assert list(worst) == sorted(worst)
    assert list(best) == sorted(best, reverse=True)
    assert 0 < (scores < worst.max()).sum() - 4 < 100  # others are worse, but were not drawn
    assert ranked(np.array([0.3, 0.1, 0.2])) == {"worst": [1], "best": [0]}
    assert ranked(np.array([0.5])) == {"worst": [0], "best": []}


# --- the command, and what it is drawn of

SETTINGS = (
    *("datasets.shapes_fa.train=120", "datasets.shapes_fa.validation=8", "datasets.shapes_fa.test=14"),
    *("datasets.shapes_fa.size=32", "datasets.shapes_fa.references=2", "run.longest=14", "attacks.pgd.steps=3"),
    *("models.caption_additive.training.epochs=2", "models.caption_additive.training.batch_size=16"),
)
OPTIONS: dict[str, Any] = {
    "matrix": "captions", "models": ["caption_additive"], "attacks": ["clean", "pgd"], "settings": SETTINGS,
}  # fmt: skip
NAMES = {f"attention-{which}-caption_additive-none-{attack}"
         for which in ("worst", "best") for attack in ("clean", "pgd-Linf-24-255")}  # fmt: skip


def prospect(**options: Any) -> flow.Prospect:
    return flow.prospect(Options(**{**OPTIONS, **options}), flow.Places())


def execute(**options: Any) -> None:
    summary = flow.execute(prospect(**options), flow.Places(), "bench run", Reporter())
    assert set(summary.counts) == {Status.OK}


def drawn(out: str, *kinds: str, **options: Any) -> tuple[dict[str, bytes], list[str]]:
    """The files of ``bench figures``, and its notes."""
    found = draw(prospect(**options), flow.Places(), Wanted(kinds), Path(out), lambda text: None)
    return {path.name: path.read_bytes() for path in found.files}, list(found.notes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run."""
    folder = tmp_path_factory.mktemp("captions")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        execute()
    return folder


@pytest.fixture
def here(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that a test may change, as the current folder."""
    folder = Path(shutil.copytree(finished, tmp_path / "copy"))
    monkeypatch.chdir(folder)
    return folder


@contextlib.contextmanager
def opened(**options: Any) -> Iterator[Laboratory]:
    found, artifacts = prospect(**options), Artifacts(Path("artifacts"))
    with open_store("results.db") as store:
        request, cpu = found.plan.request, torch.device("cpu")
        executor = Local("", store, artifacts, Reporter(), found.estimate, cpu, request.run, request.metrics)
        yield Laboratory(Book(found.plan, found.plan.cells, store, artifacts, {}), executor)


@pytest.mark.slow
def test_captioners_have_their_own_kinds_and_no_other(here: Path) -> None:
    clean: dict[str, Any] = {"attacks": ["clean"]}
    files, notes = drawn("figures", **clean)
    assert notes == []
    names = {"training-caption_additive", *(name for name in NAMES if name.endswith("clean"))}
    assert set(files) == {f"{name}.{ending}" for name in names for ending in ("png", "pdf")}
    asked, notes = drawn("asked", "overview", "gallery", "training", **clean)
    assert {name.partition("-")[0] for name in asked} == {"training"}
    assert notes == [f"{kind}: drawn of classification alone, and no such cell is finished"
                     for kind in ("overview", "gallery")]  # fmt: skip

    for kind in ("fit", "harden"):  # what was computed needs no weights
        shutil.rmtree(here / "artifacts" / kind, ignore_errors=True)
    again, notes = drawn("again", "attention", **clean)
    assert notes == []
    assert again == {name: content for name, content in files.items() if name.startswith("attention")}


@pytest.mark.slow
def test_without_weights_a_note_says_so(here: Path) -> None:
    shutil.rmtree(here / "artifacts" / "fit")
    files, notes = drawn("figures", "attention")
    assert files == {}
    advice = "no weights in artifacts; bench run --fresh with the same options makes them"
    assert notes == [f"fit caption_additive: {advice}"]


@pytest.mark.slow
def test_what_is_drawn_is_what_the_run_had(here: Path) -> None:
    with opened() as lab:
        pages = {page.name: page.figure for page in attentions(lab)}
        assert lab.book.notes == []  # captions made again are the stored ones
        cells = {cell.attack.name: cell for cell in lab.book.cells}
        data = lab.executor.captions(lab.book.cells[0].hardened.data)
        outcome = {n: lab.book.store.captions(c.key, data.references, data.corpus) for n, c in cells.items()}
    assert {file_name(name) for name in pages} == NAMES
    for attack, name in (("clean", "clean"), ("pgd", "pgd Linf 24/255")):
        found = outcome[attack]
        scores = sentence_bleu(found.caption, found.references)
        order = np.argsort(scores, kind="stable")
        figure = pages[f"attention-worst-caption_additive-none-{name}"]
        assert_legible(figure)
        shown = lines(figure)
        for row in order[:5]:
            assert {found.caption[row], found.clean_caption[row], *found.references[row]} - {""} <= {*shown, "–"}
        assert sum(text.startswith("attacked, ") for text in shown) == (5 if attack == "pgd" else 0)

    of_pgd = outcome["pgd"]
    scores = sentence_bleu(of_pgd.caption, of_pgd.references)
    (worst,) = np.argsort(scores, kind="stable")[:1]
    images = [axes.images[0].get_array() for axes in pages["attention-worst-caption_additive-none-pgd Linf 24/255"].axes
              if len(axes.images) == 1]  # fmt: skip
    assert len(images) == 2 * 5  # clean and attacked in turn
    size = np.abs(np.asarray(images[1]) - np.asarray(images[0])).max()
    assert size == pytest.approx(of_pgd.linf[worst], abs=1e-6)
    assert size == pytest.approx(24 / 255, abs=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_what_the_attack_wanted_is_drawn() -> None:
    for aim in ("caption", "keyword"):
        attack = f"pgd_{aim}"
        options: dict[str, Any] = {"attacks": [attack], "settings": (*SETTINGS, f"attacks.{attack}.steps=3")}
        execute(**options)
        with opened(**options) as lab:
            pages = {page.name: page.figure for page in attentions(lab)}
            (cell,) = lab.book.cells
            data = lab.executor.captions(cell.hardened.data)
            outcome = lab.book.store.captions(cell.key, data.references, data.corpus)
        assert outcome.target is not None
        worst = np.argsort(sentence_bleu(outcome.caption, outcome.references), kind="stable")[:5]
        shown = lines(next(figure for name, figure in pages.items() if "-worst-" in name))
        assert {outcome.target[row] for row in worst} <= set(shown)
        said = [(outcome.target[row], outcome.caption[row]) for row in worst]
        reached = sum(target == text if aim == "caption" else target in text.split() for target, text in said)
        assert shown.count("✓ reached: wanted") == reached
        assert shown.count("✗ missed: wanted") == 5 - reached


@pytest.mark.slow
def test_captions_that_are_not_those_of_the_run_are_noted(here: Path) -> None:
    """Here because the weights are others than those that were attacked."""
    with opened(attacks=["clean"]) as lab:
        fit = lab.book.cells[0].hardened.fit
        held = lab.book.artifacts.load("fit", fit.key)
        assert held is not None
        torch.manual_seed(0)
        tensors = {name: torch.randn_like(t) if t.is_floating_point() else t for name, t in held[0].items()}
        lab.book.artifacts.save("fit", fit.key, tensors, held[1])
        assert len(list(attentions(lab))) == 2
        (note,) = lab.book.notes
    assert note.endswith("of 10 images, made again, have other captions than in the run")


@pytest.mark.slow
def test_a_captioner_without_attention_is_noted_and_classifiers_are_drawn_beside(here: Path) -> None:
    options: dict[str, Any] = {"models": ["caption_mean", "resnet_original"], "attacks": ["clean"], "limit": "10"}
    options |= {"defenses": ["none"], "settings": (*SETTINGS, "models.resnet_original.training.epochs=1")}
    execute(**options)
    made, notes = drawn("both", "overview", "confusion", "training", "attention", **options)
    assert {name.removesuffix(".png").removesuffix(".pdf") for name in made} == {
        "overview", "confusion-resnet_original-none-clean", "training-resnet_original", "training-caption_mean",
    }  # fmt: skip
    assert notes == ["attention: caption_mean / none / clean: the model tells no attention"]
