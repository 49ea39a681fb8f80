"""Attacks of torchattacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from plugins.bridges.bridge import Bridge, Entry, Task, fixed, smallest, unmeasured

if TYPE_CHECKING:
    from torch import Tensor

IN_LINF = (
    *("BIM", "DIFGSM", "EOTPGD", "FFGSM", "FGSM", "Jitter", "MIFGSM", "NIFGSM", "PGD", "PGDRS", "RFGSM", "SINIFGSM"),
    *("TIFGSM", "UPGD", "VMIFGSM", "VNIFGSM"),
)


@dataclass(frozen=True)
class Torchattacks(Bridge):
    """Any attack of torchattacks. Kim, "Torchattacks: a PyTorch repository for adversarial attacks", 2020.

    name: the class, for example CW. parameters: of its constructor; step sizes that are not set are torchattacks' own,
    whatever the eps. target: "random", "least_likely" or "second" for its targeted form, empty for any mistake. Norms
    are those that its docstrings call "Distance Measure"; of what is measured in L0, or in nothing, the images found
    are measured, and count where they lie inside eps.
    """

    name: str = "PGD"

    package: ClassVar[str] = "torchattacks"
    project: ClassVar[str] = "torchattacks"
    folder: ClassVar[str] = "attacks"
    owned: ClassVar[frozenset[str]] = frozenset({"model", "norm", "n_classes", "seed", "verbose"})
    entries: ClassVar[Mapping[str, Entry]] = {
        **{name: fixed("Linf", targets=True) for name in IN_LINF},
        "TPGD": fixed("Linf"),
        "SPSA": fixed("Linf", access="scores", targets=True),
        "PIFGSM": fixed("Linf", budget="max_epsilon"),
        "PIFGSMPP": fixed("Linf", budget="max_epsilon", targets=True),
        "PGDL2": fixed("L2", targets=True),
        "PGDRSL2": fixed("L2", targets=True),
        "APGD": fixed("Linf", "L2"),
        "APGDT": fixed("Linf", "L2"),
        "AutoAttack": fixed("Linf", "L2"),
        "FAB": fixed("Linf", "L2"),
        "Square": fixed("Linf", "L2", access="scores", targets=True),
        "CW": smallest("L2", targets=True),
        "DeepFool": smallest("L2"),
        "EADL1": smallest("L1", targets=True),
        "EADEN": smallest("L1", targets=True),
        "SparseFool": unmeasured(),
        "JSMA": unmeasured(targets=True),
        "OnePixel": unmeasured(access="scores", targets=True),
        "Pixle": unmeasured(access="scores", targets=True),
        "GN": unmeasured(access="scores"),
    }
    refused: ClassVar[Mapping[str, str]] = {
        "VANILA": "gives the images back as they are; take the attack clean",
        "LGV": "trains the model further and needs training data",
        "MultiAttack": "joins other attacks; name them as members of a registry entry",
    }

    def images(self, task: Task, given: dict[str, Any]) -> Tensor:
        import torchattacks

        if self.takes("norm"):
            given["norm"] = task.norm
        attack = getattr(torchattacks, self.name)(task.module, **given, **self.budgeted(task.eps))
        if task.targeted:
            attack.set_mode_targeted_by_label(quiet=True)
        return attack(task.x, task.y)
