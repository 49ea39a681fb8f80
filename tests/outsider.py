"""A fresh virtual environment, as somebody has it who installs this program and then a plugin."""

from __future__ import annotations

import os
import subprocess
import sysconfig
import venv
from pathlib import Path


class Outsider:
    """A virtual environment that sees the packages installed here, and what is installed into it besides."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.place = folder / "environment", folder / "work"
        self.place.mkdir()
        venv.create(self.folder, with_pip=True, symlinks=True)
        (packages,) = self.folder.glob("lib/python*/site-packages")
        here = sysconfig.get_path("purelib")
        (packages / "installed_here.pth").write_text(f"import site; site.addsitedir({here!r})\n")

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs its Python in a folder that is empty at first."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run(
            [self.folder / "bin" / "python", *arguments],
            cwd=self.place,
            env={**environment, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def install(self, *packages: Path) -> None:
        """What ``pip install -e`` does, without a network."""
        quiet = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation")
        editable = [word for package in packages for word in ("-e", str(package))]
        ended = self.python("-m", "pip", "install", *quiet, *editable)
        assert ended.returncode == 0, ended.stderr

    def bench(self, *arguments: str) -> str:
        """What the command prints. AssertionError where it fails."""
        ended = self.python("-m", "cli", *arguments)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout
