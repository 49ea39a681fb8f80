"""The probe for wrong preprocessing, on a network that is really trained and whose preprocessing is then spoilt."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.api.given import normalising
from harness.data import Samples
from harness.preprocessing import suspected
from plugins.networks import Normalised

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
CHANNELS = 3


class Turned(nn.Module):
    """A network that is shown the channels in the other order."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.flip(1))


class Opaque(nn.Module):
    """A model whose normalisation nobody can see: it has no buffers of it."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        return self.inside(x)


def coloured() -> tuple[Samples, Samples]:
    """Scikit-learn's digits as dark colour images of little contrast: ink raises red and green, lowers blue."""
    from sklearn.datasets import load_digits

    found = load_digits()
    ink = torch.from_numpy(found.images / 16).float()[:, None]
    x = torch.cat([0.1 + 0.25 * ink, 0.15 + 0.12 * ink, 0.3 - 0.2 * ink], 1)
    images, labels = (255 * x).round().to(torch.uint8), torch.from_numpy(found.target.astype(np.int64))
    ids = torch.arange(len(labels))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    return tuple(Samples(images[part], labels[part], ids[part]) for part in (order[:1200], order[1200:]))  # type: ignore[return-value]


TRAIN, TEST = coloured()
PIXELS = TRAIN.images.float().div(255)
DATA = (PIXELS.mean((0, 2, 3)).tolist(), PIXELS.std((0, 2, 3)).tolist())
FIGURES = {
    "plain": ([0.0], [1.0]),
    "imagenet": IMAGENET,
    "halves": ([0.5], [0.5]),
    "data": DATA,
    "bytes": ([0.0], [1 / 255]),
}


def normalised(network: nn.Module, name: str) -> Normalised:
    mean, std = (list(values) * (CHANNELS // len(values)) for values in FIGURES[name])
    return Normalised(network, mean, std).eval()


@pytest.fixture(scope="module")
def trained() -> dict[str, nn.Module]:
    """A small network for each way of normalising, trained with it."""
    return {name: fitted(name) for name in FIGURES}


def fitted(name: str) -> nn.Module:
    torch.manual_seed(0)
    scale = 1 / 255 if name == "bytes" else 1.0
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(CHANNELS * 64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    )
    with torch.no_grad():
        network[1].weight.mul_(scale)
    module = normalised(network, name).train()
    optimizer = torch.optim.Adam(module.parameters(), lr=2e-3 * (scale if name == "bytes" else 1) ** 0.5)
    for _ in range(30):
        for batch in TRAIN.batches(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(batch.x), batch.y).backward()
            optimizer.step()
    return network.eval()


def accuracy(module: nn.Module) -> float:
    batch = TEST.take(torch.arange(len(TEST)))
    with torch.no_grad():
        return float((module(batch.x).argmax(1) == batch.y).float().mean())


def reasons(module: nn.Module) -> list[str]:
    found = suspected(module, TEST, DATA, accuracy(module), 128)
    assert all(reason.code == "preprocessing" for reason in found)
    return [reason.text for reason in found]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FIGURES))
def test_a_model_that_is_set_rightly_gets_no_warning(trained: dict[str, nn.Module], name: str) -> None:
    module = normalised(trained[name], name)
    assert accuracy(module) > 0.85
    assert not reasons(module)
    assert not reasons(Opaque(module))
    # Nor when its accuracy is said to be low, for then every mistake is tried and none is better.
    assert suspected(module, TEST, DATA, 0.1, 128) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("plain", "imagenet", "without mean and standard deviation"),
        ("plain", "halves", "without mean and standard deviation"),
        ("imagenet", "plain", "with the mean and standard deviation of ImageNet"),
        ("halves", "plain", "with mean and standard deviation 0.5"),
        ("data", "halves", "with the mean and standard deviation of the data"),
        ("bytes", "plain", "with pixels from 0 to 255"),
        ("bytes", "imagenet", "with pixels from 0 to 255"),
    ],
)
def test_a_mistake_is_named(trained: dict[str, nn.Module], right: str, wrong: str, told: str) -> None:
    spoilt = normalised(trained[right], wrong)
    (text,) = reasons(spoilt)
    assert text.startswith(told)
    said = int(text.partition("instead of ")[2].partition("%")[0]) / 100
    assert abs(said - accuracy(spoilt)) < 0.1  # of other images
    before = [buffer.clone() for buffer in spoilt.buffers()]
    assert all(torch.equal(a, b) for a, b in zip(before, normalised(trained[right], wrong).buffers(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FIGURES))
def test_channels_in_another_order_are_named(trained: dict[str, nn.Module], name: str) -> None:
    for spoilt in (normalised(Turned(trained[name]), name), Turned(normalised(trained[name], name))):
        assert reasons(spoilt)[0].startswith("with BGR channels accuracy would be ")


@pytest.mark.slow
def test_what_is_to_be_set_mends_it(trained: dict[str, nn.Module]) -> None:
    (text,) = reasons(normalised(trained["imagenet"], "plain"))
    assert "; set mean = [0.485, 0.456, 0.406] and std = [0.229, 0.224, 0.225], and run again" in text
    (text,) = reasons(normalised(trained["halves"], "plain"))
    assert "; set mean = [0.5] and std = [0.5], and run again" in text
    (text,) = reasons(Turned(normalised(trained["data"], "data")))
    assert "; turn the channels round in it by x.flip(1), and run again" in text


class Cornered(nn.Module):
    """Takes images of any size, and looks at their upper left 8 x 8 pixels."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x[..., :8, :8])


@pytest.mark.slow
@pytest.mark.parametrize("given", ["halves", "imagenet"])
def test_images_that_are_resized_to_another_size_than_in_training_are_named(
    trained: dict[str, nn.Module], given: str
) -> None:
    mean, std = (list(values) * (CHANNELS // len(values)) for values in FIGURES[given])
    spoilt = Normalised(Cornered(trained["halves"]), mean, std, (16, 16)).eval()
    text = reasons(spoilt)[0]
    assert text.startswith("with images of their own size, 8 x 8")
    assert "; set image_size = 8" in text
    assert ("mean = [0.5]" in text) == (given == "imagenet")
    assert spoilt.size == (16, 16)


@pytest.mark.slow
def test_a_network_of_one_size_is_not_asked_for_another(trained: dict[str, nn.Module]) -> None:
    upright = Normalised(nn.Sequential(nn.Upsample((8, 8)), trained["data"]), *DATA, size=(16, 16)).eval()
    inside = Normalised(nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * 256, 10)), *DATA, size=(16, 16)).eval()
    assert accuracy(upright) > 0.8
    assert not reasons(inside)


@pytest.mark.slow
def test_the_figures_that_evaluate_was_given_are_seen(trained: dict[str, nn.Module]) -> None:
    (text,) = reasons(normalising(trained["data"], *IMAGENET))
    assert text.startswith("with the mean and standard deviation of the data")
    assert not reasons(normalising(trained["data"], *DATA))


@pytest.mark.slow
def test_what_is_normalised_twice_is_named(trained: dict[str, nn.Module]) -> None:
    inside = normalised(trained["data"], "data")  # a network that normalises itself
    told = reasons(normalised(inside, "imagenet"))[0]
    assert told.startswith("without mean and standard deviation (or normalised once")


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["imagenet", "halves"])
def test_a_normalisation_that_nobody_sees_is_undone(trained: dict[str, nn.Module], wrong: str) -> None:
    named = {"imagenet": "the mean and standard deviation of ImageNet", "halves": "mean and standard deviation 0.5"}
    assert reasons(Opaque(normalised(trained["plain"], wrong)))[0].startswith(f"without {named[wrong]}")


@pytest.mark.slow
def test_pixels_multiplied_by_255_where_nobody_sees_it(trained: dict[str, nn.Module]) -> None:
    spoilt = Opaque(normalised(trained["halves"], "bytes"))
    assert accuracy(spoilt) < 0.6
    assert "instead of" in reasons(spoilt)[0]


def test_an_untrained_network_is_poor_in_every_way() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * 64, 10))
    assert not reasons(normalised(network, "imagenet"))


def test_a_good_model_costs_no_look() -> None:
    class Unasked(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError

    assert suspected(Unasked(), TEST, DATA, 0.95, 128) == []
