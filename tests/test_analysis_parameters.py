"""Parameters by groups of layers: every one in one group, and the same sum on every level."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile

import pytest
import torch
from torch import nn

from harness.analysis.parameters import Group, groups


def residual(width: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(width, width, 3), nn.BatchNorm2d(width), nn.ReLU())


class Odd(nn.Module):
    """A parameter of its own, a weight that two layers share, a frozen part, and layers alike in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 5))
        self.embedding = nn.Embedding(7, 5)
        self.blocks = nn.Sequential(*(residual(4) for _ in range(3)), residual(2))
        self.frozen = residual(3).requires_grad_(requires_grad=False)
        self.out = nn.Linear(5, 7)
        self.out.weight = self.embedding.weight
        self.silent = nn.ReLU()


def test_a_small_network_group_by_group() -> None:
    assert groups(nn.Sequential(Odd())) == [
        Group("token", "Parameter", 0, 5, 5),
        Group("embedding", "Embedding", 0, 35, 35),
        Group("blocks", "Sequential", 0, 3 * 156 + 42, 3 * 156 + 42),
        Group("0-2", "Sequential x 3", 1, 468, 468),
        Group("0", "Conv2d x 3", 2, 444, 444),
        Group("1", "BatchNorm2d x 3", 2, 24, 24),
        Group("3", "Sequential", 1, 42, 42),
        Group("0", "Conv2d", 2, 38, 38),
        Group("1", "BatchNorm2d", 2, 4, 4),
        Group("frozen", "Sequential", 0, 84 + 6, 0),
        Group("out", "Linear", 0, 7, 7),  # its weight is counted where it comes first
    ]


def below(found: list[Group], place: int) -> Iterator[Group]:
    """The groups that one consists of, on all levels."""
    return takewhile(lambda other: other.level > found[place].level, found[place + 1 :])


@pytest.mark.parametrize(("levels", "rows"), [(1, 99), (2, 99), (3, 99), (3, 1), (3, 8)])
def test_no_level_loses_a_parameter(levels: int, rows: int) -> None:
    module = Odd()
    found = groups(module, levels, rows)
    assert sum(group.count for group in found if not group.level) == sum(p.numel() for p in module.parameters())
    trainable = sum(p.numel() for p in module.parameters() if p.requires_grad)
    assert sum(group.trainable for group in found if not group.level) == trainable
    assert max(group.level for group in found) < levels
    for place, group in enumerate(found):
        inside = [other.count for other in below(found, place) if other.level == group.level + 1]
        assert not inside or sum(inside) == group.count


def test_a_level_that_is_too_long_is_left_out_whole() -> None:
    assert [group.level for group in groups(Odd(), rows=6)] == [0] * 5
    assert max(group.level for group in groups(Odd(), rows=7)) == 1


def test_layers_alike_count_as_one_run_only_in_a_row() -> None:
    parts = {f"layer_{n}": nn.Linear(2, 2) for n in (0, 1, 3)} | {"layer_4": nn.Linear(2, 3)}
    assert [group.name for group in groups(nn.ModuleDict(parts))] == ["layer_0-1", "layer_3", "layer_4"]


def test_a_single_layer_is_told_by_its_parameters_and_nothing_of_nothing() -> None:
    assert [(group.name, group.count) for group in groups(nn.Linear(2, 3))] == [("weight", 6), ("bias", 3)]
    assert groups(nn.ReLU()) == []


def test_values_are_not_needed() -> None:
    with torch.device("meta"):
        found = groups(Odd())
    assert found == groups(Odd())
