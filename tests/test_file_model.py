"""A network from a Python file: what is asked of the file, its weights, its content key."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness import locating, plan
from harness.config import resolve
from harness.errors import BenchError
from harness.request import Options
from harness.types import Facts, Preparation
from plugins.models.file import File

pytestmark = pytest.mark.usefixtures("workplace")

FACTS = Facts((3, 8, 8), ("a", "b", "c", "d"), {}, "", "", "")
PREPARED = Preparation(FACTS, (0.4, 0.5, 0.6), (0.2, 0.2, 0.2))
HEAD = "from torch import nn\n"
NET = f"""{HEAD}
def build(classes, channels, size, shape):
    assert (classes, channels, size, shape) == (4, 3, 8, (3, 8, 8))
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, classes))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(192, 4)

    def forward(self, x):
        return self.head(x.flatten(1))

made = 3
"""


def built(text: str, file: str = "net.py", **fields: Any) -> nn.Module:
    Path("net.py").write_text(text)
    module: nn.Module = File(file=file, **fields).build(PREPARED)
    return module


def error_of(text: str, file: str = "net.py", **fields: Any) -> str:
    with pytest.raises((BenchError, ValueError)) as caught:
        built(text, file, **fields)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("file", ["net.py", "./net.py:build", "net.py:Net"])
def test_functions_and_classes_get_what_they_name(file: str) -> None:
    x = torch.rand(2, 3, 8, 8)
    module = built(NET, file)
    assert module(x).shape == (2, 4)
    assert not module.training
    assert torch.allclose(module(x), module.network(x))  # pixels as they are


def test_mean_and_std_are_taken_off() -> None:
    torch.manual_seed(0)
    module = built(NET, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3))
    x = torch.rand(2, 3, 8, 8)
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)
    assert torch.allclose(module(x), module.network((x - mean) / std), atol=1e-5)
    one = built(NET, mean=(0.5,), std=(0.25,))
    assert torch.allclose(one(x), one.network((x - 0.5) / 0.25), atol=1e-5)


def test_images_are_resized() -> None:
    text = f"{HEAD}def build():\n    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4))\n"
    assert built(text, image_size=16)(torch.rand(1, 3, 8, 8)).shape == (1, 4)


@pytest.mark.parametrize(
    ("text", "file", "told"),
    [
        (NET, "nett.py", "model file:nett.py: no such file; FILE.py:FUNCTION is needed"),
        (NET, "net.py:buidl", "no such name 'buidl'; did you mean build?"),
        (NET, "net.py:made", "no such name 'made'"),
        (f"{HEAD}def build():\n    raise RuntimeError('no luck')\n", "net.py", "RuntimeError: no luck (line 3)"),
        (f"{HEAD}x = 1 / 0\n", "net.py", "cannot be imported: ZeroDivisionError: division by zero (line 2)"),
        ("def build(:\n", "net.py", "cannot be imported: SyntaxError"),
        ("import nosuchmodule\n", "net.py", "ModuleNotFoundError: No module named 'nosuchmodule'"),
        ("def build():\n    return 3\n", "net.py", "returned int; a torch.nn.Module is needed"),
        (f"{HEAD}def build(width):\n    return nn.Identity()\n", "net.py", "missing 1 required positional argument"),
        (f"{HEAD}def build():\n    return nn.Flatten()\n", "net.py", "logits of shape (1, 4) are needed"),
        (f"{HEAD}def build():\n    return nn.Linear(5, 4)\n", "net.py", "does not take images of 8 x 8"),
    ],
)
def test_what_is_wrong_with_the_file_is_said_in_a_line(text: str, file: str, told: str) -> None:
    assert told in error_of(text, file)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"mean": (0.5,)}, "mean has 1 figures, std 0"),
        ({"mean": (0.5, 0.5), "std": (1.0, 1.0)}, "mean and std have 2 figures; 3 or 1 are needed"),
        ({"mean": (0.5,), "std": (0.0,)}, "more than 0 is needed"),
        ({"image_size": 0}, "at least 1 pixel is needed"),
        ({"weights": "nosuch.pt"}, "nosuch.pt: no such file"),
    ],
)
def test_what_is_wrong_with_a_parameter_is_said_in_a_line(fields: dict[str, Any], told: str) -> None:
    assert told in error_of(NET, **fields)


def test_weights_are_put_into_it() -> None:
    wanted = nn.Linear(192, 4)
    torch.save({"state_dict": {f"module.1.{name}": value for name, value in wanted.state_dict().items()}}, "w.pt")
    module = built(NET, weights="w.pt")
    assert torch.equal(module.network[1].weight, wanted.weight)
    assert module.new == ()


def test_weights_of_another_network_are_refused() -> None:
    torch.save({"1.weight": torch.zeros(4, 7), "1.bias": torch.zeros(4)}, "w.pt")
    assert "needs shape (4, 192), got (4, 7)" in error_of(NET, weights="w.pt")


def test_code_in_a_file_of_weights_is_not_run() -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, ("ran",)

    torch.save(Evil(), "w.pt")
    assert "more in it than tensors" in error_of(NET, weights="w.pt")
    assert not Path("ran").exists()


BESIDE = f"""{HEAD}
from parts.head import width

def build(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(width, classes))
"""


def test_files_beside_it_may_be_imported_and_are_forgotten() -> None:
    Path("parts").mkdir()
    Path("parts/head.py").write_text("width = 192\n")
    assert built(BESIDE)(torch.rand(1, 3, 8, 8)).shape == (1, 4)
    assert not [name for name in sys.modules if name.startswith("parts")]
    assert File(file="net.py").sources() == [Path("net.py"), Path("parts/head.py")]


def test_what_decides_the_network_decides_the_key() -> None:
    def key(file: str = "net.py", **settings: str) -> str:
        changes = [f'models."file:{file}".{name}={value}' for name, value in settings.items()]
        request = resolve(
            Options(
                models=[f"file:{file}"], datasets=["digits"], attacks=["clean"], defenses=["none"], settings=changes
            )
        )
        return plan.build(request, locating.roots(), download=False).cells[0].hardened.fit.key

    Path("net.py").write_text(NET)
    first = key()
    assert key("net.py:build") == key("./net.py") == first
    assert key("net.py:Net") != first
    assert key(mean="[0.5]", std="[0.2]") != first
    Path("away").mkdir()
    Path("away/other.py").write_text(NET)
    assert key("away/other.py") == first  # a path is no part of it
    Path("net.py").write_text(NET + "# changed\n")
    assert key() != first
    Path("parts").mkdir()
    Path("parts/head.py").write_text("width = 192\n")
    Path("net.py").write_text(BESIDE)
    before = key()
    Path("parts/head.py").write_text("width = 96 + 96\n")
    assert key() != before


@pytest.mark.parametrize(("pretrained", "epochs"), [("true", 0), ("false", 10)])
def test_one_that_loads_its_weights_itself_is_not_trained(pretrained: str, epochs: int) -> None:
    Path("net.py").write_text(NET)
    settings = [f'models."file:net.py".pretrained={pretrained}']
    (model,) = resolve(Options(models=["file:net.py"], datasets=["digits"], settings=settings)).models.values()
    assert model.recipe.epochs == epochs
