"""Common corruptions: what they do to images, and that they belong to the sample."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from networks import batch_of, images
from torch import Tensor

from harness.errors import BenchError
from harness.randomness import SampleRandom
from harness.types import Batch, Threat
from plugins.attacks.corruption import Corruption
from plugins.attacks.gaussian_noise import DEVIATIONS, GaussianNoise

torch.set_num_threads(1)

KINDS = get_args(get_type_hints(Corruption)["kind"])
BATCH = batch_of(images(4, shape=(3, 32, 32)))


def corrupted(attack: Any, severity: float, batch: Batch = BATCH, seed: int = 0) -> Tensor:
    made: Tensor = attack.perturb(
        batch=batch, threat=Threat("severity", severity), random=SampleRandom(seed, batch.ids)
    )
    assert made.shape == batch.x.shape
    assert made.dtype == torch.float32
    assert 0 <= float(made.min()) <= float(made.max()) <= 1
    return made


def grey(n: int, shape: tuple[int, int, int] = (3, 32, 32)) -> Batch:
    return Batch(torch.full((n, *shape), 0.5), torch.zeros(n, dtype=torch.int64), torch.arange(n) * 3)


# --- the native noise ---


@pytest.mark.parametrize("scale", ["cifar", "imagenet"])
@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_noise_has_the_deviation_of_its_severity(scale: Any, severity: int) -> None:
    batch = grey(20)
    delta = corrupted(GaussianNoise(scale), severity, batch) - batch.x
    wanted = DEVIATIONS[scale][severity - 1]
    held = torch.randn(100_000, generator=torch.Generator().manual_seed(0)).mul(wanted).clamp(-0.5, 0.5).std()
    assert float(delta.std()) == pytest.approx(float(held), rel=0.02)
    assert abs(float(delta.mean())) < 0.01


def test_noise_belongs_to_the_sample() -> None:
    whole = corrupted(GaussianNoise(), 3)
    assert torch.equal(whole, corrupted(GaussianNoise(), 3))
    assert not torch.equal(whole, corrupted(GaussianNoise(), 3, seed=1))
    index = torch.tensor([3, 1])
    assert torch.equal(corrupted(GaussianNoise(), 3, BATCH.select(index)), whole[index])


@pytest.mark.parametrize("attack", [GaussianNoise(), Corruption()])
@pytest.mark.parametrize("severity", [0, 6, 2.5, 8 / 255])
def test_other_severities_are_refused(attack: Any, severity: float) -> None:
    with pytest.raises(BenchError, match="1, 2, 3, 4 or 5 is needed"):
        corrupted(attack, severity)


# --- the library ---


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "imagecorruptions", None)
    with pytest.raises(BenchError, match=r"pip install 'adversarial-bench\[corruptions\]'"):
        corrupted(Corruption(), 1)


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 32, 32), (3, 64, 31)])
def test_images_that_the_library_does_not_take_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(BenchError, match="32 x 32 pixels or more"):
        corrupted(Corruption(), 1, grey(2, shape))


@pytest.fixture
def library() -> Any:
    return pytest.importorskip("imagecorruptions", reason="the extra corruptions is not installed")


def test_every_kind_of_the_library_is_offered(library: Any) -> None:
    assert set(KINDS) == set(library.get_corruption_names("all"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_corruption_belongs_to_the_sample_and_leaves_the_generators_alone(kind: Any, library: Any) -> None:
    before, legacy = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index, union-attr] # noqa: NPY002
    whole = corrupted(Corruption(kind), 4)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.random.get_state()[1].tolist() == legacy  # type: ignore[index, union-attr] # noqa: NPY002
    assert torch.equal(corrupted(Corruption(kind), 4), whole)
    index = torch.tensor([2, 0])
    assert torch.equal(corrupted(Corruption(kind), 4, BATCH.select(index)), whole[index])
    assert not torch.equal(whole, BATCH.x)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gaussian_noise", "impulse_noise", "glass_blur", "snow", "fog", "elastic_transform"])
def test_a_random_corruption_is_another_for_each_seed_and_sample(kind: Any, library: Any) -> None:
    twins = Batch(BATCH.x[:1].expand(2, -1, -1, -1), BATCH.y[:2], torch.tensor([1, 2]))
    whole = corrupted(Corruption(kind), 3, twins)
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(corrupted(Corruption(kind), 3, twins, seed=1), whole)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gaussian_noise", "gaussian_blur", "jpeg_compression"])
def test_a_higher_severity_changes_more(kind: Any, library: Any) -> None:
    changes = [float((corrupted(Corruption(kind), s) - BATCH.x).square().mean()) for s in range(1, 6)]
    assert changes == sorted(changes)
    assert changes[-1] > changes[0]


@pytest.mark.slow
def test_noise_of_the_library_has_the_deviation_of_ours(library: Any) -> None:
    batch = grey(10)
    for severity in (1, 4):
        theirs, ours = (
            float((corrupted(attack, severity, batch) - batch.x).std())
            for attack in (Corruption("gaussian_noise"), GaussianNoise("imagenet"))
        )
        assert theirs == pytest.approx(ours, rel=0.03)


@pytest.mark.slow
def test_grey_images_stay_grey(library: Any) -> None:
    batch = batch_of(images(2, shape=(1, 64, 48)))
    assert corrupted(Corruption("fog"), 2, batch).shape == (2, 1, 64, 48)
