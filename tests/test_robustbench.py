"""RobustBench's zoo: its own loading with a state_dict made here, put where it looks for it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from harness.errors import BenchError
from harness.types import Facts, Preparation
from plugins.models.robustbench import RobustBench

pytestmark = [
    pytest.mark.usefixtures("workplace"),
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("robustbench") is None, reason="the extra robustbench is not installed"),
]

NAME = "Rice2020Overfitting"


def prepared(classes: int = 10, channels: int = 3) -> Preparation:
    facts = Facts((channels, 32, 32), tuple(map(str, range(classes))), {}, "", "", "")
    return Preparation(facts, (0.5,) * channels, (0.2,) * channels)


def put(model: RobustBench) -> torch.nn.Module:
    """Random weights of the architecture, where RobustBench keeps those of this model."""
    torch.manual_seed(3)
    network: torch.nn.Module = model._entry()["model"]()
    place = Path(model.folder, model.trained_on, model.threat_model, f"{model.name}.pt")
    place.parent.mkdir(parents=True)
    torch.save(network.state_dict(), place)
    return network.eval()


@pytest.mark.parametrize(
    ("name", "classes"), [("Sehwag2021Proxy_R18", 10), ("cifar100/Linf/Addepalli2022Efficient_RN18", 100)]
)
def test_a_model_is_built_with_the_weights_that_lie_there(name: str, classes: int) -> None:
    model = RobustBench(name)
    network = put(model)
    (source,) = model.sources()
    assert source == Path("models", model.trained_on, "Linf", f"{model.name}.pt")
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(model.build(prepared(classes))(x), network(x), atol=1e-5)


def test_weights_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from plugins.models.robustbench import _library

    def offline(number: str, place: Path) -> None:
        raise ConnectionError

    monkeypatch.setattr(_library().utils, "download_gdrive_new", offline, raising=False)
    with pytest.raises(BenchError) as caught:
        RobustBench(NAME).sources()
    told = str(caught.value)
    assert (
        "not in models/cifar10/Linf and could not be downloaded (ConnectionError); fetch https://drive.google" in told
    )
    assert told.endswith(f"put it there as {NAME}.pt")


def test_an_older_copy_that_another_package_put_over_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from plugins.models.robustbench import _library

    monkeypatch.delattr(_library().utils, "download_gdrive_new", raising=False)
    with pytest.raises(BenchError, match=r"overwritten by .* torchattacks brings; pip install --force-reinstall"):
        RobustBench(NAME).sources()


def test_what_is_wrong_is_said_in_a_line() -> None:
    with pytest.raises(BenchError, match=r"no such name 'Rice2020Overfit'; did you mean Rice2020Overfitting"):
        RobustBench("Rice2020Overfit").sources()
    with pytest.raises(ValueError, match=r"NAME, or cifar10 or cifar100 or imagenet / Linf"):
        RobustBench("cifar11/Linf/A")
    with pytest.raises(
        BenchError, match=r"of 10 classes of colour images \(cifar10\), the data has 100 and 3 channels"
    ):
        RobustBench(NAME).build(prepared(100))
    place = Path("models/cifar10/Linf/Sehwag2021Proxy_R18.pt")
    place.parent.mkdir(parents=True)
    place.write_bytes(b"no weights")
    with pytest.raises(BenchError, match=r"weights in models/cifar10/Linf: "):
        RobustBench("Sehwag2021Proxy_R18").build(prepared())
