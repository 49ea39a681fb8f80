"""Attacks of adv-lib."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from harness.types import NORMS
from plugins.bridges.bridge import Bridge, Entry, Task, fixed, smallest, unmeasured

if TYPE_CHECKING:
    from torch import Tensor

ORDERS = {"Linf": float("inf"), "L2": 2, "L1": 1}


@contextlib.contextmanager
def without_visdom() -> Iterator[None]:
    """An empty module in the place of visdom, which adv-lib imports for pictures that nobody here draws."""
    absent = "visdom" not in sys.modules
    if absent:
        sys.modules["visdom"] = ModuleType("visdom")
    try:
        yield
    finally:
        if absent:
            del sys.modules["visdom"]


@dataclass(frozen=True)
class Advlib(Bridge):
    """Any attack of adv-lib on a classifier. Rony et al., "Adversarial library", https://github.com/jeromerony/adversarial-library.

    name: the function, for example ddn. parameters: its own, Greek letters written out (alpha_init for α_init); step
    sizes that are not set are adv-lib's own. target: "random", "least_likely" or "second" for its targeted form, empty
    for any mistake. Norms are those of each paper; of attacks in L0 and in colour distances the images found are
    measured, and count where they lie inside eps.
    """

    name: str = "pgd_linf"

    package: ClassVar[str] = "adv_lib"
    project: ClassVar[str] = "adv-lib"
    folder: ClassVar[str] = "attacks"
    owned: ClassVar[frozenset[str]] = frozenset(
        {"model", "inputs", "images", "labels", "targeted", "norm", "p", "distance", "num_classes", "callback"}
        | {"return_unsuccessful", "return_targets", "best_loss", "kwargs"}
    )
    entries: ClassVar[Mapping[str, Entry]] = {
        "pgd_linf": fixed("Linf", targets=True),
        "apgd": fixed(*NORMS, targets=True),
        "apgd_targeted": fixed(*NORMS),
        "alma": smallest("L2", "L1", targets=True),
        "carlini_wagner_l2": smallest("L2", targets=True),
        "carlini_wagner_linf": smallest("Linf", targets=True),
        "ddn": smallest("L2", targets=True),
        "df": smallest("Linf", "L2"),
        "fab": smallest(*NORMS),
        "fmn": smallest(*NORMS, targets=True),
        "pdgd": smallest("L2", targets=True),
        "pdpgd": smallest(*NORMS, targets=True),
        "sdf": smallest("L2"),
        "str_attack": smallest("L2", targets=True),
        "tr": smallest("Linf", "L2"),
        "fga": unmeasured(targets=True),
        "vfga": unmeasured(targets=True),
        "sigma_zero": unmeasured(),
        "perc_al": unmeasured(targets=True),
    }
    refused: ClassVar[Mapping[str, str]] = dict.fromkeys(("alma_prox", "asma", "dag"), "attacks segmentation models")

    def images(self, task: Task, given: dict[str, Any]) -> Tensor:
        with without_visdom():
            from adv_lib import attacks

        own: dict[str, Any] = {"norm": ORDERS[task.norm], "p": ORDERS[task.norm]}
        own |= {"distance": task.norm.lower(), "targeted": task.targeted}
        given |= {name: value for name, value in own.items() if self.takes(name)} | self.budgeted(task.eps)
        return getattr(attacks, self.name)(task.module, task.x, task.y, **given)
