"""No attack: the clean column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.hookspecs import hookimpl
from harness.types import ANY_TASK

if TYPE_CHECKING:
    from torch import Tensor

    from harness.types import Batch


@dataclass(frozen=True)
class Clean:
    """Hands the images back as they are; its accuracy is the clean accuracy."""

    norms: ClassVar[tuple[str, ...]] = ()
    tasks: ClassVar[tuple[str, ...]] = ANY_TASK

    @hookimpl
    def perturb(self, batch: Batch) -> Tensor:
        return batch.x
