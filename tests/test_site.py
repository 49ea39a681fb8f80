"""The pages as a site: it builds without a warning, and what is made of the program is whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from harness import registry
from harness.types import KINDS

pytestmark = pytest.mark.slow

TOP = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # an advertisement
    ended = subprocess.run(command, cwd=TOP, env=quiet, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "WARNING" not in ended.stderr
    return folder


class Links(HTMLParser):
    """Where a page points to, and what it loads by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.loaded: list[str] = []
        self.places: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given: Mapping[str, str] = {name: value or "" for name, value in attrs}
        self.places |= {given["id"]} if "id" in given else set()
        if tag == "a" and "href" in given:
            self.targets.append(given["href"])
        if tag in ("script", "img", "source", "iframe") and "src" in given:
            self.loaded.append(given["src"])
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(given["href"])


def parsed(page: Path) -> Links:
    found = Links()
    found.feed(page.read_text())
    return found


def test_every_page_of_docs_is_in_it(site: Path) -> None:
    pages = {path.stem for path in site.glob("*.html")} - {"404"}
    assert pages == {path.stem for path in (TOP / "docs").glob("*.md")} | {"commands", "components", "reference"}
    nav = parsed(site / "index.html").targets
    assert all(any(target.startswith(f"{name}.html") for target in nav) for name in pages - {"index"})


def test_every_link_has_its_target_and_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    pages = {path.name: parsed(path) for path in site.glob("*.html")}
    for name, page in pages.items():
        assert not [place for place in page.loaded if urlsplit(place).scheme], name
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme or name == "404.html":
                continue
            file = parts.path or name
            assert (site / file).exists(), f"{name} points to {target}"
            if parts.fragment and file in pages:
                assert unquote(parts.fragment) in pages[file].places | {"__top"}, f"{name} points to {target}"


def test_commands_have_their_options_and_components_their_parameters(site: Path) -> None:
    commands, components = (unescape((site / f"{name}.html").read_text()) for name in ("commands", "components"))
    text = re.sub(r"<[^>]+>", "", commands)
    for words in (
        "bench run",
        "bench table",
        "bench compare",
        "--query-budget",
        "--plugin",
        "Folder to search for data",
    ):
        assert words in text
    for kind in KINDS:
        for name in registry.names(kind):
            if registry.find(kind, name).built_in:
                assert f">{name}<a" in components, (kind, name)
    assert "decay" in components
