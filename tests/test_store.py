"""The store on real SQLite files, and on PostgreSQL where one is given: round trips, crashes, strangers' files."""

from __future__ import annotations

import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from harness.errors import BenchError
from harness.store.connecting import connect, writing
from harness.store.details import Paired, cell_details, fits_by_label, paired, passes_by_sample, step_details
from harness.store.location import locate
from harness.store.migrating import configuration, upgrade
from harness.store.queries import cell_states, cells_by_key, leaderboard, rates
from harness.store.reading import open_if_any, open_reader
from harness.store.records import CellLabel, CellRecord, RunRecord, RunStatus, ScoreRecord, Sibling, StepRecord
from harness.store.revisions import HEAD, REVISIONS
from harness.store.rows import FLOATS, INTEGERS, OPTIONAL_FLOATS, OPTIONAL_INTEGERS
from harness.store.schema import metadata
from harness.store.store import Store, open_store
from harness.types import Outcome, Reason, Status, Verdict

ROOT = Path(__file__).parent.parent
POSTGRES = os.environ.get("BENCH_TEST_POSTGRES")
NO_POSTGRES = "BENCH_TEST_POSTGRES gives no URL of an empty database, such as postgresql+psycopg://user@localhost/test"


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where an empty store can be made: a SQLite file, and a schema of its own in PostgreSQL."""
    if request.param == "sqlite":
        yield str(tmp_path / "results.db")
        return
    if not POSTGRES:
        pytest.skip(NO_POSTGRES)
    engine = create_engine(POSTGRES)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA IF EXISTS bench_test CASCADE"))
        connection.execute(text("CREATE SCHEMA bench_test"))
    yield f"{POSTGRES}{'&' if '?' in POSTGRES else '?'}options=-csearch_path%3Dbench_test"
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA bench_test CASCADE"))
    engine.dispose()


@pytest.fixture
def store(place: str) -> Iterator[Store]:
    with open_store(place) as opened:
        opened.begin_run(run("r1"))
        yield opened


def run(name: str, **changes: Any) -> RunRecord:
    return RunRecord(name, "bench run", "quick", "cpu", **changes)


def outcome(n: int = 3, **changes: Any) -> Outcome:
    whole, real = np.arange(n, dtype=np.int64), np.linspace(0.0, 1.0, n)
    return replace(Outcome(whole, whole, whole, whole, real, real, real, real, real, seconds=2.0), **changes)


def cell(key: str, attack: str = "pgd", status: Status = Status.OK, **changes: Any) -> CellRecord:
    numbers = {"n": 3, "passes": 4.0} if status is Status.OK else {"reason": "out of memory"}
    facts: dict[str, Any] = {"subject": "subject", "norm": "Linf", "eps": 8 / 255, **numbers, **changes}
    return CellRecord(key, "r1", status, "cpu", attack=attack, **facts)


def accuracy(value: float = 0.5, metric: str = "accuracy") -> ScoreRecord:
    return ScoreRecord(metric, f"{metric}-key", value, 0.0, None, 3, "fraction")


def label(position: int, key: str, **changes: Any) -> CellLabel:
    labelled = CellLabel(position, key, "quick", "digits", "small", "none", "pgd", "Linf", 8 / 255, 0)
    return labelled._replace(**changes)


def rows(place: str, sql: str, **params: Any) -> list[dict[str, Any]]:
    with open_reader(place) as reader:
        return reader.rows(sql, **params)


def count(place: str, table: str) -> int:
    return int(rows(place, f"SELECT count(*) AS n FROM {table}")[0]["n"])


# --- schema


def test_the_migrated_schema_is_the_schema(place: str) -> None:
    open_store(place).close()
    engine = connect(locate(place))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_revisions_are_the_migrations() -> None:
    scripts = ScriptDirectory(str(ROOT / "harness/store/migrations"))
    assert tuple(reversed([script.revision for script in scripts.walk_revisions()])) == REVISIONS


def test_a_store_at_head_opens_without_alembic(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    open_store(str(path)).close()
    code = "import sys; from harness.store.store import open_store; open_store(sys.argv[1]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=True, capture_output=True, text=True)
    assert "sqlalchemy" in done.stdout.split()
    assert "alembic" not in done.stdout.split()


def test_an_older_store_is_copied_and_migrated(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    open_store(str(path)).close()
    engine = connect(locate(str(path)))
    with writing(engine, locate(str(path)), "test") as connection:
        command.downgrade(configuration(connection), "base")
    engine.dispose()
    assert count(str(path), "cells") == 0  # the reader migrates, too
    with closing(sqlite3.connect(tmp_path / "results.db.bak-base")) as copy:
        assert [name for (name,) in copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'")] == [
            "alembic_version"
        ]


FIRST_ROWS = (
    "INSERT INTO runs VALUES ('old', '2025', '2025', 'ok', 'bench run', 'quick', 'cpu', '', '{}', '{}', '[]', '{}', 1, "
    "'host')",
    "INSERT INTO cells VALUES ('a', 'old', 'ok', NULL, 'ok', 1, 2.0, 4.0, 'cpu', 'subject', 'pgd', 'Linf', 0.03, 0, 1, "
    "'[]', '[]', '2025', '{}')",
    "INSERT INTO scores VALUES ('a', 'accuracy', 'accuracy-key', 0.5, 0.0, NULL, 1, 'fraction')",
    "INSERT INTO outcomes VALUES ('a', 7, 0, 1, 1, 2, 0.03, 0.5, 10, 10, 0.03)",
    "INSERT INTO reasons VALUES ('a', 'own', 0, 'few', 'suspect', 'few samples')",
)


def test_a_store_of_the_first_schema_keeps_its_rows(place: str) -> None:
    engine = connect(locate(place))
    with writing(engine, locate(place), "test") as connection:
        upgrade(connection, "0001")
        for statement in FIRST_ROWS:
            connection.execute(text(statement))
    engine.dispose()
    with open_store(place) as store:
        found = store.outcome("a")
        assert (found.ids.tolist(), found.prediction.tolist(), found.facts) == ([7], [2], {})
        assert all(getattr(found, name) is None for name in OPTIONAL_INTEGERS + OPTIONAL_FLOATS)
        store.begin_run(run("r1"))
        store.save_cell(cell("b"), outcome(target=np.arange(3)), [], [])
    assert rows(place, "SELECT family, access, facts FROM cells WHERE key = 'a'") == [
        {"family": "", "access": "", "facts": "{}"}
    ]
    assert [count(place, table) for table in ("cells", "scores", "outcomes", "reasons")] == [2, 1, 4, 1]
    assert rows(place, "SELECT DISTINCT cell_key FROM outcomes WHERE target IS NULL") == [{"cell_key": "a"}]


def test_a_store_can_go_back_to_the_first_schema_and_forth(place: str) -> None:
    with open_store(place) as store:
        store.begin_run(run("r1"))
        store.save_cell(cell("a", family="f"), outcome(), [accuracy()], [])
    engine = connect(locate(place))
    with writing(engine, locate(place), "test") as connection:
        command.downgrade(configuration(connection), "0001")
        assert connection.execute(text("SELECT count(*) FROM outcomes")).scalar() == 3
    engine.dispose()
    open_store(place).close()
    assert [count(place, table) for table in ("cells", "scores", "outcomes")] == [1, 1, 3]


def test_a_newer_store_is_refused(place: str) -> None:
    open_store(place).close()
    engine = connect(locate(place))
    with writing(engine, locate(place), "test") as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    for door in (open_store, open_reader):
        with pytest.raises(BenchError, match=f"schema '9999', this bench knows up to '{HEAD}'; upgrade bench"):
            door(place)


# --- places


@pytest.mark.parametrize(
    "content", [b"garbage" * 2000, b"SQLite format 3\0", "truncated"], ids=["garbage", "stub", "truncated"]
)
def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "results.db"
    if isinstance(content, str):
        open_store(str(path)).close()
        content = path.read_bytes()[:9000]
    path.write_bytes(content)
    for door in (open_store, open_reader):
        with pytest.raises(BenchError, match=r"results\.db: (this is not a SQLite database|the file is damaged)"):
            door(str(path))
    assert path.read_bytes() == content


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    content = path.read_bytes()
    for door in (open_store, open_reader):
        with pytest.raises(BenchError, match="another program's database"):
            door(str(path))
    assert path.read_bytes() == content


def test_a_missing_or_empty_store_has_no_results_yet(place: str, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"no results yet at .*; run `bench run` first"):
        open_reader(place)
    assert open_if_any(place) is None
    (tmp_path / "empty.db").touch()
    with pytest.raises(BenchError, match="no results yet"):
        open_reader(str(tmp_path / "empty.db"))


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("{tmp}/no/results.db", "the folder .*/no does not exist; create it"),
        ("{tmp}", "is a folder; give the path of a file"),
        ("/proc/results.db", "/proc/results.db: it cannot be opened"),
        ("sqlite:///:memory:", "is a database in memory; give a file"),
        (
            "nosql://someone:secret@host/results",
            r"nosql://someone:\*\*\*@host/results is not a database URL",
        ),
        ("postgresql+psycopg://someone:secret@127.0.0.1:1/none", r"someone:\*\*\*@127.0.0.1:1/none: .*; check the URL"),
    ],
)
def test_a_place_that_cannot_be_a_store_is_one_line(tmp_path: Path, location: str, message: str) -> None:
    with pytest.raises(BenchError, match=message) as caught:
        open_store(location.format(tmp=tmp_path))
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@contextmanager
def _nobody() -> Iterator[None]:
    """For root, who may write anything: act as a user who may not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def closed_folder() -> Iterator[Path]:
    """A store in a folder that everybody may read and nobody may write (pytest's own folders are closed to others)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with open_store(str(folder / "results.db")) as store:
            store.begin_run(run("r1"))
            store.label_cells("r1", [label(0, "a")])
            store.save_cell(cell("a"), outcome(), [accuracy()], [])
        (folder / "results.db").chmod(0o444)
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)


def test_a_read_only_store_can_be_read_and_not_written(closed_folder: Path) -> None:
    path = closed_folder / "results.db"
    with _nobody():
        with open_reader(str(path)) as reader:
            assert [row.key for row in leaderboard(reader)] == ["a"]
        with pytest.raises(BenchError, match="cannot be written; make the file and its folder writable"):
            open_store(str(path))
        with pytest.raises(BenchError, match="it cannot be opened"):
            open_store(str(closed_folder / "other.db"))
    assert [file.name for file in closed_folder.iterdir()] == ["results.db"]


def test_a_read_only_file_in_an_open_folder_is_noticed_at_once(closed_folder: Path) -> None:
    closed_folder.chmod(0o777)
    with _nobody(), pytest.raises(BenchError, match="cannot be written"):
        open_store(str(closed_folder / "results.db"))


# --- cells


counts = st.floats(min_value=0.0) | st.just(math.nan)  # none is negative; SQLite would turn -0.0 into 0.0
integers = st.integers(-(2**63), 2**63 - 1)


@st.composite
def outcomes(draw: st.DrawFn) -> Outcome:
    ids = draw(st.lists(integers, unique=True, max_size=8))
    n = len(ids)
    whole = {name: np.array(draw(st.lists(integers, min_size=n, max_size=n)), np.int64) for name in INTEGERS}
    real = {name: np.array(draw(st.lists(counts, min_size=n, max_size=n)), np.float64) for name in FLOATS}
    optional: dict[str, Any] = {
        name: np.array(draw(st.lists(kind, min_size=n, max_size=n)), dtype) if n and draw(st.booleans()) else None
        for names, kind, dtype in ((OPTIONAL_INTEGERS, integers, np.int64), (OPTIONAL_FLOATS, counts, np.float64))
        for name in names
    }
    for name in OPTIONAL_FLOATS:  # a number for no sample at all is as if it had not been measured
        optional[name] = None if optional[name] is None or np.isnan(optional[name]).all() else optional[name]
    facts = draw(st.dictionaries(st.text(), st.none() | st.booleans() | integers | st.text(), max_size=3))
    notes = draw(st.lists(st.builds(Reason, st.text(), st.sampled_from(Verdict), st.text()), max_size=2))
    low, high, seconds = draw(counts), draw(counts), draw(st.floats(0.0, 1e9))
    arrays: dict[str, Any] = {"ids": np.array(ids, np.int64), **whole, **real, **optional}
    return Outcome(**arrays, proposal_low=low, proposal_high=high, seconds=seconds, notes=notes, facts=facts)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=outcomes())
def test_an_outcome_comes_back_bit_for_bit_and_in_order(store: Store, found: Outcome) -> None:
    store.save_cell(cell("a", n=len(found.ids)), found, [], [])
    back = store.outcome("a")
    for name, value in vars(found).items():
        other = getattr(back, name)
        if isinstance(value, np.ndarray):
            assert other.dtype == value.dtype
            assert other.tobytes() == value.tobytes()
        else:
            assert other == value or (math.isnan(other) and math.isnan(value))


def test_an_infinite_size_and_what_was_not_measured_come_back(store: Store) -> None:
    nothing, some = np.full(3, math.nan), np.array([0.25, math.nan, 0.0])
    store.save_cell(cell("a"), outcome(proposal_size=np.full(3, math.inf), l1=nothing, zero_gradients=some), [], [])
    back = store.outcome("a")
    assert np.isposinf(back.proposal_size).all()
    assert back.l1 is None
    assert back.zero_gradients is not None
    np.testing.assert_array_equal(back.zero_gradients, some)


def test_a_cell_is_verified_when_its_facts_say_so(store: Store, place: str) -> None:
    said: dict[str, dict[str, Any]] = {"a": {"verified": np.True_}, "b": {"verified": "yes"}, "c": {}}
    for key, facts in said.items():
        store.save_cell(cell(key), outcome(facts=facts), [], [])
    store.save_cell(cell("d", status=Status.FAILED), None, [], [])
    with open_reader(place) as reader:
        states = cell_states(reader, ["a", "b", "c", "d"])
    assert [key for key, state in states.items() if state.verified] == ["a"]


def test_the_newest_ok_cell_of_a_family_is_found(store: Store) -> None:
    assert store.finished_in_family("") is None
    store.save_cell(cell("stranger"), outcome(), [], [])
    for key, created in (("a", "2025-01-02"), ("b", "2025-01-03"), ("c", "2025-01-01")):
        store.save_cell(cell(key, family="f", created=created), outcome(), [], [])
    store.save_cell(cell("d", status=Status.FAILED, family="f"), None, [], [])
    assert store.finished_in_family("f") == "b"
    assert store.finished_in_family("g") is None
    assert store.finished_in_family("") is None


def test_numpy_scalars_are_stored_as_numbers(store: Store, place: str) -> None:
    score = ScoreRecord("accuracy", "k", np.float32(0.5), np.float64(0.25), None, 3, "fraction")  # type: ignore[arg-type]
    store.save_cell(cell("a"), outcome(), [score], [])
    assert rows(place, "SELECT value, low, high FROM scores") == [{"value": 0.5, "low": 0.25, "high": None}]


def test_saving_again_replaces_the_whole_cell(store: Store, place: str) -> None:
    doubt = Reason("few", Verdict.SUSPECT, "few samples")
    store.save_cell(cell("a"), outcome(), [accuracy(), accuracy(0.1, "queries")], [doubt])
    store.save_cell(cell("a", status=Status.FAILED), None, [], [])
    assert [count(place, table) for table in ("cells", "outcomes", "scores", "reasons")] == [1, 0, 0, 0]
    store.save_cell(cell("a"), outcome(), [accuracy()], [doubt])
    assert [count(place, table) for table in ("cells", "outcomes", "scores", "reasons")] == [1, 3, 1, 1]
    assert rows(place, "SELECT status, verdict FROM cells") == [{"status": "ok", "verdict": "suspect"}]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["value", "low", "high"])
def test_a_score_that_is_no_number_is_refused(store: Store, place: str, number: float, field: str) -> None:
    changes: dict[str, Any] = {field: number}
    bad = accuracy()._replace(**changes)
    with pytest.raises(ValueError, match="not finite"):
        store.save_cell(cell("a"), outcome(), [bad], [])
    assert count(place, "cells") == 0


def test_only_an_ok_cell_has_numbers(store: Store) -> None:
    failed = cell("a", status=Status.FAILED)
    with pytest.raises(ValueError, match="carries no samples and no scores"):
        store.save_cell(failed, outcome(), [], [])
    with pytest.raises(ValueError, match="carries no samples and no scores"):
        store.save_cell(failed, None, [accuracy()], [])
    with pytest.raises(ValueError, match="without a reason"):
        store.save_cell(replace(failed, reason=None), None, [], [])
    with pytest.raises(ValueError, match="without that many samples"):
        store.save_cell(cell("a", n=4), outcome(3), [], [])
    store.save_cell(failed, None, [], [])
    with pytest.raises(ValueError, match="is failed and cannot have scores"):
        store.save_scores("a", [accuracy()])
    with pytest.raises(ValueError, match="is failed and has no outcome"):
        store.outcome("a")


def test_scores_can_be_added_later(store: Store, place: str) -> None:
    store.save_cell(cell("a"), outcome(), [accuracy()], [])
    store.save_scores("a", [accuracy(0.9), accuracy(7.0, "queries")])
    with open_reader(place) as reader:
        states = cell_states(reader, ["a", *(f"missing{i}" for i in range(1200))])
    assert {key: (state.status, state.metrics) for key, state in states.items()} == {
        "a": (Status.OK, {"accuracy": "accuracy-key", "queries": "queries-key"})
    }
    assert rows(place, "SELECT value FROM scores WHERE metric = :metric", metric="accuracy") == [{"value": 0.9}]


def test_a_metric_that_does_not_apply_is_known_and_not_shown(store: Store, place: str) -> None:
    groups: list[Sequence[Sibling]] = []

    def relate(group: Sequence[Sibling]) -> Mapping[str, Sequence[Reason]]:
        groups.append(group)
        return {}

    nothing = ScoreRecord("accuracy", "accuracy-key", None, None, None, 0, "fraction")
    store.label_cells("r1", [label(0, "a")])
    store.save_cell(cell("a"), outcome(), [nothing, accuracy(0.5, "queries")], [], relate)
    with open_reader(place) as reader:
        assert cell_states(reader, ["a"])["a"].metrics == {"accuracy": "accuracy-key", "queries": "queries-key"}
        assert [score.metric for row in leaderboard(reader) for score in row.scores] == ["queries"]
        assert [row.scores for row in leaderboard(reader, metric="accuracy")] == [()]
    assert groups == []


def test_siblings_judge_each_other(store: Store, place: str) -> None:
    seen: list[Sequence[Sibling]] = []

    def relate(group: Sequence[Sibling]) -> Mapping[str, Sequence[Reason]]:
        seen.append(group)
        best = min(group, key=lambda sibling: sibling.accuracy)
        doubt = Reason("weaker", Verdict.INVALID, f"weaker than {best.attack}")
        return {other.key: [doubt] for other in group if best.attack in other.stronger_than}

    few = Reason("few", Verdict.SUSPECT, "few samples")
    store.save_cell(cell("a", "pgd", stronger_than=("fgsm",)), outcome(), [accuracy(0.5)], [few], relate)
    store.save_cell(cell("other", "pgd", subject="elsewhere"), outcome(), [accuracy(0.0)], [], relate)
    verdicts = "SELECT key, verdict FROM cells WHERE subject = 'subject' ORDER BY key"
    assert rows(place, verdicts) == [{"key": "a", "verdict": "suspect"}]
    known = {"access": "gradient", "family": "f"}
    store.save_cell(cell("b", "fgsm", **known), outcome(), [accuracy(0.4)], [], relate)
    assert seen[-1][0] == Sibling("a", "pgd", "Linf", 8 / 255, 0.5, 3, ("fgsm",))
    assert seen[-1][1] == Sibling("b", "fgsm", "Linf", 8 / 255, 0.4, 3, (), "gradient", "f")
    assert rows(place, verdicts) == [{"key": "a", "verdict": "invalid"}, {"key": "b", "verdict": "ok"}]
    store.save_cell(cell("b", "fgsm"), outcome(), [accuracy(0.6)], [], relate)  # the doubt is gone, its own stays
    assert rows(place, verdicts) == [{"key": "a", "verdict": "suspect"}, {"key": "b", "verdict": "ok"}]
    assert rows(place, "SELECT code FROM reasons") == [{"code": "few"}]
    with pytest.raises(ValueError, match="not siblings"):
        store.save_cell(cell("c"), outcome(), [accuracy()], [], lambda group: {"elsewhere": []})
    assert count(place, "cells") == 3


# --- crashes and company


def _child(code: str, *arguments: str) -> subprocess.Popen[str]:
    head = "import sys, os, signal\nfrom test_store import *\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + code, *arguments], cwd=ROOT / "tests", stderr=subprocess.PIPE, text=True
    )


def test_a_kill_inside_save_cell_leaves_no_part_of_it(store: Store, place: str) -> None:
    store.save_cell(cell("a"), outcome(), [accuracy(0.5)], [])
    child = _child(
        "with open_store(sys.argv[1]) as store:\n"
        "    kill = lambda group: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    store.save_cell(cell('a', n=9), outcome(9), [accuracy(0.9)], [], kill)",
        place,
    )
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    assert count(place, "outcomes") == 3
    assert rows(place, "SELECT value FROM scores") == [{"value": 0.5}]
    store.save_cell(cell("a", n=9), outcome(9), [accuracy(0.9)], [])
    assert count(place, "outcomes") == 9


def test_two_processes_create_and_write_one_store_while_a_third_reads(place: str) -> None:
    code = (
        "with open_store(sys.argv[1]) as store:\n"
        "    store.begin_run(run(sys.argv[2]))\n"
        "    group = lambda siblings: {s.key: [Reason('n', Verdict.SUSPECT, str(len(siblings)))] for s in siblings}\n"
        "    for i in range(20):\n"
        "        record = replace(cell(f'{sys.argv[2]}-{i}'), run_id=sys.argv[2])\n"
        "        store.save_cell(record, outcome(), [accuracy()], [], group)\n"
    )
    children = [_child(code, place, name) for name in ("x", "y")]
    while any(child.poll() is None for child in children):
        reader = open_if_any(place)
        if reader is not None:
            with reader:
                first = reader.rows("SELECT count(*) AS n FROM cells")
                assert reader.rows("SELECT count(*) AS n FROM scores") == first  # one state of the store
        time.sleep(0.02)
    errors = [child.communicate(timeout=60)[1] for child in children]
    assert [child.returncode for child in children] == [0, 0], errors
    assert count(place, "outcomes") == 2 * 20 * 3
    assert rows(place, "SELECT DISTINCT text FROM reasons") == [{"text": "40"}]  # all saw each other


def test_a_reader_sees_one_state_and_leaves_nothing_behind(tmp_path: Path) -> None:
    place = str(tmp_path / "results.db")
    with open_store(place) as store:
        store.begin_run(run("r1"))
        with open_reader(place) as reader:
            store.save_cell(cell("a"), outcome(), [accuracy()], [])
            assert reader.rows("SELECT key FROM cells") == []
            assert rows(place, "SELECT key FROM cells") == [{"key": "a"}]
            with pytest.raises(BenchError, match="cannot be written"):
                reader.rows("DELETE FROM cells")
    assert rows(place, "SELECT key FROM cells") == [{"key": "a"}]
    assert [path.name for path in tmp_path.iterdir()] == ["results.db"]


def test_a_dead_process_leaves_an_interrupted_run(store: Store, place: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    store.begin_run(run("dead", pid=child.pid))
    store.begin_run(run("elsewhere", pid=child.pid, host="another machine"))
    store.begin_run(run("done"))
    store.finish_run("done", RunStatus.OK)
    assert store.reap() == ["dead"]
    found = {row["id"]: row["status"] for row in rows(place, "SELECT id, status FROM runs")}
    assert found == {"r1": "running", "dead": "interrupted", "elsewhere": "running", "done": "ok"}
    with pytest.raises(ValueError, match="no run 'never'"):
        store.finish_run("never", RunStatus.OK)


# --- questions


def test_the_leaderboard_has_the_newest_result_of_each_coordinate(store: Store, place: str) -> None:
    store.begin_run(run("r2"))
    store.label_cells(
        "r1", [label(0, "a"), label(1, "b", attack="fgsm"), label(2, "never", attack="clean", norm=None, eps=None)]
    )
    store.label_cells("r2", [label(0, "new"), label(1, "unfinished", attack="fgsm"), label(2, "bad", model="large")])
    store.save_cell(cell("a"), outcome(), [accuracy(0.1)], [])
    store.save_cell(cell("b"), outcome(), [accuracy(0.2), accuracy(0.3, "queries")], [])
    store.save_cell(cell("new"), outcome(), [accuracy(0.4)], [Reason("few", Verdict.SUSPECT, "few samples")])
    store.save_cell(cell("bad", status=Status.FAILED), None, [], [])
    with open_reader(place) as reader:
        found = {row.key: row for row in leaderboard(reader)}
        assert list(found) == ["b", "never", "new", "bad"]
        assert found["new"].reasons == (Reason("few", Verdict.SUSPECT, "few samples"),)
        assert [score.metric for score in found["b"].scores] == ["accuracy", "queries"]
        assert (found["bad"].status, found["bad"].verdict, found["bad"].scores) == ("failed", "invalid", ())
        assert found["bad"].reasons == (Reason("failed", Verdict.INVALID, "out of memory"),)
        assert (found["never"].status, found["never"].eps) == ("interrupted", None)
        assert [row.key for row in leaderboard(reader, run="r1")] == ["a", "b", "never"]
        assert [row.key for row in leaderboard(reader, model="large", profile="quick")] == ["bad"]
        assert [score.value for row in leaderboard(reader, metric="queries") for score in row.scores] == [0.3]
        with pytest.raises(BenchError, match="no such name 'r3'; did you mean"):
            leaderboard(reader, run="r3")


def test_cells_are_found_by_the_beginning_of_their_key(store: Store, place: str) -> None:
    store.label_cells("r1", [label(0, "ab12"), label(1, "ab12", model="alias"), label(2, "ab99"), label(3, "cc")])
    store.save_cell(cell("ab12"), outcome(), [accuracy(0.1)], [Reason("few", Verdict.SUSPECT, "few samples")])
    with open_reader(place) as reader:
        found = cells_by_key(reader, "ab1")
        assert [(row.key, row.model, row.status) for row in found] == [("ab12", "small", "ok"), ("ab12", "alias", "ok")]
        assert [(row.scores[0].value, row.reasons[0].code) for row in found] == [(0.1, "few")] * 2
        assert [row.key for row in cells_by_key(reader, "ab")] == ["ab12", "ab12", "ab99"]
        assert cells_by_key(reader, "b") == []


def test_two_cells_are_counted_side_by_side(store: Store, place: str) -> None:
    def judged(key: str, ids: list[int], right: list[int], labels: int = 0) -> None:
        n = len(ids)
        changes = {"ids": np.array(ids), "label": np.full(n, labels), "prediction": labels + 1 - np.array(right)}
        store.save_cell(cell(key, n=n), outcome(n, **changes), [], [])

    judged("a", [1, 2, 3, 4, 5], [1, 1, 1, 0, 0])
    judged("b", [9, 5, 4, 3, 2], [1, 0, 1, 0, 1])
    judged("c", [5, 4], [1, 1], labels=7)
    judged("d", [99], [1])
    with open_reader(place) as reader:
        assert paired(reader, "a", "b") == Paired(shared=4, relabelled=0, both=1, a_only=1, b_only=1)
        assert paired(reader, "a", "b").neither == 1
        assert paired(reader, "a", "c").relabelled == 2
        assert paired(reader, "a", "d") == Paired(0, 0, 0, 0, 0)


def test_what_is_stored_of_one_cell(store: Store, place: str) -> None:
    step = StepRecord(
        "s1", "fit", "quick/small", Status.OK, "r1", "cpu", 8.0, document={"seed": 1}, created="2025-01-02"
    )
    store.save_step(step)
    store.save_step(replace(step, key="s0", created="2025-01-01"))
    store.save_step(replace(step, key="s2", status=Status.FAILED))
    passes = {"forwards": np.array([1.0, math.nan, 3.0]), "backwards": np.full(3, math.nan)}
    store.save_cell(cell("a", access="scores"), outcome(**passes), [], [])
    with open_reader(place) as reader:
        details = cell_details(reader, "a")
        assert details is not None
        assert (details["access"], details["command"], details["seconds"]) == ("scores", "bench run", 2.0)
        assert cell_details(reader, "b") is None
        assert passes_by_sample(reader, "a") == ([1.0, 3.0], [])
        assert [step["key"] for step in fits_by_label(reader, "quick/small")] == ["s0", "s1"]
        found = step_details(reader, "s1")
        assert found is not None
        assert json.loads(found["document"]) == {"seed": 1}
        assert step_details(reader, "none") is None


def test_rates_are_the_newest_measurements(store: Store, place: str) -> None:
    for key, seconds in (("s1", 8.0), ("s2", 2.0)):
        store.save_step(StepRecord(key, "fit", "small", Status.OK, "r1", "cpu", seconds, 4.0))
    store.save_step(StepRecord("s3", "fit", "small", Status.FAILED, "r1", "cpu", 9.0, 1.0, reason="diverged"))
    store.label_cells("r1", [label(0, "a"), label(1, "a", model="alias"), label(2, "b")])
    store.save_cell(cell("a", passes=4.0), outcome(seconds=2.0), [], [])
    store.save_cell(cell("b", passes=6.0), outcome(seconds=8.0), [], [])
    with open_reader(place) as reader:
        assert rates(reader) == {
            ("fit", "small", "cpu"): 0.5,
            ("attack", "quick/small", "cpu"): 1.0,
            ("attack", "quick/alias", "cpu"): 0.5,
        }


def test_a_step_keeps_its_telemetry(store: Store, place: str) -> None:
    history = [{"epoch": 0, "loss": 1.5}, {"epoch": 1, "loss": math.nan}]
    step = StepRecord("s1", "fit", "small", Status.OK, "r1", "cpu", history=history, document={"lr": 0.1})
    store.save_step(step)
    store.save_step(replace(step, label="renamed"))
    (found,) = rows(place, "SELECT label, document, history FROM steps")
    assert (found["label"], json.loads(found["document"])) == ("renamed", {"lr": 0.1})
    assert json.loads(found["history"]) == [{"epoch": 0, "loss": 1.5}, {"epoch": 1, "loss": "nan"}]
