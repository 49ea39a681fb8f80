"""What is held out for validation and test of data that has no such split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from harness import splitting
from harness.errors import BenchError
from harness.hookspecs import NOT_IN_KEY
from harness.types import Split

SPLITS = ("train", "validation", "test")


class Shares(NamedTuple):
    """Shares of all samples that validation and test get, in each class with ``stratified``; the seed of the draw."""

    validation: float
    test: float
    stratified: bool
    seed: int

    def _wanted(self, has: Mapping[str, int]) -> dict[str, int]:
        """How many samples each split that is missing takes out of train."""
        shares = {"test": self.test, "validation": self.validation}
        return {name: splitting.share_of(has["train"], share) for name, share in shares.items() if name not in has}

    def sizes(self, has: Mapping[str, int]) -> dict[str, int]:
        """The sizes of all splits, from those that there are."""
        wanted = self._wanted(has)
        found = {**has, **wanted, "train": has["train"] - sum(wanted.values())}
        return {split: found[split] for split in SPLITS}

    def held_out(self, parts: Mapping[str, Split]) -> dict[str, Split]:
        """All splits, those that are missing held out of train."""
        found = dict(parts)
        for name, count in self._wanted({split: len(part.labels) for split, part in parts.items()}).items():
            train = found["train"]
            halves = splitting.held_out(train.labels, count, self.seed, stratified=self.stratified)
            found["train"], found[name] = (splitting.take(train, index) for index in halves)
        return {split: found[split] for split in SPLITS}


@dataclass(frozen=True)
class OwnImages:
    """A base of data sets of somebody's own images: where they lie, what is held out, what is said of their rights.

    validation, test: shares of all images that are held out where no split is given. stratified: of each class.
    """

    path: str = field(default="", metadata=NOT_IN_KEY)
    validation: float = 0.1
    test: float = 0.2
    stratified: bool = True
    split_seed: int = 0
    licence: str = field(default="not stated", metadata=NOT_IN_KEY)
    citation: str = field(default="not stated", metadata=NOT_IN_KEY)

    @property
    def shares(self) -> Shares:
        return Shares(self.validation, self.test, self.stratified, self.split_seed)


def check_shares(component: str, shares: Shares) -> None:
    """Raises BenchError for shares that leave nothing, and for a seed out of range."""
    splitting.check_seed(component, shares.seed)
    splitting.check_share(component, "validation", shares.validation)
    splitting.check_share(component, "test", shares.test)
    if shares.validation + shares.test >= 1:
        raise BenchError(
            f"{component}: validation={shares.validation!r} and test={shares.test!r} leave nothing to train on; "
            "together less than 1 is needed"
        )
