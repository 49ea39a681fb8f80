"""Files of weights: whole, checked, in one move, or not there."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from networks import small

from harness.artifacts import Artifacts, read_checkpoint, read_tensors, state_of, write_checkpoint
from harness.errors import BenchError

TENSORS = {
    "weight": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
    "count": torch.tensor(7),
    "flags": torch.tensor([True, False]),
    "empty": torch.zeros(0, 2),
}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        t.dtype == other[name].dtype and torch.equal(t, other[name]) for name, t in one.items()
    )


def test_a_step_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path / "a" / "b")
    assert not artifacts.has("fit", "k")
    assert artifacts.load("fit", "k") is None
    artifacts.save("fit", "k", TENSORS, {"history": [{"loss": 0.1}]})
    assert artifacts.has("fit", "k")
    found = artifacts.load("fit", "k")
    assert found
    assert same(found[0], TENSORS)
    assert found[1]["history"] == [{"loss": 0.1}]
    assert artifacts.load("harden", "k") is None
    assert artifacts.load("fit", "other") is None


def test_views_and_shared_tensors_are_saved_as_what_they_show(tmp_path: Path) -> None:
    whole = torch.arange(12.0).view(3, 4)
    artifacts = Artifacts(tmp_path)
    artifacts.save("fit", "k", {"turned": whole.T, "row": whole[1], "again": whole}, {})
    found = artifacts.load("fit", "k")
    assert found
    assert same(found[0], {"turned": whole.T, "row": whole[1], "again": whole})


def test_what_is_loaded_outlives_its_file(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path)
    artifacts.save("fit", "k", TENSORS, {})
    found = artifacts.load("fit", "k")
    artifacts.save("fit", "k", {name: t.clone().fill_(1) for name, t in TENSORS.items()}, {})
    assert found
    assert same(found[0], TENSORS)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("weights.safetensors", flip),
        ("weights.safetensors", lambda p: p.write_bytes(p.read_bytes()[:-5])),
        ("weights.safetensors", lambda p: p.write_bytes(b"")),
        ("weights.safetensors", lambda p: p.unlink()),
        ("step.json", lambda p: p.write_text(p.read_text()[:-4])),
        ("step.json", lambda p: p.write_text("{}")),
        ("step.json", lambda p: p.write_text("null")),
        ("step.json", lambda p: p.write_bytes(b"\xff\xfe")),
        ("step.json", lambda p: p.unlink()),
    ],
)
def test_a_damaged_step_is_no_step_and_can_be_saved_again(
    tmp_path: Path, file: str, damage: Callable[[Path], object]
) -> None:
    artifacts = Artifacts(tmp_path)
    artifacts.save("fit", "k", TENSORS, {})
    damage(artifacts.folder("fit", "k") / file)
    assert artifacts.load("fit", "k") is None
    artifacts.save("fit", "k", TENSORS, {})
    assert artifacts.load("fit", "k") is not None


def test_a_step_that_cannot_be_written_whole_leaves_the_old_one(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path)
    artifacts.save("fit", "k", TENSORS, {"number": 1})
    with pytest.raises(ValueError, match="JSON"):
        artifacts.save("fit", "k", {"weight": torch.zeros(1)}, {"number": float("nan")})
    found = artifacts.load("fit", "k")
    assert found
    assert same(found[0], TENSORS)
    with pytest.raises(ValueError, match="JSON"):
        artifacts.save("fit", "new", TENSORS, {"number": float("nan")})
    assert not artifacts.has("fit", "new")


def test_what_a_killed_process_left_is_no_step_and_in_nobodys_way(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path)
    left = artifacts.folder("fit", f"k.tmp-{os.getpid()}")
    left.mkdir(parents=True)
    (left / "weights.safetensors").write_bytes(b"half")
    assert artifacts.load("fit", "k") is None
    artifacts.save("fit", "k", TENSORS, {})
    assert not left.exists()
    assert sorted(p.name for p in artifacts.folder("fit", "k").iterdir()) == ["step.json", "weights.safetensors"]


def test_nothing_is_pickled(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path)
    artifacts.save("fit", "k", TENSORS, {"a": 1})
    assert same(read_tensors(artifacts.folder("fit", "k") / "weights.safetensors")[0], TENSORS)
    assert json.loads((artifacts.folder("fit", "k") / "step.json").read_text())["a"] == 1


def test_forgetting_removes_step_and_checkpoint(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path)
    artifacts.save("fit", "k", TENSORS, {})
    write_checkpoint(artifacts.checkpoint("k"), TENSORS, {})
    artifacts.forget("fit", "k")
    assert not artifacts.has("fit", "k")
    assert not artifacts.checkpoint("k").exists()
    artifacts.forget("fit", "k")  # again, and nothing is there


@pytest.mark.parametrize("root", ["file", "file/below"])
def test_a_folder_that_cannot_be_written_is_the_users_to_mend(tmp_path: Path, root: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match=r"--artifacts .*cannot be written .*name another folder"):
        Artifacts(tmp_path / root)


def test_looking_for_a_place_to_write_leaves_nothing(tmp_path: Path) -> None:
    Artifacts(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_step_is_made_by_one_process_at_a_time(tmp_path: Path) -> None:
    from filelock import FileLock, Timeout

    artifacts = Artifacts(tmp_path)
    with artifacts.alone("k"):
        with pytest.raises(Timeout):
            FileLock(tmp_path / "locks" / "k", timeout=0.05).acquire()
        with artifacts.alone("other"):
            pass
    with FileLock(tmp_path / "locks" / "k", timeout=0.05):
        pass


# --- checkpoints ---


def test_a_checkpoint_comes_back_with_its_facts_to_the_last_digit(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "c.safetensors"
    facts = {"lr": 0.1 + 0.2, "best": float("-inf"), "list": [1, None, "x"]}
    write_checkpoint(path, TENSORS, facts)
    found = read_checkpoint(path)
    assert found
    assert same(found[0], TENSORS)
    assert found[1] == facts
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_a_checkpoint_that_cannot_be_read_is_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "c.safetensors"
    assert read_checkpoint(path) is None
    write_checkpoint(path, TENSORS, {})
    path.write_bytes(path.read_bytes()[:-5] if content is None else content)
    assert read_checkpoint(path) is None


def test_safetensors_of_somebody_else_are_no_checkpoint(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "c.safetensors")
    assert read_checkpoint(tmp_path / "c.safetensors") is None


def test_a_truncated_file_of_weights_is_named(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_checkpoint(path, TENSORS, {})
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(BenchError, match=re.escape(f"weights {path}: not a whole safetensors file")):
        read_tensors(path)


def test_a_modules_state_is_a_copy() -> None:
    module = small()
    state = state_of(module)
    with torch.no_grad():
        module.head.weight.add_(1)
    assert not torch.equal(state["head.weight"], module.head.weight)
    assert {"features.1.running_mean", "features.1.num_batches_tracked"} <= state.keys()
