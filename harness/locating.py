"""Where data lies and what its bytes are: the folders searched, a digest of the files, and safe downloads."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import socket
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path

from harness.errors import BenchError

_REMEMBERED = 256
_SETTLED_NS = 2_000_000_000
_TIMEOUT_S = 30.0


def cache_folder() -> Path:
    """``BENCH_CACHE``, else this user's cache folder of the platform. Not created here."""
    if chosen := os.environ.get("BENCH_CACHE"):
        return Path(chosen).expanduser()
    # platformdirs gives the same and takes 35 ms to import: a tenth of what planning may cost.
    if sys.platform == "win32":
        parent = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        parent = Path.home() / "Library" / "Caches"
    else:
        parent = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return parent / "adversarial-bench"


def roots(extra: Sequence[str] = ()) -> list[Path]:
    """Folders searched for data, first hit wins: ``--data`` values, ``BENCH_DATA``, ``./data``, the user's cache.

    ``BENCH_DATA`` may name several, separated as in PATH. The last one is where downloads go by default.
    """
    named = [*extra, *os.environ.get("BENCH_DATA", "").split(os.pathsep)]
    folders = [Path(name).expanduser() for name in named if name]
    return list(dict.fromkeys([*folders, Path("data"), cache_folder() / "data"]))


def candidates(folders: Sequence[Path], name: str) -> list[Path]:
    """Where a data set's folder may be: ``name`` in each of the folders, or one of them being that folder itself."""
    return [place for folder in folders for place in (folder / name, folder) if place.absolute().name == name]


def digest(files: Sequence[Path], *, named: bool = True) -> str:
    """SHA-256 (hex) over the names of files, relative to the folder they share (unless ``named`` is false), and their
    bytes.

    It does not depend on the order of the files, nor on where the folder lies. What was hashed once is remembered by
    path, size and time of change in ``digests.json`` of the cache folder; without a writable one it is only slower.
    Raises BenchError naming a file that cannot be read.
    """
    try:
        stats = [(path, path.stat()) for path in sorted(path.absolute() for path in files)]
        lines = [] if named else ["unnamed"]
        lines += [f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}" for path, stat in stats]
        key = _sha256("\n".join(lines).encode())
        known = _read_digests()
        if key in known:
            return known[key]
        now = time.time_ns()
        found = _hash_files([path for path, _ in stats], named)
    except OSError as error:
        raise BenchError(f"data: {error.filename} cannot be read ({error.strerror})") from error
    # A file written a moment ago may be written again within the same tick of the clock: not remembered yet.
    if all(stat.st_mtime_ns + _SETTLED_NS < now for _, stat in stats):
        _write_digests({**known, key: found})
    return found


def fetch(name: str, root: Path, folder: str, *, url: str, size: str, get: Callable[[Path], object]) -> None:
    """Download a data set: ``get(scratch)`` leaves ``scratch/folder``, which is moved to ``root/folder`` when complete.

    What an interrupted download leaves is never found by ``locate``. Everything printed goes to stderr.
    Raises BenchError, one line, saying what to get from where and where to put it.
    """
    print(f"{name}: downloading {size} from {url} to {root}", file=sys.stderr)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".partial-") as scratch:
            with redirect_stdout(sys.stderr), _timeout(_TIMEOUT_S):
                get(Path(scratch))
            _move_into(Path(scratch, folder), root / folder)
    except (OSError, RuntimeError, EOFError, http.client.HTTPException, tarfile.TarError) as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        raise BenchError(
            f"{name}: not found in the data folders and could not be downloaded ({cause}); "
            f"fetch {url} by hand and unpack it as {root / folder}, or name the folder that holds {folder} "
            "with --data PATH or BENCH_DATA"
        ) from error


def _hash_files(paths: Sequence[Path], named: bool) -> str:
    top = os.path.commonpath([path.parent for path in paths]) if paths else ""
    total = hashlib.sha256()
    for path in paths:
        name = os.path.relpath(path, top) if named else ""
        total.update(f"{name}\0{_sha256_file(path)}\n".encode())
    return total.hexdigest()


def _sha256(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def _sha256_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_digests() -> dict[str, str]:
    try:
        known = json.loads((cache_folder() / "digests.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write_digests(known: dict[str, str]) -> None:
    recent = dict(list(known.items())[-_REMEMBERED:])
    with suppress(OSError):
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".digests-", delete=False) as file:
            json.dump(recent, file)
        os.replace(file.name, folder / "digests.json")


def _move_into(source: Path, target: Path) -> None:
    """Move every file of ``source`` to the same place under ``target``, each one atomically."""
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        place = target / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, place)


@contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    """A limit on each network operation; torchvision sets none and a silent firewall would hold it for minutes."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
