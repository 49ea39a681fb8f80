"""torchvision's classifiers: the library's own preprocessing and networks as oracles, its files, what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from attacked import check_budget, run
from networks import batch_of, images
from photographs import SHAPES, differences, piece, pixels, shown
from safetensors.torch import load_file, save_file
from test_models import build
from torch import nn
from torchvision import models

from harness.boundary import bind
from harness.errors import BenchError
from harness.folding import folded
from harness.types import Threat
from harness.weights import transfer
from plugins.attacks.pgd import PGD
from plugins.models.torchvision import Torchvision, _at_size
from plugins.networks import fitted

torch.set_num_threads(1)

SMALL = "shufflenet_v2_x0_5"
COLOUR = (3, 32, 32)


def published(folder: Path, architecture: str, *, classes: int = 1000, seed: int = 1, **given: Any) -> Path:
    """A file as torchvision publishes them, of a network with random weights and its statistics set apart from them."""
    torch.manual_seed(seed)
    network = models.get_model(architecture, weights=None, num_classes=classes, **given)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            part.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    file = folder / f"{architecture}.safetensors"
    save_file(network.state_dict(), file)
    return file


# --- networks


@pytest.mark.parametrize("architecture", [SMALL, "mobilenet_v3_small", "mnasnet0_5"])
def test_pixels_in_logits_out_and_a_gradient_back(architecture: str) -> None:
    module = build(Torchvision(architecture=architecture), 5, COLOUR)
    x = batch_of(images(3, shape=COLOUR)).x.requires_grad_()
    logits = module(x)
    assert logits.shape == (3, 5)
    assert logits.std() > 0
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), x)
    assert (gradient != 0).float().mean() > 0.9


def test_it_is_built_in_evaluation_mode_where_one_image_is_enough() -> None:
    module = build(Torchvision(architecture=SMALL), 5, COLOUR)
    assert not any(part.training for part in module.modules())
    x = batch_of(images(3, shape=COLOUR)).x
    assert torch.allclose(module(x[:1]), module(x)[:1], atol=1e-5)


def test_a_seed_decides_the_weights() -> None:
    one, again, other = (build(Torchvision(architecture=SMALL), seed=s).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_dropout_is_that_of_every_layer() -> None:
    module = build(Torchvision(architecture="squeezenet1_1", drop_rate=0.25), 5, COLOUR)
    assert {part.p for part in module.modules() if isinstance(part, nn.Dropout)} == {0.25}
    with pytest.raises(BenchError, match=r"shufflenet_v2_x0_5: has no dropout layer"):
        build(Torchvision(architecture=SMALL, drop_rate=0.25), 5, COLOUR)


def test_grey_images_are_seen_three_times(tmp_path: Path) -> None:
    grey = batch_of(images(2, shape=(1, 32, 32))).x
    for weights in ("", str(published(tmp_path, SMALL, classes=5))):
        model = Torchvision(architecture=SMALL, weights=weights)
        assert torch.equal(build(model, 5, (1, 32, 32))(grey), build(model, 5, COLOUR)(grey.expand(-1, 3, -1, -1)))
    with pytest.raises(BenchError, match="take three channels, the data has 4"):
        build(Torchvision(architecture=SMALL), 5, (4, 32, 32))


def test_batch_norms_are_folded() -> None:
    module = build(Torchvision(architecture=SMALL), 5, COLOUR)
    assert folded(module, batch_of(images(2, shape=COLOUR)).x) is not None


def test_mnasnet_takes_its_own_tensors_back_without_a_version() -> None:
    one, other = (build(Torchvision(architecture="mnasnet0_5"), 5, COLOUR, seed=seed) for seed in (1, 2))
    other.load_state_dict(dict(one.state_dict()))
    x = batch_of(images(2, shape=COLOUR)).x
    assert torch.equal(one(x), other(x))


# --- preprocessing


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("architecture", "entry"),
    [
        (SMALL, "IMAGENET1K_V1"),  # 256 -> 224, bilinear
        pytest.param("regnet_x_400mf", "IMAGENET1K_V2", marks=pytest.mark.slow),  # 232 -> 224, bilinear
        pytest.param("efficientnet_b0", "IMAGENET1K_V1", marks=pytest.mark.slow),  # 256 -> 224, bicubic
    ],
)
def test_images_are_prepared_as_torchvision_prepares_them(
    architecture: str, entry: str, shape: tuple[int, int], tmp_path: Path
) -> None:
    """Against the weights' own transforms on a PIL image, which rounds to 8 bits after each of two passes."""
    file = published(tmp_path, architecture, classes=5)
    module = build(Torchvision(architecture=architecture, pretrained=entry, weights=str(file)), 5, (3, *shape))
    image = piece(shape)
    theirs = models.get_model_weights(architecture)[entry].transforms()(image)[None]
    largest, mean = differences(module, shown(module, pixels(image)), theirs)
    assert largest < 2.0
    assert mean < 0.35
    # Of the photograph as it is bicubic resizing is cut in other places: where it passes black and white.
    theirs = models.get_model_weights(architecture)[entry].transforms()(piece(shape, 1.0))[None]
    ours = shown(module, pixels(piece(shape, 1.0)))
    assert ((ours - theirs).abs() * module.std * 255 > 2.0).float().mean() < 0.002  # type: ignore[operator]


@pytest.mark.slow
def test_images_of_the_networks_size_are_left_as_they_are_and_the_whole_is_stretched(tmp_path: Path) -> None:
    file = str(published(tmp_path, SMALL, classes=5))
    image = pixels(piece((224, 224)))
    for preprocessing in ("own", "whole"):
        module: Any = build(
            Torchvision(architecture=SMALL, weights=file, preprocessing=preprocessing), 5, (3, 224, 224)
        )
        assert torch.equal(shown(module, image), (image - module.mean) / module.std)
    x = torch.zeros(1, 3, 96, 128)
    x[..., :4] = 1.0  # at the very edge, which a crop loses
    for preprocessing, kept in (("own", False), ("whole", True)):
        module = build(Torchvision(architecture=SMALL, weights=file, preprocessing=preprocessing), 5, (3, 96, 128))
        seen = shown(module, x) * module.std + module.mean
        assert seen.shape[-2:] == (224, 224)
        assert bool(seen[..., 0].min() > 0.9) is kept


def test_another_image_size_keeps_the_part_that_is_cropped(tmp_path: Path) -> None:
    file = str(published(tmp_path, SMALL, classes=5))
    module: Any = build(Torchvision(architecture=SMALL, weights=file, image_size=112), 5, (3, 64, 64))
    assert (module.size, module.crop.resize) == ((112, 112), 128)


def test_white_stays_white_and_keeps_its_gradient_through_bicubic_resizing(tmp_path: Path) -> None:
    file = str(published(tmp_path, "efficientnet_b0", classes=5))
    module: Any = build(Torchvision(architecture="efficientnet_b0", weights=file, image_size=64), 5, COLOUR)
    for value in (0.0, 1.0):
        x = torch.full((1, *COLOUR), value, requires_grad=True)
        seen = fitted(x, module.size, module.crop)
        assert torch.allclose(seen, torch.full_like(seen, value), atol=1e-6)
        (gradient,) = torch.autograd.grad(seen.sum(), x)
        assert (gradient[..., 4:-4, 4:-4] > 0).all()


# --- weights


@pytest.mark.parametrize("classes", [5, 7])
def test_a_network_computes_what_torchvisions_computes_with_the_same_file(classes: int, tmp_path: Path) -> None:
    file = published(tmp_path, SMALL, classes=7)
    module: Any = build(Torchvision(architecture=SMALL, weights=str(file)), classes, COLOUR)
    theirs = models.get_model(SMALL, weights=None, num_classes=7).eval()
    theirs.load_state_dict(load_file(file))
    image = pixels(piece((224, 224)))
    if classes == 7:
        assert torch.allclose(module(image), theirs((image - module.mean) / module.std), atol=1e-5)
    own = module.network.state_dict()
    differing = {name for name, tensor in theirs.state_dict().items() if not torch.equal(own[name], tensor)}
    assert differing == (set() if classes == 7 else {"fc.weight", "fc.bias"})


def test_a_file_of_another_architecture_is_refused_with_a_tensors_name(tmp_path: Path) -> None:
    file = published(tmp_path, SMALL)
    with pytest.raises(BenchError, match=r"mnasnet0_5: weights .* do not fit: layers\.0\.weight needs shape"):
        build(Torchvision(architecture="mnasnet0_5", weights=str(file)), 5, COLOUR)
    # All that a shallower network of the kind needs is in the file of a deeper one.
    deeper = published(tmp_path, "mnasnet0_5", classes=5)
    save_file({**load_file(deeper), "layers.18.weight": torch.zeros(3)}, deeper)
    with pytest.raises(
        BenchError, match=r"mnasnet0_5: weights .* do not fit: has layers\.18\.weight, which is not here"
    ):
        build(Torchvision(architecture="mnasnet0_5", weights=str(deeper)), 5, COLOUR)


def test_files_of_before_2018_lack_a_counter(tmp_path: Path) -> None:
    tensors = load_file(published(tmp_path, SMALL, classes=5))
    old = {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pth")
    module: Any = build(Torchvision(architecture=SMALL, weights=str(tmp_path / "old.pth")), 5, COLOUR)
    assert all(torch.equal(tensor, module.network.state_dict()[name]) for name, tensor in old.items())


@pytest.mark.slow
def test_a_densenets_file_with_the_names_of_its_time_fits(tmp_path: Path) -> None:
    import re

    tensors = load_file(published(tmp_path, "densenet121", classes=5))
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d\.)", r"\1.\2", name): t for name, t in tensors.items()}
    assert old.keys() != tensors.keys()
    torch.save(old, tmp_path / "old.pth")
    module: Any = build(Torchvision(architecture="densenet121", weights=str(tmp_path / "old.pth")), 5, COLOUR)
    assert all(torch.equal(tensor, module.network.state_dict()[name]) for name, tensor in tensors.items())


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "size"), [("googlenet", 64), ("inception_v3", 80)])
def test_auxiliary_classifiers_are_left_out_and_the_input_is_what_the_weights_know(
    architecture: str, size: int, tmp_path: Path
) -> None:
    given = {"aux_logits": True, "init_weights": False}
    file = published(tmp_path, architecture, classes=7, **given)
    module: Any = build(Torchvision(architecture=architecture, weights=str(file), image_size=size), 7, COLOUR)
    theirs = models.get_model(architecture, weights=None, num_classes=7, transform_input=True, **given)
    theirs.load_state_dict(load_file(file))
    x = torch.rand(2, 3, size, size)
    assert torch.allclose(module(x), theirs.eval()((x - module.mean) / module.std), atol=1e-4)
    # In training theirs answers with a tuple, and ours with logits still.
    assert module.train()(x).shape == (2, 7)
    assert not any("aux" in name.lower() for name in module.state_dict())
    scratch: Any = build(Torchvision(architecture=architecture, image_size=size), 7, COLOUR)
    assert not scratch.network.transform_input


def test_a_vision_transformers_position_embeddings_are_interpolated() -> None:
    def vit(size: int) -> Any:
        return models.VisionTransformer(size, 8, 1, 2, 16, 32, num_classes=5)

    torch.manual_seed(0)
    source, target = vit(32), vit(64)
    nn.init.normal_(source.encoder.pos_embedding)
    place = "encoder.pos_embedding"
    tensors = _at_size(target, dict(source.state_dict()), 64)
    assert transfer(target, tensors, 5, "weights") == []
    found, before = target.state_dict()[place], source.state_dict()[place]
    assert found.shape == (1, 65, 16)
    assert torch.equal(found[:, 0], before[:, 0])  # the class token's has no place
    corners = [1, 8, 57, 64], [1, 4, 13, 16]
    assert torch.allclose(found[:, corners[0]], before[:, corners[1]], atol=1e-5)
    assert torch.equal(_at_size(source, dict(source.state_dict()), 32)[place], before)


def test_published_weights_are_those_of_torchs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    tensors = load_file(published(tmp_path, SMALL))
    place = tmp_path / "hub" / "checkpoints" / models.ShuffleNet_V2_X0_5_Weights.DEFAULT.url.rpartition("/")[2]
    place.parent.mkdir(parents=True)
    torch.save(tensors, place)
    for pretrained in (True, "DEFAULT", "IMAGENET1K_V1"):
        model = Torchvision(architecture=SMALL, pretrained=pretrained)
        assert bind("models", model).sources() == [place]
        module: Any = build(model, 5, COLOUR)
        assert torch.equal(module.network.state_dict()["conv1.0.weight"], tensors["conv1.0.weight"])
        assert module.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert bind("models", Torchvision(architecture=SMALL)).sources() == []


def test_without_a_network_it_says_what_to_fetch_and_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody listens
    url = "https://download.pytorch.org/models/resnet18-f37072fd.pth"
    with pytest.raises(BenchError) as error:
        bind("models", Torchvision(architecture="resnet18", pretrained=True)).sources()
    assert str(error.value) == (
        "model resnet18: weights resnet18-f37072fd.pth are not in the local cache and could not be downloaded "
        f"(URLError); fetch {url} and put it into {tmp_path}/hub/checkpoints, or give it by "
        "--weights PATH"
    )
    assert f"downloading {url}" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.pth"))


# --- what is refused


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Torchvision(architecture="resnet5"), r"architecture \(torchvision\): no such name.*did you mean .*resnet50"),
        (
            Torchvision(architecture="resnet18", pretrained="IMAGENET1K_V9", weights="w"),
            r"pretrained \(torchvision resnet18\).*did you mean IMAGENET1K_V1",
        ),
        (
            Torchvision(architecture="inception_v3"),
            r"inception_v3: does not take images of 32 x 32 \(.*\); set image_size, for example to 299 "
            r"\(its weights need 75 or more\)",
        ),
        (Torchvision(architecture="maxvit_t"), "maxvit_t: does not take images of 32 x 32 .*for example to 224"),
        (Torchvision(architecture="alexnet", image_size=40), "alexnet: does not take images of 40 x 40"),
    ],
    ids=["architecture", "pretrained", "smallest size", "size in steps", "size asked for"],
)
@pytest.mark.slow
def test_what_cannot_be_built_is_told_in_one_line(model: Torchvision, reason: str) -> None:
    with pytest.raises(BenchError, match=reason) as error:
        build(model, 5, COLOUR)
    assert "\n" not in str(error.value)


def test_figures_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="image_size: got 0"):
        Torchvision(image_size=0)
    with pytest.raises(ValueError, match=r"drop_rate: got 1\.0"):
        Torchvision(drop_rate=1.0)


# --- attacked


def test_one_step_of_pgd_raises_the_loss_through_resizing(tmp_path: Path) -> None:
    file = str(published(tmp_path, SMALL, classes=5))
    module = build(Torchvision(architecture=SMALL, weights=file, image_size=64), 5, COLOUR).requires_grad_(False)
    batch = batch_of(images(16, shape=COLOUR))
    batch = batch._replace(y=module(batch.x).argmax(1))
    threat = Threat("Linf", 8 / 255)
    x_adv = run(PGD(steps=1, alpha=8 / 255, random_start=False), threat, batch, module)
    check_budget(x_adv, batch.x, threat)
    before, after = (nn.functional.cross_entropy(module(x), batch.y) for x in (batch.x, x_adv))
    assert after > before
