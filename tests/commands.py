"""The command, run in this process: as its entry point runs it, without the seconds that a process takes to start."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import torch

import cli


def in_process(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``bench ARGUMENTS`` in this folder. An error that the command does not catch is raised, not printed."""
    command, out, err, threads = ["bench", *arguments], io.StringIO(), io.StringIO(), torch.get_num_threads()
    try:
        with chdir(folder), patch.object(sys, "argv", command), redirect_stdout(out), redirect_stderr(err):
            cli.main()
    except SystemExit as end:
        code = int(end.code or 0)
        return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())
    finally:
        torch.set_num_threads(threads)
    raise AssertionError("the command has not ended by SystemExit")
