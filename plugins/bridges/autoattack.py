"""AutoAttack as its authors wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from harness.types import NORMS
from plugins.bridges.bridge import Bridge, Entry, Task, fixed
from plugins.bridges.signatures import Parameter, parameters_of

if TYPE_CHECKING:
    from torch import Tensor

VERSIONS = ("standard", "plus", "rand")
MEMBERS = {"apgd-ce": "apgd", "apgd-dlr": "apgd", "apgd-t": "apgd_targeted", "fab": "fab", "fab-t": "fab"} | {
    "square": "square"
}
CLASSES = {
    "apgd": ("autopgd_base.py", "APGDAttack"),
    "apgd_targeted": ("autopgd_base.py", "APGDAttack_targeted"),
    "fab": ("fab_pt.py", "FABAttack_PT"),
    "square": ("square.py", "SquareAttack"),
}
SETTABLE = (
    "n_iter",
    "n_restarts",
    "n_queries",
    "n_target_classes",
    "eot_iter",
    "rho",
    "p_init",
    "alpha_max",
    "eta",
    "beta",
)


@dataclass(frozen=True)
class AutoAttack(Bridge):
    """AutoAttack of its authors, by the package pyautoattack. Croce and Hein, ICML 2020; L1: ICML 2021.

    name: standard, plus, rand, or one of its parts: apgd-ce, apgd-dlr, apgd-t, fab, fab-t, square. parameters: of the
    parts, each of all those that have it (n_iter, n_restarts, n_queries, n_target_classes, ...); what is not set is as
    the version has it. target: none here. Targeted parts go through all other classes where there are fewer than nine.
    Its own checks of the model are made and not heard: the harness has its own.
    """

    name: str = "standard"

    package: ClassVar[str] = "pyautoattack"
    project: ClassVar[str] = "pyautoattack"
    folder: ClassVar[str] = ""
    owned: ClassVar[frozenset[str]] = frozenset()
    entries: ClassVar[Mapping[str, Entry]] = {
        **{name: fixed(*NORMS) for name in (*VERSIONS, *MEMBERS) if name != "square"},
        "square": fixed(*NORMS, access="scores"),
    }

    def signature(self) -> tuple[Parameter, ...]:
        parts = dict.fromkeys([MEMBERS[self.name]] if self.name in MEMBERS else CLASSES)
        found = [p for part in parts for p in parameters_of(self.package, *CLASSES[part]) if p.name in SETTABLE]
        return tuple({p.name: p for p in reversed(found)}.values())

    def images(self, task: Task, given: dict[str, Any]) -> Tensor:
        import pyautoattack
        from pyautoattack import checks

        single = self.name in MEMBERS
        attack = pyautoattack.AutoAttack(
            task.module,
            version="custom" if single else self.name,
            attacks=[self.name] if single else None,
            norm=task.norm,
            eps=task.eps,
            seed=task.seed,
            device=task.x.device,
        )
        for part in (attack.apgd, attack.apgd_targeted, attack.fab, attack.square):
            for name in set(given) & set(vars(part)):
                setattr(part, name, given[name])
            if hasattr(part, "n_target_classes"):
                part.n_target_classes = min(part.n_target_classes, task.classes - 1)
        counts = dict(checks.funcs)
        try:
            return attack.run_standard_evaluation(task.x, task.y, batch_size=len(task.x))[0]
        finally:
            checks.funcs.update(counts)  # of the whole process; else every later model is called dynamic
