"""``COMPONENT:REST`` on the command line, in the registry and in ``--set``; ``--datasets`` and ``--weights``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from harness import layers, locating, plan
from harness.config import configure, resolve
from harness.errors import BenchError
from harness.report.catalogue import description
from harness.request import Options, Request
from harness.types import Facts, Preparation

pytestmark = pytest.mark.usefixtures("workplace")

QUICK: dict[str, Any] = {"attacks": ["clean"], "defenses": ["none"]}


def request_of(**options: Any) -> Request:
    return resolve(Options(**{**QUICK, **options}))


def error_of(**options: Any) -> str:
    with pytest.raises(BenchError) as caught:
        request_of(**options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_rest_is_the_first_field() -> None:
    model = request_of(models=["timm:resnet18"], datasets=["digits"]).models["timm:resnet18 on digits"]
    assert (model.name, model.component_name, model.dataset) == ("timm:resnet18", "timm", "digits")
    assert model.parameters["architecture"] == "resnet18"
    assert model.recipe.epochs == 10  # no weights: the default recipe


def test_a_number_is_given_as_a_number() -> None:
    tables = layers.profiled(layers.read(), "tiny")
    assert configure(tables, "attacks", "pgd:7").parameters["steps"] == 7


def test_it_has_the_content_key_of_the_same_thing_in_the_registry() -> None:
    settings = ["models.mine.component=timm", "models.mine.architecture=resnet18", "models.mine.dataset=digits"]
    request = request_of(models=["timm:resnet18", "mine"], settings=[*settings, "models.timm:resnet18.dataset=digits"])
    one, other = plan.build(request, locating.roots(), download=False).cells
    assert one.key == other.key


def test_surrogates_and_members_may_be_such_names() -> None:
    settings = ["attacks.both.members=['pgd:3', 'fgsm']", "models.timm:resnet18.dataset=digits"]
    request = request_of(
        models=["resnet_original"], attacks=["clean", "pgd:3@timm:resnet18", "both"], settings=settings
    )
    assert request.attacks["pgd:3@timm:resnet18"].surrogate == "timm:resnet18"
    assert request.attacks["both"].members[0].parameters["steps"] == 3
    assert request.models["timm:resnet18"].parameters["architecture"] == "resnet18"


@pytest.mark.parametrize(
    "setting",
    [
        'models."timm:resnet18.a1_in1k".training.epochs=3',
        "models.'timm:resnet18.a1_in1k'.training.epochs = 3",
    ],
)
def test_keys_of_set_are_quoted_as_in_toml(setting: str) -> None:
    model = request_of(models=["timm:resnet18.a1_in1k"], datasets=["digits"], settings=[setting])
    (only,) = model.models.values()
    assert (only.recipe.epochs, only.parameters["pretrained"]) == (3, True)


def test_a_quoted_name_may_hold_an_equals_sign() -> None:
    tables = layers.with_settings({}, ['datasets."image_folder:/a=b/c.d".size=32'])
    assert tables == {"datasets": {"image_folder:/a=b/c.d": {"size": 32}}}


def test_the_registry_may_have_such_a_name(tmp_path: Path) -> None:
    Path("registry.toml").write_text(
        '[models."timm:resnet18"]\ndataset = "digits"\ndrop_rate = 0.1\n[models.mine]\nlike = "timm:resnet18"\n'
        '[models."a:b"]\ncomponent = "resnet18"\ndataset = "digits"\n'
    )
    models = request_of(models=["timm:resnet18", "mine", "a:b"]).models
    assert models["timm:resnet18"].parameters["drop_rate"] == 0.1
    assert models["mine"].parameters == models["timm:resnet18"].parameters
    assert models["a:b"].component_name == "resnet18"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"models": ["tim:resnet18"]}, "--models: tim:resnet18: component: no such name 'tim'; did you mean timm?"),
        ({"models": ["timm:"]}, "nothing after the colon; timm:WHICH is needed"),
        ({"models": ["timm:resnet18"]}, "models.timm:resnet18: no dataset; name one by --datasets NAME"),
        ({"attacks": ["clean:now"]}, "this component has no parameters; leave out what stands after the colon"),
        ({"attacks": ["fgsm@tim:resnet18"]}, "surrogate: tim:resnet18: component: no such name 'tim'"),
        ({"datasets": ["digit"]}, "--datasets: no such name 'digit'; did you mean digits"),
        ({"datasets": ["image_foldr:/x"]}, "no such name 'image_foldr'; did you mean image_folder?"),
        ({"weights": "w.safetensors"}, "--weights: got 4 models; name the one they are of by --models NAME"),
        (
            {"models": ["timm:resnet18"], "settings": ["models.timm:resnet18.architecture=resnet50"]},
            "its name says what architecture is, got 'resnet50' as well",
        ),
        (
            {"settings": ['models."timm:resnet18.dataset=digits']},
            'quotes are left open or out of place; write SECTION."',
        ),
        ({"settings": ["models.tim:resnet18.dataset=digits"], "models": ["tim:resnet18"]}, "did you mean timm?"),
        (
            {"settings": ["models.file:./net.py:build.mean=[0.5]"]},
            "a name with dots stands in quotes: 'models.\"file:./net.py:build\".mean=[0.5]'",
        ),
        (
            {"settings": ["datasets.numpy:a.npz.layout=NHWC"]},
            "a name with dots stands in quotes: 'datasets.\"numpy:a.npz\".layout=NHWC'",
        ),
        (
            {"settings": ["models.timm:resnet18.a1_in1k.training.epochs=3"]},
            "quotes: 'models.\"timm:resnet18.a1_in1k\".training.epochs=3'",
        ),
        ({"models": ["./net.py:build"]}, "is no name of a model; of a file of yours it is file:./net.py:build"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(options: dict[str, Any], told: str) -> None:
    assert told in error_of(**options)


def test_every_model_on_every_data_set() -> None:
    request = request_of(models=["resnet_original", "timm:resnet18"], datasets=["digits", "digits_source"])
    cells = plan.build(request, locating.roots(), download=False).cells
    assert [cell.label.partition(" /")[0] for cell in cells] == [
        "resnet_original on digits",
        "timm:resnet18 on digits",
        "resnet_original on digits_source",
        "timm:resnet18 on digits_source",
    ]
    assert len({cell.key for cell in cells}) == 4
    own = plan.build(request_of(models=["resnet_original"]), locating.roots(), download=False).cells
    assert own[0].key == cells[0].key  # its own data set, named


def test_a_surrogate_comes_along_to_the_data_set_and_a_start_stays() -> None:
    request = request_of(models=["vit_ft"], attacks=["fgsm@resnet_noisy"], datasets=["digits_source"])
    (cell,) = plan.build(request, locating.roots(), download=False).cells
    assert not cell.skip
    assert cell.surrogate is not None
    assert cell.surrogate.data.config.name == cell.hardened.fit.data.config.name == "digits_source"
    assert cell.hardened.fit.start is not None
    assert cell.hardened.fit.start.model.name == "vit_source"


def test_names_with_commas_are_quoted(bench: Callable[..., Any]) -> None:
    ran = bench("run", "--models", 'resnet_original,"file:a,b.py"', "--datasets", "digits", "--dry-run")
    assert ran.returncode == 2
    assert "file:a,b.py" in ran.stderr
    assert "no such file" in ran.stderr


def linear(path: Path, classes: int = 10) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
    if path.suffix == ".safetensors":
        save_file(network.state_dict(), path)
    else:
        torch.save(
            {"state_dict": network.state_dict(), "epoch": 3} if path.suffix == ".pth" else network.state_dict(), path
        )


NET = "from torch import nn\ndef build(classes):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))\n"


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth"])
def test_weights_are_given_in_the_command_and_not_trained(name: str) -> None:
    Path("net.py").write_text(NET)
    linear(Path(name))
    options: dict[str, Any] = {"models": ["file:net.py"], "datasets": ["digits"], "weights": name}
    (model,) = request_of(**options).models.values()
    assert (model.parameters["weights"], model.recipe.epochs) == (name, 0)
    (model,) = request_of(**options, settings=['models."file:net.py".training.epochs=2']).models.values()
    assert model.recipe.epochs == 2
    facts = Facts((1, 8, 8), tuple("0123456789"), {}, "", "", "")
    module = model.component.build(Preparation(facts, (0.5,), (0.2,)))
    assert module(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_weights_of_a_registered_model_are_not_trained_either() -> None:
    Path("w.safetensors").write_bytes(b"")
    (model,) = request_of(models=["resnet_original"], datasets=["digits"], weights="w.safetensors").models.values()
    assert model.recipe.epochs == 0


def test_weights_for_what_takes_none() -> None:
    told = error_of(models=["caption_frequent"], weights="w.pt")
    assert "--weights w.pt: caption_baseline, the component of caption_frequent, takes no file of weights" in told


def test_a_file_of_weights_that_is_not_there() -> None:
    request = request_of(models=["timm:resnet18"], datasets=["digits"], weights="nosuch.pt")
    with pytest.raises(BenchError, match=r"nosuch.pt: no such file"):
        plan.build(request, locating.roots(), download=False)


@pytest.mark.slow
def test_weights_of_other_classes_are_not_left_with_a_random_head(bench: Callable[..., Any]) -> None:
    Path("net.py").write_text(NET)
    linear(Path("w.pt"), classes=3)
    ran = bench("run", "--models", "file:net.py", "--datasets", "digits", "--weights", "w.pt", "--attacks", "clean",
                "--defenses", "none")  # fmt: skip
    assert ran.returncode == 2
    assert "its weights have no 1.weight for the classes of digits" in ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("std", "warned"), [("1", True), ("0.00392156862745098", False)])
def test_weights_that_were_trained_on_other_pixels_are_noticed(
    bench: Callable[..., Any], std: str, warned: bool
) -> None:
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    digits = load_digits()
    fitted = LogisticRegression(C=1e-6).fit(digits.data / 16 * 255, digits.target)  # pixels from 0 to 255
    weight, bias = (torch.tensor(values.copy()).float() for values in (fitted.coef_, fitted.intercept_))
    save_file({"1.weight": weight, "1.bias": bias}, "w.safetensors")
    Path("net.py").write_text(NET)
    ran = bench("run", "--models", "file:net.py", "--datasets", "digits", "--weights", "w.safetensors", "--attacks",
                "clean", "--defenses", "none", "--set", 'models."file:net.py".mean=[0.0]', "--set",
                f'models."file:net.py".std=[{std}]')  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    shown = bench("show", "file:net.py/none/clean").stdout
    assert ("with pixels from 0 to 255 accuracy would be" in shown) is warned


@pytest.mark.slow
def test_cells_of_such_names_are_found_again(bench: Callable[..., Any]) -> None:
    Path("net.py").write_text(NET)
    linear(Path("w.pt"))
    ran = bench("run", "--models", "file:./net.py:build", "--datasets", "digits", "--weights", "w.pt", "--attacks",
                "clean,pgd:2", "--defenses", "none", "--limit", "50")  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    for cell in ("file:./net.py:build/none/clean", "file:./net.py:build/none/pgd:2:Linf:24/255"):
        assert bench("show", cell).returncode == 0
    assert bench("show", "file:./net.py:build/none/pgd:3").returncode == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("timm:resnet18.a1_in1k", "mean         0.485, 0.456, 0.406"),
        ("torchvision:resnet50.IMAGENET1K_V2", "the shorter side resized to 232 (bilinear), the middle cut out"),
        ("timm:resnet18", "mean         the training images'"),
    ],
)
def test_info_shows_the_preprocessing(name: str, shown: str) -> None:
    assert shown in description("models", name, "tiny", None, ())
