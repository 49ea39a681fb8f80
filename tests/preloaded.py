"""The command ``bench`` without its seconds of imports: a process that has made them forks for each call.

``Preloaded`` starts that process and writes the command that asks it; what the forked child runs is the program's own
``main``, in the caller's folder, environment and terminal.
"""

from __future__ import annotations

import importlib
import json
import os
import site
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

_ASK = """#!{python} -SE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as asked:
    asked.connect({address!r})
    call = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(asked, [len(call).to_bytes(8, "big")], [0, 1, 2])
    asked.sendall(call)
    code = asked.recv(1)
sys.exit(code[0] if code else "bench: ended without an exit code")
"""


class Preloaded:
    """The process, and ``command``, an executable file that does what ``bench`` does; to be closed."""

    def __init__(self, command: Path, environment: dict[str, str], packages: str = "") -> None:
        """packages: a folder of packages that may be filled later."""
        self._folder = tempfile.TemporaryDirectory()  # a socket's path must be short
        address = str(Path(self._folder.name, "bench"))
        command.write_text(_ASK.format(python=sys.executable, address=address))
        command.chmod(0o755)
        words = [sys.executable, __file__, address, packages]
        self._process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()


def _serve(address: str, packages: str) -> None:
    sys.path.remove(str(Path(__file__).parent))
    for name in ("cli", "harness.run", "harness.executors.local", "matplotlib.figure", "sklearn.datasets", "timm"):
        importlib.import_module(name)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        print("ready", flush=True)
        children: set[int] = set()
        while True:
            asked, _ = server.accept()
            child = os.fork()
            if not child:
                server.close()
                _answer(asked, packages)
            asked.close()
            children = {pid for pid in {*children, child} if os.waitpid(pid, os.WNOHANG) == (0, 0)}


def _answer(asked: socket.socket, packages: str) -> None:
    """In the child: what is asked for is run, and its exit code is sent back."""
    head, files, *_ = socket.recv_fds(asked, 8, 3)
    arguments, folder, environment = json.loads(_read(asked, int.from_bytes(head, "big")))
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["bench", *arguments]
    if packages:
        site.addsitedir(packages)  # what was installed since this process began
    code = _run()
    sys.stdout.flush()
    sys.stderr.flush()
    asked.sendall(bytes([code]))
    os._exit(code)


def _read(asked: socket.socket, length: int) -> bytes:
    found = b""
    while len(found) < length:
        found += asked.recv(length - len(found))
    return found


def _run() -> int:
    import traceback

    import cli

    try:
        cli.main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2])
