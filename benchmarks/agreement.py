"""The same attack by every library that has it, and by us: docs/agreement.md.

Run: python -m benchmarks.agreement [--n 100] [--out docs/agreement.md]. Trains a small model first, in seconds.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.peers import PACKAGES, quiet
from benchmarks.timing import machine
from harness import training
from harness.assault import Assault
from harness.boundary import bind
from harness.data import Data, Samples, on_device
from harness.judging import Trial, judge
from harness.lessons import ClassLessons, plain_objective
from harness.recipe import Recipe
from harness.types import Outcome, Threat
from plugins.attacks.apgd_ce import APGDCE
from plugins.attacks.fgsm import FGSM
from plugins.attacks.fmn import FMN
from plugins.attacks.pgd import PGD
from plugins.attacks.square import Square
from plugins.bridges.advlib import Advlib, without_visdom
from plugins.bridges.art import Art
from plugins.bridges.autoattack import AutoAttack
from plugins.bridges.foolbox import Foolbox
from plugins.bridges.torchattacks import Torchattacks
from plugins.datasets.digits import Digits
from plugins.networks import Normalised, resnet18

EPS, EPS2 = 16 / 255, 0.6
STEPS, LONG, QUERIES = 20, 50, 500
ALPHA, ALPHA2 = 2.5 * EPS / STEPS, 2.5 * EPS2 / STEPS
LINF, L2 = Threat("Linf", EPS), Threat("L2", EPS2)
SEARCH = {"max_iterations": 100, "binary_search_steps": 5}

HEAD = f"""# The same attack by different libraries

Made by `python -m benchmarks.agreement`. Every library's attack of one kind, through its bridge
([bridges.md](bridges.md)), on the same samples of one model: a ResNet-18 of width 1/8 trained on the digits, in
evaluation mode, and those of its test samples that it gets right. Steps and step sizes are the same wherever a
library lets them be chosen: FGSM one step; PGD {STEPS} steps of 2.5 eps / {STEPS} from a random start; CW 100
steps, 5 searches (torchattacks: c = 1, no search); DeepFool {LONG} steps, overshoot 0.02; FMN and DDN {LONG} steps;
APGD {LONG} steps, 1 restart; Square {QUERIES} queries. Everything else is each library's own. Ours run in the
classic form (`--final-iterate`).

*accuracy*: of the images made, inside eps. *differs*: the share of samples on which an implementation says
otherwise than the first row of its attack, right or wrong. *size*: the median perturbation in the norm of the
attack, of those that fool for CW, DeepFool, FMN and DDN. *passes*: forwards + backwards a sample, counted by the
harness and not by the library, with the look that a bridge takes at one sample to learn the number of classes.
*seconds*: of all samples, the judge's own looks in them.
"""

WHY = """
## What the differences are

* Random starts differ from library to library, so no two rows of PGD, APGD or Square are the same attack to the
  last bit; a few samples near the boundary fall to one and not to the other.
* ART's PGD starts from the image unless `num_random_init` is set, as it is here; its FGSM is the same to the last
  pixel.
* foolbox and adv-lib search the constant of CW for each sample, torchattacks has one for all: its images are larger
  or miss.
* foolbox 3.3.4 never projects in L2 (`L2FMNAttack.project` divides the norms by themselves), so that its FMN gives
  these images whatever its number of steps, 50 or 1000, called directly too.
* AutoAttack's Square does not shorten its schedule to the queries it gets, the others do: with {QUERIES} of the 5000
  that it is made for its squares stay large.
* Where passes differ much, one implementation stops a sample that has fallen and another goes on, or a library asks
  the model again to see what it has done.
"""


def attacks() -> dict[str, tuple[Threat, Mapping[str, Any]]]:
    """Of each kind its budget, and who does it how."""
    ddn = {"steps": LONG}
    return {
        "FGSM, Linf": (
            LINF,
            {
                "ours": FGSM(),
                "torchattacks": Torchattacks("FGSM"),
                "foolbox": Foolbox("LinfFastGradientAttack"),
                "ART": Art("FastGradientMethod"),
            },
        ),
        "PGD, Linf": (
            LINF,
            {
                "ours": PGD(steps=STEPS, alpha=ALPHA),
                "torchattacks": Torchattacks("PGD", {"steps": STEPS, "alpha": ALPHA}),
                "foolbox": Foolbox("LinfPGD", {"steps": STEPS, "abs_stepsize": ALPHA}),
                "ART": Art("ProjectedGradientDescentPyTorch", _art(STEPS, ALPHA)),
                "adv-lib": Advlib("pgd_linf", {"steps": STEPS, "absolute_step_size": ALPHA}),
            },
        ),
        "PGD, L2": (
            L2,
            {
                "ours": PGD(steps=STEPS, alpha=ALPHA2),
                "torchattacks": Torchattacks("PGDL2", {"steps": STEPS, "alpha": ALPHA2}),
                "foolbox": Foolbox("L2PGD", {"steps": STEPS, "abs_stepsize": ALPHA2}),
                "ART": Art("ProjectedGradientDescentPyTorch", _art(STEPS, ALPHA2)),
            },
        ),
        "CW, L2": (
            L2,
            {
                "torchattacks": Torchattacks("CW", {"steps": 100}),
                "foolbox": Foolbox("L2CarliniWagnerAttack", {"steps": 100, "binary_search_steps": 5}),
                "ART": Art("CarliniL2Method", {"max_iter": 100, "binary_search_steps": 5}),
                "adv-lib": Advlib("carlini_wagner_l2", SEARCH),
            },
        ),
        "DeepFool, L2": (
            L2,
            {
                "torchattacks": Torchattacks("DeepFool", {"steps": LONG}),
                "foolbox": Foolbox("L2DeepFoolAttack", {"steps": LONG}),
                "ART": Art("DeepFool", {"max_iter": LONG, "epsilon": 0.02}),
                "adv-lib": Advlib("df", {"steps": LONG}),
            },
        ),
        "FMN, L2": (
            L2,
            {
                "ours": FMN(steps=LONG, restarts=1),
                "foolbox": Foolbox("L2FMNAttack", ddn),
                "adv-lib": Advlib("fmn", ddn),
                "foolbox DDN": Foolbox("DDNAttack", ddn),
                "adv-lib DDN": Advlib("ddn", ddn),
            },
        ),
        "APGD-CE, Linf": (
            LINF,
            {
                "ours": APGDCE(steps=LONG),
                "pyautoattack": AutoAttack("apgd-ce", {"n_iter": LONG}),
                "torchattacks": Torchattacks("APGD", {"steps": LONG}),
                "ART": Art(
                    "AutoProjectedGradientDescent",
                    {"max_iter": LONG, "nb_random_init": 1, "eps_step": 2 * EPS, "loss_type": "cross_entropy"},
                ),
                "adv-lib": Advlib("apgd", {"n_iter": LONG, "loss_function": "ce"}),
            },
        ),
        "Square, Linf": (
            LINF,
            {
                "ours": Square(queries=QUERIES),
                "pyautoattack": AutoAttack("square", {"n_queries": QUERIES}),
                "torchattacks": Torchattacks("Square", {"n_queries": QUERIES}),
                "ART": Art("SquareAttack", {"max_iter": QUERIES}),
            },
        ),
    }


def _art(steps: int, alpha: float) -> dict[str, Any]:
    return {"max_iter": steps, "eps_step": alpha, "num_random_init": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("docs/agreement.md"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    quiet()
    _imported()
    module, samples = subject(asked.n)
    lines = [HEAD, f"n = {len(samples)}, Linf eps 16/255, L2 eps {EPS2}."]
    for kind, (threat, contenders) in attacks().items():
        lines += [
            "",
            f"## {kind}",
            "",
            "| by | accuracy | differs | size | passes | seconds |",
            "|---|---|---|---|---|---|",
        ]
        first: Outcome | None = None
        for name, component in contenders.items():
            row, outcome = measured(module, samples, threat, component, first)
            first = first or outcome
            lines.append(f"| {name} | {row} |")
            print(lines[-1], flush=True)
    lines += [WHY, "", machine((*PACKAGES, "adv-lib", "numpy")), ""]
    asked.out.write_text("\n".join(lines), encoding="utf-8")


def _imported() -> None:
    """The libraries, so that nobody's seconds have the import in them."""
    for name in ("torchattacks", "foolbox", "pyautoattack", "art.attacks.evasion", "art.estimators.classification"):
        importlib.import_module(name)
    with without_visdom():
        importlib.import_module("adv_lib.attacks")


def measured(
    module: nn.Module, samples: Samples, threat: Threat, component: Any, first: Outcome | None
) -> tuple[str, Outcome | None]:
    """The row of one implementation; an attack that raises is a row with its reason."""
    assault = Assault(component, type(component).__name__, threat, 0, final_iterate=True)
    try:
        outcome = judge(Trial(module, [assault], len(samples)), samples)
    except Exception as error:
        return f"failed: {type(error).__name__}: {error} | | | |", None
    differs = "" if first is None else f"{np.mean(outcome.correct != first.correct):.1%}"
    size = float(np.median(outcome.proposal_size))
    passes = (outcome.forwards - 1).mean(), outcome.backwards.mean()
    cells = [f"{outcome.correct.mean():.1%}", differs, f"{size:.3f}", f"{passes[0]:.1f} + {passes[1]:.1f}"]
    return " | ".join([*cells, f"{outcome.seconds:.2f}"]), outcome


def subject(n: int) -> tuple[nn.Module, Samples]:
    """A trained model in evaluation mode, and n of its test samples that it gets right."""
    data = _digits()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Normalised(resnet18(1, 10, width=8), data.mean, data.std)
    lessons = ClassLessons(data.splits["train"], data.splits["validation"], plain_objective, 0, 128)
    recipe = Recipe(epochs=12, schedule="one_cycle", lr=1e-2)
    with tempfile.TemporaryDirectory() as folder:
        tensors, _ = training.train(training.Training(module, recipe, lessons, 0, Path(folder, "checkpoint")))
    module.load_state_dict(tensors)
    module.eval()
    test = data.splits["test"]
    with torch.no_grad():
        x = test.take(torch.arange(len(test))).x
        right = (module(x).argmax(1) == test.labels).nonzero().squeeze(1)[:n]
    return module, Samples(test.images[right], test.labels[right], test.ids[right])


def _digits() -> Data:
    plugin = Digits()
    hooks = bind("datasets", plugin)
    files = hooks.locate(roots=[])
    return on_device(hooks.facts(roots=[]), hooks.load(files=files), torch.device("cpu"), "digits")


if __name__ == "__main__":
    main()
