"""The model zoo of RobustBench, by name."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from harness.errors import BenchError, unknown
from harness.hookspecs import NOT_IN_KEY, hookimpl
from harness.types import Preparation

if TYPE_CHECKING:
    from torch import nn

Zoo = Literal["cifar10", "cifar100", "imagenet"]
ThreatModel = Literal["Linf", "L2", "corruptions"]
CLASSES: Mapping[str, int] = {"cifar10": 10, "cifar100": 100, "imagenet": 1000}


@dataclass(frozen=True)
class RobustBench:
    """A model of RobustBench's zoo with its weights (Croce et al., NeurIPS 2021 Datasets and Benchmarks).

    name: as on its leaderboard, for example Rice2020Overfitting, or with the two below before it:
    cifar100/Linf/Rice2020Overfitting. trained_on, threat_model: the part of the zoo. folder: where RobustBench keeps
    weights, as FOLDER/cifar10/Linf/NAME.pt; its own default, from the current folder. What is not there is fetched.
    Classes are numbered as in the data sets that RobustBench evaluates on.
    """

    name: str = "Rice2020Overfitting"
    trained_on: Zoo = "cifar10"
    threat_model: ThreatModel = "Linf"
    folder: str = field(default="models", metadata=NOT_IN_KEY)

    pretrained: ClassVar[bool] = True

    def __post_init__(self) -> None:
        parts = self.name.split("/")
        if len(parts) == 1:
            return
        if len(parts) != 3 or parts[0] not in get_args(Zoo) or parts[1] not in get_args(ThreatModel):
            zoos, threats = (" or ".join(get_args(of)) for of in (Zoo, ThreatModel))
            raise ValueError(f"name: got {self.name!r}; NAME, or {zoos} / {threats} / NAME, is needed")
        for field_name, value in zip(("trained_on", "threat_model", "name"), parts, strict=True):
            object.__setattr__(self, field_name, value)

    @hookimpl
    def sources(self) -> Sequence[Path]:
        return self._kept() or self._fetched()

    @hookimpl
    def build(self, preparation: Preparation) -> nn.Module:
        from plugins.networks import Normalised, one_line, tried

        facts = preparation.facts
        if (classes := CLASSES[self.trained_on]) != len(facts.classes) or facts.shape[0] != 3:
            raise BenchError(
                f"model {self.name}: of {classes} classes of colour images ({self.trained_on}), the data has "
                f"{len(facts.classes)} and {facts.shape[0]} channels; take --datasets {self.trained_on}"
            )
        network = self._entry()["model"]() if preparation.outline else None
        if network is None:
            self.sources()
            try:
                with contextlib.redirect_stdout(sys.stderr):
                    network = _library().load_model(self.name, self.folder, self.trained_on, self.threat_model)
            except Exception as error:  # of a damaged file, or one with more in it than tensors
                raise BenchError(f"model {self.name}: weights in {self._place.parent}: {one_line(error)}") from error
        module = Normalised(network, [0.0] * 3, [1.0] * 3)  # RobustBench's models take pixels in [0, 1]
        return tried(module, self.name, facts.shape, classes, "take the data set that it was trained on")

    @property
    def _place(self) -> Path:
        return Path(self.folder).expanduser() / self.trained_on / self.threat_model / f"{self.name}.pt"

    def _kept(self) -> list[Path]:
        """The files that are there: one, or one of each member of an ensemble."""
        return [self._place] if self._place.is_file() else sorted(self._place.parent.glob(f"{self._place.name}_m*.pt"))

    def _entry(self) -> Mapping[str, Any]:
        zoo = _library().utils.all_models
        kinds = {
            kind.value: models for kind, models in next(m for d, m in zoo.items() if d.value == self.trained_on).items()
        }
        models = kinds.get(self.threat_model, {})
        if self.name not in models:
            raise unknown(f"model of RobustBench ({self.trained_on}, {self.threat_model})", self.name, models)
        found: Mapping[str, Any] = models[self.name]
        return found

    def _fetched(self) -> list[Path]:
        """The weights from where RobustBench keeps them. Raises BenchError with the file that is to be put where."""
        numbers = self._entry().get("gdrive_id")
        if numbers is None:
            return []  # RobustBench takes them from another library, which has a cache of its own
        fetch = getattr(_library().utils, "download_gdrive_new", None)
        if fetch is None:
            raise BenchError(
                "robustbench: its files were overwritten by those of the same name that torchattacks brings; "
                "pip install --force-reinstall --no-deps robustbench"
            )
        places = [self._place] if isinstance(numbers, str) else []
        places = places or [self._place.with_name(f"{self._place.name}_m{place}.pt") for place in range(len(numbers))]
        for number, place in zip([numbers] if isinstance(numbers, str) else numbers, places, strict=True):
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                with contextlib.redirect_stdout(sys.stderr):
                    fetch(number, place)
            except Exception as error:  # gdown's own, and the network's
                raise BenchError(
                    f"model {self.name}: its weights are not in {place.parent} and could not be downloaded "
                    f"({type(error).__name__}); fetch https://drive.google.com/uc?id={number} and put it there as "
                    f"{place.name}"
                ) from error
        return places


def _library() -> Any:
    """The package, which imports AutoAttack by a name under which no package index has it."""
    if importlib.util.find_spec("robustbench") is None:
        raise BenchError("robustbench is not installed; pip install 'adversarial-bench[robustbench,bridges]'")
    try:
        if "autoattack" not in sys.modules and importlib.util.find_spec("autoattack") is None:
            import pyautoattack

            sys.modules["autoattack"] = pyautoattack
        with warnings.catch_warnings():  # of names that its dependencies have moved
            warnings.simplefilter("ignore")
            import robustbench.utils
    except ImportError as error:
        raise BenchError(
            f"robustbench cannot be imported ({error}); pip install 'adversarial-bench[robustbench,bridges]'"
        ) from error
    return robustbench
