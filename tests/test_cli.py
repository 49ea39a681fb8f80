"""The command line: what it prints, its exit codes, and that a mistake costs one line and changes nothing."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from cells import Filler
from commands import in_process

import cli
from harness.errors import BenchError
from harness.store.store import open_store

pytestmark = pytest.mark.usefixtures("workplace")

Process = Callable[..., subprocess.CompletedProcess[str]]
ONE_CELL = ("run", "--models", "resnet_original", "--attacks", "clean", "--defenses", "none")


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def call(workplace: Path) -> Callable[..., Ended]:
    """The command in this process."""

    def run(*arguments: str) -> Ended:
        ended = in_process(workplace, *arguments)
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    return run


def on_disk() -> dict[str, bytes | None]:
    """Every file and folder of the workplace with its bytes."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(Path().rglob("*"))}


def refused(call: Callable[..., Ended], *arguments: str) -> str:
    before = on_disk()
    ended = call(*arguments)
    assert ended.code == 2
    assert on_disk() == before
    (line,) = ended.err.splitlines()
    assert line.startswith("bench: error: ")
    return line.removeprefix("bench: error: ")


# --- mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--models vit_tf", "--models: no such name 'vit_tf'; did you mean vit_ft"),
        ("--models ,", "--models: got ','; one or more names, separated by commas"),
        ("--metrics ,", "--metrics: got ','; one or more names, separated by commas"),
        ("--metrics acuracy", "--metrics: no such name 'acuracy'; did you mean accuracy"),
        ("--attacks pdg", "--attacks: no such name 'pdg'; did you mean pgd"),
        ("--defenses pdg_at", "--defenses: no such name 'pdg_at'; did you mean pgd_at"),
        ("--matrix repotr", "--matrix: no such name 'repotr'; did you mean report"),
        ("--profile tinny", "--profile: no such name 'tinny'; did you mean tiny"),
        ("--set attacks.pgd.stepz=3", "attacks.pgd: key: no such name 'stepz'; did you mean steps"),
        ("--set steps=3", "--set steps=3: KEY=VALUE is needed"),
        ("--set atacks.pgd.steps=3", "did you mean attacks"),
        ("--device tpu", "--device tpu: no such device"),
        ("--device cuda:x", "--device cuda:x: no such device"),
        ("--eps -1/255", "--eps: got -0.00392157"),
        ("--eps eight", "--eps: got 'eight'"),
        ("--eps 8", "did you mean 8/255"),
        ("--norm L2", "give --eps too"),
        ("--seeds x", "--seeds: got 'x'"),
        ("--limit 0", "--limit: got 0"),
        ("--registry none.toml", "--registry none.toml: no such file"),
        ("--profile small", "dataset cifar100: not found in data"),
        ("--set models.vit_ft.weights=none.safetensors", "none.safetensors: no such file"),
        ("--store /proc/none/results.db", "the folder /proc/none does not exist"),
        ("--store file/results.db", "the folder file does not exist"),
        ("--store .", ". is a folder"),
        ("--store nosql://localhost/x", "nosql://localhost/x is not a database URL"),
    ],
)
def test_a_mistake_of_a_run_is_one_line_and_changes_nothing(
    arguments: str, message: str, call: Callable[..., Ended]
) -> None:
    Path("file").write_text("no folder")
    # Not --dry-run: what is refused is refused before anything is made. Missing data must not be downloaded, though.
    dry = ["--dry-run"] if "small" in arguments else []
    assert message in refused(call, "run", *arguments.split(), *dry)


def test_a_mistake_in_the_registry_shows_the_line(call: Callable[..., Ended]) -> None:
    Path("registry.toml").write_text("[run]\neps = = 1\n")
    for command in ("run", "list", "info attacks pgd"):
        assert "registry registry.toml: Invalid value (at line 2, column 7): 'eps = = 1'" in refused(
            call, *command.split()
        )
    Path("registry.toml").rename("other.toml")
    assert "registry other.toml: Invalid value" in refused(call, "run", "--registry", "other.toml")


@pytest.fixture
def newer_store(workplace: Path) -> Path:
    path = workplace / "newer.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
        connection.execute("CREATE TABLE runs (id TEXT)")
    return path


@pytest.mark.parametrize("command", [("run",), ("run", "--dry-run"), ("table",)])
def test_a_store_that_cannot_be_used_is_left_as_it_is(
    command: tuple[str, ...], call: Callable[..., Ended], newer_store: Path
) -> None:
    assert "newer.db has schema '9999', this bench knows up to" in refused(call, *command, "--store", newer_store.name)
    Path("text.db").write_text("this is no database, however long it may be. " * 50)
    assert "text.db: this is not a SQLite database" in refused(call, *command, "--store", "text.db")
    with closing(sqlite3.connect("foreign.db")) as connection, connection:
        connection.execute("CREATE TABLE songs (id TEXT)")
    assert "foreign.db is another program's database" in refused(call, *command, "--store", "foreign.db")


@pytest.mark.parametrize("command", ["table", "table --format json", "table --profile tiny"])
def test_a_table_without_results_says_what_to_do(command: str, call: Callable[..., Ended]) -> None:
    assert refused(call, *command.split()) == "no results yet at results.db; run `bench run` first"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--format rihc", "format: no such name 'rihc'; did you mean rich"),
        ("--reference repotr", "--reference: no such name 'repotr'; did you mean report"),
        ("--run run2", "run: no such name 'run2'; did you mean run1"),
        ("--metric acuracy", "no such name 'acuracy'; did you mean accuracy"),
        ("--profile tinny", "no such name 'tinny'; did you mean tiny"),
    ],
)
@pytest.mark.usefixtures("small_store")
def test_a_mistake_of_a_table_is_one_line(arguments: str, message: str, call: Callable[..., Ended]) -> None:
    assert message in refused(call, "table", *arguments.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("list modles", "bench list: no such name 'modles'; did you mean models"),
        ("list --profile tinny", "did you mean tiny"),
        ("info attack pgd", "bench info: no such name 'attack'; did you mean attacks"),
        ("info attacks pdg", "attacks: no such name 'pdg'; did you mean pgd"),
        ("info attacks pgd --set attacks.pgd.stepz=1", "did you mean steps"),
    ],
)
def test_a_mistake_of_list_and_info_is_one_line(arguments: str, message: str, call: Callable[..., Ended]) -> None:
    assert message in refused(call, *arguments.split())


@pytest.mark.slow  # both build the model first, with torch
@pytest.mark.parametrize("place", ["/proc/none/artifacts", "file/artifacts"])
def test_artifacts_that_cannot_be_written_are_refused(place: str, call: Callable[..., Ended]) -> None:
    Path("file").write_text("no folder")
    assert f"--artifacts {place}: cannot be written" in refused(call, *ONE_CELL, "--artifacts", place)


@pytest.mark.slow
def test_weights_that_do_not_fit_are_refused_before_anything_is_made(call: Callable[..., Ended]) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"cls_token": torch.zeros(1, 1, 5)}, "wrong.safetensors")
    Path("cut.safetensors").write_bytes(Path("wrong.safetensors").read_bytes()[:-7])
    for name, message in (("cut", "not a whole safetensors file"), ("wrong", "wrong.safetensors")):
        for model in ("vit_ft", "resnet_original"):
            setting = f"models.{model}.weights={name}.safetensors"
            assert message in refused(call, "run", "--models", model, "--set", setting)


@pytest.mark.parametrize("arguments", ["run --bogus", "bogus", "info", "table --rows x"])
def test_what_the_parser_refuses_has_exit_code_2(arguments: str, call: Callable[..., Ended]) -> None:
    ended = call(*arguments.split())
    assert ended.code == 2
    assert "Traceback" not in ended.err
    assert ended.out == ""


def test_the_process_ends_with_the_code_of_the_mistake(bench_process: Process) -> None:
    ended = bench_process("run", "--models", "vit_tf")
    assert (ended.returncode, ended.stdout, len(ended.stderr.splitlines())) == (2, "", 1)


def test_a_mistake_an_interruption_and_a_bug_end_each_in_their_own_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ends(error: BaseException) -> BaseException:
        def fail() -> None:
            raise error

        monkeypatch.setattr(cli, "app", fail)
        with pytest.raises(type(error) if isinstance(error, ValueError) else SystemExit) as end:
            cli.main()
        return end.value

    for error, code in ((BenchError("no"), 2), (KeyboardInterrupt(), 130)):
        end = ends(error)
        assert isinstance(end, SystemExit)
        assert end.code == code
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert str(ends(ValueError("a bug"))) == "a bug"


# --- a dry run


def test_a_dry_run_shows_24_cells_with_keys_and_creates_nothing(call: Callable[..., Ended]) -> None:
    ended = call("run", "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    first, *lines = ended.out.splitlines()
    assert first.startswith("bench run: profile tiny | data digits + digits_source + digits_target (scikit-learn")
    assert "| 24 cells, 24 to do | about" in first
    cells = [line for line in lines if " / " in line.partition("  ")[0]]
    keys = {
        next(word for word in line.split() if len(word) == 12 and not set(word) - set("0123456789abcdef"))
        for line in cells
    }
    assert len(cells) == len(keys) == 24
    assert all("to do" in line for line in cells)
    assert on_disk() == {}


def test_a_dry_run_as_json_is_one_object(call: Callable[..., Ended]) -> None:
    ended = call("run", "--dry-run", "--json", "--eps", "8/255")
    assert ended.code == 0
    (line,) = ended.out.splitlines()
    told = json.loads(line)
    assert len({cell["key"] for cell in told["cells"]}) == len(told["cells"]) == 24
    assert {cell["eps"] for cell in told["cells"] if cell["attack"] != "clean"} == {8 / 255}
    assert not any(cell["cached"] for cell in told["cells"])
    assert told["seconds"] == pytest.approx(sum(item["seconds"] for item in (*told["steps"], *told["cells"])))
    assert on_disk() == {}


def test_quiet_says_nothing(call: Callable[..., Ended]) -> None:
    assert call("run", "--dry-run", "--quiet") == Ended(0, "", "")


def test_a_clash_of_names_is_noted(call: Callable[..., Ended], plugin_distribution: Callable[..., Path]) -> None:
    plugin_distribution("stranger", "", attacks={"pgd": "Odd"})
    ended = call("run", "--dry-run")
    assert ended.err == "bench: note: attacks: 'pgd' is that of adversarial-bench, not of stranger\n"
    assert ended.code == 0


# --- the other commands


@pytest.mark.usefixtures("small_store")
def test_a_table_is_printed(call: Callable[..., Ended]) -> None:
    before = on_disk()
    ended = call("table")
    assert (ended.code, ended.err) == (0, "")
    assert "resnet_original" in ended.out
    assert "75.0" in ended.out
    (row,) = json.loads(call("table", "--format", "json").out)
    assert (row["value"], row["attack"], row["run"]) == (0.75, "clean", "run1")
    assert "67.1" in call("table", "--reference", "report").out
    assert call("table", "--metric", "accuracy", "--profile", "tiny").out == ended.out
    assert on_disk() == before


@pytest.fixture
def pair_of_cells(workplace: Path) -> Path:
    """``results.db`` in the workplace: two cells on the same four samples."""
    with open_store(str(workplace / "results.db")) as store:
        fill = Filler(store)
        fill.cell(0xAAAAAA, [True, True, True, False], "left")
        fill.cell(0xBBBBBB, [True, False, False, False], "right")
    return workplace / "results.db"


@pytest.mark.usefixtures("pair_of_cells")
def test_two_cells_are_compared(call: Callable[..., Ended]) -> None:
    before = on_disk()
    ended = call("compare", "left/none/pgd:8/255", "bbbbbb")
    assert (ended.code, ended.err) == (0, "")
    assert "A - B = +50.0 points" in ended.out
    told = json.loads(call("compare", "aaaaaa", "bbbbbb", "--format", "json", "--profile", "tiny").out)
    assert (told["a_only"], told["b_only"], told["n"], told["p_value"]) == (2, 0, 4, 0.5)
    assert on_disk() == before


@pytest.mark.usefixtures("pair_of_cells")
def test_a_cell_is_shown(call: Callable[..., Ended]) -> None:
    before = on_disk()
    ended = call("show", "left/none/pgd", "--seed", "0")
    assert (ended.code, ended.err) == (0, "")
    assert "accuracy  75.0 %" in ended.out
    assert json.loads(call("show", "aaaaaa", "--json").out)["scores"][0]["value"] == 0.75
    assert on_disk() == before


@pytest.mark.usefixtures("pair_of_cells")
def test_a_table_beside_a_base_model(call: Callable[..., Ended]) -> None:
    (line,) = [line for line in call("table", "--against", "left").out.splitlines() if line.startswith("  vs base ")]
    assert line.split() == ["vs", "base", "-50.0"]
    told = json.loads(call("table", "--against", "left", "--format", "json").out)
    assert [(item["against_difference"], item["against_p"]) for item in told] == [(None, None), (-0.5, 0.5)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("compare aaaaaa left/none/pdg", "attack: no such name 'pdg'; did you mean pgd"),
        ("compare aaaaaa bbbbbb --format jsno", "format: no such name 'jsno'; did you mean json"),
        ("compare aaaaaa cccccc", "no cell has a key that begins so"),
        ("show lfet/none/pgd", "model: no such name 'lfet'; did you mean left"),
        ("show aaaaaa --seed 3", "stored: profile tiny, seed 0"),
        ("table --against lfet", "--against: no such name 'lfet'; did you mean left"),
        ("table --against left --metric accuracy --profile tinny", "did you mean tiny"),
    ],
)
@pytest.mark.usefixtures("pair_of_cells")
def test_a_mistake_of_compare_show_and_against_is_one_line(
    arguments: str, message: str, call: Callable[..., Ended]
) -> None:
    assert message in refused(call, *arguments.split())


@pytest.mark.parametrize("command", ["compare aaaaaa bbbbbb", "show aaaaaa", "table --against left"])
def test_without_results_there_is_nothing_to_compare(command: str, call: Callable[..., Ended]) -> None:
    assert refused(call, *command.split()) == "no results yet at results.db; run `bench run` first"


def test_list_and_info(call: Callable[..., Ended]) -> None:
    assert "resnet_noisy" in call("list").out
    assert call("list", "attacks").out.splitlines()[0] == "attacks"
    ended = call("info", "attacks", "pgd", "--set", "attacks.pgd.steps=33")
    assert (ended.code, ended.err) == (0, "")
    assert "33" in ended.out
    assert on_disk() == {}


def test_help_names_every_command(call: Callable[..., Ended]) -> None:
    ended = call("--help")
    assert ended.code == 0
    assert {"run", "table", "compare", "show", "list", "info"} <= {
        line.split()[0] for line in ended.out.splitlines() if line.strip()
    }
