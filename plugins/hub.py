"""Files of the hubs: from the local cache, fetched where there is a network, else one line saying what to get.

What is found is what counts for the content key, so a model is built from these very files and asks no hub again.
"""

from __future__ import annotations

import functools
import socket
import sys
from pathlib import Path
from typing import Any

from harness.errors import BenchError

TIMEOUT_S = 30.0


def huggingface(model: str, repository: str, file: str, advice: str) -> Path:
    """A file of a repository of the Hugging Face hub. Raises BenchError with its address and ``advice``."""
    found = optional(model, repository, file, advice)
    if found is None:
        raise BenchError(f"model {model}: {repository} has no file {file}; {advice}")
    return found


def optional(model: str, repository: str, file: str, advice: str) -> Path | None:
    """As ``huggingface``; None where the repository is known to have no such file."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # its own lines about retries would stand before the one that helps
    try:
        return _fetched(hf_hub_download, repository, file)
    except HFValidationError as error:
        raise BenchError(
            f"model {model}: no such folder, and no name on the Hugging Face hub; a folder of save_pretrained, or "
            "a name such as google/vit-base-patch16-224, is needed"
        ) from error
    except Exception as error:
        absent = isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError)
        # Without a network: the hub's cache remembers that there is none by an object of its own.
        if absent or not isinstance(try_to_load_from_cache(repository, file), str | None):
            return None
        raise BenchError(
            f"model {model}: {repository} is not in the local cache and could not be downloaded "
            f"({type(error).__name__}); fetch https://huggingface.co/{repository}/resolve/main/{file} and {advice}"
        ) from error


def address(model: str, url: str, folder: Path) -> Path:
    """A file at an address whose name ends in the first digits of its SHA-256, kept in ``folder`` (torch.hub's way).

    Raises BenchError with the address, and the place where the file is looked for.
    """
    from torch.hub import HASH_REGEX, download_url_to_file

    name = url.rpartition("/")[2]
    place, digits = folder / name, HASH_REGEX.search(name)
    if place.is_file():
        return place
    print(f"model {model}: downloading {url} to {folder}", file=sys.stderr)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)  # torch sets none, and a silent firewall would hold it for minutes
    try:
        folder.mkdir(parents=True, exist_ok=True)
        download_url_to_file(url, str(place), digits.group(1) if digits else None, progress=False)
    except (OSError, RuntimeError) as error:
        raise BenchError(
            f"model {model}: weights {name} are not in the local cache and could not be downloaded "
            f"({type(error).__name__}); fetch {url} and put it into {folder}, or give it by --weights PATH"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
    return place


@functools.cache
def _fetched(download: Any, repository: str, file: str) -> Path:
    return Path(download(repository, file))
