"""What is said while a run goes on, on a terminal, in a pipe, and when nothing is to be said."""

from __future__ import annotations

import io
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.progress import Lines, Live, Reporter, choose, spell

SHOW = """
import time
from harness.progress import Live, choose
reporter = choose(quiet=False)
assert type(reporter) is Live
reporter.begin(200.0)
reporter.step("fit vit[/x]", 100.0)
reporter.advance(0.5, "epoch 3 loss 1.234 accuracy 56.7 %")
time.sleep(0.3)
reporter.say("fit vit[/x]: done")
reporter.close()
"""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "an unknown time"),
        (0, "0 s"),
        (0.4, "0 s"),
        (40, "40 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.6, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (47.99 * 3600, "47 h 59 min"),
        (4 * 86400, "4 days"),
    ],
)
def test_a_duration_is_spelt_as_said(seconds: float | None, text: str) -> None:
    assert spell(seconds) == text


@given(seconds=st.floats(0, 1e7))
def test_a_duration_reads_back(seconds: float) -> None:
    units = {"s": 1, "min": 60, "h": 3600, "days": 86400}
    words = spell(seconds).split()
    told = sum(int(number) * units[unit] for number, unit in zip(words[::2], words[1::2], strict=True))
    # Off by half the smallest unit that is shown: what is cut off there, minutes of hours, may be all but one.
    assert told == pytest.approx(seconds, abs=0.5 if seconds < 3599 else 60 if seconds < 172799 else 43200)


def test_lines_are_one_for_each_thing_said_and_no_more() -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    lines.begin(10.0)
    lines.step("fit", 5.0)
    lines.advance(0.5, "loss 1.0")
    lines.say("fit: 9 s")
    lines.close()
    assert stream.getvalue() == "fit: 9 s\n"


def test_lines_give_a_sign_of_life_after_a_silence() -> None:
    stream = io.StringIO()
    lines = Lines(stream, quiet_s=0.05)
    lines.step("fit", 5.0)
    lines.advance(0.25, "loss 1.5")
    time.sleep(0.06)
    lines.advance(0.5, "loss 1.0")
    lines.advance(0.75, "loss 0.5")
    assert stream.getvalue() == "fit: 50% loss 1.0\n"


def test_the_display_suits_where_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    silent = choose(quiet=True)
    assert type(silent) is Reporter
    silent.begin(1.0)
    silent.step("fit", 1.0)
    silent.advance(0.5, "loss")
    silent.say("done")
    silent.close()
    assert capsys.readouterr() == ("", "")
    assert type(choose(quiet=False)) is Lines


def test_a_terminal_shows_the_step_its_loss_and_the_time_left() -> None:
    shown = _on_a_terminal(SHOW)
    assert "fit vit[/x]" in shown
    assert "epoch 3 loss 1.234 accuracy 56.7 %" in shown
    assert "fit vit[/x]: done" in shown
    # A quarter of 200 s is done at once: what is left is somewhere between what was measured and what was expected.
    assert " 50%" in shown
    assert " 25%" in shown
    assert "about 1 min 5" in shown
    assert "left" in shown


@pytest.fixture
def live() -> Iterator[Live]:
    reporter = Live()
    yield reporter
    reporter.close()


def test_the_time_left_is_the_estimate_at_first_and_nothing_at_the_end(live: Live) -> None:
    live.begin(100.0)
    live.step("one", 40.0)
    live.advance(0.0, "")
    assert _left(live) == "about 1 min 40 s left"
    live.step("two", 60.0)
    live.advance(1.0, "")
    assert _left(live) == "about 0 s left"


def test_the_time_left_is_not_told_where_nothing_is_known(live: Live) -> None:
    live.begin(None)
    live.step("one", None)
    live.advance(0.5, "loss 1")
    assert _left(live) == ""


def _left(live: Live) -> str:
    return str(live._progress.tasks[0].fields["text"])


def _on_a_terminal(program: str) -> str:
    """What a program writes to its standard error when that is a terminal of 200 columns."""
    parent, child = pty.openpty()
    environment = os.environ | {"COLUMNS": "200", "TERM": "xterm", "NO_COLOR": "1"}
    process = subprocess.Popen([sys.executable, "-c", program], stdin=child, stderr=child, env=environment)
    os.close(child)
    shown, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([parent], [], [], 0.2)[0]:
            try:
                shown += os.read(parent, 65536)
            except OSError:  # how Linux tells that the other end is closed
                break
        elif process.poll() is not None:
            break
    os.close(parent)
    assert process.wait(10) == 0
    return shown.decode()
