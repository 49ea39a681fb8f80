"""Somebody who reads a page and pastes it: the folder, the files of their own, and a machine that is very slow.

Commands are given as the page has them. That they take seconds and not hours is the work of LIGHT, which stands in the
registry.toml of that folder and makes the profiles smaller: an epoch of a few samples, a few images attacked.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pages import TOP, Block
from preloaded import Preloaded
from sklearn.datasets import load_digits

FLOWERS = {"buttercup": 48, "petunia": 51}
"""Classes of Flowers-102 that stand for somebody's own, with their numbers."""

_SHORT = "{ epochs = 1, samples_per_epoch = 32, validation_samples = 16, batch_size = 16 }"
_OURS = ("resnet_original", "vit_scratch", "vit_source", "vit_ft", "caption_additive")
_OTHERS = ('"torchvision:resnet18"', '"torchvision:convnext_tiny"')
_TRAINED = {
    "tiny": (*_OURS, '"timm:resnet18"', *_OTHERS),
    "small": _OURS,
}
_FEW = {
    "apgd_ce": "steps = 5",
    "apgd_t": "steps = 5\nn_target_classes = 2",
    "fab_t": "iterations = 5\nn_target_classes = 2",
    "square": "queries = 20",
    "square_probe": "queries = 20",
    "pgd_caption": "steps = 3",
    "pgd_keyword": "steps = 3",
    '"torchattacks:CW"': "parameters.steps = 5",
}


def light(matrix: Mapping[str, Sequence[str]]) -> str:
    """The text of a registry that makes the profiles smaller. matrix: what is left of the usual one."""
    parts = ["[matrices.report]\n" + "\n".join(f"{kind} = {list(names)}" for kind, names in matrix.items())]
    parts += ["[datasets.shapes_fa]\ntrain = 60\nvalidation = 16\ntest = 24"]
    parts += ["[profiles.tiny.datasets.coco_fa]\nsize = 32"]
    for profile, models in _TRAINED.items():
        where = f"profiles.{profile}"
        parts += [f"[{where}.run]\nlimit = 4\nlongest = 15\nthreads = 1"]
        for name in models:
            size = "image_size = 32\n" if name in _OTHERS else ""
            parts += [f"[{where}.models.{name}]\n{size}training = {_SHORT}\nhardening = {_SHORT}"]
        parts += [f"[{where}.attacks.{name}]\n{few}" for name, few in _FEW.items()]
    return "\n\n".join(parts) + "\n"


_NOT_THEIRS = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL", "ARGS")
"""What tests that make has started would hand down."""


class Reader:
    """An environment with the program in it, that packages may be installed into. To be closed."""

    def __init__(self, folder: Path) -> None:
        self.home, self._venv = folder / "home", folder / "venv"
        self.home.mkdir()
        venv.create(self._venv, symlinks=True)
        (self._packages,) = self._venv.glob("lib/python*/site-packages")
        self._program = self._packages / "installed_here.pth"
        here = sysconfig.get_path("purelib")
        self._program.write_text(f"import site; site.addsitedir({here!r})\n")
        without_network = "--quiet --no-index --no-deps --no-build-isolation"
        pip = self._venv / "bin" / "pip"
        pip.write_text(f'#!/bin/sh\nexec "{self._venv}/bin/python" -m pip "$@" {without_network}\n')
        pip.chmod(0o755)
        (self._venv / ".installed").touch()  # what `make install` leaves
        self.environment = {name: value for name, value in os.environ.items() if name not in _NOT_THEIRS}
        self.environment |= {
            "HOME": str(self.home),
            "PATH": f"{self._venv / 'bin'}:{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        self._preloaded = Preloaded(self._venv / "bin" / "bench", self.environment, str(self._packages))

    def has(self, data: Path) -> None:
        """Real data, in ``BENCH_DATA`` and in ``~/datasets``."""
        self.environment["BENCH_DATA"] = str(data)
        if not (self.home / "datasets").exists():
            (self.home / "datasets").symlink_to(data)

    def close(self) -> None:
        self._preloaded.close()

    def sits_down(self, place: Path, settings: str) -> None:
        """Makes a folder that of a reader: a clone with an environment and a registry, and nothing installed yet."""
        for left in self._packages.iterdir():
            if left != self._program:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        for name in ("Makefile", "pyproject.toml", "requirements.lock"):
            (place / name).symlink_to(TOP / name)
        (place / ".venv").symlink_to(self._venv)
        (place / "examples").symlink_to(TOP / "examples")
        (place / "ni_fgsm.py").symlink_to(TOP / "examples" / "ni_fgsm.py")
        (place / "registry.toml").write_text(settings)

    def pastes(self, block: Block, place: Path) -> None:
        """A block of commands into a shell that stops at the first that fails. AssertionError with all it printed."""
        script = place / "page.sh"
        script.write_text(f"set -e\n{block.text}")
        ended = subprocess.run(
            ["bash", "-x", script],
            cwd=place,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        script.unlink()
        assert ended.returncode == 0, f"{block}: exit code {ended.returncode}\n{ended.stdout[-6000:]}"


def network(place: Path) -> None:
    """``net.py`` and ``net.safetensors``: a network for two classes of coloured images, and its weights."""
    import torch
    from safetensors.torch import save_model

    (place / "net.py").write_text(
        "from torch import nn\n\n\ndef build():\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 2))\n"
    )
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(48, 2))
    save_model(module, str(place / "net.safetensors"))


def arrays(place: Path) -> None:
    """``arrays.npz``: images of two digits, three times the same grey."""
    images, labels = load_digits(n_class=2, return_X_y=True)
    grey = (images.reshape(-1, 8, 8, 1) * 15).astype(np.uint8)
    np.savez(place / "arrays.npz", x=np.repeat(grey, 3, axis=-1), y=labels)


def photographs(place: Path, flowers: Path, each: int = 12) -> None:
    """``pets``, a folder for each class, of real photographs."""
    from scipy.io import loadmat

    number = loadmat(flowers / "flowers-102" / "imagelabels.mat")["labels"][0]
    for name, wanted in FLOWERS.items():
        (place / name).mkdir(parents=True, exist_ok=True)
        for index in np.flatnonzero(number == wanted)[:each] + 1:
            shutil.copy(flowers / "flowers-102" / "jpg" / f"image_{index:05d}.jpg", place / name)


def saved(images: Path, place: Path) -> None:
    """The same photographs as the library datasets saves them."""
    from datasets import load_dataset

    load_dataset("imagefolder", data_dir=str(images), split="train").train_test_split(0.25, seed=0).save_to_disk(place)
