"""``bench list`` and ``bench info`` name and describe everything there is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness import registry
from harness.errors import BenchError
from harness.layers import available, profiled, read
from harness.report.catalogue import SECTIONS, description, listing
from harness.types import KINDS

pytestmark = pytest.mark.usefixtures("workplace")

NAMES = [(kind, name) for kind in KINDS for name in available(profiled(read(), "tiny"), kind)]
LONG = ("fashion_mnist", "shapes_fa", "caption_frequent", "caption_hard", "caption_mean", "caption_neighbour",
        "caption_scaled_dot", "caption_scheduled_sampling", "hf")  # fmt: skip
"""Those that take longest to describe: images are read, scenes drawn, the layers of captioners built to be counted."""


def test_the_whole_list_has_every_section_and_name() -> None:
    lines = listing(None, "tiny", None).splitlines()
    assert tuple(line for line in lines if line and not line.startswith(" ")) == SECTIONS
    listed = {line.split()[0].rstrip(":") for line in lines if line.startswith("  ")}
    assert {name for _, name in NAMES} | {
        "report",
        "corruptions",
        "captions",
        "captions_targeted",
        "tiny",
        "small",
    } == listed


@pytest.mark.parametrize("kind", SECTIONS)
def test_one_section(kind: str) -> None:
    assert listing(kind, "tiny", None).splitlines()[0] == kind


def test_a_configuration_shows_its_component_and_a_component_stands_alone() -> None:
    lines = [line.split() for line in listing("models", "tiny", None).splitlines()]
    assert ["resnet_noisy", "resnet18"] in lines
    assert ["resnet18"] in lines


def test_what_a_profile_adds_is_listed_with_it() -> None:
    assert "vit_source" in listing("models", "tiny", None)
    assert "vit_source" not in listing("models", "report", None)


def test_the_user_s_registry_is_listed() -> None:
    Path("registry.toml").write_text('[attacks.mine]\ncomponent = "pgd"\n[attacks.gone]\ncomponent = "removed"\n')
    lines = [line.split() for line in listing("attacks", "tiny", None).splitlines()]
    assert ["mine", "pgd"] in lines
    assert ["gone", "removed", "not", "installed"] in lines


def test_a_stranger_s_component_shows_where_it_is_from(plugin_distribution: Callable[..., Path]) -> None:
    plugin_distribution("stranger", "raise RuntimeError", attacks={"odd": "Odd"})
    assert ["odd", "stranger"] in [line.split() for line in listing("attacks", "tiny", None).splitlines()]


@pytest.mark.parametrize(
    ("kind", "name"), [pytest.param(*one, marks=pytest.mark.slow) if one[1] in LONG else one for one in NAMES]
)
def test_everything_listed_is_described(kind: str, name: str) -> None:
    text = description(kind, name, "tiny", None, ())
    made_of = "\nThe worst case over its members" if name == "autoattack" else "component  "
    assert text.startswith(f"{name} ({kind}, profile tiny)\n{made_of}")
    assert "adversarial-bench" in text
    assert "broken" not in text
    assert "No docstring" not in text
    assert "MISSING" not in text


def test_every_parameter_is_told_with_its_type_default_and_value() -> None:
    rows = [line.split() for line in description("models", "vit_ft", "tiny", None, ()).splitlines()]
    assert ["embed_dim", "int", "|", "None", "None", "64"] in rows
    assert ["drop_rate", "float", "|", "None", "None"] in rows
    assert ["pretrained", "bool", "False"] in rows
    text = description("attacks", "pgd", "tiny", None, ["attacks.pgd.steps=33"])
    assert ["steps", "int", "10", "33"] in [line.split() for line in text.splitlines()]


def test_a_model_tells_its_data_recipe_and_start() -> None:
    text = description("models", "vit_ft", "tiny", None, ())
    assert "dataset = digits_target, start = vit_source" in text
    assert "training = epochs 20, batch_size 32, optimizer adamw" in text
    assert "hardening = epochs 20, lr 0.002" in text


def test_a_defense_an_attack_a_metric_and_a_data_set_tell_what_is_theirs() -> None:
    assert "training = optimizer adam" in description("defenses", "pgd_at", "tiny", None, ())
    assert "stronger_than = ('fgsm',)" in description("attacks", "pgd", "tiny", None, ())
    assert "unit = 'fraction'" in description("metrics", "accuracy", "tiny", None, ())
    text = description("datasets", "cifar100", "report", None, ())
    assert "images 3 x 32 x 32, 100 classes in 20 groups, train 45000, validation 5000, test 10000" in text


def test_a_broken_plugin_is_described_as_broken(plugin_distribution: Callable[..., Path]) -> None:
    plugin_distribution("stranger", "raise RuntimeError('no licence')", attacks={"odd": "Odd"})
    assert "broken     plugin 'odd' (attacks, from stranger 1.0)" in description("attacks", "odd", "tiny", None, ())


def test_a_default_that_is_made_is_shown_as_made(plugin_distribution: Callable[..., Path]) -> None:
    source = """
        from dataclasses import dataclass, field
        from harness.hookspecs import hookimpl

        @dataclass(frozen=True)
        class Odd:
            sizes: list[int] = field(default_factory=lambda: [1, 2])

            @hookimpl
            def measure(self, outcome):
                return None
    """
    plugin_distribution("stranger", source, metrics={"odd": "Odd"})
    assert "sizes      list[int]  [1, 2]" in description("metrics", "odd", "tiny", None, ())


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("attack", "pgd", "bench info: no such name 'attack'; did you mean attacks"),
        ("matrices", "report", "bench info: no such name 'matrices'"),
        ("attacks", "pdg", "attacks: no such name 'pdg'; did you mean pgd"),
    ],
)
def test_an_unknown_name_gets_the_nearest(kind: str, name: str, message: str) -> None:
    with pytest.raises(BenchError) as caught:
        description(kind, name, "tiny", None, ())
    assert message in str(caught.value)


def test_an_unknown_section_gets_the_nearest() -> None:
    with pytest.raises(BenchError, match="bench list: no such name 'profile'; did you mean profiles"):
        listing("profile", "tiny", None)


def test_every_component_is_described_in_this_file() -> None:
    assert {(kind, name) for kind in KINDS for name in registry.names(kind)} <= set(NAMES)
