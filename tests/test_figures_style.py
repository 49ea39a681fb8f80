"""The common look, and files that are whole or not there."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import matplotlib as mpl
import pytest
from drawings import assert_legible
from matplotlib.figure import Figure

from harness.errors import BenchError
from harness.figures.style import canvas, drawn, file_name, look, save, stroke, titled


@drawn
def picture(label: str = "accuracy") -> Figure:
    figure, axes = canvas(3, 2)
    axes[0, 0].plot([0, 1], [0, 1], **stroke(0))
    axes[0, 0].set_xlabel(label)
    return figure


def test_axes_are_a_table() -> None:
    figure, axes = canvas(6, 3, 2, 3, sharey=True)
    assert axes.shape == (2, 3)
    assert tuple(figure.get_size_inches()) == (6, 3)
    assert canvas(3, 3)[1].shape == (1, 1)


def test_no_global_state_is_left() -> None:
    before = dict(mpl.rcParams)
    picture()
    with look():
        assert mpl.rcParams["font.size"] == 8
    assert dict(mpl.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_a_users_settings_do_not_change_a_figure(tmp_path: Path) -> None:
    plain = save(picture(), tmp_path, "plain")[0].read_bytes()
    with mpl.rc_context({"font.size": 20, "lines.linewidth": 9, "savefig.dpi": 50, "axes.grid": True}):
        assert save(picture(), tmp_path, "set")[0].read_bytes() == plain


def test_both_files_are_written_and_their_bytes_repeat(tmp_path: Path) -> None:
    first = {path.name: path.read_bytes() for path in save(picture(), tmp_path / "new", "curve")}
    assert list(first) == ["curve.png", "curve.pdf"]
    assert first["curve.png"].startswith(b"\x89PNG")
    assert first["curve.pdf"].startswith(b"%PDF")
    assert {path.name: path.read_bytes() for path in save(picture(), tmp_path / "new", "curve")} == first
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["curve.pdf", "curve.png"]


def test_a_figure_that_cannot_be_written_leaves_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.read_bytes() for path in save(picture(), tmp_path, "curve")}
    broken = picture("another")
    monkeypatch.setattr(Figure, "savefig", _fails_at_pdf)
    with pytest.raises(OSError, match="disk full"):
        save(broken, tmp_path, "curve")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def _fails_at_pdf(figure: Figure, path: Path, **settings: object) -> None:
    if settings["format"] == "pdf":
        raise OSError("disk full")
    path.write_bytes(b"half")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("confusion resnet", "confusion-resnet"),
        ("../../etc/passwd", "etc-passwd"),
        ("eps=8/255: pgd", "eps=8-255-pgd"),
        (".hidden", "hidden"),
        ("گل", "گل"),
        ("///", "figure"),
        ("a" * 300, "a" * 120),
    ],
)
def test_names_are_made_fit_for_files(name: str, file: str) -> None:
    assert file_name(name) == file


def test_persian_letters_have_glyphs_and_join(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a missing glyph
        save(picture("دقت هر رده: گچپژ، می‌شود ۱۲۳ ✓ ✗"), tmp_path, "persian")
    with look():
        joined, apart = (canvas(3, 1)[0].text(0.5, 0.5, text, fontsize=30) for text in ("ببب", "ب\u200cب\u200cب"))
        widths = [text.get_window_extent().width for text in (joined, apart)]
    assert widths[0] < 0.9 * widths[1]


def test_lines_differ_in_more_than_colour() -> None:
    looks = [stroke(place) for place in range(14)]
    assert len({(look["color"], look["marker"]) for look in looks}) == 14
    for place in range(7):
        assert looks[place]["marker"] != looks[(place + 1) % 7]["marker"]


def test_a_long_title_is_wrapped() -> None:
    figure = picture()
    titled(figure, "resnet_original and resnet_noisy on the test images of CIFAR-100 before and after hardening")
    assert_legible(figure)


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(BenchError, match=r"^figures: .* matplotlib .* pip install 'adversarial-bench\[figures\]'$"):
        canvas(3, 3)
