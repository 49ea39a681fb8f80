"""``harness.attack``: one batch under one attack, as an evaluation would have it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from networks import Linear, digits, small
from torch import Tensor, nn

from harness import BenchError, attack, evaluate

NET = small(channels=1, classes=10)
X = digits().splits["test"].images[:40].float() / 255
with torch.no_grad():
    Y = NET(X).argmax(1)
EPS = 24 / 255


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fgsm", "pgd", "apgd_ce", "fmn", "square", "torchattacks_pgd"])
def test_it_does_what_an_evaluation_does(name: str) -> None:
    few: dict[str, Any] = {"queries": 50} if name == "square" else {}
    made = attack(NET, X, Y, name, eps=EPS, **few)
    cell = evaluate(NET, (X, Y), [(name, few)], eps=EPS, progress=False)[0]
    same = np.mean(made.prediction.numpy() == cell.outcome.prediction)
    assert same >= (0.9 if name == "fmn" else 1)  # the smallest images lie where rounding decides
    assert np.array_equal(made.backwards.numpy(), cell.outcome.backwards)
    assert np.array_equal(made.forwards.numpy(), cell.outcome.forwards)


@pytest.mark.parametrize(("norm", "eps"), [("Linf", EPS), ("L2", 0.7), ("L1", 6.0)])
def test_images_lie_inside_budget_and_box_and_success_is_what_the_model_says(norm: str, eps: float) -> None:
    x_adv, success, prediction, forwards, backwards = attack(NET, X, Y, "pgd", eps=eps, norm=norm, steps=5)
    delta = (x_adv - X).flatten(1)
    size = {"Linf": delta.abs().amax(1), "L2": delta.norm(dim=1), "L1": delta.abs().sum(1)}[norm]
    assert size.max() <= eps * (1 + 1e-5)
    assert 0 <= x_adv.min() <= x_adv.max() <= 1
    with torch.no_grad():
        assert torch.equal(NET(x_adv).argmax(1), prediction)
    assert torch.equal(success, prediction != Y)
    assert 0 < success.float().mean() <= 1
    assert (forwards >= 1).all()
    assert backwards.max() == 5


def test_what_is_wrong_already_is_left_as_it_is() -> None:
    wrong = torch.arange(len(Y)) % 2 == 0
    made = attack(NET, X, torch.where(wrong, (Y + 1) % 10, Y), "pgd", eps=EPS)
    assert made.success[wrong].all()
    assert torch.equal(made.x_adv[wrong], X[wrong])
    assert made.backwards[wrong].sum() == 0
    classic = attack(NET, X, torch.where(wrong, (Y + 1) % 10, Y), "pgd", eps=EPS, final_iterate=True)
    assert (classic.x_adv != X).flatten(1).any(1).all()
    assert (classic.backwards == 10).all()


def test_the_answer_is_known_where_it_has_a_closed_form() -> None:
    weight = torch.full((1, 2, 2), 0.25)
    x, y = torch.full((3, 1, 2, 2), 0.5), torch.tensor([1, 1, 0])
    line = Linear(weight, bias=-0.45)  # class 1 where the mean is above 0.45
    assert attack(line, x, y, "fgsm", eps=0.04).success.tolist() == [False, False, True]
    made = attack(line, x, y, "fgsm", eps=0.06)
    assert made.success.tolist() == [True, True, True]
    assert torch.allclose(made.x_adv[:2], x[:2] - 0.06)


def test_a_budget_may_be_a_fraction_and_none_is_asked_of_clean() -> None:
    one, other = attack(NET, X, Y, "pgd", eps="24/255"), attack(NET, X, Y, "pgd", eps=EPS)
    assert torch.equal(one.x_adv, other.x_adv)
    clean = attack(NET, X, Y, "clean")
    assert torch.equal(clean.x_adv, X)
    assert not clean.success.any()
    assert clean.forwards.tolist() == [1] * len(X)


def test_components_ensembles_and_corruptions_are_attacks_too() -> None:
    from plugins.attacks.pgd import PGD

    assert torch.equal(attack(NET, X, Y, PGD(steps=3), eps=EPS).x_adv, attack(NET, X, Y, "pgd", eps=EPS, steps=3).x_adv)
    both = attack(NET, X, Y, "autoattack", eps=EPS, members=["fgsm", "pgd"])
    alone = [attack(NET, X, Y, name, eps=EPS).success for name in ("fgsm", "pgd")]
    assert torch.equal(both.success, alone[0] | alone[1])
    noise = attack(NET, X, Y, "gaussian_noise", severity=5)
    assert (noise.x_adv != X).flatten(1).any(1).any()


def test_random_numbers_belong_to_the_sample() -> None:
    whole = attack(NET, X, Y, "pgd", eps=EPS, final_iterate=True)
    ids = torch.arange(20, 40)
    part = attack(NET, X[20:], Y[20:], "pgd", eps=EPS, final_iterate=True, ids=ids)
    assert torch.allclose(part.x_adv, whole.x_adv[20:], atol=1e-6)
    other = attack(NET, X[20:], Y[20:], "pgd", eps=EPS, final_iterate=True, ids=ids, seed=1)
    assert not torch.allclose(other.x_adv, part.x_adv, atol=1e-3)


def test_queries_can_be_limited() -> None:
    made = attack(NET, X, Y, "pgd", eps=1e-4, query_budget=4)
    assert made.forwards.max() <= 4 + 1  # and the first look, at the images as they are


def test_the_model_is_afterwards_what_it_was_and_gradients_may_be_off() -> None:
    module = small(channels=1, classes=10).train()
    module.features[1].eval()
    module.head.bias.requires_grad_(False)
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    modes, generator = [m.training for m in module.modules()], torch.get_rng_state()
    with torch.no_grad():
        made = attack(module, X, Y, "torchattacks_pgd", eps=EPS)
        assert not torch.is_grad_enabled()
    assert made.success.any()
    assert [m.training for m in module.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    assert [p.requires_grad for p in module.parameters()].count(False) == 1
    assert all(p.grad is None for p in module.parameters())
    assert torch.equal(torch.get_rng_state(), generator)


def test_normalisation_is_put_into_the_model() -> None:
    class Inside(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = NET(x * 0.25 + 0.5)
            return logits

    made = attack(Inside(), X, Y, "pgd", eps=EPS, mean=[0.5], std=[0.25])
    assert (made.prediction == attack(NET, X, Y, "pgd", eps=EPS).prediction).float().mean() > 0.9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": 3}, "model: got int; a torch module is needed"),
        ({"x": X.numpy()}, "x and y: got ndarray and Tensor; tensors are needed"),
        ({"x": X[0]}, r"x: shape \(1, 8, 8\); \(N, C, H, W\)"),
        ({"x": X[:0]}, "one image or more"),
        ({"x": X.expand(-1, 3, -1, -1).permute(0, 2, 3, 1)}, r"channels last; give x.permute\(0, 3, 1, 2\)"),
        ({"x": (X * 255).byte()}, r"x: torch.uint8; floats in \[0, 1\] are needed: x.float\(\) / 255"),
        ({"x": X * 255}, r"x: pixels run from 0 to 255; \[0, 1\] is needed; divide by 255"),
        ({"x": X * 4 - 2}, r"x: pixels run from -2 to 2; \[0, 1\] is needed; normalisation belongs in the model"),
        ({"x": X / 0}, "images hold NaN"),
        ({"x": X.clone().requires_grad_()}, r"x: requires a gradient, .* give x.detach\(\)"),
        ({"x": X.to("meta")}, r"x: is on meta, the model on cpu; give x.to\('cpu'\)"),
        ({"y": Y[:3]}, r"y: shape \(3,\) for 40 images; \(40,\) is needed"),
        ({"y": nn.functional.one_hot(Y, 10)}, r"give y.argmax\(1\)"),
        ({"y": Y.float()}, r"whole numbers from 0, .* are needed: give y.long\(\)"),
        (
            {"model": copy.deepcopy(NET).half()},
            r"model: does not take .*; its weights are torch.float16, .* module.float",
        ),
        ({"model": copy.deepcopy(NET).double()}, r"its weights are torch.float64, .* give module.float\(\)"),
        ({"model": small(channels=3)}, r"model: does not take images of shape \(40, 1, 8, 8\) \(RuntimeError"),
        ({"y": Y + 99}, "the model gives 10 logits; 0 to 9 is needed"),
        ({"ids": torch.arange(3)}, r"ids: torch.int64 of shape \(3,\)"),
        ({"model": nn.Identity()}, r"model: gives logits of shape \(40, 1, 8, 8\)"),
        ({"attack": "pgdd"}, "attack: no such name 'pgdd'; did you mean pgd"),
        ({"stepz": 3}, "key: no such name 'stepz'; did you mean steps"),
        ({"attack": "pgd@resnet_noisy"}, "has a surrogate"),
        ({"eps": 8}, "eps: got 8; .* did you mean 8/255"),
        ({"eps": -1}, "eps: got -1"),
        ({"eps": "eight"}, "a number or a fraction such as 8/255 is needed"),
        ({"norm": "L3"}, "norm: no such name 'L3'"),
        ({"attack": "torchattacks_pgd", "norm": "L1"}, "does not support L1; it supports"),
        ({"mean": [0.5]}, "mean and std: got mean alone"),
    ],
)
def test_what_cannot_be_attacked_is_one_line(changes: dict[str, Any], message: str) -> None:
    given = {"model": NET, "x": X, "y": Y, "attack": "pgd", **changes}
    with pytest.raises(BenchError, match=message) as told:
        attack(**given)
    assert "\n" not in str(told.value)
