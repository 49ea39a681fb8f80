"""Weights from elsewhere: everything but the head, or a reason with the tensor's name."""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import batch_of, images, small
from safetensors.torch import save_file
from torch import nn

from harness.boundary import bind
from harness.errors import BenchError
from harness.types import Facts, Preparation
from harness.weights import read, transfer
from plugins.models.resnet18 import ResNet18
from plugins.models.timm import Timm

torch.set_num_threads(1)


def preparation(classes: int, shape: tuple[int, int, int] = (3, 8, 8)) -> Preparation:
    names = tuple(map(str, range(classes)))
    facts = Facts(shape, names, {"train": 1, "validation": 1, "test": 1}, "", "", "")
    return Preparation(facts, (0.4,) * shape[0], (0.2,) * shape[0])


def build(model: object, classes: int, shape: tuple[int, int, int] = (3, 8, 8), seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    module: torch.nn.Module = bind("models", model).build(preparation=preparation(classes, shape))
    return module.eval()


def test_everything_but_the_head_is_kept_for_another_number_of_classes() -> None:
    source, target = small(seed=1, classes=5).state_dict(), small(seed=2, classes=3)
    own = {name: t.clone() for name, t in target.state_dict().items()}
    assert transfer(target, source, 3, "start a") == ["head.weight", "head.bias"]
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, own[name] if name.startswith("head") else source[name]), name


def test_with_as_many_classes_the_head_comes_too() -> None:
    source, target = small(seed=1).state_dict(), small(seed=2)
    assert transfer(target, source, 5, "start a") == []
    assert all(torch.equal(tensor, source[name]) for name, tensor in target.state_dict().items())


def test_another_width_is_refused_with_the_tensors_name_and_nothing_is_changed() -> None:
    source, target = small(seed=1, channels=1).state_dict(), small(seed=2)
    before = target.features[0].weight.detach().clone()
    reason = r"start a: features\.0\.weight needs shape \(8, 3, 3, 3\), got \(8, 1, 3, 3\); the same architecture"
    with pytest.raises(BenchError, match=reason):
        transfer(target, source, 5, "start a")
    assert torch.equal(target.features[0].weight, before)


@pytest.mark.parametrize("missing", ["features.0.weight", "features.1.num_batches_tracked", "head.bias"])
def test_a_missing_tensor_is_refused_with_its_name(missing: str) -> None:
    source = {name: t for name, t in small().state_dict().items() if name != missing}
    with pytest.raises(BenchError, match=f"{missing} needs shape .*got nothing"):
        transfer(small(), source, 5, "start a")


def test_a_tensor_left_over_is_refused_with_its_name() -> None:
    source = {**small().state_dict(), "features.10.weight": torch.zeros(3)}
    with pytest.raises(BenchError, match=r"has features\.10\.weight, which is not here; the same architecture"):
        transfer(small(), source, 5, "start a")


BESIDE = {"epoch": 3, "acc": np.float64(94.1), "args": argparse.Namespace(lr=0.1), "optimizer_state_dict": {}}


@pytest.mark.parametrize("inside", [None, "state_dict", "model", "model_state_dict", "net", "generator"])
@pytest.mark.parametrize("name", ["saved.pt", "last.ckpt", "best.pth.tar", "weights"])
def test_a_state_dict_written_by_torch_is_read_from_where_training_scripts_put_it(
    inside: str | None, name: str, tmp_path: Path
) -> None:
    own = small(seed=1).state_dict()
    torch.save({inside: own, **BESIDE} if inside else own, tmp_path / name)
    found = read(str(tmp_path / name))
    assert found.keys() == own.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in own.items())


def test_what_a_file_is_its_bytes_tell_and_not_its_name(tmp_path: Path) -> None:
    save_file(small(seed=1).state_dict(), tmp_path / "a.pt")
    assert read(str(tmp_path / "a.pt")).keys() == small().state_dict().keys()


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module.model."])
def test_names_that_a_wrapper_put_something_before_are_found(prefix: str) -> None:
    own = small(seed=1).state_dict()
    module = small()
    assert transfer(module, {f"{prefix}{name}": tensor for name, tensor in own.items()}, 5, "start a") == []
    assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in own.items())


def test_a_network_that_calls_its_part_module_keeps_its_names() -> None:
    inner = nn.Sequential()
    inner.add_module("module", small(seed=1))
    assert transfer(copy.deepcopy(inner), inner.state_dict(), 5, "start a") == []


def test_a_checkpoint_of_several_networks_is_refused_naming_them(tmp_path: Path) -> None:
    torch.save({"generator": small().state_dict(), "critic": small().state_dict()}, tmp_path / "gan.pt")
    with pytest.raises(BenchError, match=r"gan\.pt: no state_dict; it holds generator, critic; save"):
        read(str(tmp_path / "gan.pt"))


@pytest.mark.parametrize("content", [b"hello" * 100, b""])
def test_what_torch_did_not_write_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(BenchError, match=r"a\.pt: damaged, or more in it than tensors"):
        read(str(tmp_path / "a.pt"))


def test_a_class_in_a_file_is_named(tmp_path: Path) -> None:
    torch.save(small(), tmp_path / "whole.pt")
    with pytest.raises(BenchError, match=r"whole\.pt: more in it than tensors: \S+\.Small, and code"):
        read(str(tmp_path / "whole.pt"))


class Trap:
    """What runs code where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("sprung"),)


@pytest.mark.parametrize("content", [Trap(), small(), {"epoch": 3}, [torch.zeros(2)]], ids=lambda c: type(c).__name__)
def test_a_file_with_more_than_tensors_is_refused_and_not_run(
    content: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, "trap.pth")
    with pytest.raises(BenchError, match=r"weights trap\.pth: .*as a safetensors file"):
        read("trap.pth")
    assert not Path("sprung").exists()


def test_a_missing_file_and_a_truncated_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"weights .*none\.safetensors: no such file"):
        read(str(tmp_path / "none.safetensors"))
    file = tmp_path / "short.safetensors"
    save_file(small().state_dict(), file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BenchError, match=r"weights .*short\.safetensors: not a whole safetensors file"):
        read(str(file))
    saved = tmp_path / "short.pt"
    torch.save(small().state_dict(), saved)
    saved.write_bytes(saved.read_bytes()[:-100])
    with pytest.raises(BenchError, match=r"weights .*short\.pt: damaged"):
        read(str(saved))


def test_the_resnet_starts_from_a_file_of_its_own(tmp_path: Path) -> None:
    source = build(ResNet18(width=1 / 16), 5, seed=1)
    file = tmp_path / "resnet.safetensors"
    save_file(source.state_dict(), file)
    again = build(ResNet18(width=1 / 16, weights=str(file)), 5, seed=2)
    x = batch_of(images(4)).x
    assert torch.equal(source(x), again(x))
    fewer = build(ResNet18(width=1 / 16, weights=str(file)), 3, seed=2)
    assert fewer(x).shape == (4, 3)
    assert torch.equal(fewer.state_dict()["network.0.weight"], source.state_dict()["network.0.weight"])
    with pytest.raises(BenchError, match=r"network\.0\.weight needs shape"):
        build(ResNet18(width=1 / 8, weights=str(file)), 5)


VIT = {"architecture": "vit_tiny_patch16_224", "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}


def vit_file(tmp_path: Path, classes: int) -> Path:
    """A small vision transformer for 16 x 16 pixels, saved under timm's own names."""
    module = build(Timm(image_size=16, **VIT), classes, seed=1)  # type: ignore[arg-type]
    file = tmp_path / f"vit{classes}.safetensors"
    save_file(module.network.state_dict(), file)  # type: ignore[union-attr]
    return file


def test_a_timm_model_takes_a_file_made_at_another_size_for_other_classes(tmp_path: Path) -> None:
    file = vit_file(tmp_path, 7)
    saved = read(str(file))
    module = build(Timm(image_size=24, weights=str(file), **VIT), 5, seed=2)  # type: ignore[arg-type]
    found = module.network.state_dict()  # type: ignore[union-attr]
    assert module(batch_of(images(3)).x).shape == (3, 5)
    assert found["pos_embed"].shape == (1, 6 * 6 + 1, 16)  # stretched from 4 x 4 patches
    for name, tensor in saved.items():
        if name != "pos_embed" and not name.startswith("head."):
            assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("classes", [7, 1000])
def test_a_timm_model_keeps_the_head_of_a_file_with_as_many_classes(tmp_path: Path, classes: int) -> None:
    file = vit_file(tmp_path, classes)
    module = build(Timm(image_size=16, weights=str(file), **VIT), classes, seed=2)  # type: ignore[arg-type]
    found, saved = module.network.state_dict(), read(str(file))  # type: ignore[union-attr]
    assert all(torch.equal(found[name], saved[name]) for name in found)


def test_a_timm_model_normalises_as_its_weights_were_trained(tmp_path: Path) -> None:
    file = vit_file(tmp_path, 7)
    own = build(Timm(image_size=16, weights=str(file), **VIT), 5)  # type: ignore[arg-type]
    scratch = build(Timm(image_size=16, **VIT), 5)  # type: ignore[arg-type]
    assert own.mean.flatten().tolist() == [0.5] * 3  # timm's figures of this architecture
    assert scratch.mean.flatten().tolist() == pytest.approx([0.4] * 3)


def test_weights_made_for_colour_see_grey_images_three_times_and_nothing_else(tmp_path: Path) -> None:
    model = Timm(image_size=16, weights=str(vit_file(tmp_path, 7)), **VIT)  # type: ignore[arg-type]
    grey = batch_of(images(3, shape=(1, 8, 8))).x
    assert torch.equal(build(model, 7, shape=(1, 8, 8))(grey), build(model, 7)(grey.expand(-1, 3, -1, -1)))
    with pytest.raises(BenchError, match="3 channels, the data has 4"):
        build(model, 5, shape=(4, 8, 8))


def test_a_timm_model_refuses_weights_of_another_shape_naming_the_tensor(tmp_path: Path) -> None:
    file = vit_file(tmp_path, 7)
    with pytest.raises(BenchError, match=r"weights .*vit7\.safetensors do not fit: .*cls_token"):
        build(Timm(image_size=16, weights=str(file), **{**VIT, "embed_dim": 32}), 5)  # type: ignore[arg-type]
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BenchError, match="not a whole safetensors file"):
        build(Timm(image_size=16, weights=str(file), **VIT), 5)  # type: ignore[arg-type]


@pytest.mark.parametrize("classes", [5, 7])
def test_a_timm_model_refuses_weights_with_a_tensor_missing(tmp_path: Path, classes: int) -> None:
    file = vit_file(tmp_path, 7)
    tensors = read(str(file))
    del tensors["blocks.1.attn.qkv.weight"]
    save_file(tensors, file)
    with pytest.raises(BenchError, match=r"vit7\.safetensors do not fit: .*blocks\.1\.attn\.qkv\.weight"):
        build(Timm(image_size=16, weights=str(file), **VIT), classes)  # type: ignore[arg-type]


@pytest.mark.parametrize("classes", [5, 7])
def test_a_timm_model_takes_what_a_wrapper_saved_and_refuses_what_is_left_over(
    classes: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tensors = read(str(vit_file(tmp_path, 7)))
    torch.save({"state_dict": {f"model.{name}": tensor for name, tensor in tensors.items()}}, tmp_path / "lit.ckpt")
    model = Timm(image_size=16, weights=str(tmp_path / "lit.ckpt"), **VIT)  # type: ignore[arg-type]
    found = build(model, classes).network.state_dict()  # type: ignore[union-attr]
    assert torch.equal(found["blocks.1.attn.qkv.weight"], tensors["blocks.1.attn.qkv.weight"])
    save_file(
        {**tensors, "blocks.2.attn.qkv.weight": tensors["blocks.1.attn.qkv.weight"] + 1}, tmp_path / "deep.safetensors"
    )
    with pytest.raises(BenchError, match=r"deep\.safetensors do not fit: .*blocks\.2\.attn\.qkv\.weight"):
        build(Timm(image_size=16, weights=str(tmp_path / "deep.safetensors"), **VIT), classes)  # type: ignore[arg-type]
    assert not caplog.records


@pytest.mark.slow
def test_a_timm_model_takes_the_published_weights_of_efficientnet(shared_data: Path) -> None:
    file = shared_data / "weights" / "tf_efficientnet_lite0_imagenet1k.safetensors"
    if not file.is_file():
        pytest.skip(f"no real data: {file.name} is not in the shared data")
    model = Timm(architecture="tf_efficientnet_lite0", weights=str(file), image_size=64)
    module, saved = build(model, 10), read(str(file))
    found = module.network.state_dict()  # type: ignore[union-attr]
    assert module(batch_of(images(2)).x).shape == (2, 10)
    assert found["classifier.weight"].shape[0] == 10
    for name, tensor in saved.items():
        if not name.startswith("classifier."):
            assert torch.equal(found[name], tensor.to(found[name].dtype)), name
    whole = build(model, 1000).network.state_dict()  # type: ignore[union-attr]
    assert torch.equal(whole["classifier.weight"], saved["classifier.weight"].float())
